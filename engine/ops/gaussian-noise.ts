// Clipped Gaussian noise from counter-based random numbers. The gradient is dy itself, so nothing is kept for the backward pass.
import { gaussianNoiseShader } from '../../shaders/gaussian-noise.js';
import { checkOptions } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { expectRandom, type Random } from './random.js';

/**
 * x plus normal noise of the given standard deviation, limited to ±clip (unlimited if not given). Takes one stream of
 * `random` when it is recorded.
 */
export function gaussianNoise(x: Tensor, options: { deviation: number; clip?: number; random: Random }): Tensor {
  checkOptions('gaussianNoise', options, ['deviation', 'clip', 'random']);
  const { deviation, clip, random } = options;
  if (!(deviation >= 0) || (clip !== undefined && !(clip >= 0))) {
    throw new ShapeError(`gaussianNoise: deviation and clip must not be negative — got ${deviation} and ${clip}.`);
  }
  const dtype = floatType('gaussianNoise', x);
  expectRandom('gaussianNoise', random);
  const stream = tensor(x.gpu, [random.next()], [1], { dtype: 'u32', label: 'stream' });
  const y = empty(x.gpu, x.shape, dtype, 'gaussianNoise');
  const numbers = [deviation, clip ?? Number.POSITIVE_INFINITY];
  const source = gaussianNoiseShader(dtype, x.size);
  run(source, { random: random.state, stream, x, y, numbers }, { threads: Math.ceil(x.size / 4) });
  return record('gaussianNoise', y, [x], (dy) => [dy]);
}
