// Clipped Gaussian noise from counter-based random numbers. The gradient is dy itself, so nothing is kept for the backward pass.
import { gaussianNoiseShader } from '../../shaders/gaussian-noise.js';
import { checkOptions } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { expectRandom, type Random } from './random.js';

/** Options of `gaussianNoise`. */
export interface GaussianNoiseOptions {
  /** Standard deviation of the noise, not negative. */
  readonly std: number;
  /** The noise is limited to ±clip. Default: unlimited. */
  readonly clip?: number;
  /** Source of the noise. */
  readonly random: Random;
}

/**
 * x plus normal noise. Takes one stream of
 * `random` when it is recorded.
 * @example
 * const random = createRandom(gpu, 1337);
 * console.log(gaussianNoise(tensor(gpu, 1, [8]), { std: 0.1, random }).shape); // [8]
 */
export function gaussianNoise(x: Tensor, options: GaussianNoiseOptions): Tensor {
  checkOptions('gaussianNoise', options, ['std', 'clip', 'random']);
  const { std, clip, random } = options;
  if (!(std >= 0) || (clip !== undefined && !(clip >= 0))) {
    throw new ShapeError(`gaussianNoise: std and clip must not be negative — got ${std} and ${clip}.`);
  }
  const dtype = floatType('gaussianNoise', x);
  expectRandom('gaussianNoise', random);
  const stream = tensor(x.gpu, [random.next()], [1], { dtype: 'u32', label: 'stream' });
  const y = empty(x.gpu, x.shape, dtype, 'gaussianNoise');
  const numbers = [std, clip ?? Number.POSITIVE_INFINITY];
  const source = gaussianNoiseShader(dtype, x.size);
  run(source, { random: random.state, stream, x, y, numbers }, { threads: Math.ceil(x.size / 4) });
  return record('gaussianNoise', y, [x], (dy) => [dy]);
}
