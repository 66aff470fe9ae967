import { suite } from 'uvu';
import { backward, cast, groupNorm, layerNorm, ShapeError, sum, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('layerNorm');
const testHalf = unless(await lacking('shader-f16'), test);

/** Group norm in float64, set by set; `items` of x, `groups` of its channels. */
function reference(x: NdArray, gamma: NdArray, beta: NdArray, items: number, groups: number, epsilon = 1e-5): NdArray {
  const channels = x.shape.at(-1)!;
  const y = ndArray(x.shape);
  const sets = new Map<number, number[]>();
  const setOf = (i: number): number =>
    Math.floor(i / (x.data.length / items)) * groups + Math.floor((i % channels) / (channels / groups));
  for (let i = 0; i < x.data.length; i++) {
    if (!sets.has(setOf(i))) sets.set(setOf(i), []);
    sets.get(setOf(i))!.push(i);
  }
  for (const all of sets.values()) {
    const mean = all.reduce((total, i) => total + x.data[i]!, 0) / all.length;
    const variance = all.reduce((total, i) => total + (x.data[i]! - mean) ** 2, 0) / all.length;
    for (const i of all) {
      const c = i % channels;
      y.data[i] = ((x.data[i]! - mean) / Math.sqrt(variance + epsilon)) * gamma.data[c]! + beta.data[c]!;
    }
  }
  return y;
}

for (const shape of [[2], [5, 7], [3, 2, 8], [2, 257], [70, 12], [2, 2100], [3, 700]]) {
  const channels = shape.at(-1)!;
  test(`layerNorm [${shape}]`, () =>
    checkOp({
      op: (x, gamma, beta) => layerNorm(x!, gamma!, beta!),
      reference: (x, gamma, beta) => reference(x!, gamma!, beta!, x!.data.length / channels, 1),
      inputs: [{ shape }, { shape: [channels] }, { shape: [channels] }],
      atol: 3e-5,
      rtol: 3e-5,
      gradAtol: 5e-4,
    }));
}

for (const [shape, groups] of [
  [[2, 6], 3],
  [[2, 3, 5, 8], 2],
  [[1, 5, 7, 6], 2],
  [[3, 40, 12], 1],
  [[2, 9, 9, 4], 4],
  [[2, 3, 3, 2, 8], 8],
  [[1, 33, 16, 4], 1],
] as const) {
  const channels = shape.at(-1)!;
  test(`groupNorm [${shape}] in ${groups}`, () =>
    checkOp({
      op: (x, gamma, beta) => groupNorm(x!, groups, gamma!, beta!, { epsilon: 1e-3 }),
      reference: (x, gamma, beta) => reference(x!, gamma!, beta!, shape[0], groups, 1e-3),
      inputs: [{ shape }, { shape: [channels] }, { shape: [channels] }],
      atol: 3e-5,
      rtol: 3e-5,
      gradAtol: 5e-4,
    }));
}

// f16 holds these exactly; around 600 a sum of squares leaves its range.
const halves = Array.from({ length: 390 }, (_, i) => ((i * 7919) % 257) / 2 + (i < 130 ? 536 : -64));
testHalf('f16: statistics are f32', () =>
  checkOp({
    op: (x, gamma, beta) => cast(layerNorm(cast(x!, 'f16'), gamma!, beta!), 'f32'),
    reference: (x, gamma, beta) => reference(x!, gamma!, beta!, 3, 1),
    inputs: [{ shape: [3, 130], values: halves }, { shape: [130] }, { shape: [130] }],
    atol: 4e-3,
    rtol: 1e-3,
    gradAtol: 5e-3,
    gradRtol: 2e-3,
  }),
);

test('a large mean costs no digits, an even row gives β, NaN stays', async () => {
  const gpu = await testGpu();
  const [gamma, beta] = [tensor(gpu, 2, [4]), tensor(gpu, [1, 2, 3, 4])];
  const x = tensor(gpu, [4096, 4097, 4098, 4099, 7, 7, 7, 7, 1, Number.NaN, 2, 3], [3, 4], { requiresGrad: true });
  const y = layerNorm(x, gamma, beta);
  const s = 2 / Math.sqrt(1.25 + 1e-5);
  closeTo(
    await y.read(),
    [-1.5 * s + 1, -0.5 * s + 2, 0.5 * s + 3, 1.5 * s + 4, 1, 2, 3, 4, ...Array(4).fill(Number.NaN)],
    { rtol: 1e-6 },
  );
  const dx = await backward(sum(y)).get(x)!.read();
  closeTo(dx.slice(0, 4), [0, 0, 0, 0], { atol: 1e-6 });
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = (...shape: number[]) => tensor(gpu, 0, shape);
  await refuses(() => layerNorm(x(2, 3), x(2), x(3)), ShapeError, /layerNorm: x \[2,3\] and gamma f32 \[2\]/);
  await refuses(() => layerNorm(x(2, 3), x(3), x(3), { epsilon: 0 }), ShapeError, /layerNorm: epsilon is 0/);
  await refuses(() => layerNorm(x(2, 3), x(3), x(3), { eps: 1 } as object), ShapeError, /unknown option 'eps'/);
  await refuses(() => groupNorm(x(2, 6), 4, x(6), x(6)), ShapeError, /\[2,6\] in 4 groups/);
  const whole = tensor(gpu, 0, [2, 3], { dtype: 'u32' });
  await refuses(() => layerNorm(whole, x(3), x(3)), ShapeError, /layerNorm: inputs must all be f32/);
});

test.run();
