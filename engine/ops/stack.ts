// Stack and split: concat and slice of several tensors at once.
import { showValue } from '../arguments.js';
import { normalizeAxes, ShapeError, sameShape, show } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { concat } from './concat.js';
import { expectTensors } from './float-type.js';
import { reshape } from './reshape.js';
import { slice } from './slice.js';

/**
 * Tensors of one shape and type as one tensor with a new axis, the first if not given.
 * @example
 * console.log(stack([tensor(gpu, [1, 2]), tensor(gpu, [3, 4])]).shape); // [2, 2]
 */
export function stack(xs: readonly Tensor[], axis = 0): Tensor {
  if (!Array.isArray(xs as unknown)) {
    throw new ShapeError(`stack: the inputs are ${showValue(xs)} — expected an array of tensors.`);
  }
  expectTensors('stack', ...xs);
  const [first] = xs as readonly Tensor[];
  if (!first) throw new ShapeError('stack: no inputs — expected at least one.');
  const other = xs.find((x) => !sameShape(x.shape, first.shape));
  if (other) throw new ShapeError(`stack: shapes differ — got ${show(first.shape)} and ${show(other.shape)}.`);
  const [at] = normalizeAxes('stack', first.shape.length + 1, axis) as [number];
  const shape = [...first.shape.slice(0, at), 1, ...first.shape.slice(at)];
  return concat(
    xs.map((x) => reshape(x, shape)),
    at,
  );
}

/**
 * x cut along an axis: into `parts` equal ones, or into parts of the sizes given, which add up to the axis.
 * @example
 * const [a, b] = split(tensor(gpu, [1, 2, 3, 4]), 2, 0);
 * console.log(await a.read(), await b.read()); // [1, 2] [3, 4]
 */
export function split(x: Tensor, parts: number | readonly number[], axis: number): Tensor[] {
  expectTensors('split', x);
  const [at] = normalizeAxes('split', x.shape.length, axis) as [number];
  const n = x.shape[at]!;
  const sizes =
    typeof parts === 'number' ? new Array<number>(Math.max(1, Math.floor(parts))).fill(n / parts) : [...parts];
  if (!sizes.every((size) => Number.isInteger(size) && size > 0) || sizes.reduce((sum, size) => sum + size, 0) !== n) {
    throw new ShapeError(
      `split: axis ${at} of ${show(x.shape)} has ${n} elements — got ${showValue(parts)}, expected equal parts or sizes that add up.`,
    );
  }
  let first = 0;
  return sizes.map((size) => {
    first += size;
    return slice(x, at, first - size, size);
  });
}
