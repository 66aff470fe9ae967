// The recording. Ops append launches over storages that may not have a buffer yet; `flush` plans them, and gives them to the
// GPU (engine/launch.ts). A scope owns what is created in it.

import { hasContents, noteChange } from './changes.js';
import { checkArgs, checkUnchanged, type Grid, type Recorded, tooLarge, workgroupsOf } from './check-launch.js';
import { type Gpu, GpuError } from './device.js';
import { findNonFinite, judgeWatched } from './diagnose.js';
import { compileAll, type Kernel, kernel, type OnProgress } from './kernel.js';
import {
  type Argument,
  attempt,
  type Bindable,
  type Launch,
  Numbers,
  type Portion,
  place,
  portionOf,
  portionsOf,
  submit,
  usesOf,
  writtenBy,
} from './launch.js';
import { buffersOf, destroy, type Plan, plan, release, type Storage } from './memory.js';

export type { Grid } from './check-launch.js';
export type { Argument, Bindable, Launch } from './launch.js';

/** Storages created since `open`; they die with the scope unless they are returned. */
export interface Scope {
  readonly created: Set<Storage>;
}

interface Stream {
  pending: Launch[];
  /** Bytes of what the pending launches write for the first time. */
  pendingBytes: number;
  scopes: Scope[];
  /** Storages whose contents wait for their first reader. */
  deferred: Set<Storage>;
  /** Storages whose first contents are being recorded: no deferred storage reads older ones. */
  computing: Set<Storage>;
  /** Buffers of dead storages that pending launches may still use. */
  retiring: GPUBuffer[];
  capturing: boolean;
  /** The first forbidden action of the step that is being captured, which may have caught the error. */
  offence: GpuError | undefined;
  /** The error of a tensor in the step that this GPU cannot bind; the step is planned all the same. */
  tooLarge: GpuError | undefined;
  /** Called with every kernel that is recorded. */
  onKernel: ((k: Kernel) => void) | undefined;
  /** The op whose gradient is being recorded, and the time of its own recording. */
  gradientOf: Recorded | undefined;
}

const streams = new WeakMap<Gpu, Stream>();

function streamOf(gpu: Gpu): Stream {
  let stream = streams.get(gpu);
  if (!stream) {
    streams.set(
      gpu,
      (stream = {
        pending: [],
        pendingBytes: 0,
        scopes: [],
        deferred: new Set(),
        computing: new Set(),
        retiring: [],
        capturing: false,
        offence: undefined,
        tooLarge: undefined,
        onKernel: undefined,
        gradientOf: undefined,
      }),
    );
  }
  return stream;
}

/** Most pending launches, and most bytes that they write for the first time; beyond either, they are flushed. */
export const mostPending = { launches: 1024, bytes: 2 ** 28 };

const isNumbers = (arg: Argument): arg is readonly number[] => Array.isArray(arg);

/**
 * Records one launch of a shader. `args` binds tensors by the names of the shader's `var<storage>` declarations; none
 * may be bound twice if one of the bindings writes. An array of numbers (rounded to f32, any value) is bound as `array<f32>`:
 * numbers are data, so that one compiled kernel serves all. Textures, samplers and uniform buffers are bound as `bindable` gives
 * them. Throws a GpuError that lists both sides when they differ.
 * @example
 * const text = `@group(0) @binding(0) var<storage, read_write> y: array<f32>; ${perElement('twice', 'y', 'y[i] *= 2.0;')}`;
 * const y = tensor(gpu, [1, 2]);
 * run(text, { y }, { threads: y.size });
 * console.log(await y.read()); // [2, 4]
 */
