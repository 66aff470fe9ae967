import { suite } from 'uvu';
import { abs, clamp, exp, log, neg, ShapeError, sqrt, square, type Tensor, tensor } from '../../engine/index.js';
import { type CheckedInput, checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { mapArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('unary');

const ops: [string, (x: Tensor) => Tensor, (v: number) => number, Partial<CheckedInput>][] = [
  ['neg', neg, (v) => -v, {}],
  ['exp', exp, Math.exp, {}],
  ['log', log, Math.log, { range: [0.1, 4] }],
  ['sqrt', sqrt, Math.sqrt, { range: [0.1, 4] }],
  ['square', square, (v) => v * v, {}],
  ['abs', abs, Math.abs, { avoid: 0 }],
  ['clamp', (x) => clamp(x, -10, 1), (v) => Math.min(1, Math.max(-10, v)), { avoid: 1 }],
  ['clamp below', (x) => clamp(x, 0.5, 10), (v) => Math.min(10, Math.max(0.5, v)), { avoid: 0.5 }],
];

for (const [name, op, formula, input] of ops) {
  for (const shape of [[1], [257], [2, 3, 4, 5, 4]]) {
    test(`${name} [${shape}]`, () =>
      checkOp({
        op: (x) => op(x!),
        reference: (x) => mapArray(x!, formula),
        inputs: [{ shape, ...input }],
        rtol: 2e-5,
      }));
  }
}

test('clamp refuses limits in the wrong order', async () => {
  const x = tensor(await testGpu(), [1]);
  await refuses(() => clamp(x, 1, 0), ShapeError, /wrong order/);
});

test.run();
