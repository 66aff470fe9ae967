// Memory of tensors. Temporaries of a recorded list share whole buffers if their lifetimes do not overlap. There is no arena: one
// launch may not bind a buffer for reading and for writing, even at disjoint ranges.

import { type Gpu, GpuError, type Outcome } from './device.js';
import { FreeBuffers } from './free-buffers.js';

/** Contents that no launch has computed yet; `materialize` records the launch that computes them from `reads`. */
export interface Deferred {
  readonly reads: readonly Storage[];
  materialize(): void;
}

/** The memory behind one tensor and its reshaped views. */
export class Storage {
  readonly bytes: number;
  readonly label: string;
  /** Its scope has ended: readable only by launches that were recorded before. */
  dead = false;
  /** Set until the launch that computes the contents is recorded. */
  deferred: Deferred | undefined;
  /** What keeps the buffer alive when this storage does not own it (a captured step). */
  owner: object | undefined;
  /** The buffer is an embedder's: never pooled, never destroyed. */
  external = false;
  /** What the driver reports about an embedder's buffer. */
  probe: Outcome | undefined;
  /** Apart from the storage, so that the buffer can be released when the storage has been collected. */
  readonly cell: { buffer: GPUBuffer | undefined } = { buffer: undefined };

  constructor(bytes: number, label: string) {
    this.bytes = bytes;
    this.label = label;
  }

  get buffer(): GPUBuffer | undefined {
    return this.cell.buffer;
  }

  set buffer(buffer: GPUBuffer | undefined) {
    this.cell.buffer = buffer;
  }
}

const collected = new FinalizationRegistry<{ gpu: Gpu; cell: { buffer: GPUBuffer | undefined } }>(({ gpu, cell }) => {
  if (cell.buffer) release(gpu, cell.buffer);
  cell.buffer = undefined;
});

/** Releases the storage's buffer when nothing refers to the storage any more; for storages that no scope owns. */
export const releaseWhenCollected = (gpu: Gpu, storage: Storage): void =>
  collected.register(storage, { gpu, cell: storage.cell });

const usage = 0x80 | 0x4 | 0x8; // STORAGE | COPY_SRC | COPY_DST

interface Pool {
  /** Every buffer that exists, in use or not, and its size. */
  readonly all: Map<GPUBuffer, number>;
  readonly free: FreeBuffers;
  bytes: number;
  peak: number;
}

const pools = new WeakMap<Gpu, Pool>();

function poolOf(gpu: Gpu): Pool {
  let pool = pools.get(gpu);
  if (!pool) {
    const made: Pool = { all: new Map(), free: new FreeBuffers(), bytes: 0, peak: 0 };
    pools.set(gpu, (pool = made));
    gpu.onClose(() => {
      for (const buffer of made.all.keys()) buffer.destroy();
      made.all.clear();
      made.free.clear();
      made.bytes = 0;
    });
  }
  return pool;
}

/** Destroys a buffer and forgets it. */
function discard(pool: Pool, buffer: GPUBuffer): void {
  const size = pool.all.get(buffer);
  if (size === undefined) return; // the Gpu was closed
  pool.all.delete(buffer);
  pool.bytes -= size;
  pool.free.remove(buffer, size);
  buffer.destroy();
}

/** Destroys a buffer that nothing uses. */
export const destroy = (gpu: Gpu, buffer: GPUBuffer): void => discard(poolOf(gpu), buffer);

/** The buffers that exist now. */
export const buffersOf = (gpu: Gpu): ReadonlySet<GPUBuffer> => new Set(poolOf(gpu).all.keys());

/**
 * Bytes of buffers that exist on this device, and the most there ever were.
 * @example
 * console.log(memoryOf(gpu).bytes > 0); // true
 */
export const memoryOf = (gpu: Gpu): { bytes: number; peak: number; freeBytes: number } => {
  const { bytes, peak, free } = poolOf(gpu);
  return { bytes, peak, freeBytes: free.bytes };
};

/** Bytes as messages print them. */
export const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** Buffers that the GPU has not confirmed yet, or could not make. */
const made = new WeakMap<GPUBuffer, Outcome>();

/** The outcome of making a buffer; undefined once it is known to exist. */
export const makingOf = (buffer: GPUBuffer): Outcome | undefined => made.get(buffer);

