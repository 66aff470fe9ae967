import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { argmax, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('argmax');

function reference(x: NdArray): NdArray {
  const classes = x.shape.at(-1)!;
  const y = ndArray(x.shape.slice(0, -1));
  for (let row = 0; row < y.data.length; row++) {
    for (let k = 1; k < classes; k++) {
      if (x.data[row * classes + k]! > x.data[row * classes + y.data[row]!]!) y.data[row] = k;
    }
  }
  return y;
}

for (const shape of [[1], [5], [1, 4], [3, 1], [257, 4], [2, 3, 5, 3], [3, 256]]) {
  test(`[${shape}]`, () => checkOp({ op: (x) => argmax(x!), reference, inputs: [{ shape, grad: false }] }));
}

test('the first of equals', async () => {
  const x = tensor(await testGpu(), [1, 1, 0, 0, 2, 2, -1, -1, -1], [3, 3]);
  assert.equal([...(await argmax(x).read())], [0, 1, 0]);
});

test('257 classes are refused', async () => {
  const x = tensor(await testGpu(), 0, [2, 257]);
  await refuses(() => argmax(x), ShapeError, /1 to 256 classes/);
});

test.run();
