import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, binaryCrossEntropy, huberLoss, meanSquaredError, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('pairLoss');
const testHalf = unless(await lacking('shader-f16'), test);

const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const references = {
  meanSquaredError: (a: number, b: number) => (a - b) ** 2,
  huberLoss: (a: number, b: number) => (Math.abs(a - b) <= 0.7 ? (a - b) ** 2 / 2 : 0.7 * (Math.abs(a - b) - 0.35)),
  binaryCrossEntropy: (a: number, b: number) => b * softplus(-a) + (1 - b) * softplus(a),
};
const ops = {
  meanSquaredError,
  huberLoss: (a: Parameters<typeof huberLoss>[0], b: typeof a) => huberLoss(a, b, { delta: 0.7 }),
  binaryCrossEntropy,
};

for (const name of Object.keys(ops) as (keyof typeof ops)[]) {
  for (const shape of [[], [7], [3, 4], [257], [40, 60]]) {
    test(`${name} [${shape}]`, () =>
      checkOp({
        op: (a, b) => ops[name](a!, b!),
        reference: (a, b) =>
          ndArray([], [a!.data.reduce((sum, v, i) => sum + references[name](v, b!.data[i]!), 0) / a!.data.length]),
        inputs: [
          { shape, range: [-5, 5] },
          { shape, range: name === 'binaryCrossEntropy' ? [0, 1] : [-5, 5] },
        ],
      }));
  }
}

test('binaryCrossEntropy keeps the digits of sure logits', async () => {
  const gpu = await testGpu();
  const logits = [20, -20, 100, -100, 0.01, -17, 3e38];
  const targets = [1, 0, 0, 1, 0, 0, 1];
  for (const [i, x] of logits.entries()) {
    const a = tensor(gpu, x, [], { requiresGrad: true });
    const loss = binaryCrossEntropy(a, tensor(gpu, targets[i]!, []));
    const [t, v] = [targets[i]!, Math.fround(x)];
    closeTo(await loss.read(), [references.binaryCrossEntropy(v, t)], { rtol: 2e-6 }, `loss at ${x}`);
    const slope = t ? -1 / (1 + Math.exp(v)) : 1 / (1 + Math.exp(-v));
    closeTo(await backward(loss).get(a)!.read(), [slope], { rtol: 2e-6, atol: 1e-37 }, `slope at ${x}`);
  }
});

test('NaN stays', async () => {
  const gpu = await testGpu();
  for (const op of Object.values(ops)) {
    const a = tensor(gpu, [1, Number.NaN], [2], { requiresGrad: true });
    const loss = op(a, tensor(gpu, [0, 1]));
    assert.ok(Number.isNaN(await loss.item()));
    assert.ok(Number.isNaN((await backward(loss).get(a)!.read())[1]));
  }
});

testHalf('f16: the mean is f32', async () => {
  const gpu = await testGpu();
  const a = tensor(gpu, 300, [1000], { dtype: 'f16', requiresGrad: true });
  const loss = meanSquaredError(a, tensor(gpu, 0, [1000], { dtype: 'f16' }));
  assert.is(loss.dtype, 'f32');
  closeTo(await loss.read(), [90000], { rtol: 1e-6 });
  const da = backward(loss, tensor(gpu, 1000, [])).get(a)!;
  assert.is(da.dtype, 'f16');
  closeTo(await da.read(), Array(1000).fill(600));
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = (...shape: number[]) => tensor(gpu, 0, shape);
  await refuses(() => meanSquaredError(x(3, 1), x(3)), ShapeError, /meanSquaredError: got \[3,1\] and \[3\]/);
  await refuses(() => huberLoss(x(3), x(3), { delta: 0 }), ShapeError, /huberLoss: delta is 0/);
  await refuses(() => binaryCrossEntropy(x(3), tensor(gpu, 0, [3], { dtype: 'u8' })), ShapeError, /binaryCrossEntropy/);
});

test.run();
