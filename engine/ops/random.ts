// Randomness on the GPU: a tensor holds seed and step, and every op that draws takes a new stream number when it is recorded. The
// same seed, step and stream give the same numbers, so dropout stores no mask and a resumed run repeats.
import { showValue } from '../arguments.js';
import { expectGpu, type Gpu } from '../device.js';
import { ShapeError } from '../shape.js';
import { Tensor, tensor } from '../tensor.js';

/** The source of dropout's and noise's numbers: a seed, a step, and a number for each stream. */
export interface Random {
  /** u32 [2]: seed, step. Kernels use key = (seed, stream) and counter = (index, step, 0, 0). */
  readonly state: Tensor;
  /** A new stream number; ops call this while they are recorded. */
  next(): number;
  /** Starts again at the first stream: the ops recorded next draw the same numbers as those recorded first. */
  restart(): void;
  /** Sets the step, usually the iteration's number: call it before each run of a captured step. */
  setStep(step: number): void;
}

function checkWord(op: string, what: string, value: unknown): void {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 32) return;
  throw new ShapeError(`${op}: ${what} is ${showValue(value)} — expected a whole number from 0 to ${2 ** 32 - 1}.`);
}

/** Throws a ShapeError unless an op can draw from `random`. */
export function expectRandom(op: string, random: unknown): asserts random is Random {
  const { state, next } = (random ?? {}) as Partial<Random>;
  if (state instanceof Tensor && typeof next === 'function') return;
  throw new ShapeError(
    `${op}: draws from ${showValue(random)} — expected what createRandom(gpu, seed) gives. Make one and pass it.`,
  );
}

/**
 * Random numbers for one model: give student and teacher one each, with different seeds. Throws a ShapeError unless seed and step are
 * whole numbers from 0 to 2^32 − 1; any other would act as another seed or step.
 * @example
 * const random = createRandom(gpu, 1337); // random.setStep(i) before step i
 * console.log(dropout(tensor(gpu, 1, [8]), 0.5, random).shape); // [8]
 */
export function createRandom(gpu: Gpu, seed: number): Random {
  let streams = 0;
  expectGpu('createRandom', gpu);
  checkWord('createRandom', 'the seed', seed);
  const state = tensor(gpu, [seed, 0], [2], { dtype: 'u32', label: 'random' });
  return {
    state,
    next: () => streams++,
    restart: () => {
      streams = 0;
    },
    setStep: (step) => {
      checkWord('setStep', 'the step', step);
      state.write([seed, step]);
    },
  };
}
