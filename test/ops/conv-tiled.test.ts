// The kernels that stage in workgroup memory, against plain loops and against the composition of plain ops.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  batchNorm,
  createRandom,
  dropout,
  flags,
  type Gpu,
  leakyRelu,
  scope,
  sizeOf,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { run } from '../../engine/stream.js';
import { empty } from '../../engine/tensor.js';
import { transposeWeightShader } from '../../shaders/conv.js';
import type { ConvGeometry, WeightOrder } from '../../shaders/conv-geometry.js';
import { convTiledParts, convTiledShader, convTiledWorkgroups, type TiledConvTile } from '../../shaders/conv-tiled.js';
import { normCoefficients } from '../../shaders/norm-activation.js';
import type { Float } from '../../shaders/wgsl.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import * as reference from '../reference/conv.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';

const test = suite('conv-tiled');

flags.poison = true; // what a kernel reads without having written it is NaN

interface Case {
  x: readonly number[];
  outputs: number;
  k: number;
  stride?: 1 | 2;
  tile: Partial<TiledConvTile>;
  order: WeightOrder;
}

const small: TiledConvTile = {
  rows: 4,
  columns: 4,
  outputs: 8,
  chunk: 4,
  threadRows: 2,
  threadColumns: 1,
  threadOutputs: 4,
};
const flat: TiledConvTile = { ...small, rows: 1, columns: 16, threadRows: 1, threadColumns: 4 };

function geometryOf({ x, outputs, k, stride = 1 }: Case): ConvGeometry {
  const solid = x.length === 5;
  const input = (solid ? x.slice(1, 4) : [1, x[1]!, x[2]!]) as unknown as ConvGeometry['input'];
  const output = input.map((n) => Math.ceil(n / stride)) as unknown as ConvGeometry['output'];
  return { batch: x[0]!, input, output, inputs: x.at(-1)!, outputs, kernel: [solid ? k : 1, k, k], stride };
}
const weightShape = ({ x, outputs, k }: Case): number[] => [outputs, ...x.slice(1, -1).map(() => k), x.at(-1)!];

const uniform = uniformStream(9, 5);
/** Numbers in [−1, 1) that f16 holds as they are. */
const random = (shape: readonly number[]): NdArray => {
  const x = ndArray([...shape]);
  for (let i = 0; i < x.data.length; i++) x.data[i] = Math.floor(512 * uniform() - 256) / 256;
  return x;
};
const toGpu = (gpu: Gpu, { data, shape }: NdArray, dtype: Float = 'f32'): Tensor => tensor(gpu, data, shape, { dtype });

/** Errors of sums of `terms` products of numbers below 1. */
const tolerance = (terms: number, dtype: Float = 'f32'): { atol: number; rtol: number } =>
  dtype === 'f16' ? { atol: 1e-3, rtol: 1e-3 } : { atol: 2e-6 * terms ** 0.5, rtol: 1e-5 };