export function run(source: string, args: Record<string, Argument>, grid: Grid): void {
  const first = Object.values(args).find((arg) => !isNumbers(arg)) as Bindable | undefined;
  if (!first) throw new GpuError('run: a launch needs at least one tensor.');
  const { gpu } = first;
  gpu.check();
  const stream = streamOf(gpu);
  const other = Object.values(args).find((arg) => (arg as Bindable).external) as Bindable | undefined;
  const k = kernel(gpu, source, other?.external?.readOthers);
  if (k.error) throw k.error;
  stream.onKernel?.(k);
  const names = k.bindings.map(({ name }) => name);
  const got = Object.keys(args);
  if (names.length !== got.length || names.some((name) => !args[name])) {
    throw new GpuError(`${k.label}: the shader binds (${names.join(', ')}); the op passed (${got.join(', ')}).`);
  }
  const ordered = names.map((name) => {
    const arg = args[name]!;
    return isNumbers(arg) ? new Numbers(gpu, arg) : arg;
  });
  checkArgs(k, ordered);
  const problem = tooLarge(gpu, ordered);
  if (problem && !stream.capturing) throw problem;
  stream.tooLarge ??= problem;
  if (stream.gradientOf) checkUnchanged(k, ordered, stream.gradientOf);
  const workgroups = workgroupsOf(k, grid, gpu.limits.maxComputeWorkgroupsPerDimension);
  ordered.forEach(({ storage }, i) => {
    materialize(storage);
    if (k.bindings[i]!.writes) beforeWrite(gpu, storage);
  });
  ordered.forEach((arg, i) => {
    const { name, writes } = k.bindings[i]!;
    if (!writes && !arg.storage.buffer && !(arg instanceof Numbers) && !hasContents(arg.storage)) {
      throw new GpuError(
        `${k.label}: '${name}' is '${arg.storage.label}' [${arg.shape}], which nothing has written — empty() makes room for an output. Use tensor(gpu, data) for an input.`,
      );
    }
  });
  ordered.forEach((arg, i) => {
    if (k.bindings[i]!.writes && !stream.computing.has(arg.storage)) noteChange(arg, k.label);
  });
  stream.pending.push({
    kernel: k,
    args: ordered,
    workgroups,
    bindGroup: undefined,
    outcome: undefined,
    stack: gpu.flags.sync ? new Error('recorded').stack : undefined,
  });
  if (stream.capturing) return;
  ordered.forEach(({ storage }, i) => {
    if (k.bindings[i]!.writes && !storage.buffer) stream.pendingBytes += storage.bytes;
  });
  const full = stream.pending.length >= mostPending.launches || stream.pendingBytes >= mostPending.bytes;
  if (full && !stream.computing.size) flush(gpu);
}

/**
 * Defers the contents of a storage to its first reader. Until then a fused op may compute them along the way. When a launch binds
 * the storage, or it is read, `compute` records the launch that writes all of it. `reads` are the storages it is computed from; it is
 * computed before any of them is overwritten. If one of them is itself deferred, recording its first contents does not count as
 * overwriting, since those contents are what is read.
 */
export function defer(gpu: Gpu, storage: Storage, reads: readonly Storage[], compute: () => void): void {
  const { deferred, computing } = streamOf(gpu);
  deferred.add(storage);
  noteChange({ gpu, storage, offset: 0, bytes: storage.bytes }, 'its op');
  storage.deferred = {
    reads,
    materialize: () => {
      deferred.delete(storage);
      storage.deferred = undefined;
      computing.add(storage);
      try {
        compute();
      } finally {
        computing.delete(storage);
      }
    },
  };
}

/** Records the launch that computes a deferred storage; does nothing for others. */
export const materialize = (storage: Storage): void => storage.deferred?.materialize();

/** Records the deferred storages that read contents which are about to be overwritten. */
function beforeWrite(gpu: Gpu, storage: Storage): void {
  const { deferred, computing } = streamOf(gpu);
  if (computing.has(storage)) return;
  for (const waiting of [...deferred]) {
    if (!waiting.dead && waiting.deferred?.reads.includes(storage)) waiting.deferred.materialize();
  }
}

/**
 * Records the gradient of an op by `work`. Throws a GpuError when `work` reads a tensor that has changed since the op was recorded:
 * the gradient would be wrong.
 */
export function recordGradient<T>(gpu: Gpu, recorded: Recorded, work: () => T): T {
  const stream = streamOf(gpu);
  const before = stream.gradientOf;
  stream.gradientOf = recorded;
  try {
    return work();
  } finally {
    stream.gradientOf = before;
  }
}

/** Registers a new storage with the innermost open scope; false when there is none. */
export function enroll(gpu: Gpu, storage: Storage): boolean {
  const scope = streamOf(gpu).scopes.at(-1);
  scope?.created.add(storage);
  return scope !== undefined;
}

export const isCapturing = (gpu: Gpu): boolean => streamOf(gpu).capturing;

/** Throws a GpuError inside a captured step. The step throws it at its end, too, in case its code caught it. */
export function refuseInStep(gpu: Gpu, message: string): void {
  const stream = streamOf(gpu);
  if (stream.capturing) throw (stream.offence ??= new GpuError(message));
}

export function openScope(gpu: Gpu): Scope {
  const scope: Scope = { created: new Set() };
  streamOf(gpu).scopes.push(scope);
  return scope;
}

