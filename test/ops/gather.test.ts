import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  createSgd,
  type Dtype,
  embedding,
  gather,
  mul,
  oneHot,
  ShapeError,
  scatterAdd,
  sum,
  tensor,
} from '../../engine/index.js';
import { linkBlock } from '../../shaders/gather.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { at, fromIndex, type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('gather');
const testHalf = unless(await lacking('shader-f16'), test);

/** numpy's take. */
const take = (x: NdArray, indices: NdArray, axis: number): NdArray =>
  fromIndex([...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)], (index) => {
    const middle = index.slice(axis, axis + indices.shape.length);
    return at(x, index.toSpliced(axis, indices.shape.length, at(indices, middle)));
  });

/** x with the updates added, one at a time. */
function added(x: NdArray, indices: NdArray, updates: NdArray, axis: number): NdArray {
  const y = ndArray(x.shape, x.data);
  const inner = x.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const [n, count] = [x.shape[axis]!, indices.data.length];
  for (let u = 0; u < updates.data.length; u++) {
    const j = Math.floor(u / inner) % count;
    const o = Math.floor(u / inner / count);
    y.data[(o * n + indices.data[j]!) * inner + (u % inner)]! += updates.data[u]!;
  }
  return y;
}

for (const [shape, indices, axis] of [
  [[5], [1], 0],
  [[5, 3], [7], 0],
  [[5, 8], [2, 4], 0],
  [[2, 6, 3], [9], 1],
  [[2, 6, 4], [2, 2], 1],
  [[3, 7], [300], 1],
  [[4, 2], [], 0],
] as [number[], number[], number][]) {
  for (const dtype of ['u8', 'u32', 'i32'] as const) {
    const index = { shape: indices, dtype, range: [0, shape[axis]! - 1] as const };
    test(`gather [${shape}] at [${indices}] ${dtype} along ${axis}`, () =>
      checkOp({
        op: (x, i) => gather(x!, i!, axis),
        reference: (x, i) => take(x!, i!, axis),
        inputs: [{ shape }, index],
      }));
  }
  const index = { shape: indices, dtype: 'u32', range: [0, shape[axis]! - 1] } as const;
  const updates = [...shape.slice(0, axis), ...indices, ...shape.slice(axis + 1)];
  test(`scatterAdd [${shape}] at [${indices}] along ${axis}`, () =>
    checkOp({
      op: (x, i, u) => scatterAdd(x!, i!, u!, axis - shape.length),
      reference: (x, i, u) => added(x!, i!, u!, axis),
      inputs: [{ shape }, index, { shape: updates }],
    }));
}

test('an embedding: repeated rows, and rows that are not used', async () => {
  const gpu = await testGpu();
  const table = tensor(gpu, [1, 2, 3, 4, 5, 6], [3, 2], { requiresGrad: true });
  const y = embedding(
    table,
    tensor(
      gpu,
      [
        [2, 0],
        [2, 2],
      ],
      undefined,
      { dtype: 'u8' },
    ),
  );
  assert.equal([...y.shape], [2, 2, 2]);
  closeTo(await y.read(), [5, 6, 1, 2, 5, 6, 5, 6]);
  const weights = tensor(gpu, [1, 10, 100, 1000, 2, 20, 3, 30], [2, 2, 2]);
  const gradients = backward(sum(mul(y, weights)));
  closeTo(await gradients.get(table)!.read(), [100, 1000, 0, 0, 6, 60]);
  createSgd([table]).step(gradients, tensor(gpu, 1)); // the table is packed then
  closeTo(await table.read(), [-99, -998, 3, 4, -1, -54]);
});

test('sums of many blocks of indices are in order, and repeat bit for bit', async () => {
  const gpu = await testGpu();
  const count = 2 * linkBlock + 77;
  for (const n of [1, 50, count]) {
    const at = Array.from({ length: count }, (_, j) => (n === count ? (j * 7) % count : (j * j + (j >> 3)) % n));
    const values = Float32Array.from({ length: count }, (_, j) => Math.sin(j) * 10 ** (j % 5));
    const expected = new Float32Array(n);
    for (let j = 0; j < count; j++) expected[at[j]!]! += values[j]!;
    const indices = tensor(gpu, at, [count], { dtype: 'u32' });
    const zeros = tensor(gpu, 0, [n]);
    const y = await scatterAdd(zeros, indices, tensor(gpu, values)).read();
    assert.equal([...y].slice(0, 100), [...expected].slice(0, 100), `${n} rows`);
    assert.equal([...y], [...expected]);
  }
});

