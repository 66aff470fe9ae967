import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, maximum, minimum, type Operand, pow, sum, type Tensor, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { at, fromIndex, mapArray, type NdArray } from '../reference/nd-array.js';
import { unless } from '../unless.js';

const test = suite('powers and extrema');
const testHalf = unless(await lacking('shader-f16'), test);
const [n, inf] = [Number.NaN, Number.POSITIVE_INFINITY];

function broadcast(a: NdArray, b: NdArray, f: (a: number, b: number) => number): NdArray {
  const rank = Math.max(a.shape.length, b.shape.length);
  const size = (x: NdArray, axis: number): number => x.shape[axis - rank + x.shape.length] ?? 1;
  const shape = Array.from({ length: rank }, (_, axis) => Math.max(size(a, axis), size(b, axis)));
  return fromIndex(shape, (index) => f(at(a, index), at(b, index)));
}

const ops: [string, (a: Operand, b: Operand) => Tensor, (a: number, b: number) => number][] = [
  ['minimum', minimum, Math.min],
  ['maximum', maximum, Math.max],
  ['pow', pow, (a, b) => a ** b],
];
for (const [name, op, formula] of ops) {
  for (const [a, b] of [
    [[257], [257]],
    [[2, 3, 4], [4]],
    [
      [3, 1],
      [2, 1, 5],
    ],
    [[], [7]],
  ]) {
    test(`${name} [${a}] [${b}]`, () =>
      checkOp({
        op: (x, y) => op(x!, y!),
        reference: (x, y) => broadcast(x!, y!, formula),
        inputs: [{ shape: a!, range: [0.3, 2] }, { shape: b! }],
      }));
  }
  test(`${name} with a number`, async () => {
    for (const number of [1, 0.5, 3]) {
      await checkOp({
        op: (x) => op(x!, number),
        reference: (x) => mapArray(x!, (v) => formula(v, number)),
        inputs: [{ shape: [3, 5], avoid: number, range: [0.2, 4] }],
      });
    }
    await checkOp({
      op: (x) => op(2, x!),
      reference: (x) => mapArray(x!, (v) => formula(2, v)),
      inputs: [{ shape: [3, 4], avoid: 2 }],
    });
  });
}

test('equals share the gradient; NaN wins; of equals the first', async () => {
  const gpu = await testGpu();
  for (const size of [8, 7]) {
    const a = tensor(gpu, [1, 2, n, 0, inf, -0, 3, 5].slice(0, size), [size], { requiresGrad: true });
    const b = tensor(gpu, [1, 3, 1, n, -inf, 0, 3, 4].slice(0, size), [size], { requiresGrad: true });
    const least = minimum(a, b);
    closeTo(await least.read(), [1, 2, n, n, -inf, 0, 3, 4].slice(0, size));
    assert.ok(Object.is((await minimum(a, b).read())[5], -0));
    closeTo(await maximum(a, b).read(), [1, 3, n, n, inf, 0, 3, 5].slice(0, size));
    const gradients = backward(sum(least));
    closeTo(await gradients.get(a)!.read(), [0.5, 1, n, n, 0, 0.5, 0.5, 0].slice(0, size));
    closeTo(await gradients.get(b)!.read(), [0.5, 0, n, n, 1, 0.5, 0.5, 1].slice(0, size));
  }
});

test('pow is C’s: signs, zeros, infinities and NaN', async () => {
  const gpu = await testGpu();
  const values = [-inf, -2.5, -2, -1, -0.5, -0, 0, 0.5, 1, 1.5, 3, inf, n];
  const pairs = values.flatMap((a) => [-inf, -3, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 16777217, inf, n].map((b) => [a, b]));
  const column = (k: number): Tensor =>
    tensor(
      gpu,
      pairs.map((pair) => pair[k]!),
    );
  // JavaScript differs from C: 1 ** NaN and ±1 ** ±∞ are NaN there.
  const exact = ([a, b]: number[]): number =>
    a === 1 || (a === -1 && Math.abs(b!) === inf) ? 1 : Math.fround(a! ** Math.fround(b!));
  const got = await pow(column(0), column(1)).read();
  pairs.forEach((pair, i) => {
    const expected = exact(pair);
    const close = Object.is(got[i], expected) || Math.abs(got[i]! - expected) <= 3e-7 * Math.abs(expected);
    assert.ok(close, `${pair[0]} ** ${pair[1]}: got ${got[i]}, expected ${expected}`);
  });
});

test('pow has the digits that f32 has, up to its whole range', async () => {
  const gpu = await testGpu();
  const pairs: number[][] = [];
  for (let i = 0; i < 4000; i++) {
    const x = Math.fround(2 ** (((i * 37) % 401) / 20 - 10) * (1 + i / 8000));
    const most = 126 / Math.max(Math.abs(Math.log2(x)), 1e-6);
    pairs.push([x, Math.fround(Math.min(most, 1e7) * Math.sin(i))]);
  }
  for (let i = 1; i < 200; i++) pairs.push([1 + (i - 100) * 2 ** -23, Math.fround(5e5 * Math.cos(i))]);
  const column = (k: number): Tensor =>
    tensor(
      gpu,
      pairs.map((pair) => pair[k]!),
    );
  const got = await pow(column(0), column(1)).read();
  let worst = 0;
  let what = '';
  pairs.forEach(([x, y], i) => {
    const exact = x! ** y!;
    const error = Math.abs(got[i]! - exact) / exact / 2 ** -23;
    if (!(error <= worst)) [worst, what] = [error, `${x} ** ${y}: got ${got[i]}, expected ${exact}`];
  });
  assert.ok(worst < 2.5, `${worst} units: ${what}`);
});

test('the gradient of pow at 0 and of negative numbers', async () => {
  const gpu = await testGpu();
  const a = tensor(gpu, [0, 0, 0, 0, -2, -2, 3, 0], [8], { requiresGrad: true });
  const b = tensor(gpu, [2, 1, 0, 0.5, 3, -1, 0, -1], [8], { requiresGrad: true });
  const gradients = backward(sum(pow(a, b)));
  closeTo(await gradients.get(a)!.read(), [0, 1, 0, inf, 12, -0.25, 0, -inf], { rtol: 1e-6 });
  closeTo(await gradients.get(b)!.read(), [0, 0, 0, 0, n, n, Math.log(3), -inf], { rtol: 1e-6 });
});

testHalf('f16', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2, 3, 4, 5], [5], { dtype: 'f16', requiresGrad: true });
  const y = pow(minimum(x, 3), 2);
  assert.is(y.dtype, 'f16');
  closeTo(await y.read(), [1, 4, 9, 9, 9]);
  closeTo(await backward(sum(y)).get(x)!.read(), [2, 4, 3, 0, 0]);
});

test.run();
