// Matrix product. A small output with a long inner dimension (the gradient of a weight) takes two passes: splits of the inner
// dimension in parallel, then their sum. Nothing is transposed or repeated in memory: the kernel reads the factors where they are.
import { type Matmul, matmulShader, matmulTiles, type Planes } from '../../shaders/matmul.js';
import type { Float } from '../../shaders/wgsl.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { type Shape, ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, view } from '../tensor.js';
import { unbroadcast } from './arithmetic.js';
import { cast } from './cast.js';
import { floatType } from './float-type.js';
import { reduceMiddle } from './reduce.js';

type Sizes = Pick<Matmul, 'batch' | 'm' | 'n' | 'k'> & { planes: Planes | undefined };

const enoughThreads = 4096;

function product(layout: Matmul['layout'], a: Tensor, b: Tensor, sizes: Sizes, shape: Shape, to?: Float): Tensor {
  const { batch, m, n, k, planes } = sizes;
  const texts = { batch, m, n, k, layout, ...(planes && { planes }) };
  const from = floatType('matmul', a, b);
  const dtype = to ?? from;
  const { across, down } = matmulTiles(sizes);
  const threads = 64 * across * down * batch;
  const blocks = batch * Math.ceil(m / 4) * Math.ceil(n / 4);
  const wanted = Math.max(1, Math.min(Math.ceil(enoughThreads / blocks), Math.floor(k / 128), 256));
  const chunk = 4 * Math.ceil(k / wanted / 4);
  const splits = Math.ceil(k / chunk);
  if (splits === 1) {
    const y = empty(a.gpu, shape, dtype, 'matmul');
    run(matmulShader({ ...texts, from, to: dtype, splits, chunk }), { a, b, y }, { threads });
    return y;
  }
  const y = empty(a.gpu, [splits, batch, m, n], 'f32', 'matmul');
  const source = matmulShader({ ...texts, from, to: 'f32', splits, chunk });
  run(source, { a, b, y }, { threads: threads * splits });
  return view(reduceMiddle('sum', y, { outer: 1, count: splits, inner: batch * m * n, to: dtype }), shape);
}

/** Options of `matmul`. */
export interface MatmulOptions {
  /** a is stored [..., K, M]; default false. */
  transposeA?: boolean;
  /** b is stored [..., N, K]; default false. */
  transposeB?: boolean;
}

/** How many matrices a step along each axis of the batch is in a factor with the leading sizes `leading`; 0 where it is repeated. */
function stridesOf(batch: Shape, leading: Shape): number[] {
  let stride = 1;
  const strides = batch.map(() => 0);
  for (let i = leading.length - 1; i >= 0; i--) {
    if (leading[i]! > 1) strides[batch.length - leading.length + i] = stride;
    stride *= leading[i]!;
  }
  return strides;
}

/** The batch of two factors: undefined where both have the same matrices in the same order. */
function planesOf(batch: Shape, a: Shape, b: Shape): Planes | undefined {
  if (sizeOf(a) === sizeOf(batch) && sizeOf(b) === sizeOf(batch)) return undefined;
  const [ofA, ofB] = [stridesOf(batch, a), stridesOf(batch, b)];
  const kept = batch.flatMap((n, axis) => (n > 1 ? [axis] : []));
  const at = (list: readonly number[]): number[] => kept.map((axis) => list[axis]!);
  return { sizes: at(batch), a: at(ofA), b: at(ofB) };
}