/** The error of a buffer that this device cannot make, or cannot bind. */
export function sizeProblem(gpu: Gpu, bytes: number, label: string): GpuError | undefined {
  const limit = Math.min(gpu.limits.maxBufferSize, gpu.limits.maxStorageBufferBindingSize);
  if (bytes <= limit) return undefined;
  return new GpuError(
    `${label}: needs a buffer of ${megabytes(bytes)}, this GPU binds at most ${megabytes(limit)}. Reduce batch or patch size.`,
  );
}

/** A buffer of at least `bytes`: the smallest free one that is at most twice as large, else a new one. */
export function acquire(gpu: Gpu, bytes: number, label: string): GPUBuffer {
  gpu.check();
  const pool = poolOf(gpu);
  const size = Math.max(16, Math.ceil(bytes / 16) * 16);
  if (gpu.flags.pool) {
    const found = pool.free.take(size, 2 * size);
    if (found) return found;
  }
  const problem = sizeProblem(gpu, size, label);
  if (problem) throw problem;
  const before = megabytes(pool.bytes);
  const { value: buffer, outcome } = gpu.guard(
    () => gpu.device.createBuffer({ label, size, usage }),
    () => `${label}: out of GPU memory — ${megabytes(size)} more than ${before} in use. Reduce batch or patch size.`,
  );
  pool.bytes += size;
  pool.peak = Math.max(pool.peak, pool.bytes);
  pool.all.set(buffer, size);
  made.set(buffer, outcome);
  void outcome.done.then(() => {
    if (outcome.error) discard(pool, buffer);
    else made.delete(buffer);
  });
  return buffer;
}

/** Returns a buffer to the pool. Launches submitted before may still use it, since later ones run after them. */
export function release(gpu: Gpu, buffer: GPUBuffer): void {
  const pool = poolOf(gpu);
  const size = pool.all.get(buffer);
  if (!gpu.flags.pool) discard(pool, buffer);
  else if (size !== undefined) pool.free.add(buffer, size);
}

/**
 * Destroys every unused buffer that wgrad keeps for reuse (`memoryOf(gpu).freeBytes`). Worth it after large work that does not
 * repeat; later work has to make new buffers.
 * @example
 * trim(gpu);
 * console.log(memoryOf(gpu).freeBytes); // 0
 */
export function trim(gpu: Gpu): void {
  const pool = poolOf(gpu);
  for (const buffer of pool.free.clear()) discard(pool, buffer);
}

/** A buffer to be made, and the storages that share it one after another. */
export interface PlannedBuffer {
  bytes: number;
  readonly storages: Storage[];
  /** Whether one of its storages outlives the list. */
  kept: boolean;
}

export interface Plan {
  readonly buffers: PlannedBuffer[];
  /** Bytes that the storages would take if each had its own buffer. */
  readonly unsharedBytes: number;
  readonly plannedBytes: number;
}

/**
 * Plans buffers for the storages that have none: largest first, each into the smallest buffer whose other storages do not overlap
 * it in lifetime (first to last use, both inclusive). `kept` storages live to the end of the list. Without `share` each storage has
 * its own buffer.
 */
export function plan(uses: readonly (readonly Storage[])[], kept: (storage: Storage) => boolean, share = true): Plan {
  const lives = new Map<Storage, { first: number; last: number }>();
  uses.forEach((storages, i) => {
    for (const storage of storages) {
      if (storage.buffer) continue;
      const life = lives.get(storage);
      if (life) life.last = i;
      else lives.set(storage, { first: i, last: i });
    }
  });
  const buffers: (PlannedBuffer & { lives: { first: number; last: number }[] })[] = [];
  const ordered = [...lives].sort(([a, p], [b, q]) => b.bytes - a.bytes || p.first - q.first);
  for (const [storage, life] of ordered) {
    const keep = kept(storage);
    if (keep) life.last = Number.POSITIVE_INFINITY;
    const fits = (buffer: (typeof buffers)[number]) =>
      buffer.lives.every((l) => l.last < life.first || life.last < l.first);
    // Buffers are in decreasing size, so the last that fits is the smallest.
    let buffer = share ? buffers.findLast(fits) : undefined;
    if (!buffer) buffers.push((buffer = { bytes: storage.bytes, storages: [], kept: false, lives: [] }));
    buffer.storages.push(storage);
    buffer.lives.push(life);
    buffer.kept ||= keep;
  }
  return {
    buffers,
    unsharedBytes: ordered.reduce((sum, [storage]) => sum + storage.bytes, 0),
    plannedBytes: buffers.reduce((sum, buffer) => sum + buffer.bytes, 0),
  };
}
