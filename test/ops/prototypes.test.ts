import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { add, backward, capture, mul, ShapeError, type Tensor, tensor, uniformStream } from '../../engine/index.js';
import {
  addPrototypeDistance,
  createPrototypes,
  meanTeacherLoss,
  prototypeCosines,
  prototypeDistance,
  pseudoClasses,
  updatePrototypes,
} from '../../engine/method.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { argmaxOf, rowsOf, softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';

const test = suite('prototypes');

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((sum, v, d) => sum + v * b[d]!, 0);

interface Batch {
  features: NdArray;
  teacher: NdArray;
  labels: ArrayLike<number>;
  labeledPixels: number;
  /** By class. */
  thresholds: readonly number[];
  hard: boolean;
  unlabeledWeight: number;
}

/** One update of float64 vectors and counts, class by class. */
function update(vectors: Float64Array[], counts: number[], batch: Batch, momentum: number): void {
  const q = softmaxRows(batch.teacher);
  const z = rowsOf(batch.features);
  vectors.forEach((vector, k) => {
    const mean = new Float64Array(vector.length);
    let total = 0;
    z.forEach((feature, i) => {
      if (argmaxOf(q[i]!) !== k) return;
      const labeled = i < batch.labeledPixels;
      // Float32 could put a confidence this near on the other side.
      if (!labeled && Math.abs(q[i]![k]! - batch.thresholds[k]!) < 1e-5)
        throw new Error(`pixel ${i}: draw other numbers.`);
      if (labeled ? batch.labels[i] !== k : q[i]![k]! < batch.thresholds[k]!) return;
      const weight = (labeled ? 1 : batch.unlabeledWeight) * (batch.hard ? 1 : q[i]![k]!);
      total += weight;
      feature.forEach((v, d) => {
        mean[d]! += weight * v;
      });
    });
    if (total === 0) return;
    const m = Math.min(1 - 1 / (counts[k]! + 1), momentum);
    vector.forEach((v, d) => {
      vector[d] = m * v + ((1 - m) * mean[d]!) / total;
    });
    counts[k]!++;
  });
}

for (const [pixels, classes, width, labeledPixels, momentum, hard, perClass] of [
  [1, 2, 3, 1, 0.99, false, false],
  [257, 4, 16, 100, 0.6, false, false],
  [257, 5, 32, 0, 0.99, false, true],
  [1030, 3, 5, 1030, 0.5, true, false],
  [70, 2, 300, 30, 0.9, false, false],
  [259, 4, 16, 101, 0, true, true],
] as const) {
  const way = `${hard ? ', hard' : ''}${perClass ? ', a threshold for each class' : ''}`;
  test(`five updates, ${pixels} pixels (${labeledPixels} labelled), ${classes} classes, D ${width}${way}`, async () => {
    const gpu = await testGpu();
    const uniform = uniformStream(pixels, 21);
    const draw = (size: number, most: number) => Float32Array.from({ length: size }, () => most * (2 * uniform() - 1));
    const prototypes = createPrototypes(gpu, classes, width);
    const features = tensor(gpu, 0, [pixels, width]);
    const teacherLogits = tensor(gpu, 0, [pixels, classes]);
    const labels = tensor(gpu, 0, [pixels], { dtype: 'u8' });
    const threshold = tensor(gpu, 0, perClass ? [classes] : []);
    const unlabeledWeight = tensor(gpu, 0);
    const step = capture(gpu, () =>
      updatePrototypes(prototypes, {
        features,
        teacherLogits,
        labels,
        labeledPixels,
        threshold,
        unlabeledWeight,
        momentum,
        hard,
      }),
    );
    const vectors = Array.from({ length: classes }, () => new Float64Array(width));
    const counts = Array.from({ length: classes }, () => 0);
    for (let t = 0; t < 5; t++) {
      const batch: Batch = {
        features: ndArray([pixels, width], draw(pixels * width, 2)),
        teacher: ndArray([pixels, classes], draw(pixels * classes, 3)),
        // The first update sees labels of one class only: the others must stay as they are.
        labels: Uint8Array.from({ length: pixels }, () => (t === 0 ? 1 : Math.floor(classes * uniform()))),
        labeledPixels,
        thresholds: Array.from({ length: classes }, (_, k) => [0.5, 0.7, 0.9, 0, 2][t]! + (perClass ? 0.03 * k : 0)),
        hard,
        unlabeledWeight: [0, 1, 0.5, 1, 1][t]!,
      };
      features.write(batch.features.data);
      teacherLogits.write(batch.teacher.data);
      labels.write(batch.labels);
      threshold.write(perClass ? batch.thresholds : batch.thresholds[0]!);
      unlabeledWeight.write(batch.unlabeledWeight);
      step();
      update(vectors, counts, batch, momentum);
      closeTo(await prototypes.counts.read(), counts, {}, `update ${t}: counts`);
      const expected = vectors.flatMap((vector) => [...vector]);
      closeTo(await prototypes.vectors.read(), expected, { atol: 1e-5, rtol: 1e-5 }, `update ${t}: vectors`);
    }
    assert.ok(pixels === 1 || counts.every((n) => n > 0), `every class was updated: ${counts}`);
  });
}

