import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, max, mean, ShapeError, sum, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('reduce');
const testHalf = unless(await lacking('shader-f16'), test);

/** Reduction over axes by one loop over x. */
function reduce(x: NdArray, axes: number[], keepDims: boolean, kind: 'sum' | 'mean' | 'max'): NdArray {
  const kept = x.shape.map((n, axis) => (axes.includes(axis) ? 1 : n));
  const y = ndArray(kept);
  if (kind === 'max') y.data.fill(Number.NEGATIVE_INFINITY);
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
    y.data[target] = kind === 'max' ? Math.max(y.data[target]!, x.data[i]!) : y.data[target]! + x.data[i]!;
  }
  if (kind === 'mean') for (let i = 0; i < y.data.length; i++) y.data[i]! /= x.data.length / y.data.length;
  return ndArray(keepDims ? kept : kept.filter((_, axis) => !axes.includes(axis)), y.data);
}

const ops = { sum, mean, max };
const cases: [number[], number[] | undefined][] = [
  [[1], undefined],
  [[257], undefined],
  [[3, 70, 5], [1]],
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
  for (const kind of ['sum', 'mean', 'max'] as const) {
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
        // Wide for max: its differences are wrong where the two largest are nearly equal.
        inputs: [{ shape, range: kind === 'max' ? [-100, 100] : [-2, 2] }],
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

test('wrong axes are refused', async () => {
  const x = tensor(await testGpu(), 1, [2, 3]);
  await refuses(() => sum(x, 2), ShapeError, /sum: axes/);
  await refuses(() => mean(x, [0, -2]), ShapeError, /mean: axes/);
});

test.run();
