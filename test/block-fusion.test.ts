// What a V-Net is made of, fused against plain ops: kernels of two down and up, sums of activations, whole-channel dropout.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  conv,
  convTranspose,
  createRandom,
  dropout,
  normActivation,
  square,
  type Tensor,
} from '../engine/index.js';
import { compare, type Make, outcome } from './compare-fused.js';

const test = suite('fusion of blocks');

for (const [channels, hidden, size] of [
  [4, 8, [2, 6, 10]],
  [3, 5, [2, 6, 2]],
  [8, 16, [3, 4, 6, 2]],
  [4, 3, [2, 2, 6, 10]],
  [16, 100, [1, 4, 2, 2]], // too many outputs for computing the input on load
] as [number, number, number[]][]) {
  const rank = size.length - 1;
  const taps = Array<number>(rank).fill(2);
  for (const groups of [undefined, size[0]! > 1 ? [1, size[0]! - 1] : undefined]) {
    test(`norms around down and up: ${channels}→${hidden} [${size}]${groups ? `, groups ${groups}` : ''}`, () =>
      compare((make) => {
        const x = make.data([...size, channels]);
        const [w1, b1] = [make.data([hidden, ...taps, channels]), make.data([hidden])];
        const [w2, b2] = [make.data([channels, ...taps, hidden]), make.data([channels])];
        const norms = [make.norm(channels), make.norm(hidden), make.norm(channels)];
        const active = (z: Tensor, n: number): Tensor => {
          const { gamma, beta, running } = norms[n]!;
          return normActivation(z, gamma, beta, { running, mode: 'train', slope: 0, ...(groups && { groups }) });
        };
        return () => {
          const a = active(x, 0);
          const down = active(conv(a, w1, b1, { stride: 2, statistics: true }), 1);
          const up = active(convTranspose(down, w2, b2, { statistics: true }), 2);
          return { outputs: [add(up, a)] }; // the skip's second gradient meets the first one in the epilogue
        };
      }));
  }
}

for (const rate of [0.25, 0.5]) {
  for (const [channels, groups] of [
    [8, undefined],
    [3, [1, 2]],
  ] as const) {
    test(`whole channels dropped with rate ${rate}: ${channels} channels${groups ? `, groups ${groups}` : ''}`, () =>
      compare((make) => {
        const z = make.data([3, 2, 4, 6, channels]);
        const { gamma, beta, running } = make.norm(channels);
        const kernels = [1, 2, 3].map((k) => make.data([4, k, k, k, channels]));
        const up = make.data([4, 2, 2, 2, channels]);
        const random = createRandom(make.gpu, 5);
        return () => {
          random.restart();
          const a = normActivation(z, gamma, beta, { running, mode: 'train', slope: 0.01, ...(groups && { groups }) });
          const dropped = dropout(a, rate, random, { per: 'channel' });
          const [one, two, three] = kernels;
          return {
            outputs: [
              conv(dropped, one!),
              conv(dropped, two!, undefined, { stride: 2 }),
              conv(dropped, three!),
              convTranspose(dropped, up),
              conv(a, one!), // the features before dropout
            ],
          };
        };
      }, false));
  }
}

test('element dropout before kernels of two: its derivative is taken on the way out, or apart', () =>
  compare((make) => {
    const x = make.data([2, 4, 6, 8]);
    const [down, up] = [make.data([8, 2, 2, 8]), make.data([8, 2, 2, 8])];
    const norms = [make.norm(8), make.norm(8)];
    const random = createRandom(make.gpu, 3);
    return () => {
      const active = (z: Tensor, n: number): Tensor => {
        const { gamma, beta, running } = norms[n]!;
        return normActivation(z, gamma, beta, { running, mode: 'train', slope: 0.1, dropout: { rate: 0.4, random } });
      };
      return { outputs: [convTranspose(active(conv(active(x, 0), down, undefined, { stride: 2 }), 1), up)] };
    };
  }));

test('the sum of two activations is one launch, and the same bits', async () => {
  const work = (materialized: boolean) => (make: Make) => {
    const [za, zb] = [make.data([2, 3, 5, 4]), make.data([2, 3, 5, 4])];
    const norms = [make.norm(4), make.norm(4)];
    const active = (z: Tensor, n: number): Tensor => {
      const { gamma, beta, running } = norms[n]!;
      return normActivation(z, gamma, beta, { running, mode: 'train', slope: 0.01 });
    };
    return () => {
      const [a, b] = [active(za, 0), active(zb, 1)];
      const squares = materialized ? [square(a), square(b)] : []; // these compute them
      const sum = add(a, b);
      return { outputs: materialized ? [sum, ...squares] : [sum, square(a), square(b)] };
    };
  };
  const [fused, apart] = [await outcome(true, true, work(false)), await outcome(true, true, work(true))];
  assert.equal(fused.values[0], apart.values[0]);
  assert.is(fused.launches, apart.launches); // one launch in place of one: here somebody else wants the activations
  const bare = (make: Make) => {
    const [za, zb] = [make.data([2, 3, 5, 4]), make.data([2, 3, 5, 4])];
    const norms = [make.norm(4), make.norm(4)];
    const active = (z: Tensor, n: number): Tensor => {
      const { gamma, beta, running } = norms[n]!;
      return normActivation(z, gamma, beta, { running, mode: 'train', slope: 0 });
    };
    return () => ({ outputs: [add(active(za, 0), active(zb, 1))] });
  };
  await compare(bare);
});

test.run();
