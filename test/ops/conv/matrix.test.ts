// Convolutions on matrix units. No adapter of a CPU has them, so every offset and all that follows the products is executed in
// the emulation, and the texts for the units themselves are validated on Dawn's null adapter, here and in shaders.test.ts.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hashOf, remember } from '../../../engine/choices.js';
import { scope } from '../../../engine/index.js';
import { openDevice } from '../../../engine/node.js';
import { askedFor } from '../../../engine/tune.js';
import { tileParts } from '../../../shaders/conv/geometry.js';
import {
  convMatrixCandidates,
  convMatrixShader,
  convMatrixStorage,
  convMatrixWorkgroups,
  type MatrixConvTile,
} from '../../../shaders/conv/matrix.js';
import { knownUnits, type MatrixUnit } from '../../../shaders/conv/matrix-unit.js';
import {
  type MatrixWeightGradientTile,
  weightGradientMatrixCandidates,
  weightGradientMatrixShader,
  weightGradientMatrixWorkgroups,
} from '../../../shaders/conv/matrix-weight-gradient.js';
import { createTrainer } from '../../../train/method/trainer.js';
import { resolveConfig } from '../../../train/settings/settings.js';
import { lacking, testGpu } from '../../gpu.js';
import { unless } from '../../unless.js';
import {
  type ConvCase,
  checkActivationGradient,
  checkForward,
  checkLoadAndStatistics,
  checkWeightGradient,
  type ForwardKernel,
  geometryOf,
  titleOf,
  type WeightGradientKernel,
  withMasks,
} from './kernel-checks.js';

const test = suite('conv-matrix');
const testHalf = unless(await lacking('shader-f16'), test);

(await testGpu()).flags.poison = true; // what a kernel reads without having written it is NaN

const emulated = (M: number, N: number, K: number, more: Partial<MatrixUnit> = {}): MatrixUnit => ({
  M,
  N,
  K,
  component: 'f32',
  lanes: 32,
  pinned: true,
  emulated: true,
  ...more,
});
const [large, wide, small] = [emulated(16, 16, 16), emulated(8, 16, 16), emulated(8, 8, 8)];
const [tall, flat] = [emulated(16, 8, 16), emulated(16, 8, 8)];
/** As where the driver chooses the size of subgroups: some threads have no part in the products. */
const loose = { ...small, pinned: false };

interface Case extends ConvCase {
  unit: MatrixUnit;
  tile: MatrixConvTile;
  order: 'outputs-first' | 'gradient';
  rate?: number;
  base?: boolean;
}
const one = { rows: 1, columns: 8, outputs: 8, chunk: 8, down: 1, across: 1 };

function kernelOf({ unit, tile, order, ...c }: Case): ForwardKernel {
  const g = geometryOf(c);
  return {
    order,
    workgroups: convMatrixWorkgroups(g, tile),
    parts: tileParts(g, tile),
    shader: (dtype, options) => convMatrixShader(dtype, g, { unit, tile, weights: order, ...options }),
  };
}
const named = (c: Case): string => `${c.unit.M}×${c.unit.N}×${c.unit.K}, ${c.order}: ${titleOf(c)}`;

