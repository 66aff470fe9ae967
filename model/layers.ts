// A layer is its parameters and one op call. Initial values are PyTorch's defaults: U(±1/√fan-in) for convolutions.
import { conv, convTranspose, normActivation, type Random, type Tensor } from '../engine/index.js';
import { type ForwardOptions, markTransposed, type Parameters } from './module.js';

/** Options of a convolution layer. */
export interface ConvLayerOptions {
  /** Rank of kernel and images: 2 (the default) or 3. */
  rank?: 2 | 3;
  /** Default 1. */
  stride?: 1 | 2;
}

/**
 * A convolution with bias, kernel k along each axis and `same` padding; x [N, H, W, I] → [N, H/stride, W/stride, O], or with rank 3 x
 * [N, D, H, W, I]. Pass `statistics` if a batch norm follows that uses the batch's statistics.
 */
export function convLayer(
  parameters: Parameters,
  inputs: number,
  outputs: number,
  kernel: number,
  { rank = 2, stride = 1 }: ConvLayerOptions = {},
) {
  const bound = 1 / Math.sqrt(inputs * kernel ** rank);
  const weight = parameters.uniform('weight', [outputs, ...Array<number>(rank).fill(kernel), inputs], bound);
  const bias = parameters.uniform('bias', [outputs], bound);
  return (x: Tensor, { statistics = false } = {}): Tensor => conv(x, weight, bias, { stride, statistics });
}

/**
 * A transposed convolution with bias, kernel 2 and stride 2: x [N, H, W, I] → [N, 2H, 2W, O], or with rank 3 x [N, D, H, W, I]. Its
 * weights are marked as transposed: PyTorch has their inputs first. The fan-in is PyTorch's, O·2^rank.
 */
export function convTransposeLayer(parameters: Parameters, inputs: number, outputs: number, rank: 2 | 3 = 2) {
  const bound = 1 / Math.sqrt(outputs * 2 ** rank);
  const weight = parameters.uniform('weight', [outputs, ...Array<number>(rank).fill(2), inputs], bound);
  markTransposed(weight);
  const bias = parameters.uniform('bias', [outputs], bound);
  return (x: Tensor, { statistics = false } = {}): Tensor => convTranspose(x, weight, bias, { statistics });
}

/**
 * Batch normalisation over all axes but the last with running statistics (momentum 0.1, ε 1e-5), LeakyReLU, then dropout. In train mode
 * each of `groups` is normalised by its own statistics, and the running ones follow those of `track`.
 */
export function normActivationLayer(parameters: Parameters, channels: number, slope: number) {
  const gamma = parameters.constant('weight', [channels], 1);
  const beta = parameters.constant('bias', [channels], 0);
  const running = {
    mean: parameters.buffer('running_mean', [channels], 0),
    variance: parameters.buffer('running_var', [channels], 1),
  };
  return (
    x: Tensor,
    { mode = 'eval', groups, track }: ForwardOptions,
    dropout?: { rate: number; random: Random },
  ): Tensor => {
    const options = { running, training: mode === 'train', groups, track, slope };
    return normActivation(x, gamma, beta, { ...options, ...(dropout && { dropout }) });
  };
}
