import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  max,
  mean,
  min,
  prod,
  ShapeError,
  std,
  sum,
  type Tensor,
  tensor,
  variance,
} from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('reduce');
const testHalf = unless(await lacking('shader-f16'), test);

/** Reduction over axes by one loop over x. */
function reduce(x: NdArray, axes: number[], keepDims: boolean, kind: 'sum' | 'mean' | 'max' | 'min' | 'prod'): NdArray {
  const kept = x.shape.map((n, axis) => (axes.includes(axis) ? 1 : n));
  const y = ndArray(kept);
  const starts = { sum: 0, mean: 0, max: Number.NEGATIVE_INFINITY, min: Number.POSITIVE_INFINITY, prod: 1 };
  y.data.fill(starts[kind]);
  for (let i = 0; i < x.data.length; i++) {
    let rest = i;
    let target = 0;
    let stride = 1;
    for (let axis = x.shape.length - 1; axis >= 0; axis--) {
      const index = rest % x.shape[axis]!;
      rest = Math.floor(rest / x.shape[axis]!);
      if (kept[axis] !== 1) target += index * stride;
      stride *= kept[axis]!;
    }
    const [before, v] = [y.data[target]!, x.data[i]!];
    if (kind === 'max') y.data[target] = Math.max(before, v);
    else if (kind === 'min') y.data[target] = Math.min(before, v);
    else y.data[target] = kind === 'prod' ? before * v : before + v;
  }
  if (kind === 'mean') for (let i = 0; i < y.data.length; i++) y.data[i]! /= x.data.length / y.data.length;
  return ndArray(keepDims ? kept : kept.filter((_, axis) => !axes.includes(axis)), y.data);
}

const ops = { sum, mean, max, min };
const cases: [number[], number[] | undefined][] = [
  [[1], undefined],
  [[257], undefined],
  [[3, 70, 5], [1]],
  [[2, 69, 33], [1]],
  [[3, 5, 70], [2]],
  [[3, 5, 70], [-1]],
  [
    [2, 3, 4, 5],
    [0, 1, 2],
  ],
  [
    [2, 3, 4, 5],
    [0, 3],
  ],
  [
    [2, 3, 4, 5, 3],
    [1, 3],
  ],
  [
    [2, 9, 9, 4],
    [1, 2],
  ],
  [
    [2, 33, 67, 3],
    [0, 1, 2],
  ],
  [[5000], undefined],
  [[2, 5000, 3], [1]],
  [[4, 1, 3], [1]],
];

for (const [shape, axes] of cases) {
  for (const kind of ['sum', 'mean', 'max', 'min'] as const) {
    const keepDims = shape.length % 2 === 0;
    test(`${kind} [${shape}] over ${axes ?? 'all'}${keepDims ? ', axes kept' : ''}`, () =>
      checkOp({
        op: (x) => ops[kind](x!, axes, { keepDims }),
        reference: (x) =>
          reduce(
            x!,
            (axes ?? shape.map((_, axis) => axis)).map((a) => (a < 0 ? a + shape.length : a)),
            keepDims,
            kind,
          ),
        // Wide for max and min: their differences are wrong where the two largest are nearly equal.
        inputs: [{ shape, range: kind === 'max' || kind === 'min' ? [-100, 100] : [-2, 2] }],
        atol: 1e-4,
        gradAtol: 2e-4,
      }));
  }
}

test('a number over no axes', async () => {
  await checkOp({ op: (x) => sum(x!), reference: (x) => x!, inputs: [{ shape: [] }] });
  await checkOp({ op: (x) => max(x!, []), reference: (x) => x!, inputs: [{ shape: [2, 3] }] });
});

testHalf('f16 in, f32 between', () =>
  checkOp({
    op: (x) => mean(x!, [0]),
    reference: (x) => reduce(x!, [0], false, 'mean'),
    inputs: [{ shape: [3000, 2], dtype: 'f16', range: [0, 100] }],
    atol: 0,
    rtol: 1e-3,
  }),
);

test('a million ones', async () => {
  const x = tensor(await testGpu(), 1, [1 << 20]);
  assert.is(await sum(x).item(), 1 << 20);
  assert.is(await mean(x).item(), 1);
});

test('ties share the gradient of max', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 3, 3, 2, 3, -1], [2, 3], { requiresGrad: true });
  const dx = backward(sum(max(x, 1))).get(x)!;
  assert.equal([...(await dx.read())], [0, 0.5, 0.5, 0, 1, 0]);
});

