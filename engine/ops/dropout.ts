// Inverted dropout without a stored mask: backward draws the same numbers again from seed, step and stream.
import { dropoutShader } from '../../shaders/dropout.js';
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { expectRandom, type Random } from './random.js';

/**
 * Sets elements to 0 with probability `rate` in [0, 1) and divides the others by 1 − rate (Srivastava et al., JMLR 2014).
 * Takes one stream of `random` when it is recorded.
 */
export function dropout(x: Tensor, rate: number, random: Random): Tensor {
  if (!(rate >= 0 && rate < 1)) throw new ShapeError(`dropout: rate must be in [0, 1) — got ${rate}.`);
  const dtype = floatType('dropout', x);
  expectRandom('dropout', random);
  // Stream number and rate are data, so that all dropout layers run the same pipeline.
  const stream = tensor(x.gpu, [random.next()], [1], { dtype: 'u32', label: 'stream' });
  const masked = (from: Tensor): Tensor => {
    const y = empty(x.gpu, x.shape, dtype, 'dropout');
    const args = { random: random.state, stream, x: from, y, numbers: [rate, 1 / (1 - rate)] };
    run(dropoutShader(dtype, x.size), args, { threads: Math.ceil(x.size / 4) });
    return y;
  };
  return record('dropout', masked(x), [x], (dy) => [masked(dy)]);
}
