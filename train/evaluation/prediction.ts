// What predictors take and give.

import { show, sizeOf } from '../../engine/custom.js';
import { type PrepareOptions, ShapeError } from '../../engine/index.js';

/** How windows weigh in the mean of their probabilities. */
export type WindowWeights = 'uniform' | 'gaussian';

/**
 * Labels (argmax) of samples [count, …sides], values as the model was trained on; with `withConfidence` also the maximum class probability
 * of every voxel; of a predictor made with `probabilities` also those of all classes, [count, …sides, classes]. `sides` are the patch's
 * unless the predictor was made with a `stride`: then they may be any.
 */
export type Predictor = (
  samples: Float32Array,
  withConfidence?: boolean,
  sides?: readonly number[],
) => Promise<{
  labels: Uint8Array;
  confidence: Float32Array | undefined;
  probabilities?: Float32Array | undefined;
}>;

/** A predictor that can be made ready before it is first called. */
export interface PreparedPredictor extends Predictor {
  /** Compiles its kernels; nothing runs. */
  prepare(options?: PrepareOptions): Promise<unknown>;
}

/** How samples are predicted. */
export interface PredictorOptions {
  /** Patches at a time; default 8, and fewer where they have more than two million voxels together. */
  batch?: number | undefined;
  /** Class probabilities are means over the patch and its flips, along each axis and along several. */
  flips?: boolean | undefined;
  /** Gives the probabilities, too; their argmax is the label. Default false. */
  probabilities?: boolean | undefined;
  /**
   * Voxels between overlapping windows along each side, at most the patch's: samples of any size, class probabilities being means over the
   * windows. What a window reaches beyond the sample is 0. Default: samples are patches.
   */
  stride?: readonly number[] | undefined;
  /** Whether all places of a window weigh the same (default), or its middle more: a Gaussian with σ of an eighth of each side. */
  weights?: WindowWeights | undefined;
}

/** The error of samples that are no patches, for a predictor without a stride. */
export const otherSides = (sides: readonly number[], patch: readonly number[]): ShapeError =>
  new ShapeError(
    `predictor: got samples of ${show(sides)}, expected patches of ${show(patch)}. Make the predictor with a stride for other sizes.`,
  );

/** Patches at a time where nothing is said: eight, or as many as have two million voxels. */
export const batchFor = (patch: readonly number[]): number =>
  Math.max(1, Math.min(8, Math.floor(2 ** 21 / sizeOf(patch))));

/**
 * Makes the label of every voxel the first class of the greatest probability. Labels are of logits, or of sums: two that differ little may
 * round to one probability, and then the earlier class loses the last bit of its own.
 */
export function settleTies(probabilities: Float32Array, labels: Uint8Array): void {
  const classes = probabilities.length / labels.length;
  for (const [i, label] of labels.entries()) {
    const most = probabilities[i * classes + label]!;
    for (let k = 0; k < classes; k++) {
      const at = i * classes + k;
      if (k < label && probabilities[at]! >= most) probabilities[at] = most * (1 - 2 ** -24);
      else if (k > label && probabilities[at]! > most) probabilities[at] = most;
    }
  }
}
