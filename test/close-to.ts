// Element-by-element comparison of numbers. uvu's assert.equal says 0 ≠ −0 and NaN ≠ NaN and has no tolerance.

/**
 * Throws unless every |actual − expected| ≤ atol + rtol·|expected|. NaN equals NaN, an infinity equals only itself, and
 * 0 equals −0. The message names the worst element.
 */
export function closeTo(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { atol = 0, rtol = 0 }: { atol?: number; rtol?: number } = {},
  what = 'values',
): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what}: got ${actual.length} elements, expected ${expected.length}.`);
  }
  let worst = -1;
  let worstExcess = 0;
  let bad = 0;
  for (let i = 0; i < actual.length; i++) {
    const a = actual[i]!;
    const e = expected[i]!;
    if (a === e || (Number.isNaN(a) && Number.isNaN(e))) continue;
    const difference = Math.abs(a - e);
    const excess = Number.isFinite(difference) ? difference / (atol + rtol * Math.abs(e)) : Number.POSITIVE_INFINITY;
    if (excess <= 1) continue;
    bad++;
    if (worst < 0 || excess > worstExcess) {
      worst = i;
      worstExcess = excess;
    }
  }
  if (bad) {
    throw new Error(
      `${what}: ${bad} of ${actual.length} elements differ; worst at ${worst}: got ${actual[worst]}, expected ` +
        `${expected[worst]}, difference ${Math.abs(actual[worst]! - expected[worst]!)} (atol ${atol}, rtol ${rtol}).`,
    );
  }
}

export const largestOf = (values: ArrayLike<number>): number => {
  let most = 0;
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]!));
  return most; // NaN if one is
};

/**
 * Whether two gradients are both 0 but for rounding, as those of a bias before a norm: Σ dz = Σ γr (g − mean g − x̂ mean(g x̂)) over
 * pixels, each of whose terms is off by roundings of |g|. Σ |g| is at least the gradient of the norm's shift, |Σ g|, and that at most
 * `largest` of all gradients of the step; so errors of size γr · roundings · largest are no fault, and a forgotten term (of size Σ |g|)
 * is far above. With γr ≤ 2: in f32 eight roundings of 2⁻²⁴ make 2⁻²⁰; in f16 dz itself is stored, rounded by 2⁻¹¹, which makes 2⁻¹⁰.
 */
export function cancel(a: ArrayLike<number>, b: ArrayLike<number>, largest: number, dtype: 'f32' | 'f16'): boolean {
  const bound = largest * (dtype === 'f16' ? 2 ** -10 : 2 ** -20);
  return largestOf(a) <= bound && largestOf(b) <= bound;
}
