// The whole training step in another engine, jax-js: three steps must end with the same losses and weights. What the comparison
// accepts as rounding must be far below what a missing term changes, so a step that lacks one is refused.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkSteps, openField, peersReport } from '../../bench/peers.js';
import { compareSteps, middleOf, prepareOwnStep, readStepSettings, stepTolerance } from '../../bench/step-work.js';
import { refuses } from '../refuses.js';

const test = suite('bench peers');

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
  const field = await openField(undefined, ['jax-js']);
  const { engine } = field.peers[0]!;
  // A threshold among the confidences of an untrained network, so that pixels fall on both sides of it.
  const settings = readStepSettings({ size: 8, features: '4,8', batch: 2, threshold: 0.4 });
  const { work, own } = await prepareOwnStep(field.gpu, settings);
  const first = middleOf(work.config);
  const contender = await engine.prepareStep(work);
  const [difference] = await checkSteps(own, [{ name: 'jax-js', contender }], first, work.initial);
  assert.ok(difference!.losses <= stepTolerance.losses && difference!.changes <= stepTolerance.changes);

  const { own: again } = await prepareOwnStep(field.gpu, settings);
  const supervisedOnly = (iteration: number) => ({ ...work.numbers(iteration), consistencyWeight: 0 });
  const lacking = await engine.prepareStep({ ...work, numbers: supervisedOnly });
  const check = () => checkSteps(again, [{ name: 'jax-js', contender: lacking }], first, work.initial);
  await refuses(check, Error, /jax-js and wgrad differ by/);
  await engine.gpu.settled();
  field.gpu.close();
});

test.run();