// Awkward on purpose.
const cases: Case[] = [
  { x: [1, 1, 1, 1], outputs: 1, k: 1, unit: small, tile: one, order: 'outputs-first' },
  {
    x: [2, 5, 9, 16],
    outputs: 16,
    k: 3,
    unit: large,
    tile: { rows: 2, columns: 16, outputs: 16, chunk: 16, down: 2, across: 1 },
    order: 'outputs-first',
  },
  {
    x: [1, 3, 17, 20],
    outputs: 36,
    k: 3,
    unit: wide,
    tile: { rows: 2, columns: 16, outputs: 32, chunk: 16, down: 2, across: 2 },
    order: 'gradient',
  },
  {
    x: [1, 5, 7, 12],
    outputs: 20,
    k: 3,
    unit: loose,
    tile: { rows: 4, columns: 8, outputs: 16, chunk: 16, down: 2, across: 1 },
    order: 'outputs-first',
  },
  { x: [2, 3, 10, 3], outputs: 5, k: 3, unit: small, tile: { ...one, rows: 2, down: 2 }, order: 'gradient' },
  {
    x: [1, 1, 70, 20],
    outputs: 12,
    k: 1,
    unit: wide,
    tile: { ...one, columns: 32, outputs: 16, chunk: 32 },
    order: 'outputs-first',
  },
  {
    x: [1, 3, 18, 20],
    outputs: 24,
    k: 3,
    unit: tall,
    tile: { rows: 2, columns: 16, outputs: 16, chunk: 16, down: 2, across: 1 },
    order: 'outputs-first',
  },
  {
    x: [1, 5, 20, 12],
    outputs: 24,
    k: 3,
    unit: flat,
    tile: { rows: 2, columns: 32, outputs: 16, chunk: 8, down: 1, across: 2 },
    order: 'gradient',
  },
  { x: [1, 6, 7, 2], outputs: 3, k: 5, unit: small, tile: one, order: 'outputs-first' },
  {
    x: [2, 9, 13, 8],
    outputs: 8,
    k: 3,
    stride: 2,
    unit: small,
    tile: { ...one, rows: 2, columns: 16 },
    order: 'outputs-first',
  },
  { x: [1, 3, 5, 6, 4], outputs: 8, k: 3, unit: small, tile: { ...one, rows: 2 }, order: 'outputs-first' },
  // Even kernels, forward and as the input gradient pads.
  { x: [1, 5, 9, 8], outputs: 8, k: 2, unit: small, tile: { ...one, rows: 2 }, order: 'outputs-first' },
  { x: [1, 5, 9, 8], outputs: 8, k: 2, padding: [0, 1, 1], unit: small, tile: one, order: 'gradient' },
  { x: [2, 9, 12, 8], outputs: 12, k: 2, stride: 2, unit: small, tile: one, order: 'outputs-first' },
  { x: [1, 10, 7, 4], outputs: 8, k: 4, stride: 2, unit: small, tile: one, order: 'outputs-first' },
  { x: [1, 6, 7, 4], outputs: 8, k: [2, 3], padding: [0, 1, 1], unit: small, tile: one, order: 'gradient' },
  { x: [1, 6, 7, 4], outputs: 8, k: [1, 2], unit: small, tile: one, order: 'outputs-first' },
  { x: [1, 5, 4, 7, 4], outputs: 8, k: 2, stride: 2, unit: small, tile: one, order: 'outputs-first' },
  { x: [1, 3, 4, 5, 8], outputs: 4, k: 2, padding: [1, 1, 1], unit: small, tile: one, order: 'gradient' },
];
for (const c of cases) test(`${named(c)}`, () => checkForward(c, kernelOf(c)));

const fused: Case[] = [
  { ...cases[1]!, x: [2, 3, 5, 8], outputs: 16, rate: 0 },
  { ...cases[3]!, x: [1, 5, 6, 4], rate: 0.4 },
  { ...cases[4]!, order: 'outputs-first', rate: 0.4 },
  { ...cases[5]!, x: [1, 1, 37, 4], rate: 0, base: true },
  { ...cases[2]!, x: [1, 3, 17, 4], rate: 0 },
  { ...cases[2]!, x: [2, 3, 18, 4], outputs: 20, rate: 0.4, base: true, groups: [1, 1] },
  {
    x: [1, 3, 20, 4],
    outputs: 12,
    k: 3,
    unit: flat,
    tile: { rows: 2, columns: 32, outputs: 16, chunk: 8, down: 2, across: 2 },
    order: 'gradient',
    rate: 0,
  },
  { x: [1, 5, 6, 4], outputs: 8, k: 2, stride: 2, unit: small, tile: one, order: 'outputs-first', rate: 0 },
  {
    x: [1, 5, 6, 4],
    outputs: 8,
    k: 2,
    padding: [0, 1, 1],
    unit: small,
    tile: one,
    order: 'gradient',
    rate: 0.4,
    base: true,
  },
  {
    x: [1, 14, 7, 4],
    outputs: 8,
    k: 3,
    unit: small,
    tile: { ...one, rows: 7, down: 7 },
    order: 'outputs-first',
    rate: 0,
  },
  { x: [4, 3, 6, 4], outputs: 12, k: 3, unit: small, tile: one, order: 'outputs-first', rate: 0, groups: [1, 3] },
];
for (const c of withMasks(fused)) {
  test(`activation on load and statistics, dropout ${c.rate}: ${named(c)}`, () =>
    checkLoadAndStatistics(c, kernelOf(c), c.rate!));
  test(`gradient of an activation, dropout ${c.rate}: ${named(c)}`, () =>
    checkActivationGradient(c, kernelOf(c), c.rate!, c.base));
}

