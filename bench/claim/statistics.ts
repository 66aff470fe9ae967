// Numbers of a comparison: means and deviations, and differences that are paired by patient.
import { philox4x32, toUniform } from '../../engine/custom.js';

export const mean = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;

/** Sample standard deviation (n − 1); NaN for fewer than two values. */
export function deviation(values: readonly number[]): number {
  const m = mean(values);
  return values.length < 2
    ? Number.NaN
    : Math.sqrt(values.reduce((sum, v) => sum + (v - m) ** 2, 0) / (values.length - 1));
}

/** What one method is ahead of another by, from scores of the same patients. */
export interface Difference {
  readonly mean: number;
  /** Standard error over patients. */
  readonly error: number;
  /** Interval that holds 95 % of the means of resampled patients (percentile bootstrap, Efron 1979). */
  readonly interval: readonly [number, number];
  /** Mean of each seed. */
  readonly seeds: readonly number[];
}

const resamplings = 10000;

/**
 * a − b, paired: scores by seed and patient, in the same order. The seeds of a patient are averaged first, so that a patient counts
 * once. The bootstrap draws from counters: the same scores give the same interval.
 */
export function pairedDifference(a: readonly (readonly number[])[], b: readonly (readonly number[])[]): Difference {
  const apart = a.map((scores, seed) => scores.map((score, patient) => score - b[seed]![patient]!));
  const patients = apart[0]!.map((_, patient) => mean(apart.map((scores) => scores[patient]!)));
  const count = patients.length;
  const means = Float64Array.from({ length: resamplings }, (_, i) => {
    let sum = 0;
    for (let drawn = 0; drawn < count; drawn++) {
      const [bits] = philox4x32([drawn, i, 0, 0], [count, 0xb007]);
      sum += patients[Math.min(count - 1, Math.floor(toUniform(bits) * count))]!;
    }
    return sum / count;
  }).sort();
  const at = (share: number): number => means[Math.round(share * (resamplings - 1))]!;
  return {
    mean: mean(patients),
    error: deviation(patients) / Math.sqrt(count),
    interval: [at(0.025), at(0.975)],
    seeds: apart.map(mean),
  };
}
