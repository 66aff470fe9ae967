// What a run draws as it trains: validation slices and curves in its folder, a slice of the batch for TensorBoard.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { argmax } from '../../engine/index.js';
import { gather } from '../data/augment.js';
import { loadCase } from '../data/case-volume.js';
import { namesOfClasses } from '../data/class-names.js';
import type { Case } from '../data/datasets.js';
import { ignored } from '../data/labels.js';
import { middleOf, planeNames, planeThrough } from '../data/planes.js';
import { middlePlane, nameOf, planeSides, samplesOf, shapeOf, spacingOn, voxelsOf } from '../data/samples.js';
import { gridOf } from '../evaluation/evaluate.js';
import type { Predictor } from '../evaluation/predictor.js';
import type { Summary } from '../evaluation/summary.js';
import { orSay } from '../files/atomic-file.js';
import { partsOf } from '../method/methods.js';
import type { ShownViews } from '../method/trainer.js';
import type { Panel } from '../pictures/curve-layout.js';
import { writePng } from '../pictures/png.js';
import {
  type Cell,
  drawCurves,
  drawSlices,
  greyPicture,
  labelPicture,
  type SliceRow,
  slicePicture,
} from '../pictures/slice-picture.js';
import { writeReport } from '../report/page.js';
import type { LogRecord } from '../run/log.js';
import type { Config } from '../settings/settings.js';
import type { EventFile } from './tensorboard.js';

export interface Kept {
  /** What is kept, in words for a title. */
  readonly title: string;
  /** Whether a pixel is, by the student's confidence and class. */
  isKept(confidence: number, label: number): boolean;
}

/**
 * What a run keeps at the thresholds of a log record. A method that keeps by something else than one pass's confidence, or keeps
 * all, is shown what the configured threshold would keep.
 */
export function keptBy(config: Config, record: Readonly<Record<string, unknown>>): Kept {
  const number = (value: unknown) => (typeof value === 'number' ? value : undefined);
  const byConfidence = partsOf(config).keeps === 'confidence' && config.selection !== 'all';
  const isHigh = byConfidence && config.selection === 'high';
  const byClass = Array.from({ length: config.classes }, (_, k) => number(record[`threshold${k}`]));
  const single = (byConfidence ? number(record.threshold) : undefined) ?? config.threshold;
  const isByClass = byConfidence && byClass.every((value) => value !== undefined);
  return {
    title: isByClass ? 'kept, by class' : `confidence ${isHigh ? '>=' : '<'} ${Number(single.toFixed(3))}`,
    isKept: (confidence, label) => confidence < ((isByClass ? byClass[label] : undefined) ?? single) !== isHigh,
  };
}

/**
 * One picture of different validation cases: image, label, prediction with its errors, what is kept. Of slices up to four, from the middle
 * of their cases; of volumes up to two, in three planes through the middle of what is labelled, in their true proportions.
 */
export async function drawValidation(
  folder: string,
  iteration: number,
  config: Config,
  { title, isKept }: Kept,
  predictor: Predictor,
  cases: readonly Case[],
): Promise<void> {
  orSay(folder, () => mkdirSync(folder, { recursive: true })); // a run that was copied without its empty folders
  const isSolid = config.patch.length === 3;
  const most = isSolid ? 2 : 4;
  const every = Math.max(1, Math.floor(cases.length / most));
  const rows: SliceRow[] = [];
  for (const c of cases.filter((_, i) => i % every === 0).slice(0, most)) {
    const volume = loadCase(c, config);
    const grid = gridOf(volume, config);
    const samples = samplesOf(volume, grid);
    const sample = samples[Math.floor(samples.length / 2)]!;
    const { labels, confidence } = await predictor(sample.image, true, grid.patch);
    const truth = sample.label!;
    const kept = Uint8Array.from(confidence!, (value, i) => (isKept(value, labels[i]!) ? 1 : 0));
    const reference = truth.map((k, i) => (k === ignored ? labels[i]! : k));
    const label = truth.map((k) => (k === ignored ? 0 : k));
    const shape = shapeOf(grid);
    const middle = middleOf(truth, shape);
    for (const name of isSolid ? planeNames : (['axial'] as const)) {
      const { height, width, spacing, voxels } = planeThrough(name, middle, shape, spacingOn(volume, grid));
      const plane = <A extends Float32Array | Uint8Array>(values: A): A => gather(values, voxels);
      const cells = [
        { title: 'ground truth', labels: plane(label) },
        { title: 'prediction', labels: plane(labels), reference: plane(reference) },
        { title, mask: plane(kept) },
      ];
      const caption = `${nameOf(sample, grid)}${isSolid ? ` ${name}` : ''}`;
      rows.push({ caption, height, width, ...(isSolid && { spacing }), image: plane(sample.image), cells });
    }
  }
  drawSlices(join(folder, `${String(iteration).padStart(6, '0')}.png`), rows, config.classes);
}

/**
 * The first slice of a batch for TensorBoard, or of a volume the axial plane through the middle of what is labelled, under SSL4MIS's tags:
 * the image, its label, what the student says, what is kept.
 */
