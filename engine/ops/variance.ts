// Variance and standard deviation: the mean is subtracted, then what rounding left of it, then squares are summed, so that nothing
// cancels. All in f32.
import { functionTexts, quotientFunction } from '../../shaders/functions.js';
import type { Float } from '../../shaders/wgsl.js';
import { checkOptions, showValue } from '../arguments.js';
import { noGrad, record } from '../autograd.js';
import { normalizeAxes, ShapeError, show } from '../shape.js';
import { type Tensor, view } from '../tensor.js';
import { cast } from './cast.js';
import { elementwise } from './elementwise.js';
import { floatType } from './float-type.js';
import { type Axes, divided, over, type ReduceOptions, reduced, without } from './reduce.js';

/** Options of `variance` and `std`. */
export interface VarianceOptions extends ReduceOptions {
  /** What the count is lowered by before the squares are divided by it; default 1, the unbiased variance, as in PyTorch. 0 as in numpy. */
  readonly correction?: number;
}

function spread(name: string, x: Tensor, axes: Axes | undefined, options: VarianceOptions, isRoot: boolean): Tensor {
  checkOptions(name, options, ['keepDims', 'correction']);
  const { keepDims = false, correction = 1 } = options;
  const dtype = floatType(name, x);
  const list = normalizeAxes(name, x.shape.length, axes);
  const count = list.reduce((product, axis) => product * x.shape[axis]!, 1);
  if (typeof correction !== 'number' || !(count - correction > 0)) {
    throw new ShapeError(
      `${name}: ${count} elements less a correction of ${showValue(correction)} — expected more than 0. The shape is ${show(x.shape)}.`,
    );
  }
  const summed = (t: Tensor, by: number): Tensor =>
    list.length ? reduced('sum', t, list, over(by)) : view(divided(t, over(by)), t.shape);
  const wide = noGrad(x.gpu, () => cast(x, 'f32'));
  const centered = elementwise(`${name}_centered`, 'x - m', x.shape, { x: wide, m: summed(wide, count) });
  const shift = summed(centered, count); // what rounding left of the mean
  const squares = elementwise(`${name}_squares`, '(x - m) * (x - m)', x.shape, { x: centered, m: shift });
  const found = summed(squares, count - correction);
  const kept = isRoot ? elementwise(name, 'sqrt(v)', found.shape, { v: found }) : found;
  const narrow = noGrad(x.gpu, () => cast(kept, dtype));
  const y = view(narrow, without(x.shape, list, keepDims));
  return record(name, y, [x], (given) => {
    const dy = cast(view(given, kept.shape), 'f32');
    const slope = isRoot ? 'select(divide(dy, s) * (x - m), V(0.0), s == V(0.0))' : '2.0 * dy * (x - m)';
    const operands = { dy, x: centered, m: shift, ...(isRoot && { s: kept }), by: count - correction };
    const dx = elementwise(
      `${name}_backward`,
      `quotient(${slope}, by)`,
      x.shape,
      operands,
      functionTexts(quotientFunction),
    );
    return [cast(dx, x.dtype as Float)];
  });
}

/**
 * Variance over `axes` (all if not given): Σ (x − mean)² / (count − correction).
 * @example
 * console.log(await variance(tensor(gpu, [[1, 2], [3, 4]]), 0).read()); // [2, 2]
 */
export const variance = (x: Tensor, axes?: Axes, options: VarianceOptions = {}): Tensor =>
  spread('variance', x, axes, options, false);

/**
 * Standard deviation over `axes` (all if not given), the root of `variance`. Its gradient is 0 where it is 0.
 * @example
 * console.log(await std(tensor(gpu, [[1, 2], [3, 4]]), 0).read()); // [1.414, 1.414]
 */
export const std = (x: Tensor, axes?: Axes, options: VarianceOptions = {}): Tensor =>
  spread('std', x, axes, options, true);
