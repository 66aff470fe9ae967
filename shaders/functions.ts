// Functions of numbers that WGSL lacks, or computes to fewer digits than f32 has: its sin, tanh and pow promise an absolute error of
// 2⁻¹¹, or none at all. Each is good to about two units in the last place on every adapter, infinities and zeros included.
// The polynomials are least squares fits, weighted towards equal ripple; the comment at each tells its relative error.
// Texts are plain strings, so that a bundler drops those of ops that are not imported.

/** A function for expressions of `elementwiseShader`: `text` defines `NAME_1` of f32 numbers; `NAME` applies it to each component of V. */
export interface NumberFunction {
  readonly name: string;
  readonly parameters: number;
  readonly text: string;
  /** What the text calls. */
  readonly calls: readonly NumberFunction[];
}

const define = (name: string, text: string, calls: readonly NumberFunction[] = [], parameters = 1): NumberFunction => ({
  name,
  text,
  calls,
  parameters,
});

/** The texts of functions and of all that they call, each once, for elementwiseShader. */
export const functionTexts =
  (...functions: readonly NumberFunction[]) =>
  (wide: boolean): string => {
    const found = new Set<NumberFunction>();
    const visit = (f: NumberFunction): void => {
      for (const called of f.calls) visit(called);
      found.add(f);
    };
    for (const f of functions) visit(f);
    const applied = functions.map(({ name, parameters }) => {
      const names = ['a', 'b'].slice(0, parameters);
      const call = (component: string): string => `${name}_1(${names.map((n) => n + component).join(', ')})`;
      const value = wide ? `V(${['.x', '.y', '.z', '.w'].map(call).join(', ')})` : call('');
      return `fn ${name}(${names.map((n) => `${n}: V`).join(', ')}) -> V { return ${value}; }`;
    });
    return `\n${[...[...found].map(({ text }) => text), ...applied].join('\n')}`;
  };

/** e^x: x = k ln 2 + r, |r| ≤ ½ ln 2 (fit 3e-9). Does not keep NaN. */
const exponential = /* @__PURE__ */ define(
  'exponential',
  `fn exponential_1(v: f32) -> f32 {
  let x = clamp(v, -105.0, 90.0);
  let k = round(x * 1.44269504);
  let r = (x - k * 0.693359375) - k * -2.12194440e-4;
  let p = 0.5 + r * (0.16666517 + r * (0.0416662022 + r * (0.00836908817 + r * 0.00139508338)));
  let half = floor(k * 0.5);
  return ((1.0 + (r + r * r * p)) * power_of_two(half)) * power_of_two(k - half);
}
fn power_of_two(k: f32) -> f32 { return bitcast<f32>((i32(k) + 127) << 23u); }`,
);

/** log(1 + e) for e from 0 to 1: 2 artanh(e/(2 + e)) (fit 1e-10). */
const log1p = /* @__PURE__ */ define(
  'log1p',
  `fn log1p_1(e: f32) -> f32 {
  let s = e / (2.0 + e);
  let z = s * s;
  let p = 0.333333373 + z * (0.199994385 + z * (0.143084422 + z * (0.107138284 + z * 0.121504694)));
  return 2.0 * (s + s * (z * p));
}`,
);

/** 1/(1 + e^−x). */
export const sigmoidFunction = /* @__PURE__ */ define(
  'sigmoid',
  `fn sigmoid_1(x: f32) -> f32 {
  let e = exponential_1(-abs(x));
  return select(1.0, e, x < 0.0) / (1.0 + e);
}`,
  [exponential],
);

/** The derivative of 1/(1 + e^−x): e/(1 + e)², e = e^−|x|. */
export const sigmoidSlope = /* @__PURE__ */ define(
  'sigmoid_slope',
  `fn sigmoid_slope_1(x: f32) -> f32 {
  let e = exponential_1(-abs(x));
  return e / ((1.0 + e) * (1.0 + e));
}`,
  [exponential],
);

/** x/(1 + e^−x); 0 at −∞. */
export const siluFunction = /* @__PURE__ */ define(
  'silu',
  `fn silu_1(x: f32) -> f32 { return max(x, -200.0) * sigmoid_1(x); }`,
  [sigmoidFunction],
);

