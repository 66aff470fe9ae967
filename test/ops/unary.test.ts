import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  abs,
  backward,
  ceil,
  clamp,
  cos,
  detach,
  erf,
  exp,
  floor,
  gelu,
  log,
  mul,
  neg,
  reciprocal,
  round,
  rsqrt,
  ShapeError,
  sigmoid,
  sign,
  silu,
  sin,
  softplus,
  sqrt,
  square,
  sum,
  type Tensor,
  tanh,
  tensor,
} from '../../engine/index.js';
import { type CheckedInput, checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { mapArray } from '../reference/nd-array.js';
import { errorFunction, normalProbability } from '../reference/special-functions.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('unary');
const testHalf = unless(await lacking('shader-f16'), test);

const logistic = (v: number): number => 1 / (1 + Math.exp(-v));
const geluTanh = (v: number): number => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));

const ops: [string, (x: Tensor) => Tensor, (v: number) => number, Partial<CheckedInput>][] = [
  ['neg', neg, (v) => -v, {}],
  ['exp', exp, Math.exp, {}],
  ['log', log, Math.log, { range: [0.1, 4] }],
  ['sqrt', sqrt, Math.sqrt, { range: [0.1, 4] }],
  ['square', square, (v) => v * v, {}],
  ['abs', abs, Math.abs, { avoid: 0 }],
  ['clamp', (x) => clamp(x, -10, 1), (v) => Math.min(1, Math.max(-10, v)), { avoid: 1 }],
  ['clamp below', (x) => clamp(x, 0.5, 10), (v) => Math.min(10, Math.max(0.5, v)), { avoid: 0.5 }],
  ['rsqrt', rsqrt, (v) => 1 / Math.sqrt(v), { range: [0.1, 4] }],
  ['reciprocal', reciprocal, (v) => 1 / v, { range: [0.2, 4] }],
  ['sin', sin, Math.sin, { range: [-8, 8] }],
  ['cos', cos, Math.cos, { range: [-8, 8] }],
  ['erf', erf, errorFunction, {}],
  ['tanh', tanh, Math.tanh, {}],
  ['sigmoid', sigmoid, logistic, { range: [-6, 6] }],
  ['silu', silu, (v) => v * logistic(v), { range: [-6, 6] }],
  ['softplus', softplus, (v) => Math.log1p(Math.exp(v)), { range: [-6, 6] }],
  ['gelu', (x) => gelu(x), (v) => v * normalProbability(v), { range: [-6, 6] }],
  ['gelu, tanh', (x) => gelu(x, { approximate: 'tanh' }), geluTanh, { range: [-6, 6] }],
];

for (const [name, op, formula, input] of ops) {
  for (const shape of [[1], [257], [2, 3, 4, 3, 4]]) {
    test(`${name} [${shape}]`, () =>
      checkOp({
        op: (x) => op(x!),
        reference: (x) => mapArray(x!, formula),
        inputs: [{ shape, ...input }],
        rtol: 2e-5,
      }));
  }
}

const [n, inf] = [Number.NaN, Number.POSITIVE_INFINITY];
const special = [-inf, -1e30, -0, 0, 1e30, inf, n];
const limits: [string, (x: Tensor) => Tensor, number[], number[] | undefined][] = [
  // op, its values at the numbers above, its gradients there
  ['rsqrt', rsqrt, [n, n, -inf, inf, 1e-15, 0, n], [n, n, -inf, -inf, -0.5e-45, -0, n]],
  ['reciprocal', reciprocal, [-0, -1e-30, -inf, inf, 1e-30, 0, n], [-0, -0, -inf, -inf, -0, -0, n]],
  ['sin', sin, [n, Math.sin(Math.fround(-1e30)), -0, 0, Math.sin(Math.fround(1e30)), n, n], undefined],
  ['erf', erf, [-1, -1, -0, 0, 1, 1, n], [0, 0, 2 / Math.sqrt(Math.PI), 2 / Math.sqrt(Math.PI), 0, 0, n]],
  ['tanh', tanh, [-1, -1, -0, 0, 1, 1, n], [0, 0, 1, 1, 0, 0, n]],
  ['sigmoid', sigmoid, [0, 0, 0.5, 0.5, 1, 1, n], [0, 0, 0.25, 0.25, 0, 0, n]],
  ['silu', silu, [-0, -0, -0, 0, 1e30, inf, n], [0, 0, 0.5, 0.5, 1, 1, n]],
  ['softplus', softplus, [0, 0, Math.LN2, Math.LN2, 1e30, inf, n], [0, 0, 0.5, 0.5, 1, 1, n]],
  ['gelu', (x) => gelu(x), [-0, -0, -0, 0, 1e30, inf, n], [0, 0, 0.5, 0.5, 1, 1, n]],
  ['gelu, tanh', (x) => gelu(x, { approximate: 'tanh' }), [-0, -0, -0, 0, 1e30, inf, n], [0, 0, 0.5, 0.5, 1, 1, n]],
];
for (const [name, op, values, slopes] of limits) {
  test(`${name} of infinities, zeros and NaN`, async () => {
    for (const size of [7, 8]) {
      const x = tensor(await testGpu(), [...special, 1].slice(0, size), [size], { requiresGrad: true });
      const y = op(x);
      closeTo((await y.read()).slice(0, 7), values, { rtol: 1e-6, atol: 1e-37 }, 'value');
      const dx = await backward(sum(y)).get(x)!.read();
      if (slopes) closeTo(dx.slice(0, 7), slopes, { rtol: 1e-6, atol: 1e-37 }, 'gradient');
    }
  });
}

