// Rows of class values, the last axis of an array, in float64.
import type { NdArray } from './nd-array.js';

export const rowsOf = (x: NdArray): Float64Array[] => {
  const classes = x.shape.at(-1)!;
  return Array.from({ length: x.data.length / classes }, (_, i) => x.data.subarray(i * classes, (i + 1) * classes));
};

/** Probabilities of every row. */
export function softmaxRows(x: NdArray): Float64Array[] {
  const rows = rowsOf({ shape: x.shape, data: x.data.slice() });
  for (const row of rows) {
    let most = -Infinity;
    for (let k = 0; k < row.length; k++) most = Math.max(most, row[k]!);
    let sum = 0;
    for (let k = 0; k < row.length; k++) sum += row[k] = Math.exp(row[k]! - most);
    for (let k = 0; k < row.length; k++) row[k]! /= sum;
  }
  return rows;
}

/** The first of the largest. */
export const argmaxOf = (row: ArrayLike<number>): number => {
  let best = 0;
  for (let k = 1; k < row.length; k++) if (row[k]! > row[best]!) best = k;
  return best;
};