/** The derivative of x/(1 + e^−x). */
export const siluSlope = /* @__PURE__ */ define(
  'silu_slope',
  `fn silu_slope_1(x: f32) -> f32 { return sigmoid_1(x) + clamp(x, -200.0, 200.0) * sigmoid_slope_1(x); }`,
  [sigmoidFunction, sigmoidSlope],
);

/** log(1 + e^x) = max(x, 0) + log(1 + e^−|x|). */
export const softplusFunction = /* @__PURE__ */ define(
  'softplus',
  `fn softplus_1(x: f32) -> f32 { return max(x, 0.0) + log1p_1(exponential_1(-abs(x))); }`,
  [exponential, log1p],
);

/** tanh x: an odd polynomial (fit 2e-10) below 5/8, above it 1 − 2/(e^2|x| + 1). */
export const tanhFunction = /* @__PURE__ */ define(
  'tanh_of',
  `fn tanh_of_1(x: f32) -> f32 {
  let a = abs(x);
  if (a < 0.625) {
    let z = x * x;
    let p = -0.333333313 + z * (0.133331954 + z * (-0.0539453775 + z * (0.0216926056 + z * (-0.00815627631 + z * 0.00212274259))));
    return x + x * (z * p);
  }
  let y = 1.0 - 2.0 / (exponential_1(2.0 * min(a, 20.0)) + 1.0);
  return select(y, -y, x < 0.0);
}`,
  [exponential],
);

/** The derivative of tanh x: 4e/(1 + e)², e = e^−2|x|. */
export const tanhSlope = /* @__PURE__ */ define(
  'tanh_slope',
  `fn tanh_slope_1(x: f32) -> f32 {
  let e = exponential_1(-2.0 * min(abs(x), 60.0));
  return 4.0 * e / ((1.0 + e) * (1.0 + e));
}`,
  [exponential],
);

/** The density of the normal distribution; the square is split, so that its rounding does not show in the tail. */
const density = /* @__PURE__ */ define(
  'density',
  `fn density_1(v: f32) -> f32 {
  let t = min(abs(v), 15.0);
  let h = bitcast<f32>(bitcast<u32>(t) & 0xfffff000u);
  return 0.398942280 * exponential_1(-0.5 * h * h) * exponential_1(-0.5 * (t - h) * (t + h));
}`,
  [exponential],
);

/** The probability that a normal number is above |v|: density · a polynomial of (t − 3.5)/(t + 3.5) over 1 + 1.5 t (fit 5e-9). */
const upperTail = /* @__PURE__ */ define(
  'upper_tail',
  `fn upper_tail_1(v: f32) -> f32 {
  let t = min(abs(v), 15.0);
  let q = (t - 3.5) / (t + 3.5);
  let upper = 0.00111147459 + q * (-0.00234480808 + q * (7.89398327e-05 + q * (0.000326420908 + q * 5.11327307e-05)));
  let p = 0.664657235 + q * (-0.0529989749 + q * (-0.0617471486 + q * (0.0878902078 + q * (-0.0549208336 + q * (0.0163579248 + q * upper)))));
  return 2.50662827 * density_1(t) * p / (1.0 + 1.5 * t);
}`,
  [density],
);

/** erf x = 2/√π ∫ e^−t² from 0 to x: x times a polynomial of x² (fit 6e-9) below 0.85, above it 1 less the tail. */
export const erfFunction = /* @__PURE__ */ define(
  'erf',
  `fn erf_1(x: f32) -> f32 {
  let a = abs(x);
  if (a < 0.85) {
    let z = x * x;
    let p = 0.128379166 + z * (-0.376125753 + z * (0.112827703 + z * (-0.0268045701 + z * (0.00505427038 + z * -0.000633260992))));
    return x + x * p;
  }
  let y = 1.0 - 2.0 * upper_tail_1(1.41421356 * a);
  return select(y, -y, x < 0.0);
}`,
  [upperTail],
);