test('functions have the digits that f32 has', async () => {
  const gpu = await testGpu();
  const draw = (low: number, high: number): number[] =>
    Array.from({ length: 2048 }, (_, i) => Math.fround(low + ((high - low) * (i + 0.37)) / 2048));
  const powers = Array.from({ length: 2048 }, (_, i) => Math.fround((i % 2 ? -1 : 1) * 1.37 ** (i / 8 - 128)));
  const cases: [string, (x: Tensor) => Tensor, (v: number) => number, number[]][] = [
    ['sin', sin, Math.sin, [...draw(-10, 10), ...powers]],
    ['cos', cos, Math.cos, [...draw(-10, 10), ...powers]],
    ['tanh', tanh, Math.tanh, [...draw(-3, 3), ...powers]],
    ['erf', erf, errorFunction, draw(-4.5, 4.5)],
    ['sigmoid', sigmoid, logistic, draw(-80, 20)],
    ['softplus', softplus, (v) => Math.log1p(Math.exp(v)), draw(-80, 20)],
    ['gelu', (x) => gelu(x), (v) => v * normalProbability(v), draw(-12, 6)],
    ['silu', silu, (v) => v / (1 + Math.exp(-v)), draw(-80, 20)],
  ];
  for (const [name, op, exact, xs] of cases) {
    const got = await op(tensor(gpu, xs)).read();
    let worst = 0;
    let where = 0;
    xs.forEach((x, i) => {
      const y = exact(x);
      const error = Math.abs(got[i]! - y) / Math.max(Math.abs(y), 2 ** -126) / 2 ** -23;
      if (!(error <= worst)) [worst, where] = [error, i];
    });
    assert.ok(worst <= 3.5, `${name}: ${worst} units at ${xs[where]}: ${got[where]}, not ${exact(xs[where]!)}`);
  }
});

test('floor, ceil, round and sign: whole numbers, ties to even, and what has none', async () => {
  const gpu = await testGpu();
  const even = (v: number): number => (Math.abs(v % 1) === 0.5 ? 2 * Math.round(v / 2) : Math.round(v));
  const xs = [-2.5, -1.5, -0.5, -0.25, -0, 0, 0.5, 1.5, 2.5, 0.49999997, 8388607.5, 2 ** 99, -(2 ** 99), inf, -inf, n];
  for (const size of [16, 15]) {
    const x = tensor(gpu, xs.slice(-size), [size], { requiresGrad: true });
    for (const [op, exact] of [
      [floor, Math.floor],
      [ceil, Math.ceil],
      [round, even],
      [sign, Math.sign],
    ] as const) {
      closeTo(await op(x).read(), xs.slice(-size).map(exact), { atol: 0, rtol: 0 }, op.name);
      await refuses(() => backward(sum(op(x))), ShapeError, /no parameter/);
    }
  }
});

test('detach ends a gradient', async () => {
  const x = tensor(await testGpu(), [2, 3], [2], { requiresGrad: true });
  closeTo(
    await backward(sum(mul(x, detach(square(x)))))
      .get(x)!
      .read(),
    [4, 9],
  );
});

testHalf('f16', async () => {
  const gpu = await testGpu();
  const xs = [-3, -0.5, 0.25, 1, 5, 9, 0.125];
  const half = tensor(gpu, xs, [7], { dtype: 'f16', requiresGrad: true });
  for (const [name, op, formula] of ops.slice(-7)) {
    const y = op(half);
    assert.is(y.dtype, 'f16');
    closeTo(await y.read(), xs.map(formula), { rtol: 1e-3, atol: 1e-6 }, name);
    assert.is(backward(sum(y)).get(half)!.dtype, 'f16');
  }
});

test('integers are refused, and what is no tensor', async () => {
  const labels = tensor(await testGpu(), [1, 2], [2], { dtype: 'u8' });
  await refuses(() => tanh(labels), ShapeError, /tanh.*u8/);
  await refuses(() => sin(3 as unknown as Tensor), ShapeError, /sin.*expected a tensor/);
  await refuses(
    () => gelu(labels, { approximate: 'erf' as 'none' }),
    ShapeError,
    /gelu: approximate.*'none' or 'tanh'/,
  );
});

test('clamp refuses limits in the wrong order', async () => {
  const x = tensor(await testGpu(), [1]);
  await refuses(() => clamp(x, 1, 0), ShapeError, /wrong order/);
});

test.run();
