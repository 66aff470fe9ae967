// Which kernel runs a convolution's weight gradient on this adapter: candidates as in variants.ts. A slice of the output pixels is
// summed by workgroups of its own; one slice writes the gradient, several are added up by a second launch.
import {
  type WeightGradientTile,
  weightGradientShader,
  weightGradientThreads,
} from '../../../shaders/conv/direct-weight-gradient.js';
import type { Activation } from '../../../shaders/conv/fusion.js';
import type { ConvGeometry } from '../../../shaders/conv/geometry.js';
import type { MatrixUnit } from '../../../shaders/conv/matrix-unit.js';
import {
  type MatrixWeightGradientTile,
  weightGradientMatrixCandidates,
  weightGradientMatrixShader,
  weightGradientMatrixWorkgroups,
} from '../../../shaders/conv/matrix-weight-gradient.js';
import {
  type TiledWeightGradientTile,
  weightGradientTiledCandidates,
  weightGradientTiledShader,
  weightGradientTiledWorkgroups,
} from '../../../shaders/conv/tiled-weight-gradient.js';
import { sumSlicesShader } from '../../../shaders/conv/weights.js';
import { choose, type Trial, type TrialTensor } from '../../choices.js';
import type { Gpu } from '../../device.js';
import { sizeOf } from '../../shape.js';
import type { Grid } from '../../stream.js';
import { type ConvTypes, divisor, fillsUnits, keyOf, matrixUnits, workgroupLimits } from './variants.js';

type WeightGradientChoice =
  | { readonly kernel: 'direct'; readonly tile: WeightGradientTile }
  | { readonly kernel: 'tiled'; readonly tile: TiledWeightGradientTile }
  | { readonly kernel: 'matrix'; readonly tile: MatrixWeightGradientTile; readonly unit: MatrixUnit };

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
  const launchOf = (choice: WeightGradientChoice, { bias, load }: { bias: boolean; load: Activation | undefined }) => {
    switch (choice.kernel) {
      case 'direct': {
        const { tile } = choice;
        const source = weightGradientShader(dtype, g, { tile, bias, load });
        return { source, grid: { threads: weightGradientThreads(g, tile) * tile.slices } };
      }
      case 'tiled': {
        const { tile } = choice;
        const source = weightGradientTiledShader(dtype, g, { tile, bias, load });
        return { source, grid: { workgroups: weightGradientTiledWorkgroups(g, tile) } };
      }
      case 'matrix': {
        const { tile, unit } = choice;
        const source = weightGradientMatrixShader(dtype, g, { unit, tile, bias, load });
        return { source, grid: { workgroups: weightGradientMatrixWorkgroups(g, tile) } };
      }
    }
  };
  const kernelOf = (choice: WeightGradientChoice): WeightGradientKernel => ({
    slices: choice.tile.slices,
    drawsOnLoad: choice.kernel !== 'direct',
    launch: (request) => launchOf(choice, request),
  });
  const simplest = { inputs: 1, outputs: 1, allRows: false, unroll: 1, quad: false, slices: 1, workgroup: 64 } as const;
  const choice = choose<WeightGradientChoice>(
    gpu,
    keyOf('weightGradient', types, g),
    weightGradientCandidates(gpu, types, g),
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

/** In the order of the forward kernel's; of the direct one also other splits of the same work. */
function weightGradientCandidates(gpu: Gpu, { dtype }: ConvTypes, g: ConvGeometry): WeightGradientChoice[] {
  const limits = workgroupLimits(gpu);
  const direct = directWeightGradientTiles(gpu, g).map((tile): WeightGradientChoice => ({ kernel: 'direct', tile }));
  const tiled = weightGradientTiledCandidates(g, limits).map(
    (tile): WeightGradientChoice => ({ kernel: 'tiled', tile }),
  );
  const matrix = matrixUnits(gpu, dtype)
    .filter((unit) => fillsUnits(g, unit))
    .flatMap((unit) =>
      weightGradientMatrixCandidates(g, unit, limits).map(
        (tile): WeightGradientChoice => ({ kernel: 'matrix', tile, unit }),
      ),
    );
  return gpu.adapter.software ? [...direct, ...tiled.slice(0, 1), ...matrix] : [...tiled, ...direct, ...matrix];
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

/**
 * The weight gradient's tile, from the same measurements; slices are as few as keep the adapter busy, since every slice is
 * written and read again.
 */
function directWeightGradientTile(gpu: Gpu, g: ConvGeometry): WeightGradientTile {
  const { software } = gpu.adapter;
  // Some 0.2 ms on a CPU: a smaller tile, which takes longer by half, compiles in a third of the time.
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
