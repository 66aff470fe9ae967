// The V-Net of the LA protocol (Milletari et al., 3DV 2016, as github.com/yulequan/UA-MT builds it), in 3-D and 2-D: convolutions with
// batch norm and ReLU, 1, 2, 3, 3, … of them a level; down and up by kernels of 2 with stride 2; skips are added. With features
// 16, 32, 64, 128, 256, one input channel and two classes it has 9 448 866 parameters.

import { show } from '../engine/custom.js';
import { add, dropout, type Gpu, ShapeError, type Tensor } from '../engine/index.js';
import { convLayer, convTransposeLayer, normActivationLayer } from './layers.js';
import { type ForwardOptions, moduleOf, Parameters, type Segmenter } from './module.js';

/** Sizes of a V-Net; those that are not given are the LA protocol's. */
export interface VNetOptions {
  inChannels: number;
  classes: number;
  /**
   * Channels of each level, from full resolution down, at most ten; the input's sides must be divisible by 2^(levels − 1). Default 16,
   * 32, 64, 128, 256.
   */
  features?: readonly number[];
  /** Rate of whole-channel dropout after the deepest block and after the last one; 0.5 if not given. */
  dropout?: number;
  /** Seed of the initial weights. Default 1337. */
  seed?: number;
  /** 3 (the default): volumes [N, D, H, W, C]. 2: images [N, H, W, C]. */
  rank?: 2 | 3;
}

const numerals =
  'one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen';

/** The blocks of a V-Net of so many levels, in order, by UA-MT's names: down to the deepest one, then up again. */
export function vnetBlocks(levels: number): { name: string; level: number; convolutions: number }[] {
  return numerals.split(' ', 2 * levels - 1).map((numeral, i) => {
    const level = Math.min(i, 2 * levels - 2 - i);
    return { name: `block_${numeral}`, level, convolutions: Math.min(level + 1, 3) };
  });
}

/**
 * A V-Net with random weights, on `gpu`.
 * @example
 * const network = vnet(gpu, { inChannels: 1, classes: 2, features: [4, 8] });
 * console.log(network(tensor(gpu, new Float32Array(64), [1, 4, 4, 4, 1])).shape); // [1, 4, 4, 4, 2]
 */
export function vnet(gpu: Gpu, options: VNetOptions): Segmenter {
  const {
    inChannels,
    classes,
    features = [16, 32, 64, 128, 256],
    dropout: rate = 0.5,
    seed = 1337,
    rank = 3,
  } = options;
  if (!(inChannels >= 1 && classes >= 1)) {
    throw new ShapeError(`vnet: got inChannels ${inChannels} and classes ${classes}, expected a number of each.`);
  }
  if (features.length < 2 || features.length > 10) {
    throw new ShapeError(`vnet: got features ${show(features)}, expected 2 to 10 levels. Name the channels of each.`);
  }
  if (!(rate >= 0 && rate < 1)) throw new ShapeError(`vnet: got dropout ${rate}, expected a rate in [0, 1).`);
  const parameters = new Parameters(gpu, seed);
  const deepest = features.length - 1;
  type Layer = (x: Tensor, how: ForwardOptions) => Tensor;

  const blocks = vnetBlocks(features.length).map(({ name, level, convolutions }, i) => {
    const outputs = features[level]!;
    const at = parameters.in(name).in('conv'); // positions in PyTorch's Sequential: 0 conv, 1 norm, 2 ReLU, 3 conv, …
    const layers = Array.from({ length: convolutions }, (_, n): Layer => {
      const inputs = i === 0 && n === 0 ? inChannels : outputs;
      const conv = convLayer(at.in(`${3 * n}`), inputs, outputs, 3, { rank });
      const norm = normActivationLayer(at.in(`${3 * n + 1}`), outputs, 0);
      return (x, how) => norm(conv(x, { statistics: how.mode === 'train' }), how);
    });
    // What follows leads to the next block: down to the deepest, then up.
    const leads = i < deepest ? ('dw' as const) : level > 0 ? ('up' as const) : undefined;
    if (!leads) return { level, layers, change: undefined };
    const place = parameters.in(`${name}_${leads}`).in('conv');
    const next = features[leads === 'dw' ? level + 1 : level - 1]!;
    const conv =
      leads === 'dw'
        ? convLayer(place.in('0'), outputs, next, 2, { rank, stride: 2 })
        : convTransposeLayer(place.in('0'), outputs, next, { rank });
    const norm = normActivationLayer(place.in('1'), next, 0);
    const change: Layer = (x, how) => norm(conv(x, { statistics: how.mode === 'train' }), how);
    return { level, layers, change };
  });
  const out = convLayer(parameters.in('out_conv'), features[0]!, classes, 1, { rank });

  const forward = (x: Tensor, how: ForwardOptions = {}): { logits: Tensor; features: Tensor } => {
    const sides = x.shape.slice(1, -1);
    const multiple = 2 ** deepest;
    if (sides.length !== rank || x.shape.at(-1) !== inChannels || sides.some((side) => side % multiple)) {
      throw new ShapeError(
        `vnet: got an input of shape ${show(x.shape)}, expected [N,${rank === 3 ? 'D,' : ''}H,W,${inChannels}] with sides that are multiples of ${multiple}. Crop or pad it.`,
      );
    }
    const dropped = (y: Tensor): Tensor => {
      if (how.mode !== 'train' || rate === 0) return y;
      if (!how.random) throw new ShapeError('vnet: train mode with dropout draws random numbers — pass `random`.');
      return dropout(y, rate, how.random, { per: 'channel' });
    };
    const skips: Tensor[] = [];
    let y = x;
    blocks.forEach(({ level, layers, change }, i) => {
      if (i > deepest) y = add(y, skips.pop()!);
      for (const layer of layers) y = layer(y, how);
      if (i < deepest) skips.push(y);
      if (change) y = change(level === deepest ? dropped(y) : y, how);
    });
    return { logits: out(dropped(y)), features: y };
  };
  const model = (x: Tensor, how?: ForwardOptions): Tensor => forward(x, how).logits;
  return Object.assign(model, moduleOf(parameters), { forward, inChannels, classes, features, rank });
}
