import { suite } from 'uvu';
import { upsample } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { at, fromIndex, type NdArray } from '../reference/nd-array.js';

const test = suite('upsample');

/** Linear interpolation on an axis of `size` inputs and 2·size outputs with aligned corners. */
const position = (out: number, size: number): [low: number, high: number, fraction: number] => {
  const exact = (out * (size - 1)) / (2 * size - 1);
  const low = Math.min(size - 1, Math.floor(exact + 1e-12));
  return [low, Math.min(size - 1, low + 1), exact - low];
};

const reference = (x: NdArray): NdArray => {
  const [n, h, w, c] = x.shape as [number, number, number, number];
  return fromIndex([n, 2 * h, 2 * w, c], ([i, row, column, k]) => {
    const [r0, r1, u] = position(row!, h);
    const [c0, c1, v] = position(column!, w);
    const read = (r: number, s: number) => at(x, [i!, r, s, k!]);
    return (1 - u) * ((1 - v) * read(r0, c0) + v * read(r0, c1)) + u * ((1 - v) * read(r1, c0) + v * read(r1, c1));
  });
};

for (const shape of [
  [1, 1, 1, 1],
  [1, 1, 5, 3],
  [2, 3, 4, 4],
  [1, 7, 1, 2],
  [1, 2, 2, 8],
  [1, 3, 65, 5],
]) {
  test(`[${shape}]`, () => checkOp({ op: (x) => upsample(x!), reference: (x) => reference(x!), inputs: [{ shape }] }));
}

test.run();
