// A projection head computed on the way by class separation and by the update of prototypes: against float64 loops, and against the
// convolutions that it stands for. Small heads on a driver for CPUs would run as these convolutions: `onTheWay` forbids it.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  capture,
  cast,
  conv,
  type Gpu,
  leakyRelu,
  normActivation,
  ShapeError,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { createPrototypes, type ProjectionHead, prototypeDistance, updatePrototypes } from '../../engine/method.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { compare, type Make } from '../compare-fused.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { rowsOf } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('projection');
const testHalf = unless(await lacking('shader-f16'), test);

type Kind = 'pull' | 'proto-ce' | 'distance';

/** Records work as on a GPU, whose kernels compute a head of any number of pixels on the way. */
function onTheWay<T>(gpu: Gpu, work: () => T): T {
  const { software } = gpu.adapter;
  Object.assign(gpu.adapter, { software: false });
  try {
    return work();
  } finally {
    Object.assign(gpu.adapter, { software });
  }
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let d = 0; d < a.length; d++) sum += a[d]! * b[d]!;
  return sum;
}

/** z of every pixel, in float64. */
function projectedRows(f: NdArray, [w1, b1, w2, b2]: readonly NdArray[], slope: number): number[][] {
  const [rows1, rows2] = [rowsOf(w1!), rowsOf(w2!)];
  return rowsOf(f).map((pixel) => {
    const n = rows1.map((row, j) => dot(row, pixel) + b1!.data[j]!);
    const h = n.map((v) => (v > 0 ? v : slope * v));
    return rows2.map((row, d) => dot(row, h) + b2!.data[d]!);
  });
}

/** The loss by its definition, from rows of features. */
function separation(
  z: readonly number[][],
  [vectors, counts, classes, mask]: readonly NdArray[],
  kind: Kind,
  temperature: number,
): NdArray {
  const means = rowsOf(vectors!);
  const seen = means.flatMap((_, k) => (counts!.data[k]! > 0 ? [k] : []));
  const length = (v: ArrayLike<number>) => Math.max(Math.sqrt(dot(v, v)), 1e-8);
  const byClass = means.map((): number[] => []);
  z.forEach((feature, i) => {
    const own = classes!.data[i]!;
    if (!mask!.data[i] || !seen.includes(own)) return;
    const cosine = (k: number) => dot(feature, means[k]!) / length(feature) / length(means[k]!);
    const apart = (k: number) => feature.reduce((sum, v, d) => sum + (v - means[k]![d]!) ** 2, 0);
    const scores = seen.map((k) => (kind === 'distance' ? -apart(k) : cosine(k) / temperature));
    const most = Math.max(...scores);
    const sum = scores.reduce((total, s) => total + Math.exp(s - most), 0);
    byClass[own]!.push(kind === 'pull' ? 1 - cosine(own) : most + Math.log(sum) - scores[seen.indexOf(own)]!);
  });
  const mean = (values: number[]) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0);
  const present = byClass.filter((values) => values.length);
  return ndArray([], [kind === 'pull' ? mean(present.map(mean)) : mean(present.flat())]);
}

for (const [kind, pixels, inputs, hidden, outputs, counts, slope] of [
  ['pull', [1], 4, 4, 4, [1, 2], 0.01],
  ['pull', [2, 3, 35], 8, 12, 4, [4, 0, 1, 1, 2], 0.2],
  ['proto-ce', [3, 61], 12, 8, 16, [1, 2, 3], 0.01],
  ['distance', [1, 5, 7, 9], 4, 16, 8, [1, 1, 0, 5], 0],
] as const) {
  test(`${kind} of ${inputs} → ${hidden} → ${outputs}, pixels [${pixels}], slope ${slope}: value and gradients`, async () => {
    const gpu = await testGpu();
    const range = [-1, 1] as const;
    const temperature = 0.5;
    await checkOp({
      op: (f, weight1, bias1, weight2, bias2, vectors, seen, of, mask) =>
        onTheWay(gpu, () =>
          prototypeDistance(f!, { vectors: vectors!, counts: seen! }, of!, mask!, {
            ...{ kind, temperature },
            projection: { weight1: weight1!, bias1: bias1!, weight2: weight2!, bias2: bias2!, slope },
          }),
        ),
      reference: (f, w1, b1, w2, b2, ...of) =>
        separation(projectedRows(f!, [w1!, b1!, w2!, b2!], slope), of, kind, temperature),
      inputs: [
        { shape: [...pixels, inputs], range },
        { shape: [hidden, 1, inputs], range },
        { shape: [hidden], range },
        { shape: [outputs, hidden], range },
        { shape: [outputs], range },
        { shape: [counts.length, outputs], range, grad: false },
        { shape: [counts.length], values: counts, grad: false },
        { shape: pixels, dtype: 'u8', range: [0, counts.length - 1] },
        { shape: pixels, dtype: 'u8', range: pixels.length > 1 ? [0, 1] : [1, 1] },
      ],
      ...{ rtol: 3e-5, gradAtol: 5e-5 },
    });
  });
}

