// Ops that move elements by a map of indices: axes permuted, reversed or repeated (shaders/index-map.ts). Any type, any rank.
import { showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { broadcastShapes, normalizeAxes, type Shape, ShapeError, sameShape, show } from '../shape.js';
import { type Tensor, view } from '../tensor.js';
import { unbroadcast } from './arithmetic.js';
import { expectTensors } from './float-type.js';
import { mapped, plainAxes } from './mapped.js';
import { type Axes, reduced } from './reduce.js';

/**
 * The axes in the order given: axis k of the result is axis `axes[k]` of x. Negative axes count from the end.
 * @example
 * console.log(permute(tensor(gpu, 0, [2, 3, 4]), [2, 0, 1]).shape); // [4, 2, 3]
 */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  expectTensors('permute', x);
  const rank = x.shape.length;
  const order = Array.isArray(axes) ? axes.map((axis: number) => (axis < 0 ? axis + rank : axis)) : [];
  const isOrder = order.length === rank && [...order].sort((p, q) => p - q).every((axis, k) => axis === k);
  if (!isOrder) {
    throw new ShapeError(
      `permute: the axes are ${showValue(axes)} — expected each of the ${rank} axes of ${show(x.shape)} once.`,
    );
  }
  const moved = (source: Tensor, by: readonly number[]): Tensor => {
    const from = plainAxes(source.shape);
    const to = by.map((axis) => from[axis]!);
    return mapped(
      'permute',
      source,
      to.map(({ size }) => size),
      { axes: to, offset: 0 },
    );
  };
  const inverse = order.map((_, k) => order.indexOf(k));
  return record('permute', moved(x, order), [x], (dy) => [moved(dy, inverse)]);
}

/**
 * x with two axes swapped, the last two if not given.
 * @example
 * console.log(await transpose(tensor(gpu, [[1, 2], [3, 4]])).read()); // [1, 3, 2, 4]
 */
export function transpose(x: Tensor, first = -2, second = -1): Tensor {
  expectTensors('transpose', x);
  const [p, q] = [first, second].map((axis) => normalizeAxes('transpose', x.shape.length, axis)[0]!) as [
    number,
    number,
  ];
  return permute(
    x,
    x.shape.map((_, k) => (k === p ? q : k === q ? p : k)),
  );
}

/**
 * x in reverse order along `axes` (all if not given).
 * @example
 * console.log(await flip(tensor(gpu, [1, 2, 3])).read()); // [3, 2, 1]
 */
export function flip(x: Tensor, axes?: Axes): Tensor {
  expectTensors('flip', x);
  const list = normalizeAxes('flip', x.shape.length, axes);
  const plain = plainAxes(x.shape);
  const map = {
    axes: plain.map(({ size, stride }, k) => ({ size, stride: list.includes(k) ? -stride : stride })),
    offset: list.reduce((sum, k) => sum + (plain[k]!.size - 1) * plain[k]!.stride, 0),
  };
  return record('flip', mapped('flip', x, x.shape, map), [x], (dy) => [mapped('flip', dy, x.shape, map)]);
}

/**
 * x repeated along new axes and along those of size 1, as numpy's broadcasting does. The gradient is summed over the repetitions.
 * @example
 * console.log(await broadcastTo(tensor(gpu, [1, 2]), [2, 2]).read()); // [1, 2, 1, 2]
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  expectTensors('broadcastTo', x);
  if (!Array.isArray(shape) || !sameShape(broadcastShapes('broadcastTo', x.shape, shape), shape)) {
    throw new ShapeError(`broadcastTo: ${show(x.shape)} does not broadcast to ${showValue(shape)}.`);
  }
  const plain = plainAxes(x.shape);
  const extra = shape.length - x.shape.length;
  const axes = shape.map((size, k) => {
    const from = plain[k - extra];
    return { size, stride: from && from.size > 1 ? from.stride : 0 };
  });
  const y = mapped('broadcastTo', x, shape, { axes, offset: 0 });
  return record('broadcastTo', y, [x], (dy) => [unbroadcast(dy, x.shape)]);
}

/**
 * x repeated `repeats[k]` times along axis k, one number for each axis. The gradient is summed over the repetitions.
 * @example
 * console.log(await tile(tensor(gpu, [1, 2]), [2]).read()); // [1, 2, 1, 2]
 */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  expectTensors('tile', x);
  const fits = Array.isArray(repeats) && repeats.length === x.shape.length;
  if (!fits || !repeats.every((n) => Number.isInteger(n) && n > 0)) {
    throw new ShapeError(
      `tile: the repeats are ${showValue(repeats)} — expected ${x.shape.length} positive whole numbers, one for each axis of ${show(x.shape)}.`,
    );
  }
  const apart = plainAxes(x.shape).flatMap((axis, k) => [{ size: repeats[k]!, stride: 0 }, axis]);
  const shape = x.shape.map((n, k) => n * repeats[k]!);
  const y = mapped('tile', x, shape, { axes: apart, offset: 0 });
  return record('tile', y, [x], (dy) => {
    const sum = reduced(
      'sum',
      view(
        dy,
        apart.map(({ size }) => size),
      ),
      x.shape.map((_, k) => 2 * k),
    );
    return [view(sum, x.shape)];
  });
}
