import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { argmax, argmin, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('argmax');

function reference(x: NdArray): NdArray {
  const classes = x.shape.at(-1)!;
  const y = ndArray(x.shape.slice(0, -1));
  for (let row = 0; row < y.data.length; row++) {
    for (let k = 1; k < classes; k++) {
      if (x.data[row * classes + k]! > x.data[row * classes + y.data[row]!]!) y.data[row] = k;
    }
  }
  return y;
}

for (const shape of [[1], [5], [1, 4], [3, 1], [257, 4], [2, 3, 5, 3], [3, 256]]) {
  test(`[${shape}]`, () => checkOp({ op: (x) => argmax(x!), reference, inputs: [{ shape, grad: false }] }));
}

test('the first of equals', async () => {
  const x = tensor(await testGpu(), [1, 1, 0, 0, 2, 2, -1, -1, -1], [3, 3]);
  assert.equal([...(await argmax(x).read())], [0, 1, 0]);
});

/** The index of the largest (or smallest) along the middle of [outer, count, inner]. */
function along(x: NdArray, axis: number, sign: number): NdArray {
  const outer = x.shape.slice(0, axis).reduce((a, b) => a * b, 1);
  const count = x.shape[axis]!;
  const inner = x.data.length / outer / count;
  const y = ndArray(x.shape.toSpliced(axis, 1));
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const v = (r: number): number => sign * x.data[(o * count + r) * inner + i]!;
      let best = 0;
      for (let r = 1; r < count; r++) if (v(r) > v(best)) best = r;
      y.data[o * inner + i] = best;
    }
  }
  return y;
}

for (const [shape, axis] of [
  [[5, 3], 0],
  [[2, 7, 3], 1],
  [[3, 256], 1],
  [[257], 0],
  [[3, 1000], 1],
  [[2, 300, 3], 1],
  [[2, 3, 5], 2],
] as [number[], number][]) {
  test(`[${shape}] along ${axis}`, async () => {
    const inputs = [{ shape, grad: false }];
    await checkOp({ op: (x) => argmax(x!, axis), reference: (x) => along(x!, axis, 1), inputs });
    await checkOp({ op: (x) => argmin(x!, axis - shape.length), reference: (x) => along(x!, axis, -1), inputs });
  });
}

test('u8 up to 256 elements, then u32; ties, infinities and NaN', async () => {
  const gpu = await testGpu();
  for (const [count, dtype] of [
    [256, 'u8'],
    [257, 'u32'],
  ] as const) {
    const row = (values: Record<number, number>): Float32Array => {
      const data = new Float32Array(count);
      for (const [i, v] of Object.entries(values)) data[Number(i)] = v;
      return data;
    };
    const rows = [
      row({}),
      row({ 70: 3, 200: 3, 90: -3, 201: -3 }),
      row({ 255: Infinity, 1: -Infinity }),
      row({ 250: NaN, 130: NaN, 3: Infinity, 4: -Infinity }),
      row({}).fill(-Infinity),
      row({}).fill(Infinity),
    ];
    const x = tensor(
      gpu,
      rows.flatMap((r) => [...r]),
      [rows.length, count],
    );
    assert.is(argmax(x).dtype, dtype);
    assert.is(argmin(x, 1).dtype, dtype);
    assert.equal([...(await argmax(x).read())], [0, 70, 255, 130, 0, 0]);
    assert.equal([...(await argmin(x).read())], [0, 90, 1, 130, 0, 0]);
  }
  await refuses(() => argmax(tensor(gpu, 1)), ShapeError, /argmax.*at least one axis/);
  await refuses(() => argmin(tensor(gpu, [1]), 1), ShapeError, /argmin: axes/);
});

test.run();
