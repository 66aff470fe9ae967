// Functions of one number, applied to every element. NaN gives NaN, in value and gradient. Drivers may drop a NaN in min, max, sign,
// exp, log and comparisons; there `keep_nan` tests the bits.
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { elementwise } from './elementwise.js';

/** y = expression of x and `numbers`; the gradient's expression may name dy and y, too. */
function unary(
  name: string,
  x: Tensor,
  expression: string,
  gradientExpression: string,
  numbers: Readonly<Record<string, number>> = {},
): Tensor {
  const y = elementwise(name, expression, x.shape, { x, ...numbers });
  return record(name, y, [x], (dy) => {
    const all: Record<string, Tensor | number> = { dy, x, y, ...numbers };
    const used = Object.entries(all).filter(([key]) => new RegExp(`\\b${key}\\b`).test(gradientExpression));
    return [elementwise(`${name}_backward`, gradientExpression, x.shape, Object.fromEntries(used))];
  });
}

/** −x. */
export const neg = (x: Tensor): Tensor => unary('neg', x, '-x', '-dy');

/** e to the power x. */
export const exp = (x: Tensor): Tensor => unary('exp', x, 'keep_nan(x, exp(x))', 'dy * y');

/** Natural logarithm of x: −∞ at 0, NaN below. */
export const log = (x: Tensor): Tensor => {
  // Not every driver's log handles 0, infinity and negative numbers.
  const above = 'select(log(x), infinity, x == infinity)';
  const expression = `keep_nan(x, select(select(${above}, -infinity, x == V(0.0)), nan, x < V(0.0)))`;
  return unary('log', x, expression, 'divide(dy, x)', { infinity: Number.POSITIVE_INFINITY, nan: Number.NaN });
};

/** Square root of x > 0. */
export const sqrt = (x: Tensor): Tensor => unary('sqrt', x, 'sqrt(x)', 'dy / (y + y)');

/** x². */
export const square = (x: Tensor): Tensor => unary('square', x, 'x * x', 'dy * (x + x)');

/** |x|; its gradient at 0 is 0. */
export const abs = (x: Tensor): Tensor => unary('abs', x, 'abs(x)', 'dy * keep_nan(x, sign(x))');

/** x limited to [low, high], either of which may be infinite; its gradient is 0 outside. Throws a ShapeError unless low ≤ high. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) throw new ShapeError(`clamp: the limits are in the wrong order — got [${low}, ${high}].`);
  const limited = 'keep_nan(x, clamp(x, low, high))';
  const gradient = 'keep_nan(x, select(V(0.0), dy, (x >= low) & (x <= high)))';
  return unary('clamp', x, limited, gradient, { low, high });
}
