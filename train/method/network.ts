// The network of a configuration: the one place that knows which model segments.
import type { Gpu } from '../../engine/index.js';
import { type OnnxWeights, type Segmenter, unet, unetSizes, vnet, vnetSizes } from '../../model/index.js';
import type { Config } from '../settings/settings.js';

/** What of a configuration decides on the network. */
export type NetworkConfig = Pick<Config, 'network' | 'patch' | 'classes' | 'features' | 'dropout' | 'seed'>;

/** Axes of a sample: 2 for slices, 3 for volumes. */
export const rankOf = ({ patch }: Pick<Config, 'patch'>): 2 | 3 => (patch.length === 3 ? 3 : 2);

/**
 * The network of a configuration, with random weights. A V-Net has one dropout rate, the last of the list.
 * @example
 * const network = createNetwork(gpu, resolveConfig({ size: 16, features: [4, 8], dropout: [0, 0] }));
 * console.log(network.classes); // 4
 */
export function createNetwork(gpu: Gpu, config: NetworkConfig): Segmenter {
  const { network, classes, features, dropout, seed } = config;
  const sizes = { inChannels: 1, classes, features, seed, rank: rankOf(config) };
  return network === 'vnet' ? vnet(gpu, { ...sizes, dropout: dropout.at(-1)! }) : unet(gpu, { ...sizes, dropout });
}

/**
 * Settings of the network that weights by these names and shapes belong to (SSL4MIS's UNet or UA-MT's V-Net): network, channels, classes,
 * and the sample of its protocol that its levels divide. Throws a ShapeError where they are of neither.
 * @example
 * const { arrays } = decodeSafetensors(await saveState(unet(gpu, { inChannels: 1, classes: 4, features: [8, 16] })));
 * console.log(networkSettings(arrays).network, networkSettings(arrays).features); // unet [8, 16]
 */
export function networkSettings(weights: OnnxWeights): Record<string, unknown> {
  const network = weights.has('block_one.conv.0.weight') ? 'vnet' : 'unet';
  const { features, classes, multiple, rank } = network === 'vnet' ? vnetSizes(weights) : unetSizes(weights);
  const sides = rank === 3 ? [80, 112, 112] : [256, 256];
  const patch = sides.map((side) => Math.ceil(side / multiple) * multiple);
  // Volumes as UA-MT trains on them: patches at the voxels' own size, of volumes with mean 0 and variance 1.
  return { network, features, classes, patch, ...(rank === 3 && { sample: 'patches', intensity: 'zscore' }) };
}
