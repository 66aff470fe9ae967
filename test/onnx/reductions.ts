// Rows of ONNX's table: reductions, and what orders elements.
import type { Tensor } from '../../engine/index.js';
import { type Compute, type Node, type Rows, w } from './node.js';

type Reduction = (x: Tensor, axes?: readonly number[], options?: { keepDims?: boolean }) => Tensor;

const reduction =
  (f: Reduction): Compute =>
  (n) => {
    const axes = n.given(1) ?? n.numbers('axes') ?? [];
    if (!axes.length && n.number('noop_with_empty_axes', 0)) return n.x();
    return f(n.x(), axes.length ? axes : undefined, { keepDims: n.number('keepdims', 1) === 1 });
  };

function arg(n: Node, op: 'argmax' | 'argmin'): Tensor {
  const [x, axis] = [n.x(), n.axis(0)];
  const shape = n.number('keepdims', 1) ? x.shape.with(axis, 1) : undefined;
  const isLast = n.number('select_last_index', 0) === 1;
  const first = w[op](isLast ? w.flip(x, axis) : x, axis);
  const y = isLast ? w.sub(x.shape[axis]! - 1, w.cast(first, 'i32')) : first;
  return shape ? w.reshape(y, shape) : y;
}

export const reductions: Rows = {
  ArgMax: [
    '`argmax(x, axis)`; `reshape` keeps the axis; the last of equals through `flip` and `sub`',
    (n) => arg(n, 'argmax'),
  ],
  ArgMin: [
    '`argmin(x, axis)`; `reshape` keeps the axis; the last of equals through `flip` and `sub`',
    (n) => arg(n, 'argmin'),
  ],
  Compress: "the result's size would depend on data",
  CumSum: [
    '`cumsum(x, axis, { exclusive, reverse })`',
    (n) =>
      w.cumsum(n.x(), n.given(1)![0]!, {
        exclusive: n.number('exclusive', 0) === 1,
        reverse: n.number('reverse', 0) === 1,
      }),
  ],
  Hardmax: [
    '`oneHot(argmax(x), classes)`; along another axis with `permute`',
    (n) => {
      const [x, axis] = [n.x(), n.axis(-1)];
      const y = w.oneHot(w.argmax(x, axis), x.shape[axis]!);
      const order = x.shape.map((_, i) => (i < axis ? i : i - 1)).with(axis, x.shape.length - 1);
      return axis === x.shape.length - 1 ? y : w.permute(y, order);
    },
  ],
  NonMaxSuppression: "the result's size would depend on data",
  NonZero: "the result's size would depend on data",
  ReduceL1: ['`sum(abs(x), axes, { keepDims })`', reduction((x, ...rest) => w.sum(w.abs(x), ...rest))],
  ReduceL2: [
    '`sqrt(sum(square(x), axes, { keepDims }))`',
    reduction((x, ...rest) => w.sqrt(w.sum(w.square(x), ...rest))),
  ],
  ReduceLogSum: ['`log(sum(x, axes, { keepDims }))`', reduction((x, ...rest) => w.log(w.sum(x, ...rest)))],
  ReduceLogSumExp: [
    '`log(sum(exp(x), axes, { keepDims }))`',
    reduction((x, ...rest) => w.log(w.sum(w.exp(x), ...rest))),
  ],
  ReduceMax: ['`max(x, axes, { keepDims })`', reduction((...args) => w.max(...args))],
  ReduceMean: ['`mean(x, axes, { keepDims })`', reduction((...args) => w.mean(...args))],
  ReduceMin: ['`min(x, axes, { keepDims })`', reduction((...args) => w.min(...args))],
  ReduceProd: ['`prod(x, axes, { keepDims })`', reduction((...args) => w.prod(...args))],
  ReduceSum: ['`sum(x, axes, { keepDims })`', reduction((...args) => w.sum(...args))],
  ReduceSumSquare: ['`sum(square(x), axes, { keepDims })`', reduction((x, ...rest) => w.sum(w.square(x), ...rest))],
  TopK: [
    '`topK(x, k, { axis, largest })`',
    (n) => {
      const options = { axis: n.axis(-1), largest: n.number('largest', 1) === 1 };
      const { values, indices } = w.topK(n.x(), n.given(1)![0]!, options);
      return [values, indices];
    },
  ],
  Unique: "the result's size would depend on data",
};
