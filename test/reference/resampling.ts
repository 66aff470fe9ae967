// Maximum of windows of two, and upsampling by a whole factor, over [N, H, W, C] and [N, D, H, W, C], by plain loops.
import { at, fromIndex, type NdArray } from './nd-array.js';

/** All corners of a cube of that many axes, the last axis fastest: [0, 0], [0, 1], … */
const corners = (axes: number): number[][] =>
  Array.from({ length: 2 ** axes }, (_, i) => Array.from({ length: axes }, (_, axis) => (i >> (axes - 1 - axis)) & 1));

const scaled = ({ shape }: NdArray, scale: (n: number) => number): number[] => [
  shape[0]!,
  ...shape.slice(1, -1).map(scale),
  shape.at(-1)!,
];

const windowOf = (x: NdArray, [item, ...rest]: readonly number[]): number[] => {
  const channel = rest.pop()!;
  return corners(rest.length).map((corner) => at(x, [item!, ...rest.map((n, i) => 2 * n + corner[i]!), channel]));
};

export const maxPool = (x: NdArray): NdArray =>
  fromIndex(
    scaled(x, (n) => Math.floor(n / 2)),
    (index) => Math.max(...windowOf(x, index)),
  );

export const averagePool = (x: NdArray): NdArray =>
  fromIndex(
    scaled(x, (n) => Math.floor(n / 2)),
    (index) => windowOf(x, index).reduce((sum, v, _, all) => sum + v / all.length, 0),
  );

/** Linear interpolation on an axis of `size` inputs and factor·size outputs with aligned corners. */
const position = (out: number, size: number, factor: number): [low: number, high: number, fraction: number] => {
  const exact = (out * (size - 1)) / (factor * size - 1);
  const low = Math.min(size - 1, Math.floor(exact + 1e-12));
  return [low, Math.min(size - 1, low + 1), exact - low];
};

export const upsample = (x: NdArray, factor = 2, mode: 'linear' | 'nearest' = 'linear'): NdArray =>
  fromIndex(
    scaled(x, (n) => factor * n),
    ([item, ...rest]) => {
      const channel = rest.pop()!;
      if (mode === 'nearest') return at(x, [item!, ...rest.map((out) => Math.floor(out / factor)), channel]);
      const places = rest.map((out, axis) => position(out, x.shape[axis + 1]!, factor));
      return corners(rest.length).reduce((sum, corner) => {
        const weight = places.reduce((w, [, , fraction], i) => w * (corner[i] ? fraction : 1 - fraction), 1);
        return sum + weight * at(x, [item!, ...places.map((place, i) => place[corner[i]!]!), channel]);
      }, 0);
    },
  );
