import { suite } from 'uvu';
import { backward, maxPool, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { maxPool as reference } from '../reference/resampling.js';
import { refuses } from '../refuses.js';

const test = suite('maxPool');

for (const shape of [
  [1, 2, 2, 1],
  [2, 4, 6, 3],
  [1, 5, 7, 4],
  [3, 6, 2, 8],
  [1, 2, 257, 5],
  [1, 2, 2, 2, 1],
  [2, 4, 2, 6, 3],
  [1, 3, 5, 7, 4],
  [2, 5, 4, 3, 8],
]) {
  // Distinct values far apart, in a scrambled order: differences never cross a tie.
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Array.from({ length: size }, (_, i) => ((i * 7919) % size) / 8 - size / 16);
  test(`[${shape}]`, () =>
    checkOp({ op: (x) => maxPool(x!), reference: (x) => reference(x!), inputs: [{ shape, values }] }));
}

test('of equal values the first gets the gradient', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 1, 1, 1], [1, 2, 2, 1], { requiresGrad: true });
  const gradients = backward(maxPool(x), tensor(gpu, [3], [1, 1, 1, 1]));
  closeTo(await gradients.get(x)!.read(), [3, 0, 0, 0], { atol: 0 });
});

test('of equal values of a cube the first gets the gradient, whichever is larger', async () => {
  const gpu = await testGpu();
  for (let largest = 0; largest < 8; largest++) {
    const values = Array.from({ length: 8 }, (_, i) => (i === largest || i === 7 ? 2 : 1));
    const x = tensor(gpu, values, [1, 2, 2, 2, 1], { requiresGrad: true });
    const gradients = backward(maxPool(x), tensor(gpu, [3], [1, 1, 1, 1, 1]));
    const expected = values.map((_, i) => (i === largest ? 3 : 0));
    closeTo(await gradients.get(x)!.read(), expected, { atol: 0 });
  }
});

test('a single row is refused', async () => {
  const gpu = await testGpu();
  await refuses(() => maxPool(tensor(gpu, 0, [1, 1, 4, 1])), ShapeError, /maxPool: .*expected sides of at least 2/);
  await refuses(() => maxPool(tensor(gpu, 0, [1, 1, 4, 4, 1])), ShapeError, /maxPool: .*expected sides of at least 2/);
  await refuses(() => maxPool(tensor(gpu, 0, [4, 4, 1])), ShapeError, /expected \[N,H,W,C\] or \[N,D,H,W,C\]/);
});

test.run();
