// The walk over class logits that losses and statistics share.
import { rowWalk } from '../../shaders/class-rows.js';
import { classStatistics } from '../../shaders/class-statistics.js';
import type { PixelSizes } from '../../shaders/cross-entropy.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';

/** Maximum and log Σ exp(x − maximum) of each pixel's many class values, f32 [pixels, 2]. No gradient. */
export function statisticsOfMany(logits: Tensor, sizes: PixelSizes): Tensor {
  const statistics = empty(logits.gpu, [sizes.pixels, 2], 'f32', 'classStatistics');
  run(classStatistics(sizes), { logits, statistics }, { threads: rowWalk(sizes).threads });
  return statistics;
}
