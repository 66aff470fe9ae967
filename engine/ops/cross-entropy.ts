// Cross-entropy of logits and labels in one pass; labels that are not a class are ignored and left out of the mean.
import { rowWalk } from '../../shaders/class-rows.js';
import { partialThreads } from '../../shaders/classes.js';
import {
  crossEntropyBackward,
  crossEntropyForward,
  crossEntropySlopes,
  crossEntropySums,
  crossEntropyValue,
} from '../../shaders/cross-entropy.js';
import { checkOptions } from '../arguments.js';
import { noGrad, record } from '../autograd.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { statisticsOfMany } from './class-statistics.js';
import { expectTensors } from './float-type.js';
import { type LabelOptions, labeledSizes, namedClasses } from './labeled-pixels.js';
import { sum } from './reduce.js';

/**
 * Mean of −log softmax(logits)[label] over the pixels whose label is a class: logits f32 or f16 [..., K] of any number K ≥ 2 of
 * classes, labels u8, u32 or i32 [...] → f32 []. A label outside 0 … K − 1, or equal to `ignoreIndex` (default 255), is ignored: its
 * pixel is not in the mean and has no gradient. Where all are ignored the loss is 0 (NaN if the logits have a NaN) and so is the
 * gradient. Throws a ShapeError for other shapes and types.
 */
export function crossEntropy(logits: Tensor, labels: Tensor, options: LabelOptions = {}): Tensor {
  expectTensors('crossEntropy', logits, labels);
  checkOptions('crossEntropy', options, ['ignoreIndex']);
  const { gpu } = logits;
  const sizes = labeledSizes('crossEntropy', logits, labels, options);
  const many = sizes.classes > namedClasses;
  const statistics: Record<string, Tensor> = many ? { statistics: statisticsOfMany(logits, sizes) } : {};
  const threads = partialThreads(sizes.pixels);
  const partials = empty(gpu, [threads, 3], 'f32', 'crossEntropy.partials');
  const forward = many ? crossEntropySums(sizes) : crossEntropyForward(sizes);
  run(forward, { logits, labels, ...statistics, partials }, { threads });
  const sums = noGrad(gpu, () => sum(partials, 0));
  const loss = empty(gpu, [], 'f32', 'crossEntropy');
  run(crossEntropyValue(), { sums, loss }, { threads: 1 });

  return record('crossEntropy', loss, [logits], (dloss) => {
    const dlogits = empty(gpu, logits.shape, logits.dtype, 'dlogits');
    const source = many ? crossEntropySlopes(sizes) : crossEntropyBackward(sizes);
    const elements = many ? sizes.pixels * rowWalk(sizes).count : sizes.pixels;
    run(source, { logits, labels, ...statistics, sums, dloss, dlogits }, { threads: elements });
    return [dlogits];
  });
}
