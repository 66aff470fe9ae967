// Detach: where a gradient ends.
import { type Tensor, view } from '../tensor.js';
import { expectTensors } from './float-type.js';

/** The same elements as a constant to autograd: no gradient flows back through the result. Moves nothing. */
export function detach(x: Tensor): Tensor {
  expectTensors('detach', x);
  return view(x, x.shape);
}