interface GradientCase extends ConvCase {
  unit: MatrixUnit;
  tile: MatrixWeightGradientTile;
  rate?: number;
}
const whole: MatrixWeightGradientTile = {
  outputs: 8,
  inputs: 8,
  rows: 2,
  columns: 8,
  ownOutputs: 1,
  ownInputs: 1,
  allRows: true,
  shares: 2,
  slices: 2,
};
function gradientOf({ tile, ...c }: GradientCase): WeightGradientKernel {
  const g = geometryOf(c);
  const unit = { ...c.unit, lanes: 32 }; // up to 6 subgroups
  return {
    slices: tile.slices,
    workgroups: weightGradientMatrixWorkgroups(g, tile),
    shader: (dtype, options) => weightGradientMatrixShader(dtype, g, { unit, tile, ...options }),
  };
}
const gradients: GradientCase[] = [
  {
    x: [1, 1, 1, 1],
    outputs: 1,
    k: 1,
    unit: small,
    tile: { ...whole, rows: 1, shares: 1, slices: 1, outputs: 8, inputs: 16 },
  },
  {
    x: [2, 5, 9, 16],
    outputs: 16,
    k: 3,
    unit: large,
    tile: { ...whole, outputs: 16, inputs: 16, columns: 16, shares: 2, allRows: false, slices: 3 },
  },
  {
    x: [1, 3, 17, 20],
    outputs: 20,
    k: 3,
    unit: wide,
    tile: { ...whole, outputs: 16, inputs: 32, columns: 16, ownOutputs: 2, allRows: false, shares: 1 },
  },
  {
    x: [1, 5, 7, 12],
    outputs: 20,
    k: 3,
    unit: loose,
    tile: { ...whole, outputs: 16, inputs: 16, ownInputs: 2, allRows: false, shares: 1 },
  },
  {
    x: [1, 6, 18, 12],
    outputs: 36,
    k: 3,
    unit: tall,
    tile: { ...whole, outputs: 32, inputs: 16, columns: 16, ownOutputs: 2, ownInputs: 2, allRows: true, shares: 2 },
    rate: 0,
  },
  { x: [1, 4, 9, 12], outputs: 16, k: 3, unit: flat, tile: { ...whole, outputs: 16, rows: 4, shares: 4, slices: 3 } },
  { x: [1, 1, 70, 20], outputs: 12, k: 1, unit: wide, tile: { ...whole, rows: 1, columns: 32, inputs: 32, shares: 1 } },
  { x: [2, 9, 13, 8], outputs: 8, k: 3, stride: 2, unit: small, tile: whole },
  { x: [1, 3, 5, 6, 4], outputs: 8, k: 3, unit: small, tile: { ...whole, slices: 3 } },
  { x: [1, 5, 9, 8], outputs: 8, k: 2, unit: small, tile: whole },
  { x: [2, 9, 7, 3], outputs: 5, k: 2, stride: 2, unit: small, tile: whole },
  { x: [1, 6, 7, 4], outputs: 8, k: [2, 3], unit: small, tile: { ...whole, allRows: false } },
  { x: [1, 5, 4, 7, 4], outputs: 8, k: 2, stride: 2, unit: small, tile: whole },
  { x: [1, 3, 4, 5, 8], outputs: 4, k: 2, unit: small, tile: whole },
  { x: [2, 5, 7, 8], outputs: 16, k: 3, unit: small, tile: whole, rate: 0 },
  { x: [2, 5, 9, 3], outputs: 5, k: 3, unit: small, tile: whole, rate: 0.4 },
  { x: [1, 14, 7, 8], outputs: 8, k: 3, unit: small, tile: { ...whole, rows: 7, shares: 7 } },
  { x: [4, 5, 7, 8], outputs: 8, k: 3, unit: small, tile: whole, rate: 0, groups: [1, 3] },
];
for (const c of withMasks(gradients)) {
  const { M, N, K } = c.unit;
  const tail = c.rate === undefined ? '' : `, activation on load, dropout ${c.rate}`;
  test(`weight gradient ${M}×${N}×${K}: ${titleOf(c)}${tail}`, () =>
    checkWeightGradient(c, gradientOf(c), 'f32', c.rate));
}

testHalf('f16 operands: storage f16, weights f32 or f16', async () => {
  const half = { ...large, component: 'f16' as const };
  const c = { ...cases[1]!, unit: half };
  await checkForward(c, kernelOf(c), 'f16', 'f32');
  await checkForward(c, kernelOf(c), 'f16', 'f16');
  const w = { ...gradients[1]!, unit: half };
  await checkWeightGradient(w, gradientOf(w), 'f16');
});

