// The UNet and its supervised loss by plain float64 loops: an implementation of its own, from the formulas.
import { conv } from './conv.js';
import { at, fromIndex, mapArray, type NdArray, ndArray } from './nd-array.js';
import { normalization } from './normalization.js';
import { maxPool, upsample } from './resampling.js';

type Weights = ReadonlyMap<string, NdArray>;

const leaky = (x: NdArray): NdArray => mapArray(x, (v) => (v > 0 ? v : 0.01 * v));

type Mode = 'train' | 'eval';

/** γ (x − μ)/√(σ² + ε) + β with given statistics of each channel. */
const withStatistics = (x: NdArray, [gamma, beta, mean, variance]: NdArray[], epsilon = 1e-5): NdArray =>
  mapArray(x, (v, i) => {
    const c = i % x.shape.at(-1)!;
    return ((v - mean!.data[c]!) / Math.sqrt(variance!.data[c]! + epsilon)) * gamma!.data[c]! + beta!.data[c]!;
  });

function block(x: NdArray, weights: Weights, name: string, mode: Mode): NdArray {
  const get = (suffix: string) => weights.get(`${name}.conv_conv.${suffix}`)!;
  const half = (y: NdArray, c: number, n: number) => {
    const z = conv(y, get(`${c}.weight`), get(`${c}.bias`), 1);
    const [gamma, beta] = [get(`${n}.weight`), get(`${n}.bias`)];
    return leaky(
      mode === 'train'
        ? normalization(z, gamma, beta, 1)
        : withStatistics(z, [gamma, beta, get(`${n}.running_mean`), get(`${n}.running_var`)]),
    );
  };
  return half(half(x, 0, 1), 4, 5);
}

/** Logits of a UNet without dropout; its batch norms take the batch's statistics, or in eval mode the running ones. */
export function unet(x: NdArray, weights: Weights, levels: number, mode: Mode = 'train'): NdArray {
  const skips = [block(x, weights, 'encoder.in_conv', mode)];
  for (let level = 1; level < levels; level++) {
    skips.push(block(maxPool(skips.at(-1)!), weights, `encoder.down${level}.maxpool_conv.1`, mode));
  }
  let y = skips.pop()!;
  for (let i = 1; skips.length; i++) {
    const name = `decoder.up${i}`;
    const up = upsample(conv(y, weights.get(`${name}.conv1x1.weight`)!, weights.get(`${name}.conv1x1.bias`)!, 1));
    const skip = skips.pop()!;
    const [c, more] = [skip.shape.at(-1)!, up.shape.at(-1)!];
    const joined = fromIndex([...skip.shape.slice(0, -1), c + more], (index) => {
      const [place, k] = [index.slice(0, -1), index.at(-1)!];
      return k < c ? at(skip, [...place, k]) : at(up, [...place, k - c]);
    });
    y = block(joined, weights, `${name}.conv`, mode);
  }
  return conv(y, weights.get('decoder.out_conv.weight')!, weights.get('decoder.out_conv.bias')!, 1);
}

/** ½ (cross-entropy + soft Dice) with squared denominators over all classes and the whole batch. */
export function supervisedLoss(logits: NdArray, labels: ArrayLike<number>, epsilon = 1e-5): number {
  const classes = logits.shape.at(-1)!;
  const pixels = logits.data.length / classes;
  const [overlap, total] = [ndArray([classes]).data, ndArray([classes]).data];
  let ce = 0;
  for (let i = 0; i < pixels; i++) {
    const row = logits.data.subarray(i * classes, (i + 1) * classes);
    const most = Math.max(...row);
    const sum = row.reduce((s, v) => s + Math.exp(v - most), 0);
    ce -= row[labels[i]!]! - most - Math.log(sum);
    row.forEach((v, k) => {
      const p = Math.exp(v - most) / sum;
      const y = labels[i] === k ? 1 : 0;
      overlap[k]! += 2 * p * y;
      total[k]! += p * p + y;
    });
  }
  const dice = overlap.reduce((s, v, k) => s + (v + epsilon) / (total[k]! + epsilon), 0) / classes;
  return 0.5 * (ce / pixels + 1 - dice);
}
