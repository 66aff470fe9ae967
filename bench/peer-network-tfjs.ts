// UNet and V-Net in tfjs, as fast as its ops allow. 2-D convolutions are fused with their bias; batch norm has its closed-form gradient
// (tfjs' own composes it of about three times as many passes). Max pool, bilinear resize and concat have gradients of their own.
// The transposed convolution has none in 3-D, so it is a matrix product whose columns are then moved to their voxels.

import type * as Tf from '@tensorflow/tfjs';
import { sizeOf } from '../engine/custom.js';
import { vnetBlocks } from '../model/vnet.js';
import type { Config } from '../train/settings/settings.js';

/** Tensors by the names of the parameters that they stand for, convolution weights as tfjs has them: [...kernel, I, O]. */
export type Named = ReadonlyMap<string, Tf.Tensor>;

/** Tensors of one value that are made once. */
export interface Constants {
  filled(shape: number[], value: number): Tf.Tensor;
  dispose(): void;
}

export function createConstants(tf: typeof Tf): Constants {
  const made = new Map<string, Tf.Tensor>();
  return {
    filled(shape, value) {
      const key = `${value}:${shape}`;
      if (!made.has(key)) made.set(key, tf.keep(tf.fill(shape, value)));
      return made.get(key)!;
    },
    dispose: () => tf.dispose([...made.values()]),
  };
}

type Forward = (w: Named, x: Tf.Tensor) => { logits: Tf.Tensor; features: Tf.Tensor };

