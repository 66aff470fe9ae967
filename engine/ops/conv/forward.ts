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

const families: Families<ConvKernel> = { direct: directForward, tiled: tiledForward, matrix: matrixForward };

/** The tile of the reference kernel, against which the tuner checks the candidates. */
const simplest: ConvTile = { rows: 1, columns: 1, channels: 1, quad: false, workgroup: 64 };

/** The kernel for a geometry, forward or, `backwards`, as the input gradient of stride 1. */
export function convKernel(gpu: Gpu, types: ConvTypes, g: ConvGeometry, backwards: boolean): ConvKernel {
  const wanted = { gpu, types, g, backwards };
  const kernelOf = (choice: Choice): ConvKernel => families[choice.kernel].kernel(wanted, choice);
  const { parameters } = types;
  const choice = choose<Choice>(
    gpu,
    keyOf(backwards ? 'inputGradient' : 'forward', types, g),
    candidatesOf(families, wanted),
    {
      reference: { kernel: 'direct', tile: simplest },
      terms: sizeOf(g.kernel) * g.inputs,
      build: (candidate): Trial => {
        const { source, grid, weights } = kernelOf(candidate).launch({ bias: !backwards, fusion: {} });
        // Where matrix units may round the weights to f16, the weights are values that f16 holds, so that all candidates agree.
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

/** Numbers in [−1, 1) that f16 holds; 65 521 is prime, so no two rows are alike. */
const halfValues: readonly number[] = Array.from({ length: 65521 }, (_, i) => ((i * 40503) % 2048) / 1024 - 1);
