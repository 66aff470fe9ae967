// Settings: defaults, file, flags, what is refused; and the formulas of the ramps.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { nearest } from '../../engine/custom.js';
import { UsageError } from '../../train/files/usage-error.js';
import * as ramps from '../../train/method/ramps.js';
import { flagLines } from '../../train/settings/command-line.js';
import { readSettings } from '../../train/settings/config-file.js';
import { configFlags, flagOf, resolveConfig, resolveSaved, settings } from '../../train/settings/settings.js';
import { refuses } from '../refuses.js';

const test = suite('config');

const fileWith = (text: string): string => {
  const path = join(mkdtempSync(join(tmpdir(), 'wgrad-')), 'config.json');
  writeFileSync(path, text);
  return path;
};

test('the defaults are the protocol', () => {
  const config = resolveConfig();
  assert.equal(
    [
      config.iterations,
      config.patch[0],
      config.batch,
      config.labeledBatch,
      config.lr,
      config.momentum,
      config.weightDecay,
    ],
    [30000, 256, 24, 12, 0.01, 0.9, 1e-4],
  );
  assert.equal(config.features, [16, 32, 64, 128, 256]);
});

test('flags go before the file, the file before the defaults', () => {
  const file = fileWith('{"lr": 0.5, "batch": 6, "labeledBatch": 2}');
  const config = resolveConfig({ batch: '8', 'labeled-batch': '4' }, readSettings(file));
  assert.equal([config.lr, config.batch, config.labeledBatch, config.momentum], [0.5, 8, 4, 0.9]);
});

