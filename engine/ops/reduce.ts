// Sum, mean, product, maximum and minimum over axes. Neighbouring axes merge; each group is reduced on its own, in two passes when it is long.
import { quotientFunction } from '../../shaders/functions.js';
import { type Reduction, reduceByThreads, reduceByWorkgroup } from '../../shaders/reduce.js';
import type { Float } from '../../shaders/wgsl.js';
import { checkOptions } from '../arguments.js';
import { record } from '../autograd.js';
import { normalizeAxes, type Shape, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, Tensor, view } from '../tensor.js';
import { cast } from './cast.js';
import { elementwise } from './elementwise.js';
import { floatType } from './float-type.js';
import { reducedIntegers } from './integer-reduce.js';
import { isLabelType } from './labeled-pixels.js';

/** One axis or several; negative ones count from the end. */
export type Axes = number | readonly number[];

/** What a reduction divides its sums by, an f32, and the WGSL of a division that rounds correctly. */
export interface Divisor {
  readonly by: number;
  readonly quotient: string;
}

/** The divisor `by` of a mean. */
export const over = (by: number): Divisor => ({ by, quotient: quotientFunction.text });

/** Reduces the middle of x seen as [outer, count, inner]; the result has outer · inner elements, divided where there is a `divisor`. */
export function reduceMiddle(
  kind: Reduction['kind'],
  x: Tensor,
  {
    outer,
    count,
    inner,
    to,
    divisor,
  }: { outer: number; count: number; inner: number; to: Float; divisor?: Divisor | undefined },
): Tensor {
  const from = floatType(kind, x);
  const y = empty(x.gpu, [outer, inner], to, kind);
  const all = { kind, outer, count, inner, quotient: divisor?.quotient ?? '' };
  const numbers = divisor && { numbers: [divisor.by] };
  if (count <= 64 || (count <= 1024 && outer * inner >= 16384)) {
    run(reduceByThreads({ ...all, from, to, splits: 1 }), { x, y, ...numbers }, { threads: y.size });
  } else if (count <= 2048 && inner >= 32) {
    // Rows of neighbours, such as a bias's gradient: threads side by side read side by side, and no workgroup waits for itself.
    const splits = Math.ceil(count / 32);
    const partial = empty(x.gpu, [outer, splits, inner], 'f32', kind);
    run(
      reduceByThreads({ ...all, from, to: 'f32', splits, quotient: '' }),
      { x, y: partial },
      { threads: partial.size },
    );
    const last = { ...all, count: splits, from: 'f32', to, splits: 1 } as const;
    run(reduceByThreads(last), { x: partial, y, ...numbers }, { threads: y.size });
  } else if (count <= 2048) {
    run(reduceByWorkgroup({ ...all, from, to, splits: 1 }), { x, y, ...numbers }, { workgroups: folded(y.size) });
  } else {
    const splits = Math.min(4096, Math.ceil(count / 64));
    const partial = empty(x.gpu, [outer, splits, inner], 'f32', kind);
    const first = { ...all, from, to: 'f32', splits, quotient: '' } as const;
    run(reduceByThreads(first), { x, y: partial }, { threads: partial.size });
    const last = { ...all, count: splits, from: 'f32', to, splits: 1 } as const;
    run(reduceByWorkgroup(last), { x: partial, y, ...numbers }, { workgroups: folded(y.size) });
  }
  return y;
}

/** Each element of x, divided: sums of one. Records no gradient. */
export const divided = (x: Tensor, divisor: Divisor): Tensor =>
  reduceMiddle('sum', x, { outer: x.size, count: 1, inner: 1, to: x.dtype as Float, divisor });

/** A count of workgroups as [x, y] with x ≤ 65 535; x · y may be more than the count. */
export const folded = (count: number): [number, number] => {
  const x = Math.min(count, 65535);
  return [x, Math.ceil(count / x)];
};

/** The reduction over `axes` (sorted, not negative), which remain with size 1, over a `divisor` if given. Records no gradient. */
export function reduced(kind: Reduction['kind'], x: Tensor, axes: readonly number[], divisor?: Divisor): Tensor {
  const dtype = floatType(kind, x);
  const shape: number[] = [...x.shape];
  // The last axes go first, so that those still to be reduced keep their indices.
  const groups: { from: number; to: number }[] = [];
  for (let axis = x.shape.length - 1; axis >= 0; axis--) {
    if (!axes.includes(axis)) continue;
    const group = groups.at(-1);
    const between = group ? sizeOf(x.shape.slice(axis + 1, group.from)) : 0;
    if (group && between === 1) group.from = axis;
    else groups.push({ from: axis, to: axis });
  }
  let y = x;
  groups.forEach(({ from, to }, i) => {
    const last = i === groups.length - 1;
    y = reduceMiddle(kind, y, {
      outer: sizeOf(shape.slice(0, from)),
      count: sizeOf(shape.slice(from, to + 1)),
      inner: sizeOf(shape.slice(to + 1)),
      to: last ? dtype : 'f32',
      divisor: last ? divisor : undefined,
    });
    shape.fill(1, from, to + 1);
  });
  return view(y, shape);
}

/** `shape` without these axes, or with size 1 there. */
export const without = (shape: Shape, axes: readonly number[], keepDims: boolean): number[] =>
  shape.flatMap((n, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [n]));

