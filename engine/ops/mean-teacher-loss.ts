// All losses over the student's logits, the mask and its statistics, in two launches and one for the gradient. The ops that it fuses
// (crossEntropy, diceLoss, maskedConsistency, …) remain; the test compares it with their composition.
import { meanTeacherBackward } from '../../shaders/mean-teacher-gradient.js';
import { meanTeacherForward, meanTeacherValues } from '../../shaders/mean-teacher-loss.js';
import {
  factorCount,
  type MeanTeacherSizes,
  meanTeacherWalk,
  partialCount,
  writesMask,
} from '../../shaders/mean-teacher-sizes.js';
import { checkOptions } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { isForeground } from './dice-loss.js';
import { floatType } from './float-type.js';
import { isLabelType, type LabelOptions, labelsOf, pixelSizes } from './labeled-pixels.js';
import { type ConsistencyOptions, consistencyOptions, keepingOf } from './masked-consistency.js';

/** Options of the supervised losses of `meanTeacherLoss`. */
export interface MeanTeacherOptions extends LabelOptions {
  /**
   * u8, u32 or i32 [...]: one for every pixel, or for the first `labeledPixels` only. A label outside 0 … K − 1, or equal to
   * `ignoreIndex`, is ignored as in `crossEntropy` and `diceLoss`; in the statistics such a pixel is neither right nor wrong.
   */
  labels: Tensor;
  /** How many pixels, from the first on, are supervised; the consistency is over the others. */
  labeledPixels: number;
  /** ε of the Dice loss; default 1e-5. */
  epsilon?: number;
  /** Which classes the supervised Dice loss is over, as `classes` of `diceLoss`; default all. */
  diceClasses?: 'all' | 'foreground';
}

/** The teacher's side of `meanTeacherLoss`: its predictions, and how they are compared. */
export interface TeacherOptions extends ConsistencyOptions {
  /** Logits [..., K] of every pixel, or of the unlabelled ones only. */
  logits: Tensor;
  /** λ, one number. */
  weight: Tensor;
  /** Gives reliable pixels the weight 1 for the prototypes instead of the teacher's confidence. Default false. */
  hard?: boolean;
}

/** Result without a teacher. */
export interface SupervisedTerms {
  /** ½ (cross-entropy + Dice) + λ·consistency []; its gradient goes to the student's logits. */
  loss: Tensor;
  /** For the log, f32 [2]: cross-entropy, Dice; with a teacher [3], the consistency last. */
  terms: Tensor;
}

/** Result with a teacher. */
export interface MeanTeacherTerms extends SupervisedTerms {
  /** Kept pixels, u8 [...] over all pixels; 0 where the teacher has no logits. Undefined if all are kept and no selection is wanted. */
  mask: Tensor<'u8'> | undefined;
}

/** Result with a selection. */
export interface SelectionTerms extends MeanTeacherTerms {
  mask: Tensor<'u8'>;
  /** Labels of labelled pixels and the teacher's class of the others, u8 [...] (as `pseudoClasses`). */
  classes: Tensor;
  /**
   * Weight of a pixel for the prototype of its class, f32 [...]: the teacher's confidence (`hard`: 1) where its class is the label's,
   * and on unlabelled pixels where that confidence is at least τ; else 0. For `updatePrototypes`, which multiplies by ρ.
   */
  weights: Tensor;
  /** Statistics of the unlabelled pixels, f32 [4], as from `selectionStatistics`. */
  statistics: Tensor;
}

/**
 * ½ (cross-entropy + Dice) of the labelled pixels + λ·consistency of the kept unlabelled ones. Logits [..., K], K from 2 to 16, with
 * the labelled items first (formulas in shaders/mean-teacher-loss.ts). Without a teacher every pixel must be labelled. `selection`
 * (which needs the teacher's logits and labels of all pixels) adds what class separation needs. The gradient goes to `logits` only;
 * if no pixel is kept, the consistency and its gradient are 0, apart from what confident pixels add.
 * @example
 * const labels = tensor(gpu, [0, 1], [2], { dtype: 'u8' });
 * const { loss } = meanTeacherLoss(tensor(gpu, [[0, 0], [0, 0]]), { labels, labeledPixels: 2 });
 * console.log(await loss.item()); // 0.5132
 */
