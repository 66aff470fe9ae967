// Whole runs on phantoms: what the run folder holds, resuming, interrupting, a loss that is not finite, and the commands
// as a user calls them, right and wrong.
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { UsageError } from '../../train/files/usage-error.js';
import { readLog } from '../../train/run/log.js';
import { type Config, resolveConfig } from '../../train/settings/settings.js';
import { dryRun, NonFiniteLossError, train } from '../../train/training/training.js';
import { testGpu } from '../gpu.js';
import { patience } from '../patience.js';
import { refuses } from '../refuses.js';

const test = suite('training');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-'));
const data = join(folder, 'phantoms');
writePhantoms(data, { patients: 6, size: 32 });

const settings = {
  labeled: 1,
  iterations: 6,
  size: 16,
  features: [4, 8],
  dropout: [0.1, 0.2],
  batch: 4,
  labeledBatch: 2,
  lr: 0.05,
  evalEvery: 3,
  saveEvery: 2,
  warmupFraction: 0,
};
const configOf = (more: Record<string, unknown> = {}): Config => resolveConfig({ ...settings, ...more });
/** What commands in processes of their own train, with as few kernels as may be. */
const flags = Object.entries({ ...settings, method: 'supervised' }).flatMap(([key, value]) => [
  `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
  String(value),
]);

const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

const wgrad = (...args: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    const child = execFile(process.execPath, [cli, ...args], { timeout: patience }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });

const weights = (run: string): Buffer => readFileSync(join(run, 'state', 'last.safetensors'));

for (const method of ['supervised', 'mt', 'lccs'] as const) {
  test(`${method}: a run folder with everything in it, and finite numbers`, async () => {
    const out = join(folder, method);
    const result = await train({ gpu: await testGpu(), config: configOf({ method }), data, out });
    assert.is(result.iterations, 6);
    assert.is(result.interrupted, false);
    assert.ok(result.best);
    for (const name of [
      'config.json',
      'environment.json',
      'log.jsonl',
      'progress.png',
      'progress.svg',
      'summary.json',
    ]) {
      assert.ok(existsSync(join(out, name)), name);
    }
    for (const name of ['checkpoint-last.safetensors', 'checkpoint-best.safetensors'])
      assert.ok(existsSync(join(out, name)), name);
    assert.equal(readdirSync(join(out, 'slices')), ['000003.png', '000006.png']);
    const log = readLog(join(out, 'log.jsonl'));
    const steps = log.filter((record) => 'loss' in record);
    assert.equal(
      steps.map((record) => record.iteration),
      [0, 1, 2, 3, 4, 5],
    );
    assert.ok(steps.every((record) => Number.isFinite(record.loss) && Number.isFinite(record.lr)));
    assert.is('consistency' in steps[0]!, method !== 'supervised');
    assert.is('separation' in steps[0]!, method === 'lccs');
    assert.equal(JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')), configOf({ method }));
  });
}

test('two runs with one seed give the same bits, another seed does not', async () => {
  const gpu = await testGpu();
  await train({ gpu, config: configOf(), data, out: join(folder, 'again') });
  assert.ok(weights(join(folder, 'again')).equals(weights(join(folder, 'lccs'))));
  await train({ gpu, config: configOf({ seed: 5 }), data, out: join(folder, 'other') });
  assert.not.ok(weights(join(folder, 'other')).equals(weights(join(folder, 'lccs'))));
});

test('the shares of the gradients are logged every so often, and change no bit', async () => {
  const out = join(folder, 'probed');
  await train({ gpu: await testGpu(), config: configOf({ gradientsEvery: 4 }), data, out });
  assert.ok(weights(out).equals(weights(join(folder, 'lccs'))));
  const logged = readLog(join(out, 'log.jsonl')).filter((record) => 'gradients' in record);
  assert.equal(
    logged.map(({ iteration }) => iteration),
    [0, 4],
  );
  const { gradients } = logged[1] as unknown as { gradients: Record<string, number> };
  const names = ['supervised', 'consistency', 'separation', 'consistencyCosine', 'separationCosine'];
  assert.equal(Object.keys(gradients), names);
  assert.ok(
    Object.values(gradients).every((v) => Number.isFinite(v) && v !== 0),
    JSON.stringify(gradients),
  );
  assert.match(readFileSync(join(out, 'report.html'), 'utf8'), /Norm of each term/);
});

test('a run that is stopped and resumed ends with the same bits as one that was not', async () => {
  const gpu = await testGpu();
  const out = join(folder, 'resumed');
  const controller = new AbortController();
  const log = join(out, 'log.jsonl');
  const watch = setInterval(() => {
    if (existsSync(log) && readLog(log).some((record) => record.iteration >= 1)) controller.abort();
  }, 1);
  const first = await train({ gpu, config: configOf({ evalEvery: 6 }), data, out, stop: controller.signal });
  clearInterval(watch);
  assert.ok(first.interrupted, 'the run ended before it was stopped');
  const second = await train({ gpu, config: configOf({ evalEvery: 6 }), data, out, resume: true });
  assert.is(second.interrupted, false);
  assert.ok(weights(out).equals(weights(join(folder, 'lccs'))));
  const iterations = readLog(log)
    .filter((record) => 'loss' in record)
    .map((record) => record.iteration);
  assert.equal(iterations, [0, 1, 2, 3, 4, 5]);
});

test('a loss that is not finite stops the run, names the op, and keeps the last good state', async () => {
  const out = join(folder, 'diverged');
  const config = configOf({ lr: 1e30, iterations: 12, saveEvery: 100, evalEvery: 100 });
  await refuses(
    async () => train({ gpu: await testGpu(), config, data, out }),
    NonFiniteLossError,
    /the loss is (NaN|-?Infinity) at iteration \d+ .*launch \d+ of \d+ wrote a NaN or an infinity/s,
  );
  assert.ok(existsSync(join(out, 'state', 'last.safetensors')));
});

test('a dry run says what it costs, and allocates nothing of it', async () => {
  const gpu = await testGpu();
  const cost = dryRun(gpu, resolveConfig());
  assert.is(cost.parameters, 1_813_764);
  assert.ok(cost.launches! > 100);
  assert.ok(cost.plannedBytes! < 0.5 * cost.unsharedBytes!, `${cost.plannedBytes} of ${cost.unsharedBytes}`);
  assert.is(cost.peakBytes, cost.plannedBytes! + cost.externalBytes!);
});

test('a folder that holds something is not overwritten; all patients labelled leaves nothing to learn from', async () => {
  const gpu = await testGpu();
  await refuses(
    () => train({ gpu, config: configOf(), data, out: folder }),
    UsageError,
    /exists and is not an empty folder/,
  );
  const all = configOf({ labeled: 4 });
  await refuses(
    () => train({ gpu, config: all, data, out: join(folder, 'all') }),
    UsageError,
    /learns from unlabelled patients, too, but all 4 training patients are labelled/,
  );
});

test('the commands: train, evaluate, predict', async () => {
  const run = join(folder, 'cli-run');
  const trained = await wgrad('train', '--data', data, '--out', run, ...flags, '--json');
  assert.is(trained.code, 0, trained.stderr);
  assert.is(JSON.parse(trained.stdout).iterations, 6);

  const evaluated = await wgrad('evaluate', '--run', run, '--data', data, '--out', join(folder, 'scores'), '--json');
  assert.is(evaluated.code, 0, evaluated.stderr);
  const summary = JSON.parse(evaluated.stdout);
  assert.equal(Object.keys(summary), [
    ...[
      'settings',
      'metric_per_case',
      'mean',
      'std',
      'foreground_mean',
      'foreground_std',
      'missed',
      'invented',
      'confusion',
    ],
  ]);
  assert.equal(JSON.parse(readFileSync(join(folder, 'scores', 'summary.json'), 'utf8')), summary);
  assert.ok(existsSync(summary.metric_per_case[0].prediction_file));

  const input = summary.metric_per_case[0].reference_file.replace('_gt', '');
  const predicted = await wgrad('predict', '--run', run, '--out', join(folder, 'labels'), input);
  assert.is(predicted.code, 0, predicted.stderr);
  const [image, labels] = [readNifti(input), readNifti(predicted.stdout.trim())];
  assert.equal(labels.shape, image.shape);
  assert.equal(labels.affine, image.affine);
  assert.ok(labels.data.every((v) => Number.isInteger(v) && v >= 0 && v < 4));
});

test('--dry-run prints JSON and writes nothing', async () => {
  const { code, stdout } = await wgrad('train', '--dry-run', ...flags);
  assert.is(code, 0);
  const cost = JSON.parse(stdout);
  for (const key of ['parameters', 'launches', 'peakBytes']) assert.ok(cost[key] > 0, key);
});

test('interrupt: saved, exit 130', async () => {
  const out = join(folder, 'interrupted');
  const child = spawn(
    process.execPath,
    [cli, 'train', '--data', data, '--out', out, ...flags, '--iterations', '100000'],
    { stdio: 'ignore' },
  );
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
  const log = join(out, 'log.jsonl');
  const deadline = Date.now() + patience;
  while (readLog(log).length < 2 && child.exitCode === null && Date.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 20));
  child.kill('SIGINT');
  assert.is(await ended, 130);
  assert.ok(existsSync(join(out, 'checkpoint-last.safetensors')));
  const last = readLog(log).at(-1)!.iteration;
  assert.ok(last >= 1);
});

for (const [what, args, code, message] of [
  ['no data', ['train', '--out', join(folder, 'x')], 2, /--data and --out are required/],
  [
    'a folder without data',
    ['train', '--data', folder, '--out', join(folder, 'x'), ...flags],
    1,
    /holds no known data set .*\n {2}ACDC +patientNNN/,
  ],
  ['an unknown flag', ['train', '--itterations', '5'], 2, /--iterations/],
  [
    'a setting out of range',
    ['train', '--data', data, '--out', join(folder, 'x'), '--momentum', '2'],
    2,
    /momentum must be/,
  ],
  [
    'an output folder that exists',
    ['train', '--data', data, '--out', data, ...flags],
    2,
    /exists and is not an empty folder/,
  ],
  [
    'an output folder that cannot be written',
    ['train', '--data', data, '--out', '/proc/none/run', ...flags],
    2,
    /cannot write/,
  ],
  [
    'a folder with nothing to resume',
    ['train', '--data', data, '--out', join(folder, 'x'), '--resume', ...flags],
    2,
    /holds no run to resume/,
  ],
  [
    'too many labelled patients',
    ['train', '--data', data, '--out', join(folder, 'y'), ...flags, '--labeled', '99'],
    1,
    /99 labelled/,
  ],
  [
    'a run without checkpoint',
    ['evaluate', '--run', folder, '--data', data],
    2,
    /is not a run folder: it has no config\.json/,
  ],
  ['an unknown split', ['evaluate', '--run', folder, '--data', data, '--split', 'all'], 2, /val, test, train/],
] as [string, string[], number, RegExp][]) {
  test(`${what}: exit ${code} and a line that says so`, async () => {
    const ended = await wgrad(...args);
    assert.is(ended.code, code, ended.stderr);
    assert.match(ended.stderr, message);
    assert.not.match(ended.stderr, /\n {4}at /); // no stack trace
  });
}

test('a file that is no NIfTI is refused by predict, and a volume with a NaN is predicted with a word', async () => {
  const bad = join(folder, 'bad');
  mkdirSync(bad);
  writeFileSync(join(bad, 'text.nii'), 'no volume');
  const nan = join(bad, 'nan.nii');
  writeNifti(nan, { data: [1, 2, 3, 4, 5, 6, 7, 8], shape: [2, 2, 2], dtype: 'float32' });
  const bytes = readFileSync(nan);
  bytes.writeFloatLE(Number.NaN, bytes.length - 8);
  writeFileSync(nan, bytes);
  const predict = (out: string, ...rest: string[]) =>
    wgrad('predict', '--run', join(folder, 'lccs'), '--out', join(folder, out), ...rest);
  const text = await predict('of-text', join(bad, 'text.nii'));
  assert.is(text.code, 1);
  assert.match(text.stderr, /nifti: /);
  const read = await predict('of-nan', nan);
  assert.is(read.code, 0, read.stderr);
  assert.match(read.stderr, /NaN/);
  const refused = await predict('of-refused', nan, '--nan', 'refuse');
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /nifti: .*NaN/);
});

test.run();
