// The weight gradient that stages in workgroup memory, against plain loops and against the composition of plain ops.
import { suite } from 'uvu';
import {
  type TiledWeightGradientTile,
  weightGradientTiledShader,
  weightGradientTiledWorkgroups,
} from '../../../shaders/conv/tiled-weight-gradient.js';
import { lacking, testGpu } from '../../gpu.js';
import { unless } from '../../unless.js';
import {
  type ConvCase,
  checkWeightGradient,
  geometryOf,
  titleOf,
  type WeightGradientKernel,
  withMasks,
} from './kernel-checks.js';

const test = suite('conv-tiled-weight-gradient');
const testHalf = unless(await lacking('shader-f16'), test);

(await testGpu()).flags.poison = true; // what a kernel reads without having written it is NaN

interface Case extends ConvCase {
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
  { x: [1, 7, 9, 4], outputs: 8, k: 2, tile: { ...vectors, inputs: 4 } },
  { x: [2, 9, 7, 3], outputs: 5, k: 2, stride: 2, tile: { ...small, inputs: 3 } },
  { x: [1, 10, 7, 4], outputs: 8, k: 4, stride: 2, tile: { ...small, allRows: true } },
  { x: [1, 6, 7, 4], outputs: 4, k: [2, 3], tile: { ...vectors, inputs: 4, outputs: 4 } },
  { x: [1, 6, 7, 4], outputs: 4, k: [1, 2], tile: small },
  { x: [1, 5, 4, 7, 4], outputs: 8, k: 2, stride: 2, tile: small },
  { x: [1, 3, 4, 5, 8], outputs: 4, k: 2, tile: { ...vectors, outputs: 4 } },
  { x: [1, 5, 6, 4], outputs: 8, k: 2, stride: 2, tile: small, rate: 0.4 },
  { x: [2, 5, 7, 8], outputs: 16, k: 3, tile: { ...small, outputs: 8, inputs: 8 }, rate: 0 },
  { x: [1, 5, 6, 16], outputs: 20, k: 3, tile: vectors, rate: 0.4 },
  { x: [2, 5, 9, 3], outputs: 5, k: 3, tile: { ...small, inputs: 3 }, rate: 0.4 },
  { x: [2, 14, 7, 4], outputs: 8, k: 3, tile: { ...vectors, inputs: 4, rows: 7, columns: 8 } },
  { x: [4, 5, 7, 8], outputs: 8, k: 3, tile: vectors, rate: 0, groups: [1, 3] },
  { x: [3, 2, 3, 5, 3], outputs: 5, k: 3, tile: { ...small, inputs: 3 }, rate: 0.4, groups: [2, 1] },
];

function kernelOf(c: Case): WeightGradientKernel {
  const [g, { tile }] = [geometryOf(c), c];
  return {
    slices: tile.slices,
    workgroups: weightGradientTiledWorkgroups(g, tile),
    shader: (dtype, options) => weightGradientTiledShader(dtype, g, { tile, ...options }),
  };
}

for (const c of withMasks(cases)) {
  const tail = c.rate === undefined ? '' : `, activation on load, dropout ${c.rate}`;
  test(`${titleOf(c)}${tail}`, () => checkWeightGradient(c, kernelOf(c), 'f32', c.rate));
}

testHalf('f16', async () => {
  for (const c of [cases[2]!, cases[11]!]) await checkWeightGradient(c, kernelOf(c), 'f16');
});

test.run();
