// The whole training step in another engine, jax-js: three steps must end with the same losses and weights. What the comparison
// accepts as rounding must be far below what a missing term changes, so a step that lacks one is refused.
import * as tf from '@tensorflow/tfjs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { tfjsStep } from '../../bench/peer-step-tfjs.js';
import { checkSteps, checkTransformers, type Field, openField, peersReport } from '../../bench/peers.js';
import {
  compareSteps,
  middleOf,
  prepareOwnStep,
  readStepSettings,
  runAlike,
  runSteps,
  type StepContender,
  type StepRun,
  stepTolerance,
} from '../../bench/step-work.js';
import { compareDerivatives, prepareOwnTransformer } from '../../bench/transformer-work.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('bench peers');
let opened: Promise<Field> | undefined;
/** jax-js opens a device once in a process. */
const withJax = (): Promise<Field> => (opened ??= openField(undefined, ['jax-js']));
test.after(async () => (await opened)?.gpu.close());

test('a difference is relative to what the steps changed; roundings of the weights themselves do not count', () => {
  const run = (...values: number[]) => ({ losses: [1, 2], state: new Map([['student.w', Float32Array.from(values)]]) });
  const initial = new Map([['w', { shape: [2], values: Float32Array.of(1, 1) }]]);
  assert.equal(compareSteps(run(1.5, 1), run(1.5, 1), initial), { losses: 0, changes: 0, worst: '' });
  assert.equal(compareSteps(run(1.5, 1), run(1.5, 1.25), initial), { losses: 0, changes: 0.5, worst: 'student.w' });
  assert.is(compareSteps(run(1.5, 1), run(1.5, 1 + 2 ** -23), initial).changes, 0);
  assert.is(compareSteps(run(1.5, 1), run(1.5, 1 + 2 ** -18), initial).changes, 2 ** -17);
  assert.is(compareSteps(run(1.5, 1), run(1.5, Number.NaN), initial).changes, Number.POSITIVE_INFINITY);
  assert.is(compareSteps(run(1.5, 1), run(1.5), initial).changes, Number.POSITIVE_INFINITY);
  const otherLoss = { ...run(1.5, 1), losses: [1, 2.5] };
  assert.is(compareSteps(run(1.5, 1), otherLoss, initial).losses, 0.25);
});

test('runs that start alike explain three times their distance, of a tensor and of its group', () => {
  const initial = new Map([
    ['c.weight', { shape: [1, 1], values: Float32Array.of(1) }],
    ['d.weight', { shape: [1, 1], values: Float32Array.of(1) }],
    ['c.bias', { shape: [1], values: Float32Array.of(0) }],
    ['n.weight', { shape: [1], values: Float32Array.of(1) }],
    ['n.bias', { shape: [1], values: Float32Array.of(0) }],
  ]);
  const run = (c = 2, d = 1.25, bias = 1, gamma = 2, beta = 1): StepRun => ({
    losses: [1],
    state: new Map(
      Object.entries({ 'c.weight': c, 'd.weight': d, 'c.bias': bias, 'n.weight': gamma, 'n.bias': beta }).map(
        ([name, value]) => [`student.${name}`, Float32Array.of(value)],
      ),
    ),
  });
  const alike = [run(), run(2.125)]; // c.weight moves by an eighth of its change
  const differ = (other: StepRun) => compareSteps(run(), other, initial, alike);
  assert.equal(differ(run(2.375)), { losses: 0, changes: 0, worst: '' });
  assert.equal(differ(run(2.5)), { losses: 0, changes: 0.5, worst: 'student.c.weight' });
  assert.is(differ(run(2, 1.34)).changes, 0); // of its group, 3/8 of its own change
  assert.equal(differ(run(2, 1.375)), { losses: 0, changes: 0.5, worst: 'student.d.weight' });
  assert.equal(differ(run(2, 1.25, 1.25)), { losses: 0, changes: 0.25, worst: 'student.c.bias' });
  assert.equal(differ(run(2, 1.25, 1, 2.25)), { losses: 0, changes: 0.25, worst: 'student.n.weight' });
  const norms = compareSteps(run(), run(2, 1.25, 1, 2, 1.25), initial, [run(2, 1.25, 1, 2.125)]);
  assert.is(norms.changes, 0); // β is of γ's group
  assert.is(differ(run(Number.NaN)).changes, Number.POSITIVE_INFINITY);
});

test('what is forgotten shows beside what f32 explains', async () => {
  const gpu = await testGpu();
  const settings = { ...readStepSettings({ size: 16, features: '4,8', batch: 2, threshold: 0.4 }) };
  const ran = async (changed: object) => {
    const { work, own } = await prepareOwnStep(gpu, { ...settings, ...changed });
    return { work, run: await runSteps(own, middleOf(work.config)) };
  };
  const { work, run } = await ran({});
  const alike = await runAlike(gpu, work);
  const differ = (other: StepRun) => compareSteps(run, other, work.initial, alike.slice(1));
  const nothing = differ(alike[0]!);
  const tolerance = stepTolerance(work.config);
  assert.equal(tolerance, { losses: 1e-5, changes: 1e-3 });
  assert.ok(nothing.losses <= tolerance.losses && nothing.changes <= tolerance.changes, nothing.worst);
  for (const [changed, worst] of [
    [{ weightDecay: 0 }, /^student/],
    [{ emaDecay: 0.98 }, /^teacher/],
    [{ momentum: 0.89 }, /^student|^teacher/],
    [{ separationWeight: 0 }, /projection/],
    [{ lr: 0.0102 }, /^student|^teacher/],
  ] as const) {
    const found = differ((await ran(changed)).run);
    assert.ok(found.changes > 5 * tolerance.changes, `${JSON.stringify(changed)}: ${JSON.stringify(found)}`);
    assert.match(found.worst, worst, JSON.stringify(changed));
  }
});

