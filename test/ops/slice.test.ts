import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError, slice, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { lacking, testGpu } from '../gpu.js';
import { at, fromIndex } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('slice');
const testHalf = unless(await lacking('shader-f16'), test);

const cases: [number[], number, number, number][] = [
  [[1], 0, 0, 1],
  [[257], 0, 3, 100],
  [[8, 4], 0, 2, 4],
  [[5, 6, 7], 0, 1, 3],
  [[5, 6, 7], 1, 2, 4],
  [[5, 6, 7], -1, 0, 3],
  [[2, 3, 4, 5, 16], 4, 4, 8],
  [[2, 3, 4, 5, 16], 2, 3, 1],
];
for (const [shape, axis, first, count] of cases) {
  test(`${count} from ${first} along ${axis} of [${shape}]`, () =>
    checkOp({
      op: (x) => slice(x!, axis, first, count),
      reference: (x) => {
        const along = axis < 0 ? axis + shape.length : axis;
        return fromIndex(shape.with(along, count), (index) => at(x!, index.with(along, index[along]! + first)));
      },
      inputs: [{ shape }],
    }));
}

for (const [shape, axis, first, count, step] of [
  [[9], 0, 1, 3, 3],
  [[9], 0, 8, 5, -2],
  [[3, 8, 4], 1, 0, 4, 2],
  [[3, 7, 2], 1, 6, 7, -1],
  [[4, 5], 0, 3, 2, -3],
] as [number[], number, number, number, number][]) {
  test(`${count} from ${first} along ${axis} of [${shape}], ${step} apart`, () =>
    checkOp({
      op: (x) => slice(x!, axis, first, count, { step }),
      reference: (x) =>
        fromIndex(shape.with(axis, count), (index) => at(x!, index.with(axis, first + step * index[axis]!))),
      inputs: [{ shape }],
    }));
}

test('u8 may begin and end anywhere', async () => {
  const x = tensor(await testGpu(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [4, 3], { dtype: 'u8' });
  assert.equal([...(await slice(x, 0, 1, 2).read())], [3, 4, 5, 6, 7, 8]);
  assert.equal([...(await slice(x, 1, 2, 2, { step: -2 }).read())], [2, 0, 5, 3, 8, 6, 11, 9]);
});

for (const dtype of ['f16', 'u32', 'i32', 'u8'] as const) {
  (dtype === 'f16' ? testHalf : test)(`${dtype} is moved as it is`, async () => {
    const gpu = await testGpu();
    const values = Array.from({ length: 48 }, (_, i) => (dtype === 'i32' ? -i : i));
    const x = tensor(gpu, values, [3, 16], { dtype });
    assert.equal([...(await slice(x, 0, 1, 2).read())], values.slice(16));
    assert.equal([...(await slice(x, 1, 4, 8).read())].slice(0, 9), [...values.slice(4, 12), values[20]]);
  });
}

test('what lies outside is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [4, 3]);
  await refuses(() => slice(x, 0, 2, 3), ShapeError, /slice: 3 elements from 2 along axis 0 of \[4,3\]/);
  await refuses(() => slice(x, 0, -1, 2), ShapeError, /slice/);
  await refuses(() => slice(x, 0, 0, 0), ShapeError, /slice/);
  await refuses(() => slice(x, 2, 0, 1), ShapeError, /slice: axes/);
  await refuses(() => slice(x, 0, 0, 3, { step: 2 }), ShapeError, /slice: 3 elements from 0, 2 apart,/);
  await refuses(() => slice(x, 0, 3, 5, { step: -1 }), ShapeError, /slice/);
  await refuses(() => slice(x, 0, 0, 1, { step: 0 }), ShapeError, /slice/);
});

test.run();
