// Tensors of random numbers, drawn on the GPU from a counter: the same seed, step and stream give the same numbers (random.ts).
import { randomValuesShader } from '../../shaders/random-values.js';
import type { Float } from '../../shaders/wgsl.js';
import { checkOptions, showValue } from '../arguments.js';
import { expectGpu, type Gpu } from '../device.js';
import { type Shape, ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { expectRandom, type Random } from './random.js';

/** Options of random tensors. */
export interface RandomOptions {
  /** The source of the numbers, from createRandom. One of its streams is taken when the op is recorded. */
  readonly random: Random;
  /** Default f32. */
  readonly dtype?: Float;
}

function drawn(
  name: string,
  kind: 'uniform' | 'normal',
  gpu: Gpu,
  shape: Shape,
  { random, dtype = 'f32' }: RandomOptions,
  numbers: number[],
): Tensor {
  expectGpu(name, gpu);
  expectRandom(name, random);
  if (dtype !== 'f32' && dtype !== 'f16')
    throw new ShapeError(`${name}: dtype is ${showValue(dtype)} — expected 'f32' or 'f16'.`);
  const y = empty(gpu, shape, dtype, name);
  const stream = tensor(gpu, [random.next()], [1], { dtype: 'u32', label: 'stream' });
  run(
    randomValuesShader(dtype, kind, y.size),
    { random: random.state, stream, y, numbers },
    { threads: Math.ceil(y.size / 4) },
  );
  return y;
}

/**
 * Numbers spread evenly from `low` (default 0) up to `high` (default 1), in steps of (high − low)/2²⁴. `high` itself can come up by
 * rounding alone. No gradient.
 * @example
 * console.log(randomUniform(gpu, [2, 3], { random: createRandom(gpu, 1) }).shape); // [2, 3]
 */
export function randomUniform(
  gpu: Gpu,
  shape: Shape,
  options: RandomOptions & { low?: number; high?: number },
): Tensor {
  checkOptions('randomUniform', options, ['random', 'dtype', 'low', 'high']);
  const { low = 0, high = 1 } = options;
  if (!(low <= high && Number.isFinite(low) && Number.isFinite(high))) {
    throw new ShapeError(
      `randomUniform: low and high are ${showValue(low)} and ${showValue(high)} — expected finite numbers in this order.`,
    );
  }
  return drawn('randomUniform', 'uniform', gpu, shape, options, [high - low, low]);
}

/**
 * Normal numbers of the given `mean` (default 0) and standard deviation `std` (default 1). No gradient.
 * @example
 * console.log(randomNormal(gpu, [2, 3], { random: createRandom(gpu, 1) }).shape); // [2, 3]
 */
export function randomNormal(gpu: Gpu, shape: Shape, options: RandomOptions & { mean?: number; std?: number }): Tensor {
  checkOptions('randomNormal', options, ['random', 'dtype', 'mean', 'std']);
  const { mean = 0, std = 1 } = options;
  if (!(std >= 0 && Number.isFinite(std) && Number.isFinite(mean))) {
    throw new ShapeError(
      `randomNormal: mean and std are ${showValue(mean)} and ${showValue(std)} — expected finite numbers, std not negative.`,
    );
  }
  return drawn('randomNormal', 'normal', gpu, shape, options, [std, mean]);
}
