// NaN stays visible: a row per op, fused and not, f32 and f16. Each is given one NaN among ordinary numbers; what it computes from
// that number must be NaN, and so must the gradient there, on every adapter (WGSL's min, max, clamp and comparisons may drop it).
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  abs,
  add,
  argmax,
  averagePool,
  backward,
  batchNorm,
  broadcastTo,
  clamp,
  concat,
  conv,
  convTranspose,
  cos,
  createRandom,
  crossEntropy,
  cumsum,
  type Dtype,
  diceLoss,
  div,
  equal,
  erf,
  exp,
  flip,
  gather,
  gaussianNoise,
  gelu,
  instanceNorm,
  leakyRelu,
  log,
  logSoftmax,
  matmul,
  max,
  maximum,
  maxPool,
  mean,
  min,
  minimum,
  mul,
  neg,
  normActivation,
  pad,
  permute,
  pow,
  prod,
  reciprocal,
  relu,
  reshape,
  resize,
  rsqrt,
  scatterAdd,
  sigmoid,
  silu,
  sin,
  slice,
  softmax,
  softplus,
  sqrt,
  square,
  std,
  sub,
  sum,
  type Tensor,
  tanh,
  tensor,
  tile,
  topK,
  upsample,
  variance,
  where,
} from '../../engine/index.js';
import { createPrototypes, maskedConsistency, meanTeacherLoss, prototypeDistance } from '../../engine/method.js';
import { unet } from '../../model/index.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { unless } from '../unless.js';

const test = suite('NaN stays visible');
const testHalf = unless(await lacking('shader-f16'), test);

/** 1, 2, 3, … over 8, of both signs where `signed`, with a NaN at `at`. */
function values(size: number, at: number, signed = true): Float32Array {
  const xs = Float32Array.from({ length: size }, (_, i) => (((i * 7) % size) + 1) / 8 - (signed ? size / 16 : 0));
  xs[at] = Number.NaN;
  return xs;
}

const gpu = await testGpu();
const constant = (shape: number[], dtype: Dtype = 'f32'): Tensor =>
  tensor(
    gpu,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => ((i % 5) - 1) / 4),
    shape,
    { dtype },
  );
const ones = (channels: number): Tensor => tensor(gpu, 1, [channels]);
const zeros = (channels: number): Tensor => tensor(gpu, 0, [channels]);
const runningStatistics = (channels: number) => ({ mean: zeros(channels), variance: ones(channels) });
const random = createRandom(gpu, 1);

interface Row {
  op: (x: Tensor) => Tensor;
  shape?: number[];
  /** Where x is NaN; default 5. */
  at?: number;
  /** Outputs that must be NaN; by default the one at `at` alone. */
  spoils?: 'same' | number[];
  /** x has no negative numbers. */
  positive?: boolean;
  /** There is a fused way and a plain one. */
  fuses?: boolean;
}

const image = [1, 4, 4, 4];

