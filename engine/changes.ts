// Times at which the contents of tensors change. A backward pass uses them to notice that an op's inputs were overwritten, and a
// fact about a tensor ends when its contents change. A Gpu's clock ticks at every change: a launch that writes, a copy from the CPU,
// a call of a captured step. Packed tensors share a storage; each range of it has its own time.
import type { Gpu } from './device.js';
import type { Storage } from './memory.js';

/** Bytes of a storage. */
export interface Range {
  readonly gpu: Gpu;
  readonly storage: Storage;
  readonly offset: number;
  readonly bytes: number;
}

interface Change {
  readonly time: number;
  /** What changed it: a kernel's name, or `write()`. */
  readonly by: string;
}

interface History {
  /** Time of the first contents. */
  readonly first: number;
  whole: Change | undefined;
  /** Ranges that changed after the whole did, by offset. */
  readonly ranges: Map<number, Change & { readonly end: number }>;
}

const clocks = new WeakMap<Gpu, number>();
const histories = new WeakMap<Storage, History>();

/** The time of the last change on this Gpu. */
export const now = (gpu: Gpu): number => clocks.get(gpu) ?? 0;

/** Notes that the contents of a range change. */
export function noteChange({ gpu, storage, offset, bytes }: Range, by: string): void {
  const time = now(gpu) + 1;
  clocks.set(gpu, time);
  let history = histories.get(storage);
  if (!history) histories.set(storage, (history = { first: time, whole: undefined, ranges: new Map() }));
  if (offset === 0 && bytes >= storage.bytes) {
    history.whole = { time, by };
    history.ranges.clear();
  } else {
    history.ranges.set(offset, { time, by, end: offset + bytes });
  }
}

/** Whether a recorded launch or a copy gave the storage contents. */
export const hasContents = (storage: Storage): boolean => histories.has(storage);

/** What changed a range after `time`, if it had contents then. */
export function changedSince({ storage, offset, bytes }: Range, time: number): string | undefined {
  const history = histories.get(storage);
  if (!history || history.first > time) return undefined;
  if (history.whole && history.whole.time > time) return history.whole.by;
  for (const [from, change] of history.ranges) {
    if (change.time > time && from < offset + bytes && offset < change.end) return change.by;
  }
  return undefined;
}