test('ready weights and classes: the same update, bit for bit', async () => {
  const gpu = await testGpu();
  const [pixels, classes, width, labeledPixels] = [259, 4, 8, 101];
  const uniform = uniformStream(4, 22);
  const draw = (size: number) => Float32Array.from({ length: size }, () => 6 * uniform() - 3);
  const features = tensor(gpu, draw(pixels * width), [pixels, width]);
  const logits = tensor(gpu, draw(pixels * classes), [pixels, classes]);
  const labels = tensor(
    gpu,
    Array.from({ length: pixels }, () => Math.floor(6 * uniform())),
    [pixels],
    { dtype: 'u8' },
  );
  const [threshold, unlabeledWeight] = [tensor(gpu, 0.7), tensor(gpu, 0.3)];
  const batch = { features, labeledPixels, unlabeledWeight, momentum: 0.9 };
  const [plain, ready] = [createPrototypes(gpu, classes, width), createPrototypes(gpu, classes, width)];
  updatePrototypes(plain, { ...batch, teacherLogits: logits, labels, threshold });
  const student = tensor(gpu, draw(pixels * classes), [pixels, classes]);
  const teacher = {
    kind: 'mse',
    confidence: 'student',
    logits,
    threshold,
    weight: threshold,
    selection: true,
  } as const;
  const selected = meanTeacherLoss(student, { labels, labeledPixels }, teacher);
  updatePrototypes(ready, { ...batch, weights: selected.weights, classes: selected.classes });
  assert.ok((await plain.vectors.read()).every((v) => v !== 0));
  closeTo(await ready.vectors.read(), await plain.vectors.read());
  closeTo(await ready.counts.read(), await plain.counts.read());
  closeTo(await plain.counts.read(), [1, 1, 1, 1]);
});

type Kind = 'pull' | 'proto-ce' | 'distance';

/** The loss by its definition, pixel by pixel; `counts` of 0 mean that a class was never seen. */
function separation(
  z: NdArray,
  vectors: NdArray,
  counts: NdArray,
  classes: NdArray,
  mask: NdArray,
  kind: Kind,
  temperature: number,
): NdArray {
  const means = rowsOf(vectors);
  const seen = means.flatMap((_, k) => (counts.data[k]! > 0 ? [k] : []));
  const length = (v: Float64Array) => Math.max(Math.sqrt(dot(v, v)), 1e-8);
  const byClass = means.map((): number[] => []);
  rowsOf(z).forEach((feature, i) => {
    const own = classes.data[i]!;
    if (!mask.data[i] || !seen.includes(own)) return;
    const cosine = (k: number) => dot(feature, means[k]!) / length(feature) / length(means[k]!);
    const apart = (k: number) => feature.reduce((sum, v, d) => sum + (v - means[k]![d]!) ** 2, 0);
    const score = (k: number) => (kind === 'distance' ? -apart(k) : cosine(k) / temperature);
    const most = Math.max(...seen.map(score));
    const sum = seen.reduce((total, k) => total + Math.exp(score(k) - most), 0);
    byClass[own]!.push(kind === 'pull' ? 1 - cosine(own) : most + Math.log(sum) - score(own));
  });
  const mean = (values: number[]) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0);
  const present = byClass.filter((values) => values.length);
  return ndArray([], [kind === 'pull' ? mean(present.map(mean)) : mean(present.flat())]);
}

