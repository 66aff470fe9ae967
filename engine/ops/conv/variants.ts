// Which kernel runs a convolution on this adapter, and what a launch of it needs to know. The candidates of a shape are in the order
// of a cost model; the tuner may choose another than the first. Direct kernels (shaders/conv/direct.ts) run everywhere
// and are best on CPU drivers; tiled ones (shaders/conv/tiled.ts) stage what a workgroup shares.
import { type ConvTile, convShader, convThreads } from '../../../shaders/conv/direct.js';
import type { ConvFusion } from '../../../shaders/conv/fusion.js';
import type { Parts } from '../../../shaders/conv/geometry.js';
import { type ConvGeometry, tileParts, type WeightOrder } from '../../../shaders/conv/geometry.js';
import {
  convMatrixCandidates,
  convMatrixShader,
  convMatrixWorkgroups,
  type MatrixConvTile,
} from '../../../shaders/conv/matrix.js';
import type { MatrixUnit } from '../../../shaders/conv/matrix-unit.js';
import type { WorkgroupLimits } from '../../../shaders/conv/staging.js';
import {
  convTiledCandidates,
  convTiledShader,
  convTiledWorkgroups,
  type TiledConvTile,
} from '../../../shaders/conv/tiled.js';
import { transposeWeightShader } from '../../../shaders/conv/weights.js';
import type { Float } from '../../../shaders/wgsl.js';
import { choose, type Trial, type TrialLaunch, type TrialTensor } from '../../choices.js';
import type { Gpu } from '../../device.js';
import { sizeOf } from '../../shape.js';
import type { Grid } from '../../stream.js';

/** Storage of activations and of parameters: both the same, or f16 activations with f32 masters. */
export interface ConvTypes {
  readonly dtype: Float;
  readonly parameters: Float;
}

/** What is asked of a kernel of y = x ∗ weight. */
export interface ConvRequest {
  readonly bias: boolean;
  readonly fusion: ConvFusion;
}

/** A launch without its tensors. `weights` says in which order they must lie. */
export interface ConvLaunch {
  readonly source: string;
  readonly grid: Grid;
  readonly weights: WeightOrder;
}

/** One way to compute a convolution (or a stride-1 input gradient). */
export interface ConvKernel {
  /** Of the partial sums, if any are asked for. */
  readonly parts: Parts;
  /** Whether it is cheap to compute an activation as its input is loaded, and to draw dropout: then, or on the way out. */
  readonly loads: boolean;
  readonly draws: { readonly load: boolean; readonly gradient: boolean };
  launch(request: ConvRequest): ConvLaunch;
}

/** What the tuner chooses between. */
export type ConvChoice =
  | { readonly kernel: 'direct'; readonly tile: ConvTile }
  | { readonly kernel: 'tiled'; readonly tile: TiledConvTile }
  | { readonly kernel: 'matrix'; readonly tile: MatrixConvTile; readonly unit: MatrixUnit };
/** The name of a choice. */
export const keyOf = (pass: string, { dtype, parameters }: ConvTypes, g: ConvGeometry): string =>
  `conv.${pass} ${dtype}${parameters === dtype ? '' : `/${parameters}`} b${g.batch} ${g.input.join('x')} ${g.inputs}>${g.outputs} k${g.kernel.join('x')} s${g.stride}`;

/** The kernel for a geometry, forward or, `backwards`, as the input gradient of stride 1. */
export function convKernel(gpu: Gpu, types: ConvTypes, g: ConvGeometry, backwards: boolean): ConvKernel {
  const kernelOf = (choice: ConvChoice): ConvKernel => {
    switch (choice.kernel) {
      case 'direct':
        return directKernel(gpu, types, g, choice.tile, backwards);
      case 'tiled':
        return tiledKernel(types, g, choice.tile, backwards);
      case 'matrix':
        return matrixKernel(types, g, choice.unit, choice.tile, backwards);
    }
  };
  const { parameters } = types;
  const choice = choose<ConvChoice>(
    gpu,
    keyOf(backwards ? 'inputGradient' : 'forward', types, g),
    convCandidates(gpu, types, g),
    {
      reference: { kernel: 'direct', tile: { rows: 1, columns: 1, channels: 1, quad: false, workgroup: 64 } },
      terms: sizeOf(g.kernel) * g.inputs,
      build: (candidate): Trial => {
        const { source, grid, weights } = kernelOf(candidate).launch({ bias: !backwards, fusion: {} });
        // What f16 holds exactly, where matrix units may round the weights to it: everything else must agree.
        const values = parameters === types.dtype ? {} : { values: halfValues };
        const weight: TrialTensor = { shape: [g.outputs, ...g.kernel, g.inputs], dtype: parameters, ...values };
        const transposed: TrialTensor = { shape: weight.shape, dtype: parameters, name: 'prepared' };
        const args = {
          x: { shape: [g.batch, ...g.input, g.inputs], dtype: types.dtype },
          weight: weights === 'outputs-last' ? transposed : weight,
          y: { shape: [g.batch, ...g.output, g.outputs], dtype: types.dtype },
          ...(!backwards && { bias: { shape: [g.outputs], dtype: parameters } }),
        };
        const prepare: TrialLaunch = {
          source: transposeWeightShader(parameters, g),
          args: { weight, prepared: transposed },
          grid: { threads: sizeOf(weight.shape) },
        };
        const launches = [...(weights === 'outputs-last' ? [prepare] : []), { source, args, grid }];
        return { launches, outputs: ['y'] };
      },
    },
  );
  return kernelOf(choice);
}

