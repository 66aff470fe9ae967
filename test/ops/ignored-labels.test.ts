// A label that is no class means one thing to every loss: its pixel is in no sum, no mean, and has no gradient. Held against
// plain float64 loops, of few classes and of many, of every type of labels.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  capture,
  crossEntropy,
  type Dtype,
  diceLoss,
  GpuError,
  ShapeError,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { meanTeacherLoss, selectionStatistics } from '../../engine/method.js';
import { openDevice } from '../../engine/node.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('ignored labels');
const testHalf = unless(await lacking('shader-f16'), test);

const isClass = (y: number, classes: number, ignoreIndex?: number): boolean =>
  y >= 0 && y < classes && y !== ignoreIndex;

function entropyOf(logits: NdArray, labels: NdArray, ignoreIndex?: number): number {
  let [sum, counted] = [0, 0];
  softmaxRows(logits).forEach((p, i) => {
    const y = labels.data[i]!;
    if (!isClass(y, logits.shape.at(-1)!, ignoreIndex)) return;
    sum -= Math.log(p[y]!);
    counted++;
  });
  return counted ? sum / counted : 0;
}

function diceOf(logits: NdArray, labels: NdArray, ignoreIndex?: number, epsilon = 1e-5): number {
  const classes = logits.shape.at(-1)!;
  const [overlap, squares] = [new Float64Array(classes), new Float64Array(classes)];
  let counted = 0;
  softmaxRows(logits).forEach((p, i) => {
    const y = labels.data[i]!;
    if (!isClass(y, classes, ignoreIndex)) return;
    counted++;
    overlap[y]! += p[y]!;
    squares[y]!++;
    p.forEach((v, k) => {
      squares[k]! += v * v;
    });
  });
  const ratios = overlap.map((v, k) => (2 * v + epsilon) / (squares[k]! + epsilon));
  return counted ? 1 - ratios.reduce((a, b) => a + b) / classes : 0;
}

/** Labels of which about a third are no class, and the ones of `also`. */
function labelsFor(pixels: number, classes: number, dtype: Dtype, also: readonly number[]): number[] {
  const uniform = uniformStream(classes, pixels);
  const outside = [
    ...{ u8: [255, 254], u32: [4294967295, 100000], i32: [-1, -100, 2147483647] }[dtype as 'u8'],
    ...also,
  ];
  const bad = outside.filter((v) => v >= classes || v < 0 || also.includes(v));
  return Array.from({ length: pixels }, () =>
    uniform() < 1 / 3 && bad.length ? bad[Math.floor(uniform() * bad.length)]! : Math.floor(uniform() * classes),
  );
}

const losses = {
  crossEntropy: { op: crossEntropy, reference: entropyOf },
  diceLoss: { op: diceLoss, reference: diceOf },
} as const;

for (const [name, { op, reference }] of Object.entries(losses)) {
  for (const [classes, dtype, ignoreIndex] of [
    [2, 'u8', undefined],
    [5, 'i32', undefined],
    [16, 'u32', 3],
    [20, 'i32', 0],
    [255, 'u8', undefined],
    [301, 'i32', -100],
    [1024, 'u32', 7],
  ] as const) {
    const also = ignoreIndex === undefined ? [] : [ignoreIndex];
    test(`${name}: ${classes} classes, ${dtype}, ignoreIndex ${ignoreIndex}`, () =>
      checkOp({
        op: (logits, labels) => op(logits!, labels!, ignoreIndex === undefined ? {} : { ignoreIndex }),
        reference: (logits, labels) => ndArray([], [reference(logits!, labels!, ignoreIndex)]),
        inputs: [
          { shape: [3, 7, classes], range: [-4, 4] },
          { shape: [3, 7], dtype, values: labelsFor(21, classes, dtype, also) },
        ],
        gradAtol: 2e-5,
      }));
  }

  for (const classes of [3, 260]) {
    testHalf(`${name}: f16 logits of ${classes} classes`, async () => {
      const gpu = await testGpu();
      const values = Array.from({ length: 9 * classes }, (_, i) => (((i * 7919) % 65) - 32) / 16);
      const labels = labelsFor(9, classes, 'i32', []);
      const logits = tensor(gpu, values, [9, classes], { dtype: 'f16', requiresGrad: true });
      const loss = op(logits, tensor(gpu, labels, [9], { dtype: 'i32' }));
      const [x, y] = [ndArray([9, classes], values), ndArray([9], labels)];
      closeTo(await loss.read(), [reference(x, y)], { rtol: 1e-5 });
      const got = await backward(loss).get(logits)!.read();
      const want = values.map((v, i) => {
        const moved = (by: number) => ndArray([9, classes], values.with(i, v + by));
        return (reference(moved(1e-5), y) - reference(moved(-1e-5), y)) / 2e-5;
      });
      closeTo(got, want, { atol: 1e-4, rtol: 2e-3 });
    });
  }

  for (const classes of [4, 300]) {
    test(`${name}: all of ${classes} classes ignored: 0 without a gradient, NaN where a logit is`, async () => {
      const gpu = await testGpu();
      const logits = tensor(gpu, 1, [5, classes], { requiresGrad: true });
      const labels = tensor(gpu, 65535, [5], { dtype: 'u32' });
      const loss = op(logits, labels);
      assert.is(await loss.item(), 0);
      assert.ok((await backward(loss).get(logits)!.read()).every((v) => v === 0));
      logits.write(new Float32Array(5 * classes).fill(1).fill(Number.NaN, 2 * classes, 3 * classes));
      assert.ok(Number.isNaN(await op(logits, labels).item()));
      labels.write([1, 65535, 65535, 65535, 65535]);
      assert.ok(Number.isFinite(await op(logits, labels).item()), 'an ignored pixel is not heard while others count');
      labels.write([1, 65535, 0, 65535, 65535]);
      assert.ok(Number.isNaN(await op(logits, labels).item()));
    });
  }

  test(`${name}: 70 000 pixels of 20 classes, a workgroup row folded`, async () => {
    const gpu = await testGpu();
    const [pixels, classes] = [70000, 20];
    const values = Float32Array.from({ length: pixels * classes }, (_, i) => ((i * 7919) % 1009) / 250 - 2);
    const labels = labelsFor(pixels, classes, 'u8', []);
    const logits = tensor(gpu, values, [pixels, classes], { requiresGrad: true });
    const loss = op(logits, tensor(gpu, labels, [pixels], { dtype: 'u8' }));
    closeTo(await loss.read(), [reference(ndArray([pixels, classes], values), ndArray([pixels], labels))], {
      rtol: 5e-6,
    });
  });
}

