// Turns a model into a function from slices to labels: one captured step of a fixed batch in eval mode, fed in turns.
import { argmax, capture, type Gpu, max, noGrad, softmax, tensor } from '../engine/index.js';
import type { UNet } from '../model/index.js';

/**
 * Labels (argmax) of slices [count, size, size], values in [0, 1]; with `withConfidence` also the maximum class probability
 * of every pixel.
 */
export type Predictor = (
  slices: Float32Array,
  withConfidence?: boolean,
) => Promise<{ labels: Uint8Array; confidence: Float32Array | undefined }>;

/** A predictor for slices of size×size pixels; the model's current weights are used at every call. */
export function createPredictor(gpu: Gpu, model: UNet, size: number, batch = 8): Predictor {
  const perSlice = size * size;
  const image = tensor(gpu, 0, [batch, size, size, 1], { label: 'slices' });
  const step = capture(gpu, () =>
    noGrad(() => {
      const logits = model(image, { mode: 'eval' });
      return { labels: argmax(logits), confidence: max(softmax(logits), -1) };
    }),
  );
  return async (slices, withConfidence = false) => {
    const count = slices.length / perSlice;
    const labels = new Uint8Array(slices.length);
    const confidence = withConfidence ? new Float32Array(slices.length) : undefined;
    const padded = new Float32Array(batch * perSlice);
    for (let first = 0; first < count; first += batch) {
      const used = Math.min(batch, count - first) * perSlice;
      padded.fill(0);
      padded.set(slices.subarray(first * perSlice, first * perSlice + used));
      image.write(padded);
      const result = step();
      labels.set((await result.labels.read()).subarray(0, used), first * perSlice);
      if (confidence) confidence.set((await result.confidence.read()).subarray(0, used), first * perSlice);
    }
    return { labels, confidence };
  };
}
