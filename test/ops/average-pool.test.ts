import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { averagePool, backward, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { averagePool as reference } from '../reference/resampling.js';
import { refuses } from '../refuses.js';

const test = suite('averagePool');

for (const shape of [
  [1, 2, 2, 1],
  [2, 4, 6, 3],
  [1, 5, 7, 4],
  [3, 6, 2, 8],
  [1, 2, 257, 5],
  [1, 2, 2, 2, 1],
  [1, 3, 5, 7, 4],
  [2, 5, 4, 3, 3],
]) {
  test(`[${shape}]`, () =>
    checkOp({ op: (x) => averagePool(x!), reference: (x) => reference(x!), inputs: [{ shape }] }));
}

test('what an odd side leaves out has no gradient', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [1, 3, 3, 1], { requiresGrad: true });
  const gradients = backward(averagePool(x), tensor(gpu, [4], [1, 1, 1, 1]));
  assert.equal([...(await gradients.get(x)!.read())], [1, 1, 0, 1, 1, 0, 0, 0, 0]);
});

test('what is no image, or too small, is refused', async () => {
  const gpu = await testGpu();
  await refuses(() => averagePool(tensor(gpu, 0, [1, 1, 4, 1])), ShapeError, /averagePool: .*sides of at least 2/);
  await refuses(() => averagePool(tensor(gpu, 0, [4, 4, 1])), ShapeError, /averagePool: .*expected \[N,H,W,C\]/);
  await refuses(() => averagePool(tensor(gpu, 0, [1, 4, 4, 1], { dtype: 'u8' })), ShapeError, /averagePool.*u8/);
});

test.run();
