// The UNet of the SSL4MIS protocol (github.com/HiLab-git/SSL4MIS), in 2-D and 3-D: two 3×3 convolutions per level, each with batch
// norm and LeakyReLU 0.01, dropout between them in the encoder; up-path 1×1 conv, bilinear ×2, concat [skip, up]. With features
// 16, 32, 64, 128, 256, one input channel and four classes it has 1 813 764 parameters.

import { show } from '../engine/custom.js';
import { concat, type Gpu, maxPool, ShapeError, type Tensor, upsample } from '../engine/index.js';
import { convLayer, normActivationLayer } from './layers.js';
import { type ForwardOptions, moduleOf, Parameters, type Segmenter } from './module.js';

/** Options of a UNet; the defaults are SSL4MIS's. */
export interface UNetOptions {
  inChannels: number;
  classes: number;
  /** Channels of each level, from full resolution down; the input's sides must be divisible by 2^(levels − 1). Default 16, 32, 64, 128, 256. */
  features?: readonly number[];
  /** Dropout rate of each level of the encoder, the last of which deeper ones repeat. Default 0.05, 0.1, 0.2, 0.3, 0.5. */
  dropout?: readonly number[];
  /** Seed of the initial weights. Default 1337. */
  seed?: number;
  /** 2 (the default): images [N, H, W, C]. 3: volumes [N, D, H, W, C], every kernel, pool and interpolation with a third axis. */
  rank?: 2 | 3;
}

/** Dropout rates of the protocol; deeper levels repeat the last one. */
const protocolDropout = [0.05, 0.1, 0.2, 0.3, 0.5];

function convBlock(parameters: Parameters, inputs: number, outputs: number, rate: number, rank: 2 | 3) {
  const block = parameters.in('conv_conv'); // positions in PyTorch's Sequential: 0 conv, 1 norm, 3 dropout, 4 conv, 5 norm
  const conv1 = convLayer(block.in('0'), inputs, outputs, 3, { rank });
  const norm1 = normActivationLayer(block.in('1'), outputs, 0.01);
  const conv2 = convLayer(block.in('4'), outputs, outputs, 3, { rank });
  const norm2 = normActivationLayer(block.in('5'), outputs, 0.01);
  return (x: Tensor, how: ForwardOptions): Tensor => {
    const { mode = 'eval', random } = how;
    const statistics = mode === 'train';
    const drops = statistics && rate > 0;
    if (drops && !random) throw new ShapeError('unet: train mode with dropout draws random numbers — pass `random`.');
    const y = norm1(conv1(x, { statistics }), how, drops ? { rate, random: random! } : undefined);
    return norm2(conv2(y, { statistics }), how);
  };
}

/**
 * A UNet with random weights, on `gpu`.
 * @example
 * const network = unet(gpu, { inChannels: 1, classes: 4, features: [8, 16] });
 * console.log(network(tensor(gpu, new Float32Array(64), [1, 8, 8, 1])).shape); // [1, 8, 8, 4]
 */
export function unet(gpu: Gpu, options: UNetOptions): Segmenter {
  const {
    inChannels,
    classes,
    features = [16, 32, 64, 128, 256],
    dropout: rates = protocolDropout,
    seed = 1337,
    rank = 2,
  } = options;
  if (!(inChannels >= 1 && classes >= 1)) {
    throw new ShapeError(`unet: got inChannels ${inChannels} and classes ${classes}, expected a number of each.`);
  }
  if (features.length < 2) throw new ShapeError(`unet: needs at least two levels — got features ${show(features)}.`);
  const parameters = new Parameters(gpu, seed);
  const encoder = parameters.in('encoder');
  const decoder = parameters.in('decoder');
  const depth = features.length - 1;

  const down = features.map((outputs, level) => {
    const place = level === 0 ? encoder.in('in_conv') : encoder.in(`down${level}`).in('maxpool_conv').in('1');
    return convBlock(
      place,
      level === 0 ? inChannels : features[level - 1]!,
      outputs,
      rates[Math.min(level, rates.length - 1)] ?? 0,
      rank,
    );
  });
  const up = Array.from({ length: depth }, (_, i) => {
    const inputs = features[depth - i]!;
    const outputs = features[depth - i - 1]!;
    const place = decoder.in(`up${i + 1}`);
    const reduce = convLayer(place.in('conv1x1'), inputs, outputs, 1, { rank });
    const block = convBlock(place.in('conv'), 2 * outputs, outputs, 0, rank);
    return (x: Tensor, skip: Tensor, forward: ForwardOptions) =>
      block(concat([skip, upsample(reduce(x))], -1), forward);
  });
  const out = convLayer(decoder.in('out_conv'), features[0]!, classes, 3, { rank });

  const forward = (x: Tensor, how: ForwardOptions = {}): { logits: Tensor; features: Tensor } => {
    const sides = x.shape.slice(1, -1);
    const multiple = 2 ** depth;
    if (sides.length !== rank || x.shape.at(-1) !== inChannels || sides.some((side) => side % multiple)) {
      throw new ShapeError(
        `unet: got an input of shape ${show(x.shape)}, expected [N,${rank === 3 ? 'D,' : ''}H,W,${inChannels}] with sides that are multiples of ${multiple}. Resize or pad it.`,
      );
    }
    const skips: Tensor[] = [];
    let y = x;
    down.forEach((block, level) => {
      y = block(level === 0 ? y : maxPool(y), how);
      if (level < depth) skips.push(y);
    });
    for (const block of up) y = block(y, skips.pop()!, how);
    return { logits: out(y), features: y };
  };
  const model = (x: Tensor, how?: ForwardOptions): Tensor => forward(x, how).logits;
  return Object.assign(model, moduleOf(parameters), { forward, inChannels, classes, features, rank });
}
