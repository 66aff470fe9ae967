import { partialThreads } from '../../shaders/classes.js';
import { diceLossBackward, diceLossValue, diceSums } from '../../shaders/dice-loss.js';
import { noGrad, record } from '../autograd.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { pixelSizes } from './labeled-pixels.js';
import { sum } from './reduce.js';

/**
 * Soft Dice loss of softmax(logits) over all classes with squared denominators (Milletari et al. 2016, batch-flattened as
 * SSL4MIS): 1 − mean_k (2 Σ p·y + ε)/(Σ p² + Σ y² + ε). Logits [..., K], labels u8 [...] → [].
 */
export function diceLoss(logits: Tensor, labels: Tensor, epsilon = 1e-5): Tensor {
  const sizes = pixelSizes('diceLoss', logits, { labels });
  const threads = partialThreads(sizes.pixels);
  const partials = empty(logits.gpu, [threads, 3 * sizes.classes], 'f32', 'diceLoss.partials');
  run(diceSums(sizes), { logits, labels, partials }, { threads });
  const sums = noGrad(logits.gpu, () => sum(partials, 0));
  const loss = empty(logits.gpu, [], 'f32', 'diceLoss');
  run(diceLossValue(sizes.classes, epsilon), { sums, loss }, { threads: 1 });

  return record('diceLoss', loss, [logits], (dloss) => {
    const dlogits = empty(logits.gpu, logits.shape, logits.dtype, 'dlogits');
    run(diceLossBackward(sizes, epsilon), { logits, labels, sums, dloss, dlogits }, { threads: sizes.pixels });
    return [dlogits];
  });
}