/** Tensors of class separation: a head, prototypes of four classes, classes and a mask of a batch. */
function partsOf({ data, gpu }: Make, [inputs, hidden, outputs]: readonly number[], pixels: readonly number[]) {
  const uniform = uniformStream(12);
  const axes = pixels.slice(1).map(() => 1);
  const bytes = (value: () => number) =>
    tensor(gpu, Uint8Array.from({ length: pixels.reduce((a, b) => a * b) }, value), [...pixels], { dtype: 'u8' });
  const head: ProjectionHead = {
    ...{ weight1: data([hidden!, ...axes, inputs!]), bias1: data([hidden!]) },
    ...{ weight2: data([outputs!, ...axes, hidden!]), bias2: data([outputs!]), slope: 0.01 },
  };
  return {
    head,
    prototypes: { vectors: data([4, outputs!], false), counts: tensor(gpu, [3, 1, 0, 2]) },
    classes: bytes(() => Math.floor(4 * uniform())),
    mask: bytes(() => (uniform() < 0.7 ? 1 : 0)),
  };
}

type Features = 'plain' | 'norm' | 'norm of groups' | 'relu';

/** Features of an op that defers them, and an output that they lead to otherwise. */
function featuresOf(make: Make, kind: Features, shape: readonly number[]): () => { f: Tensor; other: Tensor } {
  const channels = shape.at(-1)!;
  const axes = shape.slice(1, -1);
  const x = make.data([...shape]);
  const norm = make.norm(channels);
  const weight = make.data([3, ...axes.map(() => 3), channels]);
  return () => {
    const groups = kind === 'norm of groups' ? { groups: [1, shape[0]! - 1] } : {};
    const slope = kind === 'relu' ? 0 : 0.01;
    const f =
      kind === 'plain'
        ? leakyRelu(add(x, 0.1), 0)
        : normActivation(x, norm.gamma, norm.beta, { running: norm.running, mode: 'train', slope, ...groups });
    return { f, other: conv(f, weight) };
  };
}

for (const [of, shape, kind, widths] of [
  ['plain', [2, 5, 9, 8], 'proto-ce', [8, 16, 16]],
  ['norm', [2, 3, 6, 11, 8], 'pull', [8, 16, 16]],
  ['norm of groups', [3, 13, 9, 16], 'proto-ce', [16, 32, 32]],
  ['relu', [1, 4, 5, 6, 64], 'distance', [64, 8, 4]],
  ['norm', [2, 6, 5, 8], 'pull', [8, 6, 10]], // no multiples of four: as convolutions
] as [Features, number[], Kind, [number, number, number]][]) {
  test(`as the convolutions: features ${of} [${shape}], ${kind}, ${widths.join(' → ')}`, () =>
    compare(
      (make) => {
        const next = featuresOf(make, of, shape);
        const { head, prototypes, classes, mask } = partsOf(make, widths, shape.slice(0, -1));
        return () => {
          const { f, other } = next();
          const options = { kind, projection: head };
          const loss = onTheWay(make.gpu, () => prototypeDistance(f, prototypes, classes, mask, options));
          return { outputs: [loss, other] };
        };
      },
      widths[1] % 4 === 0,
    ));

  test(`prototypes as by the convolutions: features ${of} [${shape}], ${widths.join(' → ')}`, async () => {
    const gpu = await testGpu();
    const uniform = uniformStream(14);
    const pixels = shape.slice(0, -1).reduce((a, b) => a * b);
    const weights = Float32Array.from({ length: pixels }, () => Math.max(0, 1.5 * uniform() - 0.5));
    await compare((make) => {
      const next = featuresOf(make, of, shape);
      const { head, classes } = partsOf(make, widths, shape.slice(0, -1));
      const [rho, ofPixels] = [tensor(gpu, 0.5), tensor(gpu, weights, shape.slice(0, -1))];
      return () => {
        const { f, other } = next();
        const moved = {
          vectors: add(tensor(gpu, 1, [4, widths[2]]), 0),
          counts: add(tensor(gpu, [0, 3, 1, 200]), 0),
        };
        onTheWay(gpu, () =>
          updatePrototypes(moved, {
            ...{ features: f, projection: head, weights: ofPixels, classes, labeledPixels: Math.floor(pixels / 3) },
            ...{ unlabeledWeight: rho, momentum: 0.9 },
          }),
        );
        return { outputs: [other, moved.vectors, moved.counts] };
      };
    }, false);
  });
}

