import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { concat, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { at, fromIndex, type NdArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('concat');

function joined(xs: NdArray[], axis: number): NdArray {
  const along = axis < 0 ? axis + xs[0]!.shape.length : axis;
  const total = xs.reduce((sum, x) => sum + x.shape[along]!, 0);
  return fromIndex(xs[0]!.shape.with(along, total), (index) => {
    let rest = index[along]!;
    const x = xs.find(({ shape }) => rest < shape[along]! || (rest -= shape[along]!) < 0)!;
    // A size of 1 along the axis must not repeat.
    return at(x, index.with(along, rest));
  });
}

const cases: [number[][], number][] = [
  [[[1], [1]], 0],
  [[[3], [257], [1]], 0],
  [
    [
      [2, 3, 4],
      [2, 3, 8],
    ],
    -1,
  ],
  [
    [
      [2, 3, 5],
      [2, 3, 3],
    ],
    2,
  ],
  [
    [
      [2, 3, 4],
      [1, 3, 4],
      [3, 3, 4],
    ],
    0,
  ],
  [
    [
      [2, 3, 4, 5, 3],
      [2, 1, 4, 5, 3],
    ],
    1,
  ],
];
for (const [shapes, axis] of cases) {
  test(`${shapes.map((shape) => `[${shape}]`).join(' ')} along ${axis}`, () =>
    checkOp({
      op: (...xs) => concat(xs, axis),
      reference: (...xs) => joined(xs, axis),
      inputs: shapes.map((shape) => ({ shape })),
    }));
}

test('one tensor twice', () =>
  checkOp({
    op: (x) => concat([x!, x!], 1),
    reference: (x) => joined([x!, x!], 1),
    inputs: [{ shape: [3, 5] }],
  }));

test('labels', async () => {
  const gpu = await testGpu();
  const a = tensor(gpu, [1, 2, 3, 4], [1, 4], { dtype: 'u8' });
  const b = tensor(gpu, [5, 6, 7, 8], [1, 4], { dtype: 'u8' });
  assert.equal([...(await concat([a, b], 0).read())], [1, 2, 3, 4, 5, 6, 7, 8]);
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [2, 3]);
  await refuses(() => concat([], 0), ShapeError, /no inputs/);
  await refuses(() => concat([x, tensor(gpu, 0, [3, 2])], 0), ShapeError, /f32 \[2,3\] and f32 \[3,2\]/);
  await refuses(() => concat([x, tensor(gpu, 0, [2, 3], { dtype: 'u32' })], 0), ShapeError, /u32/);
  await refuses(() => concat([x, x], 2), ShapeError, /axes/);
});

test.run();
