// The second half of every weight gradient: what separate threads summed for slices of the pixels is added up.
import { sumSlicesGrid, sumSlicesShader } from '../../../shaders/conv/slice-sums.js';
import type { Float } from '../../../shaders/wgsl.js';
import { gradientLike } from '../../autograd.js';
import { run } from '../../stream.js';
import { empty, type Tensor } from '../../tensor.js';

/** Where a first pass writes: the gradients, or [slices, …] of each. */
export type ParameterSums = { dWeight: Tensor; dBias?: Tensor };

/**
 * The gradients of weight and bias, of the type `parameters`. `firstPass` records the launch that writes the sums of each slice; where
 * there is one slice of f32, that is the gradient itself.
 */
export function parameterGradients(
  weight: Tensor,
  bias: Tensor | undefined,
  parameters: Float,
  { slices, biasSlices = slices }: { slices: number; biasSlices?: number },
  firstPass: (sums: ParameterSums) => void,
): [Tensor, Tensor | undefined] {
  const { gpu } = weight;
  const like = (parameter: Tensor, label: string): Tensor =>
    parameters === 'f32' ? gradientLike(parameter) : empty(gpu, parameter.shape, parameters, label);
  const dWeight = like(weight, 'dWeight');
  const dBias = bias && like(bias, 'dBias');
  if (slices === 1 && biasSlices === 1 && parameters === 'f32') {
    firstPass({ dWeight, ...(dBias && { dBias }) });
    return [dWeight, dBias];
  }
  const partialWeight = empty(gpu, [slices, ...weight.shape], 'f32', 'partialWeight');
  const partialBias = bias && empty(gpu, [biasSlices, ...bias.shape], 'f32', 'partialBias');
  firstPass({ dWeight: partialWeight, ...(partialBias && { dBias: partialBias }) });
  const { software } = gpu.adapter;
  const summing = { dtype: parameters, bias: bias !== undefined, slices, biasSlices, software };
  run(
    sumSlicesShader(summing),
    { partialWeight, dWeight, ...(partialBias && dBias && { partialBias, dBias }) },
    sumSlicesGrid(summing, weight.size + (bias?.size ?? 0)),
  );
  return [dWeight, dBias];
}
