// Chooses the kernel that runs a convolution or its input gradient on this adapter. A cost model ranks the candidates for a shape,
// and the first is the default; the tuner may choose another.
import type { ConvTile } from '../../../shaders/conv/direct.js';
import type { ConvGeometry } from '../../../shaders/conv/geometry.js';
import { transposeWeightShader } from '../../../shaders/conv/weights.js';
import { choose, type Trial, type TrialLaunch, type TrialTensor } from '../../choices.js';
import type { Gpu } from '../../device.js';
import { sizeOf } from '../../shape.js';
import { directForward } from './direct.js';
import { type Choice, type ConvTypes, candidatesOf, type Families, keyOf } from './family.js';
import type { ConvKernel } from './kernels.js';
import { matrixForward } from './matrix.js';
import { tiledForward } from './tiled.js';
import { type ConvWish, granted, halfValues, operandRounding, trialInput, trialSums, wishText } from './wish.js';

const families: Families<ConvKernel> = { direct: directForward, tiled: tiledForward, matrix: matrixForward };

/** The kernel for a geometry and a wish, forward or, `backwards`, as the input gradient of stride 1. */
export function convKernel(
  gpu: Gpu,
  types: ConvTypes,
  g: ConvGeometry,
  backwards: boolean,
  wish: ConvWish,
): ConvKernel {
  const wanted = { gpu, types, g, backwards };
  const kernelOf = (choice: Choice): ConvKernel => families[choice.kernel].kernel(wanted, choice);
  const { dtype, parameters } = types;
  const sums = wish.statistics || wish.gradient !== undefined;
  // The tile of the kernel against which the tuner checks the candidates. It has few parts where it writes partial sums.
  const simplest: ConvTile = { rows: 1, columns: sums ? 8 : 1, channels: 1, quad: false, workgroup: 64 };
  const reference: Choice = { kernel: 'direct', tile: simplest };
  const terms = sizeOf(g.kernel) * g.inputs;
  const choice = choose<Choice>(
    gpu,
    keyOf(backwards ? 'inputGradient' : 'forward', types, g) + wishText(wish, backwards),
    candidatesOf(families, wanted),
    {
      reference,
      terms: { y: terms, merged: terms + g.output[1] * g.output[2] },
      operandRounding: operandRounding(dtype, wish),
      build: (candidate): Trial => {
        const kernel = kernelOf(candidate);
        const fusion =
          candidate === reference ? { ...granted(wish, kernel), onLoad: undefined } : granted(wish, kernel);
        const { source, grid, weights } = kernel.launch({ bias: wish.bias, fusion });
        // Where matrix units may round the weights to f16, the weights are values that f16 holds, so that all candidates agree.
        const values = parameters === dtype ? {} : { values: halfValues };
        const weight: TrialTensor = { shape: [g.outputs, ...g.kernel, g.inputs], dtype: parameters, ...values };
        const transposed: TrialTensor = { shape: weight.shape, dtype: parameters, name: 'prepared' };
        const input = trialInput(g, dtype, wish, fusion.onLoad);
        const sums = trialSums(g, dtype, wish, kernel.parts);
        const args = {
          ...input.bound,
          ...sums.bound,
          weight: weights === 'outputs-last' ? transposed : weight,
          y: { shape: [g.batch, ...g.output, g.outputs], dtype },
          ...(wish.bias && { bias: { shape: [g.outputs], dtype: parameters } }),
        };
        const prepare: TrialLaunch = {
          source: transposeWeightShader(parameters, g),
          args: { weight, prepared: transposed },
          grid: { threads: sizeOf(weight.shape) },
        };
        const launches = [...input.before, ...(weights === 'outputs-last' ? [prepare] : []), { source, args, grid }];
        return { launches, checks: sums.after, outputs: sums.after.length ? ['y', 'merged'] : ['y'] };
      },
    },
  );
  return kernelOf(choice);
}
