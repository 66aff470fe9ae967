// The choices of convolutions' kernels as the tuner sees them: all candidates, those on matrix units too, and for each a trial, which
// launches the text that the step will run, with all that is fused into it. Kernels on matrix units must prove themselves on the
// device (engine/proof.ts); then the cheapest by the cost model takes the default's place.
import type { ConvTile } from '../../../shaders/conv/direct.js';
import type { WeightGradientTile } from '../../../shaders/conv/direct-weight-gradient.js';
import type { ConvGeometry } from '../../../shaders/conv/geometry.js';
import { convMatrixCost, type MatrixConvTile } from '../../../shaders/conv/matrix.js';
import {
  type MatrixWeightGradientTile,
  weightGradientMatrixCost,
} from '../../../shaders/conv/matrix-weight-gradient.js';
import { plainSumShader, sumSlicesGrid, sumSlicesShader } from '../../../shaders/conv/slice-sums.js';
import { convTiledCost, type TiledConvTile } from '../../../shaders/conv/tiled.js';
import { type TiledWeightGradientTile, weightGradientTiledCost } from '../../../shaders/conv/tiled-weight-gradient.js';
import { choose, type Proof, type Trial, type TrialLaunch, type TrialTensor } from '../../choices.js';
import type { Gpu } from '../../device.js';
import { proveClaims } from '../../proof.js';
import { sizeOf } from '../../shape.js';
import { type Choice, candidatesOf, type Families, keyOf, type Wanted } from './family.js';
import { forwardFamilies, onePass, weightGradientFamilies } from './forward.js';
import type { ConvKernel, WeightGradientKernel } from './kernels.js';
import { matrixForward, matrixWeightGradient } from './matrix.js';
import { holding, measuredOn, operandRounding, provenOn, type TrialNumbers, trialInput, trialSums } from './trials.js';
import { type ConvWish, granted, loaded, wishText } from './wish.js';

/** Cycles of a candidate by the cost model, which does not know direct kernels. */
type Costs = Partial<Record<Choice['kernel'], (g: ConvGeometry, choice: Choice) => number>>;

const forwardCosts: Costs = {
  tiled: (g, { tile }) => convTiledCost(g, tile as TiledConvTile),
  matrix: (g, { tile, unit }) => convMatrixCost(g, unit!, tile as MatrixConvTile),
};

const weightGradientCosts: Costs = {
  tiled: (g, { tile }) => weightGradientTiledCost(g, tile as TiledWeightGradientTile),
  matrix: (g, { tile, unit }) => weightGradientMatrixCost(g, unit!, tile as MatrixWeightGradientTile),
};

/**
 * How the kernels on matrix units prove themselves: those that multiply f16 on whole numbers, whose products and sums are exact; those
 * that multiply f32 as in a measurement, since only odd numbers show that an operand lost digits. The likely best is preferred where
 * the model finds it cheaper than the default, on a GPU.
 */
function proofOf(
  { gpu: { adapter }, g, types }: Wanted,
  candidates: readonly Choice[],
  costs: Costs,
  { build, whole, random, exact, wish }: ProofOptions,
): Proof<Choice> {
  const isMatrix = ({ kernel }: Choice): boolean => kernel === 'matrix';
  const best = adapter.software || adapter.driver === 'null' ? undefined : candidates.find(isMatrix);
  const costOf = (choice: Choice): number => costs[choice.kernel]?.(g, choice) ?? Number.POSITIVE_INFINITY;
  return {
    needs: isMatrix,
    preferred: best && costOf(best) < costOf(candidates[0]!) ? best : undefined,
    of: ({ unit }) =>
      unit!.component === 'f16'
        ? { build: (choice) => build(choice, whole()), exact }
        : { build: (choice) => build(choice, random), exact: [], operandRounding: operandRounding(types.dtype, wish) },
    prove: proveClaims,
  };
}

interface ProofOptions {
  build(choice: Choice, numbers: TrialNumbers): Trial;
  whole(): TrialNumbers;
  readonly random: TrialNumbers;
  /** Outputs that are exact for whole numbers. */
  readonly exact: readonly string[];
  readonly wish: ConvWish;
}

/** The kernel of a convolution or its input gradient: what the tuner remembers, else the default. */
export function tunedForward(wanted: Wanted, wish: ConvWish): ConvKernel {
  const { gpu, types, g, backwards } = wanted;
  const families: Families<ConvKernel> = { ...forwardFamilies, matrix: matrixForward };
  const kernelOf = (choice: Choice): ConvKernel => families[choice.kernel]!.kernel(wanted, choice);
  const { dtype, parameters } = types;
  const sums = wish.statistics || wish.gradient !== undefined;
  // The tile of the kernel against which the tuner checks the candidates. It has few parts where it writes partial sums.
  const simplest: ConvTile = { rows: 1, columns: sums ? 8 : 1, channels: 1, quad: false, workgroup: 64 };
  const reference: Choice = { kernel: 'direct', tile: simplest };
  const products = sizeOf(g.kernel) * g.inputs;
  const terms = { y: products, merged: products + g.output[1] * g.output[2] };
  const build = (candidate: Choice, numbers: TrialNumbers): Trial => {
    const kernel = kernelOf(candidate);
    const fusion = candidate === reference ? { ...granted(wish, kernel), onLoad: undefined } : granted(wish, kernel);
    const { source, grid } = kernel.launch({ bias: wish.bias, fusion });
    const shape = [g.outputs, ...g.kernel, g.inputs];
    const input = trialInput(g, dtype, wish, fusion.onLoad, numbers);
    const sums = trialSums(g, dtype, wish, kernel.parts, numbers);
    const args = {
      ...input.bound,
      ...sums.bound,
      weight: { shape, dtype: parameters, ...holding(numbers.weight) },
      y: { shape: [g.batch, ...g.output, g.outputs], dtype },
      ...(wish.bias && { bias: { shape: [g.outputs], dtype: parameters, ...holding(numbers.bias) } }),
    };
    const launches = [...input.before, { source, args, grid }];
    return { launches, checks: sums.after, outputs: sums.after.length ? ['y', 'merged'] : ['y'] };
  };
  const key = keyOf(backwards ? 'inputGradient' : 'forward', types, g) + wishText(wish, backwards);
  const candidates = candidatesOf(families, wanted);
  const random = measuredOn(parameters !== dtype);
  const choice = choose<Choice>(gpu, key, candidates, {
    ...{ reference, terms, operandRounding: operandRounding(dtype, wish) },
    build: (candidate) => build(candidate, random),
    proof: proofOf(wanted, candidates, forwardCosts, {
      ...{ build, random, whole: () => provenOn(products, dtype), wish },
      exact: wish.gradient ? [] : ['y'], // a derivative's slope is no whole number
    }),
  });
  return kernelOf(choice);
}