/**
 * The matrix product: a [..., M, K] times b [..., K, N] gives [..., M, N]. Leading sizes broadcast as numpy's: [4, 5] times [3, 5, 6] is
 * [3, 4, 6]. A vector a [K] counts as [1, K] and a vector b [K] as [K, 1], and that axis is left out of the result. With `transposeA` a
 * is [..., K, M], with `transposeB` b is [..., N, K] (both false by default); nothing is copied for it. f32 or f16, sums in f32.
 * Throws a ShapeError for shapes that do not fit, mixed types, unknown options, and the transpose of a vector.
 * @example
 * console.log(await matmul(tensor(gpu, [[1, 2], [3, 4]]), tensor(gpu, [1, 10])).read()); // [21, 43]
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const dtype = floatType('matmul', a, b);
  checkOptions('matmul', options, ['transposeA', 'transposeB']);
  const { transposeA = false, transposeB = false } = options;
  for (const [name, x, transposed] of [
    ['transposeA', a, transposeA],
    ['transposeB', b, transposeB],
  ] as const) {
    if (typeof transposed !== 'boolean') {
      throw new ShapeError(`matmul: ${name} is ${showValue(transposed)} — expected true or false.`);
    }
    if (transposed && x.shape.length < 2) {
      throw new ShapeError(`matmul: ${name} of ${show(x.shape)} — expected a matrix. Leave it out.`);
    }
  }
  const ofA = a.shape.length === 1 ? [1, ...a.shape] : a.shape;
  const ofB = b.shape.length === 1 ? [...b.shape, 1] : b.shape;
  const swap = (shape: Shape, transposed: boolean): Shape =>
    transposed ? [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!] : shape;
  const [rowsA, rowsB] = [swap(ofA, transposeA), swap(ofB, transposeB)];
  const [leadA, leadB] = [ofA.slice(0, -2), ofB.slice(0, -2)];
  const lead = Math.max(leadA.length, leadB.length);
  const axes = Array.from({ length: lead }, (_, i) => [
    leadA[i - lead + leadA.length] ?? 1,
    leadB[i - lead + leadB.length] ?? 1,
  ]) as [number, number][];
  const fits =
    ofA.length >= 2 &&
    ofB.length >= 2 &&
    rowsA.at(-1) === rowsB.at(-2) &&
    axes.every(([p, q]) => p === q || p === 1 || q === 1);
  if (!fits) {
    const stored = (transposed: boolean, names: string): string =>
      (transposed ? [...names].reverse() : [...names]).join(', ');
    throw new ShapeError(
      `matmul: got ${show(a.shape)} and ${show(b.shape)}, expected [..., ${stored(transposeA, 'MK')}] and [..., ${stored(transposeB, 'KN')}] with leading sizes that are equal or 1. Reshape or transpose one.`,
    );
  }
  const batch = axes.map(([p, q]) => Math.max(p, q));
  const [k, n] = [rowsA.at(-1)!, rowsB.at(-1)!];
  // One b for all of a: a's leading axes are rows.
  const merged = sizeOf(leadB) === 1 && !transposeA;
  const m = merged ? a.size / k : rowsA.at(-2)!;
  const count = merged ? 1 : sizeOf(batch);
  const planes = merged ? undefined : planesOf(batch, leadA, leadB);
  const shape = [...batch, ...(a.shape.length === 1 ? [] : [rowsA.at(-2)!]), ...(b.shape.length === 1 ? [] : [n])];
  const layout = (first: boolean, second: boolean) => `${first ? 't' : 'n'}${second ? 't' : 'n'}` as Matmul['layout'];
  const y = product(layout(transposeA, transposeB), a, b, { batch: count, m, n, k, planes }, shape);

  /** The gradient of a factor: one product for each matrix of the batch, added up where the factor was repeated. */
  const gradient = (
    of: { x: Tensor; stored: Shape; leading: Shape },
    kind: Matmul['layout'],
    factors: readonly [{ x: Tensor; leading: Shape }, { x: Tensor; leading: Shape }],
    sizes: { m: number; n: number; k: number },
  ): Tensor => {
    const [p, q] = factors;
    const all = { ...sizes, batch: count, planes: merged ? undefined : planesOf(batch, p.leading, q.leading) };
    if (merged || sizeOf(of.leading) === count) return product(kind, p.x, q.x, all, of.x.shape);
    const each = product(kind, p.x, q.x, all, [...batch, ...of.stored.slice(-2)], 'f32');
    return cast(view(unbroadcast(each, of.stored), of.x.shape), dtype);
  };
  const [fromA, fromB] = [
    { x: a, stored: ofA, leading: leadA },
    { x: b, stored: ofB, leading: leadB },
  ];
  return record('matmul', y, [a, b], (dy, needs) => {
    const from = { x: dy, leading: batch };
    return [
      !needs[0]
        ? undefined
        : transposeA
          ? gradient(fromA, layout(transposeB, true), [fromB, from], { m: k, n: m, k: n })
          : gradient(fromA, layout(false, !transposeB), [from, fromB], { m, n: k, k: n }),
      !needs[1]
        ? undefined
        : transposeB
          ? gradient(fromB, layout(true, transposeA), [from, fromA], { m: n, n: k, k: m })
          : gradient(fromB, layout(!transposeA, false), [fromA, from], { m: k, n, k: m }),
    ];
  });
}
