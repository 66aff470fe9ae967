// Storage of tensors: which buffer, for how long. Temporaries of a recorded list share whole buffers by their lifetimes
// (a buffer bound for reading and writing in one launch is invalid even for disjoint ranges, so there is no arena).

import { type Gpu, GpuError, type Outcome } from './device.js';
import { FreeBuffers } from './free-buffers.js';

/** Contents that nobody has computed yet: `materialize` records the launch that does, from `reads`. */
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
  /** What the driver says, or will say, of an embedder's buffer. */
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

/** Gives the storage's buffer back when nothing refers to the storage any more (for what no scope owns). */
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
  if (size === undefined) return; // closed since
  pool.all.delete(buffer);
  pool.bytes -= size;
  pool.free.remove(buffer, size);
  buffer.destroy();
}

/** Destroys a buffer that nothing uses. */
export const destroy = (gpu: Gpu, buffer: GPUBuffer): void => discard(poolOf(gpu), buffer);

/** The buffers that exist now. */
export const buffersOf = (gpu: Gpu): ReadonlySet<GPUBuffer> => new Set(poolOf(gpu).all.keys());

/** Bytes of buffers that exist on this device, and the most there ever were. */
export const memoryOf = (gpu: Gpu): { bytes: number; peak: number; freeBytes: number } => {
  const { bytes, peak, free } = poolOf(gpu);
  return { bytes, peak, freeBytes: free.bytes };
};

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** Buffers of which the GPU has not said yet that they exist, or has said that they do not. */
const made = new WeakMap<GPUBuffer, Outcome>();

/** What the GPU says, or will say, of a buffer's making; undefined once it exists. */
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

/** Gives a buffer back. Launches submitted before may still use it: later ones run after them. */
export function release(gpu: Gpu, buffer: GPUBuffer): void {
  const pool = poolOf(gpu);
  const size = pool.all.get(buffer);
  if (!gpu.flags.pool) discard(pool, buffer);
  else if (size !== undefined) pool.free.add(buffer, size);
}

/**
 * Destroys every buffer that wgrad keeps for reuse and nobody uses (`memoryOf(gpu).freeBytes`). Worth it after something large
 * that does not come again; what comes next makes its buffers anew.
 */
export function trim(gpu: Gpu): void {
  const pool = poolOf(gpu);
  for (const buffer of pool.free.clear()) discard(pool, buffer);
}

/** One buffer-to-be and the storages that take turns in it. */
export interface Slot {
  bytes: number;
  readonly storages: Storage[];
  /** A storage in it outlives the list. */
  kept: boolean;
}

export interface Plan {
  readonly slots: Slot[];
  /** Sum of all temporaries, had each its own buffer. */
  readonly unsharedBytes: number;
  readonly plannedBytes: number;
}

/**
 * Assigns the storages that have no buffer yet to slots: largest first, each into the smallest slot whose tenants'
 * lifetimes (first to last use, both inclusive) do not touch its own. `kept` storages live to the end of the list.
 * Without `share` each has a slot of its own.
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
  const slots: (Slot & { lives: { first: number; last: number }[] })[] = [];
  const ordered = [...lives].sort(([a, p], [b, q]) => b.bytes - a.bytes || p.first - q.first);
  for (const [storage, life] of ordered) {
    const keep = kept(storage);
    if (keep) life.last = Number.POSITIVE_INFINITY;
    const fits = (slot: (typeof slots)[number]) => slot.lives.every((l) => l.last < life.first || life.last < l.first);
    // Slots are in decreasing size, so the last that fits is the smallest.
    let slot = share ? slots.findLast(fits) : undefined;
    if (!slot) slots.push((slot = { bytes: storage.bytes, storages: [], kept: false, lives: [] }));
    slot.storages.push(storage);
    slot.lives.push(life);
    slot.kept ||= keep;
  }
  return {
    slots,
    unsharedBytes: ordered.reduce((sum, [storage]) => sum + storage.bytes, 0),
    plannedBytes: slots.reduce((sum, slot) => sum + slot.bytes, 0),
  };
}