/** Ends a scope: what it created dies, except `kept`, which moves to the enclosing scope. Returns `kept` storages without one. */
export function closeScope(gpu: Gpu, scope: Scope, kept: ReadonlySet<Storage>): Storage[] {
  const stream = streamOf(gpu);
  for (const storage of kept) materialize(storage); // it may read what dies now
  const index = stream.scopes.indexOf(scope);
  const overlaps = index >= 0 && index < stream.scopes.length - 1;
  if (index >= 0) stream.scopes.splice(index, 1);
  const outer = stream.scopes[index - 1];
  const orphans: Storage[] = [];
  for (const storage of scope.created) {
    if (kept.has(storage)) {
      if (outer) outer.created.add(storage);
      else orphans.push(storage);
    } else if (stream.capturing && storage.buffer) {
      outer!.created.add(storage); // a constant of the recording
    } else {
      storage.dead = true;
      stream.deferred.delete(storage);
      if (storage.buffer) stream.retiring.push(storage.buffer);
    }
  }
  if (!stream.capturing && !stream.pending.length) flush(gpu);
  if (overlaps) {
    throw new GpuError(
      'scope: it ended before a scope that began after it: two asynchronous scopes overlap, and what one made may be the ' +
        "other's. Await one before the next begins, or use one scope for both.",
    );
  }
  return orphans;
}

/** Whether results are checked. One list is then one portion, so that an error can name a launch by its place in the list. */
const isWatching = ({ flags }: Gpu): boolean => flags.checkNan || flags.checkLabels;

/** Gives a portion to the GPU as this Gpu's switches ask; returns the reason if it is withheld. */
function give(gpu: Gpu, portion: Portion): GpuError | undefined {
  const { launches } = portion;
  return attempt(gpu, portion, () => {
    // Everything is encoded in this call; only the results are awaited.
    const nan = gpu.flags.checkNan ? findNonFinite(gpu, launches) : void submit(gpu, launches);
    if (!isWatching(gpu)) return undefined;
    const labels = gpu.flags.checkLabels ? judgeWatched(gpu, launches) : undefined;
    return Promise.all([nan, labels]).then((sentences) => {
      const said = sentences.find((sentence) => sentence);
      return said ? new GpuError(said) : undefined;
    });
  });
}

/** With WGRAD_SYNC=1 every launch is a portion, and its error carries the line that called the op. */
const alone = (launches: readonly Launch[], fresh: (storage: Storage) => boolean): Portion[] => {
  const begun = new Set<Storage>();
  return launches.map((launch) => {
    const begins = (storage: Storage): boolean => fresh(storage) && !begun.has(storage);
    const portion = portionOf([launch], begins, () => true, fresh);
    for (const { storage } of writtenBy(launch)) begun.add(storage);
    return portion;
  });
};

/**
 * Plans and submits the pending launches. Storages of open scopes keep their buffers; those of ended scopes share.
 * @example
 * const y = square(tensor(gpu, [3])); // recorded, not submitted
 * flush(gpu);
 * console.log(await y.item()); // 9
 */
export function flush(gpu: Gpu): void {
  const stream = streamOf(gpu);
  if (stream.capturing) throw new GpuError('flush: inside a captured step. Return the tensor and read it afterwards.');
  for (const storage of [...stream.deferred]) materialize(storage);
  const launches = stream.pending;
  stream.pending = [];
  stream.pendingBytes = 0;
  if (launches.length) {
    gpu.check();
    const planned = plan(usesOf(launches), (storage) => !storage.dead, gpu.flags.pool);
    const buffers = place(gpu, launches, planned);
    const placed = new Set(planned.buffers.flatMap(({ storages }) => storages));
    const begins = (storage: Storage): boolean => placed.has(storage);
    let portions: Portion[];
    if (gpu.flags.sync) portions = alone(launches, begins);
    else if (isWatching(gpu)) portions = [portionOf(launches, begins, (storage) => !storage.dead)];
    else portions = portionsOf(launches, planned);
    for (const portion of portions) give(gpu, portion);
    planned.buffers.forEach(({ storages, kept }, i) => {
      for (const storage of storages) if (storage.dead) storage.buffer = undefined;
      if (!kept) release(gpu, buffers[i]!);
    });
    for (const numbers of buffers.slice(planned.buffers.length)) release(gpu, numbers);
  }
  for (const buffer of stream.retiring.splice(0)) release(gpu, buffer);
}