for (const [shape, axes] of [
  [[1], undefined],
  [[3, 7, 2], [1]],
  [[2, 3, 4], undefined],
  [
    [2, 5, 3],
    [0, 2],
  ],
  [[130], undefined],
] as [number[], number[] | undefined][]) {
  test(`prod [${shape}] over ${axes ?? 'all'}`, () =>
    checkOp({
      op: (x) => prod(x!, axes),
      reference: (x) => reduce(x!, axes ?? shape.map((_, axis) => axis), false, 'prod'),
      inputs: [{ shape, range: [0.8, 1.25] }],
    }));
}

test('the gradient of prod with zeros, and NaN', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [2, 0, 3, 0, 0, 5, 2, 3, -4, 1, Number.NaN, 2], [4, 3], { requiresGrad: true });
  const y = prod(x, 1);
  const expected = [0, 0, -24, Number.NaN];
  for (const [i, v] of (await y.read()).entries())
    assert.ok(Object.is(v, expected[i]) || v === expected[i], `${i}: ${v}`);
  const dx = await backward(sum(y)).get(x)!.read();
  assert.equal([...dx.slice(0, 9)], [0, 6, 0, 0, 0, 0, -12, -8, 6]);
  assert.ok(dx.slice(9).some(Number.isNaN));
});

/** Variance by two loops. */
function spread(x: NdArray, axes: number[], keepDims: boolean, correction: number): NdArray {
  const kept = reduce(x, axes, true, 'mean');
  const squares = ndArray(x.shape);
  const at = (i: number): number => {
    let [rest, target, stride] = [i, 0, 1];
    for (let axis = x.shape.length - 1; axis >= 0; axis--) {
      if (kept.shape[axis] !== 1) target += (rest % x.shape[axis]!) * stride;
      stride *= kept.shape[axis]!;
      rest = Math.floor(rest / x.shape[axis]!);
    }
    return target;
  };
  for (let i = 0; i < x.data.length; i++) squares.data[i] = (x.data[i]! - kept.data[at(i)]!) ** 2;
  const sums = reduce(squares, axes, keepDims, 'sum');
  const count = x.data.length / sums.data.length;
  return ndArray(
    sums.shape,
    sums.data.map((v) => v / (count - correction)),
  );
}

for (const [shape, axes, keepDims, correction] of [
  [[5], [0], false, 1],
  [[3, 70, 5], [1], true, 0],
  [[2, 3, 4, 5], [0, 2], false, 1],
  [[2, 33, 67], [0, 1, 2], false, 0],
  [[4, 3], [1], false, 1.5],
] as [number[], number[], boolean, number][]) {
  test(`variance and std [${shape}] over ${axes}, correction ${correction}`, async () => {
    const inputs = [{ shape }];
    const options = { keepDims, correction };
    await checkOp({
      op: (x) => variance(x!, axes, options),
      reference: (x) => spread(x!, axes, keepDims, correction),
      inputs,
    });
    await checkOp({
      op: (x) => std(x!, axes, options),
      reference: (x) => {
        const { shape: left, data } = spread(x!, axes, keepDims, correction);
        return ndArray(left, data.map(Math.sqrt));
      },
      inputs,
    });
  });
}

test('variance does not cancel; the gradient of std at 0 is 0', async () => {
  const gpu = await testGpu();
  const far = tensor(
    gpu,
    Float32Array.from({ length: 1000 }, (_, i) => 1e6 + (i % 2)),
  );
  assert.ok(Math.abs((await variance(far, undefined, { correction: 0 }).item()) - 0.25) < 1e-4);
  const same = tensor(gpu, 3, [4], { requiresGrad: true });
  assert.equal([...(await backward(std(same)).get(same)!.read())], [0, 0, 0, 0]);
  await refuses(() => variance(tensor(gpu, [1])), ShapeError, /variance: 1 elements less a correction of 1/);
});

testHalf('variance, prod and min of f16', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [100, 200, 300, 600], [4], { dtype: 'f16', requiresGrad: true });
  const values: [Tensor, number, number[]][] = [
    [variance(x, 0, { correction: 0 }), 35000, [-100, -50, 0, 150]],
    [min(x), 100, [1, 0, 0, 0]],
    [prod(mean(x, 0, { keepDims: true })), 300, [0.25, 0.25, 0.25, 0.25]],
  ];
  for (const [y, value, gradient] of values) {
    assert.is(y.dtype, 'f16');
    assert.ok(Math.abs((await y.item()) - value) <= value / 1000);
    assert.equal([...(await backward(y).get(x)!.read())], gradient);
  }
});

test('wrong axes are refused', async () => {
  const x = tensor(await testGpu(), 1, [2, 3]);
  await refuses(() => sum(x, 2), ShapeError, /sum: axes/);
  await refuses(() => mean(x, [0, -2]), ShapeError, /mean: axes/);
});

test.run();