const rows: Record<string, Row> = {
  add: { op: (x) => add(x, 1) },
  'add of two': { op: (x) => add(x, constant([4, 4], x.dtype)) },
  sub: { op: (x) => sub(1, x) },
  mul: { op: (x) => mul(x, 0) },
  div: { op: (x) => div(x, 2) },
  'div by it': { op: (x) => div(2, x) },
  neg: { op: neg },
  exp: { op: exp },
  log: { op: log, positive: true },
  sqrt: { op: sqrt, positive: true },
  square: { op: square },
  abs: { op: abs },
  clamp: { op: (x) => clamp(x, -0.25, 0.25) },
  'clamp to all': { op: (x) => clamp(x, -Infinity, Infinity) },
  rsqrt: { op: rsqrt, positive: true },
  reciprocal: { op: reciprocal },
  sin: { op: sin },
  cos: { op: cos },
  erf: { op: erf },
  tanh: { op: tanh },
  sigmoid: { op: sigmoid },
  silu: { op: silu },
  softplus: { op: softplus },
  gelu: { op: (x) => gelu(x) },
  'gelu, tanh': { op: (x) => gelu(x, { approximate: 'tanh' }) },
  pow: { op: (x) => pow(x, 3) },
  'pow of it': { op: (x) => pow(3, x) },
  minimum: { op: (x) => minimum(x, 0.1) },
  maximum: { op: (x) => maximum(constant([4, 4], x.dtype), x) },
  where: { op: (x) => where(equal(x, x), 1, x) },
  relu: { op: relu },
  'relu of an image': { fuses: true, op: relu, shape: image },
  leakyRelu: { op: (x) => leakyRelu(x, 0.1) },
  'leakyRelu of an image': { fuses: true, op: (x) => leakyRelu(x, 0.1), shape: image },
  'leakyRelu, odd': { op: (x) => leakyRelu(x, 0.1), shape: [7] },
  gaussianNoise: { op: (x) => gaussianNoise(x, { std: 0.1, clip: 0.2, random }) },
  softmax: { op: softmax, spoils: [4, 5, 6, 7] },
  'softmax of three': { op: softmax, shape: [5, 3], spoils: [3, 4, 5] },
  logSoftmax: { op: logSoftmax, spoils: [4, 5, 6, 7] },
  'logSoftmax of three': { op: logSoftmax, shape: [5, 3], spoils: [3, 4, 5] },
  sum: { op: (x) => sum(x, 1), spoils: [1] },
  mean: { op: (x) => mean(x), spoils: [0] },
  max: { op: (x) => max(x, 1), spoils: [1] },
  'max of the first axis': { op: (x) => max(x, 0), spoils: [1] },
  'max of all': { op: (x) => max(x), spoils: [0] },
  'max of many': { op: (x) => max(x), shape: [3000], spoils: [0], at: 2100 },
  'max of hundreds': { op: (x) => max(x), shape: [400], spoils: [0], at: 311 },
  min: { op: (x) => min(x, 1), spoils: [1] },
  'min of many': { op: (x) => min(x), shape: [3000], spoils: [0], at: 2100 },
  prod: { op: (x) => prod(x, 1), spoils: [1] },
  variance: { op: (x) => variance(x, 1), spoils: [1] },
  std: { op: (x) => std(x, 1), spoils: [1] },
  cumsum: { op: (x) => cumsum(x, 1), spoils: [5, 6, 7] },
  topK: { op: (x) => topK(x, 2).values, spoils: [2] },
  permute: { op: (x) => permute(x, [1, 0]), spoils: [5] },
  flip: { op: (x) => flip(x, 1), spoils: [6] },
  tile: { op: (x) => tile(x, [1, 2]), spoils: [9, 13] },
  broadcastTo: { op: (x) => broadcastTo(x, [2, 4, 4]), spoils: [5, 21] },
  pad: { op: (x) => pad(x, [0, 1]), spoils: [8] },
  'pad, reflect': { op: (x) => pad(x, [0, 1], { mode: 'reflect' }), spoils: [6, 8] },
  gather: { op: (x) => gather(x, tensor(gpu, [1, 3, 1], [3], { dtype: 'u8' })), spoils: [1, 9] },
  scatterAdd: {
    op: (x) => scatterAdd(x, tensor(gpu, [1], [1], { dtype: 'u8' }), constant([1, 4], x.dtype)),
  },
  maxPool: { op: (x) => maxPool(x), shape: image, spoils: [1] },
  'maxPool, three channels': { op: (x) => maxPool(x), shape: [1, 4, 4, 3], spoils: [2] },
  'maxPool of threes': { op: (x) => maxPool(x, { window: 3, stride: 1 }), shape: image, spoils: [1] },
  'averagePool of threes': { op: (x) => averagePool(x, { window: 3, stride: 1 }), shape: image, spoils: [1] },
  'maxPool of an activation': { fuses: true, op: (x) => maxPool(leakyRelu(x)), shape: image, spoils: [1] },
  'maxPool of a norm': {
    fuses: true,
    op: (x) => maxPool(normActivation(x, ones(4), zeros(4), { running: runningStatistics(4), mode: 'eval', slope: 0 })),
    shape: image,
    spoils: [1],
  },
  matmul: { op: (x) => matmul(x, constant([4, 2], x.dtype)), spoils: [2, 3] },
  reshape: { op: (x) => reshape(x, [16]) },
  slice: { op: (x) => slice(x, 0, 1, 2), spoils: [1] },
  concat: { op: (x) => concat([constant([4, 4], x.dtype), x], 1), spoils: [13] },
  upsample: { op: (x) => upsample(x), shape: image, spoils: [5] },
  resize: { op: (x) => resize(x, [6, 6]), shape: image, spoils: [5] },
  'resize, cubic': { op: (x) => resize(x, [6, 6], { mode: 'cubic' }), shape: image, spoils: [5] },
  conv: { op: (x) => conv(x, constant([2, 1, 1, 4], x.dtype)), shape: image, spoils: [2, 3] },
  'conv of an activation': {
    fuses: true,
    op: (x) => conv(leakyRelu(x), constant([2, 1, 1, 4], x.dtype)),
    shape: image,
    spoils: [2, 3],
  },
  'conv of a relu': {
    fuses: true,
    op: (x) => conv(relu(x), constant([2, 1, 1, 4], x.dtype)),
    shape: image,
    spoils: [2, 3],
  },
  '3×3 conv of an activation': {
    fuses: true,
    op: (x) => conv(leakyRelu(x), constant([4, 3, 3, 4], x.dtype)),
    shape: image,
    spoils: [4],
  },
  'conv of a norm': {
    fuses: true,
    op: (x) =>
      conv(
        normActivation(x, ones(4), zeros(4), { running: runningStatistics(4), mode: 'eval', slope: 0 }),
        constant([4, 3, 3, 4], x.dtype),
      ),
    shape: image,
    spoils: [4],
  },
  convTranspose: { op: (x) => convTranspose(x, constant([2, 2, 2, 4], x.dtype)), shape: image, spoils: [4] },
  batchNorm: {
    op: (x) => batchNorm(x, ones(4), zeros(4), { running: runningStatistics(4), mode: 'train' }),
    spoils: [1, 5, 9, 13],
  },
  instanceNorm: { op: (x) => instanceNorm(x, ones(4), zeros(4)), shape: image, spoils: [1, 5, 9, 13] },
  normActivation: {
    fuses: true,
    op: (x) => normActivation(x, ones(4), zeros(4), { running: runningStatistics(4), mode: 'train', slope: 0.01 }),
    shape: image,
    spoils: [1, 5, 9, 13],
  },
  'normActivation, relu': {
    fuses: true,
    op: (x) => normActivation(x, ones(4), zeros(4), { running: runningStatistics(4), mode: 'train', slope: 0 }),
    shape: image,
    spoils: [1, 5, 9, 13],
  },
};

