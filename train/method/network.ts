// The network of a configuration: the one place that knows which model segments.
import type { Gpu } from '../../engine/index.js';
import { type Segmenter, unet } from '../../model/index.js';
import type { Config } from '../settings/settings.js';

/** What of a configuration decides on the network. */
export type NetworkConfig = Pick<Config, 'patch' | 'classes' | 'features' | 'dropout' | 'seed'>;

/** Axes of a sample: 2 for slices, 3 for volumes. */
export const rankOf = ({ patch }: Pick<Config, 'patch'>): 2 | 3 => (patch.length === 3 ? 3 : 2);

/** The network of a configuration, with random weights. */
export const createNetwork = (gpu: Gpu, config: NetworkConfig): Segmenter =>
  unet(gpu, {
    inChannels: 1,
    classes: config.classes,
    features: config.features,
    dropout: config.dropout,
    seed: config.seed,
    rank: rankOf(config),
  });
