// The k largest along an axis, in order. Each round finds one, so the work grows with k; sorting is topK of a whole axis.
import { fillShader } from '../../shaders/fill.js';
import { firstOfRows, placeGradient } from '../../shaders/order.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { normalizeAxes, ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { folded } from './reduce.js';

/** Options of `topK`. */
export interface TopKOptions {
  /** Default −1, the last. */
  readonly axis?: number;
  /** False: the k smallest, the smallest first. Default true. */
  readonly largest?: boolean;
}

/**
 * The k largest along an axis, the largest first, and their indices as u32; of equals the one with the lower index first, and a NaN
 * before all numbers. Values have a gradient. Throws a ShapeError unless the axis has k elements.
 * @example
 * const { values, indices } = topK(tensor(gpu, [3, 9, 5]), 2);
 * console.log(await values.read(), await indices.read()); // [9, 5] [1, 2]
 */
export function topK(x: Tensor, k: number, options: TopKOptions = {}): { values: Tensor; indices: Tensor<'u32'> } {
  checkOptions('topK', options, ['axis', 'largest']);
  const { axis = -1, largest = true } = options;
  const dtype = floatType('topK', x);
  const [at] = normalizeAxes('topK', x.shape.length, axis) as [number];
  const count = x.shape[at]!;
  if (!Number.isInteger(k) || k < 1 || k > count) {
    throw new ShapeError(
      `topK: k is ${showValue(k)} — expected 1 to ${count}, the size of axis ${at} of ${show(x.shape)}.`,
    );
  }
  const sizes = { outer: sizeOf(x.shape.slice(0, at)), count, inner: sizeOf(x.shape.slice(at + 1)) };
  const shape = x.shape.with(at, k);
  const found = empty(x.gpu, shape, dtype, 'topK');
  const indices = empty(x.gpu, shape, 'u32', 'topK.indices');
  const source = firstOfRows({ dtype, sign: largest ? '>' : '<', ...sizes }, k, true);
  run(source, { x, indices, values: found }, { workgroups: folded(sizes.outer * sizes.inner) });
  const values = record('topK', found, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, dtype, 'dTopK');
    run(fillShader(dtype, 0), { y: dx }, { threads: dx.size });
    run(placeGradient(dtype, sizes, k), { dy, indices, dx }, { threads: dy.size });
    return [dx];
  });
  return { values, indices };
}
