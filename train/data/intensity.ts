// Intensities of a volume: what is not finite, and how they are scaled.
import type { Refuse } from '../files/data-error.js';

/** What NaN and infinite values become: the smallest finite one, 0, or an error. */
export type NanPolicy = 'least' | 'zero' | 'refuse';

/** Values all of which are finite: what is NaN or infinite is replaced (in place), with a note, or refused. */
export function withoutNan(
  data: Float32Array,
  policy: NanPolicy,
  refuse: Refuse,
): { data: Float32Array; notes: string[] } {
  let [bad, least] = [0, Number.POSITIVE_INFINITY];
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    if (!Number.isFinite(value)) bad++;
    else if (value < least) least = value;
  }
  if (bad === 0) return { data, notes: [] };
  const said = `${bad} of ${data.length} values are NaN or infinite`;
  if (bad === data.length) refuse(`${said}: there is nothing to read. Repair the file.`);
  if (policy === 'refuse') refuse(`${said}. Repair the file, for instance replace them by 0.`);
  const instead = policy === 'zero' ? 0 : least;
  for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) data[i] = instead;
  return { data, notes: [`${said}: read as ${instead}${policy === 'zero' ? '' : ', the smallest finite value'}`] };
}

/** (v − min) / (max − min), the protocol's normalisation; a constant volume becomes 0. */
export function minMaxScaled(values: Float32Array): Float32Array {
  let least = Number.POSITIVE_INFINITY;
  let most = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const range = most - least;
  return range > 0 ? values.map((value) => (value - least) / range) : new Float32Array(values.length);
}

/** (v − mean) / standard deviation over the volume; a constant volume becomes 0. */
export function zScored(values: Float32Array): Float32Array {
  let sum = 0;
  for (const value of values) sum += value;
  const mean = sum / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  const deviation = Math.sqrt(squares / values.length);
  return deviation > 0 ? values.map((value) => (value - mean) / deviation) : new Float32Array(values.length);
}

/** (v − low) / (high − low) clipped to [0, 1], where low and high are the values at two percentiles (nearest rank). */
export function percentileScaled(values: Float32Array, percentiles: readonly number[] = [0.5, 99.5]): Float32Array {
  const sorted = values.slice().sort();
  const [low, high] = percentiles.map((share) => sorted[Math.round((share / 100) * (sorted.length - 1))]!) as [
    number,
    number,
  ];
  return minMaxScaled(high > low ? values.map((value) => Math.min(high, Math.max(low, value))) : values);
}
