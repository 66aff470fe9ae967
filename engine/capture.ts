// A captured step: recorded once for each shape of its arguments, given buffers once, then replayed. The first call freezes
// JavaScript numbers, branches, shapes, and the buffers of the returned tensors, which every call overwrites.
import { checkOptions, showValue } from './arguments.js';
import { expectGpu, type Gpu, GpuError } from './device.js';
import { findNonFinite, timeLaunches } from './diagnose.js';
import { type Kernel, type OnProgress, startCompiling } from './kernel.js';
import { dispatchNothing, type Launch, place, usesOf, watched } from './launch.js';
import { makingOf, megabytes, release, releaseWhenCollected, type Storage } from './memory.js';
import { type LaunchTime, profileTable, summarize } from './profile.js';
import { checkSlots, fill, free, givenOf, keyOf, type StepArgument, slotsFor } from './step-arguments.js';
import { compileRecording, flush, type Recording, recordList, replay } from './stream.js';
import { storagesIn, type Tensor } from './tensor.js';

export type { StepArgument } from './step-arguments.js';

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
export interface PrepareOptions<A extends readonly StepArgument[] = []> {
  /** Arguments such as a call will give; needed if the step has any. */
  args?: A;
  /** Gets the number of compiled kernels and of all kernels: once at the start, then whenever the first number grows. Default: nothing does. */
  onProgress?: OnProgress;
}

/** A captured step with arguments A: call it to run it. */
export interface Step<T, A extends readonly StepArgument[] = []> {
  /** Runs the step; the returned tensors are the same at every call with arguments of the same shapes. */
  (...args: A): T;
  /**
   * Records the step if needed and compiles all kernels in parallel, which makes the first call fast. Nothing runs. (lavapipe
   * compiles at a kernel's first dispatch; there each kernel is dispatched with no workgroups.) Kernels for matrix units that this
   * device has not run before are first checked on it. Rejects with the error of a shader that does not compile, and with what
   * `onProgress` throws. Throws a ShapeError for an unknown option.
   */
  prepare(options?: PrepareOptions<A>): Promise<StepInfo>;
  /**
   * What the step costs, whether or not this GPU can run it. Records the step if needed; allocates nothing. With arguments: what it
   * costs for those of the last call or `prepare`, and a GpuError before the first.
   */
  readonly info: StepInfo;
  /** Runs the step twice: once to warm up, once with a timestamp around every launch. Needs the feature `timestamp-query`. */
  profile(...args: A): Promise<LaunchTime[]>;
  /** @internal What the step launches, in order. Records the step if needed; allocates nothing. */
  launches(...args: A): readonly Launch[];
  /** Runs the step once and names the first op whose output holds a NaN or an infinity; undefined when none does. */
  findNonFinite(...args: A): Promise<string | undefined>;
}

/** Most recordings of one step; then the one that has not been called for longest gives up its memory. */
const mostRecordings = 8;

/** Buffers of a recording, which go back to the pool when it has been collected. */
interface Held {
  readonly gpu: Gpu;
  buffers: readonly GPUBuffer[] | undefined;
}

const abandoned = new FinalizationRegistry<Held>((held) => giveBack(held));

/** Gives back the buffers of a recording; `stays` tells by their places which it keeps. */
function giveBack(held: Held, stays: (i: number) => boolean | undefined = () => false): void {
  const { gpu, buffers = [] } = held;
  held.buffers = buffers.filter((_, i) => stays(i));
  for (const buffer of buffers) if (!held.buffers.includes(buffer)) release(gpu, buffer);
}

interface Made<T> {
  readonly result: T;
  readonly recording: Recording;
  readonly slots: readonly Tensor[];
  readonly externals: readonly Storage[];
  readonly info: StepInfo;
  readonly held: Held;
  /** Proves the kernels that are yet to be proven right. */
  prove: Gpu['prove'];
  /** The tensors whose buffers the slots have: those of the last call, or copies of them. */
  bound: readonly Tensor[];
}

