// Randomness on the GPU: a tensor holds seed and step, and every op that draws takes a stream number of its own when it is
// recorded. The same seed, step and stream give the same numbers, so dropout stores no mask and a resumed run repeats.
import type { Gpu } from '../device.js';
import { type Tensor, tensor } from '../tensor.js';

/** Where dropout and noise draw from: a seed, a step, and a number a stream. */
export interface Random {
  /** u32 [2]: seed, step. Kernels use key = (seed, stream) and counter = (index, step, 0, 0). */
  readonly state: Tensor;
  /** A stream number nobody else has; called by ops while they are recorded. */
  next(): number;
  /** Sets the step: call it before each run of a captured step. */
  setStep(step: number): void;
}

/** Random numbers for one model: give student and teacher one each, with different seeds. */
export function createRandom(gpu: Gpu, seed: number): Random {
  let streams = 0;
  const state = tensor(gpu, [seed >>> 0, 0], [2], { dtype: 'u32', label: 'random' });
  return {
    state,
    next: () => streams++,
    setStep: (step) => state.write([seed >>> 0, step >>> 0]),
  };
}
