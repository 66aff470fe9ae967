import { suite } from 'uvu';
import { upsample } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { upsample as reference } from '../reference/resampling.js';

const test = suite('upsample');

for (const shape of [
  [1, 1, 1, 1],
  [1, 1, 5, 3],
  [2, 3, 4, 4],
  [1, 7, 1, 2],
  [1, 2, 2, 8],
  [1, 3, 65, 5],
]) {
  test(`[${shape}]`, () => checkOp({ op: (x) => upsample(x!), reference: (x) => reference(x!), inputs: [{ shape }] }));
}

test.run();
