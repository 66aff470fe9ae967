// Gives launches to the GPU. A portion is a list of launches in one command buffer: all of them run, or none does. Only the driver
// finds what keeps a launch from running (a shader that does not compile, a buffer that could not be made), and it reports that
// later. So a launch that is not proven yet goes into a portion apart from launches that do not need it.
import { type Gpu, GpuError, type Outcome } from './device.js';
import { begin, type Effects, isClouded, type Use, withhold, wrongness } from './fate.js';
import { type Binding, type Kernel, type OnProgress, pipelineOf, type ReadOthers } from './kernel.js';
import { acquire, makingOf, type Plan, release, Storage } from './memory.js';

/** What a launch binds: a tensor is a shape over a storage. */
export interface Bindable {
  readonly gpu: Gpu;
  readonly storage: Storage;
  /** Where it begins in its storage, and how long it is: packed tensors share a storage. */
  readonly offset: number;
  readonly bytes: number;
  readonly shape: readonly number[];
  readonly dtype: string;
  /** @internal Of what is no tensor. */
  readonly external?: External;
}

/** What a texture, a sampler or a uniform buffer knows beyond a tensor (bindable.ts). */
export interface External {
  readonly readOthers: ReadOthers;
  /** What a bind group takes for it. */
  resource(binding: Binding): GPUTextureView | GPUSampler | GPUBufferBinding;
  /** Why a binding does not take it; undefined where it does. */
  misfit(binding: Binding): string | undefined;
}

/** What a launch is given: a tensor, what `bindable` gives, or numbers, which the shader reads from an `array<f32>`. */
export type Argument = Bindable | readonly number[];

/** Numbers of a launch. They belong to the launch, as its grid does; `place` puts them beside those of the other launches. */
export class Numbers implements Bindable {
  readonly gpu: Gpu;
  readonly values: Float32Array<ArrayBuffer>;
  readonly shape: readonly number[];
  readonly dtype = 'f32';
  storage: Storage;
  offset = 0;

  constructor(gpu: Gpu, values: readonly number[]) {
    this.gpu = gpu;
    this.values = Float32Array.from(values);
    this.shape = [values.length];
    this.storage = new Storage(this.bytes, 'numbers');
  }

  get bytes(): number {
    return this.values.byteLength;
  }
}

/** The storages of the tensors that each launch binds. */
export const usesOf = (launches: readonly Launch[]): Storage[][] =>
  launches.map(({ args }) => args.filter((arg) => !(arg instanceof Numbers)).map((arg) => arg.storage));

export interface Launch {
  readonly kernel: Kernel;
  /** In the order of `kernel.bindings`. */
  readonly args: readonly Bindable[];
  readonly workgroups: readonly [number, number, number];
  bindGroup: GPUBindGroup | undefined;
  /** The outcome of its last run as a portion of one launch. */
  outcome: Outcome | undefined;
  /** Where the op was called (WGRAD_SYNC=1). */
  readonly stack: string | undefined;
}

/** What a launch writes. */
export const writtenBy = ({ kernel, args }: Launch): Bindable[] => args.filter((_, i) => kernel.bindings[i]!.writes);

/** Launches that run as a whole or not at all, and what they do to storages that outlive them. */
export interface Portion {
  readonly launches: readonly Launch[];
  readonly kernels: readonly Kernel[];
  readonly effects: Effects;
  /** Whether it has run; its kernels are then proven. */
  ran: boolean;
  /** The driver's error when it last failed to run. */
  refusal: GpuError | undefined;
}

/**
 * The portion of these launches. `own` are the storages whose contents begin in it; `told` are those whose fate is kept (storages
 * that cannot be read any more have none).
 */
