import { suite } from 'uvu';
import { batchNorm, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { ndArray } from '../reference/nd-array.js';
import { normalization } from '../reference/normalization.js';
import { refuses } from '../refuses.js';

const test = suite('batchNorm');

for (const shape of [
  [2, 1],
  [7, 3],
  [2, 3, 5, 4],
  [1, 1, 257, 5],
  [3, 8, 9, 8],
  [2, 2, 3, 2, 4],
  [1, 65, 67, 4],
]) {
  const channels = [shape.at(-1)!];
  test(`training [${shape}]`, () =>
    checkOp({
      op: (x, gamma, beta) => batchNorm(x!, gamma!, beta!, { mode: 'train' }),
      reference: (x, gamma, beta) => normalization(x!, gamma!, beta!, 1),
      inputs: [{ shape }, { shape: channels }, { shape: channels }],
      atol: 3e-5,
      rtol: 3e-5,
      gradAtol: 5e-4,
    }));
}

test('running statistics follow as PyTorch says, and eval mode uses them', async () => {
  const gpu = await testGpu();
  const values = [1, 10, 3, 20, 5, 60];
  const x = tensor(gpu, values, [3, 2]);
  const [gamma, beta] = [tensor(gpu, [2, 3]), tensor(gpu, [0.5, -1])];
  const running = { mean: tensor(gpu, [0, 0]), variance: tensor(gpu, [1, 1]) };
  await batchNorm(x, gamma, beta, { running, mode: 'train' }).read();
  // mean 3 and 30; unbiased variance 4 and 700
  closeTo(await running.mean.read(), [0.3, 3], { rtol: 1e-6 });
  closeTo(await running.variance.read(), [0.9 + 0.4, 0.9 + 70], { rtol: 1e-6 });
  const y = await batchNorm(x, gamma, beta, { running, mode: 'eval' }).read();
  const expected = values.map((v, i) =>
    i % 2 ? ((v - 3) / Math.sqrt(70.9 + 1e-5)) * 3 - 1 : ((v - 0.3) / Math.sqrt(1.3 + 1e-5)) * 2 + 0.5,
  );
  closeTo(y, expected, { rtol: 1e-5, atol: 1e-5 });
});

test('eval mode has the gradient of a fixed scale', () =>
  checkOp({
    op: (x, gamma, beta) => {
      const running = { mean: tensor(x!.gpu, [0.5, -1, 2]), variance: tensor(x!.gpu, [0.25, 1, 4]) };
      return batchNorm(x!, gamma!, beta!, { running, mode: 'eval' });
    },
    reference: (x, gamma, beta) => {
      const y = ndArray(x!.shape);
      const [mean, variance] = [
        [0.5, -1, 2],
        [0.25, 1, 4],
      ];
      y.data.forEach((_, i) => {
        const c = i % 3;
        y.data[i] = ((x!.data[i]! - mean[c]!) / Math.sqrt(variance[c]! + 1e-5)) * gamma!.data[c]! + beta!.data[c]!;
      });
      return y;
    },
    inputs: [{ shape: [2, 3, 4, 3] }, { shape: [3] }, { shape: [3] }],
  }));

test('a large offset keeps its digits', async () => {
  const gpu = await testGpu();
  const values = Array.from({ length: 4096 }, (_, i) => 10000 + (i % 7) / 8);
  const one = tensor(gpu, [1]);
  const y = await batchNorm(tensor(gpu, values, [4096, 1]), one, tensor(gpu, [0]), { mode: 'train' }).read();
  const expected = normalization(ndArray([4096, 1], values), ndArray([1], [1]), ndArray([1], [0]), 1);
  closeTo(y, expected.data, { atol: 5e-3 });
});

test('wrong channels are refused', async () => {
  const gpu = await testGpu();
  await refuses(
    () => batchNorm(tensor(gpu, 0, [2, 3]), tensor(gpu, [1]), tensor(gpu, [1]), { mode: 'train' }),
    ShapeError,
    /batchNorm/,
  );
});

test.run();
