// Argmax and argmin over one axis; over the last, the class of every pixel as u8 labels.
import { argmaxShader } from '../../shaders/argmax.js';
import { firstInOrder, firstOfRows } from '../../shaders/order.js';
import { normalizeAxes, ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { folded } from './reduce.js';

function indexOf(name: string, x: Tensor, axis: number, sign: '>' | '<'): Tensor<'u8' | 'u32'> {
  const dtype = floatType(name, x);
  if (!x.shape.length) throw new ShapeError(`${name}: got ${show(x.shape)}, expected at least one axis.`);
  const [at] = normalizeAxes(name, x.shape.length, axis) as [number];
  const count = x.shape[at]!;
  const ordered = { dtype, sign, outer: sizeOf(x.shape.slice(0, at)), count, inner: sizeOf(x.shape.slice(at + 1)) };
  const y = empty(x.gpu, x.shape.toSpliced(at, 1), count <= 256 ? 'u8' : 'u32', name);
  if (count > 256) {
    run(firstOfRows(ordered, 1, false), { x, indices: y }, { workgroups: folded(y.size) });
  } else {
    const isPlain = sign === '>' && ordered.inner === 1;
    const source = isPlain ? argmaxShader(dtype, x.size / count, count) : firstInOrder(ordered, 'u8');
    run(source, { x, y }, { threads: Math.ceil(y.size / 4) });
  }
  return y;
}

/**
 * Index of the largest value along `axis` (default the last), without that axis: the first of equals, or the first NaN if there is
 * one. u8 where the axis has at most 256 elements, else u32. No gradient.
 * @example
 * console.log(await argmax(tensor(gpu, [3, 9, 5])).read()); // [1]
 */
export const argmax = (x: Tensor, axis = -1): Tensor<'u8' | 'u32'> => indexOf('argmax', x, axis, '>');

/**
 * Index of the smallest value along `axis`, likewise.
 * @example
 * console.log(await argmin(tensor(gpu, [3, 9, 5])).read()); // [0]
 */
export const argmin = (x: Tensor, axis = -1): Tensor<'u8' | 'u32'> => indexOf('argmin', x, axis, '<');