for (const dtype of ['f32', 'f16'] as const) {
  const register = dtype === 'f16' ? testHalf : test;
  for (const [name, row] of Object.entries(rows)) {
    for (const fuse of row.fuses ? [true, false] : [true]) {
      register(`${name}, ${dtype}${fuse ? '' : ', not fused'}`, async () => {
        const { op, shape = [4, 4], at = 5, spoils = 'same', positive = false } = row;
        const before = gpu.flags.fuse;
        gpu.flags.fuse = fuse;
        try {
          const size = shape.reduce((a, b) => a * b, 1);
          const x = tensor(gpu, values(size, at, !positive), shape, { dtype, requiresGrad: true });
          const y = op(x);
          // The gradient of Σ y²: dy is NaN where y is.
          const dx = backward(sum(square(y))).get(x)!;
          const value = Array.from(await y.read());
          const gradient = Array.from(await dx.read());
          for (const i of spoils === 'same' ? [at] : spoils) {
            assert.ok(Number.isNaN(value[i]), `value ${i} is ${value[i]} of ${value.join(' ')}`);
          }
          if (spoils === 'same') assert.equal(value.filter(Number.isNaN).length, 1, 'other values are spoiled');
          assert.ok(Number.isNaN(gradient[at]), `gradient ${at} is ${gradient[at]} of ${gradient.join(' ')}`);
        } finally {
          gpu.flags.fuse = before;
        }
      });
    }
  }
}

