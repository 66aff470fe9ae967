// What the trials of a convolution's candidates bind: numbers that all kernels treat alike, and launches before and after.
import type { Activation } from '../../../shaders/conv/fusion.js';
import type { ConvGeometry, Parts } from '../../../shaders/conv/geometry.js';
import { mergedPartsShader } from '../../../shaders/conv/merged-parts.js';
import { normActivationForward } from '../../../shaders/norm-activation.js';
import { blocksOf, commonDivisor, type NormSizes, quadsOf } from '../../../shaders/norm-sizes.js';
import type { Float } from '../../../shaders/wgsl.js';
import type { TrialLaunch, TrialTensor } from '../../choices.js';
import { uniformStream } from '../../random.js';
import { sizeOf } from '../../shape.js';
import type { ConvWish } from './wish.js';

/** What dropout of a tensor of `size` elements binds: the step's random numbers, 0 in a trial, or a mask. */
const drawing = ({ dropout, masked }: Activation, size: number): Record<string, TrialTensor> =>
  masked
    ? { mask: { shape: [Math.ceil(size / 32)], dtype: 'u32', values: wholeNumbers(9, 0, 2 ** 32 - 1) } }
    : dropout
      ? { random: { shape: [2], dtype: 'u32' }, stream: { shape: [1], dtype: 'u32' } }
      : {};

type Values = readonly number[];

/** A norm's z, and rows μ, s, β of its coefficients by channel. */
interface NormNumbers {
  readonly z: Values;
  readonly rows: readonly ((k: number, of: Activation) => number)[];
}

/** What the tensors of a trial hold; random numbers in [−1, 1) where nothing is given. */
export interface TrialNumbers {
  readonly x?: Values;
  readonly weight?: Values;
  readonly bias?: Values;
  readonly dy?: Values;
  readonly base?: Values;
  /** Of a deferred activation of the input. */
  readonly onLoad: NormNumbers;
  /** Of an activation whose derivative is taken. */
  readonly gradient: NormNumbers;
}

/** The property `values` of a tensor, where there are any. */
export const holding = (values: Values | undefined): { values?: Values } => (values ? { values } : {});

/** A prime number of values, so that no two rows of a tensor are alike. */
const period = 65521;

/**
 * Numbers in [−1, 1) that f16 holds, multiples of 1/1024. Matrix units round f32 weights to f16, which does nothing to these.
 */
const halfValues: Values = Array.from({ length: period }, (_, i) => ((i * 40503) % 2048) / 1024 - 1);

/** z are multiples of 1/32; with these coefficients n = (z − μ)·s + β is exact in f32 and never 0, where l' jumps. */
const smallNorm: NormNumbers = {
  z: halfValues.map((value) => Math.floor(32 * value) / 32),
  rows: [(k) => ((7 * k) % 16) / 32 - 0.25, (k) => ((5 * k) % 8) / 8 + 0.5, (k) => (2 * ((37 * k) % 256) - 255) / 512],
};

/** Numbers on which candidates are measured. `halves`: where matrix units round f32 weights to f16. */
export const measuredOn = (halves: boolean): TrialNumbers => ({
  ...(halves && { weight: halfValues }),
  ...{ onLoad: smallNorm, gradient: smallNorm },
});

const drawn = new Map<string, Values>();

/** Whole numbers from `low` to `high`, in an order of their own for each `seed`. */
function wholeNumbers(seed: number, low: number, high: number): Values {
  const key = `${seed} ${low} ${high}`;
  let values = drawn.get(key);
  if (!values) {
    const uniform = uniformStream(seed);
    values = Array.from({ length: period }, () => low + Math.floor((high - low + 1) * uniform()));
    drawn.set(key, values);
  }
  return values;
}

/**
 * z and coefficients for which an activation is a whole number of 1 to 11 by its size, negative in every fourth channel, or dropped:
 * s takes back what slope and dropout multiply by. It lies 2⁻¹³ of itself beyond that number, so that it becomes it however f16 is
 * rounded.
 */
const wholeNorm = (): NormNumbers => {
  const scale = (k: number, { slope, dropout }: Activation): number =>
    (1 + 2 ** -13) * (1 - dropout) * (k % 4 < 3 ? 1 : slope > 0 ? -1 / slope : -1);
  return { z: wholeNumbers(6, 1, 8), rows: [(k) => k % 3, scale, (k, of) => (2 + (k % 2)) * scale(k, of)] };
};

/**
 * Whole numbers whose products and sums of `terms` products are exact in f32, and not beyond what `stored` holds. They are mostly
 * positive and large where there are few, so that sums exceed the 2048 up to which f16 is exact: units that add up in f16 show.
 */