for (const dtype of ['f16', 'u32', 'i32', 'u8'] as Dtype[]) {
  (dtype === 'f16' ? testHalf : test)(`rows of ${dtype}`, async () => {
    const gpu = await testGpu();
    for (const inner of [3, 4]) {
      const values = ndArray(
        [4, inner],
        Array.from({ length: 4 * inner }, (_, i) => i + 1),
      );
      const places = ndArray([5], [3, 0, 1, 3, 2]);
      const x = tensor(gpu, values.data, [4, inner], { dtype });
      const y = gather(x, tensor(gpu, places.data, [5], { dtype: 'i32' }));
      assert.is(y.dtype, dtype);
      closeTo(await y.read(), take(values, places, 0).data);
    }
  });
}

testHalf('the gradient of f16 rows is summed in f32', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [2, 1], { dtype: 'f16', requiresGrad: true });
  const dx = backward(sum(gather(x, tensor(gpu, 1, [3000], { dtype: 'u8' })))).get(x)!;
  closeTo(await dx.read(), [0, 3000]);
});

test('an index outside gives NaN, or 0, and has no gradient', async () => {
  const gpu = await testGpu();
  for (const inner of [1, 4]) {
    const x = tensor(gpu, 1, [3, inner], { requiresGrad: true });
    const indices = tensor(gpu, [-1, 2, 3, 2 ** 31 - 1, 0], [5], { dtype: 'i32' });
    const repeated = (row: number[]): number[] => row.flatMap((v) => new Array(inner).fill(v));
    const y = gather(x, indices);
    closeTo(await y.read(), repeated([NaN, 1, NaN, NaN, 1]));
    closeTo(await backward(sum(y)).get(x)!.read(), repeated([1, 0, 1]));
    const bytes = tensor(gpu, 7, [3, inner], { dtype: 'u8' });
    closeTo(await gather(bytes, indices).read(), repeated([0, 7, 0, 0, 7]));
    const updates = tensor(gpu, 2, [5, inner], { requiresGrad: true });
    const z = scatterAdd(x, indices, updates);
    closeTo(await z.read(), repeated([3, 1, 3]));
    closeTo(await backward(sum(z)).get(updates)!.read(), repeated([0, 1, 0, 0, 1]));
  }
});

test('WGRAD_CHECK_LABELS reports indices outside', async () => {
  const gpu = await testGpu();
  const before = gpu.flags.checkLabels;
  gpu.flags.checkLabels = true;
  try {
    const x = tensor(gpu, [1, 2, 3]);
    const indices = tensor(gpu, [0, 3, -2, 1], [4], { dtype: 'i32' });
    const message = /gather: 2 of 4 indices are outside — got from -2 to 3, expected 0 to 2/;
    await refuses(() => gather(x, indices).read(), Error, message);
    await refuses(() => oneHot(indices, 3).read(), Error, /oneHot: 2 of 4/);
    closeTo(await gather(x, tensor(gpu, [2, 0], [2], { dtype: 'u8' })).read(), [3, 1]);
  } finally {
    gpu.flags.checkLabels = before;
  }
});

for (const dtype of ['f32', 'f16', 'u32', 'i32', 'u8'] as Dtype[]) {
  (dtype === 'f16' ? testHalf : test)(`oneHot of ${dtype}`, async () => {
    const gpu = await testGpu();
    for (const index of ['u8', 'u32', 'i32'] as const) {
      const y = oneHot(tensor(gpu, [0, 2, 4, 5, 1], [5], { dtype: index }), 5, dtype);
      assert.is(y.dtype, dtype);
      assert.equal([...y.shape], [5, 5]);
      const expected = [0, 2, 4, 5, 1].flatMap((k) => [0, 1, 2, 3, 4].map((c) => Number(c === k)));
      assert.equal([...(await y.read())], expected);
    }
    assert.equal([...(await oneHot(tensor(gpu, -1, [], { dtype: 'i32' }), 3, dtype).read())], [0, 0, 0]);
  });
}

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [2, 3]);
  const indices = tensor(gpu, [0, 1], [2], { dtype: 'u8' });
  await refuses(() => gather(x, x), ShapeError, /gather: got indices f32 \[2,3\], expected u8, u32 or i32/);
  await refuses(() => gather(x, indices, 2), ShapeError, /gather: axes/);
  await refuses(() => embedding(x, [0, 1] as unknown as typeof x), ShapeError, /embedding: input 1/);
  await refuses(() => scatterAdd(x, indices, x, 1), ShapeError, /expected \[2,2\]/);
  await refuses(() => oneHot(indices, 0), ShapeError, /oneHot: the number of classes is 0/);
  await refuses(() => oneHot(indices, 2, 'float' as Dtype), ShapeError, /oneHot: unknown dtype/);
});

test.run();
