// Argmax over the last axis: the class of every pixel as u8 labels.
import { argmaxShader } from '../../shaders/argmax.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/** Index of the largest value over the last axis, as u8 [...]: the first of equals, or the first NaN if there is one. No gradient. */
export function argmax(x: Tensor): Tensor<'u8'> {
  const classes = x.shape.at(-1) ?? 0;
  if (classes < 1 || classes > 256) {
    throw new ShapeError(`argmax: the last axis of ${show(x.shape)} must have 1 to 256 classes.`);
  }
  const y = empty(x.gpu, x.shape.slice(0, -1), 'u8', 'argmax');
  run(argmaxShader(floatType('argmax', x), x.size / classes, classes), { x, y }, { threads: Math.ceil(y.size / 4) });
  return y;
}
