import { suite } from 'uvu';
import { backward, diceLoss, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';

const test = suite('diceLoss');

function reference(logits: NdArray, labels: NdArray, epsilon: number, first = 0): NdArray {
  const rows = softmaxRows(logits);
  const classes = logits.shape.at(-1)!;
  let sum = 0;
  for (let k = first; k < classes; k++) {
    let [overlap, squares, count] = [0, 0, 0];
    rows.forEach((p, i) => {
      const y = labels.data[i] === k ? 1 : 0;
      overlap += p[k]! * y;
      squares += p[k]! ** 2;
      count += y ** 2;
    });
    sum += (2 * overlap + epsilon) / (squares + count + epsilon);
  }
  return ndArray([], [1 - sum / (classes - first)]);
}

for (const [pixels, classes, epsilon] of [
  [[1], 2, 1e-5],
  [[257], 4, 1e-5],
  [[2, 3, 5], 5, 1],
  [[3, 7, 11], 3, 1e-5],
  [[1, 2, 3, 2], 8, 0.1],
] as const) {
  test(`[${pixels}] pixels, ${classes} classes, epsilon ${epsilon}`, () =>
    checkOp({
      op: (logits, labels) => diceLoss(logits!, labels!, epsilon),
      reference: (logits, labels) => reference(logits!, labels!, epsilon),
      inputs: [
        { shape: [...pixels, classes], range: [-3, 3] },
        { shape: pixels, dtype: 'u8', range: [0, classes - 1] },
      ],
      gradAtol: 2e-5,
    }));
}

for (const [pixels, classes] of [
  [[257], 2],
  [[2, 3, 5], 4],
  [[1, 2, 3, 2], 17],
] as const) {
  test(`the foreground of [${pixels}] pixels, ${classes} classes`, () =>
    checkOp({
      op: (logits, labels) => diceLoss(logits!, labels!, { classes: 'foreground' }),
      reference: (logits, labels) => reference(logits!, labels!, 1e-5, 1),
      inputs: [
        { shape: [...pixels, classes], range: [-3, 3] },
        { shape: pixels, dtype: 'u8', range: [0, classes - 1] },
      ],
      gradAtol: 2e-5,
    }));
}

test('classes that do not occur', () =>
  checkOp({
    op: (logits, labels) => diceLoss(logits!, labels!),
    reference: (logits, labels) => reference(logits!, labels!, 1e-5),
    inputs: [
      { shape: [2, 9, 4], range: [-3, 3] },
      { shape: [2, 9], dtype: 'u8', range: [2, 2] },
    ],
    gradAtol: 2e-5,
  }));

test('0 for a perfect, 1 for a perfectly wrong prediction, with no NaN', async () => {
  const gpu = await testGpu();
  const logits = tensor(gpu, [900, -900, -900, 900, 900, -900], [3, 2], { requiresGrad: true });
  for (const [classes, expected] of [
    [[0, 1, 0], 0],
    [[1, 0, 1], 1],
  ] as const) {
    const loss = diceLoss(logits, tensor(gpu, classes, [3], { dtype: 'u8' }));
    closeTo(await loss.read(), [expected], { atol: 1e-5 });
    closeTo(await backward(loss).get(logits)!.read(), [0, 0, 0, 0, 0, 0]);
  }
});

test('another word for the classes is refused', async () => {
  const gpu = await testGpu();
  const labels = tensor(gpu, [0, 1, 0], [3], { dtype: 'u8' });
  await refuses(
    () => diceLoss(tensor(gpu, 0, [3, 2]), labels, { classes: 'some' as 'all' }),
    ShapeError,
    /diceLoss: classes must be all or foreground — got some/,
  );
});

test('labels of another size are refused', async () => {
  const gpu = await testGpu();
  const labels = tensor(gpu, [0, 1], [2], { dtype: 'u8' });
  await refuses(() => diceLoss(tensor(gpu, 0, [3, 2]), labels), ShapeError, /diceLoss: got labels u8 \[2\]/);
});

test.run();
