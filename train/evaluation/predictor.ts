// Turns a model into a function from samples to labels and probabilities: one captured step of a fixed batch in eval mode, fed in turns.
// Overlapping windows and flips, whose probabilities are averaged, are in window-predictor.ts.

import { sizeOf } from '../../engine/custom.js';
import { argmax, capture, type Gpu, max, noGrad, softmax, tensor } from '../../engine/index.js';
import type { Segmenter } from '../../model/index.js';
import {
  batchFor,
  otherSides,
  type Predictor,
  type PredictorOptions,
  type PreparedPredictor,
  settleTies,
} from './prediction.js';
import { createWindowPredictor } from './window-predictor.js';

export type { Predictor, PredictorOptions, PreparedPredictor, WindowWeights } from './prediction.js';

/**
 * A predictor for patches of these sides, [height, width] or [depth, height, width], or by windows of them; the model's current weights are
 * used at every call. Throws a ShapeError for a stride that is not one of the patch, and when called with other samples than it takes.
 */
export function createPredictor(
  gpu: Gpu,
  model: Segmenter,
  patch: readonly number[],
  options: PredictorOptions = {},
): PreparedPredictor {
  const { batch = batchFor(patch), flips = false, stride, probabilities: withProbabilities = false } = options;
  if (flips || stride) return createWindowPredictor(gpu, model, patch, options);
  const voxels = sizeOf(patch);
  const image = tensor(gpu, 0, [batch, ...patch, 1], { label: 'patches' });
  const step = capture(gpu, () =>
    noGrad(gpu, () => {
      const logits = model(image, { mode: 'eval' });
      const labels = argmax(logits);
      const probabilities = softmax(logits);
      return {
        labels,
        confidence: max(probabilities, -1),
        ...(withProbabilities && { probabilities }),
      };
    }),
  );
  const predict: Predictor = async (patches, withConfidence = false, sides = patch) => {
    if (`${sides}` !== `${patch}`) throw otherSides(sides, patch);
    const labels = new Uint8Array(patches.length);
    const confidence = withConfidence ? new Float32Array(patches.length) : undefined;
    const probabilities = withProbabilities ? new Float32Array(patches.length * model.classes) : undefined;
    const padded = new Float32Array(batch * voxels);
    for (let first = 0; first < patches.length; first += batch * voxels) {
      const used = Math.min(batch * voxels, patches.length - first);
      padded.fill(0);
      padded.set(patches.subarray(first, first + used));
      image.write(padded);
      const result = step();
      labels.set((await result.labels.read()).subarray(0, used), first);
      confidence?.set((await result.confidence.read()).subarray(0, used), first);
      probabilities?.set((await result.probabilities!.read()).subarray(0, used * model.classes), first * model.classes);
    }
    if (!probabilities) return { labels, confidence };
    settleTies(probabilities, labels);
    return { labels, confidence, probabilities };
  };
  return Object.assign(predict, { prepare: step.prepare });
}