export function portionOf(
  launches: readonly Launch[],
  own: (storage: Storage) => boolean,
  told: (storage: Storage) => boolean,
  freshOf = own,
): Portion {
  const reads = new Map<Storage, Use[]>();
  const writes = new Map<Storage, Effects['writes'][number]>();
  for (const { kernel, args } of launches) {
    args.forEach(({ storage, offset, bytes }, i) => {
      const { writes: written, onlyStores } = kernel.bindings[i]!;
      const overwrites = onlyStores && offset === 0 && bytes >= storage.bytes && !writes.has(storage);
      if (!own(storage) && !overwrites) {
        const uses = reads.get(storage) ?? [];
        if (!uses.some((use) => use.offset === offset && use.bytes === bytes)) uses.push({ storage, offset, bytes });
        reads.set(storage, uses);
      }
      if (written && told(storage) && !writes.has(storage)) writes.set(storage, { storage, fresh: freshOf(storage) });
    });
  }
  return {
    launches,
    kernels: [...new Set(launches.map(({ kernel }) => kernel))],
    effects: { reads: [...reads.values()].flat(), writes: [...writes.values()] },
    ran: false,
    refusal: undefined,
  };
}

/**
 * Gives a portion to the GPU. `work` encodes and submits it, and may resolve with what is wrong with its results. A portion that
 * cannot run, or would compute from contents that are known to be wrong, is withheld; returns the reason.
 */
export function attempt(
  gpu: Gpu,
  portion: Portion,
  work: () => Promise<GpuError | undefined> | undefined,
): GpuError | undefined {
  const { launches, kernels, effects } = portion;
  const reason = kernels.find(({ error }) => error)?.error ?? wrongness(gpu, effects.reads);
  if (reason) {
    withhold(effects.writes, reason);
    gpu.failed(reason);
    return reason;
  }
  const before = launches.map((launch) => launch.outcome);
  const { value: flaw, outcome } = gpu.guard(work, async ({ message }) => {
    const found = await cause(launches, before);
    if (found) return found;
    // A fault that repeats at every call of a step is one error, which a caller receives once.
    const words = inWords(launches, message);
    if (portion.refusal?.message !== words) portion.refusal = new GpuError(words);
    return portion.refusal;
  });
  if (launches.length === 1) launches[0]!.outcome = outcome;
  if (effects.writes.length) begin(gpu, effects, outcome, flaw);
  if (!portion.ran) prove(portion, outcome);
  return undefined;
}

/** Runs `work`, which encodes and submits something with these launches; rejects with the GPU's error. Storages do not remember it. */
export async function watched<T>(gpu: Gpu, launches: readonly Launch[], work: () => Promise<T>): Promise<T> {
  const { value, outcome } = gpu.guard(
    work,
    async ({ message }) => (await cause(launches, [])) ?? inWords(launches, message),
  );
  const ended = await value.then(
    (result) => ({ result }),
    (error: unknown) => ({ error }),
  );
  await gpu.reported();
  if (outcome.error) throw outcome.error;
  if ('error' in ended) throw ended.error;
  return ended.result;
}

/** An error that the driver reported before about these launches, or about the pipelines and buffers that they need. */
async function cause(
  launches: readonly Launch[],
  before: readonly (Outcome | undefined)[],
): Promise<GpuError | undefined> {
  const needed = launches.flatMap(({ kernel, args }) => [
    kernel.outcome,
    ...args.map(({ storage }) => storage.probe ?? (storage.buffer && makingOf(storage.buffer))),
  ]);
  for (const outcome of [...needed, ...before]) {
    await outcome?.done;
    if (outcome?.error) return outcome.error;
  }
  return undefined;
}

