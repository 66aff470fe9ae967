import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  bitAnd,
  bitOr,
  bitXor,
  type Dtype,
  div,
  greater,
  less,
  max,
  maximum,
  mean,
  min,
  minimum,
  mul,
  type Operand,
  pow,
  prod,
  remainder,
  ShapeError,
  shiftLeft,
  shiftRight,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('integers');
const gpu = await testGpu();

const wrap = { i32: (n: bigint) => Number(BigInt.asIntN(32, n)), u32: (n: bigint) => Number(BigInt.asUintN(32, n)) };
const shifted = (b: bigint): bigint => (b < 0n || b > 31n ? 32n : b);

/** What each gives before it wraps around to 32 bits, in integers of any size. */
const ops: [(a: Operand, b: Operand) => Tensor, (a: bigint, b: bigint) => bigint][] = [
  [add, (a, b) => a + b],
  [sub, (a, b) => a - b],
  [mul, (a, b) => a * b],
  [div, (a, b) => (b ? a / b : 0n)],
  [remainder, (a, b) => (b ? a % b : a)],
  [minimum, (a, b) => (a < b ? a : b)],
  [maximum, (a, b) => (a > b ? a : b)],
  [bitAnd, (a, b) => a & b],
  [bitOr, (a, b) => a | b],
  [bitXor, (a, b) => a ^ b],
  [shiftLeft, (a, b) => a << shifted(b)],
  [shiftRight, (a, b) => a >> shifted(b)],
];
const edges = {
  i32: [0, 1, -1, 2, -7, 7, 31, 32, 65537, -(2 ** 31), 2 ** 31 - 1, -123456789],
  u32: [0, 1, 2, 7, 31, 32, 33, 65537, 2 ** 31, 2 ** 32 - 1, 123456789, 4e9],
} as const;

for (const [op, exact] of ops) {
  for (const dtype of ['i32', 'u32'] as const) {
    test(`${op.name} of ${dtype}`, async () => {
      const values = edges[dtype];
      const expected = (a: number, b: number): number => wrap[dtype](exact(BigInt(a), BigInt(b)));
      const row = tensor(gpu, values, [values.length], { dtype });
      const column = tensor(gpu, values, [values.length, 1], { dtype });
      const table = op(column, row);
      assert.is(table.dtype, dtype);
      assert.equal(
        Array.from(await table.read()),
        values.flatMap((a) => values.map((b) => expected(a, b))),
      );
      const [p, q] = [tensor(gpu, [9, 5, 7], [3], { dtype }), tensor(gpu, [2, 5, 3], [3], { dtype })]; // no four in a row
      assert.equal(Array.from(await op(p, q).read()), [expected(9, 2), expected(5, 5), expected(7, 3)]);
      for (const n of [3, 17]) {
        assert.equal(
          Array.from(await op(row, n).read()),
          values.map((a) => expected(a, n)),
          `and ${n}`,
        );
        assert.equal(
          Array.from(await op(n, row).read()),
          values.map((b) => expected(n, b)),
          `${n} first`,
        );
      }
      for (const bad of [1.5, 2 ** 32, Number.NaN, ...(dtype === 'u32' ? [-1] : [])]) {
        await refuses(() => op(row, bad), ShapeError, /expected a whole number/);
      }
    });
  }
}

test('masks of comparisons: and, or, and turned around', async () => {
  const x = tensor(gpu, [-2, -1, 0, 1, 2], [5]);
  const [low, high] = [greater(x, -2), less(x, 2)];
  const bytes = async (y: Tensor): Promise<number[]> => {
    assert.is(y.dtype, 'u8');
    return Array.from(await y.read());
  };
  assert.equal(await bytes(bitAnd(low, high)), [0, 1, 1, 1, 0]);
  assert.equal(await bytes(bitOr(bitXor(low, 1), bitXor(high, 1))), [1, 0, 0, 0, 1]);
  assert.is(await sum(bitAnd(low, high)).item(), 3);
});

test('reductions of integers, over any axes', async () => {
  const shape = [3, 70, 5];
  const size = 1050;
  for (const dtype of ['u8', 'u32', 'i32'] as const) {
    const values = Array.from({ length: size }, (_, i) => {
      const n = (i * 7919) % 251;
      return dtype === 'u8' ? n : dtype === 'u32' ? n * 17_000_000 : (n - 125) * 17_000_000;
    });
    const x = tensor(gpu, values, shape, { dtype });
    const folds = { sum: (a: bigint, b: bigint) => a + b, prod: (a: bigint, b: bigint) => a * b };
    const wide = dtype === 'i32' ? 'i32' : 'u32';
    for (const axes of [undefined, 1, [0, 2], []]) {
      const list = axes === undefined ? [0, 1, 2] : typeof axes === 'number' ? [axes] : axes;
      const groups = new Map<string, number[]>();
      values.forEach((v, i) => {
        const index = [Math.floor(i / 350), Math.floor(i / 5) % 70, i % 5];
        const key = index.filter((_, axis) => !list.includes(axis)).join();
        groups.set(key, [...(groups.get(key) ?? []), v]);
      });
      const all = [...groups.values()];
      for (const [name, op] of Object.entries({ sum, prod, max, min })) {
        const y = op(x, axes);
        const what = `${name} of ${dtype} over [${list}]`;
        assert.is(y.dtype, name === 'sum' || name === 'prod' ? wide : dtype, what);
        const fold = folds[name as 'sum'];
        const expected = all.map((group) =>
          fold ? wrap[wide](group.map(BigInt).reduce(fold)) : Math[name as 'max'](...group),
        );
        assert.equal(Array.from(await y.read()), expected, what);
      }
    }
    assert.equal(sum(x, [1], { keepDims: true }).shape, [3, 1, 5]);
  }
});

test('a sum of many integers is exact', async () => {
  const ones = tensor(gpu, 1, [300_001], { dtype: 'u8' });
  assert.is(await sum(ones).item(), 300_001);
  const large = tensor(gpu, 2 ** 24 + 1, [100], { dtype: 'i32' });
  assert.is(await sum(large).item(), 100 * (2 ** 24 + 1));
});

test('what does not fit is refused', async () => {
  const of = (dtype: Dtype): Tensor => tensor(gpu, 1, [2], { dtype });
  await refuses(() => add(of('i32'), of('u32')), ShapeError, /add: .*got i32, u32/);
  await refuses(() => add(of('i32'), of('f32')), ShapeError, /add: .*got i32, f32/);
  await refuses(() => add(of('u8'), 1), ShapeError, /add: .*got u8/);
  await refuses(() => pow(of('i32'), 2), ShapeError, /pow: .*got i32/);
  await refuses(() => mean(of('i32')), ShapeError, /sum: .*got i32/);
  await refuses(() => div(of('i32'), 0), ShapeError, /div: the divisor of integers is 0/);
  await refuses(() => remainder(of('i32'), 0), ShapeError, /remainder: the divisor is 0/);
  await refuses(() => remainder(of('f32'), 2), ShapeError, /remainder: got f32, expected tensors of u32 or i32/);
  await refuses(() => bitAnd(of('u8'), of('u32')), ShapeError, /bitAnd: tensors must be of one type/);
  await refuses(() => shiftLeft(of('u8'), 1), ShapeError, /shiftLeft: got u8/);
  for (const places of [32, -1, 0.5]) {
    await refuses(
      () => shiftRight(of('u32'), places),
      ShapeError,
      /shiftRight: got .* places, expected a whole number/,
    );
  }
});

test.run();
