// What a convolution kernel can do on the side, which saves a pass over memory:
//   on load    a = d · l((z − μ)·s + β)      the input's deferred activation: norm, LeakyReLU l, dropout d; 0 outside the image
//   statistics mean and Σ (y − mean)² of the outputs, for the norm that follows
//   gradient   g = da · l'(n) · d, Σ g and Σ g·(z − μ), with n = (z − μ)·s + β, in an input gradient da of such an input
// Per group of images (Activation) and channel, `coefficients` [groups, 4, C] hold μ, s = γ·r, β and r = 1/√(σ² + ε). Sums are
// partial: each thread or workgroup writes one part of [parts, 2, C]; a part's number of pixels follows from its index.
import { groupAt } from '../norm-sizes.js';
import { philox } from '../philox.js';
import { bitsOf, f32, isNan, wgsl } from '../wgsl.js';

/** What an activation computes after its norm: LeakyReLU with `slope` in [0, 1], then dropout at the rate `dropout`, 0 for none. */
export interface Activation {
  readonly slope: number;
  readonly dropout: number;
  /** Dropout is read from `mask`, one bit an element that `dropoutMaskShader` drew, and not drawn from `random` and `stream`. */
  readonly masked?: boolean;
  /** Number of images in each group of the norm, in order; each group has its own coefficients. Not given: one group. */
  readonly groups?: readonly number[];
}

export interface ConvFusion {
  /** Applies the input's deferred activation: x is then z, and `coefficients` (with dropout also `random`, `stream`) are bound. */
  readonly onLoad?: Activation | undefined;
  /** Also writes `partials`: mean and Σ (y − mean)² of each part. */
  readonly statistics?: boolean;
  /** Writes g instead of da, and `partials`: Σ g and Σ g·(z − μ). Binds `z`, `zCoefficients` (with dropout `random`, `stream`). */
  readonly gradient?: Activation | undefined;
  /** With `gradient`: first adds `base`, the gradient from the tensor's other consumers, to da. */
  readonly base?: boolean;
}

/** Expression, u32: the group of `image`; undefined where there is one group. */
export const groupOf = ({ groups }: Activation): string | undefined => groups && groupAt('image', groups);

/** n = (v − mean)·scale + shift. */
export const normalized = (v: string, mean: string, scale: string, shift: string): string =>
  `fma(${v} - ${mean}, ${scale}, ${shift})`;

/**
 * l(n), for a slope in [0, 1] and the vector type V; n appears twice, so pass a name. A NaN stays: both arguments of the maximum
 * are NaN. With slope 0 a compiler folds 0 · n to 0, so the bits are tested instead: whatever is not in [−∞, −0] is kept.
 */
export const leakyRelu = (n: string, V: string, slope: number): string =>
  slope > 0
    ? `max(${n}, ${f32(slope)} * ${n})`
    : `select(${V}(0.0), ${n}, bitcast<${bitsOf(V)}>(${n}) - ${bitsOf(V)}(0x80000000u) > ${bitsOf(V)}(0x7f800000u))`;

/** Defines `tail(z, mean, scale, shift)`: an activation without its dropout. */
export const activationFunction = (V: string, { slope }: Activation): string => wgsl`
fn tail(z: ${V}, mean: ${V}, scale: ${V}, shift: ${V}) -> ${V} {
  let n = ${normalized('z', 'mean', 'scale', 'shift')};
  return ${leakyRelu('n', V, slope)};
}`;

/** l'(n); NaN where n is. */
export const leakyReluDerivative = (n: string, V: string, slope: number): string =>
  `select(select(${V}(${f32(slope)}), ${V}(1.0), ${n} > ${V}(0.0)), ${n}, ${isNan(n, V)})`;

/** The bindings of dropout, in order. */
export const dropoutBindings = ({ dropout, masked }: Activation): readonly string[] =>
  dropout ? (masked ? ['mask'] : ['random', 'stream']) : [];

/** Defines what `dropoutFactors` or, for an activation with a mask, `maskedFactors` does. */
export const factorsOf = ({ dropout, masked }: Activation, width: number): string =>
  masked ? maskedFactors(dropout, width) : dropoutFactors(dropout, width);

/**
 * Defines `kept_at(at: u32) -> u32`, whose lowest bits tell which elements of vector `at` are kept, `kept_factors(kept: u32)`: 1/(1 −
 * rate) or 0 for each of them, and `factors_at(at: u32)`, both together. Needs the binding `mask`.
 */
const maskedFactors = (rate: number, width: number): string => {
  const scale = f32(1 / (1 - rate));
  const V = width === 1 ? 'f32' : `vec${width}f`;
  const factor = (bit: number): string => `select(0.0, ${scale}, (kept & ${1 << bit}u) != 0u)`;
  return wgsl`
fn kept_at(at: u32) -> u32 { return mask[at / ${32 / width}u] >> (at % ${32 / width}u * ${width}u); }
fn kept_factors(kept: u32) -> ${V} { return ${V}(${Array.from({ length: width }, (_, bit) => factor(bit)).join(', ')}); }
fn factors_at(at: u32) -> ${V} { return kept_factors(kept_at(at)); }`;
};

/**
 * Defines `dropout_factors(block: u32) -> vec4f`: 1/(1 − rate) or 0 for elements 4·block … 4·block + 3 of the tensor under
 * dropout, drawn as in shaders/dropout.ts; and `factors_at(at: u32)`, the same for vector `at` of `width` elements. Needs the
 * bindings `random` (seed, step) and `stream`.
 */
const dropoutFactors = (rate: number, width: number): string => wgsl`
${philox}
fn dropout_factor(bits: u32) -> f32 { return select(0.0, ${f32(1 / (1 - rate))}, uniform01(bits) >= ${f32(rate)}); }
fn dropout_factors(block: u32) -> vec4f {
  let bits = philox(vec4u(block, random[1], 0u, 0u), vec2u(random[0], stream[0]));
  return vec4f(dropout_factor(bits.x), dropout_factor(bits.y), dropout_factor(bits.z), dropout_factor(bits.w));
}
#if ${width === 4}
fn factors_at(at: u32) -> vec4f { return dropout_factors(at); }
#elif ${width === 2}
fn factors_at(at: u32) -> vec2f {
  let factors = dropout_factors(at / 2u);
  return select(factors.xy, factors.zw, (at & 1u) == 1u);
}
#else
fn factors_at(at: u32) -> f32 { return dropout_factors(at / 4u)[at & 3u]; }
#endif`;