export function provenOn(terms: number, stored: Float): TrialNumbers {
  // A product is 4.5 · times on average, at most; f16 holds numbers up to 65 504, f32 all whole numbers up to 2²⁴.
  const times = Math.max(1, Math.min(100, Math.floor(2 ** 13.5 / (4.5 * terms))));
  const balanced = 4.5 * terms > (stored === 'f16' ? 2 ** 14 : 2 ** 22);
  const [low, high] = balanced ? [-3, 3] : [-2 * times, 5 * times];
  return {
    x: wholeNumbers(1, -2, 5),
    weight: wholeNumbers(2, low, high),
    bias: wholeNumbers(3, -2, 5),
    dy: wholeNumbers(4, low, high),
    base: wholeNumbers(5, -2, 5),
    ...{ onLoad: wholeNorm(), gradient: smallNorm },
  };
}

const coefficientTensor = (of: Activation, { rows }: NormNumbers, channels: number): TrialTensor => {
  const count = of.groups?.length ?? 1;
  const values = Array.from({ length: count }, (_, group) =>
    [...rows, () => 1].map((row) => Array.from({ length: channels }, (_, c) => row(group * channels + c, of))),
  ).flat(2);
  return { shape: [count, 4, channels], values };
};

const zTensor = (shape: readonly number[], dtype: Float, { z }: NormNumbers): TrialTensor => ({
  ...{ shape, dtype, name: 'z', values: z },
});

/** The input of a trial: what a kernel binds that applies `onLoad`, and the launch before one that does not. */
export function trialInput(
  g: ConvGeometry,
  dtype: Float,
  wish: ConvWish,
  onLoad: Activation | undefined,
  numbers: TrialNumbers,
): { bound: Record<string, TrialTensor>; before: TrialLaunch[] } {
  const x: TrialTensor = { shape: [g.batch, ...g.input, g.inputs], dtype, name: 'x' };
  if (!wish.onLoad) return { bound: { x: { ...x, ...holding(numbers.x) } }, before: [] };
  const z = zTensor(x.shape, dtype, numbers.onLoad);
  const others = {
    coefficients: coefficientTensor(wish.onLoad, numbers.onLoad, g.inputs),
    ...drawing(wish.onLoad, sizeOf(x.shape)),
  };
  if (onLoad) return { bound: { x: z, ...others }, before: [] };
  const groups = wish.onLoad.groups ?? [g.batch];
  const together = commonDivisor(groups);
  const sizes: NormSizes = {
    dtype,
    groups: wish.onLoad.groups ? groups.map((n) => n / together) : [1],
    rows: sizeOf(g.input) * together,
    channels: g.inputs,
  };
  const apply: TrialLaunch = {
    source: normActivationForward(sizes, wish.onLoad),
    args: { z, ...others, a: x },
    grid: { threads: blocksOf(sizes) * sizes.rows * quadsOf(sizes) },
  };
  return { bound: { x }, before: [apply] };
}

/** What a trial binds besides for statistics or a gradient, and the launch that makes partial sums comparable. */
export function trialSums(
  g: ConvGeometry,
  dtype: Float,
  { statistics = false, gradient, base }: ConvWish,
  parts: Parts,
  numbers: TrialNumbers,
): { bound: Record<string, TrialTensor>; after: TrialLaunch[] } {
  if (!statistics && !gradient) return { bound: {}, after: [] };
  const [planes, channels] = [g.batch * g.output[0], g.outputs];
  const partials: TrialTensor = { shape: [parts.count, 2, channels], name: 'partials' };
  const shape = [g.batch, ...g.output, channels];
  const bound = {
    partials,
    ...(gradient && {
      z: zTensor(shape, dtype, numbers.gradient),
      zCoefficients: coefficientTensor(gradient, numbers.gradient, channels),
      ...drawing(gradient, sizeOf(shape)),
    }),
    ...(base && { base: { shape, dtype, ...holding(numbers.base) } }),
  };
  const merge: TrialLaunch = {
    source: mergedPartsShader(parts, { planes, channels, statistics }),
    args: { partials, merged: { shape: [planes, 2, channels] } },
    grid: { threads: planes * channels },
  };
  return { bound, after: [merge] };
}

/**
 * By how much an output may differ, as a fraction of its largest value, since one kernel rounds an activation to f16 before it
 * multiplies and another does not: each product is off by up to 2⁻¹² of itself, and so is, at most, a sum that they all go into.
 */
export const operandRounding = (dtype: Float, { onLoad }: ConvWish): number =>
  onLoad && dtype === 'f16' ? 2 ** -11 : 0;