const labels = tensor(gpu, [0, 1, 2, 3, 0, 1], [6], { dtype: 'u8' });
const kinds = ['mse', 'kl', 'ce', 'ce-dice'] as const;
const confidences = ['student', 'teacher', 'mean', 'min', 'given', 'none'] as const;

/** Logits [6, 4] with a NaN in pixel 4 where `spoiled`. */
const logitsOf = (spoiled: boolean, requiresGrad = false): Tensor =>
  tensor(gpu, values(24, spoiled ? 17 : 24), [6, 4], { requiresGrad });

/** Throws unless the loss is NaN and, where asked for, the student's gradient has a NaN. */
async function showsNan(what: string, loss: Tensor, student?: Tensor): Promise<void> {
  const dx = student && backward(loss).get(student);
  assert.ok(Number.isNaN(await loss.item()), `${what}: the loss is ${await loss.item()}`);
  if (dx) assert.ok((await dx.read()).some(Number.isNaN), `${what}: the gradient is ${await dx.read()}`);
}

test('cross-entropy and Dice of one NaN among the logits', async () => {
  for (const [name, op] of Object.entries({ crossEntropy, diceLoss })) {
    const x = logitsOf(true, true);
    await showsNan(name, op(x, labels), x);
  }
});

const good = { threshold: tensor(gpu, [0.5]), scores: tensor(gpu, [0.1, 0.9, 0.1, 0.9, 0.9, 0.1]) };

for (const kind of kinds) {
  test(`consistency, ${kind}: a NaN of student, teacher, threshold or confidence is not masked away`, async () => {
    for (const confidence of confidences) {
      for (const bad of ['student', 'teacher', 'threshold', 'scores'] as const) {
        if (bad === 'threshold' && confidence === 'none') continue;
        if (bad === 'scores' && confidence !== 'given') continue;
        for (const invert of confidence === 'mean' ? [true, false] : [false]) {
          const x = logitsOf(bad === 'student', true);
          const teacher = logitsOf(bad === 'teacher');
          const options = {
            kind,
            confidence,
            invert,
            threshold: bad === 'threshold' ? tensor(gpu, [Number.NaN]) : good.threshold,
            ...(confidence === 'given' && {
              scores: bad === 'scores' ? tensor(gpu, [0.1, 0.1, Number.NaN, 0.9, 0.9, 0.9]) : good.scores,
            }),
          };
          const what = `${confidence}${invert ? ' inverted' : ''}, NaN in ${bad}`;
          await showsNan(`maskedConsistency ${what}`, maskedConsistency(x, teacher, options).loss, x);
          const weight = tensor(gpu, [0.1]);
          const fused = meanTeacherLoss(x, { labels, labeledPixels: 2 }, { ...options, logits: teacher, weight });
          await showsNan(`meanTeacherLoss ${what}`, fused.loss, x);
        }
      }
    }
  });
}

test('argmax is the index of the first NaN, as numpy’s', async () => {
  const n = Number.NaN;
  const x = tensor(gpu, [1, 2, n, 4, n, 9, n, 1, 3, 5, 5, 1, -Infinity, n, Infinity, 0], [4, 4]);
  assert.equal([...(await argmax(x).read())], [2, 0, 1, 1]);
});