test('candidates keep to the limits and cover every shape of the UNet', () => {
  const limits = { storage: 16384, threads: 256 };
  const shapes: ConvCase[] = [
    { x: [24, 256, 256, 16], outputs: 16, k: 3 },
    { x: [24, 16, 16, 256], outputs: 256, k: 3 },
    { x: [1, 1, 24 * 64 * 64, 128], outputs: 64, k: 1 },
    { x: [24, 256, 256, 16], outputs: 4, k: 3 },
  ];
  for (const unit of knownUnits) {
    for (const g of shapes.map(geometryOf)) {
      const tiles = convMatrixCandidates(g, unit, limits);
      assert.ok(tiles.length > 0, `${JSON.stringify(unit)} ${JSON.stringify(g)}`);
      for (const tile of tiles) assert.ok(convMatrixStorage(g, unit, tile) <= limits.storage);
      assert.ok(
        weightGradientMatrixCandidates(g, unit, limits).length > 0,
        `${JSON.stringify(unit)} ${JSON.stringify(g)}`,
      );
    }
  }
});

const nvidia = [
  [16, 16, 16],
  [16, 8, 16],
  [16, 8, 8],
] as const;

test('each size that NVIDIA lists is taken, the largest first, and none unproven', async () => {
  const gpu = await openDevice({ adapter: 'null', quiet: true });
  const sizes = nvidia.map(([M, N, K]) => ({ M, N, K, componentType: 'f16', resultComponentType: 'f32' }));
  Object.assign(gpu, { matrixSizes: [...sizes].reverse(), subgroupSizes: { min: 32, max: 32 } });
  const settings = { precision: 'f16', size: 32, features: [16, 32], dropout: [0, 0], batch: 2, method: 'supervised' };
  scope(gpu, () => void createTrainer(gpu, resolveConfig(settings)).step.info);
  const on = askedFor(gpu)
    .jobs.map(({ candidates }) => candidates as { kernel: string; unit?: MatrixUnit }[])
    .filter((candidates) => candidates.some(({ unit }) => unit?.K === 16));
  assert.ok(on.length > 6, `${on.length} choices`);
  for (const candidates of on) {
    const units = candidates.flatMap(({ unit }) => (unit ? [`${unit.M}×${unit.N}×${unit.K}`] : []));
    assert.is(units[0], '16×16×16');
    assert.equal([...new Set(units)], ['16×16×16', '16×8×16']);
    assert.ok(units.length <= 12, `${units.length}`);
    assert.is.not(candidates[0]!.kernel, 'matrix');
  }
  gpu.close();
});

for (const [M, N, K] of nvidia)
  test(`a whole step in f16 on ${M}×${N}×${K} units, every fusion in it, is valid on the null adapter`, async () => {
    const gpu = await openDevice({ adapter: 'null', quiet: true });
    Object.assign(gpu, {
      adapter: { ...gpu.adapter, software: false },
      matrixSizes: [{ M, N, K, componentType: 'f16', resultComponentType: 'f32' }],
      subgroupSizes: { min: 32, max: 32 },
    });
    const settings = { precision: 'f16', size: 32, features: [16, 32], dropout: [0.1, 0.1], batch: 4, method: 'lccs' };
    const config = resolveConfig(settings);
    scope(gpu, () => void createTrainer(gpu, config).step.info);
    const { jobs } = askedFor(gpu);
    const passes: Record<string, number> = {};
    for (const job of jobs) {
      const choice = job.candidates.find((c) => (c as { kernel?: string }).kernel === 'matrix');
      if (!choice) continue;
      assert.is.not(job.candidates[0], choice, 'not before it is proven');
      const pass = job.key.split(' ')[0]!;
      passes[pass] = (passes[pass] ?? 0) + 1;
      const hash = hashOf(job, job.candidates[0], choice);
      remember(gpu, { [job.key]: { choice, ms: 1, defaultMs: 2, hash } });
    }
    assert.ok(
      passes['conv.forward']! > 4 && passes['conv.inputGradient']! > 4 && passes['conv.weightGradient']! > 4,
      JSON.stringify(passes),
    );
    const texts: string[] = [];
    const compile = gpu.device.createShaderModule.bind(gpu.device);
    gpu.device.createShaderModule = (descriptor) => {
      if (descriptor.code.includes('fn conv_matrix')) texts.push(descriptor.code);
      return compile(descriptor);
    };
    const trainer = createTrainer(gpu, config);
    trainer.setIteration(0);
    trainer.step();
    await gpu.settled();
    const having = (word: string): number => texts.filter((text) => text.includes(word)).length;
    assert.ok(texts.length > 12, `${texts.length} kernels`);
    for (const word of ['fn tail(', 'let average0', 'moment0', 'zCoefficients', 'kept_factors', 'dWeight'])
      assert.ok(having(word) > 0, `no kernel with '${word}'`);
    gpu.close();
  });

test.run();
