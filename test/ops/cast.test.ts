import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { fromHalf } from '../../engine/custom.js';
import { backward, cast, type Dtype, mul, ShapeError, sum, type Tensor, tensor } from '../../engine/index.js';
import { toHalf } from '../../engine/tensor.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('cast');
const noHalf = await lacking('shader-f16');
const testHalf = unless(noHalf, test);
const testNoHalf = unless(noHalf ? undefined : 'this adapter has shader-f16', test);

test('to what it is', async () => {
  const x = tensor(await testGpu(), [1, -2.5]);
  assert.is(cast(x, 'f32'), x);
});

testNoHalf('an adapter without f16 is named', async () => {
  const x = tensor(await testGpu(), [1, -2.5]);
  await refuses(() => cast(x, 'f16'), Error, /shader-f16/);
});

testHalf('to f16 and back, with the gradient', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, -2.5, 1 / 3, 65504, 1e-6], [5], { requiresGrad: true });
  const half = cast(x, 'f16');
  assert.is(half.dtype, 'f16');
  closeTo(await half.read(), [1, -2.5, 0.333251953125, 65504, 1.0132789611816406e-6], { rtol: 1e-6 });
  const gradient = backward(sum(cast(half, 'f32'))).get(x)!;
  assert.is(gradient.dtype, 'f32');
  closeTo(await gradient.read(), [1, 1, 1, 1, 1]);
});

const values: Record<Dtype, number[]> = {
  f32: [
    0,
    -0.9,
    1.9,
    -1.9,
    254.99,
    255,
    256,
    -3e9,
    3e9,
    5e9,
    2147483520,
    4294967040,
    Infinity,
    -Infinity,
    Number.NaN,
    7,
  ],
  f16: [0, -0.9, 1.9, -1.9, 254.875, 255, 256, -60000, 60000, Infinity, -Infinity, Number.NaN, 7],
  u32: [0, 1, 255, 256, 16777217, 2147483647, 2147483648, 4294967295, 9],
  i32: [0, 1, -1, 255, 256, 16777217, -16777219, 2147483647, -2147483648],
  u8: [0, 1, 127, 128, 255],
};
const limits = { u32: [0, 4294967295], i32: [-2147483648, 2147483647], u8: [0, 255] } as const;

/** What the documentation says, in float64. */
function expected(v: number, to: Dtype): number {
  if (to === 'f32') return Math.fround(v);
  if (to === 'f16') return fromHalf(toHalf(v));
  return Number.isNaN(v) ? 0 : Math.min(Math.max(Math.trunc(v), limits[to][0]), limits[to][1]);
}

const isFloat = (dtype: Dtype): boolean => dtype === 'f32' || dtype === 'f16';
for (const from of Object.keys(values) as Dtype[]) {
  for (const to of Object.keys(values) as Dtype[]) {
    if (isFloat(from) && isFloat(to)) continue;
    (from === 'f16' || to === 'f16' ? testHalf : test)(`${from} to ${to}`, async () => {
      const x = tensor(await testGpu(), values[from], [values[from].length], { dtype: from });
      const y = cast(x, to);
      assert.is(y.dtype, to);
      const given = await x.read();
      closeTo(
        await y.read(),
        Array.from(given, (v) => expected(v, to)),
      );
    });
  }
}

test('what comes from integers is a constant', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1.5, 2.5], [2], { requiresGrad: true });
  assert.is(cast(x, 'i32').node, undefined);
  const y = sum(mul(x, cast(cast(x, 'u8'), 'f32')));
  closeTo(await backward(y).get(x)!.read(), [1, 2]);
});

test('an unknown type is refused', async () => {
  const gpu = await testGpu();
  await refuses(() => cast(tensor(gpu, [1]), 'int32' as 'i32'), ShapeError, /cast: unknown dtype 'int32'.*'i32'/);
  await refuses(() => cast(5 as unknown as Tensor, 'i32'), ShapeError, /cast: the input is 5/);
});

test.run();
