// Tiled kernels (shaders/conv/tiled.ts): a workgroup stages what its threads share. The default on GPUs.
import { tileParts } from '../../../shaders/conv/geometry.js';
import {
  convTiledCandidates,
  convTiledShader,
  convTiledWorkgroups,
  type TiledConvTile,
} from '../../../shaders/conv/tiled.js';
import {
  type TiledWeightGradientTile,
  weightGradientTiledCandidates,
  weightGradientTiledShader,
  weightGradientTiledWorkgroups,
} from '../../../shaders/conv/tiled-weight-gradient.js';
import type { Gpu } from '../../device.js';
import { type Family, workgroupLimits } from './family.js';
import type { ConvKernel, WeightGradientKernel } from './kernels.js';

/** All tiles on a GPU; one on a CPU, where tiled kernels are slower and each takes long to compile. */
const some = <T>({ adapter }: Gpu, tiles: readonly T[]): readonly T[] => (adapter.software ? tiles.slice(0, 1) : tiles);

export const tiledForward: Family<ConvKernel, { tile: TiledConvTile }> = {
  candidates: ({ gpu, g }) => some(gpu, convTiledCandidates(g, workgroupLimits(gpu))).map((tile) => ({ tile })),
  kernel({ gpu, types: { dtype, parameters }, g, backwards }, { tile }) {
    const weights = backwards ? 'gradient' : 'outputs-first';
    const name = backwards ? 'conv_tiled_input_gradient' : 'conv_tiled';
    return {
      parts: tileParts(g, tile),
      // An element is staged once for each block of output channels.
      appliesOnLoad: g.outputs <= 4 * tile.outputs,
      drawsOnLoad: !gpu.adapter.software || g.outputs <= tile.outputs,
      launch: ({ bias, fusion }) => ({
        source: convTiledShader(dtype, g, { tile, weights, bias, fusion, parameters, name }),
        grid: { workgroups: convTiledWorkgroups(g, tile) },
      }),
    };
  },
};

export const tiledWeightGradient: Family<WeightGradientKernel, { tile: TiledWeightGradientTile }> = {
  candidates: ({ gpu, g }) =>
    some(gpu, weightGradientTiledCandidates(g, workgroupLimits(gpu))).map((tile) => ({ tile })),
  kernel: ({ types: { dtype }, g }, { tile }) => ({
    slices: tile.slices,
    drawsOnLoad: true,
    launch: ({ bias, onLoad }) => ({
      source: weightGradientTiledShader(dtype, g, { tile, bias, onLoad }),
      grid: { workgroups: weightGradientTiledWorkgroups(g, tile) },
    }),
  }),
};