/** The derivative of erf: 2/√π e^−x². */
export const erfSlope = /* @__PURE__ */ define(
  'erf_slope',
  `fn erf_slope_1(x: f32) -> f32 {
  let t = min(abs(x), 12.0);
  let h = bitcast<f32>(bitcast<u32>(t) & 0xfffff000u);
  return 1.12837917 * exponential_1(-h * h) * exponential_1(-(t - h) * (t + h));
}`,
  [exponential],
);

/** x Φ(x), Φ the normal distribution's function; 0 at −∞. */
export const geluFunction = /* @__PURE__ */ define(
  'gelu',
  `fn gelu_1(x: f32) -> f32 {
  let tail = upper_tail_1(x);
  return max(x, -200.0) * select(1.0 - tail, tail, x < 0.0);
}`,
  [upperTail],
);

/** The derivative of x Φ(x): Φ(x) + x φ(x). */
export const geluSlope = /* @__PURE__ */ define(
  'gelu_slope',
  `fn gelu_slope_1(x: f32) -> f32 {
  let tail = upper_tail_1(x);
  return select(1.0 - tail, tail, x < 0.0) + clamp(x, -200.0, 200.0) * density_1(x);
}`,
  [upperTail],
);

/** ½x (1 + tanh √(2/π)(x + 0.044715 x³)) = x/(1 + e^−u), u twice that argument (Hendrycks and Gimpel 2016). */
export const geluTanhFunction = /* @__PURE__ */ define(
  'gelu_tanh',
  `fn gelu_tanh_1(x: f32) -> f32 {
  let v = clamp(x, -50.0, 50.0);
  return max(x, -200.0) * sigmoid_1(1.59576912 * v * (1.0 + 0.044715 * v * v));
}`,
  [sigmoidFunction],
);

/** Its derivative: σ(u) + x u' σ'(u). */
export const geluTanhSlope = /* @__PURE__ */ define(
  'gelu_tanh_slope',
  `fn gelu_tanh_slope_1(x: f32) -> f32 {
  let v = clamp(x, -50.0, 50.0);
  let u = 1.59576912 * v * (1.0 + 0.044715 * v * v);
  return sigmoid_1(u) + v * (1.59576912 * (1.0 + 0.134145 * v * v)) * sigmoid_slope_1(u);
}`,
  [sigmoidFunction, sigmoidSlope],
);

/**
 * Quarter turns in x, and what is left of it, |r| ≤ π/4: x · 2/π by whole numbers (Payne and Hanek 1983). 96 bits of 2/π are taken
 * from where their product with the 24 bits of x begins to matter modulo four, so any x is reduced as exactly as a small one.
 */
const quarters = /* @__PURE__ */ define(
  'quarters',
  `struct Turned { quarter: u32, rest: f32 }
const two_over_pi = array<u32, 9>(
  0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu, 0xdebbc561u,
);
fn bits_of_two_over_pi(at: u32) -> u32 {
  let word = at >> 5u;
  let shift = at & 31u;
  if (shift == 0u) { return two_over_pi[word]; }
  return (two_over_pi[word] << shift) | (two_over_pi[word + 1u] >> (32u - shift));
}
fn high_product(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let cross = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (cross >> 16u);
}
fn quarters_1(x: f32) -> Turned {
  let a = abs(x);
  if (a <= 0.785398163) { return Turned(0u, x); }
  let bits = bitcast<u32>(a);
  let m = (bits & 0x7fffffu) | 0x800000u;
  let at = min((bits >> 23u) - 120u, 192u);
  let low = bits_of_two_over_pi(at + 64u);
  let middle = bits_of_two_over_pi(at + 32u);
  let low_sum = m * middle + high_product(m, low);
  let carry = select(0u, 1u, low_sum < m * middle);
  let high_sum = m * bits_of_two_over_pi(at) + high_product(m, middle) + carry;
  let fraction = (high_sum << 2u) | (low_sum >> 30u);
  let quarter = (high_sum >> 30u) + (fraction >> 31u);
  let rest = f32(bitcast<i32>(fraction)) * 2.32830644e-10 + f32(low_sum << 2u) * 5.42101086e-20;
  let r = rest * 1.57079633;
  return Turned(select(quarter, 4u - (quarter & 3u), x < 0.0), select(r, -r, x < 0.0));
}
fn sine_of(r: f32) -> f32 {
  let z = r * r;
  return r + r * (z * (-0.166666672 + z * (0.00833332911 + z * (-0.000198393347 + z * 2.71830868e-6))));
}
fn cosine_of(r: f32) -> f32 {
  let z = r * r;
  return 1.0 + (z * -0.5 + z * z * (0.0416666456 + z * (-0.00138873677 + z * 2.4438421e-5)));
}
fn turned_sine(t: Turned) -> f32 {
  let y = select(sine_of(t.rest), cosine_of(t.rest), (t.quarter & 1u) == 1u);
  return select(y, -y, (t.quarter & 2u) == 2u);
}
fn spoiled_by_infinity(x: f32, y: f32) -> f32 {
  return select(y, bitcast<f32>(bitcast<u32>(x) | 0x7fc00000u), (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u);
}`,
);

