// Arithmetic with numpy's broadcasting. Gradients of operands that were repeated are summed over the repeated axes.
// A JavaScript number as an operand is data, rounded to f32 (any value, infinities and NaN included), so all values share one kernel.
// A captured step freezes it. Integers (u32 or i32) have no gradient.
import { record } from '../autograd.js';
import { broadcastShapes, type Shape, ShapeError, sameShape } from '../shape.js';
import { Tensor, view } from '../tensor.js';
import { elementwise } from './elementwise.js';
import { deferredActivation } from './fusion.js';
import { reduced } from './reduce.js';
import { asOperand } from './typed-elementwise.js';

/** Sums a gradient over the axes along which an operand of `shape` was repeated. */
export function unbroadcast(dy: Tensor, shape: Shape): Tensor {
  if (sameShape(dy.shape, shape)) return dy;
  const extra = dy.shape.length - shape.length;
  const axes = dy.shape.flatMap((n, axis) => (axis < extra || (shape[axis - extra] === 1 && n > 1) ? [axis] : []));
  return view(axes.length ? reduced('sum', dy, axes) : dy, shape);
}

/** A tensor, or a number that is the same everywhere. */
export type Operand = Tensor | number;
type Gradient = (dy: Tensor) => Tensor;

/**
 * y = expression over a and b, which may call `functions`; `gradients` give the gradient of each operand in the shape of y. Where both
 * are u32 or both i32, or a number that fits, y = ofIntegers; '' where there is no such thing.
 */
export function binary(
  name: string,
  a: Operand,
  b: Operand,
  expression: string,
  gradients: { a: Gradient; b: Gradient },
  functions?: (wide: boolean) => string,
  ofIntegers = expression,
): Tensor {
  const entries = Object.entries({ a, b }).filter((entry): entry is ['a' | 'b', Tensor] => {
    const [key, x] = entry;
    if (typeof x === 'number' || x instanceof Tensor) return typeof x !== 'number';
    throw new ShapeError(`${name}: ${key} is ${String(x)} — expected a tensor or a number.`);
  });
  const tensors = entries.map(([, x]) => x);
  const [like, other = like] = tensors;
  if (!like) throw new ShapeError(`${name}: both operands are numbers — expected at least one tensor.`);
  const shape = broadcastShapes(name, like.shape, other!.shape);
  if (ofIntegers && like.dtype === other!.dtype && /[iu]32/.test(like.dtype)) {
    return elementwise(
      name,
      ofIntegers,
      shape,
      { a: asOperand(like, a), b: asOperand(like, b) },
      functions,
      like.dtype,
    );
  }
  const y = elementwise(name, expression, shape, { a, b }, functions);
  return record(name, y, tensors, (dy, needs) =>
    entries.map(([key, x], i) => (needs[i] ? unbroadcast(gradients[key](dy), x.shape) : undefined)),
  );
}

/** A gradient whose launch reads dy and the operands that its expression names. */
export function gradient(
  name: string,
  expression: string,
  a: Operand,
  b: Operand,
  functions?: (wide: boolean) => string,
): Gradient {
  return (dy) => {
    const used = Object.entries({ a, b }).filter(([key]) => new RegExp(`\\b${key}\\b`).test(expression));
    return elementwise(`${name}_backward`, expression, dy.shape, { dy, ...Object.fromEntries(used) }, functions);
  };
}

/**
 * a + b. Integers, u32 or i32, wrap around. Two deferred activations (`normActivation`) are computed as they are added: neither is written.
 * @example
 * console.log(await add(tensor(gpu, [1, 2]), tensor(gpu, [10, 20])).read()); // [11, 22]
 */
export const add = (a: Operand, b: Operand): Tensor =>
  addedActivations(a, b) ?? binary('add', a, b, 'a + b', { a: (dy) => dy, b: (dy) => dy });

/** The sum where both operands are deferred activations of one shape. */
function addedActivations(a: Operand, b: Operand): Tensor | undefined {
  if (!(a instanceof Tensor && b instanceof Tensor)) return undefined;
  const [ofA, ofB] = [deferredActivation(a), deferredActivation(b)];
  if (!ofA || !ofB || ofA.z.storage === ofB.z.storage || !sameShape(a.shape, b.shape)) return undefined;
  return record('add', ofA.add(a, b, ofA, ofB), [a, b], (dy, [needsA, needsB]) => [
    needsA ? dy : undefined,
    needsB ? dy : undefined,
  ]);
}

/**
 * a − b, of integers, too.
 * @example
 * console.log(await sub(tensor(gpu, [1, 2]), 1).read()); // [0, 1]
 */
export const sub = (a: Operand, b: Operand): Tensor =>
  binary('sub', a, b, 'a - b', { a: (dy) => dy, b: gradient('sub', '-dy', a, b) });

/**
 * a · b, elementwise, of integers, too.
 * @example
 * console.log(await mul(tensor(gpu, [1, 2]), tensor(gpu, [10, 20])).read()); // [10, 40]
 */
export const mul = (a: Operand, b: Operand): Tensor =>
  binary('mul', a, b, 'a * b', { a: gradient('mul', 'dy * b', a, b), b: gradient('mul', 'dy * a', a, b) });

/**
 * a / b, elementwise, as IEEE 754 defines it: x/0 is infinite, 0/0 is NaN. Subnormal numbers may count as 0. Integers, u32 or i32, are
 * rounded towards zero; where b is 0 the result is 0, and the number 0 as b is a ShapeError. −2³¹ / −1 wraps around to −2³¹.
 * @example
 * console.log(await div(tensor(gpu, [1, 2]), 4).read()); // [0.25, 0.5]
 */
export function div(a: Operand, b: Operand): Tensor {
  if (b === 0 && a instanceof Tensor && /[iu]32/.test(a.dtype)) {
    throw new ShapeError('div: the divisor of integers is 0 — expected another number.');
  }
  const gradients = {
    a: gradient('div', 'divide(dy, b)', a, b),
    b: gradient('div', 'divisor_gradient(dy, a, b)', a, b),
  };
  return binary('div', a, b, 'divide(a, b)', gradients, undefined, 'select(a / b, V(0), b == V(0))');
}
