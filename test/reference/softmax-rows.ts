// Rows of class values, the last axis of an array, in float64.
import type { NdArray } from './nd-array.js';

export const rowsOf = (x: NdArray): Float64Array[] => {
  const classes = x.shape.at(-1)!;
  return Array.from({ length: x.data.length / classes }, (_, i) => x.data.subarray(i * classes, (i + 1) * classes));
};

/** Probabilities of every row. */
export const softmaxRows = (x: NdArray): Float64Array[] =>
  rowsOf(x).map((row) => {
    const most = Math.max(...row);
    const powers = row.map((v) => Math.exp(v - most));
    const sum = powers.reduce((total, v) => total + v, 0);
    return powers.map((v) => v / sum);
  });

/** The first of the largest. */
export const argmaxOf = (row: ArrayLike<number>): number => {
  let best = 0;
  for (let k = 1; k < row.length; k++) if (row[k]! > row[best]!) best = k;
  return best;
};
