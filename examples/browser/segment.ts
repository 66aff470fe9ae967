// Segmentation of a whole study on the network's grid, a part at a time, and back on the study's own: slice by slice, or by a network of
// volumes in windows that overlap by half.
import { type Grid, type NativeSample, restoreLabels, sampleOnGrid, sidesAt, voxelsOf } from 'wgrad/data';
import type * as model from 'wgrad/model';
import { createPredictor } from 'wgrad/predictor';
import { nativeSlice, nativeVolume, type Segmentation, type Study } from './study.js';

/** Slices at a time: the page can draw between them. */
const batch = 4;

/** Segments studies with a model's current weights. */
export type Segmenter = (study: Study, progress?: (share: number) => void) => Promise<Segmentation>;

/** A segmenter that resizes slices or volumes to the grid's patch (or cuts them at its `spacing`), as the model was trained. */
export function createSegmenter(network: model.Segmenter, grid: Grid): Segmenter {
  const isSolid = grid.patch.length === 3;
  const stride = isSolid ? grid.patch.map((side) => Math.ceil(side / 2)) : undefined;
  const predict = createPredictor(network.gpu, network, grid.patch, { stride, ...(!isSolid && { batch }) });
  return async (study, progress) => {
    const isCut = grid.spacing?.some((mm) => mm > 0);
    const whole = isSolid && isCut ? { ...grid, patch: sidesAt(study, grid) } : grid;
    const voxels = voxelsOf(whole);
    const count = isSolid ? 1 : study.depth;
    const sampleAt = (i: number): NativeSample => (isSolid ? nativeVolume(study) : nativeSlice(study, i));
    const labels = new Uint8Array(count * voxels);
    const confidence = new Uint8Array(count * voxels);
    for (let first = 0; first < count; first += batch) {
      const used = Math.min(batch, count - first);
      const samples = new Float32Array(used * voxels);
      for (let i = 0; i < used; i++) {
        samples.set(sampleOnGrid(sampleAt(first + i), whole, { kind: 'identity' }).image, i * voxels);
      }
      const result = await predict(samples, true, whole.patch);
      labels.set(result.labels, first * voxels);
      result.confidence!.forEach((p, i) => {
        confidence[first * voxels + i] = Math.round(255 * p);
      });
      progress?.((first + used) / count);
    }
    return { labels: restoreLabels(labels, whole, study), confidence: restoreLabels(confidence, whole, study) };
  };
}
