// A captured step: recorded once, given buffers once, then replayed. The first call freezes JavaScript numbers, branches, shapes,
// and the buffers of the returned tensors, which every call overwrites.
import { checkOptions, showValue } from './arguments.js';
import { expectGpu, type Gpu, GpuError } from './device.js';
import { findNonFinite, timeLaunches } from './diagnose.js';
import { type Kernel, type OnProgress, startCompiling } from './kernel.js';
import { dispatchNothing, place, usesOf, watched } from './launch.js';
import { makingOf, release, releaseWhenCollected, type Storage } from './memory.js';
import { type LaunchTime, profileTable, summarize } from './profile.js';
import { compileRecording, flush, type Recording, recordList, replay } from './stream.js';
import { storagesIn } from './tensor.js';

/** What a captured step costs. */
export interface StepInfo {
  readonly launches: number;
  /** Buffers that temporaries share. */
  readonly buffers: number;
  /** Bytes of temporaries after planning: what the step adds to parameters, state and inputs. */
  readonly plannedBytes: number;
  /** Bytes that temporaries would take if each had its own buffer. */
  readonly unsharedBytes: number;
  /** Bytes of tensors that the step uses but did not make: parameters, optimizer state, inputs. */
  readonly externalBytes: number;
  /** Why this GPU cannot run the step: the first tensor that is larger than it binds. Calling the step throws that. */
  readonly tooLarge?: GpuError;
}

/** Options of `prepare`. */
export interface PrepareOptions {
  /** Gets the number of compiled kernels and of all kernels: once at the start, then whenever the first number grows. */
  onProgress?: OnProgress;
}

/** A captured step: call it to run it. */
export interface Step<T> {
  /** Runs the step; the returned tensors are the same at every call. */
  (): T;
  /**
   * Records the step if needed and compiles all kernels in parallel, which makes the first call fast. Nothing runs. (lavapipe
   * compiles at a kernel's first dispatch; there each kernel is dispatched with no workgroups.) Kernels for matrix units that this
   * device has not run before are first checked on it. Rejects with the error of a shader that does not compile, and with what
   * `onProgress` throws. Throws a ShapeError for an unknown option.
   */
  prepare(options?: PrepareOptions): Promise<StepInfo>;
  /** What the step costs, whether or not this GPU can run it. Records the step if needed; allocates nothing. */
  readonly info: StepInfo;
  /** Runs the step twice: once to warm up, once with a timestamp around every launch. Needs the feature `timestamp-query`. */
  profile(): Promise<LaunchTime[]>;
  /** Runs the step once and names the first op whose output holds a NaN or an infinity; undefined when none does. */
  findNonFinite(): Promise<string | undefined>;
}

const abandoned = new FinalizationRegistry<{ gpu: Gpu; buffers: readonly GPUBuffer[] }>(({ gpu, buffers }) => {
  for (const buffer of buffers) release(gpu, buffer);
});

/**
 * Makes `work` a step: the first call records it, later calls replay it. Numbers that change are 1-element tensors, written before
 * the call. Throws a GpuError when the step nests, reads, writes, waits or records nothing; then everything that the recording
 * made is freed. A call runs the step as a whole or not at all. If a launch cannot run (a shader that does not compile, no memory),
 * the results reject with that launch's error, tensors that the step updates in place keep their values, and the next call throws.
 */
