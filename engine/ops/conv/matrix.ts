// Kernels on matrix units (shaders/conv/matrix.ts), where the device has them.
import { type ConvGeometry, tileParts } from '../../../shaders/conv/geometry.js';
import {
  convMatrixCandidates,
  convMatrixShader,
  convMatrixWorkgroups,
  type MatrixConvTile,
} from '../../../shaders/conv/matrix.js';
import type { MatrixUnit } from '../../../shaders/conv/matrix-unit.js';
import {
  type MatrixWeightGradientTile,
  weightGradientMatrixCandidates,
  weightGradientMatrixShader,
  weightGradientMatrixWorkgroups,
} from '../../../shaders/conv/matrix-weight-gradient.js';
import type { WorkgroupLimits } from '../../../shaders/conv/staging.js';
import type { Float } from '../../../shaders/wgsl.js';
import type { Gpu } from '../../device.js';
import { type Family, type Wanted, workgroupLimits } from './family.js';
import type { ConvKernel, WeightGradientKernel } from './kernels.js';

interface OnUnit<Tile> {
  readonly tile: Tile;
  readonly unit: MatrixUnit;
}

/** Most candidates on the largest unit that the channels fill, and on the next one. */
const candidatesOn = [9, 3];

/** Tiles for the largest units that the channels fill. */
const onUnits = <Tile>(
  { gpu, types, g }: Wanted,
  tilesOf: (g: ConvGeometry, unit: MatrixUnit, limits: WorkgroupLimits, count: number) => readonly Tile[],
): OnUnit<Tile>[] =>
  matrixUnits(gpu, types.dtype)
    .filter((unit) => fillsUnits(g, unit))
    .sort((a, b) => b.M * b.N * b.K - a.M * a.N * a.K)
    .slice(0, candidatesOn.length)
    .flatMap((unit, i) => tilesOf(g, unit, workgroupLimits(gpu), candidatesOn[i]!).map((tile) => ({ tile, unit })));

export const matrixForward: Family<ConvKernel, OnUnit<MatrixConvTile>> = {
  candidates: (wanted) => onUnits(wanted, convMatrixCandidates),
  kernel({ gpu, types: { dtype, parameters }, g, backwards }, { tile, unit }) {
    const weights = backwards ? 'gradient' : 'outputs-first';
    const name = backwards ? 'conv_matrix_input_gradient' : 'conv_matrix';
    return {
      parts: tileParts(g, tile),
      // As for the tiled kernel: an element is staged once for each block of output channels.
      appliesOnLoad: g.outputs <= 4 * tile.outputs,
      drawsOnLoad: !gpu.adapter.software || g.outputs <= tile.outputs,
      launch: ({ bias, fusion }) => ({
        source: convMatrixShader(dtype, g, { unit, tile, weights, bias, fusion, parameters, name }),
        grid: { workgroups: convMatrixWorkgroups(g, tile) },
      }),
    };
  },
};

export const matrixWeightGradient: Family<WeightGradientKernel, OnUnit<MatrixWeightGradientTile>> = {
  candidates: (wanted) => onUnits(wanted, weightGradientMatrixCandidates),
  kernel: ({ types: { dtype }, g }, { tile, unit }) => ({
    slices: tile.slices,
    drawsOnLoad: true,
    launch: ({ bias, onLoad }) => ({
      source: weightGradientMatrixShader(dtype, g, { unit, tile, bias, onLoad }),
      grid: { workgroups: weightGradientMatrixWorkgroups(g, tile) },
    }),
  }),
};

/**
 * The device's matrix units that sum in f32 and whose operands hold the stored type: f16 operands for f16, f32 for both. Subgroups
 * get the size that the units want, where it can be requested.
 */
function matrixUnits({ matrixSizes, subgroupSizes: { min, max }, features }: Gpu, dtype: Float): MatrixUnit[] {
  return matrixSizes.flatMap(({ M, N, K, componentType, resultComponentType, emulated }): MatrixUnit[] => {
    const fits = componentType === 'f32' || (componentType === 'f16' && dtype === 'f16');
    if (!fits || resultComponentType !== 'f32' || N % 4 !== 0 || !features.has('subgroups')) return [];
    const unit = { M, N, K, component: componentType as Float, ...(emulated && { emulated }) };
    if (min === max) return [{ ...unit, lanes: max, pinned: features.has('subgroup-size-control') }];
    if (!features.has('subgroup-size-control')) return [{ ...unit, lanes: max, pinned: false }];
    return [{ ...unit, lanes: Math.min(max, Math.max(min, 32)), pinned: true }];
  });
}

/** Channels too few to fill half a unit are left to the other kernels. */
const fillsUnits = ({ inputs, outputs }: ConvGeometry, { M, N, K }: MatrixUnit): boolean =>
  2 * inputs >= Math.max(K, N) && 2 * outputs >= Math.max(M, N);
