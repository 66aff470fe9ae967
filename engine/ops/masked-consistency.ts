// Consistency of student and teacher on kept pixels, and the mask that selects them.
import { partialThreads } from '../../shaders/classes.js';
import type { Confidence, ConsistencyKind, Keeping } from '../../shaders/consistency.js';
import {
  type ConsistencySizes,
  consistencyBackward,
  consistencyForward,
  consistencySums,
  consistencyValue,
} from '../../shaders/masked-consistency.js';
import { checkOptions } from '../arguments.js';
import { noGrad, record } from '../autograd.js';
import { ShapeError, sameShape, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { pixelSizes } from './labeled-pixels.js';
import { sum } from './reduce.js';

/** Which pixels a consistency keeps: those whose confidence is below a threshold. */
export interface MaskOptions {
  /** Whose maximum class probability is compared with the threshold, or 'given' by `scores`; 'none' keeps every pixel. */
  confidence: Confidence;
  /** τ: one number, or [K], one for each class of the teacher's argmax. Pixels with a confidence below it are kept. */
  threshold: Tensor;
  /** The given confidence, f32 [...] as the teacher's pixels. */
  scores?: Tensor | undefined;
  /** Keep the confident pixels instead. Default false. */
  invert?: boolean;
}

/** How the predictions of student and teacher are compared, and where. */
export interface ConsistencyOptions extends MaskOptions {
  kind: ConsistencyKind;
  /**
   * w ≥ 0, default 0: adds w times the mean cross-entropy against the teacher's class over the pixels that are not kept. Those are
   * the confident ones, or whatever `confidence`, `threshold` and `invert` leave over; with 'none' there are none.
   */
  confidentWeight?: number;
}

/** The names of `ConsistencyOptions`; the same object may serve as the options of the mask alone. */
export const consistencyOptions = ['kind', 'confidence', 'threshold', 'invert', 'scores', 'confidentWeight'];

function sizesOf(
  op: string,
  student: Tensor,
  teacher: Tensor,
  kind: ConsistencySizes['kind'],
  options: MaskOptions & Pick<ConsistencyOptions, 'confidentWeight'>,
): ConsistencySizes {
  if (!sameShape(student.shape, teacher.shape) || student.dtype !== teacher.dtype) {
    throw new ShapeError(
      `${op}: student ${show(student.shape)} and teacher ${show(teacher.shape)} must have one shape and type.`,
    );
  }
  const sizes = pixelSizes(op, student, {});
  return { ...sizes, kind, ...keepingOf(op, options, sizes.pixels, sizes.classes) };
}

/** How the teacher's `pixels` are selected; throws unless threshold and scores fit. */
export function keepingOf(
  op: string,
  {
    confidence,
    threshold,
    invert = false,
    scores,
    confidentWeight = 0,
  }: MaskOptions & Pick<ConsistencyOptions, 'confidentWeight'>,
  pixels: number,
  classes: number,
): Keeping {
  if (!(confidentWeight >= 0 && confidentWeight < 1e30)) {
    throw new ShapeError(`${op}: got confidentWeight ${confidentWeight}, expected a number of at least 0.`);
  }
  if (threshold.dtype !== 'f32' || (threshold.size !== 1 && threshold.size !== classes)) {
    throw new ShapeError(
      `${op}: got threshold ${threshold.dtype} ${show(threshold.shape)}, expected one f32 number, or ${classes} of them.`,
    );
  }
  if (
    (confidence === 'given') !== (scores !== undefined) ||
    (scores && (scores.dtype !== 'f32' || scores.size !== pixels))
  ) {
    throw new ShapeError(
      `${op}: got confidence '${confidence}' and ${scores ? `scores ${scores.dtype} ${show(scores.shape)}` : 'no scores'}, expected scores f32 of ${pixels} pixels with 'given', else none.`,
    );
  }
  const confident = confidentWeight > 0 && confidence !== 'none';
  return { confidence, invert, perClass: threshold.size > 1, confident };
}

const given = ({ scores }: MaskOptions): Record<string, Tensor> => (scores ? { scores } : {});

/**
 * The kept pixels: u8 [...], 1 where the confidence is below τ (with `invert`, at least τ). Logits [..., K]. No gradient.
 * @example
 * const logits = tensor(gpu, [[9, 0], [0, 0.1]]);
 * console.log(await lowConfidenceMask(logits, logits, { confidence: 'student', threshold: tensor(gpu, 0.9) }).read()); // [0, 1]
 */
export function lowConfidenceMask(student: Tensor, teacher: Tensor, options: MaskOptions): Tensor<'u8'> {
  checkOptions('lowConfidenceMask', options, consistencyOptions);
  const sizes = sizesOf('lowConfidenceMask', student, teacher, 'mask', options);
  const mask = empty(student.gpu, student.shape.slice(0, -1), 'u8', 'mask');
  run(
    consistencyForward(sizes),
    { student, teacher, threshold: options.threshold, mask, ...given(options) },
    { threads: partialThreads(sizes.pixels) },
  );
  return mask;
}

/**
 * Low-confidence consistency (Gao & Yu 2023; formulas in shaders/masked-consistency.ts) of student and teacher logits
 * [..., K]: `loss` [], the `mask` u8 [...] of kept pixels and `sums`, whose first number is their count. The gradient goes to the
 * student only. If no pixel is kept, loss and gradient are 0, apart from what confident pixels add.
 * @example
 * const [student, teacher] = [tensor(gpu, [[9, 0], [0, 0.1]]), tensor(gpu, [[0, 9], [0, 0.1]])];
 * const options = { kind: 'mse', confidence: 'none', threshold: tensor(gpu, 0.9) };
 * console.log(await maskedConsistency(student, teacher, options).mask.read()); // [1, 1]
 */
export function maskedConsistency(
  student: Tensor,
  teacher: Tensor,
  options: ConsistencyOptions,
): { loss: Tensor; mask: Tensor; sums: Tensor } {
  checkOptions('maskedConsistency', options, consistencyOptions);
  const { gpu } = student;
  const sizes = sizesOf('maskedConsistency', student, teacher, options.kind, options);
  const threads = partialThreads(sizes.pixels);
  const mask = empty(gpu, student.shape.slice(0, -1), 'u8', 'mask');
  const partials = empty(gpu, [threads, consistencySums(sizes)], 'f32', 'maskedConsistency.partials');
  run(
    consistencyForward(sizes),
    { student, teacher, threshold: options.threshold, mask, partials, ...given(options) },
    { threads },
  );
  const sums = noGrad(gpu, () => sum(partials, 0));
  const loss = empty(gpu, [], 'f32', 'maskedConsistency');
  const weight = sizes.confident && { numbers: [options.confidentWeight!] };
  run(consistencyValue(sizes), { sums, loss, ...weight }, { threads: 1 });

  record('maskedConsistency', loss, [student], (dloss) => {
    const dlogits = empty(gpu, student.shape, student.dtype, 'dlogits');
    const args = { student, teacher, mask, sums, dloss, dlogits, ...weight };
    run(consistencyBackward(sizes), args, { threads: sizes.pixels });
    return [dlogits];
  });
  return { loss, mask, sums };
}
