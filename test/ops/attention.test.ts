import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  attention,
  backward,
  capture,
  cast,
  matmul,
  mul,
  reshape,
  ShapeError,
  softmax,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { at, type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('attention');
const testHalf = unless(await lacking('shader-f16'), test);

interface Kind {
  causal?: boolean;
  scale?: number;
  /** A mask that hides where it is 0, and one that is added; of any shape that broadcasts to [N, H, T, S]. */
  hides?: NdArray;
  adds?: NdArray;
}

/** Plain loops in float64. */
function reference(q: NdArray, k: NdArray, v: NdArray, { causal = false, scale, hides, adds }: Kind): NdArray {
  const [items, queries, heads, columns] = q.shape as [number, number, number, number];
  const keys = k.shape[1]!;
  const y = ndArray(q.shape);
  const row = (x: NdArray, n: number, t: number, h: number): Float64Array => {
    const first = ((n * x.shape[1]! + t) * heads + h) * columns;
    return x.data.subarray(first, first + columns);
  };
  for (let n = 0; n < items; n++)
    for (let h = 0; h < heads; h++)
      for (let t = 0; t < queries; t++) {
        const own = row(q, n, t, h);
        const scores = Array.from({ length: keys }, (_, s) => {
          if ((causal && s > t + keys - queries) || (hides && at(hides, [n, h, t, s]) === 0)) return -Infinity;
          const other = row(k, n, s, h);
          let product = 0;
          for (let c = 0; c < columns; c++) product += own[c]! * other[c]!;
          return product * (scale ?? 1 / Math.sqrt(columns)) + (adds ? at(adds, [n, h, t, s]) : 0);
        });
        const most = Math.max(...scores);
        if (most === -Infinity) continue;
        const powers = scores.map((x) => Math.exp(x - most));
        const sum = powers.reduce((a, b) => a + b);
        const result = row(y, n, t, h);
        powers.forEach((p, s) => {
          const value = row(v, n, s, h);
          for (let c = 0; c < columns; c++) result[c]! += (p / sum) * value[c]!;
        });
      }
  return y;
}

const uniform = uniformStream(5);
const random = (shape: readonly number[], f: (u: number) => number): NdArray => {
  const x = ndArray(shape);
  return ndArray(
    shape,
    x.data.map(() => Math.fround(f(uniform()))),
  );
};
const coins = (shape: readonly number[]): NdArray => random(shape, (u) => (u < 0.6 ? 1 : 0));
const biases = (shape: readonly number[]): NdArray => random(shape, (u) => 4 * u - 2);

const cases: [name: string, q: number[], keys: number, kind: Kind][] = [
  ['one of each', [1, 1, 1, 1], 1, {}],
  ['few columns', [2, 5, 2, 3], 5, {}],
  ['another number of keys', [1, 7, 2, 8], 20, { scale: 0.7 }],
  ['more rows than a workgroup', [1, 70, 1, 4], 70, { causal: true }],
  ['causal, more keys', [2, 3, 2, 4], 9, { causal: true }],
  ['causal, fewer keys: the first queries see none', [1, 9, 1, 4], 4, { causal: true }],
  ['two lanes', [1, 37, 2, 36], 37, { causal: true }],
  ['two lanes, odd', [1, 5, 1, 61], 35, {}],
  ['four lanes', [1, 19, 1, 128], 33, { causal: true }],
  ['four lanes, a part', [2, 4, 1, 74], 17, {}],
  ['hidden keys', [2, 6, 2, 4], 7, { hides: coins([2, 1, 1, 7]) }],
  ['hidden pairs', [2, 6, 2, 40], 7, { hides: coins([6, 7]) }],
  ['hidden and causal', [1, 21, 1, 5], 21, { causal: true, hides: coins([21, 21]) }],
  ['added by head', [2, 6, 3, 4], 7, { adds: biases([3, 6, 7]) }],
  ['added by query', [2, 6, 3, 36], 7, { adds: biases([2, 1, 6, 1]) }],
];
for (const [name, shape, keys, kind] of cases) {
  test(`${name}: [${shape}], ${keys} keys`, async () => {
    const gpu = await testGpu();
    const { hides, adds, ...others } = kind;
    const mask = hides
      ? tensor(gpu, hides.data, hides.shape, { dtype: 'u8' })
      : adds && tensor(gpu, adds.data, adds.shape);
    const other = shape.with(1, keys);
    await checkOp({
      op: (q, k, v) => attention(q!, k!, v!, { ...others, mask }),
      reference: (q, k, v) => reference(q!, k!, v!, kind),
      inputs: [{ shape }, { shape: other }, { shape: other }],
      atol: 2e-5,
      gradAtol: 2e-4,
    });
  });
}

/** [N, T, H, d] as [N, H, T, d], by the only reordering that needs no op: one head. */
const composed = (q: Tensor, k: Tensor, v: Tensor): Tensor => {
  const [items, queries, , columns] = q.shape as [number, number, number, number];
  const flat = (x: Tensor): Tensor => reshape(x, [items, x.shape[1]!, columns]);
  const scores = mul(matmul(flat(q), flat(k), { transposeB: true }), 1 / Math.sqrt(columns));
  return reshape(matmul(softmax(scores), flat(v)), [items, queries, 1, columns]);
};

test('the fused op and its composition agree, values and gradients', async () => {
  const gpu = await testGpu();
  const make = (): Tensor => tensor(gpu, biases([2, 75, 1, 48]).data, [2, 75, 1, 48], { requiresGrad: true });
  const [q, k, v, seed] = [make(), make(), make(), make()];
  const results = await Promise.all(
    [attention, composed].map(async (op) => {
      const y = op(q, k, v);
      const gradients = backward(y, seed);
      return Promise.all([y, ...[q, k, v].map((x) => gradients.get(x)!)].map((x) => x.read()));
    }),
  );
  for (const [i, mine] of results[0]!.entries())
    closeTo(mine, results[1]![i]!, { atol: 5e-6, rtol: 2e-5 }, `result ${i}`);
});

test('scores far apart: finite, and memory is linear', async () => {
  const gpu = await testGpu();
  const q = tensor(gpu, [3000, -3000], [1, 2, 1, 1], { requiresGrad: true });
  const k = tensor(gpu, [1, 2, -1], [1, 3, 1, 1]);
  const v = tensor(gpu, [5, 6, 7], [1, 3, 1, 1]);
  const y = attention(q, k, v);
  closeTo(await y.read(), [6, 7]);
  closeTo(
    await backward(y, tensor(gpu, 1, y.shape))
      .get(q)!
      .read(),
    [0, 0],
  );
  const [items, length, columns] = [1, 2048, 4];
  const long = tensor(gpu, 0.01, [items, length, 1, columns], { requiresGrad: true });
  const step = capture(gpu, () => backward(attention(long, long, long), long).get(long)!);
  assert.ok(step.info.unsharedBytes < 64 * length * columns, `${step.info.unsharedBytes} bytes`);
});

test('NaN stays where it is seen, and hidden NaN does not count', async () => {
  const gpu = await testGpu();
  const q = tensor(gpu, 1, [1, 2, 1, 1]);
  const k = tensor(gpu, [1, Number.NaN], [1, 2, 1, 1]);
  const v = tensor(gpu, [3, Number.NaN], [1, 2, 1, 1]);
  closeTo(await attention(q, k, v, { causal: true }).read(), [3, Number.NaN]);
});

testHalf('f16', () => {
  const shape = [2, 21, 2, 8];
  const values = Array.from({ length: 2 * 21 * 2 * 8 }, (_, i) => (((i * 7919) % 129) - 64) / 32);
  return checkOp({
    op: (q, k, v) => cast(attention(cast(q!, 'f16'), cast(k!, 'f16'), cast(v!, 'f16'), { causal: true }), 'f32'),
    reference: (q, k, v) => reference(q!, k!, v!, { causal: true }),
    inputs: [values, values.toReversed(), values.map((x) => -x)].map((list) => ({ shape, values: list })),
    atol: 4e-3,
    gradAtol: 1e-2,
    gradRtol: 1e-2,
  });
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = (...shape: number[]): Tensor => tensor(gpu, 0, shape);
  const q = x(1, 2, 3, 4);
  await refuses(() => attention(x(2, 3, 4), q, q), ShapeError, /attention: got q \[2,3,4\]/);
  await refuses(() => attention(q, x(1, 2, 2, 4), x(1, 2, 2, 4)), ShapeError, /k \[1,2,2,4\]/);
  await refuses(() => attention(x(1, 2, 1, 129), x(1, 2, 1, 129), x(1, 2, 1, 129)), ShapeError, /d up to 128/);
  await refuses(() => attention(q, q, q, { mask: x(5, 2) }), ShapeError, /mask is a tensor f32 \[5,2\].*\[1,3,2,2\]/);
  await refuses(() => attention(q, q, q, { scale: Number.NaN }), ShapeError, /scale is NaN/);
  await refuses(() => attention(q, q, q, { is_causal: true } as object), ShapeError, /unknown option 'is_causal'/);
});

test.run();
