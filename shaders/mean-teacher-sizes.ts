// Sizes of the fused losses of a mean teacher, and the layout of the numbers that their kernels pass on: the sums of the walk and the
// factors of the gradient. mean-teacher-loss.ts has the formulas.
import type { ConsistencyKind, Keeping } from './consistency.js';
import type { LabeledSizes } from './cross-entropy.js';
import { type Walk, walkOver } from './partial-sums.js';
import { u32 } from './wgsl.js';

export interface TeacherPart extends Keeping {
  readonly kind: ConsistencyKind;
  /** The teacher's logits cover the labelled pixels too, not only the others. */
  readonly everywhere: boolean;
  /** Classes, weights for the prototypes and statistics are wanted; needs `everywhere` and labels of all pixels. */
  readonly selection: boolean;
  /** Gives reliable pixels the weight 1 for the prototypes instead of the teacher's confidence. */
  readonly hard: boolean;
}

export interface MeanTeacherSizes extends LabeledSizes {
  readonly labeledPixels: number;
  readonly epsilon: number;
  /** The supervised Dice loss is over all classes but the first; default over all. */
  readonly foreground?: boolean;
  readonly teacher: TeacherPart | undefined;
}

/** Whether the walk writes a mask: the caller wants it, or the gradient needs it. */
export const writesMask = ({ teacher }: MeanTeacherSizes): boolean =>
  teacher !== undefined && (teacher.selection || teacher.confidence !== 'none');

/** Names of the sums, in the order in which the partials hold them. */
export function sumNames({ classes, labeledPixels, teacher }: MeanTeacherSizes): string[] {
  const perClass = (...names: string[]) => names.flatMap((name) => Array.from({ length: classes }, (_, k) => name + k));
  return [
    ...(labeledPixels ? ['cross_entropy', ...perClass('overlap', 'square', 'count')] : []),
    ...(teacher ? ['kept', 'consistency'] : []),
    ...(teacher?.kind === 'ce-dice' ? perClass('kept_overlap', 'kept_square', 'kept_count') : []),
    ...(teacher?.confident ? ['of_confident'] : []),
    ...(teacher?.selection ? ['correct_kept', 'correct_dropped', 'confident'] : []),
  ];
}

/**
 * Names of the sums that lie behind those: NaN of labelled pixels whose label is not a class; and unlabelled pixels whose true label
 * is not a class, so that they are neither right nor wrong.
 */
export const namesBeside = ({ labeledPixels, teacher }: MeanTeacherSizes): string[] => [
  ...(labeledPixels ? ['spoiled'] : []),
  ...(teacher?.selection ? ['unknown_kept', 'unknown_dropped'] : []),
];

/** How many numbers the partials hold for each row. */
export const partialCount = (sizes: MeanTeacherSizes): number => sumNames(sizes).length + namesBeside(sizes).length;

/** The walk over words of four pixels. */
export const meanTeacherWalk = ({ pixels }: MeanTeacherSizes): Walk => walkOver(Math.ceil(pixels / 4));

/**
 * Indices of the gradient's factors, and their number: one of the cross-entropy, one of the consistency, two per class of the Dice
 * loss; then, if there are any, two per class of the consistency's Dice loss, and one of the confident pixels.
 */
export function factorsOf({ classes, teacher }: MeanTeacherSizes) {
  const keptDice = 2 + 2 * classes;
  const ofConfident = keptDice + (teacher?.kind === 'ce-dice' ? 2 * classes : 0);
  const count = ofConfident + Number(teacher?.confident ?? false);
  return { crossEntropy: 0, consistency: 1, dice: 2, keptDice, ofConfident, count };
}

/** How many numbers the gradient needs. */
export const factorCount = (sizes: MeanTeacherSizes): number => factorsOf(sizes).count;

/** Expression: the teacher's pixel that is the student's pixel i. */
export const teacherPixel = ({ labeledPixels, teacher }: MeanTeacherSizes): string =>
  teacher?.everywhere || !labeledPixels ? 'i' : `(i - ${u32(labeledPixels)})`;

/** Sizes with every kind and confidence, with options on and off, for the lists of representative texts. */
export function meanTeacherExamples(): MeanTeacherSizes[] {
  const teachers: (TeacherPart | undefined)[] = [undefined];
  for (const kind of ['mse', 'kl', 'ce'] as const) {
    for (const confidence of ['student', 'teacher', 'mean', 'min', 'given', 'none'] as const) {
      const keeping = { confidence, invert: kind === 'kl', perClass: confidence === 'student', confident: false };
      const everywhere = { kind, ...keeping, everywhere: true, selection: true, hard: kind === 'ce' };
      if (confidence !== 'given') teachers.push(everywhere); // 'given' would bind nine buffers, and no op uses it
      teachers.push({ ...everywhere, everywhere: false, selection: false });
    }
  }
  for (const kind of ['mse', 'ce', 'ce-dice'] as const) {
    for (const confidence of ['student', 'none'] as const) {
      const keeping = { confidence, invert: kind === 'ce', perClass: false, confident: confidence === 'student' };
      teachers.push({ kind, ...keeping, everywhere: true, selection: true, hard: false });
      teachers.push({ kind, ...keeping, everywhere: false, selection: false, hard: false });
    }
  }
  return (['f32', 'f16'] as const)
    .flatMap((dtype) =>
      teachers.map((teacher, t) => {
        const labeledPixels = t % 4 === 3 && dtype === 'f16' ? 0 : 500;
        const pixels = t % 2 ? 1000 : 2 ** 18;
        const labels = { type: (['u8', 'u32', 'i32'] as const)[t % 3]!, ignored: t % 2 ? 1 : undefined };
        return { dtype, pixels, classes: [4, 3, 16][t % 3]!, labels, labeledPixels, epsilon: 1e-5, teacher };
      }),
    )
    .flatMap((sizes, i) => (i % 8 === 0 ? [sizes, { ...sizes, foreground: true }] : [sizes]));
}