for (const [overrides, message] of [
  [{ itterations: 5 }, /unknown setting 'itterations'.*iterations/],
  [{ iterations: 0 }, /iterations must be a whole number of at least 1/],
  [{ iterations: 2.5 }, /whole number/],
  [{ lr: 'fast' }, /lr must be a number/],
  [{ lr: '' }, /lr must be a number/],
  [{ momentum: 1.5 }, /from 0 to 1/],
  [{ method: 'magic' }, /one of lccs, lccs-consistency, lccs-separation, mt, uamt, bcp, supervised/],
  [{ features: '16' }, /at least two levels/],
  [{ features: '16,x' }, /whole number/],
  [{ size: 100 }, /sides of patch must be multiples of 16 .* got 100,100\. Use 96,96/],
  [{ patch: '64' }, /patch must have two sides .* or three .* got 64/],
  [{ patch: '16,64,50', features: '4,8,16' }, /multiples of 4 .* got 16,64,50\. Use 16,64,52/],
  [{ spacing: '1.5,1.5,2' }, /spacing must be 2 numbers of mm above 0, or zeros/],
  [
    { patch: '8,16,16', features: '4,8', sample: 'patches', spacing: '1,1,2' },
    /sample patches keeps the voxels .*1,1,2/,
  ],
  [{ downsample: 2 }, /of sample patches — got downsample 2, stride 0 and sample whole/],
  [{ downsample: 3, sample: 'patches' }, /downsample must be a whole number from 1 to 2 — got 3/],
  [{ stride: 4 }, /of sample patches — got downsample 1, stride 4/],
  [
    { size: 32, features: '4,8', sample: 'patches', stride: '8,33' },
    /stride must be 2 whole .* 32,32, or 0 — got 8,33\. Use .*16,16/,
  ],
  [{ size: 32, features: '4,8', sample: 'patches', stride: 8 }, /stride must be 2 whole numbers/],
  [{ intensity: 'z-score' }, /one of minmax, percentile, zscore, stored/],
  [{ lrSchedule: 'steps' }, /poly or step/],
  [{ lrStepFraction: 0 }, /lrStepFraction must be a number from/],
  [{ diceClasses: 'none' }, /all or foreground/],
  [{ select: 'first' }, /best or last/],
  [{ rampSteps: 0 }, /at least 1/],
  [{ batch: 4, labeledBatch: 4 }, /no unlabelled/],
  [{ augment: 'maybe' }, /true or false/],
  [{ precision: 'bf16' }, /precision must be f32 or f16/],
  [{ selection: 'lowest' }, /selection must be one of low, high, all/],
  [{ thresholdPercentile: 10 }, /from 0 to 1/],
  [{ thresholdMode: 'percentil' }, /one of fixed, ramp, percentile, per-class/],
  [{ uncertaintyPasses: 0 }, /at least 1/],
  [{ teacherMode: 'eval' }, /running statistics, which emaBuffers false never updates.*emaBuffers true/],
  [{ teacherMode: 'eval', emaBuffers: true, method: 'uamt' }, /no dropout, but uamt's passes differ/],
] as const) {
  test(`${JSON.stringify(overrides)} is refused`, () => refuses(() => resolveConfig(overrides), UsageError, message));
}

test('volumes are cut into patches and slices are not, unless something else is said', () => {
  const volume = { patch: [8, 16, 16], features: '4,8' };
  assert.is(resolveConfig().sample, 'whole');
  assert.is(resolveConfig(volume).sample, 'patches');
  assert.is(resolveConfig({ ...volume, spacing: '1,1,2' }).sample, 'whole');
  assert.is(resolveConfig({ ...volume, sample: 'whole' }).sample, 'whole');
  assert.is(resolveConfig({ sample: 'patches' }).sample, 'patches');
  // What was stored before there were patches was trained on whole volumes.
  assert.is(resolveSaved(volume).sample, 'whole');
  assert.is(resolveSaved({ ...volume, sample: 'patches' }).sample, 'patches');
});

test('half of a batch is labelled where nothing else is said', () => {
  assert.equal(
    [resolveConfig({ batch: '8' }).labeledBatch, resolveConfig({ batch: 9, labeledBatch: 2 }).labeledBatch],
    [4, 2],
  );
  assert.is(resolveConfig({}, readSettings(fileWith('{"batch": 6}'))).labeledBatch, 3);
  assert.is(resolveConfig({ batch: 1, method: 'supervised' }).labeledBatch, 1);
});

test('what a run wrote down resolves to itself', () => {
  const config = resolveConfig({ batch: 10, labeledBatch: 3, features: '8,16', warmupFraction: 0.1 });
  assert.equal(resolveConfig({}, readSettings(fileWith(JSON.stringify(config)))), config);
});

test("the prototypes' warm-up is that of the loss where nothing else is said", () => {
  assert.is(resolveConfig({ warmupFraction: 0.2 }).prototypeWarmupFraction, 0.2);
  assert.is(resolveConfig({ warmupFraction: 0.2, prototypeWarmupFraction: 0 }).prototypeWarmupFraction, 0);
});

test('a teacher in eval mode is taken where its running statistics follow, or where there is none', () => {
  assert.is(resolveConfig({ teacherMode: 'eval', 'ema-buffers': 'true' }).teacherMode, 'eval');
  assert.is(resolveConfig({ teacherMode: 'eval', method: 'supervised' }).teacherMode, 'eval');
});

test('supervised needs no unlabelled slices', () => {
  assert.is(resolveConfig({ method: 'supervised', batch: 4, labeledBatch: 4 }).batch, 4);
});

test('size is a short form of patch, in files and flags; the later layer wins', () => {
  assert.equal(resolveConfig({ size: '64' }).patch, [64, 64]);
  assert.equal(resolveConfig({}, { size: 64 }).patch, [64, 64]);
  assert.equal(resolveConfig({ patch: '32,48' }, { size: 64 }).patch, [32, 48]);
  assert.equal(resolveConfig({ size: 64 }, { patch: [32, 48] }).patch, [64, 64]);
  assert.equal(resolveConfig({ patch: [16, 32, 48] }).patch, [16, 32, 48]);
  assert.not.ok('size' in resolveConfig({ size: 64 }));
});

test('a file that is missing, no JSON, or no object is refused', async () => {
  await refuses(() => readSettings('/nowhere/config.json'), UsageError, /cannot read/);
  await refuses(() => readSettings(fileWith('{')), UsageError, /cannot read/);
  await refuses(() => readSettings(fileWith('[1]')), UsageError, /does not hold a JSON object/);
  await refuses(
    () => resolveConfig({}, readSettings(fileWith('{"lrr": 1}'))),
    UsageError,
    /unknown setting 'lrr'.*'lr'/,
  );
});

test('every setting has a flag, whose line of help holds every choice and the default', () => {
  assert.equal(new Set(Object.keys(configFlags)), new Set([...Object.keys(settings).map(flagOf), 'size']));
  const lines = flagLines(configFlags);
  for (const name of Object.keys(configFlags)) assert.ok(lines.includes(`\n  --${name} `), name);
  assert.match(lines, /--method lccs\|lccs-consistency\|lccs-separation\|mt\|uamt\|bcp\|supervised\n/);
  assert.match(lines, /--seed N {2,}seed of .* \(1337\)/);
});

test('spellings of earlier versions still read', () => {
  const config = resolveConfig({ 'threshold-mode': 'perClass' }, { separation: 'protoCE' });
  assert.equal([config.thresholdMode, config.separation], ['per-class', 'proto-ce']);
  assert.equal(resolveConfig({}, { ...config, thresholdMode: 'perClass', separation: 'protoCE' }), config);
});

test('a list of one number may be that number', () => {
  assert.equal(resolveConfig({ dropout: 0.1 }).dropout, [0.1]);
  assert.equal(resolveConfig({ dropout: '0.1' }).dropout, [0.1]);
});

test('nearest names', () => {
  assert.is(nearest('trian', ['train', 'info']), 'train');
  assert.is(nearest('xyzzy', ['train', 'info']), undefined);
});

test('the consistency weight follows λ_max exp(−5 (1 − t/R)²) after the warm-up', () => {
  const config = resolveConfig();
  assert.is(ramps.consistencyWeight(config, 999), 0);
  for (const iteration of [1000, 7500, 15000, 22500, 29999]) {
    const t = Math.floor(iteration / 150);
    const expected = 0.1 * Math.exp(-5 * (1 - Math.min(t, 200) / 200) ** 2);
    assert.ok(Math.abs(ramps.consistencyWeight(config, iteration) - expected) < 1e-15, String(iteration));
  }
  const short = resolveConfig({ iterations: 300 });
  assert.is(ramps.consistencyWeight(short, 9), 0);
  assert.ok(Math.abs(ramps.consistencyWeight(short, 150) - 0.1 * Math.exp(-5 * 0.25)) < 1e-12);
});

test('a learning rate in steps; a ramp of few steps', () => {
  const config = resolveConfig({ iterations: 6000, lrSchedule: 'step', rampSteps: 40, warmupFraction: 0 });
  for (const [iteration, expected] of [
    [0, 0.01],
    [2499, 0.01],
    [2500, 0.001],
    [4999, 0.001],
    [5000, 0.0001],
  ] as const)
    assert.ok(Math.abs(ramps.learningRate(config, iteration) - expected) < 1e-12, `${iteration}`);
  for (const [iteration, exponent] of [
    [0, 5],
    [149, 5],
    [150, 5 * (39 / 40) ** 2],
    [3000, 1.25],
    [5999, 5 / 1600],
  ] as const)
    assert.ok(Math.abs(ramps.consistencyWeight(config, iteration) - 0.1 * Math.exp(-exponent)) < 1e-12, `${iteration}`);
});

test('learning rate, EMA decay, prototype weight and threshold', () => {
  const config = resolveConfig({ thresholdMode: 'ramp' });
  assert.is(ramps.learningRate(config, 0), 0.01);
  assert.ok(Math.abs(ramps.learningRate(config, 15000) - 0.01 * 0.5 ** 0.9) < 1e-15);
  assert.is(ramps.learningRate(config, 30000), 0);
  assert.equal(
    [0, 1, 4, 1000].map((i) => ramps.emaDecay(config, i)),
    [0, 0.5, 0.8, 0.99],
  );
  assert.equal(
    [999, 1000].map((i) => ramps.prototypeUnlabeledWeight(config, i)),
    [0, 1],
  );
  const few = resolveConfig({ prototypeUnlabeledWeight: 0.5, prototypeWarmupFraction: 0.1 });
  assert.equal(
    [2999, 3000].map((i) => ramps.prototypeUnlabeledWeight(few, i)),
    [0, 0.5],
  );
  assert.ok(Math.abs(ramps.threshold(config, 0) - (0.75 + 0.2 * Math.exp(-5))) < 1e-12);
  assert.is(ramps.threshold(config, 30000), 0.95);
  for (const thresholdMode of ['fixed', 'per-class'])
    assert.is(ramps.threshold(resolveConfig({ thresholdMode }), 5), 0.95);
  assert.ok(Math.abs(ramps.uncertaintyThreshold(config, 0) - (0.75 + 0.25 * Math.exp(-5)) * Math.log(4)) < 1e-12);
  assert.is(ramps.uncertaintyThreshold(config, 30000), Math.log(4));
});

test.run();
