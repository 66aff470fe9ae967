import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type AveragePoolOptions,
  averagePool,
  backward,
  maxPool,
  mean,
  normActivation,
  ShapeError,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { windowPool } from '../reference/resampling.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('pooling with any window');
const testHalf = unless(await lacking('shader-f16'), test);
const gpu = await testGpu();

const pools = { max: maxPool, average: averagePool };

/** The same options, one for each axis, as the reference takes them. */
function reference(x: NdArray, kind: 'max' | 'average', options: AveragePoolOptions): NdArray {
  const rank = x.shape.length - 2;
  const each = <T>(value: T | readonly T[]): T[] =>
    Array.isArray(value) ? [...value] : Array<T>(rank).fill(value as T);
  const { window = 2, stride = window, padding = 0, dilation = 1, ceil = false, countPadding = false } = options;
  return windowPool(x, kind, {
    window: each<number>(window),
    stride: each<number>(stride),
    padding: each<number | readonly [number, number]>(padding).map((p) => (typeof p === 'number' ? [p, p] : p)),
    dilation: each<number>(dilation),
    ceil,
    countPadding,
  });
}

/** Distinct values far apart, in a scrambled order: differences never cross a tie. */
const scrambled = (shape: readonly number[]): number[] => {
  const size = shape.reduce((a, b) => a * b, 1);
  return Array.from({ length: size }, (_, i) => ((i * 7919) % size) / 8 - size / 16);
};

const cases: [number[], AveragePoolOptions][] = [
  [[1, 1, 1], { window: 1 }],
  [[2, 9, 3], { window: 3 }],
  [[1, 7, 2], { window: 2, stride: 4, ceil: true }], // a third window would begin beyond the image
  [[2, 7, 4], { window: 3, stride: 1, padding: [[2, 1]] }],
  [[1, 8, 8], { window: [2], stride: [3], dilation: [3], ceil: true }],
  [[2, 7, 6, 3], { window: 3, stride: 2, padding: 1 }],
  [[1, 6, 9, 4], { window: [2, 3], stride: [3, 1], dilation: [2, 1], padding: [0, [1, 0]] }],
  [[1, 5, 7, 4], { ceil: true }],
  [[2, 5, 5, 1], { window: 5, stride: 1, padding: 2 }],
  [[1, 4, 6, 5], { window: [4, 6] }],
  [[1, 6, 6, 2], { window: 3, stride: 2, padding: 1, ceil: true }],
  [[1, 3, 5, 4, 4], { window: [2, 3, 2], stride: [1, 2, 2], padding: [1, 1, 0] }],
  [[2, 4, 3, 5, 1], { window: 2, stride: 2, ceil: true }],
];
for (const [k, [shape, options]] of cases.entries()) {
  test(`maxPool [${shape}] ${JSON.stringify(options)}`, () =>
    checkOp({
      op: (x) => maxPool(x!, options),
      reference: (x) => reference(x!, 'max', options),
      inputs: [{ shape, values: scrambled(shape) }],
    }));
  const counts = options.padding && options.ceil ? [false, true] : [options.padding !== undefined && k % 2 === 1];
  for (const countPadding of counts) {
    test(`averagePool [${shape}] ${JSON.stringify({ ...options, countPadding })}`, () =>
      checkOp({
        op: (x) => averagePool(x!, { ...options, countPadding }),
        reference: (x) => reference(x!, 'average', { ...options, countPadding }),
        inputs: [{ shape }],
      }));
  }
}

const gradientOf = (y: Tensor, x: Tensor, dy: number[]): Promise<Float32Array> =>
  backward(y, tensor(gpu, dy, y.shape))
    .get(x)!
    .read() as Promise<Float32Array>;

test('windows of two given as options are those of a pool without options, bit for bit', async () => {
  for (const shape of [
    [2, 4, 7, 4],
    [1, 4, 5, 6, 3],
  ]) {
    for (const pool of Object.values(pools)) {
      const x = tensor(gpu, scrambled(shape), shape, { requiresGrad: true });
      const [plain, given] = [pool(x), pool(x, { window: 2, padding: 0 })];
      assert.equal(given.shape, plain.shape);
      assert.equal(await given.read(), await plain.read());
      const dy = scrambled(plain.shape);
      assert.equal(await gradientOf(given, x, dy), await gradientOf(plain, x, dy));
    }
  }
});

test('the kernels of any window agree with those of windows of two', async () => {
  const shape = [2, 4, 6, 4];
  for (const pool of Object.values(pools)) {
    const x = tensor(gpu, scrambled(shape), shape, { requiresGrad: true });
    const [plain, any] = [pool(x), pool(x, { padding: [0, [0, 1]] })]; // a column of padding that no window covers
    assert.equal(await any.read(), await plain.read());
    assert.equal(await gradientOf(any, x, scrambled(plain.shape)), await gradientOf(plain, x, scrambled(plain.shape)));
  }
});

