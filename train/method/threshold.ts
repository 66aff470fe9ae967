// The threshold that decides which pixels are kept: a number written before each step, or one that the GPU keeps itself.
import { type Gpu, mul, noGrad, type Tensor, tensor } from '../../engine/index.js';
import {
  type ClassThresholds,
  createClassThresholds,
  createQuantileThreshold,
  type QuantileThreshold,
  updateClassThresholds,
  updateQuantileThreshold,
} from '../../engine/method.js';
import type { Config } from '../settings/settings.js';
import { partsOf } from './methods.js';

export interface Threshold {
  /** τ(t), written before each step; what it is compared with is what `update` returns. */
  readonly scheduled: Tensor;
  /** Whether `scheduled` is used: a quantile comes from the batch alone. */
  readonly follows: boolean;
  /** Records what this batch does to it, from the student's and teacher's logits of all items: τ [], or [K] by class. */
  update(student: Tensor, teacher: Tensor, labeledPixels: number): Tensor;
  /** Persistent tensors by name. */
  readonly state: Record<string, Tensor>;
  /** The same, on a copy of its state as it is then: for a recording, which makes the copy. */
  aside(): Threshold;
}

/** Copies of tensors that a recording may change in their place. */
export const copied = <T extends object & Record<keyof T, Tensor>>(state: T): T =>
  Object.fromEntries(
    Object.entries<Tensor>(state).map(([name, t]) => [name, noGrad(t.gpu, () => mul(t, 1))]),
  ) as unknown as T;

/** The mode, where the method has a threshold of confidence at all. */
const modeOf = (config: Config): Config['thresholdMode'] =>
  partsOf(config).keeps === 'confidence' ? config.thresholdMode : 'fixed';

/** Names in the log of a threshold that only the GPU knows. */
export function thresholdNames(config: Config): string[] {
  const mode = modeOf(config);
  if (mode === 'percentile') return ['threshold'];
  return mode === 'per-class' ? Array.from({ length: config.classes }, (_, k) => `threshold${k}`) : [];
}

/** The threshold of a configuration. */
export function createThreshold(gpu: Gpu, config: Config): Threshold {
  const { thresholdPercentile: quantile, thresholdMomentum: momentum, confidence, classes } = config;
  const mode = modeOf(config);
  const scheduled = tensor(gpu, 0, [], { label: 'threshold' });
  const ofQuantile = (state: QuantileThreshold): Threshold => ({
    scheduled,
    follows: false,
    state: { ...state },
    update(student, teacher, firstPixel) {
      updateQuantileThreshold(state, student, teacher, { confidence, firstPixel, quantile, momentum });
      return state.value;
    },
    aside: () => ofQuantile(copied(state)),
  });
  const ofClasses = (state: ClassThresholds): Threshold => ({
    scheduled,
    follows: true,
    state: { ...state },
    update(student, teacher, firstPixel) {
      updateClassThresholds(state, student, teacher, { confidence, firstPixel, base: scheduled, momentum });
      return state.values;
    },
    aside: () => ofClasses(copied(state)),
  });
  if (mode === 'percentile') return ofQuantile(createQuantileThreshold(gpu));
  if (mode === 'per-class') return ofClasses(createClassThresholds(gpu, classes));
  const fixed: Threshold = { scheduled, follows: true, state: {}, update: () => scheduled, aside: () => fixed };
  return fixed;
}