const checkSeparation = (
  kind: Kind,
  pixels: readonly number[],
  counts: readonly number[],
  width: number,
  masks: readonly [number, number] = [0, 1],
  temperature = 0.1,
): Promise<void> => {
  const classes = counts.length;
  const range = [-1, 1] as const;
  return checkOp({
    op: (z, vectors, seen, of, mask) =>
      prototypeDistance(z!, { vectors: vectors!, counts: seen! }, of!, mask!, { kind, temperature }),
    reference: (z, vectors, seen, of, mask) => separation(z!, vectors!, seen!, of!, mask!, kind, temperature),
    inputs: [
      { shape: [...pixels, width], range },
      { shape: [classes, width], range, grad: false },
      { shape: [classes], values: counts, grad: false },
      { shape: pixels, dtype: 'u8', range: [0, classes - 1] },
      { shape: pixels, dtype: 'u8', range: masks },
    ],
    rtol: 3e-5,
    gradAtol: 5e-5,
  });
};

for (const kind of ['pull', 'proto-ce', 'distance'] as const) {
  test(`${kind}, one pixel`, () => checkSeparation(kind, [1], [1, 2], 3, [1, 1]));
  test(`${kind}, 257 pixels, D 16`, () => checkSeparation(kind, [257], [3, 1, 9, 2], 16));
  test(`${kind}, D 36, more than is loaded at once`, () => checkSeparation(kind, [30], [3, 1, 9], 36));
  test(`${kind}, D 5, a class never seen`, () => checkSeparation(kind, [3, 5, 7], [4, 0, 1, 1, 2], 5));
  test(`${kind}, D 32, temperature 0.5`, () => checkSeparation(kind, [2, 9], [1, 1, 1, 1], 32, [1, 1], 0.5));
  test(`${kind}, one class seen`, () => checkSeparation(kind, [21], [0, 3, 0], 4));
  test(`${kind}, no class seen`, () => checkSeparation(kind, [21], [0, 0, 0], 4, [1, 1]));
  test(`${kind}, nothing kept`, () => checkSeparation(kind, [21], [1, 3, 2], 4, [0, 0]));
}

test('distance: a class never seen does not swallow the others, however near it is', async () => {
  const gpu = await testGpu();
  const z = tensor(gpu, [0, 0, 1, 0], [2, 2], { requiresGrad: true });
  const prototypes = { vectors: tensor(gpu, [0, 0, 15, 0, 0, 15], [3, 2]), counts: tensor(gpu, [0, 1, 1]) };
  const [classes, mask] = [tensor(gpu, [2, 1], [2], { dtype: 'u8' }), tensor(gpu, [1, 1], [2], { dtype: 'u8' })];
  const loss = prototypeDistance(z, prototypes, classes, mask, { kind: 'distance' });
  closeTo(await loss.read(), [Math.LN2 / 2], { rtol: 1e-5 });
  // ½ Σ_k (π_k − [k = class]) · 2 μ_k with π = ½, ½ for the first pixel, 1, 0 for the second
  closeTo(await backward(loss).get(z)!.read(), [7.5, -7.5, 0, 0], { rtol: 1e-5, atol: 1e-6 });
});

