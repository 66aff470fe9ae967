import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { capture, createRandom, randomNormal, randomUniform, ShapeError, type TypedArray } from '../../engine/index.js';
import { philox4x32, toUniform } from '../../engine/random.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('random tensors');
const testHalf = unless(await lacking('shader-f16'), test);

const moments = (read: TypedArray): { mean: number; variance: number; fourth: number } => {
  const values = Array.from(read);
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  const power = (n: number): number => values.reduce((sum, v) => sum + (v - mean) ** n, 0) / values.length;
  return { mean, variance: power(2), fourth: power(4) };
};

test('uniform numbers are those of Philox, scaled', async () => {
  const gpu = await testGpu();
  for (const size of [1, 7, 64]) {
    const random = createRandom(gpu, 5);
    random.setStep(3);
    const y = await randomUniform(gpu, [size], { random, low: -2, high: 6 }).read();
    const expected = Array.from({ length: size }, (_, i) => {
      const bits = philox4x32([i >> 2, 3, 0, 0], [5, 0]);
      return 8 * toUniform(bits[i & 3]!) - 2;
    });
    closeTo(y, expected, { atol: 1e-6 });
  }
});

test('the moments are those of the distributions', async () => {
  const gpu = await testGpu();
  const random = createRandom(gpu, 1);
  const uniform = await randomUniform(gpu, [300, 700], { random }).read();
  assert.ok(uniform.every((v) => v >= 0 && v < 1));
  const u = moments(uniform);
  closeTo([u.mean, u.variance, u.fourth], [1 / 2, 1 / 12, 1 / 80], { rtol: 0.01 });
  const n = moments(await randomNormal(gpu, [300, 700], { random, mean: 3, std: 2 }).read());
  closeTo([n.mean, n.variance, n.fourth], [3, 4, 48], { rtol: 0.03 });
});

test('each call draws a stream of its own; a step draws anew when its number is set', async () => {
  const gpu = await testGpu();
  const random = createRandom(gpu, 1);
  const [a, b] = [randomNormal(gpu, [8], { random }), randomNormal(gpu, [8], { random })];
  assert.not.equal([...(await a.read())], [...(await b.read())]);
  random.restart();
  assert.equal([...(await randomNormal(gpu, [8], { random }).read())], [...(await a.read())]);
  const step = capture(gpu, () => randomUniform(gpu, [8], { random }));
  random.setStep(1);
  const first = [...(await step().read())];
  random.setStep(2);
  assert.not.equal([...(await step().read())], first);
  random.setStep(1);
  assert.equal([...(await step().read())], first);
});

testHalf('f16', async () => {
  const gpu = await testGpu();
  const y = randomNormal(gpu, [2, 3], { random: createRandom(gpu, 1), dtype: 'f16' });
  assert.is(y.dtype, 'f16');
  closeTo(await y.read(), await randomNormal(gpu, [2, 3], { random: createRandom(gpu, 1) }).read(), { atol: 2e-3 });
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const random = createRandom(gpu, 1);
  await refuses(() => randomUniform(gpu, [2], { random, low: 1, high: 0 }), ShapeError, /randomUniform: low and high/);
  await refuses(() => randomNormal(gpu, [2], { random, std: -1 }), ShapeError, /randomNormal: mean and std/);
  await refuses(() => randomNormal(gpu, [2], {} as { random: typeof random }), ShapeError, /randomNormal: draws from/);
  await refuses(() => randomUniform(gpu, [0], { random }), ShapeError, /sizes must be positive/);
});

test.run();
