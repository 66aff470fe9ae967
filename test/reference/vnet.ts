// The V-Net by plain float64 loops: an implementation of its own, written out for a list of levels.
import { conv, convTranspose } from './conv.js';
import { mapArray, type NdArray } from './nd-array.js';
import { normalization } from './normalization.js';

type Mode = 'train' | 'eval';

/** Logits of a V-Net of 2, 3 or 5 levels without dropout; norms take the batch's statistics, or in eval mode the running ones. */
export function vnet(x: NdArray, weights: ReadonlyMap<string, NdArray>, levels: 2 | 3 | 5, mode: Mode): NdArray {
  const get = (name: string): NdArray => weights.get(name)!;
  const active = (z: NdArray, norm: string): NdArray => {
    const [gamma, beta] = [get(`${norm}.weight`), get(`${norm}.bias`)];
    if (mode === 'train') return mapArray(normalization(z, gamma, beta, 1), (v) => Math.max(v, 0));
    const [mean, variance] = [get(`${norm}.running_mean`), get(`${norm}.running_var`)];
    return mapArray(z, (v, i) => {
      const c = i % gamma.data.length;
      const n = ((v - mean.data[c]!) / Math.sqrt(variance.data[c]! + 1e-5)) * gamma.data[c]! + beta.data[c]!;
      return Math.max(n, 0);
    });
  };
  const block = (y: NdArray, name: string, places: number[]): NdArray => {
    for (const at of places) {
      const z = conv(y, get(`${name}.conv.${at}.weight`), get(`${name}.conv.${at}.bias`), 1);
      y = active(z, `${name}.conv.${at + 1}`);
    }
    return y;
  };
  const down = (y: NdArray, name: string): NdArray =>
    active(conv(y, get(`${name}.conv.0.weight`), get(`${name}.conv.0.bias`), 2), `${name}.conv.1`);
  const up = (y: NdArray, name: string, skip: NdArray): NdArray => {
    const z = convTranspose(y, get(`${name}.conv.0.weight`), get(`${name}.conv.0.bias`));
    return mapArray(active(z, `${name}.conv.1`), (v, i) => v + skip.data[i]!);
  };
  const out = (y: NdArray): NdArray => conv(y, get('out_conv.weight'), get('out_conv.bias'), 1);
  const [one, two, three] = [[0], [0, 3], [0, 3, 6]];

  const x1 = block(x, 'block_one', one);
  const x2 = block(down(x1, 'block_one_dw'), 'block_two', two);
  if (levels === 2) return out(block(up(x2, 'block_two_up', x1), 'block_three', one));
  const x3 = block(down(x2, 'block_two_dw'), 'block_three', three);
  if (levels === 3) {
    const y = block(up(x3, 'block_three_up', x2), 'block_four', two);
    return out(block(up(y, 'block_four_up', x1), 'block_five', one));
  }
  const x4 = block(down(x3, 'block_three_dw'), 'block_four', three);
  const x5 = block(down(x4, 'block_four_dw'), 'block_five', three);
  let y = block(up(x5, 'block_five_up', x4), 'block_six', three);
  y = block(up(y, 'block_six_up', x3), 'block_seven', three);
  y = block(up(y, 'block_seven_up', x2), 'block_eight', two);
  return out(block(up(y, 'block_eight_up', x1), 'block_nine', one));
}
