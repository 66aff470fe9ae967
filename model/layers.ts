// A layer is its parameters and one op call, or a few. Initial values are PyTorch's defaults, U(±1/√fan-in) for convolutions and linear
// layers, or those of `init`; then the bias begins at 0. Names and shapes of parameters are PyTorch's.

import { show } from '../engine/custom.js';
import {
  add,
  attention,
  batchNorm,
  conv,
  convTranspose,
  dropout,
  embedding,
  groupNorm,
  layerNorm,
  matmul,
  normActivation,
  type Padding,
  type Random,
  reshape,
  ShapeError,
  type Tensor,
} from '../engine/index.js';
import { type Init, standardNormal, zeros } from './inits.js';
import { type ForwardOptions, markKernel, type Parameters } from './module.js';

/** Weights [outputs, …kernel, inputs] and a bias [outputs], from `init` or uniform in ±1/√fan-in. */
function weightsOf(parameters: Parameters, shape: readonly number[], init: Init | undefined, bias = true) {
  const bound = 1 / Math.sqrt(shape.slice(1).reduce((a, b) => a * b, 1));
  const weight = init ? parameters.initial('weight', shape, init) : parameters.uniform('weight', shape, bound);
  if (!bias) return { weight, bias: undefined };
  const outputs = [shape[0]!];
  return {
    weight,
    bias: init ? parameters.initial('bias', outputs, zeros) : parameters.uniform('bias', outputs, bound),
  };
}

/** γ and β of a norm. */
const scaleAndShift = (parameters: Parameters, channels: number): [Tensor, Tensor] => [
  parameters.constant('weight', [channels], 1),
  parameters.constant('bias', [channels], 0),
];

/** Options of a linear layer. */
export interface LinearLayerOptions {
  /** Whether a bias is added; default true. */
  bias?: boolean;
  /** Initial weights; PyTorch's if not given. */
  init?: Init;
}

/**
 * A linear layer, x [..., I] → x · Wᵀ + b [..., O]; the weight is [O, I].
 * @example
 * const layer = linearLayer(new Parameters(gpu, 1337), 3, 8);
 * console.log(layer(tensor(gpu, [[1, 2, 3]])).shape); // [1, 8]
 */
export function linearLayer(parameters: Parameters, inputs: number, outputs: number, options: LinearLayerOptions = {}) {
  const { weight, bias } = weightsOf(parameters, [outputs, inputs], options.init, options.bias);
  return (x: Tensor): Tensor => {
    const y = matmul(x, weight, { transposeB: true });
    return bias ? add(y, bias) : y;
  };
}

/** Options of an embedding layer. */
export interface EmbeddingLayerOptions {
  /** Initial rows; if not given, normal with mean 0 and standard deviation 1, as PyTorch's. */
  init?: Init;
}

/**
 * A table of vectors by index: indices [...] from 0 to count − 1, u8, u32 or i32, → [..., width]. The parameter is `weight`, a tensor
 * [count, width]. An index outside gives NaN and trains nothing.
 * @example
 * const layer = embeddingLayer(new Parameters(gpu, 1337), 100, 8);
 * console.log(layer(tensor(gpu, [7, 0, 99], [3], { dtype: 'u8' })).shape); // [3, 8]
 */
export function embeddingLayer(
  parameters: Parameters,
  count: number,
  width: number,
  { init = standardNormal }: EmbeddingLayerOptions = {},
) {
  const weight = parameters.initial('weight', [count, width], init);
  return (indices: Tensor): Tensor => embedding(weight, indices);
}

/** Options of a convolution layer. A list has an entry for each side of the image, the first side first. */
export interface ConvLayerOptions {
  /** Rank of kernel and images: 1, 2 (the default) or 3. */
  rank?: 1 | 2 | 3;
  /** Default 1. */
  stride?: number | readonly number[];
  /** Zeros around x; default as many as ⌈n/stride⌉ outputs need, ⌊dilation · (k − 1)/2⌋ of them before. */
  padding?: Padding;
  /** Pixels between neighbouring taps; default 1. */
  dilation?: number | readonly number[];
  /** Groups of channels; default 1. With as many as inputs it is a depthwise convolution. */
  groups?: number;
  /** Whether a bias is added; default true. */
  bias?: boolean;
  /** Initial weights; PyTorch's if not given. */
  init?: Init;
}

/** [k, …], one for each side. */
const kernelOf = (kernel: number | readonly number[], rank: number): readonly number[] =>
  typeof kernel === 'number' ? Array<number>(rank).fill(kernel) : kernel;

