// Scores a model, or files that any tool has written, on cases: labels on each case's own grid against its ground truth.

import { type CaseVolume, loadCase, type Note, type Reading } from '../data/case-volume.js';
import type { Case } from '../data/datasets.js';
import { ignored } from '../data/labels.js';
import { placementOf, readGeometry } from '../data/nifti-geometry.js';
import { type Grid, restoreLabels, sidesAt, stackSamples } from '../data/samples.js';
import { DataError } from '../files/data-error.js';
import { keepLargestComponents } from './components.js';
import { countConfusion, emptyConfusion } from './confusion.js';
import { volumeScores } from './metrics.js';
import type { Predictor } from './prediction.js';
import { codingOf, findPredictions, readPrediction } from './prediction-files.js';
import { type CaseSummary, type EvaluationSettings, type Summary, summarize } from './summary.js';

/** How a case is predicted: on the network's grid, whole or by overlapping windows. */
export interface PredictedGrid extends Grid {
  readonly classes: number;
  /**
   * Voxels between overlapping windows along each side of the patch, on a grid of `spacing` or of patches; the predictor must have the
   * same. None or zeros: one patch a sample, or half of each side between patches (windowStride).
   */
  readonly stride?: readonly number[];
}

/** How far windows are apart along each side of the patch; undefined where a sample is one patch. */
export function windowStride({
  patch,
  sample,
  stride = [0],
}: Omit<PredictedGrid, 'classes'>): readonly number[] | undefined {
  if (stride.some((n) => n > 0)) return stride;
  return sample === 'patches' ? patch.map((side) => Math.ceil(side / 2)) : undefined;
}

/** The grid that a case's samples are predicted on: whole ones where that is done by windows, else the network's patch. */
export const gridOf = <G extends Grid & Pick<PredictedGrid, 'stride'>>(volume: CaseVolume, grid: G): G =>
  windowStride(grid) ? { ...grid, patch: sidesAt(volume, grid) } : grid;

/** What the network says of a case, still on its grid. */
async function predictOnGrid(predictor: Predictor, volume: CaseVolume, settled: PredictedGrid) {
  const grid = gridOf(volume, settled);
  return { grid, ...(await predictor(stackSamples(volume, grid), false, grid.patch)) };
}

/** Labels of a case on its own grid [D, H, W]. */
export async function predictCase(
  predictor: Predictor,
  volume: CaseVolume,
  grid: PredictedGrid,
  { largestComponent = false }: EvaluationSettings = {},
): Promise<Uint8Array> {
  const predicted = await predictOnGrid(predictor, volume, grid);
  return labelsOf(predicted.labels, predicted.grid, volume, grid.classes, largestComponent);
}

function labelsOf(labels: Uint8Array, grid: Grid, volume: CaseVolume, classes: number, largest: boolean): Uint8Array {
  const restored = restoreLabels(labels, grid, volume);
  if (largest) keepLargestComponents(restored, shapeOf(volume), classes);
  return restored;
}

/**
 * As predictCase, with the probabilities [K, D, H, W] of a predictor that gives them. They are the model's own, whatever
 * `largestComponent` makes of the labels; where the network's grid does not reach, all is background.
 */
export async function predictProbabilities(
  predictor: Predictor,
  volume: CaseVolume,
  settled: PredictedGrid,
  { largestComponent = false }: EvaluationSettings = {},
): Promise<{ labels: Uint8Array; probabilities: Float32Array }> {
  const { grid, labels: found, probabilities: given } = await predictOnGrid(predictor, volume, settled);
  const { classes } = settled;
  const labels = labelsOf(found, grid, volume, classes, largestComponent);
  const pixels = given!.length / classes;
  const reached = restoreLabels(new Uint8Array(pixels).fill(1), grid, volume);
  const probabilities = new Float32Array(classes * labels.length);
  for (let k = 0; k < classes; k++) {
    const ofClass = new Float32Array(pixels);
    for (let i = 0; i < pixels; i++) ofClass[i] = given![i * classes + k]!;
    probabilities.set(restoreLabels(ofClass, grid, volume), k * labels.length);
  }
  for (const [i, one] of reached.entries()) if (!one) probabilities[i] = 1;
  return { labels, probabilities };
}

const shapeOf = ({ depth, height, width }: CaseVolume): [number, number, number] => [depth, height, width];

/** The settings of a run that evaluation needs. */
export type EvaluatedGrid = PredictedGrid & Reading;

