// Losses of pairs: predictions and targets of one shape. The mean is one f32 number.
import { type PairLoss, pairLossBackward, pairLossForward, pairThreads } from '../../shaders/pair-loss.js';
import { checkNoMore, checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError, sameShape, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, view } from '../tensor.js';
import { floatType } from './float-type.js';
import { over, reduceMiddle } from './reduce.js';

function pairLoss(kind: PairLoss, a: Tensor, b: Tensor, numbers?: number[]): Tensor {
  const dtype = floatType(kind, a, b);
  if (!sameShape(a.shape, b.shape)) {
    throw new ShapeError(`${kind}: got ${show(a.shape)} and ${show(b.shape)}, expected one shape. Reshape one.`);
  }
  const { gpu, size } = a;
  const sizes = { kind, dtype, size };
  const bound = { a_: a, b_: b, ...(numbers && { numbers }) };
  const threads = pairThreads(size);
  const partials = empty(gpu, [threads], 'f32', `${kind}.partials`);
  run(pairLossForward(sizes), { ...bound, partials }, { threads });
  const sums = { outer: 1, count: threads, inner: 1, to: 'f32', divisor: over(size) } as const;
  const loss = view(reduceMiddle('sum', partials, sums), []);

  return record(kind, loss, [a, b], (dloss, needs) =>
    (['a', 'b'] as const).map((of, i) => {
      if (!needs[i]) return undefined;
      const gradient = empty(gpu, a.shape, dtype, `d${kind}`);
      const width = size % 4 === 0 ? 4 : 1;
      run(pairLossBackward(sizes, of), { ...bound, dloss, count: [size], gradient }, { threads: size / width });
      return gradient;
    }),
  );
}

/**
 * Mean of (a − b)² over all elements, f32 []; a and b f32 or f16 of one shape. Throws a ShapeError for two shapes or types.
 * @example
 * console.log(await meanSquaredError(tensor(gpu, [1, 2]), tensor(gpu, [1, 4])).item()); // 2
 */
export function meanSquaredError(a: Tensor, b: Tensor, ...others: never[]): Tensor {
  checkNoMore('meanSquaredError', others, 'two tensors');
  return pairLoss('meanSquaredError', a, b);
}

/**
 * Huber's loss (1964), the mean of ½d² where |d| ≤ δ and of δ(|d| − ½δ) elsewhere, d = a − b: f32 []; a and b f32 or f16 of one
 * shape, δ 1 if not given. Throws a ShapeError for two shapes or types, and unless δ > 0.
 * @example
 * console.log(await huberLoss(tensor(gpu, [0, 0]), tensor(gpu, [1, 3])).item()); // 1.5
 */
export function huberLoss(a: Tensor, b: Tensor, options: { delta?: number } = {}): Tensor {
  checkOptions('huberLoss', options, ['delta']);
  const { delta = 1 } = options;
  if (!(delta > 0)) throw new ShapeError(`huberLoss: delta is ${showValue(delta)} — expected a number above 0.`);
  return pairLoss('huberLoss', a, b, [delta]);
}

/**
 * Mean of −t·log p − (1 − t)·log(1 − p) over all elements with p = sigmoid(logits), f32 []; logits and targets t in [0, 1] are f32 or
 * f16 of one shape. It takes logits, not probabilities, so that it is finite and exact for large ones. Throws a ShapeError for two
 * shapes or types.
 * @example
 * console.log(await binaryCrossEntropy(tensor(gpu, [0, 0]), tensor(gpu, [0, 1])).item()); // 0.6931
 */
export function binaryCrossEntropy(logits: Tensor, targets: Tensor, ...others: never[]): Tensor {
  checkNoMore('binaryCrossEntropy', others, 'two tensors');
  return pairLoss('binaryCrossEntropy', logits, targets);
}
