// The error function in float64, by its series near 0 and by the continued fraction of its complement.

/** erf x. */
export function errorFunction(x: number): number {
  if (Math.abs(x) > 2.5) return Math.sign(x) * (1 - complement(Math.abs(x)));
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** 1 − erf x, for x of at least 1. */
function complement(x: number): number {
  let fraction = 0;
  for (let n = 200; n > 0; n--) fraction = n / 2 / (x + fraction);
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / (x + fraction);
}

/** The probability that a normal number is below x. */
export function normalProbability(x: number): number {
  if (Math.abs(x) < 1.5) return 0.5 * (1 + errorFunction(x / Math.SQRT2));
  const tail = 0.5 * complement(Math.abs(x) / Math.SQRT2);
  return x < 0 ? tail : 1 - tail;
}
