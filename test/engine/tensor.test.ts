// Tensors: element types there and back, half precision over all 65 536 patterns, what write() and tensor() refuse.
import { inspect } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty } from '../../engine/custom.js';
import { cast, type Dtype, GpuError, mul, ShapeError, tensor, uniformStream } from '../../engine/index.js';
import { fromHalf, toHalf } from '../../engine/tensor.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('tensor');

test('every half goes there and back', () => {
  let finite = 0;
  for (let bits = 0; bits < 65536; bits++) {
    const value = fromHalf(bits);
    if (Number.isNaN(value)) {
      assert.ok((bits & 0x7c00) === 0x7c00 && bits & 0x3ff);
      assert.ok(Number.isNaN(fromHalf(toHalf(value))));
    } else {
      assert.is(toHalf(value), bits, `bits ${bits.toString(16)}`);
      if (Number.isFinite(value)) finite++;
    }
  }
  assert.is(finite, 63488);
});

test('halves of known value', () => {
  for (const [bits, value] of [
    [0x0000, 0],
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3555, 0.333251953125],
    [0x3c00, 1],
    [0xc000, -2],
    [0x7bff, 65504],
    [0x7c00, Number.POSITIVE_INFINITY],
    [0xfc00, Number.NEGATIVE_INFINITY],
  ] as const) {
    assert.is(fromHalf(bits), value);
  }
  assert.ok(Object.is(fromHalf(0x8000), -0));
});

test('what lies between two halves goes to the nearer, the middle to the even one', () => {
  for (let bits = 0; bits < 0x7bff; bits++) {
    const [low, high] = [fromHalf(bits), fromHalf(bits + 1)];
    const middle = (low + high) / 2; // exact in f32
    const even = bits % 2 ? bits + 1 : bits;
    assert.is(toHalf(middle), even, `middle of ${low} and ${high}`);
    assert.is(toHalf(-middle), even | 0x8000);
    assert.is(toHalf(Math.fround(low + (high - low) * 0.499)), bits);
    assert.is(toHalf(Math.fround(low + (high - low) * 0.501)), bits + 1);
  }
  assert.is(toHalf(65519.99), 0x7bff);
  assert.is(toHalf(65520), 0x7c00);
  assert.is(toHalf(1e30), 0x7c00);
  assert.is(toHalf(2 ** -26), 0);
});

const samples: Record<Dtype, number[]> = {
  f32: [0, -1.5, 1e-30, 3.4e38, 16777217],
  f16: [0, -1.5, 65504, 2 ** -24, 0.1],
  u32: [0, 1, 2 ** 32 - 1, 7, 8],
  i32: [0, -1, 2 ** 31 - 1, -(2 ** 31), 8],
  u8: [0, 1, 255, 7, 8],
};
for (const [dtype, values] of Object.entries(samples) as [Dtype, number[]][]) {
  for (const count of [1, 2, 3, 5]) {
    test(`${count} ${dtype} there and back`, async () => {
      const gpu = await testGpu();
      const part = values.slice(0, count);
      const stored = part.map((v) => (dtype === 'f32' ? Math.fround(v) : dtype === 'f16' ? fromHalf(toHalf(v)) : v));
      const x = tensor(gpu, part, [count], { dtype });
      assert.is(x.bytes % 4, 0);
      assert.equal([...(await x.read())], stored);
      x.write([...part].reverse());
      assert.equal([...(await x.read())], [...stored].reverse());
    });
  }
}

test('one number fills a shape; item() reads one', async () => {
  const gpu = await testGpu();
  assert.equal([...(await tensor(gpu, 2, [3]).read())], [2, 2, 2]);
  assert.is(await tensor(gpu, 5).item(), 5);
  await refuses(() => tensor(gpu, [1, 2]).item(), ShapeError, /item: .* 2 elements, expected 1/);
});

test('a large tensor', async () => {
  const uniform = uniformStream(9);
  const values = Float32Array.from({ length: 1_000_003 }, uniform);
  const x = tensor(await testGpu(), values);
  assert.ok(Buffer.from((await x.read()).buffer).equals(Buffer.from(values.buffer)));
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  await refuses(() => tensor(gpu, [1, 2, 3], [2]), ShapeError, /\[2\] has 2 elements — got 3/);
  await refuses(() => tensor(gpu, 0, [2, 0]), ShapeError, /positive integers/);
  const x = tensor(gpu, [1, 2], [2], { label: 'image' });
  await refuses(() => x.write([1, 2, 3]), ShapeError, /'image' has 2 elements.*got 3/);
  await refuses(() => empty(gpu, [2]).read(), GpuError, /never written by an op/);
});

test('a write does not reach what was recorded before', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const y = mul(x, 10);
  x.write([5, 5]);
  assert.equal([...(await y.read())], [10, 20]);
});

test('a tensor prints as one line', async () => {
  const x = tensor(await testGpu(), 0, [2, 3], { dtype: 'u8', label: 'weight' });
  assert.is(String(x), "Tensor u8 [2,3] 'weight'");
  assert.is(inspect({ x }), "{ x: Tensor u8 [2,3] 'weight' }");
});

test('the type of what is read follows the tensor (checked by the compiler)', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, -2]);
  const plain: Float32Array = await x.read();
  const computed: Float32Array = await mul(x, 2).read();
  const labels: Uint8Array = await tensor(gpu, [1, 2], [2], { dtype: 'u8' }).read();
  const cut: Int32Array = await cast(x, 'i32').read();
  // @ts-expect-error: i32 is no Uint8Array
  const wrong: Uint8Array = await cast(x, 'i32').read();
  assert.equal([...plain, ...computed, ...labels, ...cut, ...wrong], [1, -2, 2, -4, 1, 2, 1, -2, 1, -2]);
});

test.run();