test('infinities: what IEEE says, and no number where there is none', async () => {
  const n = Number.NaN;
  const row = [-Infinity, -1, -0, 0, 1, Infinity, n, 2];
  const each: [string, (x: Tensor) => Tensor, number[]][] = [
    ['exp', exp, [0, Math.exp(-1), 1, 1, Math.E, Infinity, n, Math.exp(2)]],
    ['log', log, [n, n, -Infinity, -Infinity, 0, Infinity, n, Math.LN2]],
    ['sqrt', sqrt, [n, n, 0, 0, 1, Infinity, n, Math.SQRT2]],
    ['square', square, [Infinity, 1, 0, 0, 1, Infinity, n, 4]],
    ['abs', abs, [Infinity, 1, 0, 0, 1, Infinity, n, 2]],
    ['relu', relu, [0, 0, 0, 0, 1, Infinity, n, 2]],
    ['leakyRelu', (x) => leakyRelu(x, 0.5), [-Infinity, -0.5, 0, 0, 1, Infinity, n, 2]],
    ['x − x', (x) => sub(x, x), [n, 0, 0, 0, 0, n, n, 0]],
    ['0 · x', (x) => mul(x, 0), [n, 0, 0, 0, 0, n, n, 0]],
  ];
  for (const size of [8, 7]) {
    const x = tensor(gpu, row.slice(0, size));
    for (const [name, op, expected] of each) {
      closeTo(await op(x).read(), expected.slice(0, size), { atol: 1e-6, rtol: 1e-5 }, name);
    }
  }
  const rows = tensor(gpu, [-Infinity, 0, 0, -Infinity, 0, Infinity, 1, 2, ...new Array(4).fill(-Infinity)], [3, 4]);
  const expected = [0, 0.5, 0.5, 0, ...new Array(8).fill(n)];
  closeTo(await softmax(rows).read(), expected, { atol: 1e-6 }, 'softmax');
  const logs = expected.map(Math.log);
  closeTo(await logSoftmax(rows).read(), logs, { atol: 1e-6 }, 'logSoftmax');
  const masked = tensor(gpu, [-Infinity, 0, 0, -Infinity], [1, 4]);
  const label = tensor(gpu, [1], [1], { dtype: 'u8' });
  closeTo([await crossEntropy(masked, label).item()], [Math.LN2], { atol: 1e-6 }, 'crossEntropy of a masked row');
  await showsNan('crossEntropy of ∞', crossEntropy(tensor(gpu, [0, 1, Infinity, 2], [1, 4]), label));
});

test('distances of features to prototypes', async () => {
  const prototypes = createPrototypes(gpu, 4, 4);
  prototypes.vectors.write(values(16, 16));
  prototypes.counts.write([1, 1, 1, 1]);
  for (const kind of ['pull', 'proto-ce', 'distance'] as const) {
    const z = logitsOf(true, true);
    await showsNan(kind, prototypeDistance(z, prototypes, labels, undefined, { kind }), z);
    if (kind === 'pull') continue; // it looks at the own prototype only
    const spoiled = createPrototypes(gpu, 4, 4);
    spoiled.vectors.write(values(16, 3));
    spoiled.counts.write([1, 1, 1, 1]);
    const others = tensor(gpu, [1, 1, 2, 2, 3, 3], [6], { dtype: 'u8' });
    await showsNan(`${kind}, another class`, prototypeDistance(logitsOf(false), spoiled, others, undefined, { kind }));
  }
});

test('a net whose weights are NaN has a loss that is NaN', async () => {
  for (const fuse of [true, false]) {
    const before = gpu.flags.fuse;
    gpu.flags.fuse = fuse;
    try {
      const net = unet(gpu, { inChannels: 1, classes: 4, features: [4, 8], dropout: [0, 0] });
      const fine = unet(gpu, { inChannels: 1, classes: 4, features: [4, 8], dropout: [0, 0] });
      for (const p of net.parameters) p.write(new Float32Array(p.size).fill(Number.NaN));
      const x = tensor(gpu, values(32, 32), [2, 4, 4, 1]);
      const truth = tensor(
        gpu,
        Uint8Array.from({ length: 32 }, (_, i) => i % 4),
        [2, 4, 4],
        { dtype: 'u8' },
      );
      const weight = tensor(gpu, [0.1]);
      for (const mode of ['train', 'eval'] as const) {
        const [bad, ok] = [net(x, { mode }), fine(x, { mode })];
        await showsNan('crossEntropy', crossEntropy(bad, truth));
        await showsNan('diceLoss', diceLoss(bad, truth));
        await showsNan('supervised', meanTeacherLoss(bad, { labels: truth, labeledPixels: 32 }).loss);
        for (const [student, teacher] of [
          [bad, ok],
          [ok, bad],
        ] as const) {
          for (const kind of kinds) {
            const options = { kind, confidence: 'mean', threshold: good.threshold, logits: teacher, weight } as const;
            for (const labeledPixels of [0, 16]) {
              await showsNan(kind, meanTeacherLoss(student, { labels: truth, labeledPixels }, options).loss);
            }
          }
        }
      }
    } finally {
      gpu.flags.fuse = before;
    }
  }
});

test.run();
