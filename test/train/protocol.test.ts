// The protocols that come with the package: METHOD's numbers, and the command that uses them.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../train/files/usage-error.js';
import * as ramps from '../../train/method/ramps.js';
import { protocolNames, readProtocol } from '../../train/settings/config-file.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { refuses } from '../refuses.js';

const acdc = fileURLToPath(new URL('../../../train/protocols/acdc.json', import.meta.url));
const test = suite('protocols');

test('acdc is the 2-D protocol of SSL4MIS', () => {
  const config = resolveConfig({}, readProtocol('acdc'));
  const { patch, features, dropout, batch, labeledBatch, iterations, lr, momentum, weightDecay, lrPower } = config;
  assert.equal(patch, [256, 256]);
  assert.equal([batch, labeledBatch, iterations], [24, 12, 30_000]);
  assert.equal(features, [16, 32, 64, 128, 256]);
  assert.equal(dropout, [0.05, 0.1, 0.2, 0.3, 0.5]);
  assert.equal([lr, momentum, weightDecay, lrPower], [0.01, 0.9, 1e-4, 0.9]);
  assert.equal([config.evalEvery, config.seed, config.classes, config.precision], [200, 1337, 4, 'f32']);
  assert.equal([config.noise, config.noiseClip, config.emaDecay, config.emaBuffers], [0.1, 0.2, 0.99, false]);
  assert.equal([config.teacherMode, config.uncertaintyPasses, config.threshold], ['train', 8, 0.95]);
  // λ(t) = 0.1 exp(−5 (1 − min(t, 200)/200)²), t = it // 150, nothing in the first 1000 iterations
  const weight = (iteration: number) => ramps.consistencyWeight(config, iteration);
  assert.equal([weight(0), weight(999)], [0, 0]);
  for (const iteration of [1000, 1049, 7500, 15_149, 29_999]) {
    const t = Math.floor(iteration / 150);
    assert.ok(Math.abs(weight(iteration) - 0.1 * Math.exp(-5 * (1 - t / 200) ** 2)) < 1e-15, String(iteration));
  }
  assert.ok(Math.abs(ramps.learningRate(config, 12_000) - 0.01 * 0.6 ** 0.9) < 1e-15);
});

test('the file says everything that the protocol says, and neither method nor labels', () => {
  const keys = Object.keys(readProtocol('acdc'));
  assert.ok(!keys.includes('method') && !keys.includes('labeled'));
  for (const key of ['iterations', 'batch', 'features', 'dropout', 'lr', 'rampEvery', 'warmupFraction', 'evalEvery']) {
    assert.ok(keys.includes(key), key);
  }
});

test("la is UA-MT's protocol: its column of numbers", () => {
  const config = resolveConfig({}, readProtocol('la'));
  const { patch, batch, labeledBatch, labeled, iterations, lr, momentum, weightDecay, stride, features } = config;
  assert.equal(patch, [80, 112, 112]);
  assert.equal([batch, labeledBatch, labeled, iterations], [4, 2, 16, 6000]);
  assert.equal([lr, momentum, weightDecay], [0.01, 0.9, 1e-4]);
  assert.equal([config.sample, config.downsample, config.intensity, config.augment], ['patches', 1, 'stored', true]);
  assert.equal([config.select, config.diceClasses, config.classes], ['last', 'foreground', 2]);
  assert.equal(
    [stride, features],
    [
      [4, 18, 18],
      [16, 32, 64, 128, 256],
    ],
  );
  assert.equal([config.network, config.dropout.at(-1)], ['vnet', 0.5]);
  assert.equal([config.noise, config.noiseClip, config.emaDecay, config.emaBuffers], [0.1, 0.2, 0.99, false]);
  assert.equal([config.teacherMode, config.uncertaintyPasses], ['train', 8]);
  const rates = [0, 2499, 2500, 4999, 5000].map((iteration) => ramps.learningRate(config, iteration));
  closeTo(rates, [0.01, 0.01, 0.001, 0.001, 0.0001], { rtol: 1e-12 });
  const weights = [0, 3000, 6000].map((iteration) => ramps.consistencyWeight(config, iteration));
  closeTo(
    weights,
    [5, 1.25, 0].map((exponent) => 0.1 * Math.exp(-exponent)),
    { rtol: 1e-12 },
  );
  assert.is(ramps.consistencyWeight(config, 149), weights[0], 'steps of 150 iterations');
  assert.ok(ramps.consistencyWeight(config, 150) > weights[0]!);
  assert.is(ramps.prototypeUnlabeledWeight(config, 0), 1);
  closeTo(
    [0, 6000].map((iteration) => ramps.uncertaintyThreshold(config, iteration) / Math.log(2)),
    [0.75 + 0.25 * Math.exp(-5), 1],
    { rtol: 1e-12 },
  );
});

