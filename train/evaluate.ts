// Scores a model on cases: predict the slices, put the labels back on each case's own grid, measure, summarise. The summary
// has the shape of nnU-Net's summary.json.
import { countConfusion, emptyConfusion } from './confusion.js';
import type { Case } from './data/datasets.js';
import type { Orient } from './data/orientation.js';
import { type CaseVolume, type Grid, loadCase, restoreLabels, stackSlices } from './data/slices.js';
import { type ClassScore, volumeScores } from './metrics.js';
import type { Predictor } from './predictor.js';

export interface CaseSummary {
  reference_file: string;
  prediction_file: string | null;
  metrics: Record<string, ClassScore>;
}

/** Means over the cases in which a number exists, and how often a structure was missed or invented. */
export interface MeanScore {
  Dice: number | null;
  Jaccard: number | null;
  HD95: number | null;
  HD95_voxels: number | null;
  ASD: number | null;
  ASD_voxels: number | null;
  missed: number;
  invented: number;
}

export interface Summary {
  metric_per_case: CaseSummary[];
  /** By class. */
  mean: Record<string, MeanScore>;
  /** Mean over the classes' means; missed and invented are sums. */
  foreground_mean: MeanScore;
  /** Voxels by class of the ground truth (rows) and of the prediction (columns), over all cases. */
  confusion?: number[][];
}

/** Labels of a case on its own grid [D, H, W]. */
export async function predictCase(predictor: Predictor, volume: CaseVolume, grid: Grid): Promise<Uint8Array> {
  const { labels } = await predictor(stackSlices(volume, grid));
  return restoreLabels(labels, grid, volume);
}

/** Predicts and scores every case; `onCase` gets each prediction (to write or draw it) and may name the file it wrote. */
export async function evaluateCases(
  predictor: Predictor,
  cases: readonly Case[],
  config: Grid & { classes: number; orient?: Orient },
  onCase: (volume: CaseVolume, labels: Uint8Array) => string | undefined = () => undefined,
): Promise<Summary> {
  const { classes } = config;
  const metric_per_case: CaseSummary[] = [];
  const confusion = emptyConfusion(classes);
  for (const c of cases) {
    const volume = loadCase(c, config);
    if (!volume.label)
      throw new Error(`evaluate: ${c.image} has no ground truth. Evaluate cases with a label beside them.`);
    const labels = await predictCase(predictor, volume, config);
    countConfusion(confusion, volume.label, labels);
    const [x, y, z] = volume.spacing;
    const { depth, height, width } = volume;
    const metrics = volumeScores(labels, volume.label, { shape: [depth, height, width], spacing: [z, y, x], classes });
    metric_per_case.push({ reference_file: c.label!, prediction_file: onCase(volume, labels) ?? null, metrics });
  }
  return { ...summarize(metric_per_case, classes), confusion };
}

const scoreNames = ['Dice', 'Jaccard', 'HD95', 'HD95_voxels', 'ASD', 'ASD_voxels'] as const;

const meanOf = (values: (number | null)[]): number | null => {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
};

/** Means per class over cases, and over classes. */
export function summarize(metric_per_case: CaseSummary[], classes: number): Summary {
  const mean: Record<string, MeanScore> = {};
  for (let k = 1; k < classes; k++) {
    const scores = metric_per_case.map(({ metrics }) => metrics[k]!);
    const means = scoreNames.map((name) => [name, meanOf(scores.map((score) => score[name]))]);
    const missed = scores.filter((score) => score.missed).length;
    const invented = scores.filter((score) => score.invented).length;
    mean[k] = { ...(Object.fromEntries(means) as Omit<MeanScore, 'missed' | 'invented'>), missed, invented };
  }
  const rows = Object.values(mean);
  const means = scoreNames.map((name) => [name, meanOf(rows.map((row) => row[name]))]);
  return {
    metric_per_case,
    mean,
    foreground_mean: {
      ...(Object.fromEntries(means) as Omit<MeanScore, 'missed' | 'invented'>),
      missed: rows.reduce((sum, row) => sum + row.missed, 0),
      invented: rows.reduce((sum, row) => sum + row.invented, 0),
    },
  };
}
