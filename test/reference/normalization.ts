// Plain-loop normalisation over the rows of each group.
import { type NdArray, ndArray } from './nd-array.js';

/** γ (x − μ)/√(σ² + ε) + β over x [N, ..., C] in so many equal groups of rows, or in groups of so many items; σ² is biased. */
export function normalization(
  x: NdArray,
  gamma: NdArray,
  beta: NdArray,
  groups: number | readonly number[],
  epsilon = 1e-5,
): NdArray {
  const channels = x.shape.at(-1)!;
  const all = x.data.length / channels;
  const y = ndArray(x.shape);
  const counts =
    typeof groups === 'number'
      ? Array<number>(groups).fill(all / groups)
      : groups.map((items) => (items * all) / x.shape[0]!);
  let first = 0;
  for (const rows of counts) {
    for (let c = 0; c < channels; c++) {
      const start = first;
      const index = (row: number) => (start + row) * channels + c;
      let mean = 0;
      for (let row = 0; row < rows; row++) mean += x.data[index(row)]! / rows;
      let variance = 0;
      for (let row = 0; row < rows; row++) variance += (x.data[index(row)]! - mean) ** 2 / rows;
      for (let row = 0; row < rows; row++) {
        y.data[index(row)] =
          ((x.data[index(row)]! - mean) / Math.sqrt(variance + epsilon)) * gamma.data[c]! + beta.data[c]!;
      }
    }
    first += rows;
  }
  return y;
}
