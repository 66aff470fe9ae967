// 2×2 maximum and bilinear ×2 with aligned corners over [N, H, W, C], by plain loops.
import { at, fromIndex, type NdArray } from './nd-array.js';

export const maxPool = (x: NdArray): NdArray =>
  fromIndex([x.shape[0]!, Math.floor(x.shape[1]! / 2), Math.floor(x.shape[2]! / 2), x.shape[3]!], ([i, r, s, k]) =>
    Math.max(...[0, 1].flatMap((a) => [0, 1].map((b) => at(x, [i!, 2 * r! + a, 2 * s! + b, k!])))),
  );

/** Linear interpolation on an axis of `size` inputs and 2·size outputs with aligned corners. */
const position = (out: number, size: number): [low: number, high: number, fraction: number] => {
  const exact = (out * (size - 1)) / (2 * size - 1);
  const low = Math.min(size - 1, Math.floor(exact + 1e-12));
  return [low, Math.min(size - 1, low + 1), exact - low];
};

export const upsample = (x: NdArray): NdArray => {
  const [n, h, w, c] = x.shape as [number, number, number, number];
  return fromIndex([n, 2 * h, 2 * w, c], ([i, row, column, k]) => {
    const [r0, r1, u] = position(row!, h);
    const [c0, c1, v] = position(column!, w);
    const read = (r: number, s: number) => at(x, [i!, r, s, k!]);
    return (1 - u) * ((1 - v) * read(r0, c0) + v * read(r0, c1)) + u * ((1 - v) * read(r1, c0) + v * read(r1, c1));
  });
};