function linear(name: string, x: Tensor, axes: Axes | undefined, keepDims: boolean, isMean: boolean): Tensor {
  const list = normalizeAxes(name, x.shape.length, axes);
  const count = list.reduce((product, axis) => product * x.shape[axis]!, 1);
  const kept = list.length
    ? reduced('sum', x, list, isMean ? over(count) : undefined)
    : elementwise(name, 'x', x.shape, { x });
  const y = view(kept, without(x.shape, list, keepDims));
  return record(name, y, [x], (dy) => {
    const share = isMean ? divided(dy, over(count)) : dy;
    return [elementwise(`${name}_backward`, 'share', x.shape, { share: view(share, kept.shape) })];
  });
}

/** Options of a reduction. */
export interface ReduceOptions {
  /** Keeps the reduced axes with size 1; default false. */
  readonly keepDims?: boolean;
}

/** Checked: whether the reduced axes stay. */
export function keepsDims(op: string, options: ReduceOptions | undefined): boolean {
  checkOptions(op, options, ['keepDims']);
  return options?.keepDims ?? false;
}

/** The reduction where x holds integers. */
function ofIntegers(
  kind: Reduction['kind'],
  x: Tensor,
  axes: Axes | undefined,
  options: ReduceOptions | undefined,
): Tensor | undefined {
  if (!(x instanceof Tensor) || !isLabelType(x.dtype)) return undefined;
  const keepDims = keepsDims(kind, options);
  const list = normalizeAxes(kind, x.shape.length, axes);
  return view(reducedIntegers(kind, x, list), without(x.shape, list, keepDims));
}

/**
 * Sum over `axes` (all if not given). Integers are added in 32 bits and wrap around; the sum of u8 is u32, so that of a mask counts
 * where it holds.
 * @example
 * console.log(await sum(tensor(gpu, [[1, 2], [3, 4]]), 0).read()); // [4, 6]
 */
export const sum = (x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor =>
  ofIntegers('sum', x, axes, options) ?? linear('sum', x, axes, keepsDims('sum', options), false);

/**
 * Mean over `axes` (all if not given): the f32 sum over the count, correctly rounded on every adapter for counts up to 2²⁴.
 * @example
 * console.log(await mean(tensor(gpu, [[1, 2], [3, 4]]), 0).read()); // [2, 3]
 */
export const mean = (x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor =>
  linear('mean', x, axes, keepsDims('mean', options), true);

function extreme(name: 'max' | 'min', x: Tensor, axes: Axes | undefined, options: ReduceOptions | undefined): Tensor {
  const keepDims = keepsDims(name, options);
  const list = normalizeAxes(name, x.shape.length, axes);
  const kept = list.length ? reduced(name, x, list) : elementwise(name, 'x', x.shape, { x });
  const y = view(kept, without(x.shape, list, keepDims));
  return record(name, y, [x], (dy) => {
    const isChosen = 'keep_nan(x, select(V(0.0), V(1.0), x == y))';
    const chosen = elementwise(`${name}_chosen`, isChosen, x.shape, { x, y: kept });
    const ties = list.length ? reduced('sum', chosen, list) : chosen;
    const operands = { dy: view(dy, kept.shape), chosen, ties };
    return [elementwise(`${name}_backward`, 'dy * chosen / ties', x.shape, operands)];
  });
}

/**
 * Maximum over `axes` (all if not given), of integers, too; NaN where one is NaN. Elements that tie share the gradient equally.
 * @example
 * console.log(await max(tensor(gpu, [[1, 2], [3, 4]]), 0).read()); // [3, 4]
 */
export const max = (x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor =>
  ofIntegers('max', x, axes, options) ?? extreme('max', x, axes, options);

/**
 * Minimum over `axes` (all if not given), likewise.
 * @example
 * console.log(await min(tensor(gpu, [[1, 2], [3, 4]]), 0).read()); // [1, 2]
 */
export const min = (x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor =>
  ofIntegers('min', x, axes, options) ?? extreme('min', x, axes, options);

/**
 * Product over `axes` (all if not given). The gradient of an element is the product of the others, with zeros among them, too; it is
 * the product over the element, so it is NaN where that product is infinite, and 0 where it is too small for f32. Integers are
 * multiplied in 32 bits and wrap around; the product of u8 is u32.
 * @example
 * console.log(await prod(tensor(gpu, [[1, 2], [3, 4]]), 0).read()); // [3, 8]
 */
export function prod(x: Tensor, axes?: Axes, options?: ReduceOptions): Tensor {
  const product = ofIntegers('prod', x, axes, options);
  if (product) return product;
  const keepDims = keepsDims('prod', options);
  const list = normalizeAxes('prod', x.shape.length, axes);
  const kept = list.length ? reduced('prod', x, list) : elementwise('prod', 'x', x.shape, { x });
  const y = view(kept, without(x.shape, list, keepDims));
  return record('prod', y, [x], (dy) => {
    const [wide, dWide] = [cast(x, 'f32'), cast(view(dy, kept.shape), 'f32')];
    const isZero = elementwise('prod_zeros', 'keep_nan(x, select(V(0.0), V(1.0), x == V(0.0)))', x.shape, { x: wide });
    const others = elementwise('prod_others', 'select(x, V(1.0), x == V(0.0))', x.shape, { x: wide });
    const [zeros, ofOthers] = list.length
      ? [reduced('sum', isZero, list), reduced('prod', others, list)]
      : [isZero, others];
    const alone = 'select(V(0.0), p, (zeros == V(1.0)) & (x == V(0.0)))';
    const expression = `dy * select(${alone}, divide(p, x), is_nan(zeros) | (zeros == V(0.0)))`;
    return [
      cast(
        elementwise('prod_backward', expression, x.shape, { dy: dWide, x: wide, zeros, p: ofOthers }),
        x.dtype as Float,
      ),
    ];
  });
}
