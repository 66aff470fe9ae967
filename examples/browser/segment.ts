// Segmentation of a whole study: slices on the network's grid, a few at a time, and back on the study's own.

import { type Grid, restoreLabels, sampleOnGrid, voxelsOf } from 'wgrad/data';
import type * as model from 'wgrad/model';
import { createPredictor } from 'wgrad/predictor';
import { nativeSlice, type Segmentation, type Study } from './study.js';

/** Slices at a time: the page can draw between them. */
const batch = 4;

/** Segments studies with a model's current weights. */
export type Segmenter = (study: Study, progress?: (share: number) => void) => Promise<Segmentation>;

/** A segmenter that resizes slices to the grid's patch (or cuts them at its `spacing`), as the model was trained. */
export function createSegmenter(network: model.Segmenter, grid: Grid): Segmenter {
  const pixels = voxelsOf(grid);
  const predict = createPredictor(network.gpu, network, grid.patch, { batch });
  return async (study, progress) => {
    const labels = new Uint8Array(study.depth * pixels);
    const confidence = new Uint8Array(study.depth * pixels);
    const slices = new Float32Array(batch * pixels);
    for (let first = 0; first < study.depth; first += batch) {
      const count = Math.min(batch, study.depth - first);
      for (let i = 0; i < count; i++) {
        slices.set(sampleOnGrid(nativeSlice(study, first + i), grid, { kind: 'identity' }).image, i * pixels);
      }
      const result = await predict(slices.subarray(0, count * pixels), true);
      labels.set(result.labels, first * pixels);
      result.confidence!.forEach((p, i) => {
        confidence[first * pixels + i] = Math.round(255 * p);
      });
      progress?.((first + count) / study.depth);
    }
    return { labels: restoreLabels(labels, grid, study), confidence: restoreLabels(confidence, grid, study) };
  };
}
