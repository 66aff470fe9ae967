// Scores a model on cases: predict the slices, put the labels back on each case's own grid, measure, summarise. The summary
// has the shape of nnU-Net's summary.json.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { keepLargestComponents } from './components.js';
import { countConfusion, emptyConfusion } from './confusion.js';
import { DataError } from './data/data-error.js';
import type { Case } from './data/datasets.js';
import type { Orient } from './data/orientation.js';
import { type CaseVolume, type Grid, loadCase, restoreLabels, stackSlices } from './data/slices.js';
import { type ClassScore, volumeScores } from './metrics.js';
import type { Predictor } from './predictor.js';

export interface CaseSummary {
  /** The case's name, of patient and frame. */
  case?: string;
  reference_file: string;
  prediction_file: string | null;
  metrics: Record<string, ClassScore>;
}

const scoreNames = [
  ...['Dice', 'Jaccard', 'HD95', 'HD95_voxels', 'HD95_symmetric', 'HD95_symmetric_voxels'],
  ...['ASD', 'ASD_voxels', 'ASSD', 'ASSD_voxels', 'volume_ml', 'reference_ml'],
] as readonly ScoreName[];
type ScoreName = Exclude<keyof ClassScore, 'TP' | 'FP' | 'FN' | 'TN' | 'n_pred' | 'n_ref' | 'missed' | 'invented'>;

/** A number for each score, null where no case has one. */
export type Scores = { [name in ScoreName]: number | null };

/** Means over the cases in which a number exists (`counted`), and how often a structure was missed or invented. */
export interface MeanScore extends Scores {
  counted: { [name in ScoreName]: number };
  missed: number;
  invented: number;
}

/** What was done to predictions before they were scored. */
export interface EvaluationSettings {
  /** Of each class only its largest component counts (components.ts). */
  largestComponent?: boolean;
  /** Predictions are means over the flips of a slice. */
  flips?: boolean;
  /** False: overlap only; distances are null. */
  distances?: boolean;
  /** Whose weights: the student's or the teacher's. */
  model?: 'student' | 'teacher';
}

/** All scores of an evaluation, in the shape of nnU-Net's summary.json and more. */
export interface Summary {
  settings?: EvaluationSettings;
  metric_per_case: CaseSummary[];
  /** By class. */
  mean: Record<string, MeanScore>;
  /** Standard deviation over cases (n − 1), by class; null for fewer than two. */
  std: Record<string, Scores>;
  /** Mean over the classes' means; missed and invented are sums. */
  foreground_mean: MeanScore;
  /** Standard deviation over cases of a case's mean over its classes. */
  foreground_std: Scores;
  /** Structures missed and invented, over all cases and classes. */
  missed: number;
  invented: number;
  /** Voxels by class of the ground truth (rows) and of the prediction (columns), over all cases. */
  confusion?: number[][];
}

/** Labels of a case on its own grid [D, H, W]. */
export async function predictCase(
  predictor: Predictor,
  volume: CaseVolume,
  grid: Grid & { classes: number },
  { largestComponent = false }: EvaluationSettings = {},
): Promise<Uint8Array> {
  const { labels } = await predictor(stackSlices(volume, grid));
  const restored = restoreLabels(labels, grid, volume);
  if (largestComponent) keepLargestComponents(restored, [volume.depth, volume.height, volume.width], grid.classes);
  return restored;
}

type EvaluatedGrid = Grid & { classes: number; orient?: Orient };

/** Scores every case by the labels that `predict` gives for it; those may come with the name of their file. */
async function scoreCases(
  cases: readonly Case[],
  config: EvaluatedGrid,
  predict: (volume: CaseVolume) => Promise<{ labels: Uint8Array; file?: string | undefined }>,
  { distances = true }: EvaluationSettings,
): Promise<Summary> {
  const { classes } = config;
  const metric_per_case: CaseSummary[] = [];
  const confusion = emptyConfusion(classes);
  for (const c of cases) {
    const volume = loadCase(c, config);
    if (!volume.label)
      throw new DataError(`evaluate: ${c.image} has no ground truth. Evaluate cases with a label beside them.`);
    const { labels, file = null } = await predict(volume);
    countConfusion(confusion, volume.label, labels);
    const [x, y, z] = volume.spacing;
    const { depth, height, width } = volume;
    const size = { shape: [depth, height, width], spacing: [z, y, x], classes, distances } as const;
    const metrics = volumeScores(labels, volume.label, size);
    metric_per_case.push({ case: c.id, reference_file: c.label!, prediction_file: file, metrics });
  }
  return { ...summarize(metric_per_case, classes), confusion };
}

/** Predicts and scores every case; `onCase` gets each prediction (to write or draw it) and may name the file it wrote. */
export async function evaluateCases(
  predictor: Predictor,
  cases: readonly Case[],
  config: EvaluatedGrid,
  onCase: (volume: CaseVolume, labels: Uint8Array) => string | undefined = () => undefined,
  settings: EvaluationSettings = {},
): Promise<Summary> {
  const summary = await scoreCases(
    cases,
    config,
    async (volume) => {
      const labels = await predictCase(predictor, volume, config, settings);
      return { labels, file: onCase(volume, labels) };
    },
    settings,
  );
  return { settings, ...summary };
}

/**
 * Scores label volumes that any tool has written: `folder` holds CASE.nii.gz or CASE.nii for every case, on the image's own grid.
 * Throws a DataError for one that is missing, on another grid or with labels beyond the classes.
 */
export async function evaluateFiles(
  folder: string,
  cases: readonly Case[],
  config: EvaluatedGrid,
  settings: EvaluationSettings = {},
): Promise<Summary> {
  const fileOf = (c: Case): string => {
    const names = [`${c.id}.nii.gz`, `${c.id}.nii`];
    const found = names.map((name) => join(folder, name)).find((path) => existsSync(path));
    if (!found)
      throw new DataError(`evaluate: ${folder} has no prediction for ${c.id}. It must be ${names.join(' or ')}.`);
    return found;
  };
  const files = new Map(cases.map((c) => [c.id, fileOf(c)])); // all that are missing show before anything is read
  const summary = await scoreCases(
    cases,
    config,
    async (volume) => {
      const file = files.get(volume.case.id)!;
      const labels = loadCase({ ...volume.case, label: file }, config).label!; // which checks its grid against the image's
      if (settings.largestComponent) {
        keepLargestComponents(labels, [volume.depth, volume.height, volume.width], config.classes);
      }
      return { labels, file };
    },
    settings,
  );
  return { settings, ...summary };
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
  const ofCase = ({ metrics }: CaseSummary, name: ScoreName): number | null =>
    meanOf(Object.values(metrics).map((score) => score[name]));
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
    foreground_std: byName((name) => deviationOf(metric_per_case.map((each) => ofCase(each, name)))),
    missed,
    invented,
  };
}

/** A row for each case and class; comma-separated, an empty field where there is no number. */
export function scoresAsCsv({ metric_per_case }: Summary): string {
  const names = [...scoreNames, 'missed', 'invented'] as const;
  const quoted = (text: string): string => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = metric_per_case.flatMap((each) =>
    Object.entries(each.metrics).map(([k, score]) =>
      [quoted(each.case ?? each.reference_file), k, ...names.map((name) => Number(score[name] ?? Number.NaN))]
        .map((value) => (Number.isNaN(value) ? '' : value))
        .join(','),
    ),
  );
  return [['case', 'class', ...names].join(','), ...rows, ''].join('\n');
}
