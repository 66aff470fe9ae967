import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { philox4x32, toUniform } from '../../engine/custom.js';
import { createRandom, gaussianNoise, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { mapArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('gaussianNoise');

/** Element i of the normal numbers, by the CPU's Philox and Box–Muller. */
function normal(i: number, seed: number): number {
  const bits = philox4x32([Math.floor(i / 4), 0, 0, 0], [seed, 0]);
  const pair = i % 4 < 2 ? 0 : 2;
  const radius = Math.sqrt(-2 * Math.log(1 - toUniform(bits[pair]!)));
  const angle = 2 * Math.PI * toUniform(bits[pair + 1]!);
  return radius * (i % 2 ? Math.sin(angle) : Math.cos(angle));
}

for (const shape of [[1], [257], [2, 8, 8, 3]]) {
  for (const [deviation, clip] of [
    [0.1, 0.2],
    [1, undefined],
  ] as const) {
    test(`[${shape}] deviation ${deviation} clip ${clip} adds the CPU's numbers`, () =>
      checkOp({
        op: (x) => gaussianNoise(x!, { std: deviation, clip, random: createRandom(x!.gpu, 99) }),
        reference: (x) =>
          mapArray(x!, (v, i) => v + Math.max(-(clip ?? 9), Math.min(clip ?? 9, deviation * normal(i, 99)))),
        inputs: [{ shape }],
        atol: 2e-3 * deviation, // WGSL's sin and cos are good to 2^-11
      }));
  }
}

test('mean, deviation and limits', async () => {
  const gpu = await testGpu();
  const size = 100_000;
  const x = tensor(gpu, 0, [size]);
  const y = Array.from(await gaussianNoise(x, { std: 2, random: createRandom(gpu, 5) }).read());
  const mean = y.reduce((sum, v) => sum + v, 0) / size;
  const deviation = Math.sqrt(y.reduce((sum, v) => sum + v * v, 0) / size);
  assert.ok(Math.abs(mean) < (5 * 2) / Math.sqrt(size), `mean ${mean}`);
  assert.ok(Math.abs(deviation - 2) < 0.03, `deviation ${deviation}`);
  const z = await gaussianNoise(x, { std: 0.1, clip: 0.2, random: createRandom(gpu, 5) }).read();
  assert.ok(z.every((v: number) => Math.abs(v) <= Math.fround(0.2)));
  const limited = z.filter((v: number) => Math.abs(v) === Math.fround(0.2)).length / size;
  assert.ok(Math.abs(limited - 0.0455) < 0.005, `${limited} at the limits`); // two-sided tail beyond 2σ
});

test('a negative deviation is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1]);
  await refuses(() => gaussianNoise(x, { std: -1, random: createRandom(gpu, 0) }), ShapeError, /negative/);
});

test.run();