test('crossEntropy: 66 000 pixels of 257 classes, more workgroups than fit in one direction', async () => {
  const gpu = await testGpu();
  const [pixels, classes] = [66000, 257];
  const logits = tensor(gpu, 0, [pixels, classes], { requiresGrad: true });
  const loss = crossEntropy(logits, tensor(gpu, 256, [pixels], { dtype: 'u32' }));
  closeTo(await loss.read(), [Math.log(classes)], { rtol: 1e-5 });
  const gradient = await backward(loss).get(logits)!.read();
  closeTo(gradient.slice(-2), [1 / classes / pixels, (1 / classes - 1) / pixels], { rtol: 1e-4 });
});

test('class 255 of many is a class, unless it is named', async () => {
  const gpu = await testGpu();
  const values = Float32Array.from({ length: 2 * 300 }, (_, i) => (i % 7) / 3);
  const logits = tensor(gpu, values, [2, 300]);
  const labels = tensor(gpu, [255, 1], [2], { dtype: 'i32' });
  const [x, y] = [ndArray([2, 300], values), ndArray([2], [255, 1])];
  closeTo(await crossEntropy(logits, labels).read(), [entropyOf(x, y)], { rtol: 1e-5 });
  closeTo(await crossEntropy(logits, labels, { ignoreIndex: 255 }).read(), [entropyOf(x, y, 255)], { rtol: 1e-5 });
});

for (const dtype of ['u8', 'u32', 'i32'] as const) {
  test(`meanTeacherLoss: ${dtype} labels, as crossEntropy and diceLoss`, async () => {
    const gpu = await testGpu();
    const values = Array.from({ length: 12 * 4 }, (_, i) => (((i * 7919) % 65) - 32) / 16);
    const labels = labelsFor(12, 4, dtype, [2]);
    const logits = tensor(gpu, values, [12, 4], { requiresGrad: true });
    const y = tensor(gpu, labels, [12], { dtype });
    const { loss, terms } = meanTeacherLoss(logits, { labels: y, labeledPixels: 12, ignoreIndex: 2 });
    const gradient = await backward(loss).get(logits)!.read();
    const [x, truth] = [ndArray([12, 4], values), ndArray([12], labels)];
    closeTo(await terms.read(), [entropyOf(x, truth, 2), diceOf(x, truth, 2)], { rtol: 1e-5 });
    const [ce, dice] = [crossEntropy(logits, y, { ignoreIndex: 2 }), diceLoss(logits, y, { ignoreIndex: 2 })];
    const [a, b] = [await backward(ce).get(logits)!.read(), await backward(dice).get(logits)!.read()];
    closeTo(
      gradient,
      Array.from(a, (v, i) => 0.5 * (v + b[i]!)),
      { atol: 1e-6 },
    );
  });
}

/** A student and a teacher of four pixels, the first two labelled. */
async function pair(labels: readonly number[], student: readonly number[] = [2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0]) {
  const gpu = await testGpu();
  const logits = tensor(gpu, student, [4, 3], { requiresGrad: true });
  const teacher = tensor(gpu, [2, 0, 0, 0, 2, 0, 0, 0, 9, 1, 0, 0], [4, 3]);
  const y = tensor(gpu, labels, [4], { dtype: 'u8' });
  const [threshold, weight] = [tensor(gpu, 0.9), tensor(gpu, 0)];
  return {
    y,
    logits,
    terms: () =>
      meanTeacherLoss(
        logits,
        { labels: y, labeledPixels: 2 },
        { logits: teacher, kind: 'mse', confidence: 'teacher', threshold, weight, selection: true },
      ),
  };
}

