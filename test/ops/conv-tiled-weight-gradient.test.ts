// The weight gradient that stages in workgroup memory, against plain loops and against the composition of plain ops.
import { suite } from 'uvu';
import {
  batchNorm,
  createRandom,
  dropout,
  flags,
  leakyRelu,
  scope,
  sizeOf,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { run } from '../../engine/stream.js';
import { empty } from '../../engine/tensor.js';
import { sumSlicesShader } from '../../shaders/conv.js';
import type { ConvGeometry } from '../../shaders/conv-geometry.js';
import {
  type TiledWeightGradientTile,
  weightGradientTiledShader,
  weightGradientTiledWorkgroups,
} from '../../shaders/conv-tiled-weight-gradient.js';
import type { Float } from '../../shaders/wgsl.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import * as reference from '../reference/conv.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';

const test = suite('conv-tiled-weight-gradient');

flags.poison = true; // what a kernel reads without having written it is NaN

interface Case {
  x: readonly number[];
  outputs: number;
  k: number;
  stride?: 1 | 2;
  tile: TiledWeightGradientTile;
  /** The input still lacks norm, LeakyReLU and dropout of this rate. */
  rate?: number;
}

const small: TiledWeightGradientTile = {
  outputs: 4,
  inputs: 4,
  rows: 2,
  columns: 4,
  threadOutputs: 4,
  threadInputs: 1,
  allRows: false,
  shares: 2,
  unroll: 1,
  slices: 3,
};
const vectors: TiledWeightGradientTile = { ...small, threadInputs: 4, inputs: 8, outputs: 8, shares: 1, unroll: 2 };
const flat: TiledWeightGradientTile = { ...small, rows: 1, columns: 16, shares: 1, unroll: 4, allRows: true };

// Awkward on purpose.
const cases: Case[] = [
  { x: [1, 1, 1, 1], outputs: 1, k: 1, tile: { ...flat, inputs: 1 } },
  { x: [2, 13, 7, 4], outputs: 8, k: 3, tile: { ...small, allRows: true, slices: 1 } },
  { x: [1, 13, 7, 20], outputs: 16, k: 3, tile: { ...vectors, slices: 7 } },
  { x: [1, 7, 13, 16], outputs: 20, k: 3, tile: { ...small, outputs: 16, threadOutputs: 8, rows: 4, shares: 4 } },
  { x: [2, 5, 9, 3], outputs: 5, k: 3, tile: { ...small, inputs: 2 } },
  { x: [1, 9, 11, 1], outputs: 16, k: 3, tile: { ...small, inputs: 1, outputs: 16, unroll: 2 } },
  { x: [1, 3, 257, 4], outputs: 4, k: 3, tile: { ...vectors, inputs: 4, outputs: 4, slices: 40 } },
  { x: [1, 257, 2, 5], outputs: 3, k: 3, tile: { ...small, inputs: 5, columns: 2 } },
  { x: [1, 1, 257, 20], outputs: 12, k: 1, tile: { ...flat, inputs: 16, outputs: 8 } },
  { x: [1, 6, 7, 2], outputs: 3, k: 5, tile: { ...small, inputs: 2 } },
  { x: [2, 9, 13, 4], outputs: 8, k: 3, stride: 2, tile: { ...vectors, inputs: 4 } },
  { x: [1, 5, 8, 3], outputs: 5, k: 3, stride: 2, tile: { ...small, inputs: 3, unroll: 2 } },
  { x: [1, 3, 5, 6, 4], outputs: 8, k: 3, tile: small },
  { x: [2, 3, 4, 5, 3], outputs: 4, k: 3, stride: 2, tile: { ...small, inputs: 3 } },
  { x: [2, 5, 7, 8], outputs: 16, k: 3, tile: { ...small, outputs: 8, inputs: 8 }, rate: 0 },
  { x: [1, 5, 6, 16], outputs: 20, k: 3, tile: vectors, rate: 0.4 },
  { x: [2, 5, 9, 3], outputs: 5, k: 3, tile: { ...small, inputs: 3 }, rate: 0.4 },
];

const uniform = uniformStream(9, 6);
/** Numbers in [−1, 1) that f16 holds as they are. */
const random = (shape: readonly number[]): NdArray => {
  const x = ndArray(shape);
  for (let i = 0; i < x.data.length; i++) x.data[i] = Math.floor(512 * uniform() - 256) / 256;
  return x;
};

async function gradient({ x, outputs, k, stride = 1, tile, rate }: Case, dtype: Float): Promise<void> {
  const gpu = await testGpu();
  const solid = x.length === 5;
  const input = (solid ? x.slice(1, 4) : [1, x[1]!, x[2]!]) as unknown as ConvGeometry['input'];
  const output = input.map((n) => Math.ceil(n / stride)) as unknown as ConvGeometry['output'];
  const [inputs, kernel] = [x.at(-1)!, [solid ? k : 1, k, k] as const];
  const g: ConvGeometry = { batch: x[0]!, input, output, inputs, outputs, kernel, stride };
  const weight = ndArray([outputs, ...x.slice(1, -1).map(() => k), inputs]);
  const [z, dy] = [random(x), random([g.batch, ...output.slice(solid ? 0 : 1), outputs])];
  const load = rate === undefined ? undefined : { slope: 0.01, dropout: rate };
  await scope(gpu, async () => {
    const toGpu = (a: NdArray): Tensor => tensor(gpu, a.data, a.shape, { dtype });
    const tz = toGpu(z);
    let a = z;
    const more: Record<string, Tensor> = {};
    if (load) {
      const rows = z.data.length / inputs;
      const coefficients = ndArray([4, inputs]);
      const [gamma, beta] = [random([inputs]), random([inputs])];
      for (let c = 0; c < inputs; c++) {
        const column = Array.from({ length: rows }, (_, i) => z.data[i * inputs + c]!);
        const mean = column.reduce((sum, v) => sum + v, 0) / rows;
        const r = 1 / Math.sqrt(column.reduce((sum, v) => sum + (v - mean) ** 2, 0) / rows + 1e-5);
        [mean, gamma.data[c]! * r, beta.data[c]!, r].forEach((v, row) => {
          coefficients.data[row * inputs + c] = v;
        });
      }
      const normed = batchNorm(tz, tensor(gpu, gamma.data, [inputs]), tensor(gpu, beta.data, [inputs]), {
        training: true,
      });
      const active = leakyRelu(normed, load.slope);
      const dropped = load.dropout > 0 ? dropout(active, load.dropout, createRandom(gpu, 3)) : active;
      a = ndArray(x, await dropped.read());
      more.coefficients = tensor(gpu, coefficients.data, coefficients.shape);
      if (load.dropout > 0) {
        more.random = createRandom(gpu, 3).state;
        more.stream = tensor(gpu, [0], [1], { dtype: 'u32' });
      }
    }
    const expected = reference.convGradients(a, weight, dy, stride);
    const { slices } = tile;
    const partialWeight = empty(gpu, [slices, ...weight.shape]);
    const partialBias = empty(gpu, [slices, outputs]);
    const source = weightGradientTiledShader(dtype, g, { tile, bias: true, load });
    const args = { x: tz, dy: toGpu(dy), dWeight: partialWeight, dBias: partialBias, ...more };
    run(source, args, { workgroups: weightGradientTiledWorkgroups(g, tile) });
    const [dWeight, dBias] = [empty(gpu, weight.shape), empty(gpu, [outputs])];
    const sums = { partialWeight, dWeight, partialBias, dBias };
    run(sumSlicesShader('f32', { bias: true }), sums, { threads: sizeOf(weight.shape) + outputs });
    const accuracy = { atol: 4e-6 * (g.batch * sizeOf(output)) ** 0.5 * (load ? 3 : 1), rtol: 1e-5 };
    closeTo(await dWeight.read(), expected.dWeight.data, accuracy, 'dWeight');
    closeTo(await dBias.read(), expected.dBias.data, accuracy, 'dBias');
  });
}

for (const c of cases) {
  const tail = c.rate === undefined ? '' : `, activation on load, dropout ${c.rate}`;
  test(`[${c.x}] → ${c.outputs}, ${c.k}×${c.k}, stride ${c.stride ?? 1}${tail}`, () => gradient(c, 'f32'));
}

test('f16', async () => {
  const gpu = await testGpu();
  if (!gpu.features.has('shader-f16')) return console.log('skipped: f16 — this adapter has no shader-f16');
  for (const i of [2, 4]) await gradient(cases[i]!, 'f16');
});

test.run();
