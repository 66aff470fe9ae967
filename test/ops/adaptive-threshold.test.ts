// Thresholds kept on the GPU, against sorted float64 confidences and plain means, over several updates of a replayed step.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { capture, type Dtype, ShapeError, tensor, uniformStream } from '../../engine/index.js';
import {
  createClassThresholds,
  createQuantileThreshold,
  updateClassThresholds,
  updateQuantileThreshold,
} from '../../engine/method.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { ndArray } from '../reference/nd-array.js';
import { argmaxOf, softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('adaptive thresholds');
const testHalf = unless(await lacking('shader-f16'), test);

const confidences = ['student', 'teacher', 'mean', 'min'] as const;
type Source = (typeof confidences)[number];

/** Float64 confidence and teacher's class of every pixel. */
function confidenceOf(student: Float32Array, teacher: Float32Array, classes: number, source: Source) {
  const shape = [student.length / classes, classes];
  const [p, q] = [softmaxRows(ndArray(shape, student)), softmaxRows(ndArray(shape, teacher))];
  return p.map((row, i) => ({
    class: argmaxOf(q[i]!),
    value: {
      student: Math.max(...row),
      teacher: Math.max(...q[i]!),
      mean: Math.max(...row.map((v, k) => (v + q[i]![k]!) / 2)),
      min: Math.min(Math.max(...row), Math.max(...q[i]!)),
    }[source],
  }));
}

const cases = confidences.flatMap((source, n) =>
  [
    { source, pixels: 1, first: 0, classes: 3, everywhere: true },
    { source, pixels: 1283, first: 256 + n, classes: [4, 3, 2, 16][n]!, everywhere: n % 2 === 0 },
  ].slice(n === 0 ? 0 : 1),
);

for (const { source, pixels, first, classes, everywhere } of cases) {
  const what = `confidence ${source}, ${pixels} pixels from ${first} on, ${classes} classes`;
  const draw = async (seed: number) => {
    const uniform = uniformStream(seed, 31);
    const values = () => Float32Array.from({ length: pixels * classes }, () => 8 * uniform() * uniform() - 4);
    return [values(), values()] as const;
  };
  const taken = (values: Float32Array) => values.subarray(first * classes);
  const inputs = async () => {
    const gpu = await testGpu();
    const student = tensor(gpu, 0, [pixels, classes]);
    const teacher = tensor(gpu, 0, [everywhere ? pixels : pixels - first, classes]);
    return { gpu, student, teacher };
  };

  test(`quantile, ${what}`, async () => {
    const { gpu, student, teacher } = await inputs();
    const bin = (1 - 1 / classes) / 1024;
    for (const [quantile, momentum] of [
      [0.1, 0],
      [0.5, 0.6],
      [0.97, 0.99],
    ] as const) {
      const state = createQuantileThreshold(gpu);
      const step = capture(gpu, () =>
        updateQuantileThreshold(state, student, teacher, { confidence: source, firstPixel: first, quantile, momentum }),
      );
      let expected = 0;
      for (let n = 0; n < 3; n++) {
        const [p, q] = await draw(n);
        student.write(p);
        teacher.write(everywhere ? q : taken(q));
        step();
        const sorted = confidenceOf(taken(p), taken(q), classes, source)
          .map(({ value }) => value)
          .sort((a, b) => a - b);
        // The share of pixels below the value is `quantile`, to within one pixel.
        const rank = quantile * sorted.length;
        const low = sorted[Math.max(0, Math.ceil(rank) - 1)]!;
        const m = Math.min(1 - 1 / (n + 1), momentum);
        const before = expected;
        expected = m * before + (1 - m) * low;
        const got = await state.value.item();
        assert.ok(Math.abs(got - expected) <= bin + 1e-6, `update ${n}: ${got}, expected ${expected} ± ${bin}`);
        expected = got; // errors of a bin do not add up in the comparison
        assert.is(await state.updates.item(), n + 1);
      }
    }
  });

  test(`per class, ${what}`, async () => {
    const { gpu, student, teacher } = await inputs();
    const base = tensor(gpu, 0.9);
    const state = createClassThresholds(gpu, classes);
    const options = { confidence: source, firstPixel: first, base, momentum: 0.6 };
    const step = capture(gpu, () => updateClassThresholds(state, student, teacher, options));
    const means = Array.from({ length: classes }, () => 0);
    const updates = Array.from({ length: classes }, () => 0);
    for (let n = 0; n < 3; n++) {
      const [p, q] = await draw(n + 10);
      // The first batch has no pixel of the last class: its threshold is the base, then it follows.
      if (n === 0) for (let i = classes - 1; i < q.length; i += classes) q[i] = -9;
      student.write(p);
      teacher.write(everywhere ? q : taken(q));
      step();
      const pixelsOf = Array.from({ length: classes }, (): number[] => []);
      for (const { class: k, value } of confidenceOf(taken(p), taken(q), classes, source)) pixelsOf[k]!.push(value);
      pixelsOf.forEach((values, k) => {
        if (!values.length) return;
        const m = Math.min(1 - 1 / (updates[k]! + 1), 0.6);
        means[k] = m * means[k]! + ((1 - m) * values.reduce((a, b) => a + b)) / values.length;
        updates[k]!++;
      });
      const most = Math.max(...means);
      const expected = means.map((mean, k) => (updates[k] ? (0.9 * mean) / most : 0.9));
      if (n === 0) assert.is(expected[classes - 1], 0.9);
      closeTo(await state.updates.read(), updates, {}, `update ${n}: counts`);
      closeTo(await state.values.read(), expected, { rtol: 3e-6 }, `update ${n}: thresholds`);
    }
    assert.ok(pixels === 1 || updates[classes - 1]! > 0, 'the last class was seen in the end');
  });
}

test('many pixels, most of them certain: the share kept is the quantile', async () => {
  const gpu = await testGpu();
  const [pixels, classes] = [300_000, 4];
  const uniform = uniformStream(3, 32);
  // 90 of 100 pixels are surer than 0.999, as background is.
  const logits = Float32Array.from(
    { length: pixels * classes },
    (_, i) => (i % 4 ? 0 : uniform() < 0.9 ? 12 : 0) + 2 * uniform(),
  );
  const student = tensor(gpu, logits, [pixels, classes]);
  const state = createQuantileThreshold(gpu);
  const values = confidenceOf(logits, logits, classes, 'student').map(({ value }) => value);
  for (const quantile of [0.02, 0.08]) {
    updateQuantileThreshold(state, student, student, { confidence: 'teacher', firstPixel: 0, quantile, momentum: 0 });
    const limit = await state.value.item();
    const share = values.filter((value) => value < limit).length / pixels;
    assert.ok(Math.abs(share - quantile) < 0.001, `${share} kept by ${limit}, expected ${quantile}`);
  }
});

test('all pixels alike, or certain; quantiles 0 and 1', async () => {
  const gpu = await testGpu();
  const state = createQuantileThreshold(gpu);
  const options = { confidence: 'student', firstPixel: 0, momentum: 0 } as const;
  const alike = tensor(gpu, 0, [600, 2]);
  updateQuantileThreshold(state, alike, alike, { ...options, quantile: 0 });
  closeTo(await state.value.read(), [0.5], { atol: 1e-6 }, 'nothing is below the least');
  updateQuantileThreshold(state, alike, alike, { ...options, quantile: 1 });
  closeTo(await state.value.read(), [0.5 + 0.5 / 1024], { atol: 1e-6 }, 'all are below the end of their bin');
  const certain = tensor(
    gpu,
    Float32Array.from({ length: 1200 }, (_, i) => (i % 2 ? 90 : -90)),
    [600, 2],
  );
  updateQuantileThreshold(state, certain, certain, { ...options, quantile: 1 });
  closeTo(await state.value.read(), [1], {}, 'certain pixels are in the last bin');
});

testHalf('f16 logits', async () => {
  const gpu = await testGpu();
  const dtype: Dtype = 'f16';
  const uniform = uniformStream(9, 33);
  const x = tensor(
    gpu,
    Float32Array.from({ length: 4000 }, () => 4 * uniform() - 2),
    [1000, 4],
    { dtype },
  );
  const held = (await x.read()) as Float32Array;
  const sorted = confidenceOf(held, held, 4, 'student').sort((a, b) => a.value - b.value);
  const state = createQuantileThreshold(gpu);
  updateQuantileThreshold(state, x, x, { confidence: 'student', firstPixel: 0, quantile: 0.3, momentum: 0 });
  closeTo(await state.value.read(), [sorted[299]!.value], { atol: 0.75 / 1024 + 1e-6 });
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const logits = (pixels: number, classes = 3) => tensor(gpu, 0, [pixels, classes]);
  const options = { confidence: 'student', firstPixel: 2, momentum: 0, quantile: 0.1 } as const;
  const state = createQuantileThreshold(gpu);
  const says = (work: () => unknown, message: RegExp) => refuses(work, ShapeError, message);
  await says(
    () => updateQuantileThreshold(state, logits(6), logits(5), options),
    /expected 3 classes of 4 or 6 pixels/,
  );
  await says(
    () => updateQuantileThreshold(state, logits(6), logits(6), { ...options, firstPixel: 6 }),
    /got firstPixel 6 of 6 pixels/,
  );
  await says(
    () => updateQuantileThreshold(state, logits(6), logits(6), { ...options, quantile: 10 }),
    /got quantile 10, expected 0 to 1/,
  );
  await says(
    () =>
      updateClassThresholds(createClassThresholds(gpu, 4), logits(6), logits(6), { ...options, base: tensor(gpu, 1) }),
    /thresholds \[4\], expected one f32 number and \[3\]/,
  );
});

test.run();
