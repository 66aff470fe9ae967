// The kernels that stage in workgroup memory, against plain loops and against the composition of plain ops.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { WeightOrder } from '../../../shaders/conv/geometry.js';
import { tileParts } from '../../../shaders/conv/geometry.js';
import { convTiledShader, convTiledWorkgroups, type TiledConvTile } from '../../../shaders/conv/tiled.js';
import { closeTo } from '../../close-to.js';
import { lacking, testGpu } from '../../gpu.js';
import * as reference from '../../reference/conv.js';
import { ndArray } from '../../reference/nd-array.js';
import { unless } from '../../unless.js';
import {
  type ConvCase,
  checkActivationGradient,
  checkForward,
  checkLoadAndStatistics,
  type ForwardKernel,
  geometryOf,
  random,
  readBackwards,
  titleOf,
  withMasks,
} from './kernel-checks.js';

const test = suite('conv-tiled');
const testHalf = unless(await lacking('shader-f16'), test);

(await testGpu()).flags.poison = true; // what a kernel reads without having written it is NaN

interface Case extends ConvCase {
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

function kernelOf(c: Case): ForwardKernel {
  const [g, tile] = [geometryOf(c), { ...small, ...c.tile }];
  return {
    order: c.order,
    workgroups: convTiledWorkgroups(g, tile),
    parts: tileParts(g, tile),
    shader: (dtype, options) => convTiledShader(dtype, g, { tile, weights: c.order, ...options }),
  };
}

// Awkward on purpose; each in one order of the weights.
const cases: Case[] = [
  { x: [1, 1, 1, 1], outputs: 1, k: 1, tile: flat, order: 'outputs-first' },
  { x: [2, 13, 7, 4], outputs: 8, k: 3, tile: small, order: 'outputs-first' },
  {
    x: [1, 13, 7, 16],
    outputs: 20,
    k: 3,
    tile: { ...small, outputs: 16, chunk: 8, threadOutputs: 8 },
    order: 'outputs-first',
  },
  { x: [1, 7, 13, 20], outputs: 16, k: 3, tile: { ...small, rows: 8, chunk: 16 }, order: 'gradient' },
  { x: [2, 5, 9, 3], outputs: 5, k: 3, tile: { ...small, chunk: 2, threadRows: 1 }, order: 'outputs-first' },
  {
    x: [1, 9, 11, 1],
    outputs: 16,
    k: 3,
    tile: { ...small, outputs: 16, chunk: 1, threadOutputs: 16 },
    order: 'outputs-first',
  },
  {
    x: [1, 3, 257, 4],
    outputs: 4,
    k: 3,
    tile: { ...small, outputs: 4, columns: 16, threadColumns: 2 },
    order: 'gradient',
  },
  { x: [1, 257, 2, 5], outputs: 3, k: 3, tile: { ...small, rows: 16, columns: 2 }, order: 'gradient' },
  { x: [1, 1, 257, 20], outputs: 12, k: 1, tile: { ...flat, chunk: 16 }, order: 'outputs-first' },
  { x: [1, 6, 7, 5], outputs: 4, k: 1, tile: { ...flat, chunk: 3 }, order: 'gradient' },
  { x: [1, 6, 7, 2], outputs: 3, k: 5, tile: { ...small, chunk: 1, threadRows: 1 }, order: 'outputs-first' },
  { x: [2, 9, 13, 4], outputs: 8, k: 3, stride: 2, tile: small, order: 'outputs-first' },
  { x: [1, 5, 7, 8], outputs: 4, k: 1, stride: 2, tile: flat, order: 'outputs-first' },
  { x: [1, 3, 5, 6, 4], outputs: 8, k: 3, tile: small, order: 'outputs-first' },
  {
    x: [2, 3, 4, 5, 3],
    outputs: 4,
    k: 3,
    stride: 2,
    tile: { ...small, chunk: 3, threadRows: 1 },
    order: 'outputs-first',
  },
  // Even kernels, forward and as the input gradient pads.
  { x: [1, 7, 9, 4], outputs: 8, k: 2, tile: small, order: 'outputs-first' },
  { x: [1, 7, 9, 8], outputs: 4, k: 2, padding: [0, 1, 1], tile: small, order: 'gradient' },
  { x: [2, 9, 8, 3], outputs: 5, k: 2, stride: 2, tile: { ...small, chunk: 3 }, order: 'outputs-first' },
  { x: [1, 10, 7, 4], outputs: 8, k: 4, stride: 2, tile: small, order: 'outputs-first' },
  { x: [1, 6, 7, 4], outputs: 4, k: [2, 3], padding: [0, 1, 1], tile: small, order: 'gradient' },
  { x: [1, 6, 7, 4], outputs: 4, k: [1, 2], tile: small, order: 'outputs-first' },
  { x: [1, 5, 4, 7, 4], outputs: 8, k: 2, stride: 2, tile: small, order: 'outputs-first' },
  { x: [1, 3, 4, 5, 8], outputs: 4, k: 2, padding: [1, 1, 1], tile: small, order: 'gradient' },
];

for (const c of cases) test(`${c.order}: ${titleOf(c)}`, () => checkForward(c, kernelOf(c)));

for (const parameters of ['f16', 'f32'] as const) {
  testHalf(`f16, parameters ${parameters}`, async () => {
    const c = cases[parameters === 'f16' ? 4 : 8]!;
    await checkForward(c, kernelOf(c), 'f16', parameters);
  });
}

test('read backwards, the weights make the input gradient', () => {
  const [weight, dy] = [random([5, 3, 3, 4]), random([1, 6, 4, 5])];
  const { dx } = reference.convGradients(ndArray([1, 6, 4, 4]), weight, dy, 1);
  closeTo(reference.conv(dy, readBackwards(weight), undefined, 1).data, dx.data, { atol: 1e-12 });
});

// Few threads and rows: drivers on a CPU compile sums and draws slowly.
const few: TiledConvTile = { ...small, rows: 2, columns: 2, threadRows: 1 };
const fusedCases: (Case & { rate: number; base?: boolean })[] = [
  { x: [2, 5, 7, 8], outputs: 16, k: 3, tile: few, order: 'outputs-first', rate: 0 },
  { x: [1, 5, 6, 4], outputs: 20, k: 3, tile: { ...few, threadOutputs: 8 }, order: 'gradient', rate: 0.4 },
  { x: [2, 3, 5, 3], outputs: 5, k: 3, tile: { ...few, chunk: 3 }, order: 'outputs-first', rate: 0.4 },
  {
    x: [1, 1, 37, 4],
    outputs: 12,
    k: 1,
    tile: { ...flat, columns: 8, threadColumns: 2 },
    order: 'outputs-first',
    rate: 0,
    base: true,
  },
  {
    x: [2, 7, 14, 4],
    outputs: 8,
    k: 3,
    tile: { ...few, outputs: 8, rows: 7, columns: 14, threadRows: 7 },
    order: 'outputs-first',
    rate: 0,
  },
  { x: [1, 5, 6, 4], outputs: 8, k: 2, stride: 2, tile: few, order: 'outputs-first', rate: 0 },
  { x: [1, 5, 6, 4], outputs: 8, k: 2, padding: [0, 1, 1], tile: few, order: 'gradient', rate: 0.4, base: true },
  { x: [4, 3, 5, 4], outputs: 12, k: 3, tile: few, order: 'outputs-first', rate: 0, groups: [1, 3] },
  { x: [3, 3, 4, 3], outputs: 5, k: 3, tile: { ...few, chunk: 3 }, order: 'gradient', rate: 0.4, groups: [1, 1, 1] },
];

for (const c of withMasks(fusedCases)) {
  test(`activation on load and statistics: ${titleOf(c)}, dropout ${c.rate}`, () =>
    checkLoadAndStatistics(c, kernelOf(c), c.rate));
  test(`gradient of an activation: ${titleOf(c)}, dropout ${c.rate}`, () =>
    checkActivationGradient(c, kernelOf(c), c.rate, c.base));
}

test('grids beyond 65 535 workgroups are folded', () => {
  const g = geometryOf({ x: [1, 1, 70000, 4], outputs: 4, k: 1 });
  const tile = { ...flat, columns: 1, threadColumns: 1, outputs: 4 };
  assert.equal([...convTiledWorkgroups(g, tile)], [65535, 2, 1]);
});

test.run();
