// Which kernel runs a convolution on this adapter, and what a launch of it needs to know. The candidates of a shape are in the order
// of a cost model; the tuner may choose another than the first. Direct kernels (shaders/conv.ts) run everywhere
// and are best on CPU drivers; tiled ones (shaders/conv-tiled.ts) stage what a workgroup shares.
import {
  type ConvTile,
  convParts,
  convShader,
  convThreads,
  sumSlicesShader,
  transposeWeightShader,
  type WeightGradientTile,
  weightGradientShader,
  weightGradientThreads,
} from '../../shaders/conv.js';
import type { Activation, ConvFusion, Parts } from '../../shaders/conv-fusion.js';
import type { ConvGeometry, WeightOrder } from '../../shaders/conv-geometry.js';
import type { WorkgroupLimits } from '../../shaders/conv-staging.js';
import {
  convTiledCandidates,
  convTiledParts,
  convTiledShader,
  convTiledWorkgroups,
  type TiledConvTile,
} from '../../shaders/conv-tiled.js';
import {
  type TiledWeightGradientTile,
  weightGradientTiledCandidates,
  weightGradientTiledShader,
  weightGradientTiledWorkgroups,
} from '../../shaders/conv-tiled-weight-gradient.js';
import type { Float } from '../../shaders/wgsl.js';
import { choose, type Trial, type TrialLaunch, type TrialTensor } from '../choices.js';
import type { Gpu } from '../device.js';
import { sizeOf } from '../shape.js';
import type { Grid } from '../stream.js';

/** Storage of activations and of parameters: both the same, or f16 activations with f32 masters. */
export interface ConvTypes {
  readonly dtype: Float;
  readonly parameters: Float;
}