/**
 * Makes `work` a step: the first call records it, later calls replay it. What changes from call to call is an argument, or a tensor
 * that is written before the call. For each argument that `work` names, it gets a tensor; the call gives a tensor of any shape, or
 * numbers, of which it makes one: f32 [] of a number; f32, u8, u32 or i32 of a typed array (f32 of other arrays), which has one axis
 * unless it is nested. Arguments of other shapes or types are recorded anew, so that a last, smaller batch just works; the 8
 * recordings that were called last keep their memory.
 *
 * Throws a GpuError when the step nests, reads, writes, waits or records nothing, or writes to or returns an argument; then
 * everything that the recording made is freed. A call runs the step as a whole or not at all. If a launch cannot run (a shader that
 * does not compile, no memory), the results reject with that launch's error, tensors that the step updates in place keep their
 * values, and the next call throws.
 * @example
 * const step = capture(gpu, (x, factor) => mul(x, factor));
 * console.log(await step([1, 2], 10).read(), await step([1, 2, 3], 2).read()); // [10, 20] [2, 4, 6]
 */
export function capture<T, P extends Tensor[]>(
  gpu: Gpu,
  work: (...args: P) => T,
): Step<T, { [K in keyof P]: StepArgument }> {
  expectGpu('capture', gpu);
  if (typeof work !== 'function') {
    throw new GpuError(`capture: the step is ${showValue(work)} — expected a function that calls ops.`);
  }
  const recordings = new Map<string, Made<T>>(); // the one that was called last comes last
  let latest: Made<T> | undefined;

  /** `trusting`: with kernels that are yet to be proven right, which `prepare` does; a run without it records the step anew. */
  const recorded = (given: readonly Tensor[], trusting: boolean, onKernel?: (k: Kernel) => void): Made<T> => {
    gpu.check();
    const key = keyOf(given);
    const known = recordings.get(key);
    const fits = known && (trusting || !known.prove);
    latest = fits ? known : make(gpu, work as (...args: Tensor[]) => T, given, trusting, onKernel);
    recordings.delete(key);
    recordings.set(key, latest);
    if (recordings.size > mostRecordings) {
      const [oldest, its] = recordings.entries().next().value!;
      recordings.delete(oldest);
      giveBack(its.held, (i) => its.recording.plan.buffers[i]?.kept); // what it returned stays with whoever has it
    }
    return latest;
  };

  const ready = (given: readonly Tensor[]): Made<T> => {
    if (!gpu.flags.capture) recordings.clear();
    const step = recorded(given, false);
    const { recording, externals, held } = step;
    if (recording.tooLarge) throw recording.tooLarge;
    flush(gpu);
    if (held.buffers?.some((buffer) => makingOf(buffer)?.error)) {
      // The last try found no memory; there may be enough now.
      giveBack(held);
      for (const launch of recording.launches) launch.bindGroup = undefined;
      held.buffers = undefined;
    }
    if (!held.buffers) {
      held.buffers = place(gpu, recording.launches, recording.plan);
      if (gpu.flags.debug >= 3) list(recording);
    }
    const lost = externals.find(({ dead }) => dead);
    if (lost) {
      throw new GpuError(
        `capture: '${lost.label}' died with its scope; the step still uses it. Make it outside of the scope.`,
      );
    }
    step.bound = fill(gpu, step.slots, given, recording);
    return step;
  };

  const step = (...args: unknown[]): T => {
    const { result, recording, bound } = ready(givenOf(gpu, args, work.length));
    replay(gpu, recording);
    if (gpu.flags.debug === 2) {
      void timeLaunches(gpu, recording.launches).then(
        (times) => console.error(profileTable(summarize(times))),
        (error: Error) => console.error(error.message),
      );
    }
    // Backwards, so that the next call finds each buffer in the pool where the slot has it.
    for (const t of bound.toReversed()) if (!args.includes(t)) free(t);
    return result;
  };
  const tools = {
    prepare: async (options: PrepareOptions<never> = {}) => {
      checkOptions('prepare', options, ['args', 'onProgress']);
      const { args = [], onProgress } = options;
      const given = givenOf(gpu, args, work.length);
      // The driver's threads compile while this one records.
      const trusted = () => recorded(given, true, (k) => void startCompiling(gpu, k).catch(() => {}));
      for (let list = trusted(); list.prove; list = trusted()) {
        if (await list.prove()) list.prove = undefined;
        else for (const [key, made] of recordings) if (made === list) recordings.delete(key);
      }
      const { recording, info } = ready(given);
      const isLate = gpu.adapter.driver === 'lavapipe'; // it reports kernels as compiled before they are
      await compileRecording(gpu, recording, isLate ? undefined : onProgress);
      if (isLate) await dispatchNothing(gpu, recording.launches, onProgress);
      return info;
    },
    profile: async (...args: unknown[]) => {
      const { recording } = ready(givenOf(gpu, args, work.length));
      replay(gpu, recording); // the first run compiles, and touches memory for the first time
      await gpu.wait(gpu.device.queue.onSubmittedWorkDone()).catch(() => {});
      await gpu.reported();
      return timeLaunches(gpu, recording.launches);
    },
    launches: (...args: unknown[]) => recorded(givenOf(gpu, args, work.length), true).recording.launches,
    findNonFinite: async (...args: unknown[]) => {
      const { launches } = ready(givenOf(gpu, args, work.length)).recording;
      return watched(gpu, launches, () => findNonFinite(gpu, launches));
    },
  };
  const info = (): StepInfo => {
    gpu.check();
    return (latest ?? recorded(givenOf(gpu, [], work.length), true)).info;
  };
  return Object.defineProperty(Object.assign(step, tools), 'info', { get: info }) as never;
}