// Awkward on purpose; each in one order of the weights.
const cases: Case[] = [
  { x: [1, 1, 1, 1], outputs: 1, k: 1, tile: flat, order: 'outputs-first' },
  { x: [2, 13, 7, 4], outputs: 8, k: 3, tile: small, order: 'outputs-first' },
  {
    x: [1, 13, 7, 16],
    outputs: 20,
    k: 3,
    tile: { ...small, outputs: 16, chunk: 8, threadOutputs: 8 },
    order: 'outputs-last',
  },
  { x: [1, 7, 13, 20], outputs: 16, k: 3, tile: { ...small, rows: 8, chunk: 16 }, order: 'gradient' },
  { x: [2, 5, 9, 3], outputs: 5, k: 3, tile: { ...small, chunk: 2, threadRows: 1 }, order: 'outputs-first' },
  {
    x: [1, 9, 11, 1],
    outputs: 16,
    k: 3,
    tile: { ...small, outputs: 16, chunk: 1, threadOutputs: 16 },
    order: 'outputs-last',
  },
  {
    x: [1, 3, 257, 4],
    outputs: 4,
    k: 3,
    tile: { ...small, outputs: 4, columns: 16, threadColumns: 2 },
    order: 'gradient',
  },
  { x: [1, 257, 2, 5], outputs: 3, k: 3, tile: { ...small, rows: 16, columns: 2 }, order: 'gradient' },
  { x: [1, 1, 257, 20], outputs: 12, k: 1, tile: { ...flat, chunk: 16 }, order: 'outputs-last' },
  { x: [1, 6, 7, 5], outputs: 4, k: 1, tile: { ...flat, chunk: 3 }, order: 'gradient' },
  { x: [1, 6, 7, 2], outputs: 3, k: 5, tile: { ...small, chunk: 2, threadRows: 1 }, order: 'outputs-last' },
  { x: [2, 9, 13, 4], outputs: 8, k: 3, stride: 2, tile: small, order: 'outputs-last' },
  { x: [1, 5, 7, 8], outputs: 4, k: 1, stride: 2, tile: flat, order: 'outputs-first' },
  { x: [1, 3, 5, 6, 4], outputs: 8, k: 3, tile: small, order: 'outputs-last' },
  {
    x: [2, 3, 4, 5, 3],
    outputs: 4,
    k: 3,
    stride: 2,
    tile: { ...small, chunk: 3, threadRows: 1 },
    order: 'outputs-first',
  },
];
const title = ({ x, outputs, k, stride = 1 }: Case): string => `[${x}] → ${outputs}, ${k}×${k}, stride ${stride}`;

/** Weights [O, tap, C] whose backwards reading ([C, last tap − tap, O] of the other convolution) is `weight`. */
function readBackwards({ data, shape }: NdArray): NdArray {
  const [outputs, inputs] = [shape[0]!, shape.at(-1)!];
  const taps = data.length / outputs / inputs;
  const turned = ndArray([inputs, ...shape.slice(1, -1), outputs]);
  for (let o = 0; o < outputs; o++)
    for (let t = 0; t < taps; t++)
      for (let c = 0; c < inputs; c++)
        turned.data[(c * taps + taps - 1 - t) * outputs + o] = data[(o * taps + t) * inputs + c]!;
  return turned;
}

/** The weights as a kernel of this order reads them. */
function inOrder(gpu: Gpu, weight: NdArray, order: WeightOrder, g: ConvGeometry, dtype: Float): Tensor {
  if (order === 'gradient') return toGpu(gpu, readBackwards(weight), dtype);
  const first = toGpu(gpu, weight, dtype);
  if (order === 'outputs-first') return first;
  const last = empty(gpu, weight.shape, dtype);
  run(transposeWeightShader(dtype, g), { weight: first, prepared: last }, { threads: first.size });
  return last;
}

async function forward(c: Case, dtype: Float, parameters: Float): Promise<void> {
  const gpu = await testGpu();
  const g = geometryOf(c);
  const { order: weights, outputs } = c;
  const tile = { ...small, ...c.tile };
  const [input, filter, b] = [random(c.x), random(weightShape(c)), random([outputs])];
  const bias = weights === 'outputs-last';
  const expected = reference.conv(input, filter, bias ? b : undefined, g.stride);
  await scope(gpu, async () => {
    const y = empty(gpu, expected.shape, dtype);
    const weight = inOrder(gpu, filter, weights, g, parameters);
    const args = { x: toGpu(gpu, input, dtype), weight, y, ...(bias && { bias: toGpu(gpu, b, parameters) }) };
    const source = convTiledShader(dtype, g, { tile, weights, bias, parameters });
    run(source, args, { workgroups: convTiledWorkgroups(g, tile) });
    closeTo(await y.read(), expected.data, tolerance(sizeOf(g.kernel) * g.inputs, dtype));
  });
}

for (const c of cases) test(`${c.order}: ${title(c)}`, () => forward(c, 'f32', 'f32'));

for (const parameters of ['f16', 'f32'] as const) {
  test(`f16, parameters ${parameters}`, async () => {
    const gpu = await testGpu();
    if (!gpu.features.has('shader-f16')) return console.log('skipped: f16 — this adapter has no shader-f16');
    for (const i of [4, 8]) await forward(cases[i]!, 'f16', parameters);
  });
}

