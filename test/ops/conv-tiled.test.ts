// The kernels that stage in workgroup memory, against plain loops and against the composition of plain ops.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { flags, type Gpu, scope, sizeOf, type Tensor, tensor, uniformStream } from '../../engine/index.js';
import { run } from '../../engine/stream.js';
import { empty } from '../../engine/tensor.js';
import { transposeWeightShader } from '../../shaders/conv.js';
import type { ConvGeometry } from '../../shaders/conv-geometry.js';
import { convTiledShader, convTiledWorkgroups, type TiledConvTile } from '../../shaders/conv-tiled.js';
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

const cases: Case[] = [
  { x: [1, 1, 1, 1], outputs: 1, k: 1, tile: flat },
  { x: [1, 1, 1, 1], outputs: 1, k: 3, tile: small },
  { x: [2, 13, 7, 4], outputs: 8, k: 3, tile: small },
  { x: [1, 13, 7, 16], outputs: 20, k: 3, tile: { ...small, outputs: 16, chunk: 8, threadOutputs: 8 } },
  { x: [1, 7, 13, 20], outputs: 16, k: 3, tile: { ...small, rows: 8, threadRows: 4, chunk: 16 } },
  { x: [2, 5, 9, 3], outputs: 5, k: 3, tile: { ...small, chunk: 2, threadRows: 1 } },
  { x: [1, 9, 11, 1], outputs: 16, k: 3, tile: { ...small, outputs: 16, chunk: 1, threadOutputs: 16 } },
  { x: [1, 3, 257, 4], outputs: 4, k: 3, tile: { ...small, outputs: 4, columns: 16, threadColumns: 2 } },
  { x: [1, 257, 2, 5], outputs: 3, k: 3, tile: { ...small, rows: 16, threadRows: 4, columns: 2 } },
  { x: [1, 1, 257, 20], outputs: 12, k: 1, tile: { ...flat, chunk: 16 } },
  { x: [1, 6, 7, 5], outputs: 4, k: 1, tile: { ...flat, chunk: 3 } },
  { x: [1, 6, 7, 2], outputs: 3, k: 5, tile: { ...small, chunk: 2 } },
  { x: [2, 9, 13, 4], outputs: 8, k: 3, stride: 2, tile: small },
  { x: [1, 6, 8, 3], outputs: 5, k: 3, stride: 2, tile: { ...small, threadRows: 4, chunk: 3 } },
  { x: [1, 5, 7, 8], outputs: 4, k: 1, stride: 2, tile: flat },
  { x: [1, 3, 5, 6, 4], outputs: 8, k: 3, tile: small },
  { x: [2, 3, 4, 5, 3], outputs: 4, k: 3, stride: 2, tile: { ...small, chunk: 3 } },
];
const title = ({ x, outputs, k, stride = 1 }: Case): string => `[${x}] → ${outputs}, ${k}×${k}, stride ${stride}`;

async function forward(c: Case, dtype: Float, parameters: Float): Promise<void> {
  const gpu = await testGpu();
  const g = geometryOf(c);
  const tile = { ...small, ...c.tile };
  const [input, weight, b] = [random(c.x), random(weightShape(c)), random([c.outputs])];
  const accuracy = tolerance(sizeOf(g.kernel) * g.inputs, dtype);
  await scope(gpu, async () => {
    const x = toGpu(gpu, input, dtype);
    const first = toGpu(gpu, weight, parameters);
    const last = empty(gpu, weight.shape, parameters);
    run(transposeWeightShader(parameters, g), { weight: first, prepared: last }, { threads: first.size });
    const bias = toGpu(gpu, b, parameters);
    for (const weights of ['outputs-first', 'outputs-last'] as const) {
      const expected = reference.conv(input, weight, weights === 'outputs-last' ? b : undefined, c.stride ?? 1);
      const y = empty(gpu, expected.shape, dtype);
      const withBias = weights === 'outputs-last';
      const source = convTiledShader(dtype, g, { tile, weights, bias: withBias, parameters });
      const args = { x, weight: withBias ? last : first, y, ...(withBias && { bias }) };
      run(source, args, { workgroups: convTiledWorkgroups(g, tile) });
      closeTo(await y.read(), expected.data, accuracy, weights);
    }
    if (g.stride === 1) {
      const back = { ...g, inputs: g.outputs, outputs: g.inputs };
      const chunk = g.outputs % 4 === 0 ? 4 : 3;
      const out = random([...c.x.slice(0, -1), c.outputs]);
      const dx = empty(gpu, c.x, dtype);
      const source = convTiledShader(dtype, back, { tile: { ...tile, chunk }, weights: 'gradient', bias: false, parameters });
      const args = { x: toGpu(gpu, out, dtype), weight: first, y: dx };
      run(source, args, { workgroups: convTiledWorkgroups(back, tile) });
      const expected = reference.convGradients(input, weight, out, 1).dx;
      closeTo(await dx.read(), expected.data, tolerance(sizeOf(g.kernel) * g.outputs, dtype), 'dx');
    }
  });
}

for (const c of cases) test(`forward and input gradient: ${title(c)}`, () => forward(c, 'f32', 'f32'));

for (const parameters of ['f16', 'f32'] as const) {
  test(`forward and input gradient: f16, parameters ${parameters}`, async () => {
    const gpu = await testGpu();
    if (!gpu.features.has('shader-f16')) return console.log('skipped: f16 — this adapter has no shader-f16');
    for (const i of [3, 5, 9]) await forward(cases[i]!, 'f16', parameters);
  });
}

test('grids beyond 65 535 workgroups are folded', () => {
  const g = geometryOf({ x: [1, 1, 70000, 4], outputs: 4, k: 1, tile: flat });
  const tile = { ...flat, columns: 1, threadColumns: 1, outputs: 4 };
  assert.equal([...convTiledWorkgroups(g, tile)], [65535, 2, 1]);
});

test.run();