/** The network of a configuration: logits and last features, and the head of class separation, from named weights. */
export function network(
  tf: typeof Tf,
  { network: kind, features }: Pick<Config, 'network' | 'features'>,
  constants: Constants,
): { forward: Forward; project(w: Named, x: Tf.Tensor): Tf.Tensor2D } {
  // Volumes are images to what treats all voxels alike.
  const asImages = (x: Tf.Tensor): Tf.Tensor4D =>
    x.rank === 4 ? (x as Tf.Tensor4D) : tf.reshape(x, [x.shape[0]!, -1, x.shape.at(-2)!, x.shape.at(-1)!]);
  // Sums over pixels are products with ones: tf.sum over leading axes transposes first (on lavapipe 4.7 ms against 0.7).
  const overPixels = (x: Tf.Tensor4D): Tf.Tensor1D => {
    const channels = x.shape[3];
    const n = x.size / channels;
    const flat = tf.reshape(x, [n, channels]) as Tf.Tensor2D;
    return tf.reshape(tf.matMul(constants.filled([1, n], 1) as Tf.Tensor2D, flat), [channels]) as Tf.Tensor1D;
  };
  // (x − mean) · scale + offset by the batch norm kernel: 9 ms where a broadcasting product takes 72 (SwiftShader, 64², 8 channels).
  const affine = (x: Tf.Tensor4D, mean?: Tf.Tensor1D, scale?: Tf.Tensor1D, offset?: Tf.Tensor1D): Tf.Tensor4D => {
    const shape = [x.shape[3]];
    const one = constants.filled(shape, 1) as Tf.Tensor1D;
    return tf.batchNorm4d(x, mean ?? (constants.filled(shape, 0) as Tf.Tensor1D), one, offset, scale, 0);
  };

  // Slope 0.01 in the UNet, 0 in the V-Net.
  const negative = kind === 'vnet' ? 0 : 0.01;
  // y = leaky(γ x̂ + β);  g = dy · (y > 0 ? 1 : slope);  dβ = Σ g;  dγ = Σ g x̂;  dx = γ/σ (g − (dβ + x̂ dγ)/n)
  const normActivation = tf.customGrad((...args) => {
    const [x, gamma, beta, save] = args as unknown as [Tf.Tensor4D, Tf.Tensor1D, Tf.Tensor1D, (t: Tf.Tensor[]) => void];
    const n = x.size / x.shape[3];
    const mean = tf.div(overPixels(x), n) as Tf.Tensor1D;
    const variance = tf.div(overPixels(tf.square(affine(x, mean))), n) as Tf.Tensor1D;
    const y = tf.leakyRelu(tf.batchNorm4d(x, mean, variance, beta, gamma, 1e-5), negative);
    save([x, mean, variance, gamma, y]);
    const gradFunc = (dy: Tf.Tensor, saved: Tf.Tensor[]): Tf.Tensor[] => {
      const [x, y] = [saved[0] as Tf.Tensor4D, saved[4]!];
      const [mean, variance, gamma] = saved.slice(1, 4) as Tf.Tensor1D[] as [Tf.Tensor1D, Tf.Tensor1D, Tf.Tensor1D];
      const g = tf.mul(dy, tf.step(y, negative)) as Tf.Tensor4D;
      const dBeta = overPixels(g);
      const dGamma = overPixels(tf.mul(g, tf.batchNorm4d(x, mean, variance, undefined, undefined, 1e-5)));
      const scale = tf.mul(gamma, tf.rsqrt(tf.add(variance, 1e-5))) as Tf.Tensor1D;
      const share = tf.div(scale, n);
      const [offset, slope] = [tf.mul(dBeta, share), tf.mul(dGamma, share)] as [Tf.Tensor1D, Tf.Tensor1D];
      const common = tf.batchNorm4d(x, mean, variance, offset, slope, 1e-5);
      return [tf.sub(affine(g, undefined, scale), common), dGamma, dBeta];
    };
    return { value: y, gradFunc };
  });
  const norm = (w: Named, x: Tf.Tensor, name: string): Tf.Tensor =>
    tf.reshape(normActivation(asImages(x), w.get(`${name}.weight`)!, w.get(`${name}.bias`)!), x.shape);

  const plusBias = tf.customGrad((...args) => {
    const [x, bias] = args as unknown as [Tf.Tensor4D, Tf.Tensor1D];
    const gradFunc = (dy: Tf.Tensor): Tf.Tensor[] => [dy, overPixels(dy as Tf.Tensor4D)];
    return { value: affine(x, undefined, undefined, bias), gradFunc };
  });
  const conv = (w: Named, x: Tf.Tensor, name: string, strides: 1 | 2 = 1): Tf.Tensor => {
    const filter = w.get(`${name}.weight`)!;
    const bias = w.get(`${name}.bias`)!;
    if (x.rank === 4) {
      const given = { x: x as Tf.Tensor4D, filter: filter as Tf.Tensor4D, bias };
      return tf.fused.conv2d({ ...given, strides, pad: 'same', activation: 'linear' });
    }
    const y = tf.conv3d(x as Tf.Tensor5D, filter as Tf.Tensor5D, strides, 'same');
    return tf.reshape(plusBias(asImages(y), bias), y.shape);
  };
  const block = (w: Named, x: Tf.Tensor, name: string): Tf.Tensor => {
    const y = norm(w, conv(w, x, `${name}.conv_conv.0`), `${name}.conv_conv.1`);
    return norm(w, conv(w, y, `${name}.conv_conv.4`), `${name}.conv_conv.5`);
  };
  const unet: Forward = (w, x) => {
    const skips = [block(w, x, 'encoder.in_conv')];
    for (let level = 1; level < features.length; level++) {
      skips.push(
        block(w, tf.maxPool(skips.at(-1) as Tf.Tensor4D, 2, 2, 'valid'), `encoder.down${level}.maxpool_conv.1`),
      );
    }
    let y = skips.pop()!;
    for (let i = 1; skips.length; i++) {
      const reduced = conv(w, y, `decoder.up${i}.conv1x1`);
      const [height, width] = reduced.shape.slice(1);
      const up = tf.image.resizeBilinear(reduced as Tf.Tensor4D, [2 * height!, 2 * width!], true);
      y = block(w, tf.concat([skips.pop()!, up], 3), `decoder.up${i}.conv`);
    }
    return { logits: conv(w, y, 'decoder.out_conv'), features: y };
  };

  // A pixel [I] times [I, 2^rank · O] is the block [2, …, O] of its outputs, whose sides then move beside the image's, one at a time.
  const convTranspose = (w: Named, x: Tf.Tensor, name: string): Tf.Tensor => {
    const filter = w.get(`${name}.weight`)!; // [...kernel, I, O]
    const [batch, ...sides] = x.shape.slice(0, -1) as [number, ...number[]];
    const [inputs, outputs] = filter.shape.slice(-2) as [number, number];
    const inputsFirst = tf.transpose(tf.reshape(filter, [-1, inputs, outputs]), [1, 0, 2]);
    let y: Tf.Tensor = tf.matMul(tf.reshape(x, [-1, inputs]), tf.reshape(inputsFirst, [inputs, -1]) as Tf.Tensor2D);
    for (let axis = 0; axis < sides.length - 1; axis++) {
      const behind = sizeOf(sides.slice(axis + 1));
      const inBlock = 2 ** (sides.length - 1 - axis) * outputs;
      y = tf.transpose(tf.reshape(y, [-1, behind, 2, inBlock]), [0, 2, 1, 3]);
    }
    const shape = [batch, ...sides.map((side) => 2 * side), outputs];
    return tf.reshape(plusBias(asImages(tf.reshape(y, shape)), w.get(`${name}.bias`)!), shape);
  };
  const blocks = vnetBlocks(features.length);
  const vnet: Forward = (w, x) => {
    const skips: Tf.Tensor[] = [];
    let y = x;
    blocks.forEach(({ name, level, convolutions }, i) => {
      if (i >= features.length) y = tf.add(y, skips.pop()!);
      for (let n = 0; n < convolutions; n++) {
        y = norm(w, conv(w, y, `${name}.conv.${3 * n}`), `${name}.conv.${3 * n + 1}`);
      }
      if (i < features.length - 1) {
        skips.push(y);
        y = norm(w, conv(w, y, `${name}_dw.conv.0`, 2), `${name}_dw.conv.1`);
      } else if (level > 0) {
        y = norm(w, convTranspose(w, y, `${name}_up.conv.0`), `${name}_up.conv.1`);
      }
    });
    return { logits: conv(w, y, 'out_conv'), features: y };
  };
  const project = (w: Named, x: Tf.Tensor): Tf.Tensor2D => {
    const z = conv(w, tf.leakyRelu(conv(w, x, 'projection.0'), 0.01), 'projection.2');
    return tf.reshape(z, [-1, z.shape.at(-1)!]) as Tf.Tensor2D;
  };
  return { forward: kind === 'vnet' ? vnet : unet, project };
}
