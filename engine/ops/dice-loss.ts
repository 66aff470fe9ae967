// Soft Dice loss with squared denominators, from logits: probabilities are never stored.
import { rowWalk } from '../../shaders/class-rows.js';
import { partialThreads } from '../../shaders/classes.js';
import type { LabeledSizes } from '../../shaders/cross-entropy.js';
import {
  diceChunks,
  diceLossBackward,
  diceLossValue,
  diceSlopesOfMany,
  diceSums,
  diceSumsOfMany,
  diceValueOfMany,
} from '../../shaders/dice-loss.js';
import { checkOptions } from '../arguments.js';
import { noGrad, record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { statisticsOfMany } from './class-statistics.js';
import { expectTensors } from './float-type.js';
import { type LabelOptions, labeledSizes, namedClasses } from './labeled-pixels.js';
import { sum } from './reduce.js';

/** Options of the Dice loss. */
export interface DiceOptions extends LabelOptions {
  /** ε ≥ 0 in numerator and denominator; default 1e-5. */
  epsilon?: number;
  /** Which classes the mean is over: all, the default, or all but the first, which is the background. */
  classes?: 'all' | 'foreground';
}

/**
 * Soft Dice loss of softmax(logits) over all classes with squared denominators (Milletari et al. 2016, batch-flattened as
 * SSL4MIS): 1 − mean_k (2 Σ p·y + ε)/(Σ p² + Σ y² + ε). Logits f32 or f16 [..., K] of any number K ≥ 2 of classes, labels u8, u32 or
 * i32 [...] → f32 []. With `classes: 'foreground'` the mean leaves out class 0 (UA-MT). A label outside 0 … K − 1, or equal to `ignoreIndex` (default 255), is ignored: its pixel is in no sum and has
 * no gradient. Where all are ignored the loss is 0 (NaN if the logits have a NaN) and so is the gradient. A number in place of the
 * options is ε. Throws a ShapeError for other shapes and types.
 * @example
 * const labels = tensor(gpu, [0, 1], [2], { dtype: 'u8' });
 * const logits = tensor(gpu, [[50, 0], [0, 50]]); // right, and sure of it
 * console.log(await diceLoss(logits, labels).item()); // 0
 */
export function diceLoss(logits: Tensor, labels: Tensor, options: number | DiceOptions = {}): Tensor {
  const given = typeof options === 'number' ? { epsilon: options } : options;
  expectTensors('diceLoss', logits, labels);
  checkOptions('diceLoss', given, ['epsilon', 'classes', 'ignoreIndex']);
  const { epsilon = 1e-5 } = given;
  const foreground = isForeground('diceLoss', 'classes', given.classes);
  if (!(epsilon >= 0 && epsilon < 1e30)) throw new ShapeError(`diceLoss: epsilon must be 0 or more — got ${epsilon}.`);
  const sizes = labeledSizes('diceLoss', logits, labels, given);
  return (sizes.classes > namedClasses ? ofMany : ofFew)(logits, labels, sizes, epsilon, foreground);
}

/** @internal Whether a Dice loss is over the foreground; throws a ShapeError for another word. */
export function isForeground(op: string, option: string, given: string = 'all'): boolean {
  if (given !== 'all' && given !== 'foreground')
    throw new ShapeError(`${op}: ${option} must be all or foreground — got ${given}.`);
  return given === 'foreground';
}

function ofFew(logits: Tensor, labels: Tensor, sizes: LabeledSizes, epsilon: number, foreground: boolean): Tensor {
  const { gpu } = logits;
  const threads = partialThreads(sizes.pixels);
  const partials = empty(gpu, [threads, 3 * sizes.classes + 1], 'f32', 'diceLoss.partials');
  run(diceSums(sizes), { logits, labels, partials }, { threads });
  const sums = noGrad(gpu, () => sum(partials, 0));
  const loss = empty(gpu, [], 'f32', 'diceLoss');
  run(diceLossValue(sizes.classes, epsilon, foreground), { sums, loss }, { threads: 1 });

  return record('diceLoss', loss, [logits], (dloss) => {
    const dlogits = empty(gpu, logits.shape, logits.dtype, 'dlogits');
    run(
      diceLossBackward(sizes, epsilon, foreground),
      { logits, labels, sums, dloss, dlogits },
      { threads: sizes.pixels },
    );
    return [dlogits];
  });
}

function ofMany(logits: Tensor, labels: Tensor, sizes: LabeledSizes, epsilon: number, foreground: boolean): Tensor {
  const { gpu } = logits;
  const { classes } = sizes;
  const walk = rowWalk(sizes);
  const chunks = diceChunks(sizes);
  const statistics = statisticsOfMany(logits, sizes);
  const partials = empty(gpu, [chunks, 3 * classes + 1], 'f32', 'diceLoss.partials');
  run(diceSumsOfMany(sizes), { logits, labels, statistics, partials }, { threads: chunks * walk.count });
  const sums = noGrad(gpu, () => sum(partials, 0));
  const loss = empty(gpu, [], 'f32', 'diceLoss');
  const factors = empty(gpu, [2, classes], 'f32', 'diceLoss.factors');
  run(diceValueOfMany(classes, epsilon, foreground), { sums, loss, factors }, { workgroups: [1] });

  return record('diceLoss', loss, [logits], (dloss) => {
    const dlogits = empty(gpu, logits.shape, logits.dtype, 'dlogits');
    run(diceSlopesOfMany(sizes), { logits, labels, statistics, factors, dloss, dlogits }, { threads: walk.threads });
    return [dlogits];
  });
}
