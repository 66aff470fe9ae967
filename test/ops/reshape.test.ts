import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { mul, reshape, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { mapArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('reshape');

const cases: [number[], number[]][] = [
  [[1], []],
  [
    [2, 3, 4],
    [6, 4],
  ],
  [[257], [1, 257, 1]],
];
for (const [from, to] of cases) {
  test(`[${from}] to [${to}]`, () =>
    checkOp({
      op: (x) => mul(reshape(x!, to), 3),
      reference: (x) => ndArray(to, mapArray(x!, (v) => 3 * v).data),
      inputs: [{ shape: from }],
    }));
}

test('both names of one storage in one launch', () =>
  checkOp({
    op: (x) => mul(reshape(x!, [12]), reshape(reshape(x!, [3, 4]), [12])),
    reference: (x) =>
      ndArray(
        [12],
        x!.data.map((v) => v * v),
      ),
    inputs: [{ shape: [2, 6] }],
  }));

test('moves nothing', async () => {
  const x = tensor(await testGpu(), [1, 2, 3, 4, 5, 6]);
  assert.is(reshape(x, [2, 3]).storage, x.storage);
});

test('another size is refused', async () => {
  const x = tensor(await testGpu(), 0, [2, 3]);
  await refuses(() => reshape(x, [4]), ShapeError, /reshape: \[4\] has 4 elements, \[2,3\] has 6/);
  await refuses(() => reshape(x, [0, 6]), ShapeError, /positive integers/);
  assert.equal(reshape(x, [-1, 6]).shape, [1, 6]);
  for (const shape of [
    [-1, 4],
    [-1, -1],
  ])
    await refuses(() => reshape(x, shape), ShapeError, /leaves no whole size for the −1/);
});

test.run();
