// Chooses the kernel that runs a convolution's weight gradient on this adapter, as in forward.ts. Separate workgroups sum each slice
// of the output pixels. A kernel with one slice writes the gradient itself; several slices are added up by a second launch.
import type { WeightGradientTile } from '../../../shaders/conv/direct-weight-gradient.js';
import type { ConvGeometry } from '../../../shaders/conv/geometry.js';
import { sumSlicesShader } from '../../../shaders/conv/weights.js';
import { choose, type Trial, type TrialTensor } from '../../choices.js';
import type { Gpu } from '../../device.js';
import { sizeOf } from '../../shape.js';
import { directWeightGradient } from './direct.js';
import { type Choice, type ConvTypes, candidatesOf, type Families, keyOf } from './family.js';
import type { WeightGradientKernel } from './kernels.js';
import { matrixWeightGradient } from './matrix.js';
import { tiledWeightGradient } from './tiled.js';

const families: Families<WeightGradientKernel> = {
  direct: directWeightGradient,
  tiled: tiledWeightGradient,
  matrix: matrixWeightGradient,
};

/** The tile of the reference kernel, against which the tuner checks the candidates. */
const simplest: WeightGradientTile = {
  inputs: 1,
  outputs: 1,
  allRows: false,
  unroll: 1,
  quad: false,
  slices: 1,
  workgroup: 64,
};

/** Whether the first pass writes the gradient itself. */
export const onePass = ({ slices }: WeightGradientKernel, { parameters }: ConvTypes): boolean =>
  slices === 1 && parameters === 'f32';

/** The kernel for the weight gradient of a geometry. */
export function weightGradientKernel(gpu: Gpu, types: ConvTypes, g: ConvGeometry): WeightGradientKernel {
  const { dtype, parameters } = types;
  const wanted = { gpu, types, g, backwards: false };
  const kernelOf = (choice: Choice): WeightGradientKernel => families[choice.kernel].kernel(wanted, choice);
  const choice = choose<Choice>(gpu, keyOf('weightGradient', types, g), candidatesOf(families, wanted), {
    reference: { kernel: 'direct', tile: simplest },
    terms: g.batch * sizeOf(g.output),
    build: (candidate): Trial => {
      const kernel = kernelOf(candidate);
      const { source, grid } = kernel.launch({ bias: true, onLoad: undefined });
      const [weight, bias] = [[g.outputs, ...g.kernel, g.inputs], [g.outputs]];
      const x: TrialTensor = { shape: [g.batch, ...g.input, g.inputs], dtype };
      const dy: TrialTensor = { shape: [g.batch, ...g.output, g.outputs], dtype };
      const outputs = { dWeight: { shape: weight, dtype: parameters }, dBias: { shape: bias, dtype: parameters } };
      const names = ['dWeight', 'dBias'];
      if (onePass(kernel, types)) return { launches: [{ source, args: { x, dy, ...outputs }, grid }], outputs: names };
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
  });
  return kernelOf(choice);
}
