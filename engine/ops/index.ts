// The ops of `wgrad`: one line each. Those of the paper are in engine/method.ts.

export type { Float } from '../../shaders/wgsl.js';
export { type GeluOptions, gelu, sigmoid, silu, softplus, tanh } from './activations.js';
export { argmax, argmin } from './argmax.js';
export { add, div, mul, type Operand, sub } from './arithmetic.js';
export { assign } from './assign.js';
export { type AttentionOptions, attention } from './attention.js';
export { averagePool } from './average-pool.js';
export { type BatchNormOptions, batchNorm } from './batch-norm.js';
export { cast } from './cast.js';
export { type ClipOptions, type Clipped, clipGradients } from './clip-gradients.js';
export { equal, greater, greaterEqual, less, lessEqual, notEqual } from './comparisons.js';
export { concat } from './concat.js';
export { type ConvOptions, conv } from './conv/general.js';
export type { Padding } from './conv/sizes.js';
export { type ConvTransposeOptions, convTranspose } from './conv/transpose.js';
export { addCrops, type Crop, crop, cropTable } from './crop.js';
export { type CrossEntropyOptions, crossEntropy } from './cross-entropy.js';
export { type CumsumOptions, cumsum } from './cumsum.js';
export { detach } from './detach.js';
export { type DiceOptions, diceLoss } from './dice-loss.js';
export { type DropoutOptions, dropout } from './dropout.js';
export { type FromImageOptions, fromImage, type ImageSource, type Pixels } from './from-image.js';
export { embedding, gather, oneHot, scatterAdd } from './gather.js';
export { type GaussianNoiseOptions, gaussianNoise } from './gaussian-noise.js';
export { broadcastTo, flip, permute, tile, transpose } from './index-map.js';
export { instanceNorm } from './instance-norm.js';
export { bitAnd, bitOr, bitXor, remainder, shiftLeft, shiftRight } from './integers.js';
export type { LabelOptions } from './labeled-pixels.js';
export { groupNorm, layerNorm } from './layer-norm.js';
export { leakyRelu, relu } from './leaky-relu.js';
export { createLossScale, type LossScale } from './loss-scale.js';
export { type MatmulOptions, matmul } from './matmul.js';
export { maxPool } from './max-pool.js';
export { type NormActivationOptions, normActivation } from './norm-activation.js';
export type { Mode, RunningStatistics } from './normalization.js';
export { createAdamW, createSgd, ema, type Optimizer, type StepOptions } from './optimizer.js';
export { type PadOptions, pad } from './pad.js';
export { binaryCrossEntropy, huberLoss, meanSquaredError } from './pair-loss.js';
export { maximum, minimum, pow } from './powers-and-extrema.js';
export { createRandom, type Random } from './random.js';
export { type RandomOptions, randomNormal, randomUniform } from './random-tensors.js';
export { type Axes, max, mean, min, prod, type ReduceOptions, sum } from './reduce.js';
export { reshape } from './reshape.js';
export { type ResizeOptions, resize } from './resize.js';
export { type CosineSchedule, cosineSchedule, type PolynomialSchedule, polynomialSchedule } from './schedules.js';
export { type SliceOptions, slice } from './slice.js';
export { logSoftmax, softmax } from './softmax.js';
export { split, stack } from './stack.js';
export { type TopKOptions, topK } from './top-k.js';
export {
  abs,
  ceil,
  clamp,
  cos,
  erf,
  exp,
  floor,
  log,
  neg,
  reciprocal,
  round,
  rsqrt,
  sign,
  sin,
  sqrt,
  square,
} from './unary.js';
export { type UpsampleOptions, upsample } from './upsample.js';
export { std, type VarianceOptions, variance } from './variance.js';
export { where } from './where.js';
export type { AveragePoolOptions, PoolOptions } from './window-pool.js';
