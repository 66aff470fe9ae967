// Training with f16 storage: the loss follows f32's, an overflow costs a step and nothing else, and an adapter without f16 says so.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { GpuError, uniformStream } from '../../engine/index.js';
import { createTrainer, type Trainer } from '../../train/method/trainer.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { lacking, testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('precision');

const gpu = await testGpu();
const noHalf = await lacking('shader-f16');
const testHalf = unless(noHalf, test);
const testNoHalf = unless(noHalf ? undefined : 'this adapter has shader-f16', test);

function trainer(precision: 'f32' | 'f16'): Trainer {
  const config = resolveConfig({ size: 16, features: '8,16', batch: 4, precision, lr: 0.05, iterations: 40 });
  const made = createTrainer(gpu, config);
  const uniform = uniformStream(1);
  const images = Float32Array.from({ length: 16 ** 2 * config.batch }, uniform);
  made.setBatch(
    images,
    Uint8Array.from(images, (v) => Math.floor(4 * v)),
  );
  return made;
}

async function losses(t: Trainer, from: number, to: number): Promise<number[]> {
  const values: number[] = [];
  for (let i = from; i < to; i++) {
    t.setIteration(i);
    values.push(await t.step().loss.item());
  }
  return values;
}

testHalf('the loss of f16 follows that of f32, in half the memory', async () => {
  const [full, half] = [trainer('f32'), trainer('f16')];
  const [expected, actual] = [await losses(full, 0, 40), await losses(half, 0, 40)];
  assert.ok(expected.at(-1)! < 0.9 * expected[0]!, `the loss falls: ${expected[0]} to ${expected.at(-1)}`);
  // Rounding to 11 bits moves single values by 5e-4; over 40 steps the curves stay that close to each other.
  expected.forEach((loss, i) => {
    assert.ok(Math.abs(actual[i]! - loss) < 0.01 * loss, `step ${i}: f16 ${actual[i]}, f32 ${loss}`);
  });
  const share = half.step.info.plannedBytes / full.step.info.plannedBytes;
  assert.ok(share < 0.65, `temporaries of f16 are ${share} of those of f32`);
});

testHalf('an overflow leaves one step out and halves the scale', async () => {
  const t = trainer('f16');
  await losses(t, 0, 2);
  const scale = t.state.get('lossScale.0')!;
  const weights = async () => Promise.all(t.student.parameters.map((p) => p.read()));
  const before = await weights();
  scale.write(2 ** 40);
  const [loss] = await losses(t, 2, 3);
  assert.ok(Number.isFinite(loss), 'the loss itself is not scaled');
  assert.equal(await weights(), before);
  assert.is(await scale.item(), 2 ** 39);
  scale.write(1024);
  await losses(t, 3, 4);
  assert.not.equal(await weights(), before);
});

testNoHalf('an adapter without f16 is named', () =>
  refuses(() => trainer('f16'), GpuError, /precision f16: .* has no shader-f16\. Use f32\./),
);

test.run();
