// wgrad evaluate: a trained model's scores on one part of a data set, and its predictions as NIfTI.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openDevice } from '../../engine/node.js';
import { readCommandLine } from '../command-line.js';
import { resolveConfig, UsageError } from '../config.js';
import { cardiacClasses, casesToEvaluate, openDataset } from '../data/datasets.js';
import { type CaseVolume, writeLabels } from '../data/slices.js';
import { evaluateCases, evaluateFiles, type MeanScore, type Scores, type Summary, scoresAsCsv } from '../evaluate.js';
import { newFolder } from '../new-folder.js';
import { createPredictor } from '../predictor.js';
import { loadModel } from '../trained-model.js';

export const help = `
usage: wgrad evaluate --run RUN | --weights FILE | --predictions DIR  --data DIR [--split val|test|train] [--out DIR] [--json]

Dice, Jaccard and surface distances per volume and class, on the volumes' own grids, mean ± standard deviation over volumes:
  HD95   95th percentile of the distances of both directions pooled (MedPy's hd95); HD95_symmetric the larger of both
  ASD    mean distance from the prediction's surface to the reference's (MedPy's asd); ASSD the mean of both directions
in mm (voxel sizes of the header) and in voxels. A structure that is missed or invented has no distance: it is counted.

  --run RUN           a run folder: its best checkpoint
  --weights FILE      a checkpoint
  --predictions DIR   label volumes of any tool instead, CASE.nii.gz on the images' grids; needs no GPU
  --classes N         with --predictions: classes, background included (default 4)
  --data DIR          data set
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
  const { data, out, adapter, predictions, flips = false, model: role = 'student' } = flags;
  const part = parts.find((name) => name === (flags.split ?? 'test'));
  if (!part) throw new UsageError(`evaluate: --split must be one of ${parts.join(', ')} — got '${flags.split}'.`);
  if (role !== 'student' && role !== 'teacher') {
    throw new UsageError(`evaluate: --model must be student or teacher — got '${role}'.`);
  }
  if (!data) throw new UsageError('evaluate: --data is needed. See wgrad evaluate --help.');
  if (predictions && (flags.run || flags.weights || flips || flags.model)) {
    throw new UsageError(
      'evaluate: --predictions are scored as they are. Leave --run, --weights, --model and --flips out.',
    );
  }
  if (flags.classes && !predictions) throw new UsageError('evaluate: a model knows its classes. Leave --classes out.');
  const largestComponent = flags['largest-component'] ?? false;
  if (out) newFolder('evaluate', out);
  const cases = casesToEvaluate(await openDataset(data), part);
  const report = (summary: Summary): number => {
    const json = JSON.stringify(summary, null, 2);
    if (out) {
      writeFileSync(join(out, 'summary.json'), `${json}\n`);
      writeFileSync(join(out, 'scores.csv'), scoresAsCsv(summary));
    }
    console.log(flags.json ? json : scoreTable(summary));
    return 0;
  };
  if (predictions) {
    const { size, spacing } = resolveConfig();
    const grid = { size, spacing, classes: flags.classes ?? 4 };
    return report(await evaluateFiles(predictions, cases, grid, { largestComponent }));
  }

  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    const { model, config } = loadModel(gpu, { ...flags, role });
    const predictor = createPredictor(gpu, model, config.size, { flips });
    const written = (volume: CaseVolume, labels: Uint8Array): string | undefined => {
      if (!out) return undefined;
      const file = join(out, `${volume.case.id}.nii.gz`);
      writeLabels(file, volume, labels);
      return file;
    };
    return report(await evaluateCases(predictor, cases, config, written, { flips, largestComponent, model: role }));
  } finally {
    gpu.close();
  }
}

/** Scores by volume, then means and standard deviations by class, as a table. */
export function scoreTable({ mean, std, foreground_mean, foreground_std, metric_per_case: cases }: Summary): string {
  const columns = [
    ['Dice', 'Dice', 4],
    ['Jaccard', 'Jaccard', 4],
    ['HD95', 'HD95 mm', 2],
    ['HD95_voxels', 'voxels', 2],
    ['ASD', 'ASD mm', 2],
    ['ASD_voxels', 'voxels', 2],
  ] as const;
  const nameOf = (k: string): string => cardiacClasses[Number(k)] ?? `class ${k}`;
  const of = (scores: Scores, name: (typeof columns)[number][0], digits: number): string =>
    scores[name] === null ? '–' : scores[name].toFixed(digits);
  const perCase = cases.map((each) => [
    each.case ?? each.reference_file,
    ...Object.values(each.metrics).map((score) => of(score, 'Dice', 4)),
    ...Object.values(each.metrics).map((score) => of(score, 'HD95', 2)),
    Object.entries(each.metrics)
      .flatMap(([k, { missed, invented }]) => [
        ...(missed ? [`missed ${nameOf(k)}`] : []),
        ...(invented ? [`invented ${nameOf(k)}`] : []),
      ])
      .join(', '),
  ]);
  const keys = Object.keys(mean);
  const row = (name: string, score: MeanScore, deviation: Scores): string[] => [
    name,
    ...columns.map(([key, , digits]) =>
      score[key] === null ? '–' : `${of(score, key, digits)} ± ${of(deviation, key, digits)}`,
    ),
    `${score.counted.HD95}`,
    `${score.missed}`,
    `${score.invented}`,
  ];
  return [
    aligned([['volume', ...keys.map((k) => `Dice ${k}`), ...keys.map((k) => `HD95 ${k} mm`), ''], ...perCase]),
    '',
    aligned([
      [`${cases.length} volumes`, ...columns.map(([, title]) => title), 'with distances', 'missed', 'invented'],
      ...keys.map((k) => row(nameOf(k), mean[k]!, std[k]!)),
      row('mean of classes', foreground_mean, foreground_std),
    ]),
  ].join('\n');
}

/** Columns in line: the first to the left, the others to the right. */
function aligned(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
