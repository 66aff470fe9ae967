// Entropy of the mean of several predictions (uamt): a running sum, so that passes share their buffers.
import { meanEntropyPass } from '../../shaders/mean-entropy.js';
import { noGrad } from '../autograd.js';
import type { Gpu } from '../device.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { pixelSizes } from './labeled-pixels.js';

/**
 * Entropy f32 [...], in nats, of the mean softmax of the logits [..., K] on `gpu` that `passes` calls of `pass` give (formula in
 * shaders/mean-entropy.ts). Each pass reuses the buffers of the one before; only their sum is kept. No gradient.
 * @example
 * console.log(await meanEntropy(gpu, 2, () => tensor(gpu, [[0, 0]])).read()); // [0.6931]
 */
export function meanEntropy(gpu: Gpu, passes: number, pass: () => Tensor): Tensor {
  if (!Number.isSafeInteger(passes) || passes < 1) {
    throw new ShapeError(`meanEntropy: got ${passes} passes, expected a whole number of at least 1.`);
  }
  return noGrad(gpu, () => {
    let sum: Tensor | undefined;
    let entropy: Tensor | undefined;
    for (let t = 0; t < passes; t++) {
      const logits = pass();
      const sizes = pixelSizes('meanEntropy', logits, {});
      if (sum && sum.size !== logits.size) {
        throw new ShapeError(
          `meanEntropy: pass ${t} gave ${show(logits.shape)}, expected ${show(sum.shape)} as the first.`,
        );
      }
      const last = t === passes - 1;
      if (!sum && !last) sum = empty(logits.gpu, logits.shape, 'f32', 'meanEntropy.sum');
      if (last) entropy = empty(logits.gpu, logits.shape.slice(0, -1), 'f32', 'meanEntropy');
      run(
        meanEntropyPass(sizes, { passes, first: t === 0, last }),
        { logits, ...(sum && { sum }), ...(entropy && { entropy }) },
        { threads: sizes.pixels },
      );
    }
    return entropy!;
  });
}
