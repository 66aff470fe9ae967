// Reshape: another shape for the same elements.
import { showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { type Shape, ShapeError, show, sizeOf } from '../shape.js';
import { type Tensor, view } from '../tensor.js';
import { expectTensors } from './float-type.js';

/** The shape with its one −1, if there is one, replaced by what makes `size` elements. */
function resolved(shape: Shape, from: Tensor): Shape {
  if (!Array.isArray(shape))
    throw new ShapeError(`reshape: the shape is ${showValue(shape)} — expected an array of sizes.`);
  const open = shape.indexOf(-1);
  if (open < 0) return shape;
  const rest = sizeOf(shape.with(open, 1));
  if (!(rest > 0) || from.size % rest) {
    throw new ShapeError(
      `reshape: ${show(shape)} leaves no whole size for the −1 — ${show(from.shape)} has ${from.size} elements.`,
    );
  }
  return shape.with(open, from.size / rest);
}

/**
 * The same elements in the same order under another shape of equal size; one size may be −1, which follows. Moves nothing.
 * @example
 * console.log(reshape(tensor(gpu, [1, 2, 3, 4, 5, 6]), [2, -1]).shape); // [2, 3]
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  expectTensors('reshape', x);
  return record('reshape', view(x, resolved(shape, x)), [x], (dy) => [view(dy, x.shape)]);
}
