import { suite } from 'uvu';
import { backward, crossEntropy, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { rowsOf, softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';

const test = suite('crossEntropy');

function reference(logits: NdArray, labels: NdArray): NdArray {
  let sum = 0;
  softmaxRows(logits).forEach((p, i) => {
    sum -= Math.log(p[labels.data[i]!]!);
  });
  return ndArray([], [sum / labels.data.length]);
}

for (const [pixels, classes] of [
  [[1], 2],
  [[257], 4],
  [[2, 3, 5], 5],
  [[3, 7, 11], 3],
  [[1, 2, 3, 2], 8],
  [[5], 16],
] as const) {
  test(`[${pixels}] pixels, ${classes} classes`, () =>
    checkOp({
      op: (logits, labels) => crossEntropy(logits!, labels!),
      reference: (logits, labels) => reference(logits!, labels!),
      inputs: [
        { shape: [...pixels, classes], range: [-4, 4] },
        { shape: pixels, dtype: 'u8', range: [0, classes - 1] },
      ],
      gradAtol: 2e-5,
    }));
}

test('logits far apart give finite numbers', async () => {
  const gpu = await testGpu();
  const logits = tensor(gpu, [1000, -1000, 0, 3000, 3000, -3000], [2, 3], { requiresGrad: true });
  const labels = tensor(gpu, [1, 0], [2], { dtype: 'u8' });
  const loss = crossEntropy(logits, labels);
  const dlogits = backward(loss).get(logits)!;
  closeTo(await loss.read(), [(2000 + Math.LN2) / 2], { rtol: 1e-6 });
  closeTo(await dlogits.read(), [0.5, -0.5, 0, -0.25, 0.25, 0], { atol: 1e-7 });
});

test('a quarter of a million pixels: the mean keeps its digits', async () => {
  const gpu = await testGpu();
  const pixels = 2 ** 18 + 5;
  const values = Float32Array.from({ length: 2 * pixels }, (_, i) => ((i * 7919) % 1009) / 250 - 2);
  const classes = Uint8Array.from({ length: pixels }, (_, i) => (i * 31) % 2);
  const logits = tensor(gpu, values, [pixels, 2], { requiresGrad: true });
  const loss = crossEntropy(logits, tensor(gpu, classes, [pixels], { dtype: 'u8' }));
  const x = ndArray([pixels, 2], values);
  closeTo(await loss.read(), reference(x, ndArray([pixels], classes)).data, { rtol: 2e-6 });
  const dlogits = await backward(loss).get(logits)!.read();
  const last = softmaxRows(ndArray([1, 2], rowsOf(x).at(-1)!))[0]!;
  last[classes.at(-1)!]! -= 1;
  closeTo(
    dlogits.slice(-2),
    last.map((v) => v / pixels),
    { rtol: 1e-4 },
  );
});

/** PyTorch's definition in float64; labels below 0 are ignored. */
function weightedReference(logits: NdArray, labels: NdArray, weights: ArrayLike<number>, smoothing: number): NdArray {
  const classes = logits.shape.at(-1)!;
  let [sum, counted] = [0, 0];
  softmaxRows(logits).forEach((p, i) => {
    const y = labels.data[i]!;
    if (y < 0) return;
    sum -= (1 - smoothing) * weights[y]! * Math.log(p[y]!);
    p.forEach((v, k) => {
      sum -= (smoothing / classes) * weights[k]! * Math.log(v);
    });
    counted += weights[y]!;
  });
  return ndArray([], [sum / counted]);
}

for (const [pixels, classes] of [
  [[1], 2],
  [[2, 3, 5], 5],
  [[130], 16],
  [[7], 20],
  [[3], 301],
] as const) {
  for (const [weighted, labelSmoothing] of [
    [true, 0],
    [false, 0.1],
    [true, 0.3],
  ] as const) {
    test(`[${pixels}] pixels, ${classes} classes, ${weighted ? 'weights' : 'no weights'}, smoothing ${labelSmoothing}`, async () => {
      const values = Array.from({ length: classes }, (_, k) => (weighted ? ((k * 7) % 5) / 2 + 0.25 : 1));
      const weights = tensor(await testGpu(), values);
      await checkOp({
        op: (logits, labels) => crossEntropy(logits!, labels!, { labelSmoothing, ...(weighted && { weights }) }),
        reference: (logits, labels) => weightedReference(logits!, labels!, values, labelSmoothing),
        inputs: [
          { shape: [...pixels, classes], range: [-4, 4] },
          {
            shape: pixels,
            dtype: 'i32',
            values: Array.from({ length: pixels[0] * (pixels[1] ?? 1) * (pixels[2] ?? 1) }, (_, i) =>
              i % 4 === 3 ? -1 : (i * 3 + 1) % classes,
            ),
          },
        ],
        gradAtol: 2e-5,
      });
    });
  }
}

test('weights that count nothing: the loss and its gradient are 0', async () => {
  const gpu = await testGpu();
  const logits = tensor(gpu, [1, 2, 3, 4], [2, 2], { requiresGrad: true });
  const labels = tensor(gpu, [1, 1], [2], { dtype: 'u8' });
  const loss = crossEntropy(logits, labels, { weights: tensor(gpu, [1, 0]) });
  closeTo(await loss.read(), [0]);
  closeTo(await backward(loss).get(logits)!.read(), [0, 0, 0, 0]);
});

test('weights and smoothing that do not fit are refused', async () => {
  const gpu = await testGpu();
  const logits = tensor(gpu, 0, [3, 2]);
  const labels = tensor(gpu, 0, [3], { dtype: 'u8' });
  const weights = tensor(gpu, 1, [3]);
  await refuses(
    () => crossEntropy(logits, labels, { weights }),
    ShapeError,
    /weights is a tensor f32 \[3\].*f32 \[2\]/,
  );
  await refuses(() => crossEntropy(logits, labels, { labelSmoothing: 2 }), ShapeError, /labelSmoothing is 2/);
  await refuses(() => crossEntropy(logits, labels, { weight: weights } as object), ShapeError, /'weight'.*'weights'/);
});

test('labels of another type or size, and one class, are refused', async () => {
  const gpu = await testGpu();
  const logits = tensor(gpu, 0, [3, 2]);
  await refuses(() => crossEntropy(logits, tensor(gpu, [0, 1, 0])), ShapeError, /crossEntropy: got labels f32 \[3\]/);
  const two = tensor(gpu, [0, 1], [2], { dtype: 'u8' });
  await refuses(() => crossEntropy(logits, two), ShapeError, /crossEntropy: got labels u8 \[2\] for logits \[3,2\]/);
  await refuses(() => crossEntropy(tensor(gpu, 0, [2, 1]), two), ShapeError, /crossEntropy: got logits \[2,1\]/);
});

test.run();
