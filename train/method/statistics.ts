// Whose batch statistics normalise whom. A batch holds labelled items, which come first, and unlabelled ones: seen through strong views,
// or of another scanner, the two differ, and each kind may be normalised by itself (split batch norm, Zając et al. 2019).
import type { ForwardOptions } from '../../model/index.js';
import type { Config } from '../settings/settings.js';

/** How norms take a batch of `items`: all together, or the labelled ones apart from the others. */
export function statisticsOf(config: Config, items: number): Pick<ForwardOptions, 'groups' | 'track'> {
  const { statistics, runningStatistics, labeledBatch } = config;
  if (statistics === 'joint' || items <= labeledBatch) return {};
  const track = { both: [0, 1], labeled: [0], unlabeled: [1] }[runningStatistics];
  return { groups: [labeledBatch, items - labeledBatch], track };
}
