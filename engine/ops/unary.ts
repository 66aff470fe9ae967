// Functions of one number, applied to every element. NaN gives NaN, in value and gradient. Drivers may drop a NaN in min, max, sign,
// exp, log and comparisons; there `keep_nan` tests the bits.
import { cosFunction, erfFunction, erfSlope, functionTexts, sinFunction } from '../../shaders/functions.js';
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { elementwise } from './elementwise.js';
import { expectTensors } from './float-type.js';

/** What the expressions of a unary op use: numbers by name, and functions of shaders/functions.ts. */
interface Uses {
  readonly numbers?: Readonly<Record<string, number>>;
  readonly functions?: (wide: boolean) => string;
  /** Of the gradient's expression; default `functions`. */
  readonly gradientFunctions?: (wide: boolean) => string;
}

/** y = expression of x and the numbers; the gradient's expression may name dy and y, too. Without one, y is a constant to autograd. */
export function unary(
  name: string,
  x: Tensor,
  expression: string,
  gradientExpression?: string,
  { numbers = {}, functions, gradientFunctions = functions }: Uses = {},
): Tensor {
  expectTensors(name, x);
  const y = elementwise(name, expression, x.shape, { x, ...numbers }, functions);
  if (!gradientExpression) return y;
  return record(name, y, [x], (dy) => {
    const all: Record<string, Tensor | number> = { dy, x, y, ...numbers };
    const used = Object.entries(all).filter(([key]) => new RegExp(`\\b${key}\\b`).test(gradientExpression));
    return [elementwise(`${name}_backward`, gradientExpression, x.shape, Object.fromEntries(used), gradientFunctions)];
  });
}

/** Numbers from 2²³ on are whole; not every driver rounds those. */
const rounded = (expression: string): string => `keep_nan(x, select(${expression}, x, abs(x) >= V(8388608.0)))`;

/**
 * −x.
 * @example
 * console.log(await neg(tensor(gpu, [1, -2])).read()); // [-1, 2]
 */
export const neg = (x: Tensor): Tensor => unary('neg', x, '-x', '-dy');

/**
 * e to the power x.
 * @example
 * console.log(await exp(tensor(gpu, [0, 1])).read()); // [1, 2.718]
 */
export const exp = (x: Tensor): Tensor => unary('exp', x, 'keep_nan(x, exp(x))', 'dy * y');

/**
 * Natural logarithm of x: −∞ at 0, NaN below.
 * @example
 * console.log(await log(tensor(gpu, [1, Math.E])).read()); // [0, 1]
 */
export const log = (x: Tensor): Tensor => {
  // Not every driver's log handles 0, infinity and negative numbers.
  const above = 'select(log(x), infinity, x == infinity)';
  const expression = `keep_nan(x, select(select(${above}, -infinity, x == V(0.0)), nan, x < V(0.0)))`;
  return unary('log', x, expression, 'divide(dy, x)', {
    numbers: { infinity: Number.POSITIVE_INFINITY, nan: Number.NaN },
  });
};

/**
 * Square root of x > 0.
 * @example
 * console.log(await sqrt(tensor(gpu, [4, 9])).read()); // [2, 3]
 */
export const sqrt = (x: Tensor): Tensor => unary('sqrt', x, 'sqrt(x)', 'dy / (y + y)');

/**
 * 1/√x: ±∞ at ±0, NaN below.
 * @example
 * console.log(await rsqrt(tensor(gpu, [4, 100])).read()); // [0.5, 0.1]
 */
export const rsqrt = (x: Tensor): Tensor => unary('rsqrt', x, 'V(1.0) / sqrt(x)', 'dy * (V(-0.5) * divide(y, x))');

/**
 * 1/x: ±∞ at ±0.
 * @example
 * console.log(await reciprocal(tensor(gpu, [2, -4])).read()); // [0.5, -0.25]
 */
