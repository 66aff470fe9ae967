// Matrix product. A small output with a long inner dimension (the gradient of a weight) takes two passes: splits of the inner
// dimension in parallel, then their sum.
import { type Matmul, matmulShader, matmulTiles } from '../../shaders/matmul.js';
import { record } from '../autograd.js';
import { type Shape, ShapeError, sameShape, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, view } from '../tensor.js';
import { floatType } from './float-type.js';
import { reduceMiddle } from './reduce.js';

type Sizes = Pick<Matmul, 'batch' | 'm' | 'n' | 'k'>;

const enoughThreads = 4096;

function product(layout: Matmul['layout'], a: Tensor, b: Tensor, sizes: Sizes, shape: Shape): Tensor {
  const { batch, m, n, k } = sizes;
  const dtype = floatType('matmul', a, b);
  const { across, down } = matmulTiles(sizes);
  const threads = 64 * across * down * batch;
  const blocks = batch * Math.ceil(m / 4) * Math.ceil(n / 4);
  const wanted = Math.max(1, Math.min(Math.ceil(enoughThreads / blocks), Math.floor(k / 128), 256));
  const chunk = 4 * Math.ceil(k / wanted / 4);
  const splits = Math.ceil(k / chunk);
  if (splits === 1) {
    const y = empty(a.gpu, shape, dtype, 'matmul');
    run(matmulShader({ ...sizes, from: dtype, to: dtype, layout, splits, chunk }), { a, b, y }, { threads });
    return y;
  }
  const y = empty(a.gpu, [splits, batch, m, n], 'f32', 'matmul');
  const source = matmulShader({ ...sizes, from: dtype, to: 'f32', layout, splits, chunk });
  run(source, { a, b, y }, { threads: threads * splits });
  return view(reduceMiddle('sum', y, { outer: 1, count: splits, inner: batch * m * n, to: dtype }), shape);
}

/** a [..., M, K] times b [K, N], or times b [..., K, N] with the same leading sizes: [..., M, N]. */
export function matmul(a: Tensor, b: Tensor): Tensor {
  const rank = b.shape.length;
  const shared = rank === 2;
  const leading = a.shape.slice(0, -2);
  const fits = a.shape.length >= 2 && rank >= 2 && a.shape.at(-1) === b.shape.at(-2);
  if (!fits || !(shared || sameShape(leading, b.shape.slice(0, -2)))) {
    throw new ShapeError(
      `matmul: got ${show(a.shape)} and ${show(b.shape)}, expected [..., M, K] and [K, N] or [..., K, N].`,
    );
  }
  const k = a.shape.at(-1)!;
  const n = b.shape.at(-1)!;
  const batch = shared ? 1 : sizeOf(leading);
  const m = a.size / k / batch;
  const y = product('nn', a, b, { batch, m, n, k }, [...a.shape.slice(0, -1), n]);

  return record('matmul', y, [a, b], (dy, needs) => [
    needs[0] ? product('nt', dy, b, { batch, m, n: k, k: n }, a.shape) : undefined,
    needs[1] ? product('tn', a, dy, { batch, m: k, n, k: m }, b.shape) : undefined,
  ]);
}
