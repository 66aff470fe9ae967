// A layer is its parameters and one op call. Initial values are PyTorch's defaults: U(±1/√fan-in) for convolutions.
import { conv, normActivation, type Random, type Tensor } from '../engine/index.js';
import type { Parameters } from './module.js';

/** Whether batch statistics are used (and running ones updated), or running ones. */
export type Mode = 'train' | 'eval';

/**
 * A k×k convolution with bias, `same` padding; x [N, H, W, I] → [N, H/stride, W/stride, O]. Say `statistics` where a batch norm
 * follows that uses the batch's.
 */
export function convLayer(parameters: Parameters, inputs: number, outputs: number, kernel: number, stride: 1 | 2 = 1) {
  const bound = 1 / Math.sqrt(inputs * kernel * kernel);
  const weight = parameters.uniform('weight', [outputs, kernel, kernel, inputs], bound);
  const bias = parameters.uniform('bias', [outputs], bound);
  return (x: Tensor, { statistics = false } = {}): Tensor => conv(x, weight, bias, { stride, statistics });
}

/** Batch normalisation over all axes but the last with running statistics (momentum 0.1, ε 1e-5), LeakyReLU, then dropout. */
export function normActivationLayer(parameters: Parameters, channels: number, slope: number) {
  const gamma = parameters.constant('weight', [channels], 1);
  const beta = parameters.constant('bias', [channels], 0);
  const running = {
    mean: parameters.buffer('running_mean', [channels], 0),
    variance: parameters.buffer('running_var', [channels], 1),
  };
  return (x: Tensor, mode: Mode, dropout?: { rate: number; random: Random }): Tensor =>
    normActivation(x, gamma, beta, { running, training: mode === 'train', slope, ...(dropout && { dropout }) });
}