test('read backwards, the weights make the input gradient', () => {
  const [weight, dy] = [random([5, 3, 3, 4]), random([1, 6, 4, 5])];
  const { dx } = reference.convGradients(ndArray([1, 6, 4, 4]), weight, dy, 1);
  closeTo(reference.conv(dy, readBackwards(weight), undefined, 1).data, dx.data, { atol: 1e-12 });
});

const slope = 0.01;

/** The norm of `z` in training mode: coefficients [4, C], and γ and β. */
function normOf(z: NdArray): { gamma: NdArray; beta: NdArray; coefficients: NdArray } {
  const channels = z.shape.at(-1)!;
  const [gamma, beta, coefficients] = [random([channels]), random([channels]), ndArray([4, channels])];
  const rows = z.data.length / channels;
  for (let c = 0; c < channels; c++) {
    gamma.data[c]! += 1.5;
    const column = Array.from({ length: rows }, (_, i) => z.data[i * channels + c]!);
    const mean = column.reduce((sum, v) => sum + v, 0) / rows;
    const r = 1 / Math.sqrt(column.reduce((sum, v) => sum + (v - mean) ** 2, 0) / rows + 1e-5);
    [mean, gamma.data[c]! * r, beta.data[c]!, r].forEach((v, row) => {
      coefficients.data[row * channels + c] = v;
    });
  }
  return { gamma, beta, coefficients };
}

const asArray = async (t: Tensor): Promise<NdArray> => ndArray([...t.shape], Float64Array.from(await t.read()));

/** dropout(leakyRelu(batchNorm(z))) by the plain ops, with the draws of stream 0. */
async function composed(gpu: Gpu, z: NdArray, { gamma, beta }: { gamma: NdArray; beta: NdArray }, rate: number) {
  const normed = batchNorm(toGpu(gpu, z), toGpu(gpu, gamma), toGpu(gpu, beta), { training: true });
  const y = leakyRelu(normed, slope);
  return asArray(rate > 0 ? dropout(y, rate, createRandom(gpu, 3)) : y);
}
const draws = (gpu: Gpu, rate: number): Record<string, Tensor> =>
  rate > 0 ? { random: createRandom(gpu, 3).state, stream: tensor(gpu, [0], [1], { dtype: 'u32' }) } : {};

const fusedCases: (Case & { rate: number; base?: boolean })[] = [
  { ...cases[1]!, x: [2, 5, 7, 8], outputs: 16, rate: 0 },
  { ...cases[2]!, x: [1, 5, 6, 16], outputs: 20, rate: 0.4, base: true },
  { ...cases[4]!, x: [2, 5, 9, 3], outputs: 5, rate: 0.4 },
  { ...cases[5]!, x: [1, 6, 5, 1], outputs: 16, rate: 0.4 },
  { ...cases[8]!, x: [1, 1, 37, 4], outputs: 12, rate: 0, base: true },
];

