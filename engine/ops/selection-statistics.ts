// Statistics for the log, in one pass: how many pixels were kept, the accuracy of kept and dropped ones, and the mean confidence.
import { partialThreads } from '../../shaders/classes.js';
import { selectionSums, selectionValue } from '../../shaders/selection-statistics.js';
import { noGrad } from '../autograd.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { pixelSizes } from './labeled-pixels.js';
import { sum } from './reduce.js';

/**
 * What a mask selected, for the log: f32 [4] = fraction of pixels kept, accuracy of argmax(logits) on kept and on dropped
 * pixels whose label is a class (−1 where there are none), mean confidence. Logits [..., K], mask and labels u8 [...]. No gradient.
 * @example
 * const [mask, labels] = [[1, 0], [0, 0]].map((values) => tensor(gpu, values, [2], { dtype: 'u8' }));
 * const logits = tensor(gpu, [[0, 0], [0, 100]]);
 * console.log(await selectionStatistics(logits, mask, labels).read()); // [0.5, 1, 0, 0.75]
 */
export function selectionStatistics(logits: Tensor, mask: Tensor, labels: Tensor): Tensor {
  const sizes = pixelSizes('selectionStatistics', logits, { mask, labels });
  const threads = partialThreads(sizes.pixels);
  const partials = empty(logits.gpu, [threads, 6], 'f32', 'selectionStatistics.partials');
  run(selectionSums(sizes), { logits, mask, labels, partials }, { threads });
  const statistics = empty(logits.gpu, [4], 'f32', 'selectionStatistics');
  run(selectionValue(sizes.pixels), { sums: noGrad(logits.gpu, () => sum(partials, 0)), statistics }, { threads: 1 });
  return statistics;
}
