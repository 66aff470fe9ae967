// The network of a configuration: the one place that knows which model segments.
import type { Gpu } from '../../engine/index.js';
import { type Segmenter, unet, vnet } from '../../model/index.js';
import type { Config } from '../settings/settings.js';

/** What of a configuration decides on the network. */
export type NetworkConfig = Pick<Config, 'network' | 'patch' | 'classes' | 'features' | 'dropout' | 'seed'>;

/** Axes of a sample: 2 for slices, 3 for volumes. */
export const rankOf = ({ patch }: Pick<Config, 'patch'>): 2 | 3 => (patch.length === 3 ? 3 : 2);

/** The network of a configuration, with random weights. A V-Net has one dropout rate, the last of the list. */
export function createNetwork(gpu: Gpu, config: NetworkConfig): Segmenter {
  const { network, classes, features, dropout, seed } = config;
  const sizes = { inChannels: 1, classes, features, seed, rank: rankOf(config) };
  return network === 'vnet' ? vnet(gpu, { ...sizes, dropout: dropout.at(-1)! }) : unet(gpu, { ...sizes, dropout });
}