for (const c of fusedCases) {
  test(`activation on load and statistics: ${title(c)}, dropout ${c.rate}`, async () => {
    const gpu = await testGpu();
    const g = geometryOf(c);
    const { order: weights, rate, outputs } = c;
    const tile = { ...small, ...c.tile };
    const [z, filter, b] = [random(c.x), random(weightShape(c)), random([outputs])];
    const norm = normOf(z);
    await scope(gpu, async () => {
      const expected = reference.conv(await composed(gpu, z, norm, rate), filter, b, g.stride);
      const parts = convTiledParts(g, tile);
      const y = empty(gpu, expected.shape);
      const partials = empty(gpu, [parts.count, 2, outputs]);
      const source = convTiledShader('f32', g, {
        tile,
        weights,
        bias: true,
        fusion: { load: { slope, dropout: rate }, statistics: true },
      });
      const args = {
        x: toGpu(gpu, z),
        weight: inOrder(gpu, filter, weights, g, 'f32'),
        bias: toGpu(gpu, b),
        coefficients: toGpu(gpu, norm.coefficients),
        y,
        partials,
        ...draws(gpu, rate),
      };
      run(source, args, { workgroups: convTiledWorkgroups(g, tile) });
      const accuracy = { atol: 2e-5, rtol: 2e-5 };
      closeTo(await y.read(), expected.data, accuracy, 'y');
      const coefficients = empty(gpu, [4, outputs]);
      const [gamma, beta] = [tensor(gpu, 1, [outputs]), tensor(gpu, 0, [outputs])];
      const width = outputs % 4 === 0 ? 4 : 1;
      const statistics = normCoefficients(width, parts, 1e-5, undefined);
      run(statistics, { partials, gamma, beta, coefficients }, { workgroups: [outputs / width] });
      const own = normOf(expected).coefficients.data;
      const read = await coefficients.read();
      closeTo(read.subarray(0, outputs), own.subarray(0, outputs), accuracy, 'mean');
      closeTo(read.subarray(3 * outputs), own.subarray(3 * outputs), accuracy, '1/σ');
    });
  });

  test(`gradient of an activation: ${title(c)}, dropout ${c.rate}`, async () => {
    const gpu = await testGpu();
    const g = geometryOf(c);
    const { order: weights, rate, outputs, base = false } = c;
    const tile = { ...small, ...c.tile };
    const [out, filter] = [random(c.x), random(weightShape(c))];
    const da = reference.conv(out, filter, undefined, g.stride);
    const [z, before] = [random(da.shape), random(da.shape)];
    if (base) for (let i = 0; i < da.data.length; i++) da.data[i]! += before.data[i]!;
    const { coefficients } = normOf(z);
    const [mean, scale, shift] = [0, 1, 2].map((row) => coefficients.data.subarray(row * outputs)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const normed = ndArray(
      [...z.shape],
      z.data.map((v, i) => (v - mean[i % outputs]!) * scale[i % outputs]! + shift[i % outputs]!),
    );
    await scope(gpu, async () => {
      const n = tensor(gpu, normed.data, normed.shape, { requiresGrad: true });
      const activation = leakyRelu(n, slope);
      const a = rate > 0 ? dropout(activation, rate, createRandom(gpu, 3)) : activation;
      const expected = await backward(a, toGpu(gpu, da)).get(n)!.read();
      const sums = new Float64Array(2 * outputs);
      expected.forEach((v, i) => {
        sums[i % outputs]! += v;
        sums[outputs + (i % outputs)]! += v * (z.data[i]! - mean[i % outputs]!);
      });
      const { count } = convTiledParts(g, tile);
      const y = empty(gpu, da.shape);
      const partials = empty(gpu, [count, 2, outputs]);
      const source = convTiledShader('f32', g, {
        tile,
        weights,
        bias: false,
        fusion: { gradient: { slope, dropout: rate }, base },
      });
      const args = {
        x: toGpu(gpu, out),
        weight: inOrder(gpu, filter, weights, g, 'f32'),
        y,
        partials,
        z: toGpu(gpu, z),
        zCoefficients: toGpu(gpu, coefficients),
        ...draws(gpu, rate),
        ...(base && { base: toGpu(gpu, before) }),
      };
      run(source, args, { workgroups: convTiledWorkgroups(g, tile) });
      closeTo(await y.read(), expected, { atol: 2e-5, rtol: 2e-5 }, 'g');
      const total = new Float64Array(2 * outputs);
      (await partials.read()).forEach((v, i) => {
        total[i % (2 * outputs)]! += v;
      });
      closeTo(total, sums, { atol: 1e-4, rtol: 2e-5 }, 'sums');
    });
  });
}

test('grids beyond 65 535 workgroups are folded', () => {
  const g = geometryOf({ x: [1, 1, 70000, 4], outputs: 4, k: 1, tile: flat, order: 'outputs-first' });
  const tile = { ...flat, columns: 1, threadColumns: 1, outputs: 4 };
  assert.equal([...convTiledWorkgroups(g, tile)], [65535, 2, 1]);
});

test.run();
