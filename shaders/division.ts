// Division that holds where a GPU's does not. WGSL promises 2.5 units in the last place of a / b for 2⁻¹²⁶ ≤ |b| ≤ 2¹²⁶ only: GPUs compute
// a · (1/b), and 1/b of a larger b is subnormal, which they take for 0. And a compiler may compute a / b / b as a · (1/b · 1/b), which
// overflows where the result does not: the order of products is no protection. Subnormal numbers may count as 0 everywhere.
import { bitsOf, wgsl } from './wgsl.js';

/** Defines `divide(a, b)` for the alias `V`: a / b as IEEE 754 has it; beyond 2¹²⁶, a quarter of both. */
export const divideFunction = (): string => wgsl`
fn divide(a: V, b: V) -> V {
  let smaller = select(V(1.0), V(0.25), abs(b) > V(0x1p126f));
  let top = a * smaller;
  let bottom = b * smaller;
  return top / bottom;
}`;

/**
 * Defines `divisor_gradient(dy, a, b)` for the alias `V` (vec4f if `wide`, else f32): −dy · a / b², in range wherever the result is.
 * With each |v| = m · 2ᵉ and 1 ≤ m < 2, the quotient of the m is between 1/4 and 4, and integers add the powers of two to its exponent.
 * Where a number is 0, infinite or NaN, only the signs of the others count.
 */
export function divisorGradientFunction(wide: boolean): string {
  const U = bitsOf(wide ? 'vec4f' : 'f32');
  const I = wide ? 'vec4i' : 'i32';
  const bits = (v: string, mask: string): string => `(bitcast<${U}>(${v}) & ${U}(${mask}))`;
  const exponent = (v: string): string => `${I}(${bits(v, '0x7f800000u')} >> ${U}(23u))`;
  return wgsl`
fn is_normal(v: V) -> ${wide ? 'vec4<bool>' : 'bool'} {
  return ${bits('v', '0x7f800000u')} - ${U}(0x00800000u) < ${U}(0x7f000000u);
}
fn mantissa(v: V) -> V { return bitcast<V>(${bits('v', '0x807fffffu')} | ${U}(0x3f800000u)); }
fn sign_or_special(v: V) -> V {
  return select(v, bitcast<V>(${bits('v', '0x80000000u')} | ${U}(0x3f800000u)), is_normal(v));
}
fn divisor_gradient(dy: V, a: V, b: V) -> V {
  let top = mantissa(dy) * mantissa(a);
  let bottom = mantissa(b) * mantissa(b);
  let quotient = top / bottom;
  let power = ${exponent('quotient')} + ${exponent('dy')} + ${exponent('a')} - 2 * ${exponent('b')};
  let scaled = ${bits('quotient', '0x807fffffu')} | (${U}(clamp(power, ${I}(0), ${I}(255))) << ${U}(23u));
  let sign = ${bits('quotient', '0x80000000u')};
  let in_range = select(select(scaled, sign, power < ${I}(1)), sign | ${U}(0x7f800000u), power > ${I}(254));
  let above = sign_or_special(dy) * sign_or_special(a);
  let below = sign_or_special(b) * sign_or_special(b);
  let special = above / below;
  return -select(special, bitcast<V>(in_range), is_normal(dy) & is_normal(a) & is_normal(b));
}`;
}