/** sin x of any x; NaN at ±∞. */
export const sinFunction = /* @__PURE__ */ define(
  'sin_of',
  `fn sin_of_1(x: f32) -> f32 { return spoiled_by_infinity(x, turned_sine(quarters_1(x))); }`,
  [quarters],
);

/** cos x of any x; NaN at ±∞. */
export const cosFunction = /* @__PURE__ */ define(
  'cos_of',
  `fn cos_of_1(x: f32) -> f32 {
  let t = quarters_1(x);
  return spoiled_by_infinity(x, turned_sine(Turned(t.quarter + 1u, t.rest)));
}`,
  [quarters],
);

/**
 * log2 x of a finite x > 0 as the sum of two numbers, together good to 2⁻³⁰ (artanh fit 5e-12): x = 2^e m, √½ ≤ m < √2,
 * log2 m = 2/ln 2 · artanh((m − 1)/(m + 1)). The leading parts have 12 bits, so that their products are exact.
 * Nothing here is the error of a sum, t − ((k + t) − k): compilers of drivers take that for 0, as they take (m + 1) − 1 for m. So k meets
 * only bits of t that leave their sum exact.
 */
const log2Parts = /* @__PURE__ */ define(
  'log2_parts',
  `fn leading(v: f32) -> f32 { return bitcast<f32>(bitcast<u32>(v) & 0xfffff000u); }
fn log2_parts_1(x: f32) -> vec2f {
  let is_small = x < 1.17549435e-38;
  let bits = bitcast<u32>(select(x, x * 16777216.0, is_small));
  let e = i32((bits + 0x004afb0du) >> 23u) - 127;
  let m = bitcast<f32>(bits - (u32(e) << 23u));
  let d = m + 1.0;
  let s = (m - 1.0) / d;
  let sh = leading(s);
  let dh = leading(d);
  let sl = (((m - 1.0) - sh * dh) - sh * (m - (dh - 1.0))) / d;
  let z = s * s;
  let rest = s * (z * (0.333333313 + z * (0.200001702 + z * (0.142684594 + z * 0.117949963))));
  let t = sh * 2.884765625;
  let low = sh * 0.000624456792 + (sl + rest) * 2.88539008;
  let k = f32(e) - select(0.0, 24.0, is_small);
  let top = trunc(t * 4096.0) * 0.000244140625;
  return vec2f(k + top, (t - top) + low);
}`,
);

/** ln x; −∞ at 0, NaN below. */
export const lnFunction = /* @__PURE__ */ define(
  'ln',
  `fn ln_1(x: f32) -> f32 {
  if ((bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u) { return select(x, bitcast<f32>(bitcast<u32>(x) | 0x7fc00000u), bitcast<u32>(x) == 0xff800000u); }
  if (x == 0.0) { return bitcast<f32>(0xff800000u | (bitcast<u32>(x) & 0u)); }
  if (x < 0.0) { return bitcast<f32>(0x7fc00000u | bitcast<u32>(x)); }
  let parts = log2_parts_1(x);
  return parts.x * 0.693147181 + parts.y * 0.693147181;
}`,
  [log2Parts],
);

