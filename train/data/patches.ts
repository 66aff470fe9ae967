// Patches cut out of samples that stay in memory, for training. A sample of at most 256 different values, which most stored volumes are,
// is kept as bytes and a table: a quarter of the memory, and the same numbers to the bit.
import { type PatchDraw, planeWalk, transformedShape } from './augment.js';
import type { Triple } from './orientation.js';
import type { NativeSample } from './samples.js';

/** Values of a sample: themselves, or for each the place of its value in `table`. */
export interface Levels {
  readonly values: Float32Array | Uint8Array;
  /** Absent where `values` are the numbers themselves. */
  readonly table?: Float32Array;
}

/** A sample as it is kept: on its own grid, [depth, height, width]. */
export interface StoredSample extends Pick<NativeSample, 'id' | 'z' | 'shape' | 'label'> {
  readonly image: Levels;
}

/** A sample as it is kept for cutting patches; it shares no memory with the volume that it came from. */
export const storedSample = ({ id, z, shape, image, label }: NativeSample): StoredSample => ({
  ...{ id, z, shape, label },
  image: levelsOf(image),
});

const slots = 1024; // of a hash table for at most 256 values

/** Values as bytes and a table where there are at most 256 different ones, else as they are. */
export function levelsOf(values: Float32Array): Levels {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const codeAt = new Int16Array(slots).fill(-1);
  const codes = new Uint8Array(values.length);
  const table: number[] = [];
  const tableBits: number[] = [];
  for (let i = 0; i < bits.length; i++) {
    const own = bits[i]!;
    let slot = Math.imul(own, 0x9e3779b1) >>> 22;
    let code = codeAt[slot]!;
    while (code >= 0 && tableBits[code] !== own) {
      slot = (slot + 1) % slots;
      code = codeAt[slot]!;
    }
    if (code < 0) {
      if (table.length === 256) return { values };
      code = table.length;
      codeAt[slot] = code;
      tableBits.push(own);
      table.push(values[i]!);
    }
    codes[i] = code;
  }
  return { values: codes, table: Float32Array.from(table) };
}

/** Along an axis of `length`: the first position of a patch of `side` there, negative where the patch is longer (padded on both sides). */
const firstOf = (length: number, side: number, place: number): number =>
  length < side ? -Math.floor((side - length) / 2) : Math.floor(place * (length - side + 1));

/**
 * Cuts a patch [depth, height, width] out of a sample into `image` and `label`. The sample is turned and flipped, then the patch is placed
 * uniformly among all places where it fits; beyond the sample both are 0.
 */
export function cutPatch(
  sample: StoredSample,
  patch: Triple,
  { transform, place }: PatchDraw,
  image: Float32Array,
  label: Uint8Array,
): void {
  const plane = [sample.shape[1], sample.shape[2]] as const;
  const sides = [sample.shape[0], ...transformedShape(plane, transform)];
  const first = sides.map((length, axis) => firstOf(length, patch[axis]!, place[axis]!));
  const walk = planeWalk(plane, transform);
  const [depth, height, width] = patch;
  // Of the patch, what lies inside the sample.
  const from = first.map((at) => Math.max(0, -at));
  const end = first.map((at, axis) => Math.min(patch[axis]!, sides[axis]! - at));
  if (end.some((to, axis) => to - from[axis]! < patch[axis]!)) {
    image.fill(0);
    label.fill(0);
  }
  const count = end[2]! - from[2]!;
  for (let z = from[0]!; z < end[0]!; z++) {
    const start = (first[0]! + z) * plane[0] * plane[1] + walk.first + (first[2]! + from[2]!) * walk.right;
    for (let y = from[1]!; y < end[1]!; y++) {
      const source = start + (first[1]! + y) * walk.down;
      const to = (z * height + y) * width + from[2]!;
      const { values, table } = sample.image;
      if (table) lookUp(values as Uint8Array, table, source, walk.right, image, to, count);
      else copyNumbers(values as Float32Array, source, walk.right, image, to, count);
      if (sample.label) copyBytes(sample.label, source, walk.right, label, to, count);
    }
  }
  if (!sample.label) label.subarray(0, depth * height * width).fill(0);
}

// Three loops that say the same of three types: one function of all three would cost several times as much.
function lookUp(
  values: Uint8Array,
  table: Float32Array,
  source: number,
  step: number,
  target: Float32Array,
  to: number,
  count: number,
) {
  for (let x = 0, at = source; x < count; x++, at += step) target[to + x] = table[values[at]!]!;
}

function copyNumbers(
  values: Float32Array,
  source: number,
  step: number,
  target: Float32Array,
  to: number,
  count: number,
) {
  if (step === 1) target.set(values.subarray(source, source + count), to);
  else for (let x = 0, at = source; x < count; x++, at += step) target[to + x] = values[at]!;
}

function copyBytes(values: Uint8Array, source: number, step: number, target: Uint8Array, to: number, count: number) {
  if (step === 1) target.set(values.subarray(source, source + count), to);
  else for (let x = 0, at = source; x < count; x++, at += step) target[to + x] = values[at]!;
}
