// The losses over the student's logits: one fused op; with fusing off, or of many classes, the composition of plain ops that it
// stands for.
import { add, concat, crossEntropy, diceLoss, mul, noGrad, reshape, slice, type Tensor } from '../../engine/index.js';
import {
  type ConsistencyOptions,
  lowConfidenceMask,
  maskedConsistency,
  meanTeacherLoss,
  pseudoClasses,
  selectionStatistics,
} from '../../engine/method.js';

/** The most classes of the fused loss; the plain losses take any number, the consistency does not. */
const mostFusedClasses = 16;

/** Which classes the Dice loss is over. */
type DiceClasses = 'all' | 'foreground';

/** ½ (cross-entropy + soft Dice) of logits [N, H, W, K] against labels u8 [N, H, W]; the parts are returned for the log. */
export function supervisedLoss(
  logits: Tensor,
  labels: Tensor,
  diceClasses: DiceClasses = 'all',
): { loss: Tensor; ce: Tensor; dice: Tensor } {
  const ce = crossEntropy(logits, labels);
  const dice = diceLoss(logits, labels, { classes: diceClasses });
  return { loss: mul(add(ce, dice), 0.5), ce, dice };
}

export interface TeacherTerms extends ConsistencyOptions {
  /** Logits of every item where a selection is wanted, else of the unlabelled ones only. */
  readonly logits: Tensor;
  /** λ, one number. */
  readonly weight: Tensor;
  /** Reliable pixels count 1 for the prototypes, not the teacher's confidence. */
  readonly hard: boolean;
  /** Beside the loss: statistics of what is kept, or these and what the class separation needs. */
  readonly wanted: 'loss' | 'statistics' | 'selection';
}

export interface ImageLosses {
  /** ½ (CE + Dice) + λ·consistency. */
  readonly loss: Tensor;
  /** For the log: CE, Dice and, with a teacher, the consistency, in one or several tensors. */
  readonly terms: readonly Tensor[];
  /** Of the composition: ½ (CE + Dice) and λ·consistency, each with a gradient of its own. */
  readonly apart?: { readonly supervised: Tensor; readonly consistency?: Tensor };
  /** Statistics of the unlabelled pixels, as from `selectionStatistics`, where wanted. */
  readonly statistics?: Tensor;
  /** What the class separation needs, of all items. */
  readonly selected?: {
    readonly mask: Tensor;
    readonly classes: Tensor;
    /** What reliable pixels count for; absent where `updatePrototypes` must find that out. */
    readonly reliable: Tensor | undefined;
  };
}

/**
 * The losses of logits [N, H, W, K], of which the first `labeledItems` count against their labels u8 [N, H, W]. `apart`: by the
 * composition, whose terms can be had apart.
 */
export function imageLosses(
  logits: Tensor,
  { labels, labeledItems, diceClasses = 'all' }: { labels: Tensor; labeledItems: number; diceClasses?: DiceClasses },
  teacher?: TeacherTerms,
  apart = false,
): ImageLosses {
  const labeledPixels = (labels.size / labels.shape[0]!) * labeledItems;
  const isFusable = teacher !== undefined || logits.shape.at(-1)! <= mostFusedClasses;
  const fused = logits.gpu.flags.fuse && isFusable && !apart;
  if (!fused) return composition(logits, labels, labeledItems, labeledPixels, diceClasses, teacher);
  const of = { labels, labeledPixels, diceClasses };
  if (!teacher) {
    const { loss, terms } = meanTeacherLoss(logits, of);
    return { loss, terms: [terms] };
  }
  const { wanted, ...options } = teacher;
  if (wanted === 'selection') {
    const { loss, terms, mask, classes, weights, statistics } = meanTeacherLoss(logits, of, {
      ...options,
      selection: true,
    });
    return { loss, terms: [terms], statistics, selected: { mask, classes, reliable: weights } };
  }
  const { loss, terms, mask } = meanTeacherLoss(logits, of, options);
  if (wanted === 'loss' || !mask) return { loss, terms: [terms] };
  const [x, kept, truth] = noGrad(logits.gpu, () =>
    [logits, mask, labels].map((each) => slice(each, 0, labeledItems, labels.shape[0]! - labeledItems)),
  );
  return { loss, terms: [terms], statistics: selectionStatistics(x!, kept!, truth!) };
}

function composition(
  logits: Tensor,
  labels: Tensor,
  labeledItems: number,
  labeledPixels: number,
  diceClasses: DiceClasses,
  teacher: TeacherTerms | undefined,
): ImageLosses {
  const unlabeledItems = labels.shape[0]! - labeledItems;
  const [own, truth] = [slice(logits, 0, 0, labeledItems), slice(labels, 0, 0, labeledItems)];
  const { loss, ce, dice } = supervisedLoss(own, truth, diceClasses);
  const terms = [ce, dice].map((x) => reshape(x, [1]));
  if (!teacher) return { loss, terms, apart: { supervised: loss } };
  const { logits: q, weight, wanted, hard: _, ...options } = teacher;
  const selection = wanted === 'selection';
  const unlabeled = (x: Tensor): Tensor => slice(x, 0, labeledItems, unlabeledItems);
  const p = unlabeled(logits);
  const consistency = maskedConsistency(p, selection ? unlabeled(q) : q, options);
  const weighted = mul(consistency.loss, weight);
  const result = {
    loss: add(loss, weighted),
    terms: [concat([...terms, reshape(consistency.loss, [1])], 0)],
    apart: { supervised: loss, consistency: weighted },
  };
  if (wanted === 'loss') return result;
  const statistics = selectionStatistics(p, consistency.mask, unlabeled(labels));
  if (!selection) return { ...result, statistics };
  return {
    ...result,
    statistics,
    selected: {
      mask: lowConfidenceMask(logits, q, options),
      classes: pseudoClasses(q, labels, labeledPixels),
      reliable: undefined,
    },
  };
}