/**
 * Runs a recording that has buffers, as a whole or not at all. Throws the reason if it is already known that it cannot run; errors
 * that the driver reports later reach whoever reads the results.
 */
export function replay(gpu: Gpu, { launches, portion, temporaries, changes }: Recording): void {
  gpu.check();
  for (const range of changes) noteChange(range, 'a captured step');
  for (const one of gpu.flags.sync ? alone(launches, (storage) => temporaries.has(storage)) : [portion]) {
    const reason = give(gpu, one);
    if (reason) throw gpu.hear(reason);
  }
}

/** A recorded list and its plan: what a captured step keeps. */
export interface Recording {
  readonly launches: readonly Launch[];
  readonly plan: Plan;
  /** Tensors with data that were made while recording. */
  readonly constants: readonly Storage[];
  /** Storages whose contents begin in it. */
  readonly temporaries: ReadonlySet<Storage>;
  /** Other ranges that it writes. */
  readonly changes: readonly Bindable[];
  readonly portion: Portion;
  /** Why this GPU can plan it but not run it. */
  readonly tooLarge: GpuError | undefined;
}

/**
 * Runs `work` with a separate recording and plans it. `keptBy` names the storages that the result needs; `onKernel` is called at
 * once with every kernel. Nothing is allocated or submitted. Throws if the step records nothing, captures, reads or is asynchronous.
 */
export function recordList<T>(
  gpu: Gpu,
  work: () => T,
  keptBy: (result: T) => ReadonlySet<Storage>,
  onKernel?: (k: Kernel) => void,
): { result: T; recording: Recording } {
  const stream = streamOf(gpu);
  if (stream.capturing)
    throw new GpuError('capture: inside a captured step. Steps do not nest; call one function from one step.');
  flush(gpu);
  const buffers = buffersOf(gpu);
  const scope = openScope(gpu);
  stream.capturing = true;
  stream.offence = undefined;
  stream.tooLarge = undefined;
  stream.onKernel = onKernel;
  let done = false;
  try {
    const result = work();
    if (stream.offence) throw stream.offence;
    if (result instanceof Promise) {
      result.catch(() => {}); // its own error would come after this one
      throw new GpuError(
        'capture: the step is asynchronous. Record synchronously and read the returned tensors afterwards.',
      );
    }
    const kept = keptBy(result);
    for (const storage of kept) materialize(storage);
    const launches = stream.pending;
    if (!launches.length)
      throw new GpuError('capture: the step records nothing. Call at least one op in it, on tensors of its device.');
    const planned = plan(usesOf(launches), (storage) => kept.has(storage), gpu.flags.pool);
    const constants = [...scope.created].filter((storage) => storage.buffer);
    // What the step does not return shares its buffer with others: reading it afterwards would give someone else's values.
    for (const storage of scope.created) if (!storage.buffer && !kept.has(storage)) storage.dead = true;
    const temporaries = new Set(planned.buffers.flatMap(({ storages }) => storages));
    const portion = portionOf(
      launches,
      (storage) => temporaries.has(storage),
      (storage) => !temporaries.has(storage) || kept.has(storage),
    );
    const changes = launches.flatMap(writtenBy).filter(({ storage }) => !temporaries.has(storage));
    done = true;
    return {
      result,
      recording: { launches, plan: planned, constants, temporaries, changes, portion, tooLarge: stream.tooLarge },
    };
  } finally {
    stream.capturing = gpu.trusting = false;
    stream.onKernel = undefined;
    stream.pending = [];
    stream.deferred.clear(); // they were never read
    stream.scopes.splice(stream.scopes.indexOf(scope)); // the recording owns what was created
    if (!done) abandon(gpu, scope, buffers);
  }
}

/** Frees what a failed recording made; `buffers` existed before it. */
function abandon(gpu: Gpu, { created }: Scope, buffers: ReadonlySet<GPUBuffer>): void {
  for (const storage of created) {
    const { buffer } = storage;
    storage.dead = true;
    storage.deferred = undefined;
    storage.buffer = undefined;
    if (!buffer || storage.external) continue;
    if (buffers.has(buffer)) release(gpu, buffer);
    else destroy(gpu, buffer);
  }
}

/** Compiles all kernels of a recording in parallel. */
export const compileRecording = (gpu: Gpu, { launches }: Recording, onProgress?: OnProgress): Promise<void> =>
  compileAll(
    gpu,
    launches.map(({ kernel: k }) => k),
    onProgress,
  );
