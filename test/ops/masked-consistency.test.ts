import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, ShapeError, Tensor, tensor, uniformStream } from '../../engine/index.js';
import {
  type ConsistencyOptions,
  lowConfidenceMask,
  type MaskOptions,
  maskedConsistency,
} from '../../engine/method.js';
import { type CheckedInput, checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { argmaxOf, softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';

const test = suite('maskedConsistency');

type Choice = Omit<ConsistencyOptions, 'threshold' | 'scores'> & { confidence: (typeof confidences)[number] };
const kinds = ['mse', 'kl', 'ce', 'ce-dice'] as const;
const confidences = ['student', 'teacher', 'mean', 'min', 'none'] as const;

function keptPixels(student: NdArray, teacher: NdArray, threshold: number, choice: Omit<Choice, 'kind'>): number[] {
  const q = softmaxRows(teacher);
  return softmaxRows(student).map((p, i) => {
    const confidence = {
      student: Math.max(...p),
      teacher: Math.max(...q[i]!),
      mean: Math.max(...p.map((v, k) => (v + q[i]![k]!) / 2)),
      min: Math.min(Math.max(...p), Math.max(...q[i]!)),
      none: 0,
    }[choice.confidence];
    if (choice.confidence === 'none') return 1;
    // Float32 and the differences of checkOp move a confidence by 1e-5 at most; nearer ones could fall on either side.
    if (Math.abs(confidence - threshold) < 1e-4) throw new Error(`pixel ${i}: choose another threshold.`);
    return confidence < threshold !== Boolean(choice.invert) ? 1 : 0;
  });
}

function reference(student: NdArray, teacher: NdArray, threshold: NdArray, choice: Choice): NdArray {
  const mask = keptPixels(student, teacher, threshold.data[0]!, choice);
  const p = softmaxRows(student);
  const q = softmaxRows(teacher);
  const classes = student.shape.at(-1)!;
  let [kept, total, confident, ofConfident] = [0, 0, 0, 0];
  mask.forEach((keep, i) => {
    const cross = -Math.log(p[i]![argmaxOf(q[i]!)]!);
    if (!keep) {
      confident++;
      ofConfident += cross;
      return;
    }
    kept++;
    if (choice.kind === 'ce') total += cross;
    if (choice.kind === 'ce-dice') total += cross / 2;
    for (let k = 0; k < classes; k++) {
      if (choice.kind === 'mse') total += (p[i]![k]! - q[i]![k]!) ** 2 / classes;
      if (choice.kind === 'kl') total += q[i]![k]! * Math.log(q[i]![k]! / p[i]![k]!);
    }
  });
  const dice = choice.kind === 'ce-dice' && kept ? diceOfKept(p, q, mask) / 2 : 0;
  const added = confident ? ((choice.confidentWeight ?? 0) * ofConfident) / confident : 0;
  return ndArray([], [(kept ? total / kept : 0) + dice + added]);
}

/** 1 − the mean over the classes of (2 Σ p·h + ε)/(Σ p² + Σ h² + ε) over kept pixels, h the teacher's class as 0 and 1. */
function diceOfKept(p: ArrayLike<number>[], q: ArrayLike<number>[], mask: readonly number[]): number {
  const classes = p[0]!.length;
  let loss = 1;
  for (let k = 0; k < classes; k++) {
    let [top, bottom] = [1e-5, 1e-5];
    mask.forEach((keep, i) => {
      if (!keep) return;
      const h = argmaxOf(q[i]!) === k ? 1 : 0;
      top += 2 * p[i]![k]! * h;
      bottom += p[i]![k]! ** 2 + h ** 2;
    });
    loss -= top / bottom / classes;
  }
  return loss;
}

const check = (pixels: readonly number[], classes: number, choice: Choice, threshold: number): Promise<void> => {
  const logits: CheckedInput = { shape: [...pixels, classes], range: [-2, 2] };
  return checkOp({
    op: (student, teacher, limit) => maskedConsistency(student!, teacher!, { ...choice, threshold: limit! }).loss,
    reference: (student, teacher, limit) => reference(student!, teacher!, limit!, choice),
    inputs: [logits, { ...logits, grad: false }, { shape: [], values: [threshold], grad: false }],
    gradAtol: 2e-5,
  });
};

for (const kind of kinds) {
  for (const [pixels, classes] of [
    [[1], 2],
    [[257], 4],
    [[3, 5, 7], 5],
  ] as const) {
    test(`${kind}, [${pixels}] pixels, ${classes} classes`, () =>
      check(pixels, classes, { kind, confidence: 'student' }, classes === 2 ? 0.7 : 0.5));
  }
  for (const invert of [false, true]) {
    test(`${kind}, confident pixels too${invert ? ', inverted' : ''}`, () =>
      check([3, 29], 4, { kind, confidence: 'student', invert, confidentWeight: 0.7 }, 0.5));
  }
  test(`${kind}, confident pixels alone`, () =>
    check([19], 3, { kind, confidence: 'student', confidentWeight: 0.7 }, 0));
  test(`${kind}, confident pixels, and there are none`, () =>
    check([19], 5, { kind, confidence: kind === 'kl' ? 'none' : 'student', confidentWeight: 0.7 }, 1.5));
  test(`${kind}, inverted`, () => check([2, 13], 4, { kind, confidence: 'mean', invert: true }, 0.5));
  test(`${kind}, everything kept`, () => check([19], 4, { kind, confidence: 'student' }, 1.5));
  test(`${kind}, nothing kept`, () => check([19], 4, { kind, confidence: 'student' }, 0));
}

for (const confidence of confidences) {
  test(`confidence ${confidence}`, () => check([2, 13], 4, { kind: 'mse', confidence }, 0.5));
}

test('the mask, how many, and zero in the spare bytes of its last word', async () => {
  const gpu = await testGpu();
  const before = { ...gpu.flags };
  Object.assign(gpu.flags, { poison: true, pool: false });
  try {
    for (const pixels of [1, 2, 3, 4, 257]) {
      const uniform = uniformStream(pixels, 5);
      const draw = () =>
        ndArray(
          [pixels, 3],
          Float32Array.from({ length: 3 * pixels }, () => 4 * uniform() - 2),
        );
      const [student, teacher] = [draw(), draw()];
      const [p, q] = [tensor(gpu, student.data, student.shape), tensor(gpu, teacher.data, teacher.shape)];
      for (const confidence of confidences) {
        for (const invert of [false, true]) {
          const options = { confidence, invert, threshold: tensor(gpu, 0.55) };
          const expected = keptPixels(student, teacher, 0.55, { confidence, invert });
          const { mask, sums } = maskedConsistency(p, q, { ...options, kind: 'mse' });
          closeTo(await mask.read(), expected);
          assert.is((await sums.read())[0], expected.filter(Boolean).length);
          const alone = lowConfidenceMask(p, q, options);
          assert.equal(alone.shape, [pixels]);
          const words = new Tensor(gpu, [alone.bytes / 4], 'u32', alone.storage);
          const packed = new Uint32Array(Uint8Array.from({ ...expected, length: alone.bytes }).buffer);
          closeTo(await words.read(), packed, {}, `${pixels} pixels, ${confidence}`);
        }
      }
    }
  } finally {
    Object.assign(gpu.flags, before);
  }
});

test('the teacher gets no gradient, certain predictions no NaN', async () => {
  const gpu = await testGpu();
  for (const kind of kinds) {
    const student = tensor(gpu, [500, -500, 0, 0, -500, 500], [3, 2], { requiresGrad: true });
    const teacher = tensor(gpu, [-500, 500, 0, 0, -500, 500], [3, 2], { requiresGrad: true });
    const { loss } = maskedConsistency(student, teacher, { kind, confidence: 'none', threshold: tensor(gpu, 1) });
    const gradients = backward(loss);
    assert.is(gradients.get(teacher), undefined);
    const dice = 1 - (1 / 2.25 + 2 / 3.25) / 2; // class 0: p 1, ½, 0 and h 0, 1, 0; class 1: p 0, ½, 1 and h 1, 0, 1
    const cross = (1000 + Math.LN2) / 3;
    const expected = { mse: 1 / 3, kl: 1000 / 3, ce: cross, 'ce-dice': (cross + dice) / 2 }[kind];
    closeTo(await loss.read(), [expected], { rtol: kind === 'ce-dice' ? 1e-5 : 1e-6 }); // ε is left out
    const ofDice = (-(1 - 0.5 / 2.25) / 2.25 - 1 / 3.25 ** 2) / 4; // pixel 1: p (1 − p) (g_0 − g_1)
    const slope = {
      ...{ mse: [0, 0, 0, 0], kl: [1, -1, 0, 0], ce: [1, -1, -0.5, 0.5] },
      'ce-dice': [0.5, -0.5, -0.25 + 1.5 * ofDice, 0.25 - 1.5 * ofDice],
    }[kind];
    closeTo(
      await gradients.get(student)!.read(),
      [...slope, 0, 0].map((v) => v / 3),
      { atol: 2e-6 },
    );
  }
});

test('pixels that are not kept get exactly no gradient', async () => {
  const gpu = await testGpu();
  const before = { ...gpu.flags };
  Object.assign(gpu.flags, { poison: true, pool: false });
  try {
    for (const kind of kinds) {
      for (const classes of [3, 4]) {
        const uniform = uniformStream(classes, 9);
        const draw = () =>
          tensor(
            gpu,
            Array.from({ length: 9 * classes }, () => 4 * uniform() - 2),
            [9, classes],
            { requiresGrad: true },
          );
        const [student, teacher] = [draw(), draw()];
        for (const limit of [0.6, 0]) {
          const options = { kind, confidence: 'student', threshold: tensor(gpu, limit) } as const;
          const { loss, mask } = maskedConsistency(student, teacher, options);
          const kept = await mask.read();
          const slopes = await backward(loss).get(student)!.read();
          assert.is(
            kept.some((v) => v === 0),
            true,
          );
          slopes.forEach((slope, i) => {
            if (kept[Math.floor(i / classes)] === 0) assert.ok(slope === 0, `${kind}, element ${i}: ${slope}`);
            else assert.ok(slope !== 0 && Number.isFinite(slope), `${kind}, element ${i}: ${slope}`);
          });
          if (limit === 0) assert.is((await loss.read())[0], 0);
          else assert.ok(kept.some((v) => v === 1));
        }
      }
    }
  } finally {
    Object.assign(gpu.flags, before);
  }
});

test('a threshold for each class, and given scores: value, mask and gradient as by hand', async () => {
  const gpu = await testGpu();
  const [pixels, classes] = [257, 3];
  const uniform = uniformStream(6, 5);
  const draw = () => Float32Array.from({ length: pixels * classes }, () => 4 * uniform() - 2);
  const [student, teacher] = [draw(), draw()];
  const scores = Float32Array.from({ length: pixels }, uniform);
  const [p, q] = [student, teacher].map((data) => softmaxRows(ndArray([pixels, classes], data)));
  const limits = [0.45, 0.55, 0.65];
  for (const [confidence, invert, threshold] of [
    ['student', false, limits],
    ['teacher', true, limits],
    ['given', false, [0.4]],
    ['given', true, [0.3, 0.5, 0.7]],
  ] as const) {
    const what = `${confidence}, ${threshold.length} thresholds, inverted: ${invert}`;
    const expected = p!.map((row, i) => {
      const c = { student: Math.max(...row), teacher: Math.max(...q![i]!), given: scores[i]! }[confidence];
      const limit = threshold[threshold.length > 1 ? argmaxOf(q![i]!) : 0]!;
      if (Math.abs(c - limit) < 1e-6) throw new Error(`pixel ${i}: choose another threshold.`);
      return c < limit !== invert ? 1 : 0;
    });
    const kept = expected.filter(Boolean).length;
    assert.ok(kept > 20 && kept < 237, `${what}: ${kept} kept`);
    const x = tensor(gpu, student, [pixels, classes], { requiresGrad: true });
    const options = {
      ...{ confidence, invert, threshold: tensor(gpu, [...threshold]) },
      ...(confidence === 'given' && { scores: tensor(gpu, scores) }),
    };
    const y = tensor(gpu, teacher, [pixels, classes]);
    const { loss, mask } = maskedConsistency(x, y, { ...options, kind: 'kl' });
    closeTo(await mask.read(), expected, {}, what);
    closeTo(await lowConfidenceMask(x, y, options).read(), expected, {}, what);
    const slopes = p!.flatMap((row, i) => [...row].map((v, k) => (expected[i]! * (v - q![i]![k]!)) / kept));
    closeTo(await backward(loss).get(x)!.read(), slopes, { atol: 1e-8, rtol: 1e-4 }, what);
  }
});

test('thresholds and scores that do not fit are refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [6, 3]);
  const one = tensor(gpu, 1);
  const says = (options: MaskOptions, message: RegExp) =>
    refuses(() => lowConfidenceMask(x, x, options), ShapeError, message);
  await says(
    { confidence: 'student', threshold: tensor(gpu, [1, 2]) },
    /got threshold f32 \[2\], expected one f32 number, or 3/,
  );
  await says({ confidence: 'given', threshold: one }, /no scores, expected scores f32 of 6 pixels/);
  await says({ confidence: 'given', threshold: one, scores: tensor(gpu, 0, [5]) }, /got .*scores f32 \[5\]/);
  await says({ confidence: 'mean', threshold: one, scores: tensor(gpu, 0, [6]) }, /confidence 'mean' and scores/);
  for (const confidentWeight of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    const options = { kind: 'mse', confidence: 'mean', threshold: one, confidentWeight } as const;
    await refuses(() => maskedConsistency(x, x, options), ShapeError, /got confidentWeight .*, expected a number/);
  }
});

test('student and teacher of different shapes are refused', async () => {
  const gpu = await testGpu();
  const options = { confidence: 'none', threshold: tensor(gpu, 1) } as const;
  const [a, b] = [tensor(gpu, 0, [3, 2]), tensor(gpu, 0, [2, 3])];
  await refuses(() => lowConfidenceMask(a, b, options), ShapeError, /lowConfidenceMask: student \[3,2\] and teacher/);
  await refuses(() => maskedConsistency(a, b, { ...options, kind: 'kl' }), ShapeError, /maskedConsistency: student/);
});

test.run();