function directKernel(
  gpu: Gpu,
  { dtype, parameters }: ConvTypes,
  g: ConvGeometry,
  tile: ConvTile,
  backwards: boolean,
): ConvKernel {
  // Neighbouring threads of a GPU should read neighbouring weights; on a CPU that gains nothing and costs a launch.
  const weights = backwards ? 'gradient' : gpu.adapter.software ? 'outputs-first' : 'outputs-last';
  const name = backwards ? 'conv_input_gradient' : 'conv';
  return {
    parts: tileParts(g, tile),
    // Every element is loaded anew for each row of taps and each handful of output channels; measured even with writing and
    // reading it once at about 32 channels of a 3×3 kernel (both CPU drivers, 2026-11).
    loads: g.outputs * g.kernel[0] * g.kernel[1] <= 96,
    // On a CPU, drawing dropout for every pixel of a tile takes longer to compile than it saves.
    draws: { load: false, gradient: !gpu.adapter.software },
    launch: ({ bias, fusion }) => ({
      source: convShader(dtype, g, { tile, weights, bias, fusion, parameters, name }),
      grid: { threads: convThreads(g, tile) },
      weights,
    }),
  };
}

function tiledKernel(
  { dtype, parameters }: ConvTypes,
  g: ConvGeometry,
  tile: TiledConvTile,
  backwards: boolean,
): ConvKernel {
  const weights = backwards ? 'gradient' : 'outputs-last';
  const name = backwards ? 'conv_tiled_input_gradient' : 'conv_tiled';
  return {
    parts: tileParts(g, tile),
    // An element is staged once for each block of output channels.
    loads: g.outputs <= 4 * tile.outputs,
    draws: { load: g.outputs <= tile.outputs, gradient: true },
    launch: ({ bias, fusion }) => ({
      source: convTiledShader(dtype, g, { tile, weights, bias, fusion, parameters, name }),
      grid: { workgroups: convTiledWorkgroups(g, tile) },
      weights,
    }),
  };
}

function matrixKernel(
  { dtype, parameters }: ConvTypes,
  g: ConvGeometry,
  unit: MatrixUnit,
  tile: MatrixConvTile,
  backwards: boolean,
): ConvKernel {
  const weights = backwards ? 'gradient' : 'outputs-last';
  const name = backwards ? 'conv_matrix_input_gradient' : 'conv_matrix';
  return {
    parts: tileParts(g, tile),
    // As for the tiled kernel: an element is staged once for each block of output channels.
    loads: g.outputs <= 4 * tile.outputs,
    draws: { load: g.outputs <= tile.outputs, gradient: true },
    launch: ({ bias, fusion }) => ({
      source: convMatrixShader(dtype, g, { unit, tile, weights, bias, fusion, parameters, name }),
      grid: { workgroups: convMatrixWorkgroups(g, tile) },
      weights,
    }),
  };
}

/**
 * The device's matrix units whose operands hold what is stored: f16 for f16, f32 for both; all that sum in f32. Subgroups get the
 * size that the units want where it can be asked for.
 */
export function matrixUnits({ matrixSizes, subgroupSizes: { min, max }, features }: Gpu, dtype: Float): MatrixUnit[] {
  return matrixSizes.flatMap(({ M, N, K, componentType, resultComponentType }): MatrixUnit[] => {
    const fits = componentType === 'f32' || (componentType === 'f16' && dtype === 'f16');
    if (!fits || resultComponentType !== 'f32' || N % 4 !== 0 || !features.has('subgroups')) return [];
    const component = componentType as Float;
    if (min === max) return [{ M, N, K, component, lanes: max, pinned: features.has('subgroup-size-control') }];
    if (!features.has('subgroup-size-control')) return [{ M, N, K, component, lanes: max, pinned: false }];
    return [{ M, N, K, component, lanes: Math.min(max, Math.max(min, 32)), pinned: true }];
  });
}

/** Channels too few to fill half a unit are left to the other kernels. */
export const fillsUnits = ({ inputs, outputs }: ConvGeometry, { M, N, K }: MatrixUnit): boolean =>
  2 * inputs >= Math.max(K, N) && 2 * outputs >= Math.max(M, N);

