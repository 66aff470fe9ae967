// Schedules as functions of the iteration (from 0): λ ramps up as exp(−5 (1 − t)²) (Laine & Aila 2017), the learning rate falls
// polynomially or in steps.
import type { Config } from '../settings/settings.js';
import { partsOf } from './methods.js';

/** exp(−5 (1 − t)²) for t in [0, 1]; 1 from there on. */
export const rampUp = (t: number): number => Math.exp(-5 * (1 - Math.min(Math.max(t, 0), 1)) ** 2);

/** poly: lr · (1 − iteration/iterations)^power; step: lr · factor^⌊iteration/every⌋, every = lrStepFraction · iterations (UA-MT: 2500 of 6000). */
export function learningRate(config: Config, iteration: number): number {
  const { lr, iterations, lrSchedule, lrPower, lrStepFraction, lrStepFactor } = config;
  if (lrSchedule === 'poly') return lr * (1 - Math.min(iteration, iterations) / iterations) ** lrPower;
  return lr * lrStepFactor ** Math.floor(iteration / Math.max(1, Math.round(lrStepFraction * iterations)));
}

const warmup = ({ iterations, warmupFraction }: Config): number => Math.round(iterations * warmupFraction);

/** Whether an iteration belongs to the pre-training that bidirectional copy-paste begins with. */
export const isPretraining = (config: Config, iteration: number): boolean =>
  partsOf(config).pastes && iteration < Math.round(config.iterations * config.pretrainFraction);

/**
 * λ: 0 in the warm-up, then λ_max · rampUp(⌊iteration/every⌋ / length). The protocol's steps of 150 iterations shrink with
 * shorter runs, so that λ always takes at least `rampSteps` steps (SSL4MIS 200, UA-MT 40). Copy-paste has no ramp: pseudoWeight once its pre-training is over.
 */
export function consistencyWeight(config: Config, iteration: number): number {
  const { iterations, rampEvery, rampSteps, rampFraction, consistencyWeight: most } = config;
  if (partsOf(config).pastes) return isPretraining(config, iteration) ? 0 : config.pseudoWeight;
  if (iteration < warmup(config)) return 0;
  const every = Math.max(1, Math.min(rampEvery, Math.floor(iterations / rampSteps)));
  const length = (iterations * rampFraction) / every;
  return most * rampUp(length > 0 ? Math.floor(iteration / every) / length : 1);
}

/** α of the teacher: min(1 − 1/(iteration + 1), emaDecay): the first update copies the student, as does each of a pre-training. */
export const emaDecay = (config: Config, iteration: number): number =>
  isPretraining(config, iteration) ? 0 : Math.min(1 - 1 / (iteration + 1), config.emaDecay);

/** ρ, the weight of unlabelled pixels in the prototypes: 0 in their warm-up, then prototypeUnlabeledWeight. */
export const prototypeUnlabeledWeight = (config: Config, iteration: number): number =>
  iteration < Math.round(config.iterations * config.prototypeWarmupFraction) ? 0 : config.prototypeUnlabeledWeight;

/** τ: rising from thresholdStart to threshold as rampUp(iteration/iterations) where it is ramped, else fixed. */
export function threshold(config: Config, iteration: number): number {
  const { thresholdMode, threshold: end, thresholdStart: start, iterations } = config;
  return thresholdMode === 'ramp' ? start + (end - start) * rampUp(iteration / iterations) : end;
}

/** Entropy, in nats, below which uamt keeps a pixel: (0.75 + 0.25 · rampUp(iteration/iterations)) · ln K (Yu et al. 2019). */
export const uncertaintyThreshold = ({ iterations, classes }: Config, iteration: number): number =>
  (0.75 + 0.25 * rampUp(iteration / iterations)) * Math.log(classes);
