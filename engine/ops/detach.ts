// Detach: where a gradient ends.
import { type Tensor, view } from '../tensor.js';
import { expectTensors } from './float-type.js';

/**
 * The same elements as a constant to autograd: no gradient flows back through the result. Moves nothing.
 * @example
 * const x = tensor(gpu, [1, 2], [2], { requiresGrad: true });
 * console.log(await backward(sum(mul(x, detach(x)))).get(x).read()); // [1, 2]
 */
export function detach(x: Tensor): Tensor {
  expectTensors('detach', x);
  return view(x, x.shape);
}
