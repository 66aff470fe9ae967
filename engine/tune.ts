// The tuner (`wgrad/tune`) with what it tunes. Whoever imports `tune` gets both; a bundle without it holds neither.
import { setTuned } from './ops/conv/forward.js';
import { tunedForward, tunedWeightGradient } from './ops/conv/tuned.js';
import { tune as measure } from './tuner.js';

export {
  askedFor,
  type CandidateResult,
  choose,
  type Job,
  type Measure,
  recall,
  type Trial,
  type TrialLaunch,
  type TrialTensor,
  type TuneOptions,
  type TuneResult,
} from './tuner.js';
export type { Tuning } from './tuning.js';

setTuned({ forward: tunedForward, weightGradient: tunedWeightGradient });

/**
 * Measures every candidate of every job on random data and remembers the winners for this device; steps recorded afterwards use
 * them. Takes the GPU for itself: not inside a captured step, nor beside anything that is timed. A candidate that is wrong, or
 * does not compile, is excluded and reported. Rejects only if the device fails.
 */
export const tune = measure;
