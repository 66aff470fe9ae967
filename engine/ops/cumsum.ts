// Running sums along one axis. Long axes are cut into chunks, whose totals are summed first; the order of sums is fixed.
import { cumsumShader, type RunningSum } from '../../shaders/cumsum.js';
import type { Float } from '../../shaders/wgsl.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { normalizeAxes, ShapeError, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/** Options of `cumsum`. */
export interface CumsumOptions {
  /** Leaves out the element itself, so that the first sum is 0; default false. */
  readonly exclusive?: boolean;
  /** Sums from the end; default false. */
  readonly reverse?: boolean;
}

/** The running sums of x, seen as [outer, count, inner], as a tensor of x's shape. */
function runningSums(x: Tensor, to: Float, sizes: Omit<RunningSum, 'chunk'>): Tensor {
  const { outer, count, inner } = sizes;
  const from = x.dtype as Float;
  const y = empty(x.gpu, x.shape, to, 'cumsum');
  const chunk = count <= 256 ? count : Math.max(64, Math.ceil(Math.sqrt(count)));
  const chunks = Math.ceil(count / chunk);
  const all = { ...sizes, chunk };
  if (chunks === 1) {
    run(cumsumShader('scan', from, to, all), { x, y }, { threads: outer * inner });
    return y;
  }
  const totals = empty(x.gpu, [outer, chunks, inner], 'f32', 'cumsum.totals');
  run(cumsumShader('totals', from, 'f32', all), { x, y: totals }, { threads: totals.size });
  const before = runningSums(totals, 'f32', { outer, count: chunks, inner, exclusive: true, reverse: false });
  run(cumsumShader('scan', from, to, all), { x, y, before }, { threads: totals.size });
  return y;
}

/**
 * The sum of all elements up to each along `axis`, in f32; x and result are f32 or f16.
 * @example
 * console.log(await cumsum(tensor(gpu, [1, 2, 3]), 0).read()); // [1, 3, 6]
 */
export function cumsum(x: Tensor, axis: number, options: CumsumOptions = {}): Tensor {
  checkOptions('cumsum', options, ['exclusive', 'reverse']);
  if (typeof axis !== 'number') throw new ShapeError(`cumsum: the axis is ${showValue(axis)} — expected a number.`);
  const dtype = floatType('cumsum', x);
  const { exclusive = false, reverse = false } = options;
  const [at] = normalizeAxes('cumsum', x.shape.length, axis) as [number];
  const sizes = {
    outer: sizeOf(x.shape.slice(0, at)),
    count: x.shape[at]!,
    inner: sizeOf(x.shape.slice(at + 1)),
    exclusive,
  };
  const y = runningSums(x, dtype, { ...sizes, reverse });
  return record('cumsum', y, [x], (dy) => [runningSums(dy, dtype, { ...sizes, reverse: !reverse })]);
}
