import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, mul, ShapeError, sum, type TopKOptions, tensor, topK } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('topK');
const testHalf = unless(await lacking('shader-f16'), test);

/** Values or indices of the first k of each line, sorted by JavaScript's stable sort. */
function sorted(
  x: NdArray,
  k: number,
  { axis = -1, largest = true }: TopKOptions,
  what: 'values' | 'indices',
): NdArray {
  const at = axis < 0 ? axis + x.shape.length : axis;
  const count = x.shape[at]!;
  const inner = x.shape.slice(at + 1).reduce((a, b) => a * b, 1);
  const y = ndArray(x.shape.with(at, k));
  for (let line = 0; line < x.data.length / count; line++) {
    const [o, i] = [Math.floor(line / inner), line % inner];
    const value = (r: number): number => x.data[(o * count + r) * inner + i]!;
    const order = Array.from({ length: count }, (_, r) => r).sort((p, q) =>
      largest ? value(q) - value(p) : value(p) - value(q),
    );
    for (let t = 0; t < k; t++) y.data[(o * k + t) * inner + i] = what === 'values' ? value(order[t]!) : order[t]!;
  }
  return y;
}

for (const [shape, k, options] of [
  [[1], 1, {}],
  [[7], 7, {}],
  [[3, 10], 3, {}],
  [[2, 9, 3], 4, { axis: 1 }],
  [[5, 2], 2, { axis: 0, largest: false }],
  [[2, 300], 5, {}],
  [[700], 700, { largest: false }],
] as [number[], number, TopKOptions][]) {
  test(`${k} of [${shape}] ${JSON.stringify(options)}`, async () => {
    const inputs = [{ shape, range: [-100, 100] as const }];
    await checkOp({
      op: (x) => topK(x!, k, options).values,
      reference: (x) => sorted(x!, k, options, 'values'),
      inputs,
    });
    await checkOp({
      op: (x) => topK(x!, k, options).indices,
      reference: (x) => sorted(x!, k, options, 'indices'),
      inputs: [{ ...inputs[0]!, grad: false }],
    });
  });
}

test('ties by index, infinities, and NaN first', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 3, NaN, 3, Infinity, -Infinity, NaN, -0, 0], [9], { requiresGrad: true });
  const { values, indices } = topK(x, 9);
  closeTo(await values.read(), [NaN, NaN, Infinity, 3, 3, 1, 0, 0, -Infinity]);
  assert.equal([...(await indices.read())], [2, 6, 4, 1, 3, 0, 7, 8, 5]);
  const some = topK(x, 5, { largest: false });
  assert.equal([...(await some.indices.read())], [2, 6, 5, 7, 8]);
  const weighted = sum(mul(some.values, tensor(gpu, [1, 2, 3, 4, 5])));
  closeTo(await backward(weighted).get(x)!.read(), [0, 0, 1, 0, 0, 3, 2, 4, 5]);
});

testHalf('f16', async () => {
  const x = tensor(await testGpu(), [1, 3, 2], [3], { dtype: 'f16', requiresGrad: true });
  const { values } = topK(x, 2);
  closeTo(await values.read(), [3, 2]);
  closeTo(await backward(sum(values)).get(x)!.read(), [0, 1, 1]);
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [2, 3]);
  await refuses(() => topK(x, 4), ShapeError, /topK: k is 4 — expected 1 to 3/);
  await refuses(() => topK(x, 0), ShapeError, /topK: k is 0/);
  await refuses(() => topK(x, 1, { axis: 2 }), ShapeError, /topK: axes/);
});

test.run();
