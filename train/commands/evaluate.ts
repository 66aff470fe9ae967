// wgrad evaluate: a trained model's scores on one part of a data set, and its predictions as NIfTI.
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { verifyDevice } from '../../engine/debug.js';
import { openDevice } from '../../engine/node.js';
import { type CaseVolume, writeLabels } from '../data/case-volume.js';
import { namesOfClasses } from '../data/class-names.js';
import { withLabels } from '../data/datasets.js';
import { createNotices } from '../data/notices.js';
import { checkVoxelSize, evaluateCases, evaluateFiles } from '../evaluation/evaluate.js';
import { createPredictor } from '../evaluation/predictor.js';
import { scoreTable } from '../evaluation/score-table.js';
import { type Summary, scoresAsCsv } from '../evaluation/summary.js';
import { newFolder } from '../files/new-folder.js';
import { UsageError } from '../files/usage-error.js';
import { openPart, partFlags } from '../run/run-split.js';
import { loadModel, modelFlags, predictionFlags, windowsOf } from '../run/trained-model.js';
import { describeCommand } from '../settings/command-line.js';
import { createProgress, sayCompiling } from '../training/progress.js';
import { imageFlags, labelFlags, readingOf } from './reading-flags.js';

export const command = describeCommand({
  name: 'evaluate',
  about: `
Scores a model, or label volumes written by any tool, on one part of a data set: Dice, Jaccard, HD95 and ASD of every
volume and class, on each image's own grid.`,
  flags: {
    ...modelFlags,
    predictions: {
      type: 'string',
      value: 'DIR',
      needed: 'one',
      help: "label volumes to score: CASE.nii.gz for each case, on its image's grid, with classes 0 … N-1 or the data set's own values",
    },
    data: { type: 'string', value: 'DIR', needed: true, help: 'data set in any layout that wgrad inspect knows' },
    split: { type: 'string', choices: ['val', 'test', 'train'], default: 'test', help: 'part to score' },
    ...partFlags,
    classes: {
      type: 'integer',
      min: 2,
      max: 255,
      help: "number of classes in --predictions, background included (default: the data set's own, or 4)",
    },
    ...predictionFlags,
    ...labelFlags,
    ...imageFlags,
    out: {
      type: 'string',
      value: 'DIR',
      help: 'new folder for summary.json, scores.csv (one row per volume and class) and the predicted labels as NIfTI',
    },
    adapter: { type: 'string', value: 'NAME', help: 'GPU or driver to use' },
    json: { type: 'boolean', help: 'print the summary as JSON' },
  },
});

/** Runs `wgrad evaluate`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const { data, out, adapter, predictions, flips, split: part, model: role } = flags;
  if (predictions && (flips || flags.stride || flags['window-weights'] || role === 'teacher')) {
    throw new UsageError(
      'evaluate: --model, --flips, --stride and --window-weights do not apply to --predictions. Leave them out.',
    );
  }
  if (flags.classes && !predictions)
    throw new UsageError('evaluate: --classes applies to --predictions only; a model knows its classes. Leave it out.');
  const largestComponent = flags['largest-component'];
  const run = predictions === undefined ? (flags.run ?? dirname(flags.weights!)) : undefined;
  const { dataset, trained, ...found } = await openPart('evaluate', data, run, {
    part,
    splitOf: flags['split-of'],
    fold: flags.fold,
  });
  const cases = withLabels(dataset, part, found.cases);
  const named = dataset.classNames;
  const checkClasses = (classes: number, what: string): void => {
    if (named && named.length !== classes) {
      throw new UsageError(
        `evaluate: ${what} ${named.length} classes, as in dataset.json (${named.join(', ')}) — got ${classes}. Use a data set and a model with the same classes.`,
      );
    }
  };
  const notices = createNotices('evaluate');
  const reading = readingOf(flags);
  const report = (summary: Summary): number => {
    const json = JSON.stringify(summary, null, 2);
    if (out) {
      writeFileSync(join(out, 'summary.json'), `${json}\n`);
      writeFileSync(join(out, 'scores.csv'), scoresAsCsv(summary));
    }
    console.log(flags.json ? json : scoreTable(summary, named ?? namesOfClasses(summary.settings!.classes ?? 0)));
    notices.end();
    if (summary.ignored) console.error(`evaluate: ${summary.ignored} voxels carry the ignore label and are not scored`);
    if (summary.metric_per_case.every(({ spacing }) => spacing.every((mm) => mm === 1))) {
      console.error('evaluate: all headers give voxels of 1×1×1 mm, so millimetres here are voxels');
    }
    return 0;
  };
  if (predictions) {
    const classes = flags.classes ?? named?.length ?? 4;
    checkClasses(classes, '--classes must give');
    if (out) newFolder('evaluate', out);
    const settings = { split: part, classes, largestComponent };
    return report(await evaluateFiles(predictions, cases, { ...reading, classes }, settings, notices.add));
  }

  const gpu = await openDevice(adapter ? { adapter } : {});
  const progress = createProgress('evaluate', cases.length);
  try {
    await verifyDevice(gpu);
    const { model, config: own } = loadModel(gpu, { ...flags, role });
    const windows = windowsOf('evaluate', flags, own);
    const config = { ...own, ...reading, ...windows };
    const { classes } = config;
    checkClasses(classes, 'the model must have');
    if (out) newFolder('evaluate', out);
    const predictor = createPredictor(gpu, model, config.patch, { flips, ...windows });
    await sayCompiling(predictor.prepare);
    const onCase = (volume: CaseVolume, labels: Uint8Array, index: number): string | undefined => {
      checkVoxelSize(volume);
      notices.add(volume.notes);
      progress.update(index + 1, volume.case.id);
      if (!out) return undefined;
      const file = join(out, `${volume.case.id}.nii.gz`);
      writeLabels(file, volume, labels);
      return file;
    };
    const settings = {
      model: role,
      split: part,
      classes,
      flips,
      largestComponent,
      ...windows,
      ...(trained.length && { trained }),
    };
    return report(await evaluateCases(predictor, cases, config, onCase, settings).finally(() => progress.end()));
  } finally {
    gpu.close();
  }
}
