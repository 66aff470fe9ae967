// The two-stream sampler of mean-teacher training: each batch takes so many labelled and so many unlabelled samples, each
// stream in a fresh random order every epoch. A pure function of (seed, iteration): a resumed run needs the iteration only.
import { uniformStream } from '../../engine/index.js';
import { shuffled } from './split.js';

/** Indices into the labelled and the unlabelled samples for an iteration, from 0. */
export type Sampler = (iteration: number) => { labeled: number[]; unlabeled: number[] };

export interface SamplerOptions {
  readonly seed: number;
  /** Samples there are. */
  readonly labeledSamples: number;
  readonly unlabeledSamples: number;
  /** Samples in a batch; 0 leaves a stream out. */
  readonly labeledBatch: number;
  readonly unlabeledBatch: number;
}

/** The sampler of a training run; an empty stream must have a batch of 0. */
export function createSampler(options: SamplerOptions): Sampler {
  const { seed, labeledSamples, unlabeledSamples, labeledBatch, unlabeledBatch } = options;
  const labeled = endlessOrder(labeledSamples, seed, 0x80000000);
  const unlabeled = endlessOrder(unlabeledSamples, seed, 0xc0000000);
  return (iteration) => ({
    labeled: take(labeled, iteration, labeledBatch),
    unlabeled: take(unlabeled, iteration, unlabeledBatch),
  });
}

const take = (order: (position: number) => number, iteration: number, count: number) =>
  Array.from({ length: count }, (_, i) => order(iteration * count + i));

/** Position → index, one permutation of 0..count−1 after another; epoch e has the random stream firstStream + e. */
function endlessOrder(count: number, seed: number, firstStream: number): (position: number) => number {
  let epoch = -1;
  let order: number[] = [];
  return (position) => {
    const wanted = Math.floor(position / count);
    if (wanted !== epoch) {
      epoch = wanted;
      order = shuffled(
        Array.from({ length: count }, (_, i) => i),
        uniformStream(seed, firstStream + epoch),
      );
    }
    return order[position % count]!;
  };
}
