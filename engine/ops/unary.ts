// Functions of one number, applied to every element.
import { f32 } from '../../shaders/wgsl.js';
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { elementwise } from './elementwise.js';

/** y = expression of x; the gradient's expression may name dy, x and y. */
function unary(name: string, x: Tensor, expression: string, gradientExpression: string): Tensor {
  const y = elementwise(name, expression, x.shape, { x });
  return record(name, y, [x], (dy) => {
    const all: Record<string, Tensor> = { dy, x, y };
    const used = Object.entries(all).filter(([key]) => new RegExp(`\\b${key}\\b`).test(gradientExpression));
    return [elementwise(`${name}_backward`, gradientExpression, x.shape, Object.fromEntries(used))];
  });
}

/** −x. */
export const neg = (x: Tensor): Tensor => unary('neg', x, '-x', '-dy');

/** e to the power x. */
export const exp = (x: Tensor): Tensor => unary('exp', x, 'exp(x)', 'dy * y');

/** Natural logarithm of x > 0. */
export const log = (x: Tensor): Tensor => unary('log', x, 'log(x)', 'dy / x');

/** Square root of x > 0. */
export const sqrt = (x: Tensor): Tensor => unary('sqrt', x, 'sqrt(x)', 'V(0.5) * dy / y');

/** x². */
export const square = (x: Tensor): Tensor => unary('square', x, 'x * x', 'V(2.0) * dy * x');

/** |x|; its gradient at 0 is 0. */
export const abs = (x: Tensor): Tensor => unary('abs', x, 'abs(x)', 'dy * sign(x)');

/** x limited to [low, high]; its gradient is 0 outside. */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) throw new ShapeError(`clamp: the limits are in the wrong order — got [${low}, ${high}].`);
  const inside = `(x >= V(${f32(low)})) & (x <= V(${f32(high)}))`;
  return unary('clamp', x, `clamp(x, V(${f32(low)}), V(${f32(high)}))`, `select(V(0.0), dy, ${inside})`);
}