/** What is asked of a kernel of y = x ∗ weight. */
export interface ConvRequest {
  readonly bias: boolean;
  readonly fusion: ConvFusion & { base?: boolean };
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
  | { readonly kernel: 'tiled'; readonly tile: TiledConvTile };
export type WeightGradientChoice =
  | { readonly kernel: 'direct'; readonly tile: WeightGradientTile }
  | { readonly kernel: 'tiled'; readonly tile: TiledWeightGradientTile };

const keyOf = (pass: string, { dtype, parameters }: ConvTypes, g: ConvGeometry): string =>
  `conv.${pass} ${dtype}${parameters === dtype ? '' : `/${parameters}`} b${g.batch} ${g.input.join('x')} ${g.inputs}>${g.outputs} k${g.kernel.join('x')} s${g.stride}`;

/** The kernel for a geometry, forward or, `backwards`, as the input gradient of stride 1. */
export function convKernel(gpu: Gpu, types: ConvTypes, g: ConvGeometry, backwards: boolean): ConvKernel {
  const kernelOf = (choice: ConvChoice): ConvKernel =>
    choice.kernel === 'tiled'
      ? tiledKernel(types, g, choice.tile, backwards)
      : directKernel(gpu, types, g, choice.tile, backwards);
  const { parameters } = types;
  const choice = choose<ConvChoice>(
    gpu,
    keyOf(backwards ? 'inputGradient' : 'forward', types, g),
    convCandidates(gpu, g),
    {
      reference: { kernel: 'direct', tile: { rows: 1, columns: 1, channels: 1, quad: false, workgroup: 64 } },
      terms: sizeOf(g.kernel) * g.inputs,
      build: (candidate): Trial => {
        const { source, grid, weights } = kernelOf(candidate).launch({ bias: !backwards, fusion: {} });
        const weight: TrialTensor = { shape: [g.outputs, ...g.kernel, g.inputs], dtype: parameters };
        const transposed = { ...weight, name: 'prepared' };
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
    parts: convParts(g, tile),
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
    parts: convTiledParts(g, tile),
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

const workgroupLimits = ({ limits }: Gpu): WorkgroupLimits => ({
  storage: limits.maxComputeWorkgroupStorageSize,
  threads: Math.min(256, limits.maxComputeInvocationsPerWorkgroup),
});

/** The default first: on a GPU tiled, where there is a tile that fits; on a CPU, whose threads share caches anyhow, direct. */
function convCandidates(gpu: Gpu, g: ConvGeometry): ConvChoice[] {
  const direct = directTiles(gpu, g).map((tile): ConvChoice => ({ kernel: 'direct', tile }));
  const tiled = convTiledCandidates(g, workgroupLimits(gpu)).map((tile): ConvChoice => ({ kernel: 'tiled', tile }));
  return gpu.adapter.software ? [...direct, ...tiled.slice(0, 1)] : [...tiled, ...direct];
}

/** One way to compute the weight gradient's first pass. */
export interface WeightGradientKernel {
  readonly slices: number;
  readonly drawsOnLoad: boolean;
  launch(request: { bias: boolean; load: Activation | undefined }): { source: string; grid: Grid };
}

/** Whether the first pass writes the gradient itself. */
export const onePass = ({ slices }: WeightGradientKernel, { parameters }: ConvTypes): boolean =>
  slices === 1 && parameters === 'f32';

/** The kernel for the weight gradient of a geometry. */
export function weightGradientKernel(gpu: Gpu, types: ConvTypes, g: ConvGeometry): WeightGradientKernel {
  const { dtype, parameters } = types;
  const kernelOf = ({ kernel, tile }: WeightGradientChoice): WeightGradientKernel => ({
    slices: tile.slices,
    drawsOnLoad: kernel === 'tiled',
    launch: ({ bias, load }) =>
      kernel === 'tiled'
        ? {
            source: weightGradientTiledShader(dtype, g, { tile, bias, load }),
            grid: { workgroups: weightGradientTiledWorkgroups(g, tile) },
          }
        : {
            source: weightGradientShader(dtype, g, { tile, bias, load }),
            grid: { threads: weightGradientThreads(g, tile) * tile.slices },
          },
  });
  const simplest = { inputs: 1, outputs: 1, allRows: false, unroll: 1, quad: false, slices: 1, workgroup: 64 } as const;
  const choice = choose<WeightGradientChoice>(
    gpu,
    keyOf('weightGradient', types, g),
    weightGradientCandidates(gpu, g),
    {
      reference: { kernel: 'direct', tile: simplest },
      terms: g.batch * sizeOf(g.output),
      build: (candidate): Trial => {
        const kernel = kernelOf(candidate);
        const { source, grid } = kernel.launch({ bias: true, load: undefined });
        const [weight, bias] = [[g.outputs, ...g.kernel, g.inputs], [g.outputs]];
        const x: TrialTensor = { shape: [g.batch, ...g.input, g.inputs], dtype };
        const dy: TrialTensor = { shape: [g.batch, ...g.output, g.outputs], dtype };
        const outputs = { dWeight: { shape: weight, dtype: parameters }, dBias: { shape: bias, dtype: parameters } };
        const names = ['dWeight', 'dBias'];
        if (onePass(kernel, types))
          return { launches: [{ source, args: { x, dy, ...outputs }, grid }], outputs: names };
        const partialWeight = { shape: [kernel.slices, ...weight], name: 'partialWeight' };
        const partialBias = { shape: [kernel.slices, ...bias], name: 'partialBias' };
        return {
          launches: [
            { source, args: { x, dy, dWeight: partialWeight, dBias: partialBias }, grid },
            {
              source: sumSlicesShader(parameters, { bias: true }),
              args: { partialWeight, partialBias, ...outputs },
              grid: { threads: sizeOf(weight) + g.outputs },
            },
          ],
          outputs: names,
        };
      },
    },
  );
  return kernelOf(choice);
}

/** The default first, as for the forward kernel; of the direct one also other splits of the same work. */
function weightGradientCandidates(gpu: Gpu, g: ConvGeometry): WeightGradientChoice[] {
  const direct = directWeightGradientTiles(gpu, g).map((tile): WeightGradientChoice => ({ kernel: 'direct', tile }));
  const tiled = weightGradientTiledCandidates(g, workgroupLimits(gpu)).map(
    (tile): WeightGradientChoice => ({ kernel: 'tiled', tile }),
  );
  return gpu.adapter.software ? [...direct, ...tiled.slice(0, 1)] : [...tiled, ...direct];
}

function directWeightGradientTiles(gpu: Gpu, g: ConvGeometry): WeightGradientTile[] {
  const standard = directWeightGradientTile(gpu, g);
  const rows = g.batch * g.output[0] * g.output[1];
  const sliced = (tile: WeightGradientTile, factor: number): WeightGradientTile => {
    const sliceRows = Math.ceil(rows / Math.max(1, Math.min(rows, Math.round(tile.slices * factor))));
    return { ...tile, slices: Math.ceil(rows / sliceRows) };
  };
  const outputs = (standard.quad ? [4, 8, 16] : [1, 2, 4, 8]).filter((n) => g.outputs % n === 0);
  const tiles = [
    standard,
    ...[0.25, 0.5, 2, 4].map((factor) => sliced(standard, factor)),
    ...outputs.map((n) => sliced({ ...standard, outputs: n, allRows: false }, n / standard.outputs)),
    { ...standard, unroll: 1 },
    { ...standard, unroll: 4 },
  ];
  const different = new Map(tiles.map((tile) => [JSON.stringify(tile), tile]));
  return [...different.values()];
}

/** The largest of `sizes` that divides n. */
const divisor = <T extends number>(n: number, sizes: readonly T[]): T => sizes.find((size) => n % size === 0)!;

/**
 * Tiles of the direct forward kernel, the likely best first. On CPU drivers the cheapest by a model of one turn of the inner loop, in units of one load:
 * a vec4 load 3, quadBroadcast 0.1, a multiply-add 0.035 (SwiftShader: 20, 52, 2.5, 0.7 ns; lavapipe: 10, 34, 0.6, 0.35; two
 * cores, 2026-11). lavapipe runs out of registers beyond 32 accumulators, and compiles them slowly. A GPU hides loads behind
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
  const tiles: { tile: ConvTile; cost: number }[] = [];
  for (const quad of features.has('subgroups') && step === 4 ? [true, false] : [false]) {
    for (const channels of [4, 2, 1] as const) {
      if (g.outputs % channels) continue;
      for (const rows of [1, 2, 3, 4]) {
        for (const columns of [1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16]) {
          if (rows * columns * channels > most || rows * columns > 32) continue;
          const tile: ConvTile = { rows, columns, channels, quad, workgroup: 16 };
          tiles.push({ tile, cost: convThreads(g, tile) * turnCost(g, tile, step) });
        }
      }
    }
  }
  tiles.sort((p, q) => p.cost - q.cost);
  return tiles.slice(0, 8).map(({ tile }) => tile);
}

function turnCost(g: ConvGeometry, { rows, columns, channels, quad }: ConvTile, step: 1 | 4): number {
  const kernelWidth = g.kernel[2];
  const vectorLoad = step === 4 ? 3 : 1;
  const values = rows * ((columns - 1) * g.stride + kernelWidth);
  const weights = kernelWidth * channels * vectorLoad;
  return (
    values * (quad ? 1 + step * 0.1 : vectorLoad) + weights + step * kernelWidth * rows * columns * channels * 0.035
  );
}

/**
 * The weight gradient's tile, from the same measurements; slices are as few as keep the adapter busy, since every slice is
 * written and read again.
 */
function directWeightGradientTile(gpu: Gpu, g: ConvGeometry): WeightGradientTile {
  const { software } = gpu.adapter;
  const quad = software && gpu.features.has('subgroups') && g.outputs % 4 === 0 && g.inputs > 1;
  const inputs = divisor(g.inputs, [4, 2, 1]);
  const outputs = divisor(g.outputs, software ? [8, 4, 5, 3, 2, 1] : [4, 5, 3, 2, 1]);
  const allRows = inputs * outputs * sizeOf(g.kernel) <= 72 && g.kernel[0] === 1;
  const unroll = g.output[2] % 2 !== 0 && g.output[2] % 3 === 0 ? 3 : 2;
  const tile = { inputs, outputs, allRows, unroll, quad, slices: 1, workgroup: software ? 16 : 64 };
  const pixels = g.batch * sizeOf(g.output);
  const rows = g.batch * g.output[0] * g.output[1];
  const wanted = Math.ceil((software ? 512 : 65536) / weightGradientThreads(g, tile));
  const worthIt = Math.ceil(pixels / (software ? 256 : 64));
  const sliceRows = Math.ceil(rows / Math.min(wanted, worthIt, rows));
  return { ...tile, slices: Math.ceil(rows / sliceRows) };
}