export function meanTeacherLoss(logits: Tensor, options: MeanTeacherOptions): SupervisedTerms;
export function meanTeacherLoss(
  logits: Tensor,
  options: MeanTeacherOptions,
  teacher: TeacherOptions & { selection?: false },
): MeanTeacherTerms;
export function meanTeacherLoss(
  logits: Tensor,
  options: MeanTeacherOptions,
  teacher: TeacherOptions & { selection: true },
): SelectionTerms;
export function meanTeacherLoss(
  logits: Tensor,
  options: MeanTeacherOptions,
  teacher?: TeacherOptions & { selection?: boolean },
): SupervisedTerms & Partial<SelectionTerms> {
  checkOptions('meanTeacherLoss', options, ['labels', 'labeledPixels', 'ignoreIndex', 'epsilon', 'diceClasses']);
  checkOptions('meanTeacherLoss', teacher, ['logits', 'weight', 'hard', 'selection', ...consistencyOptions]);
  const { gpu } = logits;
  const { labels, labeledPixels } = options;
  const sizes = sizesOf(logits, options, teacher);
  const shape = logits.shape.slice(0, -1);
  const { rows, threads } = meanTeacherWalk(sizes);
  const partials = empty(gpu, [rows * partialCount(sizes)], 'f32', 'meanTeacherLoss.partials');
  const mask = writesMask(sizes) ? empty(gpu, shape, 'u8', 'mask') : undefined;
  const selected = teacher?.selection && {
    classes: empty(gpu, shape, 'u8', 'classes'),
    weights: empty(gpu, shape, 'f32', 'prototypeWeights'),
  };
  run(
    meanTeacherForward(sizes),
    {
      student: logits,
      partials,
      ...((labeledPixels > 0 || selected) && { labels }),
      ...(teacher && { teacher: teacher.logits }),
      ...(teacher && mask && { threshold: teacher.threshold, mask }),
      ...(teacher?.scores && { scores: teacher.scores }),
      ...selected,
    },
    { threads },
  );
  const loss = empty(gpu, [], 'f32', 'meanTeacherLoss');
  const terms = empty(gpu, [teacher ? 3 : 2], 'f32', 'meanTeacherLoss.terms');
  const factors = empty(gpu, [factorCount(sizes)], 'f32', 'meanTeacherLoss.factors');
  const statistics = selected && { statistics: empty(gpu, [4], 'f32', 'selectionStatistics') };
  run(
    meanTeacherValues(sizes),
    {
      ...{ partials, loss, terms, factors },
      ...(teacher && { consistency_weight: teacher.weight }),
      ...statistics,
      ...(sizes.teacher?.confident && { numbers: [teacher!.confidentWeight!] }),
    },
    { workgroups: [1] },
  );

  record('meanTeacherLoss', loss, [logits], (dloss) => {
    const dlogits = empty(gpu, logits.shape, logits.dtype, 'dlogits');
    run(
      meanTeacherBackward(sizes),
      {
        student: logits,
        factors,
        dloss,
        dlogits,
        ...(labeledPixels > 0 && { labels }),
        ...(teacher && { teacher: teacher.logits }),
        ...(teacher && mask && teacher.confidence !== 'none' && { mask }),
      },
      { threads: sizes.pixels },
    );
    return [dlogits];
  });
  return { loss, terms, ...(teacher && { mask }), ...selected, ...statistics };
}

/** The sizes; throws unless labels and teacher's logits fit the student's logits. */
function sizesOf(
  logits: Tensor,
  { labels, labeledPixels, epsilon = 1e-5, ignoreIndex, diceClasses }: MeanTeacherOptions,
  teacher: (TeacherOptions & { selection?: boolean }) | undefined,
): MeanTeacherSizes {
  const op = 'meanTeacherLoss';
  const { pixels, classes } = pixelSizes(op, logits, {});
  const selection = teacher?.selection === true;
  const atLeast = teacher ? 0 : pixels;
  const atMost = teacher ? pixels - 1 : pixels;
  if (!Number.isInteger(labeledPixels) || labeledPixels < atLeast || labeledPixels > atMost) {
    throw new ShapeError(
      `${op}: got ${labeledPixels} labelled of ${pixels} pixels, expected ${teacher ? 'some without a label' : 'all'}. ${teacher ? 'Leave the teacher out to use labels only.' : 'Pass a teacher for the others.'}`,
    );
  }
  if (!isLabelType(labels.dtype) || (labels.size !== pixels && (selection || labels.size !== labeledPixels))) {
    throw new ShapeError(
      `${op}: got labels ${labels.dtype} ${show(labels.shape)} for logits ${show(logits.shape)}, expected u8 of ${selection ? '' : `${labeledPixels} or `}${pixels} pixels, or u32 or i32.`,
    );
  }
  const read = labelsOf(op, labels, classes, { ignoreIndex }, labeledPixels);
  const foreground = isForeground(op, 'diceClasses', diceClasses);
  const supervised = { pixels, classes, labels: read, labeledPixels, epsilon, foreground };
  if (!teacher) return { dtype: floatType(op, logits), ...supervised, teacher: undefined };
  const { logits: q, kind, confidence, weight, hard = false } = teacher;
  const everywhere = q.size === logits.size;
  const unlabeled = (pixels - labeledPixels) * classes;
  if (q.shape.at(-1) !== classes || (!everywhere && (selection || q.size !== unlabeled))) {
    throw new ShapeError(
      `${op}: got teacher's logits ${show(q.shape)} for logits ${show(logits.shape)}, expected ${classes} classes of ${selection ? '' : `${pixels - labeledPixels} or `}${pixels} pixels.`,
    );
  }
  if (weight.dtype !== 'f32' || weight.size !== 1) {
    throw new ShapeError(`${op}: got weight ${weight.dtype} ${show(weight.shape)}, expected one f32 number.`);
  }
  if (confidence === 'given' && selection) {
    throw new ShapeError(
      `${op}: got given scores and a selection, which is of the logits' own confidence. Leave one out.`,
    );
  }
  const keeping = keepingOf(op, teacher, q.size / classes, classes);
  return {
    dtype: floatType(op, logits, q),
    ...supervised,
    teacher: { kind, ...keeping, everywhere, selection, hard },
  };
}
