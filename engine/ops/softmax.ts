// Softmax over the last axis.
import { type SoftmaxSizes, softmaxBackward, softmaxForward } from '../../shaders/softmax.js';
import { checkNoMore } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

function overClasses(name: string, x: Tensor, others: readonly never[], log: boolean): Tensor {
  if (others[0] !== -1) checkNoMore(name, others, 'x: it goes over the last axis');
  const classes = x.shape.at(-1);
  if (classes === undefined) throw new ShapeError(`${name}: got a single number — expected [..., classes].`);
  const sizes: SoftmaxSizes = { dtype: floatType(name, x), rows: x.size / classes, classes, log };
  const y = empty(x.gpu, x.shape, x.dtype, name);
  run(softmaxForward(sizes), { x, y }, { threads: sizes.rows });

  return record(name, y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, name);
    run(softmaxBackward(sizes), { y, dy, dx }, { threads: sizes.rows });
    return [dx];
  });
}

/**
 * Probabilities over the last axis.
 * @example
 * console.log(await softmax(tensor(gpu, [0, Math.log(3)])).read()); // [0.25, 0.75]
 */
export const softmax = (x: Tensor, ...others: never[]): Tensor => overClasses('softmax', x, others, false);

/**
 * Logarithms of the probabilities over the last axis.
 * @example
 * console.log(await logSoftmax(tensor(gpu, [0, 0])).read()); // [-0.6931, -0.6931]
 */
export const logSoftmax = (x: Tensor, ...others: never[]): Tensor => overClasses('logSoftmax', x, others, true);
