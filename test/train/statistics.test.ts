// --statistics apart: whose batch statistics normalise whom, in the trainer. The norms themselves are held against two passes in
// grouped-norm.test.ts.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createTrainer } from '../../train/method/trainer.js';
import { type Config, resolveConfig } from '../../train/settings/settings.js';
import { testGpu } from '../gpu.js';

const test = suite('statistics by kind of item');

const settings = {
  method: 'lccs',
  size: 16,
  features: [4, 8],
  dropout: [0],
  batch: 5,
  labeledBatch: 2,
  warmupFraction: 0,
};
const configOf = (more: Record<string, unknown>): Config => resolveConfig({ ...settings, ...more });

/** A batch whose unlabelled items are brighter and of more contrast than the labelled ones. */
const pixels = Float32Array.from({ length: 5 * 256 }, (_, i) => ((i * 7919) % 101) / 101).map((v, i) =>
  i < 512 ? v : 2 + 3 * v,
);
const labels = Uint8Array.from({ length: 5 * 256 }, (_, i) => (i >> 3) & 3);

async function afterOneStep(more: Record<string, unknown>) {
  const gpu = await testGpu();
  const trainer = createTrainer(gpu, configOf(more));
  trainer.setBatch(pixels, labels);
  trainer.setIteration(0);
  trainer.step();
  const [name] = [...trainer.student.state.keys()].filter((key) => key.endsWith('running_mean'));
  return { launches: trainer.step.info.launches, running: [...(await trainer.student.state.get(name!)!.read())] };
}

const distance = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

test('it costs no launch', async () => {
  for (const method of ['lccs', 'mt']) {
    const [joint, apart] = [await afterOneStep({ method }), await afterOneStep({ method, statistics: 'apart' })];
    assert.is(apart.launches, joint.launches, method);
  }
});

test('running statistics follow labelled items, unlabelled ones, or both in turn', async () => {
  const supervised = (await afterOneStep({ method: 'supervised' })).running; // the labelled items by themselves
  const of = async (runningStatistics: string) =>
    (await afterOneStep({ statistics: 'apart', runningStatistics })).running;
  const [labeled, unlabeled, both] = [await of('labeled'), await of('unlabeled'), await of('both')];
  assert.ok(distance(labeled, supervised) < 1e-6, `${labeled} and ${supervised}`);
  assert.ok(distance(unlabeled, labeled) > 1e-2);
  // From 0 by momentum 0.1: first the labelled mean, then the unlabelled one.
  assert.ok(
    distance(
      both,
      labeled.map((mean, i) => 0.9 * mean + unlabeled[i]!),
    ) < 1e-6,
  );
  const joint = (await afterOneStep({})).running;
  assert.ok(distance(joint, labeled) > 1e-2 && distance(joint, unlabeled) > 1e-2);
});

test.run();