/** Throws a DataError where a header gives no voxel size along an axis: millimetres and millilitres would be made up. */
export function checkVoxelSize({ volume, case: c }: CaseVolume): void {
  const geometry = readGeometry(volume.header);
  const { pixdim, srow } = geometry;
  const isBySform = placementOf(geometry) === 'sform';
  const isKnown = (axis: number): boolean => {
    const written = pixdim[axis + 1]!;
    const side = Math.hypot(srow[axis]!, srow[axis + 4]!, srow[axis + 8]!);
    return (Number.isFinite(written) && written !== 0) || (isBySform && side > 0);
  };
  if (volume.shape.some((length, axis) => length > 1 && !isKnown(axis))) {
    throw new DataError(
      `evaluate: ${c.image} has no voxel size — got pixdim [${pixdim.slice(1, 4).join(', ')}], expected millimetres. Correct the header: distances and volumes need it.`,
    );
  }
}

/** Scores every case by the labels that `predict` gives for it; those may come with the name of their file. */
async function scoreCases(
  cases: readonly Case[],
  config: Reading & { classes: number },
  predict: (volume: CaseVolume, index: number) => Promise<{ labels: Uint8Array; file?: string | undefined }>,
  { distances = true }: EvaluationSettings = {},
): Promise<Summary> {
  const { classes } = config;
  const metric_per_case: CaseSummary[] = [];
  const confusion = emptyConfusion(classes);
  for (const [index, c] of cases.entries()) {
    const volume = loadCase(c, config);
    const { label } = volume;
    if (!label)
      throw new DataError(`evaluate: ${c.image} has no ground truth. Evaluate cases with a label beside them.`);
    const { labels, file = null } = await predict(volume, index);
    countConfusion(confusion, label, labels);
    const scored = withoutIgnored(label, labels);
    metric_per_case.push({
      case: c.patient,
      ...(c.frame !== undefined && { frame: c.frame }),
      image: c.image,
      reference_file: c.label!,
      prediction_file: file,
      spacing: volume.volume.spacing,
      ...(scored.count && { ignored: scored.count }),
      metrics: scoresOf(volume, scored, classes, distances),
    });
  }
  const left = metric_per_case.reduce((sum, each) => sum + (each.ignored ?? 0), 0);
  return { ...summarize(metric_per_case, classes), ...(left && { ignored: left }), confusion };
}

/** Labels as they are scored: a voxel that the reference ignores is background in both, and counts nowhere. */
interface Scored {
  readonly reference: Uint8Array;
  readonly prediction: Uint8Array;
  /** Voxels that are ignored. */
  readonly count: number;
}

function withoutIgnored(reference: Uint8Array, prediction: Uint8Array): Scored {
  const count = reference.reduce((sum, k) => sum + (k === ignored ? 1 : 0), 0);
  if (count === 0) return { reference, prediction, count };
  return {
    reference: reference.map((k) => (k === ignored ? 0 : k)),
    prediction: prediction.map((k, i) => (reference[i] === ignored ? 0 : k)),
    count,
  };
}

const scoresOf = (volume: CaseVolume, { prediction, reference, count }: Scored, classes: number, distances: boolean) =>
  volumeScores(prediction, reference, {
    ignored: count,
    shape: shapeOf(volume),
    spacing: [volume.spacing[2], volume.spacing[1], volume.spacing[0]],
    classes,
    distances,
  });

/**
 * Predicts and scores every case; `onCase` gets each prediction (to write or draw it) and may name the file it wrote. `settings` is
 * what the summary says of itself; the predictor flips or not by its own options.
 */
export async function evaluateCases(
  predictor: Predictor,
  cases: readonly Case[],
  config: EvaluatedGrid,
  onCase: (volume: CaseVolume, labels: Uint8Array, index: number) => string | undefined = () => undefined,
  settings: EvaluationSettings = {},
): Promise<Summary> {
  const predict = async (volume: CaseVolume, index: number) => {
    const labels = await predictCase(predictor, volume, config, settings);
    return { labels, file: onCase(volume, labels, index) };
  };
  return { settings, ...(await scoreCases(cases, config, predict, settings)) };
}

/**
 * Scores label volumes that any tool has written: `folder` holds CASE.nii.gz or CASE.nii for every case, on the image's own grid.
 * `onNotes` gets what should be told of each file. Throws a DataError for one that is missing, on another grid or with labels beyond the classes.
 */
export async function evaluateFiles(
  folder: string,
  cases: readonly Case[],
  config: Reading & { classes: number },
  settings: EvaluationSettings = {},
  onNotes: (notes: readonly Note[]) => void = () => {},
): Promise<Summary> {
  const files = findPredictions(folder, cases); // all that are missing show before anything is read
  const coding = codingOf(files.values(), cases, config.classes);
  const predict = async (volume: CaseVolume) => {
    checkVoxelSize(volume);
    const file = files.get(volume.case.id)!;
    const { labels, notes } = readPrediction(file, volume, coding, config.trust);
    onNotes([...volume.notes, ...notes]);
    if (settings.largestComponent) keepLargestComponents(labels, shapeOf(volume), config.classes);
    return { labels, file };
  };
  return { settings, ...(await scoreCases(cases, config, predict, settings)) };
}