/**
 * A convolution, kernel k along each axis or one number for each; x [N, H, W, I] → [N, H/stride, W/stride, O], or with rank 1 x [N, W, I],
 * with rank 3 x [N, D, H, W, I]. The fan-in is PyTorch's, I/groups · kernel. Pass `statistics` if a batch norm follows that uses the
 * batch's statistics.
 * @example
 * const layer = convLayer(new Parameters(gpu, 1337), 1, 8, 3, { stride: 2 });
 * console.log(layer(tensor(gpu, new Float32Array(36), [1, 6, 6, 1])).shape); // [1, 3, 3, 8]
 */
export function convLayer(
  parameters: Parameters,
  inputs: number,
  outputs: number,
  kernel: number | readonly number[],
  { rank = 2, groups = 1, bias: biased = true, init, ...places }: ConvLayerOptions = {},
) {
  const shape = [outputs, ...kernelOf(kernel, rank), inputs / groups];
  const { weight, bias } = weightsOf(parameters, shape, init, biased);
  markKernel(weight);
  return (x: Tensor, { statistics = false } = {}): Tensor => conv(x, weight, bias, { ...places, groups, statistics });
}

/** Options of a transposed convolution layer. A list has an entry for each side of the image, the first side first. */
export interface ConvTransposeLayerOptions {
  /** Rank of kernel and images: 1, 2 (the default) or 3. */
  rank?: 1 | 2 | 3;
  /** Default 2, along each axis or one number for each. */
  kernel?: number | readonly number[];
  /** Default 2. */
  stride?: number | readonly number[];
  /** Pixels cut off the result; default none. */
  padding?: Padding;
  /** Pixels more after each side; default 0. */
  outputPadding?: number | readonly number[];
  /** Pixels between neighbouring taps; default 1. */
  dilation?: number | readonly number[];
  /** Groups of channels; default 1. */
  groups?: number;
}

/**
 * A transposed convolution with bias, kernel 2 and stride 2 if not given: x [N, H, W, I] → [N, 2H, 2W, O], or with rank 1 x [N, W, I], with
 * rank 3 x [N, D, H, W, I]. Its weights are marked as transposed: PyTorch has their inputs first. The fan-in is PyTorch's, O/groups · kernel.
 * @example
 * const layer = convTransposeLayer(new Parameters(gpu, 1337), 1, 8);
 * console.log(layer(tensor(gpu, new Float32Array(36), [1, 6, 6, 1])).shape); // [1, 12, 12, 8]
 */
export function convTransposeLayer(
  parameters: Parameters,
  inputs: number,
  outputs: number,
  { rank = 2, kernel = 2, groups = 1, ...places }: ConvTransposeLayerOptions = {},
) {
  const sides = kernelOf(kernel, rank);
  const bound = 1 / Math.sqrt(sides.reduce((a, b) => a * b, outputs / groups));
  const weight = parameters.uniform('weight', [outputs, ...sides, inputs / groups], bound);
  markKernel(weight, { transposed: true, groups });
  const bias = parameters.uniform('bias', [outputs], bound);
  return (x: Tensor, { statistics = false } = {}): Tensor =>
    convTranspose(x, weight, bias, { ...places, groups, statistics });
}

/**
 * Batch normalisation over all axes but the last with running statistics (momentum 0.1, ε 1e-5), LeakyReLU, then dropout. In train mode
 * each of `groups` is normalised by its own statistics, and the running ones follow those of `track`.
 * @example
 * const layer = normActivationLayer(new Parameters(gpu, 1337), 1, 0.5);
 * console.log(await layer(tensor(gpu, [[-1], [1]]), { mode: 'train' }).read()); // [-0.5, 1]
 */
export function normActivationLayer(parameters: Parameters, channels: number, slope: number) {
  const [gamma, beta] = scaleAndShift(parameters, channels);
  const running = {
    mean: parameters.buffer('running_mean', [channels], 0),
    variance: parameters.buffer('running_var', [channels], 1),
  };
  return (
    x: Tensor,
    { mode = 'eval', groups, track }: ForwardOptions,
    dropout?: { rate: number; random: Random },
  ): Tensor => {
    const options = { running, mode, groups, track, slope };
    return normActivation(x, gamma, beta, { ...options, ...(dropout && { dropout }) });
  };
}

/** Options of a norm layer. */
export interface NormLayerOptions {
  /** Added to the variance; default 1e-5. */
  epsilon?: number;
}

/**
 * Layer norm of x [..., C] over the last axis.
 * @example
 * const layer = layerNormLayer(new Parameters(gpu, 1337), 2);
 * console.log(await layer(tensor(gpu, [[1, 3]])).read()); // [-1, 1]
 */
