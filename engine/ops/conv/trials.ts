// What the trials of a convolution's candidates bind: numbers that all kernels treat alike, and launches before and after.
import type { Activation } from '../../../shaders/conv/fusion.js';
import type { ConvGeometry, Parts } from '../../../shaders/conv/geometry.js';
import { mergedPartsShader } from '../../../shaders/conv/merged-parts.js';
import { normActivationForward } from '../../../shaders/norm-activation.js';
import { blocksOf, commonDivisor, type NormSizes, quadsOf } from '../../../shaders/norm-sizes.js';
import type { Float } from '../../../shaders/wgsl.js';
import type { TrialLaunch, TrialTensor } from '../../choices.js';
import { sizeOf } from '../../shape.js';
import type { ConvWish } from './wish.js';

/** The step's random numbers; 0 in a trial. */
const drawing = ({ dropout }: Activation): Record<string, TrialTensor> =>
  dropout ? { random: { shape: [2], dtype: 'u32' }, stream: { shape: [1], dtype: 'u32' } } : {};

/**
 * Numbers in [−1, 1) that f16 holds, multiples of 1/1024; 65 521 is prime, so no two rows are alike. Matrix units round f32 weights to
 * f16, which does nothing to these.
 */
export const halfValues: readonly number[] = Array.from({ length: 65521 }, (_, i) => ((i * 40503) % 2048) / 1024 - 1);

/** Multiples of 1/32 for z; with the coefficients below, n = (z − μ)·s + β is exact in f32 and never 0, where l' jumps. */
const zValues = halfValues.map((value) => Math.floor(32 * value) / 32);

/** Rows μ, s, β and r of a norm, by group. */
const coefficientsOf = (groups: number, channels: number): number[] =>
  Array.from({ length: groups }, (_, group) =>
    [
      (k: number) => ((7 * k) % 16) / 32 - 0.25,
      (k: number) => ((5 * k) % 8) / 8 + 0.5,
      (k: number) => (2 * ((37 * k) % 256) - 255) / 512,
      () => 1,
    ].map((row) => Array.from({ length: channels }, (_, c) => row(group * channels + c))),
  ).flat(2);

const coefficientTensor = ({ groups }: Activation, channels: number): TrialTensor => {
  const count = groups?.length ?? 1;
  return { shape: [count, 4, channels], values: coefficientsOf(count, channels) };
};

const zTensor = (shape: readonly number[], dtype: Float): TrialTensor => ({ shape, dtype, name: 'z', values: zValues });

/** The input of a trial: what a kernel binds that applies `onLoad`, and the launch before one that does not. */
export function trialInput(
  g: ConvGeometry,
  dtype: Float,
  wish: ConvWish,
  onLoad: Activation | undefined,
): { bound: Record<string, TrialTensor>; before: TrialLaunch[] } {
  const x: TrialTensor = { shape: [g.batch, ...g.input, g.inputs], dtype, name: 'x' };
  if (!wish.onLoad) return { bound: { x }, before: [] };
  const z = zTensor(x.shape, dtype);
  const others = { coefficients: coefficientTensor(wish.onLoad, g.inputs), ...drawing(wish.onLoad) };
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
): { bound: Record<string, TrialTensor>; after: TrialLaunch[] } {
  if (!statistics && !gradient) return { bound: {}, after: [] };
  const [planes, channels] = [g.batch * g.output[0], g.outputs];
  const partials: TrialTensor = { shape: [parts.count, 2, channels], name: 'partials' };
  const shape = [g.batch, ...g.output, channels];
  const bound = {
    partials,
    ...(gradient && {
      z: zTensor(shape, dtype),
      zCoefficients: coefficientTensor(gradient, channels),
      ...drawing(gradient),
    }),
    ...(base && { base: { shape, dtype } }),
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