test('of equal values the first gets the gradient; a NaN is larger than any number', async () => {
  const options = { window: 3, stride: 2, padding: 1 };
  const x = tensor(gpu, [1, 1, 1, 1, 1], [1, 5, 1], { requiresGrad: true });
  closeTo(await gradientOf(maxPool(x, options), x, [1, 2, 4]), [1, 2, 0, 4, 0]);
  const [n, inf] = [Number.NaN, Number.POSITIVE_INFINITY];
  const z = tensor(gpu, [-inf, -inf, inf, n, n, 3, 2, -inf], [1, 8, 1], { requiresGrad: true });
  const y = maxPool(z, { window: 2, stride: 1 });
  closeTo(await y.read(), [-inf, inf, n, n, n, 3, 2]);
  closeTo(await gradientOf(y, z, [1, 2, 4, 8, 16, 32, 64]), [1, 0, 2, 12, 16, 32, 64, 0]);
  const all = averagePool(z, { window: 2, stride: 1 });
  closeTo(await all.read(), [-inf, n, n, n, n, 2.5, -inf]);
});

test('gradients repeat bit for bit, and add up to those of the windows', async () => {
  const shape = [2, 9, 10, 4];
  for (const [kind, pool] of Object.entries(pools)) {
    const x = tensor(gpu, scrambled(shape), shape, { requiresGrad: true });
    const y = pool(x, { window: 3, stride: 1, padding: 1 });
    const dy = Array.from({ length: y.size }, (_, i) => Math.sin(i));
    const first = await gradientOf(y, x, dy);
    assert.equal(await gradientOf(pool(x, { window: 3, stride: 1, padding: 1 }), x, dy), first, kind);
    const total = (values: ArrayLike<number>): number => Array.from(values).reduce((a, b) => a + b, 0);
    closeTo([total(first)], [total(dy)], { atol: 1e-4 }, kind);
  }
});

test('a mean over the whole image is averagePool with a window of its size', async () => {
  const x = tensor(gpu, scrambled([2, 5, 6, 3]), [2, 5, 6, 3]);
  closeTo(await averagePool(x, { window: [5, 6] }).read(), await mean(x, [1, 2]).read(), { atol: 1e-5 });
});

test('a deferred activation is computed first', async () => {
  const z = tensor(gpu, scrambled([2, 6, 6, 4]), [2, 6, 6, 4], { requiresGrad: true });
  const [one, zero] = [tensor(gpu, 1, [4]), tensor(gpu, 0, [4])];
  const results = [];
  for (const fuse of [true, false]) {
    const before = gpu.flags.fuse;
    gpu.flags.fuse = fuse;
    const a = normActivation(z, one, zero, { mode: 'train', slope: 0.1 });
    const y = maxPool(a, { window: 3, stride: 2, padding: 1 });
    results.push([...(await y.read()), ...(await gradientOf(y, z, scrambled(y.shape)))]);
    gpu.flags.fuse = before;
  }
  closeTo(results[0]!, results[1]!, { atol: 1e-4, rtol: 1e-4 });
});

testHalf('f16: stored values of f32 sums', async () => {
  const shape = [1, 6, 7, 4];
  const values = scrambled(shape).map((v) => Math.round(v * 8) / 8);
  for (const [kind, pool] of Object.entries(pools)) {
    const options = { window: 3, stride: 2, padding: 1 };
    const x = tensor(gpu, values, shape, { dtype: 'f16', requiresGrad: true });
    const y = pool(x, options);
    const expected = reference(ndArray(shape, values), kind as 'max', options);
    closeTo(await y.read(), expected.data, { rtol: 2 ** -11 }, kind);
    const dx = backward(y, tensor(gpu, 1, y.shape, { dtype: 'f16' })).get(x)!;
    closeTo([(await dx.read()).reduce((a, b) => a + b, 0)], [y.size], { atol: 0.02 }, kind);
  }
});

test('what does not fit is refused', async () => {
  const x = tensor(gpu, 0, [1, 4, 5, 1]);
  const says = (options: unknown, message: RegExp): Promise<void> =>
    refuses(() => maxPool(x, options as AveragePoolOptions), ShapeError, message);
  await says(3, /maxPool: got options 3, expected an object of window, stride/);
  await says({ size: 3 }, /maxPool: unknown option 'size'.*It is called 'window'/);
  await says({ countPadding: true }, /maxPool: unknown option 'countPadding'/);
  await says({ window: 0 }, /maxPool: got window 0, expected a positive whole number, or a list of 2/);
  await says({ window: [2, 2, 2] }, /maxPool: got window \[2, 2, 2\]/);
  await says({ stride: 1.5 }, /maxPool: got stride 1.5/);
  await says({ padding: -1 }, /maxPool: got padding -1, expected a whole number of at least 0 or \[before, after\]/);
  await says({ padding: 'same' }, /maxPool: got padding 'same'/);
  await says({ ceil: 1 }, /maxPool: got ceil 1, expected a boolean/);
  await says({ window: [5, 2] }, /maxPool: a window of 5 along axis 1 of \[1,4,5,1\] with padding \[0,0\]/);
  await says({ window: 3, padding: [[3, 0], 0] }, /maxPool: a window of 3 along axis 1 .* lies in the padding \[3,0\]/);
  await says({ window: [2, 2], dilation: [1, 7], padding: [0, [2, 1]] }, /dilation 7 along axis 2/);
  await refuses(() => maxPool(tensor(gpu, 0, [4, 1]), { window: 2 }), ShapeError, /got \[4,1\], expected \[N,L,C\]/);
  await refuses(
    () => averagePool(tensor(gpu, 0, [1, 4, 1], { dtype: 'u8' }), { window: 2 }),
    ShapeError,
    /averagePool.*u8/,
  );
});

test.run();
