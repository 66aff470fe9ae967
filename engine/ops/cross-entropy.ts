import { partialThreads } from '../../shaders/classes.js';
import { crossEntropyBackward, crossEntropyForward } from '../../shaders/cross-entropy.js';
import { noGrad, record } from '../autograd.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { mul } from './arithmetic.js';
import { pixelSizes } from './labeled-pixels.js';
import { sum } from './reduce.js';

/** Mean over pixels of −log softmax(logits)[label]: logits [..., K], labels u8 [...] below K → []. */
export function crossEntropy(logits: Tensor, labels: Tensor): Tensor {
  const sizes = pixelSizes('crossEntropy', logits, { labels });
  const threads = partialThreads(sizes.pixels);
  const partials = empty(logits.gpu, [threads], 'f32', 'crossEntropy.partials');
  run(crossEntropyForward(sizes), { logits, labels, partials }, { threads });
  const loss = noGrad(logits.gpu, () => mul(sum(partials), 1 / sizes.pixels));

  return record('crossEntropy', loss, [logits], (dloss) => {
    const dlogits = empty(logits.gpu, logits.shape, logits.dtype, 'dlogits');
    run(crossEntropyBackward(sizes), { logits, labels, dloss, dlogits }, { threads: sizes.pixels });
    return [dlogits];
  });
}