/** Records and plans `work` for arguments such as these. */
function make<T>(
  gpu: Gpu,
  work: (...args: Tensor[]) => T,
  given: readonly Tensor[],
  trusting: boolean,
  onKernel?: (k: Kernel) => void,
): Made<T> {
  const slots = slotsFor(given);
  gpu.trusting = trusting;
  gpu.prove = undefined;
  const { result, recording } = recordList(gpu, () => work(...slots), storagesIn, onKernel);
  const { prove } = gpu;
  const { launches, plan, temporaries, tooLarge } = recording;
  for (const storage of temporaries) storage.owner = recording;
  for (const storage of recording.constants) releaseWhenCollected(gpu, storage);
  const externals = [...new Set(usesOf(launches).flat())].filter((storage) => !temporaries.has(storage));
  const info: StepInfo = {
    launches: launches.length,
    buffers: plan.buffers.length,
    plannedBytes: plan.plannedBytes,
    unsharedBytes: plan.unsharedBytes,
    externalBytes: externals.reduce((sum, { bytes }) => sum + bytes, 0),
    ...(tooLarge && { tooLarge }),
  };
  report(gpu, info);
  checkSlots(slots, storagesIn([result, recording.changes]));
  const held: Held = { gpu, buffers: undefined };
  abandoned.register(recording, held);
  for (const { storage } of slots) storage.dead = true; // if its function lets it out, nothing else may use it
  return {
    result,
    recording,
    slots,
    externals: externals.filter(({ dead }) => !dead),
    info,
    held,
    prove,
    bound: [],
  };
}

function report(gpu: Gpu, { launches, unsharedBytes, plannedBytes, buffers }: StepInfo): void {
  if (gpu.flags.debug < 1) return;
  console.error(
    `capture: ${launches} launches, temporaries ${megabytes(unsharedBytes)} → ${megabytes(plannedBytes)} in ${buffers} buffers`,
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
