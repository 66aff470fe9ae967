// Powers, and the smaller and larger of two, with broadcasting as in arithmetic.ts.
import { functionTexts, lnFunction, powFunction } from '../../shaders/functions.js';
import type { Tensor } from '../tensor.js';
import { binary, gradient, type Operand } from './arithmetic.js';

/** The operand that compares so; of equals the first, and NaN where one is. Equals share the gradient. */
function extremum(name: string, a: Operand, b: Operand, sign: '<' | '>'): Tensor {
  const kept = (expression: string): string => `keep_nan(a, keep_nan(b, ${expression}))`;
  const part = (mine: string, other: string): string =>
    kept(`select(select(V(0.0), dy * V(0.5), a == b), dy, ${mine} ${sign} ${other})`);
  const gradients = { a: gradient(name, part('a', 'b'), a, b), b: gradient(name, part('b', 'a'), a, b) };
  const chosen = `select(b, a, a ${sign}= b)`;
  return binary(name, a, b, kept(chosen), gradients, undefined, chosen);
}

/**
 * The smaller of a and b, element by element; NaN where one is, and a where they are equal. Equals share the gradient equally. Of u32
 * and i32, too.
 * @example
 * console.log(await minimum(tensor(gpu, [1, 5]), 3).read()); // [1, 3]
 */
export const minimum = (a: Operand, b: Operand): Tensor => extremum('minimum', a, b, '<');

/**
 * The larger of a and b, likewise.
 * @example
 * console.log(await maximum(tensor(gpu, [1, 5]), 3).read()); // [3, 5]
 */
export const maximum = (a: Operand, b: Operand): Tensor => extremum('maximum', a, b, '>');

/**
 * a to the power b, as C's pow: a negative a wants a whole b, else the result is NaN; x⁰ and 1^x are 1, even for a NaN. The gradient
 * of a is b·a^(b−1), 0 where b is 0; that of b is a^b·ln a, 0 where a^b is 0, and NaN where a is negative.
 * @example
 * console.log(await pow(tensor(gpu, [2, 3]), 2).read()); // [4, 9]
 */
export const pow = (a: Operand, b: Operand): Tensor => {
  const ofBase = 'select(dy * b * power(a, b - V(1.0)), V(0.0), b == V(0.0))';
  const isZero = '(power(a, b) == V(0.0)) | ((a == V(0.0)) & (b == V(0.0)))';
  const ofExponent = `dy * select(power(a, b) * ln(a), V(0.0), ${isZero})`;
  return binary(
    'pow',
    a,
    b,
    'power(a, b)',
    {
      a: gradient('pow', ofBase, a, b, functionTexts(powFunction)),
      b: gradient('pow', ofExponent, a, b, functionTexts(powFunction, lnFunction)),
    },
    functionTexts(powFunction),
    '',
  );
};