export function layerNormLayer(parameters: Parameters, channels: number, { epsilon = 1e-5 }: NormLayerOptions = {}) {
  const [gamma, beta] = scaleAndShift(parameters, channels);
  return (x: Tensor): Tensor => layerNorm(x, gamma, beta, { epsilon });
}

/**
 * Group norm of x [N, ..., C] in `groups` of channels.
 * @example
 * const layer = groupNormLayer(new Parameters(gpu, 1337), 2, 4);
 * console.log(await layer(tensor(gpu, [[1, 3, 10, 30]])).read()); // [-1, 1, -1, 1]
 */
export function groupNormLayer(
  parameters: Parameters,
  groups: number,
  channels: number,
  { epsilon = 1e-5 }: NormLayerOptions = {},
) {
  const [gamma, beta] = scaleAndShift(parameters, channels);
  return (x: Tensor): Tensor => groupNorm(x, groups, gamma, beta, { epsilon });
}

/**
 * Batch norm of x [..., C] with running statistics (momentum 0.1); in train mode by the batch's.
 * @example
 * const layer = batchNormLayer(new Parameters(gpu, 1337), 1);
 * console.log(await layer(tensor(gpu, [[1], [3]]), { mode: 'train' }).read()); // [-1, 1]
 */
export function batchNormLayer(parameters: Parameters, channels: number, { epsilon = 1e-5 }: NormLayerOptions = {}) {
  const [gamma, beta] = scaleAndShift(parameters, channels);
  const running = {
    mean: parameters.buffer('running_mean', [channels], 0),
    variance: parameters.buffer('running_var', [channels], 1),
  };
  return (x: Tensor, { mode = 'eval' }: ForwardOptions = {}): Tensor =>
    batchNorm(x, gamma, beta, { mode, running, epsilon });
}

/**
 * Dropout with this rate in train mode, where it needs `random`; x itself otherwise.
 * @example
 * const layer = dropoutLayer(0.5), x = tensor(gpu, [1, 2, 3, 4, 5, 6, 7, 8]);
 * console.log(await layer(x, { mode: 'train', random: createRandom(gpu, 1337) }).read()); // [2, 4, 6, 8, 10, 12, 14, 0]
 */
export const dropoutLayer =
  (rate: number) =>
  (x: Tensor, { mode = 'eval', random }: ForwardOptions = {}): Tensor => {
    if (mode !== 'train' || rate === 0) return x;
    if (!random) throw new ShapeError('dropoutLayer: train mode draws random numbers — pass `random`.');
    return dropout(x, rate, random);
  };

/** Options of an attention layer. */
export interface AttentionLayerOptions {
  /** Each place sees itself and those before it; default false. */
  causal?: boolean;
  /** Initial weights of the four linear layers; PyTorch's if not given. */
  init?: Init;
}

/**
 * Multi-head attention of a sequence to itself: x [N, T, width] → [N, T, width]; `heads` divides the width, and width/heads is 128 at
 * most. Linear layers `q_proj`, `k_proj`, `v_proj` and `out_proj`.
 * @example
 * const layer = attentionLayer(new Parameters(gpu, 1337), 8, 2, { causal: true });
 * console.log(layer(tensor(gpu, new Float32Array(24), [1, 3, 8])).shape); // [1, 3, 8]
 */
export function attentionLayer(
  parameters: Parameters,
  width: number,
  heads: number,
  { causal = false, init }: AttentionLayerOptions = {},
) {
  if (!Number.isInteger(width / heads) || width / heads > 128) {
    throw new ShapeError(
      `attentionLayer: got width ${width} in ${heads} heads, expected heads that divide the width into at most 128 each.`,
    );
  }
  const options = init ? { init } : {};
  const [q, k, v, out] = ['q_proj', 'k_proj', 'v_proj', 'out_proj'].map((name) =>
    linearLayer(parameters.in(name), width, width, options),
  ) as [
    ReturnType<typeof linearLayer>,
    ReturnType<typeof linearLayer>,
    ReturnType<typeof linearLayer>,
    ReturnType<typeof linearLayer>,
  ];
  return (x: Tensor, { mask }: { mask?: Tensor } = {}): Tensor => {
    const [items = 0, places = 0, columns] = x.shape;
    if (x.shape.length !== 3 || columns !== width) {
      throw new ShapeError(`attentionLayer: got x ${show(x.shape)}, expected [N, T, ${width}].`);
    }
    const split = (y: Tensor): Tensor => reshape(y, [items, places, heads, width / heads]);
    return out(reshape(attention(split(q(x)), split(k(x)), split(v(x)), { causal, mask }), x.shape));
  };
}