test('a selection: an unlabelled pixel whose label is no class is neither right nor wrong', async () => {
  // Kept is what the teacher is unsure of: the last pixel. The student's classes are 0 1 2 0.
  const known = await (await pair([0, 1, 0, 0])).terms().statistics.read();
  closeTo(known.slice(0, 3), [0.5, 1, 0]);
  const unknownKept = await (await pair([0, 1, 2, 255])).terms().statistics.read();
  closeTo(unknownKept.slice(0, 3), [0.5, -1, 1]);
  const unknownDropped = await (await pair([0, 1, 17, 0])).terms().statistics.read();
  closeTo(unknownDropped.slice(0, 3), [0.5, 1, -1]);
  const gpu = await testGpu();
  const logits = tensor(gpu, [2, 0, 0, 0, 2, 0, 0, 0, 2], [3, 3]);
  const u8 = (values: number[]): Tensor => tensor(gpu, values, [3], { dtype: 'u8' });
  closeTo((await selectionStatistics(logits, u8([1, 1, 0]), u8([0, 255, 3])).read()).slice(1, 3), [1, -1]);
});

test('a selection: an ignored labelled pixel counts for no prototype, and is of no class', async () => {
  const { classes, weights } = (await pair([200, 1, 0, 0])).terms();
  const [of, counts] = [await classes.read(), await weights.read()];
  assert.is(of[0], 200);
  assert.is(counts[0], 0);
  assert.ok(counts[1]! > 0.7);
});

test('meanTeacherLoss: all ignored is 0, NaN where a labelled logit is', async () => {
  const { terms } = await pair([255, 255, 0, 0]);
  closeTo(await terms().loss.read(), [0]);
  const spoiled = await pair([255, 255, 0, 0], new Array(12).fill(Number.NaN));
  assert.ok(Number.isNaN(await spoiled.terms().loss.item()));
});

test('the loss of an image is that of its counted pixels alone, to the bit', async () => {
  const gpu = await testGpu();
  const values = Array.from({ length: 6 * 4 }, (_, i) => ((i * 7919) % 65) / 16);
  const of = async (labels: readonly number[], rows: number): Promise<number[]> => {
    const logits = tensor(gpu, values.slice(0, 4 * rows), [rows, 4]);
    const y = tensor(gpu, labels, [rows], { dtype: 'u8' });
    return [await crossEntropy(logits, y).item(), await diceLoss(logits, y).item()];
  };
  assert.equal(await of([3, 1, 0, 2, 255, 99], 6), await of([3, 1, 0, 2], 4));
});

test('WGRAD_CHECK_LABELS: whoever reads hears the op, how many and which; eager and captured', async () => {
  const gpu = await openDevice({ quiet: true, flags: { checkLabels: true } });
  try {
    const logits = tensor(gpu, 0, [6, 5]);
    const labels = tensor(gpu, [0, 1, 2, 3, 255, 4], [6], { dtype: 'u8' });
    await crossEntropy(logits, labels).read();
    const step = capture(gpu, () => diceLoss(logits, labels));
    await step().read();
    labels.write([0, 9, 7, 9, 255, 4]);
    const said = /diceLoss: 3 of 6 labels are no class — got 7, 9, expected 0 to 4 or ignoreIndex 255/;
    await refuses(() => step().read(), GpuError, said);
  } finally {
    gpu.close();
  }
  const other = await openDevice({ quiet: true, flags: { checkLabels: true } });
  try {
    const labels = tensor(other, [-1, 70000, -100, 0], [4], { dtype: 'i32' });
    const loss = crossEntropy(tensor(other, 0, [4, 3]), labels, { ignoreIndex: -100 });
    const said = /crossEntropy: 2 of 4 labels are no class — got from -1 to 70000, expected 0 to 2 or ignoreIndex -100/;
    await refuses(() => loss.read(), GpuError, said);
  } finally {
    other.close();
  }
});

test('labels of floats, and an ignoreIndex that no label can be, are refused', async () => {
  const gpu = await testGpu();
  const logits = tensor(gpu, 0, [2, 3]);
  const y = tensor(gpu, 0, [2], { dtype: 'u8' });
  for (const op of [crossEntropy, diceLoss]) {
    await refuses(
      () => op(logits, tensor(gpu, 0, [2])),
      ShapeError,
      /got labels f32 \[2\].*expected u8 \[2\], or u32 or i32/,
    );
    await refuses(
      () => op(logits, y, { ignoreIndex: 0.5 }),
      ShapeError,
      /ignoreIndex is a label, a whole number — got 0.5/,
    );
  }
  await refuses(() => diceLoss(logits, y, { epsilon: -1 }), ShapeError, /epsilon must be 0 or more — got -1/);
});

test.run();
