// wgrad evaluate: a trained model's scores on one part of a data set, and its predictions as NIfTI.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDevice } from '../../engine/node.js';
import { readCommandLine } from '../command-line.js';
import { UsageError } from '../config.js';
import { cardiacClasses, casesToEvaluate, openDataset } from '../data/datasets.js';
import { writeLabels } from '../data/slices.js';
import { evaluateCases, type MeanScore, type Summary } from '../evaluate.js';
import { newFolder } from '../new-folder.js';
import { createPredictor } from '../predictor.js';
import { loadModel } from '../trained-model.js';

export const help = `
usage: wgrad evaluate --run RUN | --weights FILE  --data DIR [--split val|test|train] [--out DIR] [--json]

Dice, Jaccard, HD95 and ASD per volume and class, on the volumes' own grids, in mm and in voxels.

  --run RUN           a run folder: its best checkpoint
  --weights FILE      a checkpoint
  --data DIR          data set
  --split PART        val, test or train (default test)
  --out DIR           new folder for summary.json and the predicted labels as NIfTI
  --adapter NAME      GPU or driver to use
  --json              print the summary as JSON`;

const parts = ['val', 'test', 'train'] as const;

/** Runs `wgrad evaluate`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = readCommandLine('evaluate', args, {
    run: { type: 'string' },
    weights: { type: 'string' },
    data: { type: 'string' },
    split: { type: 'string' },
    out: { type: 'string' },
    adapter: { type: 'string' },
    json: { type: 'boolean' },
  } as const);
  const { data, out, adapter } = flags;
  const part = parts.find((name) => name === (flags.split ?? 'test'));
  if (!part) throw new UsageError(`evaluate: --split must be one of ${parts.join(', ')} — got '${flags.split}'.`);
  if (!data) throw new UsageError('evaluate: --data is needed. See wgrad evaluate --help.');
  if (out) newFolder('evaluate', out);
  const cases = casesToEvaluate(await openDataset(data), part);

  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    const { model, config } = loadModel(gpu, flags);
    const predictor = createPredictor(gpu, model, config.size);
    const summary = await evaluateCases(predictor, cases, config, (volume, labels) => {
      if (!out) return undefined;
      const file = join(out, `${volume.case.id}.nii.gz`);
      writeLabels(file, volume, labels);
      return file;
    });
    const json = `${JSON.stringify(summary, null, 2)}`;
    if (out) writeFileSync(join(out, 'summary.json'), `${json}\n`);
    console.log(flags.json ? json : scoreTable(summary));
    return 0;
  } finally {
    gpu.close();
  }
}

/** Means by class as a table. */
export function scoreTable({ mean, foreground_mean: all, metric_per_case: cases }: Summary): string {
  const row = (name: string, score: MeanScore) =>
    [
      name.padEnd(18),
      ...[score.Dice, score.Jaccard].map((v) => (v === null ? '–' : v.toFixed(4)).padStart(8)),
      ...[score.HD95, score.HD95_voxels, score.ASD, score.ASD_voxels].map((v) =>
        (v === null ? '–' : v.toFixed(2)).padStart(9),
      ),
      String(score.missed).padStart(7),
      String(score.invented).padStart(9),
    ].join('');
  const titles = `${''.padEnd(18)}    Dice Jaccard  HD95 mm HD95 vox   ASD mm  ASD vox missed invented`;
  const rows = Object.entries(mean).map(([k, score]) => row(cardiacClasses[Number(k)] ?? `class ${k}`, score));
  return [`${cases.length} volumes`, titles, ...rows, row('mean', all)].join('\n');
}
