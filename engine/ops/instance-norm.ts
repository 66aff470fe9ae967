// Instance norm: each item and channel has its own statistics.
import { checkOptions } from '../arguments.js';
import { ShapeError, show } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { expectTensors } from './float-type.js';
import { normalize, sizesOf } from './normalization.js';

/**
 * Instance normalisation of x [N, ..., C] over all axes but the first and the last (Ulyanov et al. 2016); γ, β f32 [C], ε 1e-5 if not
 * given. Throws a ShapeError for other shapes and types, and for images of one pixel.
 * @example
 * const [gamma, beta] = [tensor(gpu, [1]), tensor(gpu, [0])];
 * console.log(await instanceNorm(tensor(gpu, [1, 3, 10, 30], [2, 2, 1]), gamma, beta).read()); // [-1, 1, -1, 1]
 */
export function instanceNorm(x: Tensor, gamma: Tensor, beta: Tensor, options: { epsilon?: number } = {}): Tensor {
  expectTensors('instanceNorm', x);
  checkOptions('instanceNorm', options, ['epsilon']);
  if (x.shape.length < 3) throw new ShapeError(`instanceNorm: got ${show(x.shape)}, expected [N, ..., C].`);
  const sizes = sizesOf('instanceNorm', x, { gamma, beta }, Array<number>(x.shape[0]!).fill(1), true);
  return normalize('instanceNorm', x, gamma, beta, sizes, options.epsilon ?? 1e-5, undefined);
}
