// The step of every method, fused and unfused: the same numbers for the log and the same weights after three steps.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOf } from '../../engine/custom.js';
import { memoryOf } from '../../engine/debug.js';
import { scope, uniformStream } from '../../engine/index.js';
import { createTrainer, metricNames, type Trainer } from '../../train/method/trainer.js';
import { loadTensors, saveTensors } from '../../train/run/checkpoint.js';
import { methods, resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { unless } from '../unless.js';

const test = suite('trainer');
const testHalf = unless(await lacking('shader-f16'), test);

async function threeSteps(fuse: boolean, options: Record<string, unknown>) {
  const first = options.method === 'uamt' ? 36 : 20; // uamt's threshold nears ln K, the entropy of an untrained network
  const gpu = await testGpu();
  const before = gpu.flags.fuse;
  gpu.flags.fuse = fuse;
  try {
    return await scope(gpu, async () => {
      const small = { size: 16, features: '8,12', batch: 4, iterations: 40, lr: 0.05 };
      const config = resolveConfig({ ...small, ...options });
      const t = createTrainer(gpu, config);
      const uniform = uniformStream(1);
      const images = Float32Array.from({ length: sizeOf(config.patch) * config.batch }, uniform);
      t.setBatch(
        images,
        Uint8Array.from(images, (v) => Math.floor(4 * v)),
      );
      const metrics: number[][] = [];
      let bytes = 0;
      for (let i = first; i < first + 3; i++) {
        t.setIteration(i);
        metrics.push([...(await t.step().metrics.read())]);
        if (i === first) bytes = memoryOf(gpu).bytes;
      }
      assert.is(memoryOf(gpu).bytes, bytes, 'nothing is allocated after the first step');
      const weights = await Promise.all([...t.state.values()].map((x) => x.read()));
      return { metrics, weights, names: [...t.state.keys()], logged: metricNames(config), info: t.step.info };
    });
  } finally {
    gpu.flags.fuse = before;
  }
}

/** Fused and unfused agree on what is logged and on every tensor of the state. */
async function agree(options: Record<string, unknown>) {
  const plain = await threeSteps(false, options);
  const fused = await threeSteps(true, options);
  plain.metrics.forEach((expected, step) => {
    assert.is(expected.length, fused.logged.length);
    // Pixels within rounding of the threshold may change sides: one of 512 moves a share by 0.002.
    closeTo(fused.metrics[step]!, expected, { rtol: 2e-4, atol: 5e-3 }, `metrics of step ${step} (${fused.logged})`);
    closeTo([fused.metrics[step]![0]!], [expected[0]!], { rtol: 2e-5 }, `loss of step ${step}`);
  });
  plain.weights.forEach((expected, i) => {
    closeTo(fused.weights[i]!, expected, { rtol: 1e-3, atol: 2e-4 }, plain.names[i]);
  });
  return { plain, fused };
}

const logged = (run: Awaited<ReturnType<typeof threeSteps>>, name: string, step = 2): number => {
  assert.ok(run.logged.includes(name), `${name} is not logged, only ${run.logged}`);
  return run.metrics[step]![run.logged.indexOf(name)]!;
};

/**
 * A threshold from which no pixel's confidence is nearer than 1e-4 in three steps with these options, so that the same pixels are kept
 * however sums are rounded.
 */
async function clearThreshold(options: Record<string, unknown>): Promise<number> {
  const margin = 1e-4;
  for (let threshold = 0.42; threshold < 0.44; threshold += 0.002) {
    const kept = [];
    for (const near of [threshold - margin, threshold + margin]) {
      const run = await threeSteps(false, { ...options, threshold: near });
      kept.push(run.metrics.map((step) => step[run.logged.indexOf('kept')]));
    }
    if (String(kept[0]) === String(kept[1])) return threshold;
  }
  throw new Error('every threshold has a pixel beside it');
}

for (const method of methods) {
  test(method, async () => {
    const { plain, fused } = await agree({ method });
    assert.ok(fused.info.launches < 0.7 * plain.info.launches, `${fused.info.launches} of ${plain.info.launches}`);
    assert.ok(fused.info.plannedBytes < plain.info.plannedBytes, 'less memory');
    if (fused.logged.includes('kept')) {
      const share = logged(fused, 'kept', 0);
      assert.ok(share > 0.05 && share <= 1, `${share} kept`);
    }
  });
}

test('volumes: the same trainer on patches with three sides', async () => {
  const { fused } = await agree({ patch: [4, 8, 8], features: '4,8' });
  assert.ok(fused.names.some((name) => name.endsWith('projection.0.weight')));
  assert.ok(logged(fused, 'separation') > 0);
});

for (const method of ['supervised', 'mt', 'uamt', 'lccs']) {
  test(`${method} with strong views of all items`, async () => {
    const { fused } = await agree({ method, strong: 'both', strongTurn: true, uncertaintyPasses: 2 });
    const weak = await threeSteps(true, { method, uncertaintyPasses: 2 });
    assert.is.not(fused.metrics[0]![0], weak.metrics[0]![0]);
  });
}

test('strong views of volumes', async () => {
  await agree({ patch: [4, 8, 8], features: '4,8', strong: 'both', strongTurn: true });
});

test('selection high keeps what low drops, all keeps everything', async () => {
  const kept = new Map<string, number>();
  const threshold = await clearThreshold({});
  for (const selection of ['low', 'high', 'all']) {
    const { fused } = await agree({ selection, threshold });
    kept.set(selection, logged(fused, 'kept', 0));
  }
  assert.ok(kept.get('low')! > 0 && kept.get('high')! > 0);
  closeTo([kept.get('low')! + kept.get('high')!, kept.get('all')!], [1, 1], { atol: 1e-6 });
});

test('hard pseudo-labels for the pixels that are not kept, and half Dice for those that are', async () => {
  for (const options of [
    { confidentWeight: 0.5, threshold: 0.42 },
    { confidentWeight: 2, threshold: 0.42, selection: 'high', consistency: 'ce-dice' },
    { confidentWeight: 0.5, method: 'uamt', uncertaintyPasses: 2, consistency: 'ce-dice' },
  ]) {
    const { fused } = await agree(options);
    const without = await threeSteps(true, { ...options, confidentWeight: 0 });
    assert.ok(logged(fused, 'consistency', 0) > logged(without, 'consistency', 0), JSON.stringify(options));
  }
  const [all, given] = [
    { confidentWeight: 0.5, method: 'mt', consistency: 'ce-dice' },
    { method: 'mt', consistency: 'ce-dice' },
  ];
  const [one, other] = [await threeSteps(true, all), await threeSteps(true, given)];
  assert.equal(one.weights, other.weights, 'where all are kept there are no others');
});

test('a percentile keeps its share, and says the threshold', async () => {
  const { fused } = await agree({ thresholdMode: 'percentile', thresholdPercentile: 0.3, thresholdMomentum: 0 });
  for (const step of [0, 1, 2]) {
    const kept = logged(fused, 'kept', step);
    assert.ok(Math.abs(kept - 0.3) < 0.02, `${kept} kept`);
    const threshold = logged(fused, 'threshold', step);
    assert.ok(threshold > 0.25 && threshold < logged(fused, 'confidence', step) + 0.1, `threshold ${threshold}`);
  }
  assert.ok(fused.names.includes('threshold.value') && fused.names.includes('threshold.updates'), 'it is saved');
});

test('thresholds by class: the surest class has the one that was set', async () => {
  const { fused } = await agree({ thresholdMode: 'per-class', threshold: 0.5 });
  const thresholds = [0, 1, 2, 3].map((k) => logged(fused, `threshold${k}`));
  closeTo([Math.max(...thresholds)], [0.5], { rtol: 1e-6 });
  assert.ok(Math.min(...thresholds) < 0.5, `all alike: ${thresholds}`);
});

test('a method without a threshold of confidence does not care for its mode', async () => {
  await agree({ method: 'mt', thresholdMode: 'percentile' });
  await agree({ method: 'uamt', thresholdMode: 'per-class', uncertaintyPasses: 2 });
});

for (const [separation, hasHead] of [
  ['pull', true],
  ['proto-ce', false],
  ['distance', true],
] as const) {
  test(`separation ${separation}, projection ${hasHead}: β in the loss, T, and cosines of the prototypes`, async () => {
    const gpu = await testGpu();
    await scope(gpu, async () => {
      const some = { separation, separationWeight: 0.4, temperature: 0.2, projection: hasHead, consistencyWeight: 3 };
      const config = resolveConfig({ size: 16, features: '8,12', batch: 4, iterations: 40, ...some });
      const t = createTrainer(gpu, config);
      const images = Float32Array.from({ length: 16 * 16 * 4 }, uniformStream(1));
      t.setBatch(
        images,
        Uint8Array.from(images, (v) => Math.floor(4 * v)),
      );
      const λ = t.setIteration(30).consistencyWeight;
      const { metrics, cosines } = t.step();
      const numbers = await metrics.read();
      const of = (name: string) => numbers[metricNames(config).indexOf(name)]!;
      assert.ok(λ > 1 && of('separation') > 0);
      const expected = 0.5 * (of('ce') + of('dice')) + λ * (of('consistency') + 0.4 * of('separation'));
      closeTo([of('loss')], [expected], { rtol: 1e-6 });
      const flat = await t.state.get('prototypes.vectors')!.read();
      const width = flat.length / 4;
      assert.is(width, hasHead ? 32 : 8);
      const row = (k: number) => Array.from(flat.subarray(k * width, (k + 1) * width));
      const dot = (a: number[], b: number[]) => a.reduce((sum, v, d) => sum + v * b[d]!, 0);
      const between = [0, 1, 2, 3].flatMap((i) =>
        [0, 1, 2, 3].map((j) => dot(row(i), row(j)) / Math.sqrt(dot(row(i), row(i)) * dot(row(j), row(j)))),
      );
      closeTo(await cosines!.read(), between, { atol: 1e-5 });
    });
  });
}

for (const options of [
  { separation: 'proto-ce', statistics: 'apart', prototypeUnlabeledWeight: 0.5 },
  { separation: 'pull', network: 'vnet', patch: [4, 8, 8], features: '4,8', projectionWidth: 16 },
]) {
  test(`the kernels of a GPU, which project on the way: as the plain ops, with ${JSON.stringify(options)}`, async () => {
    const { adapter } = await testGpu();
    const { software } = adapter;
    Object.assign(adapter, { software: false });
    try {
      const { fused, plain } = await agree(options);
      assert.ok(fused.info.launches < plain.info.launches);
    } finally {
      Object.assign(adapter, { software });
    }
  });
}

test('what is saved is all that a run needs: the same bits after a stop', async () => {
  const gpu = await testGpu();
  const file = join(mkdtempSync(join(tmpdir(), 'wgrad-')), 'state.safetensors');
  const small = { size: 16, features: '8,12', batch: 4, iterations: 40, lr: 0.05 };
  for (const options of [
    { thresholdMode: 'percentile', thresholdMomentum: 0.9 },
    { thresholdMode: 'per-class', prototypeWeighting: 'hard' },
    { method: 'mt', teacherMode: 'eval', emaBuffers: true },
    { method: 'uamt', uncertaintyPasses: 2, emaBuffers: true },
    { strong: 'both', strongTurn: true },
    { method: 'supervised', strong: 'both' },
    { method: 'bcp', pretrainFraction: 0.9 }, // which ends with the stop
  ]) {
    const made = () => {
      const trainer = createTrainer(gpu, resolveConfig({ ...small, ...options }));
      const uniform = uniformStream(1);
      const images = Float32Array.from({ length: 16 ** 2 * 4 }, uniform);
      trainer.setBatch(
        images,
        Uint8Array.from(images, (v) => Math.floor(4 * v)),
      );
      return trainer;
    };
    const steps = (trainer: Trainer, ...iterations: number[]) => {
      for (const i of iterations) {
        trainer.setIteration(i);
        trainer.step();
      }
    };
    const [whole, first, second] = [made(), made(), made()];
    steps(whole, 34, 35, 36, 37);
    steps(first, 34, 35);
    await saveTensors(file, first.state);
    loadTensors(file, second.state);
    steps(second, 36, 37);
    for (const [name, expected] of whole.state) {
      closeTo(
        await second.state.get(name)!.read(),
        await expected.read(),
        {},
        `${name} with ${JSON.stringify(options)}`,
      );
    }
  }
});

testHalf('f16 storage with the options: finite, and near to f32', async () => {
  const half = async (options: Record<string, unknown>) => {
    const { metrics } = await threeSteps(true, { ...options, precision: 'f16' });
    assert.ok(metrics.flat().every(Number.isFinite), JSON.stringify(options));
    return metrics[0]!.slice(0, 3);
  };
  const options = {
    thresholdMode: 'per-class',
    separationPixels: 'all',
    prototypeWeighting: 'hard',
    selection: 'high',
  };
  const single = await threeSteps(true, { ...options, precision: 'f32' });
  closeTo(await half(options), single.metrics[0]!.slice(0, 3), { rtol: 0.02 });
  await half({ method: 'uamt', uncertaintyPasses: 2, emaBuffers: true });
});

test('prototypes hard, of labelled pixels only, of the batch; all pixels separated; no head', async () => {
  await agree({
    ...{ prototypeWeighting: 'hard', prototypeUnlabeledWeight: 0, prototypeMomentum: 0 },
    ...{ separationPixels: 'all', projection: false, separation: 'proto-ce' },
  });
});

test('a teacher in eval mode, whose running statistics follow the student', async () => {
  const { fused } = await agree({ teacherMode: 'eval', emaBuffers: true });
  const of = (name: string) => fused.weights[fused.names.indexOf(name)]!;
  const name = 'encoder.in_conv.conv_conv.1.running_mean';
  assert.ok(of(`teacher.${name}`).some((v) => v !== 0));
  // The decay is min(1 − 1/(i + 1), 0.99): the teacher, which began as the student did, is behind it.
  assert.ok(Math.abs(of(`teacher.${name}`)[0]!) < Math.abs(of(`student.${name}`)[0]!));
});

test("running statistics that follow: one launch more, and the average of the student's", async () => {
  const plain = await threeSteps(true, { method: 'mt' });
  const { fused } = await agree({ method: 'mt', emaBuffers: true });
  assert.is(fused.info.launches, plain.info.launches + 1);
});

test('separation only: the consistency is logged and has no gradient; β = 0 leaves the consistency only', async () => {
  const final = async (options: Record<string, unknown>) => {
    const { weights, names } = await threeSteps(true, options);
    return names.flatMap((name, i) => (/^student\.(en|de)coder/.test(name) ? [...weights[i]!] : []));
  };
  const differ = (a: number[], b: number[]) => Math.max(...a.map((v, i) => Math.abs(v - b[i]!)));
  const both = await final({});
  const consistency = await final({ separationWeight: 0 });
  const separation = await final({ method: 'lccs-separation' });
  const half = await final({ method: 'lccs-consistency' });
  closeTo(half, consistency, { rtol: 1e-6, atol: 1e-7 }, 'lccs-consistency is lccs with β = 0');
  assert.ok(differ(both, consistency) > 1e-7, 'separation changes weights');
  assert.ok(differ(both, separation) > 1e-7, 'consistency changes weights');
  assert.ok(differ(consistency, separation) > 1e-7, 'the halves differ');
});

test('uamt: eight passes take hardly more memory than two', async () => {
  const [two, eight] = [
    await threeSteps(true, { method: 'uamt', uncertaintyPasses: 2 }),
    await threeSteps(true, { method: 'uamt' }),
  ];
  const grown = (bytes: 'unsharedBytes' | 'plannedBytes') => eight.info[bytes] - two.info[bytes];
  assert.ok(grown('unsharedBytes') > 0.5 * two.info.unsharedBytes, `${grown('unsharedBytes')}: six more passes`);
  assert.ok(grown('plannedBytes') < 0.01 * grown('unsharedBytes'), `${grown('plannedBytes')}`);
});

test.run();