/** Most pixels that a thread of the reference sums on a GPU, which ends a launch that takes seconds. */
const mostPixels = 4096;

/** The tile of the reference kernel, against which the tuner checks the candidates. */
function simplest({ adapter }: Gpu, g: ConvGeometry): WeightGradientTile {
  const rows = g.batch * g.output[0] * g.output[1];
  const sliceRows = adapter.software ? rows : Math.min(rows, Math.ceil(mostPixels / g.output[2]));
  const slices = Math.ceil(rows / sliceRows);
  return { inputs: 1, outputs: 1, allRows: false, unroll: 1, quad: false, slices, workgroup: 64 };
}

/** The kernel of a weight gradient: what the tuner remembers, else the default. */
export function tunedWeightGradient(wanted: Wanted, wish: ConvWish): WeightGradientKernel {
  const { gpu, types, g } = wanted;
  const { dtype, parameters } = types;
  const families: Families<WeightGradientKernel> = { ...weightGradientFamilies, matrix: matrixWeightGradient };
  const kernelOf = (choice: Choice): WeightGradientKernel => families[choice.kernel]!.kernel(wanted, choice);
  const reference: Choice = { kernel: 'direct', tile: simplest(gpu, g) };
  const terms = g.batch * sizeOf(g.output);
  const outputs = wish.bias ? ['dWeight', 'dBias'] : ['dWeight'];
  const build = (candidate: Choice, numbers: TrialNumbers): Trial => {
    const kernel = kernelOf(candidate);
    const onLoad = candidate === reference ? undefined : loaded(wish, kernel);
    const { source, grid } = kernel.launch({ bias: wish.bias, onLoad });
    const { bound, before } = trialInput(g, dtype, wish, onLoad, numbers);
    const [weight, bias] = [[g.outputs, ...g.kernel, g.inputs], [g.outputs]];
    const dy: TrialTensor = { shape: [g.batch, ...g.output, g.outputs], dtype, ...holding(numbers.dy) };
    const dWeight: TrialTensor = { shape: weight, dtype: parameters };
    const dBias: TrialTensor = { shape: bias, dtype: parameters };
    const firstPass = (sums: { dWeight: TrialTensor; dBias: TrialTensor }): TrialLaunch[] => {
      const { dBias, ...others } = sums;
      return [...before, { source, args: { ...bound, dy, ...others, ...(wish.bias && { dBias }) }, grid }];
    };
    if (onePass(kernel, types)) return { launches: firstPass({ dWeight, dBias }), outputs };
    const partialWeight = { shape: [kernel.slices, ...weight], name: 'partialWeight' };
    const partialBias = { shape: [kernel.slices, ...bias], name: 'partialBias' };
    const first = firstPass({ dWeight: partialWeight, dBias: partialBias });
    const size = sizeOf(weight);
    if (candidate === reference) {
      const plain = (slices: TrialTensor, sum: TrialTensor & { name: string }): TrialLaunch => ({
        source: plainSumShader(parameters, sizeOf(sum.shape)),
        args: { slices, sum },
        grid: { threads: sizeOf(sum.shape) },
      });
      const sums = [
        plain(partialWeight, { ...dWeight, name: 'dWeight' }),
        ...(wish.bias ? [plain(partialBias, { ...dBias, name: 'dBias' })] : []),
      ];
      return { launches: [...first, ...sums], outputs };
    }
    const summing = { dtype: parameters, bias: wish.bias, slices: kernel.slices, software: gpu.adapter.software };
    const second = {
      source: sumSlicesShader(summing),
      args: { partialWeight, dWeight, ...(wish.bias && { partialBias, dBias }) },
      grid: sumSlicesGrid(summing, size + (wish.bias ? g.outputs : 0)),
    };
    return { launches: [...first, second], outputs };
  };
  const key = keyOf('weightGradient', types, g) + wishText(wish);
  const candidates = candidatesOf(families, wanted);
  const random = measuredOn(false);
  const choice = choose<Choice>(gpu, key, candidates, {
    ...{ reference, terms, operandRounding: operandRounding(dtype, wish) },
    build: (candidate) => build(candidate, random),
    proof: proofOf(wanted, candidates, weightGradientCosts, {
      ...{ build, random, whole: () => provenOn(terms, parameters), wish, exact: outputs },
    }),
  });
  return kernelOf(choice);
}
