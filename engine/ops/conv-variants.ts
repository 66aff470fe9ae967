// Which kernel runs a convolution on this adapter, and what a launch of it needs to know. Direct kernels (shaders/conv.ts) run
// everywhere.
import {
  type ConvTile,
  convParts,
  convShader,
  convThreads,
  type WeightGradientTile,
  weightGradientShader,
  weightGradientThreads,
} from '../../shaders/conv.js';
import type { Activation, ConvFusion, Parts } from '../../shaders/conv-fusion.js';
import type { ConvGeometry, WeightOrder } from '../../shaders/conv-geometry.js';
import type { Float } from '../../shaders/wgsl.js';
import type { Gpu } from '../device.js';
import { sizeOf } from '../shape.js';
import type { Grid } from '../stream.js';

/** Storage of activations and of parameters: both the same, or f16 activations with f32 masters. */
export interface ConvTypes {
  readonly dtype: Float;
  readonly parameters: Float;
}

/** What is asked of a kernel of y = x ∗ weight. `backwards`: the weights are read backwards, for the input gradient. */
export interface ConvRequest {
  readonly backwards: boolean;
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
  /** Whether it draws dropout again, as it loads its input or for a gradient on the way out. */
  readonly draws: { readonly load: boolean; readonly gradient: boolean };
  launch(request: ConvRequest): ConvLaunch;
}

/** The kernel for a geometry, forward or, `backwards`, as the input gradient of stride 1. */
export function convKernel(gpu: Gpu, { dtype, parameters }: ConvTypes, g: ConvGeometry): ConvKernel {
  const tile = directTile(gpu, g);
  return {
    parts: convParts(g, tile),
    // On a CPU, drawing dropout for every pixel of a tile takes longer to compile than it saves.
    draws: { load: false, gradient: !gpu.adapter.software },
    launch: ({ backwards, bias, fusion }) => {
      // Neighbouring threads of a GPU should read neighbouring weights; on a CPU that gains nothing and costs a launch.
      const weights = backwards ? 'gradient' : gpu.adapter.software ? 'outputs-first' : 'outputs-last';
      const name = backwards ? 'conv_input_gradient' : 'conv';
      return {
        source: convShader(dtype, g, { tile, weights, bias, fusion, parameters, name }),
        grid: { threads: convThreads(g, tile) },
        weights,
      };
    },
  };
}

/** One way to compute the weight gradient's first pass. */
export interface WeightGradientKernel {
  readonly slices: number;
  readonly drawsOnLoad: boolean;
  launch(request: { bias: boolean; load: Activation | undefined }): { source: string; grid: Grid };
}

/** The kernel for the weight gradient of a geometry. */
export function weightGradientKernel(gpu: Gpu, { dtype }: ConvTypes, g: ConvGeometry): WeightGradientKernel {
  const tile = directWeightGradientTile(gpu, g);
  return {
    slices: tile.slices,
    drawsOnLoad: false,
    launch: ({ bias, load }) => ({
      source: weightGradientShader(dtype, g, { tile, bias, load }),
      grid: { threads: weightGradientThreads(g, tile) * tile.slices },
    }),
  };
}

/** The largest of `sizes` that divides n. */
const divisor = <T extends number>(n: number, sizes: readonly T[]): T => sizes.find((size) => n % size === 0)!;

/**
 * The direct forward kernel's tile. On CPU drivers the cheapest by a model of one turn of the inner loop, in units of one load:
 * a vec4 load 3, quadBroadcast 0.1, a multiply-add 0.035 (SwiftShader: 20, 52, 2.5, 0.7 ns; lavapipe: 10, 34, 0.6, 0.35; two
 * cores, 2026-11). lavapipe runs out of registers beyond 32 accumulators, and compiles them slowly. A GPU hides loads behind
 * other threads, so there small tiles keep it full.
 */
function directTile({ adapter, features }: Gpu, g: ConvGeometry): ConvTile {
  if (!adapter.software) {
    const columns = g.output[2] < 4 ? 2 : 4;
    const rows = g.output[1] % 2 === 0 ? 2 : 1;
    return { rows, columns, channels: divisor(g.outputs, [4, 2, 1]), quad: false, workgroup: 64 };
  }
  const most = adapter.driver === 'SwiftShader' ? 64 : 32;
  const step = g.inputs % 4 === 0 ? 4 : 1;
  let best: ConvTile | undefined;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const quad of features.has('subgroups') && step === 4 ? [true, false] : [false]) {
    for (const channels of [4, 2, 1] as const) {
      if (g.outputs % channels) continue;
      for (const rows of [1, 2, 3, 4]) {
        for (const columns of [1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16]) {
          if (rows * columns * channels > most || rows * columns > 32) continue;
          const tile: ConvTile = { rows, columns, channels, quad, workgroup: 16 };
          const cost = convThreads(g, tile) * turnCost(g, tile, step);
          if (cost < bestCost) {
            bestCost = cost;
            best = tile;
          }
        }
      }
    }
  }
  return best!;
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