testHalf('f16 storage: near to f32', async () => {
  const gpu = await testGpu();
  const [shape, widths] = [
    [2, 7, 11, 8],
    [8, 8, 8],
  ] as const;
  const results = await Promise.all(
    (['f32', 'f16'] as const).map((dtype) => {
      const uniform = uniformStream(15);
      const leaves: Tensor[] = [];
      const data = (of: number[], grad = true): Tensor => {
        const values = Float32Array.from({ length: of.reduce((a, b) => a * b) }, () => 2 * uniform() - 1);
        const t = tensor(gpu, values, of, { requiresGrad: grad });
        if (grad) leaves.push(t);
        return t;
      };
      const x = data([...shape]);
      const { head, prototypes, classes, mask } = partsOf({ data, gpu } as Make, widths, shape.slice(0, -1));
      const f = leakyRelu(cast(x, dtype), 0.1);
      const options = { kind: 'proto-ce', projection: head } as const;
      const loss = onTheWay(gpu, () => prototypeDistance(f, prototypes, classes, mask, options));
      const gradients = backward(loss);
      return Promise.all([loss, ...leaves.map((t) => gradients.get(t)!)].map((t) => t.read()));
    }),
  );
  results[0]!.forEach((expected, i) => {
    const most = Math.max(...Array.from(expected, Math.abs));
    assert.ok(most > 0);
    closeTo(results[1]![i]!, expected, { atol: 2e-3 * most }, `tensor ${i}`);
  });
});

test('pixels that do not count get exactly no gradient, and neither does the head where none counts', async () => {
  const gpu = await testGpu();
  const uniform = uniformStream(16);
  const draw = (...shape: number[]) =>
    tensor(
      gpu,
      Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 2 * uniform() - 1),
      shape,
      { requiresGrad: true },
    );
  const projection = { weight1: draw(8, 4), bias1: draw(8), weight2: draw(4, 8), bias2: draw(4), slope: 0.01 };
  const prototypes = { vectors: draw(3, 4), counts: tensor(gpu, [2, 0, 1]) };
  const f = draw(300, 4);
  const own = Uint8Array.from({ length: 300 }, () => Math.floor(5 * uniform())); // 3 and 4 are no classes
  const classes = tensor(gpu, own, [300], { dtype: 'u8' });
  for (const share of [0.1, 0]) {
    const kept = Uint8Array.from({ length: 300 }, () => (uniform() < share ? 1 : 0));
    const mask = tensor(gpu, kept, [300], { dtype: 'u8' });
    const loss = onTheWay(gpu, () => prototypeDistance(f, prototypes, classes, mask, { kind: 'pull', projection }));
    const gradients = backward(loss);
    const some = kept.some((is, i) => is && (own[i] === 0 || own[i] === 2));
    assert.is(some, share > 0);
    assert.is((await loss.item()) > 0, some);
    (await gradients.get(f)!.read()).forEach((slope, i) => {
      const pixel = Math.floor(i / 4);
      const counts = kept[pixel] === 1 && (own[pixel] === 0 || own[pixel] === 2);
      assert.ok(counts ? slope !== 0 && Number.isFinite(slope) : slope === 0, `element ${i}: ${slope}`);
    });
    for (const name of ['weight1', 'bias1', 'weight2', 'bias2'] as const) {
      const slopes = await gradients.get(projection[name])!.read();
      assert.is(
        slopes.some((v) => v !== 0),
        some,
        name,
      );
    }
  }
});

