// Scores over cases: means, deviations, counts, in the shape of nnU-Net's summary.json and more; and as CSV. A number counts
// where it exists: what is missed or invented is counted beside the means, and never taken for a distance of 0.
import type { ClassScore } from './metrics.js';

/** The scores of one volume. */
export interface CaseSummary {
  /** The patient, or the case's name where the data set knows no patients. */
  case: string;
  /** "01", where a patient has several volumes. */
  frame?: string;
  /** Path of the image. */
  image: string;
  reference_file: string;
  prediction_file: string | null;
  /** Voxel size along x, y, z in mm, as the image's header says; the millimetres of the distances are those. */
  spacing: readonly number[];
  /** Voxels that the reference marks to be ignored, if there are any; they are not scored. */
  ignored?: number;
  /** By class. */
  metrics: Record<string, ClassScore>;
}

/** The scores that have means. */
export type ScoreName = Exclude<
  keyof ClassScore,
  'TP' | 'FP' | 'FN' | 'TN' | 'n_pred' | 'n_ref' | 'missed' | 'invented'
>;
const scoreNames = [
  ...['Dice', 'Jaccard', 'HD95', 'HD95_voxels', 'HD95_symmetric', 'HD95_symmetric_voxels'],
  ...['ASD', 'ASD_voxels', 'ASSD', 'ASSD_voxels', 'volume_ml', 'reference_ml'],
] as readonly ScoreName[];

/** A number for each score, null where no case has one. */
export type Scores = { [name in ScoreName]: number | null };

/** Means over the cases in which a number exists (`counted`), and how often a structure was missed or invented. */
export interface MeanScore extends Scores {
  counted: { [name in ScoreName]: number };
  missed: number;
  invented: number;
}

/** What was evaluated, and what was done to predictions before they were scored. */
export interface EvaluationSettings {
  /** Only the largest component of each class counts (components.ts). */
  largestComponent?: boolean;
  /** Predictions are means over the flips of a slice. */
  flips?: boolean;
  /** Voxels between overlapping patches along each side. */
  stride?: readonly number[];
  /** What their places count for; not given: all the same. */
  weights?: 'uniform' | 'gaussian';
  /** False: overlap only; distances are null. */
  distances?: boolean;
  /** Whose weights: the student's or the teacher's. */
  model?: 'student' | 'teacher';
  /** Part of the data set. */
  split?: string;
  /** Classes, background included. */
  classes?: number;
  /** Cases of the part that the model was trained on, where some were. */
  trained?: readonly string[];
}

/** All scores of an evaluation. */
export interface Summary {
  settings?: EvaluationSettings;
  metric_per_case: CaseSummary[];
  /** By class. */
  mean: Record<string, MeanScore>;
  /** Standard deviation over cases (n − 1), by class; null for fewer than two. */
  std: Record<string, Scores>;
  /** Mean over the classes' means; counted, missed and invented are sums. */
  foreground_mean: MeanScore;
  /** Standard deviation over cases of a case's mean over its classes. */
  foreground_std: Scores;
  /** Structures missed and invented, over all cases and classes. */
  missed: number;
  invented: number;
  /** Voxels that references mark to be ignored, over all cases, if there are any. */
  ignored?: number;
  /** Voxels by class of the ground truth (rows) and of the prediction (columns), over all cases. */
  confusion?: number[][];
}

const knownOf = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);
const meanOf = (values: readonly (number | null)[]): number | null => {
  const known = knownOf(values);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
};
const deviationOf = (values: readonly (number | null)[]): number | null => {
  const known = knownOf(values);
  const mean = meanOf(known);
  return mean === null || known.length < 2
    ? null
    : Math.sqrt(known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (known.length - 1));
};
const byName = <T>(of: (name: ScoreName) => T): { [name in ScoreName]: T } =>
  Object.fromEntries(scoreNames.map((name) => [name, of(name)])) as { [name in ScoreName]: T };

/** Mean of a score over the classes of a case; null where no class has it. */
export const meanOverClasses = ({ metrics }: CaseSummary, name: ScoreName): number | null =>
  meanOf(Object.values(metrics).map((score) => score[name]));

/** Means and deviations per class over cases, and over classes. */
export function summarize(metric_per_case: CaseSummary[], classes: number): Summary {
  const mean: Record<string, MeanScore> = {};
  const std: Record<string, Scores> = {};
  for (let k = 1; k < classes; k++) {
    const scores = metric_per_case.map(({ metrics }) => metrics[k]!);
    const of = (name: ScoreName): (number | null)[] => scores.map((score) => score[name]);
    mean[k] = {
      ...byName((name) => meanOf(of(name))),
      counted: byName((name) => knownOf(of(name)).length),
      missed: scores.filter((score) => score.missed).length,
      invented: scores.filter((score) => score.invented).length,
    };
    std[k] = byName((name) => deviationOf(of(name)));
  }
  const rows = Object.values(mean);
  const [missed, invented] = (['missed', 'invented'] as const).map((name) =>
    rows.reduce((sum, row) => sum + row[name], 0),
  ) as [number, number];
  return {
    metric_per_case,
    mean,
    std,
    foreground_mean: {
      ...byName((name) => meanOf(rows.map((row) => row[name]))),
      counted: byName((name) => rows.reduce((sum, row) => sum + row.counted[name], 0)),
      missed,
      invented,
    },
    foreground_std: byName((name) => deviationOf(metric_per_case.map((each) => meanOverClasses(each, name)))),
    missed,
    invented,
  };
}

/** A row for each case and class; comma-separated, an empty field where there is no number. */
export function scoresAsCsv({ metric_per_case }: Summary): string {
  const names = [...scoreNames, 'missed', 'invented'] as const;
  const quoted = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = metric_per_case.flatMap((each) =>
    Object.entries(each.metrics).map(([k, score]) =>
      [quoted(each.case), quoted(each.frame ?? ''), k, ...names.map((name) => score[name] ?? '')].join(','),
    ),
  );
  return [['case', 'frame', 'class', ...names].join(','), ...rows, ''].join('\n');
}
