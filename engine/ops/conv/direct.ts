// Direct kernels (shaders/conv/direct.ts): they run everywhere, and are best on CPU drivers.
import { type ConvTile, convShader, convThreads } from '../../../shaders/conv/direct.js';
import {
  type WeightGradientTile,
  weightGradientShader,
  weightGradientThreads,
} from '../../../shaders/conv/direct-weight-gradient.js';
import { type ConvGeometry, tileParts } from '../../../shaders/conv/geometry.js';
import type { Gpu } from '../../device.js';
import { sizeOf } from '../../shape.js';
import { divisor, type Family } from './family.js';
import type { ConvKernel, WeightGradientKernel } from './kernels.js';

export const directForward: Family<ConvKernel, { tile: ConvTile }> = {
  candidates: ({ gpu, g }) => directTiles(gpu, g).map((tile) => ({ tile })),
  kernel({ types: { dtype, parameters }, g, backwards }, { tile }) {
    const weights = backwards ? 'gradient' : 'outputs-first';
    const name = backwards ? 'conv_input_gradient' : 'conv';
    return {
      parts: tileParts(g, tile),
      // Every element is loaded again for each row of taps and each few output channels. At about 32 output channels of a 3×3
      // kernel this takes as long as writing and reading the activation once (measured on both CPU drivers, 2026-11).
      appliesOnLoad: g.outputs * g.kernel[0] * g.kernel[1] <= 96,
      drawsOnLoad: false,
      launch: ({ bias, fusion }) => ({
        source: convShader(dtype, g, { tile, weights, bias, fusion, parameters, name }),
        grid: { threads: convThreads(g, tile) },
      }),
    };
  },
};

export const directWeightGradient: Family<WeightGradientKernel, { tile: WeightGradientTile }> = {
  candidates: ({ gpu, g }) => directWeightGradientTiles(gpu, g).map((tile) => ({ tile })),
  kernel: ({ types: { dtype }, g }, { tile }) => ({
    slices: tile.slices,
    drawsOnLoad: false,
    launch: ({ bias, onLoad }) => ({
      source: weightGradientShader(dtype, g, { tile, bias, onLoad }),
      grid: { threads: weightGradientThreads(g, tile) * tile.slices },
    }),
  }),
};

/**
 * Tiles of the direct forward kernel, the likely best first. On CPU drivers a model ranks them by what compiling and the turns of
 * the inner loop cost, in units of one load: a vec4 load 3, quadBroadcast 0.1, a multiply-add 0.035 (SwiftShader: 20, 52, 2.5,
 * 0.7 ns; lavapipe: 10, 34, 0.6, 0.35; two cores, 2026-11). A GPU hides loads behind other threads, so small tiles keep it full.
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
  const turnChannels = g.inputs % 4 === 0 ? 4 : 1;
  const turns = (g.kernel[0] * g.kernel[1] * g.inputs) / turnChannels;
  const tiles: { tile: ConvTile; cost: number }[] = [];
  for (const quad of features.has('subgroups') && turnChannels === 4 ? [true, false] : [false]) {
    for (const channels of [4, 2, 1] as const) {
      if (g.outputs % channels) continue;
      for (const rows of [1, 2, 3, 4]) {
        for (const columns of [1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16]) {
          if (rows * columns * channels > mostAccumulators) continue;
          const tile: ConvTile = { rows, columns, channels, quad, workgroup: 16 };
          const cost = convThreads(g, tile) * turns * turnCost(g, tile, turnChannels) + compileCost(tile);
          tiles.push({ tile, cost });
        }
      }
    }
  }
  tiles.sort((p, q) => p.cost - q.cost);
  return tiles.slice(0, 8).map(({ tile }) => tile);
}

/**
 * Most sums of a thread on a CPU: beyond, lavapipe runs out of registers, and SwiftShader, which keeps them in memory, takes a third
 * longer to run and half as long again to compile (tiles of 8 and 16 pixels × 4 channels, 2026-11).
 */
const mostAccumulators = 32;

/**
 * One launch's share of the compile time, in units of one load (10 ns on two cores), if 1000 launches share it: 9 ms for each output
 * channel of the tile, 2.6 ms for each pixel and 0.9 ms for each sum (SwiftShader, 2026-11). It favours small tiles where there is
 * little to compute.
 */
const compileCost = ({ rows, columns, channels }: ConvTile): number =>
  100 * (9 * channels + rows * columns * (2.6 + 0.9 * channels));

function turnCost(g: ConvGeometry, { rows, columns, channels, quad }: ConvTile, turnChannels: 1 | 4): number {
  const kernelWidth = g.kernel[2];
  const vectorLoad = turnChannels === 4 ? 3 : 1;
  const values = rows * ((columns - 1) * g.stride + kernelWidth);
  const weights = kernelWidth * channels * vectorLoad;
  return (
    values * (quad ? 1 + turnChannels * 0.1 : vectorLoad) +
    weights +
    turnChannels * kernelWidth * rows * columns * channels * 0.035
  );
}

/** Tiles of the direct weight gradient: the standard one, then other splits of the same work. */
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

/**
 * The standard tile of the weight gradient, from the same measurements. It has no more slices than keep the adapter busy, since
 * every slice is written and read again.
 */
function directWeightGradientTile(gpu: Gpu, g: ConvGeometry): WeightGradientTile {
  const { software } = gpu.adapter;
  // About 0.2 ms on a CPU: a smaller tile runs half as long again, but compiles in a third of the time.
  const tiny = software && g.batch * sizeOf(g.output) * g.inputs * g.outputs * sizeOf(g.kernel) <= 2 ** 19;
  const quad = software && gpu.features.has('subgroups') && g.outputs % 4 === 0 && g.inputs > 1;
  const inputs = divisor(g.inputs, [4, 2, 1]);
  const outputs = divisor(g.outputs, software && !tiny ? [8, 4, 5, 3, 2, 1] : [4, 5, 3, 2, 1]);
  const allRows = inputs * outputs * sizeOf(g.kernel) <= (tiny ? 36 : 72) && g.kernel[0] === 1;
  const unroll = tiny ? 1 : g.output[2] % 2 !== 0 && g.output[2] % 3 === 0 ? 3 : 2;
  const tile = { inputs, outputs, allRows, unroll, quad, slices: 1, workgroup: software ? 16 : 64 };
  const pixels = g.batch * sizeOf(g.output);
  const rows = g.batch * g.output[0] * g.output[1];
  const wanted = Math.ceil((software ? 512 : 65536) / weightGradientThreads(g, tile));
  const worthIt = Math.ceil(pixels / (software ? 256 : 64));
  const sliceRows = Math.ceil(rows / Math.min(wanted, worthIt, rows));
  return { ...tile, slices: Math.ceil(rows / sliceRows) };
}
