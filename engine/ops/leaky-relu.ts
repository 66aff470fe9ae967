import { leakyReluShader } from '../../shaders/leaky-relu.js';
import { record } from '../autograd.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/** x where positive, slope·x elsewhere. */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  const dtype = floatType('leakyRelu', x);
  const width = x.size % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, x.shape, dtype, 'leakyRelu');
  run(leakyReluShader(dtype, slope, 'forward', width), { x, y }, { threads: x.size / width });

  return record('leakyRelu', y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, dtype, 'dLeakyRelu');
    run(leakyReluShader(dtype, slope, 'backward', width), { x, dy, dx }, { threads: x.size / width });
    return [dx];
  });
}

/** x where positive, 0 elsewhere; its gradient at 0 is 0. */
export const relu = (x: Tensor): Tensor => leakyRelu(x, 0);
