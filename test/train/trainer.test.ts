// The step of every method, fused and unfused: the same numbers for the log and the same weights after three steps.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { flags, memoryOf, scope, uniformStream } from '../../engine/index.js';
import { methods, resolveConfig } from '../../train/config.js';
import { createTrainer, metricNames } from '../../train/trainer.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';

const test = suite('trainer');

async function threeSteps(fuse: boolean, method: (typeof methods)[number]) {
  const gpu = await testGpu();
  const before = flags.fuse;
  flags.fuse = fuse;
  try {
    return await scope(gpu, async () => {
      const config = resolveConfig({ method, size: 16, features: '8,12', batch: 4, iterations: 40, lr: 0.05 });
      const t = createTrainer(gpu, config);
      const uniform = uniformStream(1);
      const images = Float32Array.from({ length: config.size ** 2 * config.batch }, uniform);
      t.setBatch(
        images,
        Uint8Array.from(images, (v) => Math.floor(4 * v)),
      );
      const metrics: number[][] = [];
      let bytes = 0;
      for (let i = 20; i < 23; i++) {
        t.setIteration(i);
        metrics.push([...(await t.step().metrics.read())]);
        if (i === 20) bytes = memoryOf(gpu).bytes;
      }
      assert.is(memoryOf(gpu).bytes, bytes, 'nothing is allocated after the first step');
      const weights = await Promise.all([...t.state.values()].map((x) => x.read()));
      return { metrics, weights, names: [...t.state.keys()], logged: metricNames(config), info: t.step.info };
    });
  } finally {
    flags.fuse = before;
  }
}

for (const method of methods) {
  test(method, async () => {
    const plain = await threeSteps(false, method);
    const fused = await threeSteps(true, method);
    plain.metrics.forEach((expected, step) => {
      assert.is(expected.length, fused.logged.length);
      // Pixels within rounding of the threshold may change sides: one of 512 moves a share by 0.002.
      closeTo(fused.metrics[step]!, expected, { rtol: 2e-4, atol: 5e-3 }, `metrics of step ${step} (${fused.logged})`);
      closeTo([fused.metrics[step]![0]!], [expected[0]!], { rtol: 2e-5 }, `loss of step ${step}`);
    });
    plain.weights.forEach((expected, i) => {
      closeTo(fused.weights[i]!, expected, { rtol: 1e-3, atol: 2e-4 }, plain.names[i]);
    });
    assert.ok(fused.info.launches < 0.7 * plain.info.launches, `${fused.info.launches} of ${plain.info.launches}`);
    assert.ok(fused.info.plannedBytes < plain.info.plannedBytes, 'less memory');
  });
}

test.run();
