// The fused losses against the composition of plain ops (values, masks, gradients) and against a float64 reference.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  capture,
  crossEntropy,
  type Dtype,
  diceLoss,
  type Gpu,
  mul,
  ShapeError,
  slice,
  Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import {
  type ConsistencyOptions,
  lowConfidenceMask,
  maskedConsistency,
  meanTeacherLoss,
  pseudoClasses,
  selectionStatistics,
} from '../../engine/method.js';
import { type CheckedInput, checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { argmaxOf, softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('meanTeacherLoss');
const testHalf = unless(await lacking('shader-f16'), test);

const kinds = ['mse', 'kl', 'ce', 'ce-dice'] as const;
type Choice = Omit<ConsistencyOptions, 'threshold' | 'scores'> & {
  confidence: 'student' | 'teacher' | 'mean' | 'min' | 'none';
};

/** Items of a batch, the labelled ones first; each is a row of `width` pixels. */
interface Sizes {
  labeled: number;
  unlabeled: number;
  width: number;
  classes: number;
}

interface Data {
  student: Float32Array;
  teacher: Float32Array;
  labels: Uint8Array;
  /** A given confidence of every pixel. */
  scores: Float32Array;
}

function draw({ labeled, unlabeled, width, classes }: Sizes, seed: number): Data {
  const uniform = uniformStream(seed, 3);
  const pixels = (labeled + unlabeled) * width;
  const logits = () => Float32Array.from({ length: pixels * classes }, () => 4 * uniform() - 2);
  const [student, teacher] = [logits(), logits()];
  const labels = Uint8Array.from({ length: pixels }, () => Math.floor(classes * uniform()));
  return { student, teacher, labels, scores: Float32Array.from({ length: pixels }, uniform) };
}

/** A threshold near `about` that no confidence comes nearer to than rounding could move it. */
function thresholdNear(about: number, { student, teacher }: Data, classes: number): number {
  const shape = [student.length / classes, classes];
  const [p, q] = [softmaxRows(ndArray(shape, student)), softmaxRows(ndArray(shape, teacher))];
  const taken = p.flatMap((row, i) => {
    const other = q[i]!;
    return [Math.max(...row), Math.max(...other), Math.max(...row.map((v, k) => (v + other[k]!) / 2))];
  });
  for (let limit = about; ; limit += 1e-4) {
    if (taken.every((v) => Math.abs(v - limit) > 2e-5)) return limit;
  }
}

/** Thresholds of classes, apart from each other, none near to a confidence. */
const thresholdsNear = (about: number, data: Data, classes: number): number[] =>
  Array.from({ length: classes }, (_, k) => thresholdNear(about + 0.05 * k, data, classes));

/** What differs from the plain: a threshold for each class, or reliable pixels that count 1, or a given confidence. */
interface Way {
  perClass?: boolean;
  /** The Dice loss over the foreground. */
  foreground?: boolean;
  hard?: boolean;
  given?: boolean;
}

const λ = 0.7;

/** What both ways compute, and the gradient of loss with respect to the student's logits. */
interface Outcome {
  loss: Tensor;
  terms: Tensor[];
  mask?: Tensor;
  classes?: Tensor;
  weights?: Tensor | number[];
  statistics?: Tensor;
  slopes: Tensor;
}

/** What reliable pixels count for, in float64. */
function weightsOf(data: Data, { labeled, width, classes }: Sizes, limit: number | number[], hard: boolean): number[] {
  return softmaxRows(ndArray([data.teacher.length / classes, classes], data.teacher)).map((q, i) => {
    const k = argmaxOf(q);
    const reliable =
      i < labeled * width ? data.labels[i] === k : q[k]! >= (typeof limit === 'number' ? limit : limit[k]!);
    return reliable ? (hard ? 1 : q[k]!) : 0;
  });
}

/** The plain ops, over slices. */
function composed(
  gpu: Gpu,
  data: Data,
  sizes: Sizes,
  choice: Choice | undefined,
  limit: number | number[],
  dtype: Dtype,
  { hard = false, given = false, foreground = false }: Way = {},
): Outcome {
  const { labeled, unlabeled, width, classes } = sizes;
  const bytes = (values: Uint8Array) => tensor(gpu, values, [values.length / width, width], { dtype: 'u8' });
  const batch = labeled + unlabeled;
  const student = tensor(gpu, data.student, [batch, width, classes], { dtype, requiresGrad: true });
  const threshold = tensor(gpu, limit);
  const part = slice(student, 0, 0, labeled);
  const truth = bytes(data.labels.subarray(0, labeled * width));
  const terms = [crossEntropy(part, truth), diceLoss(part, truth, foreground ? { classes: 'foreground' } : {})];
  let loss = mul(add(terms[0]!, terms[1]!), 0.5);
  if (!choice) return { loss, terms, slopes: backward(loss).get(student)! };
  const teacher = tensor(gpu, data.teacher, [batch, width, classes], { dtype });
  const rest = (x: Tensor) => slice(x, 0, labeled, unlabeled);
  const options = { ...choice, threshold };
  const scores = (of: Float32Array) => (given ? ({ confidence: 'given', scores: tensor(gpu, of) } as const) : {});
  const own = { ...options, ...scores(data.scores.subarray(labeled * width)) };
  const consistency = maskedConsistency(rest(student), rest(teacher), own);
  terms.push(consistency.loss);
  loss = add(loss, mul(consistency.loss, tensor(gpu, λ)));
  return {
    loss,
    terms,
    mask: lowConfidenceMask(student, teacher, { ...options, ...scores(data.scores) }),
    classes: pseudoClasses(teacher, bytes(data.labels), labeled * width),
    weights: weightsOf(data, sizes, limit, hard),
    statistics: selectionStatistics(rest(student), consistency.mask, bytes(data.labels.subarray(labeled * width))),
    slopes: backward(loss).get(student)!,
  };
}

/** The fused op: with the selection, or as little as the method needs. */
function fused(
  gpu: Gpu,
  data: Data,
  sizes: Sizes,
  choice: Choice | undefined,
  limit: number | number[],
  dtype: Dtype,
  selection: boolean,
  { hard = false, given = false, foreground = false }: Way = {},
): Outcome {
  const { labeled, unlabeled, width, classes } = sizes;
  const student = tensor(gpu, data.student, [labeled + unlabeled, width, classes], { dtype, requiresGrad: true });
  const labelsOf = (items: number) =>
    tensor(gpu, data.labels.subarray(0, items * width), [items, width], { dtype: 'u8' });
  const labeledPixels = labeled * width;
  const dice = foreground ? ({ diceClasses: 'foreground' } as const) : {};
  const partly = { labels: labelsOf(labeled), labeledPixels, ...dice };
  if (!choice) {
    const { loss, terms } = meanTeacherLoss(student, partly);
    return { loss, terms: [terms], slopes: backward(loss).get(student)! };
  }
  const first = selection ? 0 : labeledPixels * classes;
  const logits = tensor(
    gpu,
    data.teacher.subarray(first),
    [selection ? labeled + unlabeled : unlabeled, width, classes],
    { dtype },
  );
  const scores = given && ({ confidence: 'given', scores: tensor(gpu, data.scores.subarray(labeledPixels)) } as const);
  const teacher = { ...choice, logits, threshold: tensor(gpu, limit), weight: tensor(gpu, λ), hard, ...scores };
  if (!selection) {
    const { loss, terms } = meanTeacherLoss(student, partly, teacher);
    return { loss, terms: [terms], slopes: backward(loss).get(student)! };
  }
  const everything = { labels: labelsOf(labeled + unlabeled), labeledPixels, ...dice };
  const all = meanTeacherLoss(student, everything, { ...teacher, selection });
  return { ...all, terms: [all.terms], slopes: backward(all.loss).get(student)! };
}

/** The words of a packed u8 tensor, spare bytes too. */
const wordsOf = async (x: Tensor) =>
  new Uint8Array((await new Tensor(x.gpu, [x.bytes / 4], 'u32', x.storage).read()).buffer);

const packed = (values: ArrayLike<number>): Uint8Array =>
  Uint8Array.from({ ...values, length: 4 * Math.ceil(values.length / 4) });

/** Runs `work` on buffers that start as NaN, none shared. */
async function poisoned(work: () => Promise<void>): Promise<void> {
  const gpu = await testGpu();
  const before = { ...gpu.flags };
  Object.assign(gpu.flags, { poison: true, pool: false });
  try {
    await work();
  } finally {
    Object.assign(gpu.flags, before);
  }
}

async function compare(
  sizes: Sizes,
  choice: Choice | undefined,
  { about = 0.5, dtype = 'f32', ...way }: { about?: number; dtype?: Dtype } & Way = {},
): Promise<void> {
  const gpu = await testGpu();
  const data = draw(sizes, 1);
  if (dtype === 'f16') {
    // What the tensors will hold, so that the threshold keeps its distance from it.
    data.student = (await tensor(gpu, data.student, undefined, { dtype }).read()) as Float32Array;
    data.teacher = (await tensor(gpu, data.teacher, undefined, { dtype }).read()) as Float32Array;
  }
  const limit = (way.perClass ? thresholdsNear : thresholdNear)(about, data, sizes.classes);
  const plain = composed(gpu, data, sizes, choice, limit, dtype, way);
  const expectedTerms = await Promise.all(plain.terms.map((x) => x.item()));
  const expectedSlopes = await plain.slopes.read();
  let scale = 0;
  for (const v of expectedSlopes) scale = Math.max(scale, Math.abs(v));
  const slopesTolerance = dtype === 'f16' ? { atol: 2 ** -24, rtol: 2e-3 } : { atol: 2e-6 * scale, rtol: 1e-5 };
  await poisoned(async () => {
    for (const selection of choice && !way.given ? [true, false] : [false]) {
      const what = selection ? 'with selection' : 'without selection';
      const got = fused(gpu, data, sizes, choice, limit, dtype, selection, way);
      closeTo(await got.loss.read(), await plain.loss.read(), { rtol: 3e-6, atol: 1e-7 }, `${what}: loss`);
      closeTo(await got.terms[0]!.read(), expectedTerms, { rtol: 3e-6, atol: 1e-7 }, `${what}: terms`);
      closeTo(await got.slopes.read(), expectedSlopes, slopesTolerance, `${what}: slopes`);
      if (selection) {
        closeTo(await wordsOf(got.mask!), packed(await plain.mask!.read()), {}, 'mask');
        closeTo(await wordsOf(got.classes!), packed(await plain.classes!.read()), {}, 'classes');
        const weights = got.weights as Tensor;
        closeTo(await weights.read(), plain.weights as number[], { rtol: dtype === 'f16' ? 1e-5 : 3e-6 }, 'weights');
        closeTo(await got.statistics!.read(), await plain.statistics!.read(), { rtol: 2e-6 }, 'statistics');
      }
    }
  });
}

const few = { labeled: 2, unlabeled: 3, width: 7, classes: 4 };
for (const [kind, confidence] of [
  ['mse', 'student'],
  ['kl', 'teacher'],
  ['ce', 'mean'],
  ['mse', 'min'],
  ['kl', 'none'],
  ['ce-dice', 'student'],
  ['ce-dice', 'none'],
] as const) {
  test(`${kind}, confidence ${confidence}: as the composition`, () => compare(few, { kind, confidence }));
}

for (const [kind, confidence, way] of [
  ['mse', 'student', {}],
  ['kl', 'mean', {}],
  ['ce', 'teacher', { perClass: true }],
  ['ce-dice', 'min', {}],
  ['ce-dice', 'student', { given: true }],
] as const) {
  for (const invert of [false, true]) {
    test(`${kind}, confidence ${confidence}, confident pixels too, inverted: ${invert}: as the composition`, () =>
      compare({ ...few, width: 33 }, { kind, confidence, invert, confidentWeight: 0.6 }, way));
  }
}

for (const [kind, confidence, way] of [
  ['mse', 'student', { perClass: true }],
  ['ce', 'teacher', { perClass: true, hard: true }],
  ['kl', 'none', { hard: true, perClass: true }],
  ['mse', 'student', { given: true }],
  ['ce', 'student', { given: true, perClass: true }],
] as const) {
  test(`${kind}, confidence ${confidence}, ${Object.keys(way)}: as the composition`, () =>
    compare({ ...few, width: 33 }, { kind, confidence }, way));
}

test('confident pixels kept instead: as the composition, and against float64', async () => {
  for (const kind of kinds) {
    await compare(few, { kind, confidence: 'mean', invert: true });
    await compare({ ...few, width: 33 }, { kind, confidence: 'student', invert: true }, { perClass: true });
    await checkGradient(5, 27, 4, { kind, confidence: 'student', invert: true });
  }
});

for (const [kind, classes] of [
  ['mse', 5],
  ['kl', 4],
  ['ce', 2],
  ['ce-dice', 3],
] as const) {
  test(`${kind}, ${classes} classes, 257 pixels an item: as the composition`, () =>
    compare({ labeled: 1, unlabeled: 2, width: 257, classes }, { kind, confidence: 'student' }, { about: 0.6 }));
}

test('one pixel of each', () =>
  compare({ labeled: 1, unlabeled: 1, width: 1, classes: 4 }, { kind: 'mse', confidence: 'mean' }));

test('all kept', () => compare(few, { kind: 'mse', confidence: 'student' }, { about: 1.5 }));

for (const [width, classes] of [
  [1, 2],
  [64, 4],
  [1030, 5],
] as const) {
  test(`labels only, ${3 * width} pixels, ${classes} classes: as the composition`, () =>
    compare({ labeled: 3, unlabeled: 0, width, classes }, undefined));
}

test('Dice over the foreground: as the composition', async () => {
  for (const classes of [2, 4]) {
    await compare({ ...few, classes }, { kind: 'mse', confidence: 'student' }, { foreground: true });
    await compare({ ...few, classes, unlabeled: 0 }, undefined, { foreground: true });
  }
});

test('16 classes, all parts', async () => {
  const sixteen = { labeled: 1, unlabeled: 1, width: 9, classes: 16 };
  await compare(sixteen, { kind: 'mse', confidence: 'min' }, { about: 0.2 });
  await compare(sixteen, { kind: 'ce-dice', confidence: 'min', confidentWeight: 1 }, { about: 0.2 });
});

test('16 classes of so many pixels that more sums meet than shared memory holds at a time', () =>
  compare(
    { labeled: 1, unlabeled: 1, width: 2 ** 15, classes: 16 },
    { kind: 'ce-dice', confidence: 'teacher', confidentWeight: 1 },
    { about: 1.5 },
  ));

testHalf('f16 logits: as the composition', async () => {
  for (const kind of kinds) {
    await compare({ ...few, classes: kind === 'kl' ? 5 : 4 }, { kind, confidence: 'student' }, { dtype: 'f16' });
  }
  await compare({ labeled: 3, unlabeled: 0, width: 7, classes: 3 }, undefined, { dtype: 'f16' });
});

/** The total in float64. Labels ≥ K count for nothing. */
function reference(
  student: NdArray,
  teacher: NdArray | undefined,
  labels: ArrayLike<number>,
  labeledPixels: number,
  choice?: Choice & { threshold: number; weight: number },
): number {
  const classes = student.shape.at(-1)!;
  const p = softmaxRows(student);
  const owned = p.flatMap((row, i) => (i < labeledPixels && labels[i]! < classes ? [{ row, y: labels[i]! }] : []));
  const cross = owned.reduce((sum, { row, y }) => sum - Math.log(row[y]!), 0) / Math.max(owned.length, 1);
  let dice = 1;
  for (let k = 0; k < classes; k++) {
    let [top, bottom] = [1e-5, 1e-5];
    for (const { row, y } of owned) {
      if (y === k) top += 2 * row[k]!;
      bottom += row[k]! ** 2 + (y === k ? 1 : 0);
    }
    dice -= top / bottom / classes;
  }
  let [kept, total, confident, ofConfident] = [0, 0, 0, 0];
  const sums = Array.from({ length: classes }, () => [1e-5, 1e-5] as [number, number]); // Dice of kept pixels, top and bottom
  if (teacher && choice) {
    softmaxRows(teacher).forEach((q, j) => {
      const i = teacher.data.length === student.data.length ? j : j + labeledPixels;
      if (i < labeledPixels) return;
      const row = p[i]!;
      const confidence = {
        student: Math.max(...row),
        teacher: Math.max(...q),
        mean: Math.max(...row.map((v, k) => (v + q[k]!) / 2)),
        min: Math.min(Math.max(...row), Math.max(...q)),
        none: -1,
      }[choice.confidence];
      // Float32 and the differences of checkOp move a confidence by 1e-5 at most; nearer ones could fall on either side.
      if (Math.abs(confidence - choice.threshold) < 1e-4) throw new Error(`pixel ${i}: choose another threshold.`);
      const best = argmaxOf(q);
      if (choice.confidence !== 'none' && confidence < choice.threshold === Boolean(choice.invert)) {
        confident++;
        ofConfident -= Math.log(row[best]!);
        return;
      }
      kept++;
      if (choice.kind === 'ce') total -= Math.log(row[best]!);
      if (choice.kind === 'ce-dice') total -= Math.log(row[best]!) / 2;
      row.forEach((v, k) => {
        sums[k]![0] += k === best ? 2 * v : 0;
        sums[k]![1] += v ** 2 + (k === best ? 1 : 0);
        if (choice.kind === 'mse') total += (v - q[k]!) ** 2 / classes;
        if (choice.kind === 'kl') total += q[k]! * Math.log(q[k]! / v);
      });
    });
  }
  const ofSums = sums.reduce((loss, [top, bottom]) => loss - top / bottom / classes, 1);
  const consistency = kept ? total / kept + (choice?.kind === 'ce-dice' ? ofSums / 2 : 0) : 0;
  const added = confident ? ((choice?.confidentWeight ?? 0) * ofConfident) / confident : 0;
  return 0.5 * (cross + dice) + (choice?.weight ?? 0) * (consistency + added);
}

const checkGradient = (
  labeledPixels: number,
  unlabeledPixels: number,
  classes: number,
  choice: Choice,
  {
    threshold = 0.5,
    top = classes - 1,
    selection = true,
  }: { threshold?: number; top?: number; selection?: boolean } = {},
): Promise<void> => {
  const pixels = labeledPixels + unlabeledPixels;
  const logits: CheckedInput = { shape: [pixels, classes], range: [-2, 2] };
  return checkOp({
    op: (student, labels, logits, threshold, weight) => {
      const teacher = { ...choice, logits: logits!, threshold: threshold!, weight: weight! };
      const options = { labels: labels!, labeledPixels };
      return selection
        ? meanTeacherLoss(student!, options, { ...teacher, selection }).loss
        : meanTeacherLoss(student!, options, teacher).loss;
    },
    reference: (student, labels, teacher, threshold, weight) => {
      const numbers = { threshold: threshold!.data[0]!, weight: weight!.data[0]! };
      return ndArray([], [reference(student!, teacher, labels!.data, labeledPixels, { ...choice, ...numbers })]);
    },
    inputs: [
      logits,
      { shape: [pixels], dtype: 'u8', range: [0, top] },
      { shape: [selection ? pixels : unlabeledPixels, classes], range: [-2, 2], grad: false },
      { shape: [], values: [threshold], grad: false },
      { shape: [], range: [0.2, 2], grad: false },
    ],
    gradAtol: 2e-5,
  });
};

for (const kind of kinds) {
  test(`${kind}: value and gradient against float64`, () =>
    checkGradient(101, 156, 4, { kind, confidence: 'student' }));
  test(`${kind}, mt: every pixel kept, teacher on the unlabelled`, () =>
    checkGradient(5, 14, 3, { kind, confidence: 'none' }, { selection: false }));
  test(`${kind}, confident pixels too: value and gradient against float64`, async () => {
    await checkGradient(20, 57, 4, { kind, confidence: 'student', confidentWeight: 0.6 });
    await checkGradient(
      0,
      33,
      3,
      { kind, confidence: 'teacher', confidentWeight: 1.5, invert: true },
      { selection: false },
    );
  });
  test(`${kind}: no pixel labelled`, () => checkGradient(0, 13, 5, { kind, confidence: 'teacher' }));
}

test('labels only: value and gradient against float64', () =>
  checkOp({
    op: (student, labels) => meanTeacherLoss(student!, { labels: labels!, labeledPixels: 21 }).loss,
    reference: (student, labels) => ndArray([], [reference(student!, undefined, labels!.data, 21)]),
    inputs: [{ shape: [3, 7, 5] }, { shape: [3, 7], dtype: 'u8', range: [0, 4] }],
    gradAtol: 2e-5,
  }));

test('labels that are no class are ignored: value and gradient against float64', async () => {
  await checkGradient(30, 19, 4, { kind: 'mse', confidence: 'student' }, { top: 9 });
  await checkGradient(30, 19, 3, { kind: 'kl', confidence: 'none' }, { top: 255, selection: false });
});

test('labels that are no class: no weight, no gradient, the class as it is; all of them: finite', async () => {
  const gpu = await testGpu();
  const student = tensor(gpu, draw({ labeled: 3, unlabeled: 0, width: 2, classes: 4 }, 4).student, [6, 4], {
    requiresGrad: true,
  });
  for (const [values, valid] of [
    [
      [255, 1, 4, 3, 200, 0],
      [false, true, false, true],
    ],
    [
      [4, 16, 31, 255, 5, 9],
      [false, false, false, false],
    ],
  ] as const) {
    const labels = tensor(gpu, values, [6], { dtype: 'u8' });
    const logits = tensor(
      gpu,
      Array.from({ length: 24 }, (_, i) => (i % 4 === values[i >> 2] ? 3 : 0)),
      [6, 4],
    );
    const [threshold, weight] = [tensor(gpu, 0.5), tensor(gpu, 1)];
    const teacher = { kind: 'mse', confidence: 'student', logits, threshold, weight, selection: true } as const;
    const terms = meanTeacherLoss(student, { labels, labeledPixels: 4 }, teacher);
    const slopes = await backward(terms.loss).get(student)!.read();
    const weights = await terms.weights.read();
    assert.equal([...(await terms.classes.read()).subarray(0, 4)], values.slice(0, 4));
    valid.forEach((counts, i) => {
      assert.is(weights[i]! > 0, counts);
      assert.is(
        slopes.subarray(4 * i, 4 * i + 4).every((v) => v === 0),
        !counts,
        `pixel ${i}`,
      );
    });
    assert.ok(Number.isFinite(await terms.loss.item()) && slopes.every(Number.isFinite));
    if (!valid.some(Boolean))
      closeTo((await terms.terms.read()).subarray(0, 2), [0, 0], { atol: 1e-6 }, 'no label at all');
  }
});

test('nothing kept: no consistency, and exactly no gradient where there is no label', async () => {
  const gpu = await testGpu();
  const data = draw(few, 8);
  await poisoned(async () => {
    for (const kind of kinds) {
      for (const selection of [true, false]) {
        const { terms, slopes, loss, statistics } = fused(
          gpu,
          data,
          few,
          { kind, confidence: 'student' },
          0,
          'f32',
          selection,
        );
        const [cross = 0, dice = 0, consistency] = await terms[0]!.read();
        assert.is(consistency, 0);
        assert.is(await loss.item(), Math.fround(0.5 * Math.fround(cross + dice)));
        const [labeled, rest] = [(await slopes.read()).subarray(0, 56), (await slopes.read()).subarray(56)];
        assert.ok(labeled.every((v) => v !== 0 && Number.isFinite(v)));
        assert.ok(rest.every((v) => v === 0));
        if (statistics) closeTo((await statistics.read()).subarray(0, 2), [0, -1]);
      }
    }
  });
});

test('certain predictions: finite', async () => {
  const gpu = await testGpu();
  const student = tensor(gpu, [500, -500, -500, 500, 500, -500], [3, 2], { requiresGrad: true });
  const logits = tensor(gpu, [500, -500, 500, -500, -500, 500], [3, 2]);
  const labels = tensor(gpu, [0, 0, 0], [3], { dtype: 'u8' });
  const weight = tensor(gpu, 1);
  const teacher = { kind: 'kl', confidence: 'none', logits, threshold: weight, weight } as const;
  const { loss, terms } = meanTeacherLoss(student, { labels, labeledPixels: 2 }, teacher);
  closeTo(await terms.read(), [500, 1 - (2 / 3 + 1e-5 / 1.00001) / 2, 1000], { rtol: 1e-5 });
  const slopes = await backward(loss).get(student)!.read();
  closeTo(slopes, [0, 0, -0.25, 0.25, 1, -1], { atol: 1e-6 });
});

test('two launches, and one for the gradient', async () => {
  const gpu = await testGpu();
  const sizes = { labeled: 1, unlabeled: 1, width: 8, classes: 4 };
  const step = capture(gpu, () => {
    const { loss, slopes } = fused(gpu, draw(sizes, 1), sizes, { kind: 'mse', confidence: 'mean' }, 0.5, 'f32', true);
    return { loss, slopes };
  });
  assert.is(step.info.launches, 4); // with the one that writes d(loss) = 1
});

test('a million pixels: the sums lose less than 1e-6', async () => {
  const gpu = await testGpu();
  const [pixels, labeledPixels, classes] = [2 ** 20, 2 ** 19, 2];
  const uniform = uniformStream(5, 6);
  const values = (n: number) => Float32Array.from({ length: n }, () => 6 * uniform() - 3);
  const [p, q] = [values(pixels * classes), values(pixels * classes)];
  const y = Uint8Array.from({ length: pixels }, () => Math.floor(classes * uniform()));
  const logits = tensor(gpu, q, [pixels, classes]);
  const [threshold, weight] = [tensor(gpu, 1), tensor(gpu, 1)];
  const { loss } = meanTeacherLoss(
    tensor(gpu, p, [pixels, classes]),
    { labels: tensor(gpu, y, [pixels], { dtype: 'u8' }), labeledPixels },
    { kind: 'mse', confidence: 'none', logits, threshold, weight },
  );
  const choice = { kind: 'mse', confidence: 'none', threshold: 1, weight: 1 } as const;
  const [student, teacher] = [ndArray([pixels, classes], p), ndArray([pixels, classes], q)];
  const expected = reference(student, teacher, y, labeledPixels, choice);
  closeTo(await loss.read(), [expected], { rtol: 1e-6 });
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const logits = (pixels: number, classes = 3, dtype: Dtype = 'f32') => tensor(gpu, 0, [pixels, classes], { dtype });
  const bytes = (size: number) => tensor(gpu, 0, [size], { dtype: 'u8' });
  const one = tensor(gpu, 1);
  const teacher = { kind: 'mse', confidence: 'none', threshold: one, weight: one } as const;
  const says = (work: () => unknown, message: RegExp) => refuses(work, ShapeError, message);
  await says(
    () => meanTeacherLoss(logits(6, 17), { labels: bytes(6), labeledPixels: 6 }),
    /\[6,17\], expected .* 2 to 16/,
  );
  await says(
    () => meanTeacherLoss(logits(6), { labels: bytes(6), labeledPixels: 4 }),
    /got 4 labelled of 6 pixels, expected all\. Pass a teacher/,
  );
  await says(
    () => meanTeacherLoss(logits(6), { labels: bytes(6), labeledPixels: 6 }, { ...teacher, logits: logits(6) }),
    /got 6 labelled of 6 pixels, expected some without a label/,
  );
  await says(
    () => meanTeacherLoss(logits(6), { labels: bytes(5), labeledPixels: 4 }, { ...teacher, logits: logits(6) }),
    /got labels u8 \[5\] for logits \[6,3\], expected u8 of 4 or 6 pixels/,
  );
  const selecting = { ...teacher, selection: true } as const;
  await says(
    () => meanTeacherLoss(logits(6), { labels: bytes(4), labeledPixels: 4 }, { ...selecting, logits: logits(6) }),
    /expected u8 of 6 pixels/,
  );
  await says(
    () => meanTeacherLoss(logits(6), { labels: bytes(6), labeledPixels: 4 }, { ...selecting, logits: logits(2) }),
    /got teacher's logits \[2,3\] for logits \[6,3\], expected 3 classes of 6 pixels/,
  );
  await says(
    () => meanTeacherLoss(logits(6), { labels: bytes(6), labeledPixels: 4 }, { ...teacher, logits: logits(6, 2) }),
    /got teacher's logits \[6,2\]/,
  );
  await says(
    () =>
      meanTeacherLoss(
        logits(6),
        { labels: bytes(6), labeledPixels: 4 },
        { ...teacher, logits: logits(6), weight: tensor(gpu, [1, 2]) },
      ),
    /got weight f32 \[2\], expected one f32 number/,
  );
  const all = { labels: bytes(6), labeledPixels: 4 };
  const given = { ...teacher, confidence: 'given', scores: tensor(gpu, 0, [6]), logits: logits(6) } as const;
  await says(() => meanTeacherLoss(logits(6), all, { ...given, selection: true }), /given scores and a selection/);
  await says(
    () => meanTeacherLoss(logits(6), all, { ...given, logits: logits(2) }),
    /scores f32 \[6\], expected .* 2 pixels/,
  );
  await says(
    () => meanTeacherLoss(logits(6), all, { ...teacher, logits: logits(6), threshold: tensor(gpu, [1, 2]) }),
    /got threshold f32 \[2\], expected one f32 number, or 3/,
  );
});

test.run();
