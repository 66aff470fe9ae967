// Batch norm over all axes but the last, with running statistics.
import { normRunningMoments } from '../../shaders/normalization.js';
import { checkOptions } from '../arguments.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { apply, groupsOf, isTraining, type Mode, normalize, type RunningStatistics, sizesOf } from './normalization.js';

/** Options of `batchNorm`. */
export interface BatchNormOptions {
  /** Running statistics; needed in eval mode. Not given: none are kept. */
  running?: RunningStatistics;
  /** 'train': normalise by the batch's statistics and update the running ones. 'eval': normalise by the running ones. */
  mode: Mode;
  /** Weight of the batch in the running statistics. Default 0.1, as in PyTorch. */
  momentum?: number;
  /** Added to the variance. Default 1e-5, as in PyTorch. */
  epsilon?: number;
  /**
   * Number of items in each group, in order, for a batch whose items come from several distributions (Zając et al. 2019, split
   * batch normalisation): in training each group is normalised by its own statistics. Not given: all items are one group.
   */
  groups?: readonly number[] | undefined;
  /** Indices of the groups that the running statistics follow, one after another as if they were passes; all if not given. */
  track?: readonly number[] | undefined;
}

/**
 * Batch normalisation of x [..., C] over all axes but the last: γ (x − μ)/√(σ² + ε) + β, with the biased variance of the
 * batch in training (Ioffe & Szegedy 2015); the running variance is the unbiased one, as in PyTorch. γ, β and running statistics are
 * f32 [C]. Throws a ShapeError for other shapes or types, for groups that do not add up to x's items, and in training if some group
 * has only one value in a channel.
 * @example
 * const [gamma, beta] = [tensor(gpu, [1, 1]), tensor(gpu, [0, 0])];
 * console.log(await batchNorm(tensor(gpu, [[1, 10], [3, 30]]), gamma, beta, { mode: 'train' }).read()); // [-1, -1, 1, 1]
 */
export function batchNorm(x: Tensor, gamma: Tensor, beta: Tensor, options: BatchNormOptions): Tensor {
  if (!options)
    throw new ShapeError("batchNorm: there are no options — expected { mode: 'train' } or { mode: 'eval' } at least.");
  const { running, mode, momentum = 0.1, epsilon = 1e-5 } = options;
  checkOptions('batchNorm', options, ['running', 'mode', 'momentum', 'epsilon', 'groups', 'track']);
  const training = isTraining('batchNorm', mode);
  const { groups, track } = groupsOf('batchNorm', x, options);
  const sizes = sizesOf('batchNorm', x, { gamma, beta, running }, training ? groups : [x.shape[0]!], training);
  if (!training && !running) throw new ShapeError('batchNorm: eval mode needs running statistics. Pass `running`.');
  if (training) {
    const following = track.length ? running && { ...running, momentum, track } : undefined;
    return normalize('batchNorm', x, gamma, beta, sizes, epsilon, following);
  }

  const { channels } = sizes;
  const moments = empty(x.gpu, [1, 2, channels], 'f32', 'batchNorm.moments');
  const statistics = { running_mean: running!.mean, running_variance: running!.variance };
  run(normRunningMoments(channels, epsilon), { ...statistics, moments }, { threads: channels });
  return apply('batchNorm', x, gamma, beta, sizes, moments, true);
}
