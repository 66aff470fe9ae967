// Plain-loop normalisation over the rows of each group.
import { type NdArray, ndArray } from './nd-array.js';

/** γ (x − μ)/√(σ² + ε) + β over x [groups · rows, C]; σ² is biased. */
export function normalization(x: NdArray, gamma: NdArray, beta: NdArray, groups: number, epsilon = 1e-5): NdArray {
  const channels = x.shape.at(-1)!;
  const rows = x.data.length / channels / groups;
  const y = ndArray(x.shape);
  for (let g = 0; g < groups; g++) {
    for (let c = 0; c < channels; c++) {
      const index = (row: number) => (g * rows + row) * channels + c;
      let mean = 0;
      for (let row = 0; row < rows; row++) mean += x.data[index(row)]! / rows;
      let variance = 0;
      for (let row = 0; row < rows; row++) variance += (x.data[index(row)]! - mean) ** 2 / rows;
      for (let row = 0; row < rows; row++) {
        y.data[index(row)] =
          ((x.data[index(row)]! - mean) / Math.sqrt(variance + epsilon)) * gamma.data[c]! + beta.data[c]!;
      }
    }
  }
  return y;
}
