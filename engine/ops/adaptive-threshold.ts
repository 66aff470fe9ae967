// Thresholds that the GPU updates from the confidence of student and teacher (formulas in shaders/adaptive-threshold.ts). Their
// state persists: later launches read it, and a run saves it.

import {
  classConfidence,
  classThresholdUpdate,
  classWalk,
  confidenceHistogram,
  histogramBins,
  histogramGroups,
  quantileUpdate,
  type ThresholdSizes,
} from '../../shaders/adaptive-threshold.js';
import type { Confidence } from '../../shaders/consistency.js';
import type { Gpu } from '../device.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { pixelSizes } from './labeled-pixels.js';

/** Options of both kinds of threshold. */
export interface AnyThreshold {
  /** Whose maximum class probability is the confidence. */
  confidence: Exclude<Confidence, 'given' | 'none'>;
  /** The first of the student's pixels that counts; the labelled ones come before it. */
  firstPixel: number;
  /** Upper bound of the moving average's momentum; 0 uses each batch alone. */
  momentum: number;
}

/** State of a threshold that is a quantile: τ [] and how many updates it had []. */
export interface QuantileThreshold {
  readonly value: Tensor;
  readonly updates: Tensor;
}

/** State of a threshold for each class, all [K]: τ_k, moving means of the confidence, and how many updates those had. */
export interface ClassThresholds {
  readonly values: Tensor;
  readonly means: Tensor;
  readonly updates: Tensor;
}

/**
 * A threshold that was never updated.
 * @example
 * console.log(await createQuantileThreshold(gpu).updates.item()); // 0
 */
export const createQuantileThreshold = (gpu: Gpu): QuantileThreshold => ({
  value: tensor(gpu, 0, [], { label: 'threshold.value' }),
  updates: tensor(gpu, 0, [], { label: 'threshold.updates' }),
});

/**
 * Thresholds of classes that were never seen.
 * @example
 * console.log(createClassThresholds(gpu, 4).values.shape); // [4]
 */
export const createClassThresholds = (gpu: Gpu, classes: number): ClassThresholds => ({
  values: tensor(gpu, 0, [classes], { label: 'threshold.values' }),
  means: tensor(gpu, 0, [classes], { label: 'threshold.means' }),
  updates: tensor(gpu, 0, [classes], { label: 'threshold.updates' }),
});

/**
 * Moves τ in place towards the quantile (0 to 1) of the confidence of logits [..., K]: that share of the pixels lies below it, to
 * within a bin of (1 − 1/K)/1024. The teacher's logits cover all pixels, or those that count. No gradient.
 * @example
 * const threshold = createQuantileThreshold(gpu);
 * const [student, teacher] = [tensor(gpu, [[0, 0]]), tensor(gpu, [[0, 0]])];
 * const options = { confidence: 'student', firstPixel: 0, quantile: 0.5, momentum: 0 };
 * updateQuantileThreshold(threshold, student, teacher, options);
 * console.log(await threshold.updates.item()); // 1
 */
export function updateQuantileThreshold(
  { value, updates }: QuantileThreshold,
  student: Tensor,
  teacher: Tensor,
  options: AnyThreshold & { quantile: number },
): void {
  const { quantile, momentum } = options;
  const op = 'updateQuantileThreshold';
  if (!(quantile >= 0 && quantile <= 1)) throw new ShapeError(`${op}: got quantile ${quantile}, expected 0 to 1.`);
  const sizes = sizesOf(op, student, teacher, options);
  const groups = histogramGroups(sizes);
  const histograms = empty(student.gpu, [groups, histogramBins], 'u32', 'histograms');
  run(confidenceHistogram(sizes), { student, teacher, histograms }, { workgroups: [groups] });
  run(quantileUpdate(sizes, quantile, momentum), { histograms, value, updates }, { workgroups: [1] });
}

/**
 * Moves τ_k in place: `base` (one number) times the mean confidence of class k over the largest mean of a class. No gradient.
 * @example
 * const thresholds = createClassThresholds(gpu, 2);
 * const [student, teacher] = [tensor(gpu, [[0, 1]]), tensor(gpu, [[0, 1]])];
 * const options = { confidence: 'student', firstPixel: 0, base: tensor(gpu, 0.9), momentum: 0 };
 * updateClassThresholds(thresholds, student, teacher, options);
 * console.log(await thresholds.updates.read()); // [0, 1]
 */
export function updateClassThresholds(
  { values, means, updates }: ClassThresholds,
  student: Tensor,
  teacher: Tensor,
  options: AnyThreshold & { base: Tensor },
): void {
  const { base, momentum } = options;
  const op = 'updateClassThresholds';
  const sizes = sizesOf(op, student, teacher, options);
  if (base.dtype !== 'f32' || base.size !== 1 || values.size !== sizes.classes) {
    throw new ShapeError(
      `${op}: got base ${base.dtype} ${show(base.shape)} and thresholds ${show(values.shape)}, expected one f32 number and [${sizes.classes}].`,
    );
  }
  const { rows, threads } = classWalk(sizes);
  const partials = empty(student.gpu, [rows, 2 * sizes.classes], 'f32', `${op}.partials`);
  run(classConfidence(sizes), { student, teacher, partials }, { threads });
  run(
    classThresholdUpdate(sizes, momentum),
    { partials, base, means, updates, thresholds: values },
    { workgroups: [1] },
  );
}

function sizesOf(
  op: string,
  student: Tensor,
  teacher: Tensor,
  { confidence, firstPixel: first }: AnyThreshold,
): ThresholdSizes {
  const { pixels, classes } = pixelSizes(op, student, {});
  if (!Number.isInteger(first) || first < 0 || first >= pixels) {
    throw new ShapeError(`${op}: got firstPixel ${first} of ${pixels} pixels. Leave at least one.`);
  }
  const everywhere = teacher.size === student.size;
  if (teacher.shape.at(-1) !== classes || (!everywhere && teacher.size !== (pixels - first) * classes)) {
    throw new ShapeError(
      `${op}: got teacher's logits ${show(teacher.shape)} for logits ${show(student.shape)}, expected ${classes} classes of ${pixels - first} or ${pixels} pixels.`,
    );
  }
  return { dtype: floatType(op, student, teacher), pixels, classes, confidence, first, everywhere };
}
