// Rows by index, and the sum of rows that share one. The gradient of gather is that sum; its order is fixed (shaders/gather.ts).
import { fillShader } from '../../shaders/fill.js';
import {
  type Gather,
  gatherShader,
  linkBlock,
  linkShader,
  oneHotShader,
  rowWidth,
  scatterShader,
} from '../../shaders/gather.js';
import type { Float } from '../../shaders/wgsl.js';
import { showValue } from '../arguments.js';
import { gradientLike, record } from '../autograd.js';
import { checkDtype } from '../elements.js';
import { normalizeAxes, ShapeError, sameShape, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { type Dtype, empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';
import { isLabelType, reportOutside } from './labeled-pixels.js';
import { threadsFor } from './typed-elementwise.js';

type Sizes = Omit<Gather, 'type'>;

/** Checked indices: integers; with WGRAD_CHECK_LABELS, the next read rejects if one is outside 0 … n − 1. */
function checkedIndices(op: string, indices: Tensor, n: number): Sizes['index'] {
  const { dtype, size } = indices;
  if (!isLabelType(dtype)) {
    throw new ShapeError(`${op}: got indices ${dtype} ${show(indices.shape)}, expected u8, u32 or i32.`);
  }
  if (indices.gpu.flags.checkLabels) {
    reportOutside(
      indices,
      { type: dtype, pixels: size, classes: n, ignored: 0 },
      (count, values) =>
        `${op}: ${count} of ${size} indices are outside — got ${values}, expected 0 to ${n - 1}. Correct them, or unset WGRAD_CHECK_LABELS.`,
    );
  }
  return dtype;
}

function sizesOf(op: string, x: Tensor, indices: Tensor, axis: number): { sizes: Sizes; shape: number[] } {
  expectTensors(op, x, indices);
  const [at] = normalizeAxes(op, x.shape.length, axis) as [number];
  const n = x.shape[at]!;
  return {
    sizes: {
      index: checkedIndices(op, indices, n),
      outer: sizeOf(x.shape.slice(0, at)),
      n,
      inner: sizeOf(x.shape.slice(at + 1)),
      count: indices.size,
    },
    shape: [...x.shape.slice(0, at), ...indices.shape, ...x.shape.slice(at + 1)],
  };
}

function gathered(name: string, x: Tensor, indices: Tensor, shape: readonly number[], sizes: Sizes): Tensor {
  const all = { ...sizes, type: x.dtype };
  const y = empty(x.gpu, shape, x.dtype, name);
  run(gatherShader(all), { x, indices, y }, { threads: Math.ceil(y.size / rowWidth(all)) });
  return y;
}

/** y = base (or 0) + the sum of the updates of each row, in the order of the indices. */
function scattered(updates: Tensor, indices: Tensor, y: Tensor, sizes: Sizes, base?: Tensor): Tensor {
  const { gpu } = y;
  const row = (size: number, label: string): Tensor => empty(gpu, [size], 'u32', label);
  const [head, last, next] = [row(sizes.n, 'head'), row(sizes.n, 'last'), row(sizes.count, 'next')];
  for (const zeros of [head, last]) run(fillShader('u32', 0), { y: zeros }, { threads: sizes.n });
  for (let block = 0; block * linkBlock < sizes.count; block++) {
    const threads = Math.min(linkBlock, sizes.count - block * linkBlock);
    run(linkShader(sizes), { indices, head, last, next, numbers: [block] }, { threads });
  }
  const all = { ...sizes, type: y.dtype as Float };
  const threads = y.size / (sizes.inner % 4 === 0 ? 4 : 1);
  run(scatterShader(all, base !== undefined), { updates, head, next, y, ...(base && { base }) }, { threads });
  return y;
}

function gatherAs(name: string, x: Tensor, indices: Tensor, axis: number): Tensor {
  const { sizes, shape } = sizesOf(name, x, indices, axis);
  return record(name, gathered(name, x, indices, shape, sizes), [x], (dy) => {
    const dx = x.dtype === 'f32' ? gradientLike(x) : empty(x.gpu, x.shape, x.dtype, `d${x.label}`);
    return [scattered(dy, indices, dx, sizes)];
  });
}

/**
 * The elements of x at `indices` along `axis` (default 0), as numpy's take: the axis is replaced by the shape of the indices (u8, u32
 * or i32). x of any type. An index outside 0 … n − 1 gives NaN (0 for integers) and has no gradient; WGRAD_CHECK_LABELS=1 reports it.
 * @example
 * console.log(await gather(tensor(gpu, [10, 20, 30]), tensor(gpu, [2, 0], [2], { dtype: 'u32' })).read()); // [30, 10]
 */
export const gather = (x: Tensor, indices: Tensor, axis = 0): Tensor => gatherAs('gather', x, indices, axis);

/**
 * Rows of a table [n, …] by index: indices [...] give [..., …]. The gradient of a row is the sum over its uses, in their order.
 * @example
 * const table = tensor(gpu, [[1, 2], [3, 4], [5, 6]]);
 * console.log(await embedding(table, tensor(gpu, [2, 0], [2], { dtype: 'u32' })).read()); // [5, 6, 1, 2]
 */
export const embedding = (table: Tensor, indices: Tensor): Tensor => gatherAs('embedding', table, indices, 0);

/**
 * x with `updates` added at `indices` along `axis` (default 0): the updates have x's shape with that axis replaced by the shape of the
 * indices. Several of one index are added in their order, in f32; those outside 0 … n − 1 are left out. Float tensors of one type.
 * @example
 * const indices = tensor(gpu, [1, 1], [2], { dtype: 'u32' });
 * console.log(await scatterAdd(tensor(gpu, [0, 0]), indices, tensor(gpu, [3, 4])).read()); // [0, 7]
 */
export function scatterAdd(x: Tensor, indices: Tensor, updates: Tensor, axis = 0): Tensor {
  const dtype = floatType('scatterAdd', x, updates);
  const { sizes, shape } = sizesOf('scatterAdd', x, indices, axis);
  if (!sameShape(updates.shape, shape)) {
    throw new ShapeError(
      `scatterAdd: got updates ${show(updates.shape)} for ${show(x.shape)} and indices ${show(indices.shape)}, expected ${show(shape)}.`,
    );
  }
  const y = scattered(updates, indices, empty(x.gpu, x.shape, dtype, 'scatterAdd'), sizes, x);
  return record('scatterAdd', y, [x, updates], (dy, [needsX, needsUpdates]) => [
    needsX ? dy : undefined,
    needsUpdates ? gathered('dUpdates', dy, indices, shape, { ...sizes, outside: 'zero' }) : undefined,
  ]);
}

/**
 * 1 at each index and 0 elsewhere: indices u8, u32 or i32 [...] → [..., K]; all 0 for an index outside 0 … K − 1. No gradient.
 * @example
 * console.log(await oneHot(tensor(gpu, [1, 0], [2], { dtype: 'u8' }), 3).read()); // [0, 1, 0, 1, 0, 0]
 */
export function oneHot(indices: Tensor, classes: number, dtype: Dtype = 'f32'): Tensor {
  expectTensors('oneHot', indices);
  checkDtype('oneHot', dtype);
  if (!Number.isInteger(classes) || classes < 1) {
    throw new ShapeError(`oneHot: the number of classes is ${showValue(classes)} — expected a positive whole number.`);
  }
  const index = checkedIndices('oneHot', indices, classes);
  const y = empty(indices.gpu, [...indices.shape, classes], dtype, 'oneHot');
  run(oneHotShader(index, dtype, indices.size, classes), { indices, y }, { threads: threadsFor(y) });
  return y;
}
