// Segmentation of a whole study on the network's grid, a part at a time, and back on the study's own: slices or volumes as the network was
// trained on them, or by windows that overlap by half where it was trained on patches.
import { nativeSamples, restoreLabels, sampleOnGrid, sidesAt, voxelsOf } from 'wgrad/data';
import type * as model from 'wgrad/model';
import { createPredictor } from 'wgrad/predictor';
import { type Segmentation, type Study, scaledImage } from './study.js';
import type { Weights } from './weights.js';

/** Slices at a time: the page can draw between them. */
const batch = 4;

/** Segments studies with a model's current weights. */
export type Segmenter = (study: Study, progress?: (share: number) => void) => Promise<Segmentation>;

/** A segmenter of a network that reads studies as `weights` says. */
export function createSegmenter(network: model.Segmenter, weights: Weights): Segmenter {
  const { patch, sample, spacing } = weights;
  const isSolid = patch.length === 3;
  const byWindows = sample === 'patches' || (isSolid && spacing.some((mm) => mm > 0));
  const stride = byWindows ? patch.map((side) => Math.ceil(side / 2)) : undefined;
  const predict = createPredictor(network.gpu, network, patch, { stride, ...(!isSolid && { batch }) });
  return async (study, progress) => {
    const grid = byWindows ? { ...weights, patch: sidesAt(study, weights) } : weights;
    const voxels = voxelsOf(grid);
    const image = scaledImage(study, weights);
    const all = nativeSamples({ ...study, image, label: undefined, case: { id: study.name } }, grid);
    const labels = new Uint8Array(all.length * voxels);
    const confidence = new Uint8Array(all.length * voxels);
    for (let first = 0; first < all.length; first += batch) {
      const some = all.slice(first, first + batch);
      const samples = new Float32Array(some.length * voxels);
      for (const [i, each] of some.entries())
        samples.set(sampleOnGrid(each, grid, { kind: 'identity' }).image, i * voxels);
      const result = await predict(samples, true, grid.patch);
      labels.set(result.labels, first * voxels);
      result.confidence!.forEach((p, i) => {
        confidence[first * voxels + i] = Math.round(255 * p);
      });
      progress?.((first + some.length) / all.length);
    }
    return { labels: restoreLabels(labels, grid, study), confidence: restoreLabels(confidence, grid, study) };
  };
}