test('la-small is la at half resolution, of eight labelled patients', () => {
  const [small, whole] = ['la-small', 'la'].map((name) => resolveConfig({}, readProtocol(name)));
  const differing = Object.keys(whole!).filter(
    (key) => JSON.stringify(small![key as 'lr']) !== JSON.stringify(whole![key as 'lr']),
  );
  assert.equal(differing.sort(), ['downsample', 'evalEvery', 'features', 'iterations', 'labeled', 'patch', 'stride']);
  assert.equal([small!.labeled, small!.downsample, small!.features.length], [8, 2, 4]);
  assert.ok(small!.features[0]! >= 8 && small!.patch.every((side) => side % 8 === 0));
});

test('la-zscore is la-small with what learns in 1000 iterations', () => {
  const small = resolveConfig({}, readProtocol('la-small'));
  const own = { intensity: 'zscore', augment: false, lr: 0.05 };
  assert.equal(resolveConfig({}, readProtocol('la-zscore')), { ...small, ...own });
});

test('fewer iterations: the ramps keep their shape', () => {
  const [whole, short] = [30_000, 3000].map((iterations) => resolveConfig({ iterations }, readProtocol('acdc')));
  for (const share of [0.02, 0.1, 0.25, 0.5, 0.9]) {
    const weight = ramps.consistencyWeight(short!, 3000 * share);
    assert.ok(Math.abs(weight - ramps.consistencyWeight(whole!, 30_000 * share)) < 1e-12, `${share}: ${weight}`);
    const lr = ramps.learningRate(short!, 3000 * share);
    assert.ok(Math.abs(lr - ramps.learningRate(whole!, 30_000 * share)) < 1e-15);
  }
});

test('a file goes before the protocol, flags before both', () => {
  assert.is(resolveConfig({ iterations: 5 }, readProtocol('acdc')).iterations, 5);
});

test('a recipe is what its file says on top of the one that it names', () => {
  const [strong, cutmix] = ['acdc-strong', 'acdc-cutmix'].map((name) => resolveConfig({}, readProtocol(name)));
  assert.equal(cutmix, { ...strong!, method: 'mt', consistency: 'ce', consistencyWeight: 1 });
  const plus = resolveConfig({}, readProtocol('acdc-plus'));
  assert.equal(plus, { ...strong!, method: 'lccs', confidence: 'teacher' });
});

test('an unknown protocol is refused with the nearest', () =>
  refuses(() => readProtocol('acdcc'), UsageError, /unknown protocol 'acdcc'\. Did you mean 'acdc'/));

test('every protocol resolves', () => {
  assert.ok(protocolNames().length > 0);
  for (const name of protocolNames()) resolveConfig({}, readProtocol(name));
});

test('wgrad train --protocol acdc --dry-run: 1 813 764 parameters; --config goes before the protocol', async () => {
  const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
  const dry = (...args: string[]) =>
    new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
      const child = execFile(process.execPath, [cli, 'train', '--dry-run', ...args], (_, stdout, stderr) =>
        resolve({ code: child.exitCode, stdout, stderr }),
      );
    });
  const whole = await dry('--protocol', 'acdc');
  assert.is(whole.code, 0, whole.stderr);
  assert.is(JSON.parse(whole.stdout).parameters, 1_813_764);
  const file = await dry('--config', acdc);
  assert.equal(JSON.parse(file.stdout), JSON.parse(whole.stdout));
  const small = await dry('--protocol', 'acdc', '--features', '4,8', '--size', '16');
  assert.ok(JSON.parse(small.stdout).parameters < 10_000);
  assert.equal([(await dry('--protocol', 'adcd')).code], [2]);
});

test.run();
