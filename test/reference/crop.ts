// Crops of volumes and crops added back, voxel by voxel in float64: a crop is cut out as it lies, and then turned as a whole.
import type { Crop } from '../../engine/index.js';
import { type NdArray, ndArray } from './nd-array.js';
import { turnedPlaces } from './views.js';

/** For each voxel of a crop of `sides`, row-major: where it lies within the crop as it was cut, as [plane, row, column]. */
export function placesOf(turn: number, sides: readonly number[]): [number, number, number][] {
  const [depth, height, width] = (sides.length === 2 ? [1, ...sides] : sides) as [number, number, number];
  const planes = Array.from({ length: depth }, (_, z) => z);
  if (turn >= 8) planes.reverse();
  return planes.flatMap((z) =>
    turnedPlaces(turn & 7, height, width)
      .flat()
      .map(([y, x]): [number, number, number] => [z, y, x]),
  );
}

/** Index in x of the voxel that each voxel of the crop shows; undefined outside of its volume. */
export function voxelsOf(
  { start = 0, sides, first, turn = 0 }: Crop,
  cropSides: readonly number[],
): (number | undefined)[] {
  const [depth, height, width] = (sides.length === 2 ? [1, ...sides] : sides) as [number, number, number];
  const [z0, y0, x0] = (sides.length === 2 ? [0, ...first] : first) as [number, number, number];
  return placesOf(turn, cropSides).map(([z, y, x]) => {
    const [p, r, c] = [z0 + z, y0 + y, x0 + x];
    const isInside = p >= 0 && p < depth && r >= 0 && r < height && c >= 0 && c < width;
    return isInside ? start + (p * height + r) * width + c : undefined;
  });
}

/** Crops of x [voxels] or [voxels, C]; an undefined crop is empty. */
export function crop(x: NdArray, crops: readonly (Crop | undefined)[], sides: readonly number[]): NdArray {
  const [, ...rest] = x.shape;
  const channels = rest[0] ?? 1;
  const voxels = sides.reduce((a, b) => a * b, 1);
  const y = ndArray([crops.length, ...sides, ...rest]);
  crops.forEach((each, b) => {
    if (!each) return;
    voxelsOf(each, sides).forEach((from, i) => {
      for (let c = 0; c < channels; c++)
        y.data[(b * voxels + i) * channels + c] = from === undefined ? 0 : x.data[from * channels + c]!;
    });
  });
  return y;
}

/** sums [voxels, C] with the crops y [B, …sides, C] added where they were taken from, times their places' weights. */
export function addCrops(
  sums: NdArray,
  y: NdArray,
  crops: readonly (Crop | undefined)[],
  weights?: readonly (readonly number[])[],
): NdArray {
  const sides = y.shape.slice(1, -1);
  const channels = y.shape.at(-1)!;
  const voxels = sides.reduce((a, b) => a * b, 1);
  const result = ndArray(sums.shape, sums.data);
  const rows = weights && (sides.length === 2 ? [[1], ...weights] : weights);
  crops.forEach((each, b) => {
    if (!each) return;
    const places = placesOf(each.turn ?? 0, sides);
    voxelsOf(each, sides).forEach((to, i) => {
      if (to === undefined) return;
      const weight = rows ? places[i]!.reduce((product, at, axis) => product * rows[axis]![at]!, 1) : 1;
      for (let c = 0; c < channels; c++)
        result.data[to * channels + c]! += weight * y.data[(b * voxels + i) * channels + c]!;
    });
  });
  return result;
}
