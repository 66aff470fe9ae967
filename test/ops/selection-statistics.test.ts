import { suite } from 'uvu';
import { ShapeError, tensor } from '../../engine/index.js';
import { selectionStatistics } from '../../engine/method.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { argmaxOf, softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';

const test = suite('selectionStatistics');

function reference(logits: NdArray, mask: NdArray, labels: NdArray): NdArray {
  const rows = softmaxRows(logits);
  const accuracy = (chosen: number): number => {
    const those = rows.flatMap((p, i) => (mask.data[i] === chosen ? [argmaxOf(p) === labels.data[i]] : []));
    return those.length ? those.filter(Boolean).length / those.length : -1;
  };
  const kept = mask.data.reduce((sum, v) => sum + v, 0);
  const confidence = rows.reduce((sum, p) => sum + Math.max(...p), 0);
  return ndArray([4], [kept / rows.length, accuracy(1), accuracy(0), confidence / rows.length]);
}

for (const [pixels, classes, range] of [
  [[1], 2, [0, 1]],
  [[257], 4, [0, 1]],
  [[2, 9, 31], 5, [0, 1]],
  [[30], 3, [0, 0]],
  [[30], 3, [1, 1]],
] as const) {
  test(`[${pixels}] pixels, ${classes} classes, mask in [${range}]`, () =>
    checkOp({
      op: (logits, mask, labels) => selectionStatistics(logits!, mask!, labels!),
      reference: (logits, mask, labels) => reference(logits!, mask!, labels!),
      inputs: [
        { shape: [...pixels, classes], range: [-3, 3], grad: false },
        { shape: pixels, dtype: 'u8', range },
        { shape: pixels, dtype: 'u8', range: [0, classes - 1] },
      ],
    }));
}

test('more pixels than one pass adds up', async () => {
  const gpu = await testGpu();
  const pixels = 2 ** 18 + 3;
  const logits = Float32Array.from({ length: 2 * pixels }, (_, i) => ((i * 7919) % 1009) / 250 - 2);
  const mask = Uint8Array.from({ length: pixels }, (_, i) => (i % 3 ? 1 : 0));
  const labels = Uint8Array.from({ length: pixels }, (_, i) => (i >> 3) & 1);
  const statistics = selectionStatistics(
    tensor(gpu, logits, [pixels, 2]),
    tensor(gpu, mask, [pixels], { dtype: 'u8' }),
    tensor(gpu, labels, [pixels], { dtype: 'u8' }),
  );
  const expected = reference(ndArray([pixels, 2], logits), ndArray([pixels], mask), ndArray([pixels], labels));
  closeTo(await statistics.read(), expected.data, { rtol: 2e-6 });
});

test('a mask of another size is refused', async () => {
  const gpu = await testGpu();
  const bytes = (size: number) => tensor(gpu, 0, [size], { dtype: 'u8' });
  await refuses(
    () => selectionStatistics(tensor(gpu, 0, [3, 2]), bytes(2), bytes(3)),
    ShapeError,
    /selectionStatistics: got mask u8 \[2\]/,
  );
});

test.run();
