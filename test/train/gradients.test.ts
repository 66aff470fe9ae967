// Gradients of the terms of a loss: as weights show them that one step moved, and without a trace in the run.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOf } from '../../engine/custom.js';
import { scope, uniformStream } from '../../engine/index.js';
import { gradientNames } from '../../train/method/gradients.js';
import { createTrainer, type Trainer } from '../../train/method/trainer.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { unless } from '../unless.js';

const test = suite('gradients');
const testHalf = unless(await lacking('shader-f16'), test);

const small = { size: 16, features: '8,12', batch: 4, iterations: 40 };

/** A trainer with a batch, at an iteration (prototypes need one step before they separate anything). */
async function trainerAt(iteration: number, options: Record<string, unknown>): Promise<Trainer> {
  const gpu = await testGpu();
  const trainer = createTrainer(gpu, resolveConfig({ ...small, ...options }));
  const { config } = trainer;
  const uniform = uniformStream(1);
  const images = Float32Array.from({ length: sizeOf(config.patch) * config.batch }, uniform);
  trainer.setBatch(
    images,
    Uint8Array.from(images, (v) => Math.floor(4 * v)),
  );
  trainer.setIteration(iteration);
  return trainer;
}

const weightsOf = async ({ student }: Trainer): Promise<number[]> => {
  const all = await Promise.all(student.parameters.map((p) => p.read()));
  return all.flatMap((values) => [...values]);
};

/** The gradient by the student's parameters, from one step of plain descent. */
async function gradientOf(options: Record<string, unknown>, iteration: number): Promise<number[]> {
  return scope(await testGpu(), async () => {
    const lr = 1;
    const trainer = await trainerAt(iteration, { ...options, lr, lrPower: 0, momentum: 0, weightDecay: 0 });
    const before = await weightsOf(trainer);
    trainer.step();
    const after = await weightsOf(trainer);
    return before.map((w, i) => (w - after[i]!) / lr);
  });
}

const dot = (a: number[], b: number[]): number => a.reduce((sum, v, i) => sum + v * b[i]!, 0);

async function sharesOf(options: Record<string, unknown>, iteration: number): Promise<Record<string, number>> {
  return scope(await testGpu(), async () => {
    const trainer = await trainerAt(iteration, options);
    const values = await trainer.probe().read();
    const names = gradientNames(trainer.config);
    assert.is(values.length, names.length);
    return Object.fromEntries(names.map((name, i) => [name, values[i]!]));
  });
}

for (const [method, term] of [
  ['mt', 'consistency'],
  ['uamt', 'consistency'],
  ['lccs-consistency', 'consistency'],
  ['lccs-separation', 'separation'],
] as const) {
  test(`${method}: norms and cosine are those of what one step does to the weights`, async () => {
    const options = { method, consistencyWeight: 3, separationWeight: 2, threshold: 0.42, consistency: 'ce-dice' };
    const varied = {
      ...options,
      confidentWeight: method === 'mt' ? 0 : 0.5,
      strong: method === 'mt' ? 'both' : 'none',
    };
    const iteration = 38; // λ is near its end, and uamt keeps about half
    const all = await gradientOf(varied, iteration);
    const supervised = await gradientOf({ ...varied, consistencyWeight: 0 }, iteration);
    const other = all.map((v, i) => v - supervised[i]!);
    const [norm, length] = [Math.sqrt(dot(supervised, supervised)), Math.sqrt(dot(other, other))];
    assert.ok(length > 0.02 * norm, `${length} of ${norm}: too little to compare`);
    const shares = await sharesOf(varied, iteration);
    assert.equal(Object.keys(shares), ['supervised', term, `${term}Cosine`]);
    const expected = [norm, length, dot(supervised, other) / norm / length];
    closeTo(Object.values(shares), expected, { rtol: 2e-3, atol: 1e-3 });
  });
}

test('lccs: all three terms; supervised: one; before the warm-up ends the others are 0', async () => {
  const lccs = await sharesOf({ method: 'lccs', consistencyWeight: 3 }, 30);
  const names = ['supervised', 'consistency', 'separation', 'consistencyCosine', 'separationCosine'];
  assert.equal(Object.keys(lccs), names);
  const halves = [
    await sharesOf({ method: 'lccs-consistency', consistencyWeight: 3 }, 30),
    await sharesOf({ method: 'lccs-separation', consistencyWeight: 3 }, 30),
  ];
  closeTo(
    Object.values(lccs),
    names.map((name) => halves[0]![name] ?? halves[1]![name]!),
    { rtol: 1e-4, atol: 1e-6 },
  );
  const alone = await sharesOf({ method: 'supervised' }, 30);
  assert.equal(Object.keys(alone), ['supervised']);
  assert.ok(alone.supervised! > 0);
  const early = await sharesOf({ method: 'lccs', warmupFraction: 0.5 }, 3);
  assert.equal(Object.values(early).slice(1), [0, 0, 0, 0]);
});

test('a run has the same bits, whether or not anybody asks', async () => {
  const gpu = await testGpu();
  for (const options of [
    { method: 'lccs', thresholdMode: 'percentile', strong: 'both' },
    { method: 'lccs', thresholdMode: 'per-class', separation: 'proto-ce', emaBuffers: true },
    { method: 'uamt', uncertaintyPasses: 2 },
    { method: 'supervised' },
  ]) {
    await scope(gpu, async () => {
      const [plain, probed] = [await trainerAt(20, options), await trainerAt(20, options)];
      for (const [trainer, asks] of [
        [plain, false],
        [probed, true],
      ] as const) {
        for (let i = 20; i < 23; i++) {
          trainer.setIteration(i);
          if (asks) trainer.probe();
          trainer.step();
        }
      }
      for (const [name, expected] of plain.state) {
        closeTo(await probed.state.get(name)!.read(), await expected.read(), {}, `${name}, ${JSON.stringify(options)}`);
      }
      assert.is(probed.step.info.launches, plain.step.info.launches);
    });
  }
});

testHalf('f16: norms without the scale of the loss', async () => {
  const options = { method: 'lccs', consistencyWeight: 3 };
  const half = await sharesOf({ ...options, precision: 'f16' }, 30);
  const single = await sharesOf(options, 30);
  closeTo(Object.values(half).slice(0, 3), Object.values(single).slice(0, 3), { rtol: 0.05 });
});

test.run();