export async function showBatch(
  events: EventFile,
  step: number,
  batch: { image: Float32Array; label: Uint8Array },
  patch: readonly number[],
  { isKept }: Kept,
  predictor: Predictor,
): Promise<void> {
  const grid = { patch };
  const first = batch.image.slice(0, voxelsOf(grid));
  const label = batch.label.slice(0, voxelsOf(grid));
  const predicted = await predictor(first, true, patch);
  const shape = shapeOf(grid);
  const { voxels } = planeThrough('axial', middleOf(label, shape), shape, [1, 1, 1]);
  const [image, labels, confidence] = [first, predicted.labels, predicted.confidence!].map((values) =>
    gather(values, voxels),
  ) as [Float32Array, Uint8Array, Float32Array];
  const sides = planeSides(grid);
  events.image(step, 'train/Image', greyPicture(image, sides));
  const truth = gather(label, voxels).map((k) => (k === ignored ? 0 : k));
  events.image(step, 'train/GroundTruth', labelPicture(truth, sides));
  events.image(step, 'train/Prediction', labelPicture(labels, sides));
  const kept = Float32Array.from(confidence, (value, i) => (isKept(value, labels[i]!) ? 1 : 0));
  events.image(step, 'train/Kept', greyPicture(kept, sides, [0, 1]));
}

/**
 * Up to three unlabelled items of a batch with strong views: the weak view, the strong one, and over it the classes that the teacher says
 * and the pixels that are kept, unless all are. A file beside the validation's slices, and a picture for TensorBoard.
 */
export async function drawViews(
  folder: string,
  events: EventFile,
  iteration: number,
  config: Config,
  batch: { image: Float32Array; cases: readonly string[] },
  { images, teacher, kept }: ShownViews,
  { title }: Kept,
): Promise<void> {
  const [strong, classes, mask] = await Promise.all([images.read(), argmax(teacher).read(), kept?.read()]);
  const [height, width] = planeSides(config);
  const unlabeled = config.batch - config.labeledBatch;
  const rows = Array.from({ length: Math.min(3, unlabeled) }, (_, i): SliceRow => {
    // Unlabelled items come last, whether there are labelled ones before them or not.
    const plane = <A extends Float32Array | Uint8Array>(values: A): A => {
      const first = values.length - (unlabeled - i) * voxelsOf(config);
      return middlePlane(values.slice(first, first + voxelsOf(config)) as A, config);
    };
    const image = plane(strong as Float32Array);
    const cells: Cell[] = [
      { title: 'strong view', image },
      { title: 'teacher', image, labels: plane(classes as Uint8Array) },
      ...(mask ? [{ title, image, mask: plane(mask as Uint8Array) }] : []),
    ];
    const caption = batch.cases[config.labeledBatch + i]!;
    return { caption, title: 'weak view', height, width, image: plane(batch.image), cells };
  });
  const picture = slicePicture(rows, config.classes);
  writePng(join(folder, `${String(iteration).padStart(6, '0')}-views.png`), picture);
  events.image(iteration, 'train/Views', picture);
}

/** Writes a run's own report. A failure is reported, and does not harm the run. */
export function reportOn(folder: string, out: string): void {
  try {
    writeReport([folder], out);
  } catch (error) {
    console.error(
      `train: no report was written to ${out} — ${(error as Error).message}. Try wgrad report --run ${folder}.`,
    );
  }
}

/** Curves of a log: losses, what was kept, schedules, Dice by class. */
export function drawProgress(base: string, records: readonly LogRecord[]): void {
  const panel = (title: string, names: Record<string, string>): Panel => ({
    title,
    lines: Object.entries(names).flatMap(([key, name]) => {
      const known = records.filter((record) => typeof record[key] === 'number');
      const [x, y] = [known.map(({ iteration }) => iteration), known.map((record) => record[key] as number)];
      return known.length ? [{ name, x, y }] : [];
    }),
  });
  const scored = records.flatMap(({ iteration, validation }) =>
    validation ? [{ iteration, ...(validation as Pick<Summary, 'mean' | 'foreground_mean'>) }] : [],
  );
  const classes = Object.keys(scored[0]?.mean ?? {});
  const names = namesOfClasses(1 + classes.length);
  const dice = classes.map((k) => ({
    name: names[Number(k)]!,
    x: scored.map(({ iteration }) => iteration),
    y: scored.map(({ mean }) => mean[k]?.Dice ?? Number.NaN),
  }));
  const panels: Panel[] = [
    panel('loss', { loss: 'total', ce: 'cross-entropy', dice: 'Dice loss' }),
    panel('unsupervised terms', { consistency: 'consistency', separation: 'class separation' }),
    {
      ...panel('kept pixels and accuracy', {
        kept: 'kept',
        keptAccuracy: 'accuracy of kept',
        droppedAccuracy: 'of dropped',
        confidence: 'confidence',
      }),
      isShare: true,
    },
    panel('schedule', { lr: 'learning rate', consistencyWeight: 'consistency weight' }),
    { title: 'validation Dice', lines: dice, isShare: true },
  ];
  drawCurves(
    base,
    panels.filter(({ lines }) => lines.length),
  );
}