test('many pixels, a few at a time: workgroups look at several turns of them, and what waits is not lost', async () => {
  const gpu = await testGpu();
  const pixels = 3 * 2 ** 18 + 77; // three turns of 128 for most of 2048 workgroups
  const uniform = uniformStream(17);
  const draw = (size: number) => Float32Array.from({ length: size }, () => 2 * uniform() - 1);
  const features = draw(4 * pixels);
  const made = { w1: draw(16), b1: draw(4), w2: draw(16), b2: draw(4), vectors: draw(8) };
  const own = Uint8Array.from({ length: pixels }, () => (uniform() < 0.5 ? 0 : 1));
  const kept = Uint8Array.from({ length: pixels }, (_, i) => (uniform() < (i < pixels / 2 ? 0.9 : 0.05) ? 1 : 0));
  const grad = { requiresGrad: true };
  const f = tensor(gpu, features, [pixels, 4], grad);
  const projection = {
    ...{ weight1: tensor(gpu, made.w1, [4, 4], grad), bias1: tensor(gpu, made.b1, [4], grad) },
    ...{ weight2: tensor(gpu, made.w2, [4, 4], grad), bias2: tensor(gpu, made.b2, [4], grad), slope: 0.01 },
  };
  const [classes, mask] = [own, kept].map((values) => tensor(gpu, values, [pixels], { dtype: 'u8' }));
  const prototypes = { vectors: tensor(gpu, made.vectors, [2, 4]), counts: tensor(gpu, [1, 2]) };
  const step = capture(gpu, () => {
    const loss = onTheWay(gpu, () =>
      prototypeDistance(f, prototypes, classes!, mask!, { kind: 'distance', projection }),
    );
    const gradients = backward(loss);
    return [loss, gradients.get(projection.bias2)!, gradients.get(projection.bias1)!, gradients.get(f)!];
  });
  const [loss, dBias2, dBias1, df] = await Promise.all(step().map((t) => t.read()));

  const head = [ndArray([4, 4], made.w1), ndArray([4], made.b1), ndArray([4, 4], made.w2), ndArray([4], made.b2)];
  const z = projectedRows(ndArray([pixels, 4], features), head, 0.01);
  const [first, second] = rowsOf(ndArray([2, 4], made.vectors));
  const number = kept.reduce((sum, v) => sum + v, 0);
  let sum = 0;
  const expected2 = new Float64Array(4);
  const expected1 = new Float64Array(4);
  const w2 = rowsOf(head[2]!);
  z.forEach((row, i) => {
    if (!kept[i]) {
      for (let d = 0; d < 4; d++) if (df![4 * i + d] !== 0) throw new Error(`pixel ${i} has a gradient.`);
      return;
    }
    // softmax over −‖z − μ‖² of two classes: the probability of the other one is p, and dz = 2 p (μ_own' − μ_own)… of either sign
    const apart = (mean: Float64Array) => row.reduce((total, v, d) => total + (v - mean[d]!) ** 2, 0);
    const [near, far] = own[i] === 0 ? [first!, second!] : [second!, first!];
    const difference = apart(near) - apart(far);
    sum += Math.log1p(Math.exp(difference));
    const p = 1 / (1 + Math.exp(-difference));
    const dz = row.map((_, d) => (2 * p * (far[d]! - near[d]!)) / number);
    const n = made.b1.map((b, j) => b + dot(made.w1.subarray(4 * j, 4 * j + 4), features.subarray(4 * i, 4 * i + 4)));
    for (let d = 0; d < 4; d++) {
      expected2[d]! += dz[d]!;
      expected1[d]! += (n[d]! > 0 ? 1 : 0.01) * dz.reduce((total, v, o) => total + v * w2[o]![d]!, 0);
    }
  });
  closeTo(loss!, [sum / number], { rtol: 1e-5 });
  closeTo(dBias2!, expected2, { rtol: 1e-4, atol: 1e-6 });
  closeTo(dBias1!, expected1, { rtol: 1e-4, atol: 1e-6 });
});

test('on a driver for CPUs few pixels are projected by convolutions, many on the way', async () => {
  const gpu = await testGpu();
  const { software } = gpu.adapter;
  Object.assign(gpu.adapter, { software: true });
  try {
    const launches = (pixels: number): number =>
      capture(gpu, () => {
        const f = tensor(gpu, 0, [1, 1, pixels, 4]);
        const bytes = tensor(gpu, 0, [1, 1, pixels], { dtype: 'u8' });
        const ones = (...shape: number[]) => tensor(gpu, 1, shape);
        const first = { weight1: ones(4, 1, 1, 4), bias1: ones(4) };
        const projection = { ...first, weight2: ones(32, 1, 1, 4), bias2: ones(32), slope: 0.01 };
        return prototypeDistance(f, createPrototypes(gpu, 2, 32), bytes, bytes, { kind: 'pull', projection });
      }).info.launches;
    assert.is(launches(2 ** 19), 3); // table, sums, value
    assert.ok(launches(64) > 3);
  } finally {
    Object.assign(gpu.adapter, { software });
  }
});

test('heads that do not fit are refused', async () => {
  const gpu = await testGpu();
  const of = (shape: number[], dtype: 'f32' | 'u8' = 'f32') => tensor(gpu, 0, shape, { dtype });
  const good = { weight1: of([8, 4]), bias1: of([8]), weight2: of([4, 8]), bias2: of([4]), slope: 0.01 };
  const call = (projection: object) =>
    prototypeDistance(of([5, 4]), createPrototypes(gpu, 2, 4), of([5], 'u8'), undefined, {
      ...{ kind: 'pull', projection: projection as ProjectionHead },
    });
  call(good);
  await refuses(() => call({ ...good, weight1: of([8, 8]) }), ShapeError, /prototypeDistance.*weight1 f32 \[8,8\]/);
  await refuses(() => call({ ...good, bias2: of([8]) }), ShapeError, /bias2 f32 \[8\]/);
  await refuses(() => call({ ...good, weight2: of([8, 8]) }), ShapeError, /prototypeDistance/);
  await refuses(() => call({ ...good, slope: 2 }), ShapeError, /slope.*2/);
  await refuses(() => call({ ...good, slop: 2 }), ShapeError, /unknown option 'slop'/);
});

test.run();