test('pixels that are not kept, or whose class was never seen, get exactly no gradient', async () => {
  const gpu = await testGpu();
  const uniform = uniformStream(3, 31);
  const kept = [1, 0, 1, 1, 0, 1, 0, 1, 1];
  const own = [0, 0, 1, 2, 1, 2, 2, 0, 1];
  for (const kind of ['pull', 'proto-ce', 'distance'] as const) {
    for (const width of [3, 4]) {
      const draw = (rows: number) => Array.from({ length: rows * width }, () => 2 * uniform() - 1);
      const z = tensor(gpu, draw(9), [9, width], { requiresGrad: true });
      const vectors = tensor(gpu, draw(3), [3, width], { requiresGrad: true });
      const prototypes = { vectors, counts: tensor(gpu, [2, 0, 1]) };
      const [classes, mask] = [own, kept].map((values) => tensor(gpu, values, [9], { dtype: 'u8' }));
      for (const [chosen, some] of [
        [mask!, true],
        [tensor(gpu, 0, [9], { dtype: 'u8' }), false],
      ] as const) {
        const loss = prototypeDistance(z, prototypes, classes!, chosen, { kind });
        const gradients = backward(loss);
        assert.is(gradients.get(vectors), undefined);
        (await gradients.get(z)!.read()).forEach((slope, i) => {
          const pixel = Math.floor(i / width);
          const counts = some && kept[pixel] === 1 && own[pixel] !== 1;
          assert.ok(counts ? slope !== 0 && Number.isFinite(slope) : slope === 0, `${kind}, element ${i}: ${slope}`);
        });
        if (!some) assert.is((await loss.read())[0], 0);
      }
    }
  }
});

for (const kind of ['pull', 'proto-ce', 'distance'] as const) {
  test(`${kind} without a mask: every pixel counts`, async () => {
    const gpu = await testGpu();
    const uniform = uniformStream(8, 32);
    const draw = (rows: number, width: number) =>
      tensor(
        gpu,
        Float32Array.from({ length: rows * width }, () => 2 * uniform() - 1),
        [rows, width],
        { requiresGrad: true },
      );
    const prototypes = { vectors: draw(3, 8), counts: tensor(gpu, [1, 3, 2]) };
    const z = draw(57, 8);
    const classes = tensor(
      gpu,
      Uint8Array.from({ length: 57 }, () => Math.floor(3 * uniform())),
      [57],
      { dtype: 'u8' },
    );
    const everything = tensor(gpu, 1, [57], { dtype: 'u8' });
    const [all, masked] = [undefined, everything].map((mask) =>
      prototypeDistance(z, prototypes, classes, mask, { kind }),
    );
    assert.ok((await all!.item()) > 0);
    closeTo(await all!.read(), await masked!.read());
    closeTo(await backward(all!).get(z)!.read(), await backward(masked!).get(z)!.read());
  });

  test(`${kind}, added to another loss: as the sum of the two`, async () => {
    const gpu = await testGpu();
    const uniform = uniformStream(6, 32);
    const draw = (size: number) => Array.from({ length: size }, () => 2 * uniform() - 1);
    const [classes, mask] = [2, 1].map((most) =>
      tensor(
        gpu,
        Array.from({ length: 41 }, () => Math.floor((most + 1) * uniform())),
        [41],
        { dtype: 'u8' },
      ),
    ) as [Tensor, Tensor];
    const weight = tensor(gpu, 0.4);
    const prototypes = { vectors: tensor(gpu, draw(12), [3, 4]), counts: tensor(gpu, [1, 3, 2]) };
    const [features, other] = [draw(41 * 4), tensor(gpu, 1.25, [], { requiresGrad: true })];
    const input = () => tensor(gpu, features, [41, 4], { requiresGrad: true });
    const [z, alone] = [input(), input()];
    const options = { kind };
    const { total, separation } = addPrototypeDistance(
      { loss: mul(other, 2), weight, factor: 0.1 },
      z,
      prototypes,
      classes,
      mask,
      options,
    );
    const expected = prototypeDistance(alone, prototypes, classes, mask, options);
    const sum = add(mul(other, 2), mul(mul(expected, 0.1), weight));
    closeTo(await separation.read(), await expected.read());
    closeTo(await total.read(), await sum.read(), { rtol: 2e-7 });
    const [got, want] = [backward(total, tensor(gpu, 3)), backward(sum, tensor(gpu, 3))];
    const slopes = await want.get(alone)!.read();
    assert.ok(slopes.some((v) => v !== 0));
    const atol = 1e-6 * Math.max(...slopes.map(Math.abs));
    closeTo(await got.get(z)!.read(), slopes, { rtol: 1e-5, atol });
    closeTo(await got.get(other)!.read(), [6]);
  });
}