test('the report has exactly what others read', () => {
  const row = { work: 'conv', oursMs: 1, peerMs: 4, ratio: 4 };
  const report = peersReport(
    'lavapipe',
    ['tfjs', 'jax-js'],
    [
      { peer: 'tfjs', ...row },
      { peer: 'tfjs', ...row, ratio: 9 },
      { peer: 'jax-js', ...row, ratio: 2 },
    ],
  );
  assert.equal(Object.keys(report), ['adapter', 'results', 'geomean']);
  assert.equal(Object.keys(report.geomean), ['tfjs', 'jax-js']);
  assert.ok(Math.abs(report.geomean.tfjs! - 6) < 1e-9);
  assert.ok(Math.abs(report.geomean['jax-js']! - 2) < 1e-9);
});

test('three steps of lccs agree with jax-js; a step without the unsupervised loss does not', async () => {
  const field = await withJax();
  const { engine } = field.peers[0]!;
  // A threshold among the confidences of an untrained network, so that pixels fall on both sides of it.
  const settings = readStepSettings({ size: 8, features: '4,8', batch: 2, threshold: 0.4 });
  const { work, own } = await prepareOwnStep(field.gpu, settings);
  const contender = await engine.prepareStep(work);
  const [difference] = await checkSteps(own, [{ name: 'jax-js', contender }], work);
  const tolerance = stepTolerance(work.config);
  assert.ok(difference!.losses <= tolerance.losses && difference!.changes <= tolerance.changes);

  const { own: again } = await prepareOwnStep(field.gpu, settings);
  const supervisedOnly = (iteration: number) => ({ ...work.numbers(iteration), consistencyWeight: 0 });
  const lacking = await engine.prepareStep({ ...work, numbers: supervisedOnly });
  const check = () => checkSteps(again, [{ name: 'jax-js', contender: lacking }], work);
  await refuses(check, Error, /jax-js and wgrad differ by/);
  await engine.gpu.settled();
});

test('gradients are held against the largest of their tensor, and those that are nearly none against all', () => {
  const found = (a: number, b: number, loss = 1) => ({
    loss,
    gradients: new Map([
      ['a', Float32Array.of(1, a)],
      ['b', Float32Array.of(b)],
    ]),
  });
  const differ = (other: ReturnType<typeof found>) => compareDerivatives(found(0.5, 0), other);
  assert.equal(differ(found(0.5, 0)), { loss: 0, gradients: 0, worst: '' });
  assert.equal(differ(found(0.25, 0)), { loss: 0, gradients: 0.25, worst: 'a' });
  assert.equal(differ(found(0.5, 2 ** -20)), { loss: 0, gradients: 2 ** -20 / (1 / 1000), worst: 'b' });
  assert.is(differ(found(0.5, 0, 1.5)).loss, 0.5);
  assert.ok(Number.isNaN(differ(found(Number.NaN, 0)).gradients));
  assert.ok(Number.isNaN(differ({ loss: 1, gradients: new Map([['a', Float32Array.of(1, 0.5)]]) }).gradients));
});

test('a transformer agrees with jax-js; one that never steps does not', async () => {
  const field = await withJax();
  const { engine } = field.peers[0]!;
  const { work, own } = await prepareOwnTransformer(field.gpu);
  const contender = await engine.prepareTransformer(work);
  const expected = await own.derivatives();
  const difference = compareDerivatives(expected, await contender.derivatives());
  assert.ok(difference.loss < 1e-5 && difference.gradients < 1e-4, JSON.stringify(difference));
  const first = await own.advance();
  assert.ok(Math.abs(first - expected.loss) < 1e-5 * first);
  // A contender that never steps has the loss of its first step for ever.
  const idle = { ...contender, advance: async () => expected.loss };
  const fresh = await prepareOwnTransformer(field.gpu);
  await refuses(
    () => checkTransformers(fresh.own, [{ name: 'idle', contender: idle }]),
    Error,
    /idle and wgrad differ by/,
  );
  await engine.gpu.settled();
});

test('three steps of the V-Net agree with tfjs on its plain backend; with the Dice loss of all classes they do not', async () => {
  await tf.setBackend('cpu');
  const gpu = await testGpu();
  const settings = readStepSettings({ network: 'vnet', patch: '4,4,8', features: '2,3,4', batch: 2 });
  const { work, own } = await prepareOwnStep(gpu, settings);
  const theirs = (diceClasses: 'foreground' | 'all') => [
    {
      name: 'tfjs',
      contender: tfjsStep(tf, async () => undefined, { ...work, config: { ...work.config, diceClasses } }),
    },
  ];
  const expected = await runSteps(own, middleOf(work.config));
  const ran: StepContender = { ...own, advance: async (i) => expected.losses[i - middleOf(work.config)]! };
  const [difference] = await checkSteps(ran, theirs('foreground'), work);
  const tolerance = stepTolerance(work.config);
  assert.ok(difference!.losses <= tolerance.losses && difference!.changes <= tolerance.changes);
  await refuses(() => checkSteps(ran, theirs('all'), work), Error, /tfjs and wgrad differ by/);
});

test.run();