export const reciprocal = (x: Tensor): Tensor => unary('reciprocal', x, 'divide(V(1.0), x)', '-dy * y * y');

/**
 * x².
 * @example
 * console.log(await square(tensor(gpu, [2, -3])).read()); // [4, 9]
 */
export const square = (x: Tensor): Tensor => unary('square', x, 'x * x', 'dy * (x + x)');

/**
 * |x|; its gradient at 0 is 0.
 * @example
 * console.log(await abs(tensor(gpu, [1, -2])).read()); // [1, 2]
 */
export const abs = (x: Tensor): Tensor => unary('abs', x, 'abs(x)', 'dy * keep_nan(x, sign(x))');

/**
 * x limited to [low, high], either of which may be infinite; its gradient is 0 outside. Throws a ShapeError unless low ≤ high.
 * @example
 * console.log(await clamp(tensor(gpu, [-5, 0.5, 5]), -1, 1).read()); // [-1, 0.5, 1]
 */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) throw new ShapeError(`clamp: the limits are in the wrong order — got [${low}, ${high}].`);
  const limited = 'keep_nan(x, clamp(x, low, high))';
  const gradient = 'keep_nan(x, select(V(0.0), dy, (x >= low) & (x <= high)))';
  return unary('clamp', x, limited, gradient, { numbers: { low, high } });
}

/**
 * sin x, of any x in radians, to two units in the last place; NaN at ±∞.
 * @example
 * console.log(await sin(tensor(gpu, [0, 1])).read()); // [0, 0.8415]
 */
export const sin = (x: Tensor): Tensor =>
  unary('sin', x, 'sin_of(x)', 'dy * cos_of(x)', {
    functions: functionTexts(sinFunction),
    gradientFunctions: functionTexts(cosFunction),
  });

/**
 * cos x, of any x in radians, to two units in the last place; NaN at ±∞.
 * @example
 * console.log(await cos(tensor(gpu, [0, 1])).read()); // [1, 0.5403]
 */
export const cos = (x: Tensor): Tensor =>
  unary('cos', x, 'cos_of(x)', '-dy * sin_of(x)', {
    functions: functionTexts(cosFunction),
    gradientFunctions: functionTexts(sinFunction),
  });

/**
 * The error function, 2/√π ∫ e^−t² from 0 to x.
 * @example
 * console.log(await erf(tensor(gpu, [0, 1])).read()); // [0, 0.8427]
 */
export const erf = (x: Tensor): Tensor =>
  unary('erf', x, 'keep_nan(x, erf(x))', 'keep_nan(x, dy * erf_slope(x))', {
    functions: functionTexts(erfFunction),
    gradientFunctions: functionTexts(erfSlope),
  });

/**
 * The largest whole number not above x. No gradient: it is 0 wherever there is one.
 * @example
 * console.log(await floor(tensor(gpu, [1.5, -1.5])).read()); // [1, -2]
 */
export const floor = (x: Tensor): Tensor => unary('floor', x, rounded('floor(x)'));

/**
 * The smallest whole number not below x. No gradient.
 * @example
 * console.log(await ceil(tensor(gpu, [1.5, -1.5])).read()); // [2, -1]
 */
export const ceil = (x: Tensor): Tensor => unary('ceil', x, rounded('ceil(x)'));

/**
 * The nearest whole number, the even one of two (2.5 gives 2). No gradient.
 * @example
 * console.log(await round(tensor(gpu, [1.4, 2.5])).read()); // [1, 2]
 */
export const round = (x: Tensor): Tensor => unary('round', x, rounded('round(x)'));

/**
 * −1 for x < 0, 1 for x > 0, and ±0 itself. No gradient.
 * @example
 * console.log(await sign(tensor(gpu, [-3, 0, 3])).read()); // [-1, 0, 1]
 */
export const sign = (x: Tensor): Tensor =>
  unary('sign', x, 'keep_nan(x, select(select(x, V(-1.0), x < V(0.0)), V(1.0), x > V(0.0)))');