/** Numbers in [−1, 1) that f16 holds; 65 521 is prime, so no two rows are alike. */
const halfValues: readonly number[] = Array.from({ length: 65521 }, (_, i) => ((i * 40503) % 2048) / 1024 - 1);

/** What the device offers a workgroup. */
export const workgroupLimits = ({ limits }: Gpu): WorkgroupLimits => ({
  storage: limits.maxComputeWorkgroupStorageSize,
  threads: Math.min(256, limits.maxComputeInvocationsPerWorkgroup),
});

/**
 * The default first: on a GPU tiled, where there is a tile that fits; on a CPU, whose threads share caches anyhow, direct. Matrix
 * units, which are experimental, come last: only the tuner, which checks what they compute, may choose them.
 */
function convCandidates(gpu: Gpu, { dtype }: ConvTypes, g: ConvGeometry): ConvChoice[] {
  const limits = workgroupLimits(gpu);
  const direct = directTiles(gpu, g).map((tile): ConvChoice => ({ kernel: 'direct', tile }));
  const tiled = convTiledCandidates(g, limits).map((tile): ConvChoice => ({ kernel: 'tiled', tile }));
  const matrix = matrixUnits(gpu, dtype)
    .filter((unit) => fillsUnits(g, unit))
    .flatMap((unit) =>
      convMatrixCandidates(g, unit, limits).map((tile): ConvChoice => ({ kernel: 'matrix', tile, unit })),
    );
  return gpu.adapter.software ? [...direct, ...tiled.slice(0, 1), ...matrix] : [...tiled, ...direct, ...matrix];
}

/** The largest of `sizes` that divides n. */
export const divisor = <T extends number>(n: number, sizes: readonly T[]): T => sizes.find((size) => n % size === 0)!;

/**
 * Tiles of the direct forward kernel, the likely best first. On CPU drivers the cheapest by a model of one turn of the inner loop, in units of one load:
 * a vec4 load 3, quadBroadcast 0.1, a multiply-add 0.035 (SwiftShader: 20, 52, 2.5, 0.7 ns; lavapipe: 10, 34, 0.6, 0.35; two
 * cores, 2026-11), and of compiling the tile. lavapipe runs out of registers beyond 32 accumulators. A GPU hides loads behind
 * other threads, so there small tiles keep it full.
 */
function directTiles({ adapter, features }: Gpu, g: ConvGeometry): ConvTile[] {
  if (!adapter.software) {
    const columns = g.output[2] < 4 ? 2 : 4;
    const rows = g.output[1] % 2 === 0 ? 2 : 1;
    const channels = divisor(g.outputs, [4, 2, 1]);
    const standard = { rows, columns, channels, quad: false, workgroup: 64 };
    const others = [
      [1, 4],
      [1, 8],
      [2, 8],
      [4, 4],
    ].map(([r, c]) => ({ ...standard, rows: r!, columns: c! }));
    return [standard, ...others, { ...standard, workgroup: 128 }];
  }
  const most = adapter.driver === 'SwiftShader' ? 64 : 32;
  const step = g.inputs % 4 === 0 ? 4 : 1;
  const turns = (g.kernel[0] * g.kernel[1] * g.inputs) / step;
  const tiles: { tile: ConvTile; cost: number }[] = [];
  for (const quad of features.has('subgroups') && step === 4 ? [true, false] : [false]) {
    for (const channels of [4, 2, 1] as const) {
      if (g.outputs % channels) continue;
      for (const rows of [1, 2, 3, 4]) {
        for (const columns of [1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16]) {
          if (rows * columns * channels > most || rows * columns > 32) continue;
          const tile: ConvTile = { rows, columns, channels, quad, workgroup: 16 };
          const cost = convThreads(g, tile) * turns * turnCost(g, tile, step) + compileCost(tile);
          tiles.push({ tile, cost });
        }
      }
    }
  }
  tiles.sort((p, q) => p.cost - q.cost);
  return tiles.slice(0, 8).map(({ tile }) => tile);
}

/**
 * A launch's part of what compiling takes, in units of one load (10 ns on two cores), if 1000 launches share it: some 8 ms a pixel
 * of the tile and 3.5 more for each of its accumulators (SwiftShader, 2026-11). Where there is little to compute, small tiles.
 */
const compileCost = ({ rows, columns, channels }: ConvTile): number => 100 * rows * columns * (8 + 3.5 * channels);

function turnCost(g: ConvGeometry, { rows, columns, channels, quad }: ConvTile, step: 1 | 4): number {
  const kernelWidth = g.kernel[2];
  const vectorLoad = step === 4 ? 3 : 1;
  const values = rows * ((columns - 1) * g.stride + kernelWidth);
  const weights = kernelWidth * channels * vectorLoad;
  return (
    values * (quad ? 1 + step * 0.1 : vectorLoad) + weights + step * kernelWidth * rows * columns * channels * 0.035
  );
}