test('more pixels than threads that leave rows of their own', async () => {
  const gpu = await testGpu();
  const [pixels, width] = [2 ** 16 + 3, 3];
  const uniform = uniformStream(8, 33);
  const draw = (size: number) => Float32Array.from({ length: size }, () => 2 * uniform() - 1);
  const bytes = (most: number) => Uint8Array.from({ length: pixels }, () => Math.floor((most + 1) * uniform()));
  const [z, vectors, counts] = [draw(pixels * width), draw(2 * width), [1, 2]];
  const [classes, mask] = [bytes(1), bytes(1)];
  const expected = separation(
    ndArray([pixels, width], z),
    ndArray([2, width], vectors),
    ndArray([2], counts),
    ndArray([pixels], classes),
    ndArray([pixels], mask),
    'pull',
    1,
  );
  const loss = prototypeDistance(
    tensor(gpu, z, [pixels, width]),
    { vectors: tensor(gpu, vectors, [2, width]), counts: tensor(gpu, counts) },
    tensor(gpu, classes, [pixels], { dtype: 'u8' }),
    tensor(gpu, mask, [pixels], { dtype: 'u8' }),
    { kind: 'pull' },
  );
  closeTo(await loss.read(), expected.data, { rtol: 1e-6 });
});

test('a feature of length 0: finite loss, no gradient', async () => {
  const gpu = await testGpu();
  const z = tensor(gpu, [0, 0, 0, 0, 3, 0, 0, 4], [2, 4], { requiresGrad: true });
  const vectors = tensor(gpu, [1, 0, 0, 0, 0, 2, 0, 0], [2, 4]);
  const [classes, mask] = [tensor(gpu, [0, 0], [2], { dtype: 'u8' }), tensor(gpu, [1, 1], [2], { dtype: 'u8' })];
  const loss = prototypeDistance(z, { vectors, counts: tensor(gpu, [1, 1]) }, classes, mask, { kind: 'pull' });
  closeTo(await loss.read(), [(1 + 0.4) / 2], { rtol: 1e-6 });
  const [along, across] = [-(1 - 0.6 * 0.6) / 5 / 2, (0.6 * 0.8) / 5 / 2];
  closeTo(await backward(loss).get(z)!.read(), [0, 0, 0, 0, along, 0, 0, across], { atol: 1e-7 });
});

test('pseudo-classes: the label where there is one, else what the teacher says', () => {
  const checks = [
    [1, 2, 0],
    [257, 4, 101],
    [257, 3, 0],
    [34, 5, 34],
  ].map(
    ([pixels = 0, classes = 0, labeledPixels = 0]) =>
      () =>
        checkOp({
          op: (teacher, labels) => pseudoClasses(teacher!, labels!, labeledPixels),
          reference: (teacher, labels) =>
            ndArray(
              [pixels],
              rowsOf(teacher!).map((row, i) => (i < labeledPixels ? labels!.data[i]! : argmaxOf(row))),
            ),
          inputs: [
            { shape: [pixels, classes], grad: false },
            { shape: [pixels], dtype: 'u8', range: [0, classes - 1] },
          ],
        }),
  );
  return checks.reduce((before, check) => before.then(check), Promise.resolve());
});

