// Chooses the kernel that runs a convolution's weight gradient on this adapter, as in forward.ts. Separate workgroups sum each slice
// of the output pixels. A kernel with one slice writes the gradient itself; several slices are added up by a second launch.
import type { WeightGradientTile } from '../../../shaders/conv/direct-weight-gradient.js';
import type { ConvGeometry } from '../../../shaders/conv/geometry.js';
import { plainSumShader, sumSlicesGrid, sumSlicesShader } from '../../../shaders/conv/weights.js';
import { choose, type Trial, type TrialLaunch, type TrialTensor } from '../../choices.js';
import type { Gpu } from '../../device.js';
import { sizeOf } from '../../shape.js';
import { directWeightGradient } from './direct.js';
import { type Choice, type ConvTypes, candidatesOf, type Families, keyOf } from './family.js';
import type { WeightGradientKernel } from './kernels.js';
import { matrixWeightGradient } from './matrix.js';
import { tiledWeightGradient } from './tiled.js';
import { type ConvWish, loaded, operandRounding, trialInput, wishText } from './wish.js';

const families: Families<WeightGradientKernel> = {
  direct: directWeightGradient,
  tiled: tiledWeightGradient,
  matrix: matrixWeightGradient,
};

/** Most pixels that a thread of the reference sums on a GPU, which ends a launch that takes seconds. */
const mostPixels = 4096;

/** The tile of the reference kernel, against which the tuner checks the candidates. */
function simplest({ adapter }: Gpu, g: ConvGeometry): WeightGradientTile {
  const rows = g.batch * g.output[0] * g.output[1];
  const sliceRows = adapter.software ? rows : Math.min(rows, Math.ceil(mostPixels / g.output[2]));
  const slices = Math.ceil(rows / sliceRows);
  return { inputs: 1, outputs: 1, allRows: false, unroll: 1, quad: false, slices, workgroup: 64 };
}

/** Whether the first pass writes the gradient itself. */
export const onePass = ({ slices }: WeightGradientKernel, { parameters }: ConvTypes): boolean =>
  slices === 1 && parameters === 'f32';

/** The kernel for the weight gradient of a geometry, and of the bias where the wish says so. */
export function weightGradientKernel(
  gpu: Gpu,
  types: ConvTypes,
  g: ConvGeometry,
  wish: ConvWish,
): WeightGradientKernel {
  const { dtype, parameters } = types;
  const wanted = { gpu, types, g, backwards: false };
  const kernelOf = (choice: Choice): WeightGradientKernel => families[choice.kernel].kernel(wanted, choice);
  const reference: Choice = { kernel: 'direct', tile: simplest(gpu, g) };
  const key = keyOf('weightGradient', types, g) + wishText(wish);
  const choice = choose<Choice>(gpu, key, candidatesOf(families, wanted), {
    reference,
    terms: g.batch * sizeOf(g.output),
    operandRounding: operandRounding(dtype, wish),
    build: (candidate): Trial => {
      const kernel = kernelOf(candidate);
      const onLoad = candidate === reference ? undefined : loaded(wish, kernel);
      const { source, grid } = kernel.launch({ bias: wish.bias, onLoad });
      const { bound, before } = trialInput(g, dtype, wish, onLoad);
      const [weight, bias] = [[g.outputs, ...g.kernel, g.inputs], [g.outputs]];
      const dy: TrialTensor = { shape: [g.batch, ...g.output, g.outputs], dtype };
      const dWeight: TrialTensor = { shape: weight, dtype: parameters };
      const dBias: TrialTensor = { shape: bias, dtype: parameters };
      const outputs = wish.bias ? ['dWeight', 'dBias'] : ['dWeight'];
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
    },
  });
  return kernelOf(choice);
}
