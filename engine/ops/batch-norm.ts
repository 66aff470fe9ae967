// Batch norm over all axes but the last, with running statistics.
import { normRunningMoments } from '../../shaders/normalization.js';
import { checkOptions } from '../arguments.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { apply, normalize, type RunningStatistics, sizesOf } from './normalization.js';

/** What `batchNorm` normalises by; `momentum` 0.1 and `epsilon` 1e-5 if not given, as PyTorch. */
export interface BatchNormOptions {
  running?: RunningStatistics;
  /** True: normalise by the batch's statistics and update the running ones. False: normalise by the running ones. */
  training: boolean;
  momentum?: number;
  epsilon?: number;
}

/**
 * Batch normalisation of x [..., C] over all axes but the last: γ (x − μ)/√(σ² + ε) + β, with the biased variance of the
 * batch in training (Ioffe & Szegedy 2015); running variance is the unbiased one, as in PyTorch. γ, β and running statistics are
 * f32 [C]. Throws a ShapeError for others, and in training where a channel has one value only.
 */
export function batchNorm(x: Tensor, gamma: Tensor, beta: Tensor, options: BatchNormOptions): Tensor {
  const { running, training, momentum = 0.1, epsilon = 1e-5 } = options;
  checkOptions('batchNorm', options, ['running', 'training', 'momentum', 'epsilon']);
  const sizes = sizesOf('batchNorm', x, { gamma, beta, running }, 1, training);
  if (!training && !running) throw new ShapeError('batchNorm: eval mode needs running statistics. Pass `running`.');
  if (training) return normalize('batchNorm', x, gamma, beta, sizes, epsilon, running && { ...running, momentum });

  const { channels } = sizes;
  const moments = empty(x.gpu, [1, 2, channels], 'f32', 'batchNorm.moments');
  const statistics = { running_mean: running!.mean, running_variance: running!.variance };
  run(normRunningMoments(channels, epsilon), { ...statistics, moments }, { threads: channels });
  return apply('batchNorm', x, gamma, beta, sizes, moments, true);
}