/** x^y as C's pow: 2^(y log2 |x|) with a product of two parts, and the sign of x where y is odd. */
export const powFunction = /* @__PURE__ */ define(
  'power',
  `fn power_1(x: f32, y: f32) -> f32 {
  let size = abs(x);
  let infinity = bitcast<f32>(0x7f800000u | (bitcast<u32>(x) & 0u));
  let not_a_number = bitcast<f32>(0x7fc00000u | bitcast<u32>(x));
  if (y == 0.0 || bitcast<u32>(x) == 0x3f800000u) { return 1.0; }
  if ((bitcast<u32>(size) > 0x7f800000u) || ((bitcast<u32>(y) & 0x7fffffffu) > 0x7f800000u)) { return not_a_number; }
  let is_whole = abs(y) >= 8388608.0 || floor(y) == y;
  let is_odd = is_whole && abs(y) < 16777216.0 && (i32(clamp(y, -16777216.0, 16777216.0)) & 1) == 1;
  let is_negative = (bitcast<u32>(x) >> 31u) == 1u;
  var r: f32;
  if (size == 0.0 || bitcast<u32>(size) == 0x7f800000u) {
    r = select(0.0, infinity, (size == 0.0) == (y < 0.0));
  } else {
    if (is_negative && !is_whole) { return not_a_number; }
    let parts = log2_parts_1(size);
    let l = parts.x + parts.y;
    let lh = leading(l);
    let ll = (parts.x - lh) + parts.y;
    let b = clamp(y, -1e30, 1e30);
    let bh = leading(b);
    let p = bh * lh;
    let q = (b - bh) * l + bh * ll;
    let whole = round(clamp(p + q, -160.0, 140.0));
    let f = clamp((p - whole) + q, -1.0, 1.0);
    let half = floor(whole * 0.5);
    let c = 0.693147182 + f * (0.240226507 + f * (0.0555032715 + f * (0.00961800478 + f * (0.00134005502 + f * 0.000154761918))));
    r = ((1.0 + f * c) * power_of_two(half)) * power_of_two(whole - half);
  }
  return select(r, -r, is_negative && is_odd);
}`,
  [exponential, log2Parts],
  2,
);

/**
 * a / n rounded correctly, for n above 0; a / n as the driver has it where n is not, or one of a, n and the result is 0, subnormal or not
 * finite. GPUs compute a / n as a · (1/n), up to 2.5 units off. So the mantissas are divided: the driver's quotient of theirs is
 * whole and at most four off, the rest that it leaves is exact in 32 bits that wrap, and tells how far. No quotient is halfway between
 * two numbers.
 */
export const quotientFunction = /* @__PURE__ */ define(
  'quotient',
  `fn quotient_1(a: f32, n: f32) -> f32 {
  let x = bitcast<u32>(a);
  let by = bitcast<u32>(n);
  let m = (x & 0x7fffffu) | 0x800000u;
  let d = (by & 0x7fffffu) | 0x800000u;
  let shift = select(24u, 23u, m >= d);
  let exponent = i32((x >> 23u) & 0xffu) - i32(by >> 23u) + 150 - i32(shift);
  if ((x & 0x7f800000u) - 0x800000u >= 0x7f000000u || by - 0x800000u >= 0x7f000000u || exponent < 1 || exponent > 254) { return a / n; }
  var q = u32(f32(m) / f32(d) * f32(1u << shift));
  var rest = bitcast<i32>((m << shift) - q * d);
  while (2 * rest > i32(d)) { q++; rest -= i32(d); }
  while (2 * rest < -i32(d)) { q--; rest += i32(d); }
  return bitcast<f32>((x & 0x80000000u) | ((u32(exponent) << 23u) + q - 0x800000u));
}`,
  [],
  2,
);

/** Every function that expressions may call. */
export const everyFunction = (): readonly NumberFunction[] => [
  quotientFunction,
  sigmoidFunction,
  sigmoidSlope,
  siluFunction,
  siluSlope,
  softplusFunction,
  tanhFunction,
  tanhSlope,
  erfFunction,
  erfSlope,
  geluFunction,
  geluSlope,
  geluTanhFunction,
  geluTanhSlope,
  sinFunction,
  cosFunction,
  lnFunction,
  powFunction,
];