function inWords(launches: readonly Launch[], message: string): string {
  const named = /\[(?:ComputePipeline|BindGroup) "(\w+)"/.exec(message)?.[1];
  const [only] = launches;
  const label =
    launches.length === 1
      ? only!.kernel.label
      : launches.some(({ kernel }) => kernel.label === named)
        ? named
        : 'device';
  const stack = launches.length === 1 ? only!.stack : undefined;
  return `${label}: ${message} ${stack === undefined ? 'Run with WGRAD_SYNC=1 to see the op call.' : `\n${stack}`}`;
}

/** Notes the binding sizes with which kernels have run, once that is known. */
function prove(portion: Portion, outcome: Outcome): void {
  void outcome.done.then(() => {
    if (outcome.error) return;
    portion.ran = true;
    for (const { kernel, args } of portion.launches) {
      kernel.proven = args.map(({ bytes }, i) => Math.min(bytes, kernel.proven?.[i] ?? bytes));
    }
  });
}

const fits = ({ kernel, args }: Launch): boolean => args.every(({ bytes }, i) => bytes >= kernel.proven![i]!);

/** Whether the GPU has run this kernel with bindings as small as these, on buffers known to exist and contents known to be good. */
function isProven(launch: Launch): boolean {
  if (!launch.kernel.proven || launch.kernel.error || !fits(launch)) return false;
  return launch.args.every(
    (arg) => !arg.storage.external && !makingOf(arg.storage.buffer!) && !isClouded(launch.args[0]!.gpu, arg),
  );
}

/**
 * Splits a pending list into portions such that each launch runs if it can, even if launches that it does not need fail, and that
 * no lasting tensor is updated from results that were never computed. If all launches are proven, they are one portion. Otherwise
 * each launch is a portion; those that update in place then run as a whole, together with all launches that they are connected to.
 */
export function portionsOf(launches: readonly Launch[], { buffers }: Plan): Portion[] {
  const placed = new Set(buffers.flatMap(({ storages }) => storages));
  const begins = (storage: Storage): boolean => placed.has(storage);
  const told = (storage: Storage): boolean => !storage.dead;
  if (launches.every(isProven)) return [portionOf(launches, begins, told)];
  const begun = new Set<Storage>();
  const unsettled = new Set<Storage>(); // written by a launch that is left to the second round
  const portions: Portion[] = [];
  const late: boolean[] = launches.map((launch) => {
    const written = writtenBy(launch);
    if (written.some(({ storage }) => !begins(storage)) || launch.args.some(({ storage }) => unsettled.has(storage))) {
      for (const { storage } of written) unsettled.add(storage);
      return true;
    }
    const own = (storage: Storage): boolean => begins(storage) && !begun.has(storage);
    portions.push(portionOf([launch], own, () => true, begins));
    for (const { storage } of written) begun.add(storage);
    return false;
  });
  for (const group of groupsOf(launches, buffers)) {
    if (!group.some((i) => late[i])) continue;
    const list = group.map((i) => launches[i]!);
    portions.push(portionOf(list, begins, (storage) => unsettled.has(storage)));
  }
  return portions;
}

/** Indices of connected launches: one writes what another uses, or they share a lasting buffer. */
function groupsOf(launches: readonly Launch[], buffers: Plan['buffers']): number[][] {
  const parents = new Map<Storage, Storage>();
  const root = (storage: Storage): Storage => {
    let at = storage;
    for (let up = parents.get(at); up && up !== at; up = parents.get(at)) at = up;
    return at;
  };
  const join = (a: Storage, b: Storage): void => void parents.set(root(a), root(b));
  const written = new Set(launches.flatMap((launch) => writtenBy(launch).map(({ storage }) => storage)));
  const involved = launches.map(({ args }) => args.map(({ storage }) => storage).filter((s) => written.has(s)));
  for (const [first, ...others] of [
    ...involved,
    ...buffers.filter(({ kept }) => kept).map(({ storages }) => storages),
  ]) {
    for (const other of others) join(first!, other);
  }
  const groups = new Map<Storage | undefined, number[]>();
  involved.forEach(([first], i) => {
    const key = first && root(first);
    groups.set(key, [...(groups.get(key) ?? []), i]);
  });
  return [...groups.values()];
}

/** Puts the numbers of all launches into one buffer, equal ones at the same place; undefined when there are none. */
function placeNumbers(gpu: Gpu, launches: readonly Launch[]): GPUBuffer | undefined {
  const stride = gpu.limits.minStorageBufferOffsetAlignment;
  const places = new Map<string, Numbers[]>();
  let bytes = 0;
  for (const { args } of launches) {
    for (const arg of args) {
      if (!(arg instanceof Numbers)) continue;
      const key = new Uint32Array(arg.values.buffer).join();
      const sharing = places.get(key);
      arg.offset = sharing ? sharing[0]!.offset : bytes;
      if (sharing) sharing.push(arg);
      else {
        places.set(key, [arg]);
        bytes += Math.ceil(arg.bytes / stride) * stride;
      }
    }
  }
  if (!bytes) return undefined;
  const storage = new Storage(bytes, 'numbers');
  const contents = new Float32Array(bytes / 4);
  for (const sharing of places.values()) {
    contents.set(sharing[0]!.values, sharing[0]!.offset / 4);
    for (const numbers of sharing) numbers.storage = storage;
  }
  const buffer = acquire(gpu, bytes, storage.label);
  storage.buffer = buffer;
  gpu.guard(
    () => gpu.device.queue.writeBuffer(buffer, 0, contents),
    () => '', // the buffer's own error says it
  );
  return buffer;
}

/**
 * Makes the buffers of a plan and gives them to the storages, and one more for the launches' numbers. Returns the buffers: those of
 * the plan in its order, then that of the numbers, if there are any.
 */
export function place(gpu: Gpu, launches: readonly Launch[], planned: Plan): GPUBuffer[] {
  const buffers: GPUBuffer[] = [];
  try {
    for (const { bytes, storages } of planned.buffers) buffers.push(acquire(gpu, bytes, storages[0]!.label));
    const numbers = placeNumbers(gpu, launches);
    if (numbers) buffers.push(numbers);
  } catch (error) {
    for (const buffer of buffers) release(gpu, buffer);
    throw error;
  }
  planned.buffers.forEach(({ storages }, i) => {
    const buffer = buffers[i]!;
    if (gpu.flags.poison && !makingOf(buffer)?.error) {
      gpu.guard(
        () => gpu.device.queue.writeBuffer(buffer, 0, new Uint32Array(buffer.size / 4).fill(0x7fc00000)),
        () => '', // the buffer's own error says it
      );
    }
    for (const storage of storages) storage.buffer = buffer;
  });
  return buffers;
}

function bindGroupOf(gpu: Gpu, { kernel: k, args }: Launch): GPUBindGroup {
  return gpu.device.createBindGroup({
    label: k.label,
    layout: k.layout,
    entries: k.bindings.map((binding, i) => {
      const { storage, offset, bytes, external } = args[i]!;
      return {
        binding: binding.index,
        resource: external?.resource(binding) ?? { buffer: storage.buffer!, offset, size: bytes },
      };
    }),
  });
}

export function dispatch(gpu: Gpu, pass: GPUComputePassEncoder, launch: Launch): void {
  const { kernel: k, workgroups } = launch;
  launch.bindGroup ??= bindGroupOf(gpu, launch);
  pass.setPipeline(k.pipeline ?? pipelineOf(gpu, k));
  pass.setBindGroup(0, launch.bindGroup);
  pass.dispatchWorkgroups(workgroups[0], workgroups[1], workgroups[2]);
}

/**
 * Makes a driver that compiles at the first dispatch (lavapipe) compile every kernel, by a dispatch of no workgroups, which runs
 * nothing. The zeros lie in a buffer, since Dawn warns about a direct dispatch of none.
 */
export async function dispatchNothing(gpu: Gpu, launches: readonly Launch[], onProgress?: OnProgress): Promise<void> {
  const { device } = gpu;
  const first = [...new Map(launches.map((launch) => [launch.kernel, launch])).values()];
  const some = onProgress ? 8 : first.length; // kernels of one submission
  await watched(gpu, first, async () => {
    const zeros = device.createBuffer({ label: 'dispatchNothing', size: 12, usage: 0x100 }); // INDIRECT
    onProgress?.(0, first.length);
    for (let done = 0; done < first.length; done += some) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (const launch of first.slice(done, done + some)) {
        launch.bindGroup ??= bindGroupOf(gpu, launch);
        pass.setPipeline(launch.kernel.pipeline ?? pipelineOf(gpu, launch.kernel));
        pass.setBindGroup(0, launch.bindGroup);
        pass.dispatchWorkgroupsIndirect(zeros, 0);
      }
      pass.end();
      device.queue.submit([encoder.finish()]);
      await gpu.wait(device.queue.onSubmittedWorkDone());
      onProgress?.(Math.min(done + some, first.length), first.length);
    }
    zeros.destroy();
  });
}

/** Encodes launches into one compute pass and submits it. */
export function submit(gpu: Gpu, launches: readonly Launch[]): void {
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const launch of launches) dispatch(gpu, pass, launch);
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
}
