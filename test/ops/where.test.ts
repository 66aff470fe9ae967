import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  equal,
  greater,
  greaterEqual,
  less,
  lessEqual,
  notEqual,
  type Operand,
  ShapeError,
  sum,
  type Tensor,
  tensor,
  where,
} from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { at, fromIndex } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('comparisons and where');
const testHalf = unless(await lacking('shader-f16'), test);
const [n, inf] = [Number.NaN, Number.POSITIVE_INFINITY];

const comparisons: [(a: Operand, b: Operand) => Tensor, (a: number, b: number) => boolean][] = [
  [equal, (a, b) => a === b],
  [notEqual, (a, b) => a !== b],
  [less, (a, b) => a < b],
  [lessEqual, (a, b) => a <= b],
  [greater, (a, b) => a > b],
  [greaterEqual, (a, b) => a >= b],
];
const bits = (values: boolean[]): number[] => values.map(Number);

for (const [op, holds] of comparisons) {
  test(`${op.name} of floats, with infinities, zeros, subnormal numbers and NaN`, async () => {
    const gpu = await testGpu();
    const values = [-inf, -3e38, -1, -1e-40, -0, 0, 1e-40, 2e-40, 1, inf, n];
    const pairs = values.flatMap((a) => values.map((b) => [a, b] as const));
    const [a, b] = [0, 1].map((k) =>
      tensor(
        gpu,
        pairs.map((pair) => pair[k]!),
      ),
    );
    const y = op(a!, b!);
    assert.is(y.dtype, 'u8');
    assert.equal([...(await y.read())], bits(pairs.map(([p, q]) => holds(Math.fround(p), Math.fround(q)))));
    for (const number of [0, -inf, 1, n]) {
      const row = tensor(gpu, values);
      assert.equal([...(await op(row, number).read())], bits(values.map((v) => holds(v, number))), `with ${number}`);
      assert.equal([...(await op(number, row).read())], bits(values.map((v) => holds(number, v))), `${number} first`);
    }
  });
  test(`${op.name} of integers, broadcast`, async () => {
    const gpu = await testGpu();
    for (const [dtype, big] of [
      ['u8', 255],
      ['u32', 2 ** 32 - 1],
      ['i32', -(2 ** 31)],
    ] as const) {
      const [p, q] = [
        [0, 1, 7, big, big - Math.sign(big)],
        [1, big, 0],
      ];
      const y = op(tensor(gpu, p, [5, 1], { dtype }), tensor(gpu, q, [3], { dtype }));
      assert.equal(y.shape, [5, 3]);
      assert.equal([...(await y.read())], bits(p.flatMap((a) => q.map((b) => holds(a, b)))), dtype);
      const x = tensor(gpu, p, [5], { dtype });
      assert.equal([...(await op(x, big).read())], bits(p.map((a) => holds(a, big))), `${dtype} and a number`);
      await refuses(() => op(x, 1.5), ShapeError, new RegExp(dtype));
    }
  });
}

for (const [a, b, c] of [
  [[257], [257], [257]],
  [[2, 3, 4], [4], [3, 1]],
  [[5], [], [2, 1]],
] as [number[], number[], number[]][]) {
  test(`where [${c}] ? [${a}] : [${b}]`, () =>
    checkOp({
      op: (x, y, condition) => where(condition!, x!, y!),
      reference: (x, y, condition) => {
        const rank = Math.max(a.length, b.length, c.length);
        const shape = Array.from({ length: rank }, (_, axis) =>
          Math.max(...[a, b, c].map((s) => s[axis - rank + s.length] ?? 1)),
        );
        return fromIndex(shape, (index) => (at(condition!, index) ? at(x!, index) : at(y!, index)));
      },
      inputs: [{ shape: a }, { shape: b }, { shape: c, dtype: 'u8', range: [0, 1] }],
    }));
}

test('what is not chosen does not show, not even NaN', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, n, inf, 4], [4], { requiresGrad: true });
  const y = where(equal(x, x), x, 0);
  closeTo(await y.read(), [1, 0, inf, 4]);
  closeTo(await backward(sum(y)).get(x)!.read(), [1, 0, 1, 1]);
  const both = where(less(x, 2), x, x);
  closeTo(await backward(sum(both)).get(x)!.read(), [1, 1, 1, 1]);
  closeTo(await where(less(x, 2), 7, -inf).read(), [7, -inf, -inf, -inf]);
  const masked = where(tensor(gpu, [0, 3, 0, 1], [4], { dtype: 'i32' }), -inf, x);
  closeTo(await masked.read(), [1, -inf, inf, -inf]);
});

for (const dtype of ['f16', 'u32', 'i32', 'u8'] as const) {
  (dtype === 'f16' ? testHalf : test)(`where of ${dtype}`, async () => {
    const gpu = await testGpu();
    const [a, b] = [1, 11].map((first) =>
      tensor(
        gpu,
        [0, 1, 2, 3, 4].map((i) => first + i),
        [5],
        { dtype },
      ),
    );
    const y = where(tensor(gpu, [1, 0, 1, 0, 0], [5], { dtype: 'u8' }), a!, b!);
    assert.is(y.dtype, dtype);
    assert.equal([...(await y.read())], [1, 12, 3, 14, 15]);
    assert.equal([...(await where(greater(a!, 2), a!, 9).read())], [9, 9, 3, 4, 5]);
  });
}

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [2, 3]);
  const labels = tensor(gpu, 1, [2, 3], { dtype: 'u8' });
  await refuses(() => equal(x, labels), ShapeError, /equal: tensors must be of one type — got f32 and u8/);
  await refuses(() => less(1, 2), ShapeError, /less: all operands are numbers/);
  await refuses(() => less(x, '1' as unknown as number), ShapeError, /less: b is '1'/);
  await refuses(() => where(x, 1, 0), ShapeError, /where: the condition is f32.*greater/);
  await refuses(() => where(labels, tensor(gpu, 1, [2]), 0), ShapeError, /where.*broadcast/);
});

test.run();
