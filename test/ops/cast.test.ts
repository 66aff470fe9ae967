import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, cast, ShapeError, sum, tensor } from '../../engine/index.js';
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

test('integers are refused', async () => {
  const gpu = await testGpu();
  await refuses(() => cast(tensor(gpu, [1], [1], { dtype: 'u32' }), 'f32'), ShapeError, /cast: inputs must all be f32/);
});

test.run();
