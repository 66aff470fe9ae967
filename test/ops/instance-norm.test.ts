import { suite } from 'uvu';
import { instanceNorm } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { normalization } from '../reference/normalization.js';

const test = suite('instanceNorm');

for (const shape of [
  [2, 3, 1],
  [2, 3, 5, 4],
  [3, 1, 257, 5],
  [2, 2, 3, 2, 8],
]) {
  const channels = [shape.at(-1)!];
  test(`[${shape}]`, () =>
    checkOp({
      op: (x, gamma, beta) => instanceNorm(x!, gamma!, beta!),
      reference: (x, gamma, beta) => normalization(x!, gamma!, beta!, shape[0]!),
      inputs: [{ shape }, { shape: channels }, { shape: channels }],
      atol: 3e-5,
      rtol: 3e-5,
      gradAtol: 5e-4,
    }));
}

test.run();
