// A captured step: the recording is made once, placed once, and replayed for ever. What is frozen at the first call:
// JavaScript numbers, branches, shapes, and the buffers of the returned tensors, which every call overwrites.
import { type Gpu, GpuError } from './device.js';
import { flags } from './flags.js';
import { release, releaseWhenCollected, type Storage } from './memory.js';
import { type LaunchTime, profileTable, summarize } from './profile.js';
import { compileRecording, findNonFinite, flush, type Recording, recordList, submit, timeLaunches } from './stream.js';
import { storagesIn } from './tensor.js';

export interface StepInfo {
  readonly launches: number;
  /** Buffers that temporaries share. */
  readonly buffers: number;
  /** Bytes of temporaries after planning: what the step adds to parameters, state and inputs. */
  readonly plannedBytes: number;
  /** Bytes of temporaries, had each a buffer of its own. */
  readonly unsharedBytes: number;
  /** Bytes of what the step uses but did not make: parameters, optimizer state, inputs. */
  readonly externalBytes: number;
}

export interface Step<T> {
  /** Runs the step; the returned tensors are the same at every call. */
  (): T;
  /** Records (if that has not happened) and compiles all kernels side by side; nothing runs. Makes the first call fast. */
  prepare(): Promise<StepInfo>;
  readonly info: StepInfo;
  /** Runs the step once with a timestamp around every launch. */
  profile(): Promise<LaunchTime[]>;
  /** Runs the step once and names the first op whose output holds a NaN or an infinity; undefined when none does. */
  findNonFinite(): Promise<string | undefined>;
}

const abandoned = new FinalizationRegistry<{ gpu: Gpu; buffers: readonly GPUBuffer[] }>(({ gpu, buffers }) => {
  for (const buffer of buffers) release(gpu, buffer);
});

/**
 * Makes `work` a step that is recorded at the first call and replayed at later ones. Numbers that change are 1-element
 * tensors, written before the call. Throws a GpuError when the step nests, reads, writes, waits or records nothing.
 */
export function capture<T>(gpu: Gpu, work: () => T): Step<T> {
  let made: { result: T; recording: Recording; externals: Storage[]; info: StepInfo } | undefined;

  const record = (): NonNullable<typeof made> => {
    const { result, recording, constants } = recordList(gpu, work, storagesIn);
    const used = new Set(recording.launches.flatMap(({ args }) => args.map((arg) => arg.storage)));
    const temporaries = new Set(recording.plan.slots.flatMap(({ storages }) => storages));
    for (const storage of temporaries) storage.owner = recording;
    for (const storage of constants) releaseWhenCollected(gpu, storage);
    abandoned.register(recording, { gpu, buffers: recording.buffers });
    const externals = [...used].filter((storage) => !temporaries.has(storage));
    const info: StepInfo = {
      launches: recording.launches.length,
      buffers: recording.buffers.length,
      plannedBytes: recording.plan.plannedBytes,
      unsharedBytes: recording.plan.unsharedBytes,
      externalBytes: externals.reduce((sum, { bytes }) => sum + bytes, 0),
    };
    report(info, recording);
    return (made = { result, recording, externals, info });
  };

  const ready = (): NonNullable<typeof made> => {
    gpu.check();
    if (made && flags.capture) flush(gpu);
    else record();
    const lost = made!.externals.find(({ dead }) => dead);
    if (lost)
      throw new GpuError(
        `capture: '${lost.label}' died with its scope; the step still uses it. Make it outside of the scope.`,
      );
    return made!;
  };

  const step = (): T => {
    const { result, recording } = ready();
    submit(gpu, recording.launches);
    if (flags.debug === 2)
      void timeLaunches(gpu, recording.launches).then((times) => console.error(profileTable(summarize(times))));
    return result;
  };
  return Object.defineProperty(
    Object.assign(step, {
      prepare: async () => {
        const { recording, info } = ready();
        await compileRecording(gpu, recording);
        return info;
      },
      profile: () => timeLaunches(gpu, ready().recording.launches),
      findNonFinite: () => findNonFinite(gpu, ready().recording.launches),
    }),
    'info',
    { get: () => (made ?? record()).info },
  ) as Step<T>;
}

function report(info: StepInfo, { launches }: Recording): void {
  if (flags.debug >= 1) {
    const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    console.error(
      `capture: ${info.launches} launches, temporaries ${mib(info.unsharedBytes)} → ${mib(info.plannedBytes)} in ${info.buffers} buffers`,
    );
  }
  if (flags.debug >= 3) {
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
}
