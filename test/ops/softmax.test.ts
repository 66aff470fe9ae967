import { suite } from 'uvu';
import { logSoftmax, ShapeError, softmax, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('softmax');

function reference(x: NdArray, log: boolean): NdArray {
  const classes = x.shape.at(-1)!;
  const y = ndArray(x.shape);
  for (let row = 0; row < x.data.length; row += classes) {
    const values = x.data.subarray(row, row + classes);
    const most = Math.max(...values);
    const sum = values.reduce((total, v) => total + Math.exp(v - most), 0);
    for (let k = 0; k < classes; k++) {
      const logarithm = values[k]! - most - Math.log(sum);
      y.data[row + k] = log ? logarithm : Math.exp(logarithm);
    }
  }
  return y;
}

for (const shape of [[1], [4], [3, 1], [2, 3, 5, 4], [257, 3], [2, 2, 2, 2, 8], [2, 257]]) {
  for (const log of [false, true]) {
    test(`${log ? 'logSoftmax' : 'softmax'} [${shape}]`, () =>
      checkOp({
        op: (x) => (log ? logSoftmax : softmax)(x!),
        reference: (x) => reference(x!, log),
        inputs: [{ shape, range: [-5, 5] }],
        rtol: 2e-5,
      }));
  }
}

test('logits far from zero', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1000, 1001, -1000, 0, 500, 500], [2, 3]);
  const p = 1 / (1 + Math.E);
  closeTo(await softmax(x).read(), [p, 1 - p, 0, 0, 0.5, 0.5], { atol: 1e-6 });
  closeTo(
    await logSoftmax(x).read(),
    [Math.log(p), Math.log(1 - p), Math.log(p) - 2000, -500 - Math.LN2, -Math.LN2, -Math.LN2],
    { rtol: 1e-5 },
  );
});

test('a single number is refused', async () => {
  const x = tensor(await testGpu(), 1);
  await refuses(() => softmax(x), ShapeError, /softmax: got a single number/);
});

test.run();
