// LeakyReLU with a deferred output: convolution and pooling compute it on load.
import { leakyReluShader } from '../../shaders/leaky-relu.js';
import { showValue } from '../arguments.js';
import { ActivatedGradient, record, recordActivation } from '../autograd.js';
import type { Gpu } from '../device.js';
import { ShapeError } from '../shape.js';
import { defer, run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { addActivations } from './add-activations.js';
import { floatType } from './float-type.js';
import { setActivation } from './fusion.js';

/**
 * x where positive, slope·x elsewhere.
 * @example
 * console.log(await leakyRelu(tensor(gpu, [-1, 2]), 0.1).read()); // [-0.1, 2]
 */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  const dtype = floatType('leakyRelu', x);
  if (typeof slope !== 'number')
    throw new ShapeError(`leakyRelu: the slope is ${showValue(slope)} — expected a number.`);
  const width = x.size % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, x.shape, dtype, 'leakyRelu');
  const write = (): void =>
    run(leakyReluShader(dtype, 'forward', width), { x, y, numbers: [slope] }, { threads: x.size / width });
  // For images, which a convolution may load, y is the activation of an identity norm. (relu is computed at once: 0·∞ is NaN.)
  const waits = x.gpu.flags.fuse && x.shape.length >= 4 && slope > 0 && slope <= 1;
  if (waits) {
    const coefficients = identity(x.gpu, x.shape.at(-1)!);
    setActivation(y, { z: x, coefficients, activation: { slope, dropout: 0 }, draws: {}, add: addActivations });
    defer(x.gpu, y.storage, [x.storage], write);
  } else {
    write();
  }

  const gradient = (dy: Tensor): Tensor => {
    const dx = empty(x.gpu, x.shape, dtype, 'dLeakyRelu');
    run(leakyReluShader(dtype, 'backward', width), { x, dy, dx, numbers: [slope] }, { threads: x.size / width });
    return dx;
  };
  if (!waits) return record('leakyRelu', y, [x], (dy) => [gradient(dy)]);
  return recordActivation('leakyRelu', y, [x], (dy) => [dy instanceof ActivatedGradient ? dy.g : gradient(dy)]);
}

/** Coefficients [4, C] of a norm with mean 0, deviation 1, γ 1 and β 0. */
const identity = (gpu: Gpu, channels: number): Tensor =>
  tensor(
    gpu,
    [0, 1, 0, 1].flatMap((value) => Array<number>(channels).fill(value)),
    [4, channels],
    { label: 'leakyRelu.coefficients' },
  );

/**
 * x where positive, 0 elsewhere; its gradient at 0 is 0.
 * @example
 * console.log(await relu(tensor(gpu, [-1, 2])).read()); // [0, 2]
 */
export const relu = (x: Tensor): Tensor => leakyRelu(x, 0);
