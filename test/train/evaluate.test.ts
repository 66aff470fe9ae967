// Evaluation end to end on phantoms: what is written scores the same when it is read, options do what they say, bad input is refused.
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { noGrad, softmax, tensor, uniformStream } from '../../engine/index.js';
import { unet } from '../../model/index.js';
import { run as evaluateCommand } from '../../train/commands/evaluate.js';
import { loadCase, writeLabels } from '../../train/data/case-volume.js';
import { casesToEvaluate, openDataset } from '../../train/data/datasets.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { evaluateCases, evaluateFiles } from '../../train/evaluation/evaluate.js';
import { createPredictor } from '../../train/evaluation/predictor.js';
import type { Summary } from '../../train/evaluation/summary.js';
import { saveTensors } from '../../train/run/checkpoint.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { windows } from '../reference/windows.js';

const test = suite('evaluate');

const folder = mkdtempSync(join(tmpdir(), 'wgrad-evaluate-'));
const data = join(folder, 'data');
const weights = join(folder, 'model.safetensors');
const config = resolveConfig({ size: 16, features: '4,8', dropout: '0', batch: 2 });
const model = async () => unet(await testGpu(), { inChannels: 1, classes: 4, features: config.features, seed: 5 });

test.before(async () => {
  writePhantoms(data, { patients: 5, size: 24 });
  await saveTensors(weights, (await model()).state, { config: JSON.stringify(config) });
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** What a command prints on stdout. */
async function printed(args: string[]): Promise<string> {
  const lines: string[] = [];
  const { log } = console;
  console.log = (text: string) => void lines.push(text);
  try {
    assert.is(await evaluateCommand(args), 0);
  } finally {
    console.log = log;
  }
  return lines.join('\n');
}
async function refuses(args: string[], says: RegExp): Promise<void> {
  const error = await evaluateCommand(args).then(
    () => undefined,
    (reason: Error) => reason,
  );
  assert.match(error?.message ?? 'accepted', says);
}

test('a model, its files, and the files alone score the same, twice', async () => {
  const out = join(folder, 'scored');
  const flags = ['--data', data, '--split', 'train', '--json'];
  const first = await printed(['--weights', weights, '--out', out, ...flags]);
  const again = await printed(['--weights', weights, ...flags]);
  const summary = JSON.parse(first) as Summary;
  const withoutFiles = (text: string) => text.replaceAll(/"prediction_file": [^,]*,/g, '');
  assert.is(withoutFiles(first), withoutFiles(again));
  assert.is(readFileSync(join(out, 'summary.json'), 'utf8').trim(), first.trim());
  const rows = readFileSync(join(out, 'scores.csv'), 'utf8').trimEnd().split('\n');
  assert.is(rows.length, 1 + 3 * summary.metric_per_case.length);
  assert.ok(existsSync(summary.metric_per_case[0]!.prediction_file!));
  const one = summary.metric_per_case[0]!;
  assert.match(`${one.case} ${one.frame}`, /^patient\d+ \d+$/);
  assert.is(one.image, one.reference_file.replace('_gt', ''));
  const nothing = { flips: false, largestComponent: false };
  assert.equal(summary.settings, { model: 'student', split: 'train', classes: 4, ...nothing });
  for (const name of ['Dice', 'Jaccard', 'HD95', 'HD95_symmetric', 'ASD', 'ASSD', 'volume_ml', 'reference_ml']) {
    assert.ok(Object.values(one.metrics).every((score) => name in score) && name in summary.foreground_std, name);
  }

  const ofFiles = JSON.parse(await printed(['--predictions', out, ...flags])) as Summary;
  assert.equal(ofFiles.mean, summary.mean);
  assert.equal(ofFiles.std, summary.std);
  assert.equal(ofFiles.confusion, summary.confusion);
  const table = await printed(['--predictions', out, '--data', data, '--split', 'train']);
  assert.match(table, /^volume +frame +right ventricle +myocardium +left ventricle +mean/m);
  assert.match(table, /^left ventricle +\d\.\d{4} ± \d\.\d{4}/m);
  for (const line of table.split('\n')) assert.ok(line === line.trimEnd() && line.length < 150, line);
});

test('perfect predictions score 1; a missed structure is said by volume', async () => {
  const cases = casesToEvaluate(await openDataset(data), 'val');
  const out = join(folder, 'perfect');
  mkdirSync(out);
  for (const [i, c] of cases.entries()) {
    const volume = loadCase(c, config);
    const labels = volume.label!.map((k) => (i === 0 && k === 3 ? 0 : k));
    writeLabels(join(out, `${c.id}.nii.gz`), volume, labels);
  }
  const summary = await evaluateFiles(out, cases, config);
  assert.is(summary.mean[1]!.Dice, 1);
  assert.is(summary.mean[1]!.HD95, 0);
  assert.equal([summary.missed, summary.invented, summary.mean[3]!.missed], [1, 0, 1]);
  assert.is(summary.mean[3]!.counted.HD95, cases.length - 1);
  assert.is(summary.metric_per_case[0]!.metrics[3]!.HD95, null);
  const table = await printed(['--predictions', out, '--data', data, '--split', 'val']);
  assert.match(table, /missed left ventricle/);
  const count = cases.length;
  assert.match(table, new RegExp(`^left ventricle .* ${count - 1} of ${count}; 1 missed$`, 'm'));
  assert.match(table, new RegExp(`^right ventricle .* ${count} of ${count}$`, 'm'));
});

test('flips: the mean of the probabilities of four readings', async () => {
  const gpu = await testGpu();
  const net = await model();
  const slices = Float32Array.from({ length: 3 * 256 }, uniformStream(3));
  const predicted = createPredictor(gpu, net, [16, 16], { batch: 2, flips: true, probabilities: true });
  const { labels, confidence, probabilities } = await predicted(slices, true);
  const image = tensor(gpu, 0, [1, 16, 16, 1]);
  const network = (patch: Float32Array) => {
    image.write(patch);
    return noGrad(gpu, () => softmax(net(image))).read();
  };
  for (let i = 0; i < 3; i++) {
    const slice = slices.slice(256 * i, 256 * (i + 1));
    const expected = await windows(network, slice, [16, 16], [16, 16], [16, 16], { flips: true });
    closeTo(probabilities!.subarray(1024 * i, 1024 * (i + 1)), expected, { atol: 1e-6 });
  }
  const best = Float32Array.from(labels, (k, i) => probabilities![4 * i + k]!);
  closeTo(confidence!, best, { atol: 1e-6 });
  const largest = best.map((_, i) => Math.max(...probabilities!.subarray(4 * i, 4 * i + 4)));
  closeTo(best, largest, {}, 'the class of the largest mean');
  const plain = createPredictor(gpu, net, [16, 16]);
  const cases = casesToEvaluate(await openDataset(data), 'val').slice(0, 1);
  const overlapOnly = await evaluateCases(plain, cases, config, undefined, {
    distances: false,
    largestComponent: true,
  });
  assert.is(overlapOnly.mean[1]!.HD95, null);
  assert.equal(overlapOnly.settings, { distances: false, largestComponent: true });
});

test('what does not fit is refused', async () => {
  const at = ['--data', data];
  await refuses(['--weights', weights, ...at, '--model', 'aunt'], /--model must be student or teacher — got 'aunt'/);
  await refuses(['--weights', weights, ...at, '--model', 'teacher'], /only a run folder holds a teacher/);
  await refuses(
    ['--predictions', folder, ...at, '--flips'],
    /--model, --flips, --stride and --window-weights do not apply to --predictions/,
  );
  await refuses(['--weights', weights, ...at, '--classes', '3'], /a model knows its classes/);
  await refuses(
    ['--predictions', join(folder, 'nowhere'), ...at],
    /cannot open .*nowhere — there is no such file or folder/,
  );
  const cases = casesToEvaluate(await openDataset(data), 'val');
  const out = join(folder, 'otherwise');
  mkdirSync(out);
  writePhantoms(join(folder, 'other'), { patients: 5, size: 20 });
  for (const c of cases) copyFileSync(c.label!.replace(data, join(folder, 'other')), join(out, `${c.id}.nii.gz`));
  await refuses(['--predictions', out, ...at, '--split', 'val'], /patient\d+.*\b(20|24)\b/);
});

test.run();
