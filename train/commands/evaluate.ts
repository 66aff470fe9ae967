// wgrad evaluate: a trained model's scores on one part of a data set, and its predictions as NIfTI.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDevice } from '../../engine/node.js';
import { readCommandLine } from '../command-line.js';
import { UsageError } from '../config.js';
import { cardiacClasses, casesToEvaluate, openDataset } from '../data/datasets.js';
import { type CaseVolume, writeLabels } from '../data/slices.js';
import { checkVoxelSize, evaluateCases, evaluateFiles } from '../evaluation/evaluate.js';
import { scoreTable } from '../evaluation/score-table.js';
import { type Summary, scoresAsCsv } from '../evaluation/summary.js';
import { newFolder } from '../new-folder.js';
import { createPredictor } from '../predictor.js';
import { createProgress } from '../progress.js';
import { loadModel } from '../trained-model.js';

export const help = `
usage: wgrad evaluate --run RUN | --weights FILE | --predictions DIR  --data DIR          data set, in any layout that wgrad inspect knows
  --split PART        val, test or train (default test)
  --model ROLE        student (default), or teacher: of the run's last state
  --flips             mean of the probabilities over the flips of each slice
  --largest-component of each class only the largest component (26-connected)
  --out DIR           new folder for summary.json, scores.csv (a row a volume and class) and the predicted labels as NIfTI
  --adapter NAME      GPU or driver to use
  --json              print the summary as JSON`;

const parts = ['val', 'test', 'train'] as const;

/** Runs `wgrad evaluate`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = readCommandLine('evaluate', args, {
    run: { type: 'string' },
    weights: { type: 'string' },
    predictions: { type: 'string' },
    classes: { type: 'integer', min: 2, max: 255 },
    data: { type: 'string' },
    split: { type: 'string' },
    model: { type: 'string' },
    flips: { type: 'boolean' },
    'largest-component': { type: 'boolean' },
    out: { type: 'string' },
    adapter: { type: 'string' },
    json: { type: 'boolean' },
  } as const);
  const { data, out, adapter, predictions, flips = false } = flags;
  const part = parts.find((name) => name === (flags.split ?? 'test'));
  if (!part) throw new UsageError(`evaluate: --split must be one of ${parts.join(', ')} — got '${flags.split}'.`);
  const role = (['student', 'teacher'] as const).find((name) => name === (flags.model ?? 'student'));
  if (!role) throw new UsageError(`evaluate: --model must be student or teacher — got '${flags.model}'.`);
  if (!data) throw new UsageError('evaluate: --data is needed. See wgrad evaluate --help.');
  if (predictions && (flags.run || flags.weights || flips || flags.model)) {
    throw new UsageError(
      'evaluate: --predictions are scored as they are. Leave --run, --weights, --model and --flips out.',
    );
  }
  if (flags.classes && !predictions) throw new UsageError('evaluate: a model knows its classes. Leave --classes out.');
  const largestComponent = flags['largest-component'] ?? false;
  const dataset = await openDataset(data);
  const cases = casesToEvaluate(dataset, part);
  const named = dataset.classNames;
  const checkClasses = (classes: number, whose: string): void => {
    if (named && named.length !== classes) {
      throw new UsageError(
        `evaluate: dataset.json names ${named.length} classes (${named.join(', ')}) — got ${classes} ${whose}. Use a data set and a model with the same classes.`,
      );
    }
  };
  const report = (summary: Summary): number => {
    const json = JSON.stringify(summary, null, 2);
    if (out) {
      writeFileSync(join(out, 'summary.json'), `${json}\n`);
      writeFileSync(join(out, 'scores.csv'), scoresAsCsv(summary));
    }
    const names = named ?? (summary.settings!.classes === cardiacClasses.length ? cardiacClasses : []);
    console.log(flags.json ? json : scoreTable(summary, names));
    if (summary.metric_per_case.every(({ spacing }) => spacing.every((mm) => mm === 1))) {
      console.error('evaluate: every voxel is 1×1×1 mm by its header: millimetres here are voxels');
    }
    return 0;
  };
  if (predictions) {
    const classes = flags.classes ?? named?.length ?? 4;
    checkClasses(classes, 'by --classes');
    if (out) newFolder('evaluate', out);
    return report(await evaluateFiles(predictions, cases, { classes }, { split: part, classes, largestComponent }));
  }

  const gpu = await openDevice(adapter ? { adapter } : {});
  const progress = createProgress('evaluate', cases.length);
  try {
    const { model, config } = loadModel(gpu, { ...flags, role });
    const { classes } = config;
    checkClasses(classes, 'of the model');
    if (out) newFolder('evaluate', out);
    const predictor = createPredictor(gpu, model, config.size, { flips });
    const onCase = (volume: CaseVolume, labels: Uint8Array, index: number): string | undefined => {
      checkVoxelSize(volume);
      progress.update(index + 1, volume.case.id);
      if (!out) return undefined;
      const file = join(out, `${volume.case.id}.nii.gz`);
      writeLabels(file, volume, labels);
      return file;
    };
    const settings = { model: role, split: part, classes, flips, largestComponent };
    return report(await evaluateCases(predictor, cases, config, onCase, settings).finally(() => progress.end()));
  } finally {
    gpu.close();
  }
}
