import { suite } from 'uvu';
import { add, div, mul, ShapeError, sub, type Tensor, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { lacking, testGpu } from '../gpu.js';
import { at, fromIndex, mapArray, type NdArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('arithmetic');
const testHalf = unless(await lacking('shader-f16'), test);

type Operand = Tensor | number;
const ops: [string, (a: Operand, b: Operand) => Tensor, (a: number, b: number) => number][] = [
  ['add', add, (a, b) => a + b],
  ['sub', sub, (a, b) => a - b],
  ['mul', mul, (a, b) => a * b],
  ['div', div, (a, b) => a / b],
];

/** numpy's broadcasting, index by index. */
function broadcast(a: NdArray, b: NdArray, f: (a: number, b: number) => number): NdArray {
  const rank = Math.max(a.shape.length, b.shape.length);
  const size = (x: NdArray, axis: number): number => x.shape[axis - rank + x.shape.length] ?? 1;
  const shape = Array.from({ length: rank }, (_, axis) => Math.max(size(a, axis), size(b, axis)));
  return fromIndex(shape, (index) => f(at(a, index), at(b, index)));
}

const shapes: [number[], number[]][] = [
  [[], []],
  [[1], [1]],
  [[257], [257]],
  [
    [2, 3, 4, 5],
    [2, 3, 4, 5],
  ],
  [[7], []],
  [[], [2, 3]],
  [[2, 3, 4, 8], [8]],
  [[2, 3, 4, 5], [5]],
  [
    [2, 1, 4, 1],
    [1, 3, 1, 4],
  ],
  [
    [3, 1, 8],
    [2, 1, 5, 8],
  ],
  [
    [2, 3, 1, 4],
    [2, 1, 6, 4],
  ],
  [
    [1, 1, 3],
    [4, 1],
  ],
];

for (const [name, op, formula] of ops) {
  for (const [a, b] of shapes) {
    test(`${name} [${a}] [${b}]`, () =>
      checkOp({
        op: (x, y) => op(x!, y!),
        reference: (x, y) => broadcast(x!, y!, formula),
        inputs: [{ shape: a }, { shape: b, range: [0.5, 2] }],
      }));
  }
  test(`${name} with a number`, async () => {
    await checkOp({
      op: (x) => op(x!, 0.7),
      reference: (x) => mapArray(x!, (v) => formula(v, Math.fround(0.7))),
      inputs: [{ shape: [4, 5] }],
    });
    await checkOp({
      op: (x) => op(-3, x!),
      reference: (x) => mapArray(x!, (v) => formula(-3, v)),
      inputs: [{ shape: [4, 4], range: [0.5, 2] }],
    });
  });
}

test('one tensor on both sides', () =>
  checkOp({
    op: (x) => mul(x!, x!),
    reference: (x) => mapArray(x!, (v) => v * v),
    inputs: [{ shape: [9] }],
  }));

testHalf('f16', () =>
  checkOp({
    op: (x, y) => add(mul(x!, y!), 1),
    reference: (x, y) => broadcast(x!, y!, (a, b) => a * b + 1),
    inputs: [
      { shape: [3, 8], dtype: 'f16' },
      { shape: [8], dtype: 'f16' },
    ],
    atol: 4e-3,
    rtol: 2e-3,
  }),
);

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [2, 3]);
  await refuses(() => add(x, tensor(gpu, 1, [2])), ShapeError, /add.*\[2,3\] and \[2\]/);
  await refuses(() => add(x, tensor(gpu, 1, [2, 3], { dtype: 'u32' })), ShapeError, /f32, u32/);
  await refuses(() => add(1, 2), ShapeError, /at least one tensor/);
});

test.run();