test('cosines between prototypes, 0 for a class never seen', () =>
  checkOp({
    op: (vectors, counts) => prototypeCosines({ vectors: vectors!, counts: counts! }),
    reference: (vectors, counts) => {
      const rows = rowsOf(vectors!);
      const seen = (k: number) => counts!.data[k]! > 0;
      const cosine = (a: Float64Array, b: Float64Array) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
      return ndArray(
        [4, 4],
        rows.flatMap((a, i) => rows.map((b, k) => (seen(i) && seen(k) ? cosine(a, b) : 0))),
      );
    },
    inputs: [
      { shape: [4, 7], grad: false },
      { shape: [4], values: [3, 1, 0, 2], grad: false },
    ],
  }));

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const prototypes = createPrototypes(gpu, 4, 8);
  const bytes = (size: number) => tensor(gpu, 0, [size], { dtype: 'u8' });
  const kind = 'pull';
  await refuses(
    () => prototypeDistance(tensor(gpu, 0, [3, 7]), prototypes, bytes(3), bytes(3), { kind }),
    ShapeError,
    /prototypeDistance: got features \[3,7\], vectors \[4,8\]/,
  );
  await refuses(
    () => prototypeDistance(tensor(gpu, 0, [3, 8]), prototypes, bytes(3), bytes(2), { kind }),
    ShapeError,
    /prototypeDistance: got mask u8 \[2\] — expected u8 \[3\]/,
  );
  const one = tensor(gpu, 1);
  const batch = { labels: bytes(3), labeledPixels: 1, threshold: one, unlabeledWeight: one, momentum: 0.9 };
  await refuses(
    () =>
      updatePrototypes(prototypes, {
        ...batch,
        features: tensor(gpu, 0, [3, 8]),
        teacherLogits: tensor(gpu, 0, [3, 5]),
      }),
    ShapeError,
    /updatePrototypes: teacher logits \[3,5\]/,
  );
  const weights = tensor(gpu, 0, [2]);
  await refuses(
    () => updatePrototypes(prototypes, { ...batch, features: tensor(gpu, 0, [3, 8]), weights, classes: bytes(3) }),
    ShapeError,
    /updatePrototypes: got weights f32 \[2\], classes u8 \[3\] — expected f32 and u8 \[3\]/,
  );
  await refuses(
    () =>
      addPrototypeDistance({ loss: weights, weight: one, factor: 1 }, weights, prototypes, bytes(3), bytes(3), {
        kind,
      }),
    ShapeError,
    /addPrototypeDistance: got loss f32 \[2\], expected one f32 number/,
  );
  await refuses(
    () => prototypeCosines(createPrototypes(gpu, 17, 8)),
    ShapeError,
    /prototypeCosines: got vectors \[17,8\], counts \[17\] — expected \[K, D\], \[K\] with K ≤ 16/,
  );
});

test('an update is two launches, cosines one, a distance two and one for the gradient', async () => {
  const gpu = await testGpu();
  const prototypes = createPrototypes(gpu, 3, 4);
  const bytes = tensor(gpu, 1, [9], { dtype: 'u8' });
  const [features, weights, one] = [
    tensor(gpu, 1, [9, 4], { requiresGrad: true }),
    tensor(gpu, 1, [9]),
    tensor(gpu, 1),
  ];
  const batch = { features, weights, classes: bytes, labeledPixels: 4, unlabeledWeight: one, momentum: 0.9 };
  const launches = (work: () => unknown) => capture(gpu, work).info.launches;
  assert.is(
    launches(() => updatePrototypes(prototypes, batch)),
    2,
  );
  assert.is(
    launches(() => prototypeCosines(prototypes)),
    1,
  );
  const seed = tensor(gpu, 1);
  const options = { kind: 'pull' } as const;
  assert.is(
    launches(() => backward(prototypeDistance(features, prototypes, bytes, bytes, options), seed)),
    3,
  );
});

test.run();