export function capture<T>(gpu: Gpu, work: () => T): Step<T> {
  expectGpu('capture', gpu);
  if (typeof work !== 'function') {
    throw new GpuError(`capture: the step is ${showValue(work)} — expected a function that calls ops.`);
  }
  let made: { result: T; recording: Recording; externals: Storage[]; info: StepInfo; prove: Gpu['prove'] } | undefined;
  let placed: readonly GPUBuffer[] | undefined;

  /** `trusting`: with kernels that are yet to be proven right, which `prepare` does; a run without it records the step anew. */
  const recorded = (trusting: boolean, onKernel?: (k: Kernel) => void): NonNullable<typeof made> => {
    gpu.check();
    if (made && (trusting || !made.prove)) return made;
    gpu.trusting = trusting;
    gpu.prove = undefined;
    const { result, recording } = recordList(gpu, work, storagesIn, onKernel);
    const { prove } = gpu;
    const used = new Set(usesOf(recording.launches).flat());
    const temporaries = new Set(recording.plan.buffers.flatMap(({ storages }) => storages));
    for (const storage of temporaries) storage.owner = recording;
    for (const storage of recording.constants) releaseWhenCollected(gpu, storage);
    const externals = [...used].filter((storage) => !temporaries.has(storage));
    const info: StepInfo = {
      launches: recording.launches.length,
      buffers: recording.plan.buffers.length,
      plannedBytes: recording.plan.plannedBytes,
      unsharedBytes: recording.plan.unsharedBytes,
      externalBytes: externals.reduce((sum, { bytes }) => sum + bytes, 0),
      ...(recording.tooLarge && { tooLarge: recording.tooLarge }),
    };
    report(gpu, info);
    placed = undefined;
    return (made = { result, recording, externals, info, prove });
  };

  const ready = (): NonNullable<typeof made> => {
    if (!gpu.flags.capture) made = undefined;
    const step = recorded(false);
    if (step.recording.tooLarge) throw step.recording.tooLarge;
    flush(gpu);
    if (placed?.some((buffer) => makingOf(buffer)?.error)) {
      // The last try found no memory; there may be enough now.
      abandoned.unregister(step.recording);
      for (const buffer of placed) release(gpu, buffer);
      for (const launch of step.recording.launches) launch.bindGroup = undefined;
      placed = undefined;
    }
    if (!placed) {
      placed = place(gpu, step.recording.launches, step.recording.plan);
      abandoned.register(step.recording, { gpu, buffers: placed }, step.recording);
      if (gpu.flags.debug >= 3) list(step.recording);
    }
    const lost = step.externals.find(({ dead }) => dead);
    if (lost) {
      throw new GpuError(
        `capture: '${lost.label}' died with its scope; the step still uses it. Make it outside of the scope.`,
      );
    }
    return step;
  };

  const step = (): T => {
    const { result, recording } = ready();
    replay(gpu, recording);
    if (gpu.flags.debug === 2) {
      void timeLaunches(gpu, recording.launches).then(
        (times) => console.error(profileTable(summarize(times))),
        (error: Error) => console.error(error.message),
      );
    }
    return result;
  };
  const tools = {
    prepare: async (options: PrepareOptions = {}) => {
      checkOptions('prepare', options, ['onProgress']);
      const { onProgress } = options;
      // The driver's threads compile while this one records.
      const trusted = () => recorded(true, (k) => void startCompiling(gpu, k).catch(() => {}));
      for (let list = trusted(); list.prove; list = trusted()) {
        if (await list.prove()) list.prove = undefined;
        else if (made === list) made = undefined;
      }
      const { recording, info } = ready();
      const isLate = gpu.adapter.driver === 'lavapipe'; // it reports kernels as compiled before they are
      await compileRecording(gpu, recording, isLate ? undefined : onProgress);
      if (isLate) await dispatchNothing(gpu, recording.launches, onProgress);
      return info;
    },
    profile: async () => {
      const { recording } = ready();
      replay(gpu, recording); // the first run compiles, and touches memory for the first time
      await gpu.wait(gpu.device.queue.onSubmittedWorkDone()).catch(() => {});
      await gpu.reported();
      return timeLaunches(gpu, recording.launches);
    },
    findNonFinite: async () => {
      const { launches } = ready().recording;
      return watched(gpu, launches, () => findNonFinite(gpu, launches));
    },
  };
  return Object.defineProperty(Object.assign(step, tools), 'info', { get: () => recorded(true).info }) as Step<T>;
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function report(gpu: Gpu, { launches, unsharedBytes, plannedBytes, buffers }: StepInfo): void {
  if (gpu.flags.debug < 1) return;
  console.error(
    `capture: ${launches} launches, temporaries ${mebibytes(unsharedBytes)} → ${mebibytes(plannedBytes)} in ${buffers} buffers`,
  );
}

/** Prints every launch and the buffer of each of its bindings. */
function list({ launches }: Recording): void {
  const names = new Map<GPUBuffer, number>();
  const name = (buffer: GPUBuffer) => {
    if (!names.has(buffer)) names.set(buffer, names.size);
    return names.get(buffer);
  };
  launches.forEach(({ kernel, args, workgroups }, i) => {
    const bound = args.map((arg, k) => `${kernel.bindings[k]!.name}=#${name(arg.storage.buffer!)}[${arg.shape}]`);
    console.error(`${String(i).padStart(4)} ${kernel.label} ${workgroups.join('×')} ${bound.join(' ')}`);
  });
}
