import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { leakyRelu, relu, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { mapArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('leakyRelu');

for (const shape of [[], [1], [257], [2, 3, 4, 5, 6]]) {
  for (const slope of [0, 0.01, 1]) {
    test(`[${shape}] slope ${slope}`, () =>
      checkOp({
        op: (x) => leakyRelu(x!, slope),
        reference: (x) => mapArray(x!, (v) => (v > 0 ? v : slope * v)),
        inputs: [{ shape, avoid: 0 }],
      }));
  }
}

test('relu', () =>
  checkOp({
    op: (x) => relu(x!),
    reference: (x) => mapArray(x!, (v) => Math.max(v, 0)),
    inputs: [{ shape: [5, 7], avoid: 0 }],
  }));

test('a launch of more than 65 535 workgroups folds its grid', async () => {
  const gpu = await testGpu();
  const size = 65536 * 64 + 3;
  const x = tensor(gpu, new Float32Array(size).fill(-100));
  const y = await leakyRelu(x).read();
  assert.ok(y.every((v) => v === -1));
});

test('integers are refused', async () => {
  const labels = tensor(await testGpu(), [1, 2], [2], { dtype: 'u8' });
  await refuses(() => relu(labels), ShapeError, /leakyRelu.*u8/);
});

test.run();
