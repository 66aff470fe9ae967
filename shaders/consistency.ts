// Confidence and consistency of one pixel, from the class values that classes.ts loads: student's logits x with softmax p, teacher's
// logits y with softmax q. masked-consistency.ts has the formulas.
import { each, fold, pick, total } from './classes.js';
import { isNan } from './wgsl.js';

/**
 * Whose maximum class probability is a pixel's confidence; 'mean' and 'min' are over both. 'given': a tensor has one number for each
 * pixel. 'none': every pixel is kept.
 */
export type Confidence = 'student' | 'teacher' | 'mean' | 'min' | 'given' | 'none';
/**
 * Mean squared error of probabilities, Kullback–Leibler divergence, cross-entropy against the teacher's class, or half the sum of that
 * cross-entropy and the soft Dice loss against the same class.
 */
export type ConsistencyKind = 'mse' | 'kl' | 'ce' | 'ce-dice';

/** Whether a kind compares with the teacher's class instead of its probabilities. */
export const isHard = (kind: string): boolean => kind === 'ce' || kind === 'ce-dice';

/** ε of the soft Dice loss of 'ce-dice'. */
export const consistencyEpsilon = 1e-5;

export const mostOf = (p: string, classes: number): string =>
  fold(
    classes,
    (a, b) => `max(${a}, ${b})`,
    (k) => p + k,
  );

export const confidenceOf = (confidence: Confidence, classes: number): string => {
  const [student, teacher] = [mostOf('p', classes), mostOf('q', classes)];
  if (confidence === 'mean')
    return fold(
      classes,
      (a, b) => `max(${a}, ${b})`,
      (k) => `0.5 * (p${k} + q${k})`,
    );
  return { student, teacher, min: `min(${student}, ${teacher})`, given: 'score', none: '0.0' }[confidence];
};

/** Which pixels are kept, and by which threshold. */
export interface Keeping {
  readonly confidence: Confidence;
  /** Keep the confident pixels instead. */
  readonly invert: boolean;
  /** Each class has its own threshold; a pixel's class is the teacher's argmax. */
  readonly perClass: boolean;
  /** Pixels that are not kept have a loss, too: cross-entropy against the teacher's class. */
  readonly confident: boolean;
}

/** Expression: τ of a pixel; the expression `teacherClass` is the teacher's class. */
export const limitOf = ({ perClass }: Pick<Keeping, 'perClass'>, teacherClass: string): string =>
  perClass ? `threshold[${teacherClass}]` : 'threshold[0]';

/** Expression: NaN where a logit of student or teacher, the threshold or a given confidence is NaN. */
function doubtOf(keeping: Keeping, teacherClass: string): string {
  const others = keeping.confidence === 'none' ? '' : ` + ${limitOf(keeping, teacherClass)}`;
  return `(p0 + q0${others}${keeping.confidence === 'given' ? ' + score' : ''})`;
}

/** Expression: whether a pixel is kept; `score` is its given confidence. A pixel with a NaN is kept, so that the loss shows it. */
export function keptBy(keeping: Keeping, classes: number, teacherClass: string): string {
  if (keeping.confidence === 'none') return 'true';
  const [confidence, limit] = [confidenceOf(keeping.confidence, classes), limitOf(keeping, teacherClass)];
  return `(${confidence} ${keeping.invert ? '>=' : '<'} ${limit} || ${isNan(doubtOf(keeping, teacherClass), 'f32')})`;
}

/** Expression: the consistency of a kept pixel; NaN where any of its inputs is. */
export function pixelValue(kind: ConsistencyKind, classes: number, keeping: Keeping, teacherClass: string): string {
  const value = {
    mse: total(classes, (k) => `(p${k} - q${k}) * (p${k} - q${k})`),
    kl: total(classes, (k) => `q${k} * ((y${k} - q_most - q_log) - (x${k} - p_most - p_log))`),
    ce: 'p_log - (chosen - p_most)',
    'ce-dice': 'p_log - (chosen - p_most)',
  }[kind];
  const doubt = doubtOf(keeping, teacherClass);
  return `select(${value}, ${doubt}, ${isNan(doubt, 'f32')})`;
}

/** Expression: the cross-entropy of a pixel that is not kept; none of its inputs is NaN. */
export const confidentValue = (classes: number, teacherClass: string): string =>
  `p_log - (${pick(teacherClass, 'x', classes)} - p_most)`;

/** Adds a pixel to the Dice sums (overlap, square, count of each class; names begin with `before`). `truth`: expression of its class. */
export const diceSums = (classes: number, truth: string, before = ''): string =>
  each(
    classes,
    (k) => `        {
          let here = select(0.0, 1.0, ${truth} == ${k}u);
          ${before}overlap${k} += p${k} * here; ${before}square${k} += p${k} * p${k}; ${before}count${k} += here;
        }`,
  );
