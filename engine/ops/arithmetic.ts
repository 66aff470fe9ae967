// Arithmetic with numpy's broadcasting. Gradients of operands that were repeated are summed over the repeated axes.
// A JavaScript number as an operand is frozen into the kernel.
import { f32 } from '../../shaders/wgsl.js';
import { record } from '../autograd.js';
import { broadcastShapes, type Shape, ShapeError, sameShape } from '../shape.js';
import { type Tensor, view } from '../tensor.js';
import { elementwise } from './elementwise.js';
import { reduced } from './reduce.js';

/** Sums a gradient over the axes along which an operand of `shape` was repeated. */
function unbroadcast(dy: Tensor, shape: Shape): Tensor {
  if (sameShape(dy.shape, shape)) return dy;
  const extra = dy.shape.length - shape.length;
  const axes = dy.shape.flatMap((n, axis) => (axis < extra || (shape[axis - extra] === 1 && n > 1) ? [axis] : []));
  return view(axes.length ? reduced('sum', dy, axes) : dy, shape);
}

/** A tensor, or a number that is the same everywhere. */
export type Operand = Tensor | number;
type Gradient = (dy: Tensor, y: Tensor) => Tensor;

/** y = expression over a and b; `gradients` give the full-shape gradient of either. */
function binary(
  name: string,
  a: Operand,
  b: Operand,
  expression: string,
  gradients: { a: Gradient; b: Gradient },
): Tensor {
  const operands: Record<string, Tensor> = {};
  if (typeof a !== 'number') operands.a = a;
  if (typeof b !== 'number') operands.b = b;
  const entries = Object.entries(operands) as ['a' | 'b', Tensor][];
  if (!entries.length) throw new ShapeError(`${name}: both operands are numbers — expected at least one tensor.`);
  const tensors = entries.map(([, x]) => x);
  const shape = tensors.length === 2 ? broadcastShapes(name, tensors[0]!.shape, tensors[1]!.shape) : tensors[0]!.shape;
  const y = elementwise(name, withNumbers(expression, a, b), shape, operands);
  return record(name, y, tensors, (dy, needs) =>
    entries.map(([key, x], i) => (needs[i] ? unbroadcast(gradients[key](dy, y), x.shape) : undefined)),
  );
}

/** The expression with the literals of operands that are numbers. */
const withNumbers = (expression: string, a: Operand, b: Operand): string =>
  expression.replace(/\b[ab]\b/g, (name) => {
    const operand = name === 'a' ? a : b;
    return typeof operand === 'number' ? `V(${f32(operand)})` : name;
  });

/** A gradient whose launch reads dy and whichever tensors its expression names. */
function gradient(name: string, expression: string, a: Operand, b: Operand): Gradient {
  return (dy) => {
    const operands: Record<string, Tensor> = { dy };
    if (typeof a !== 'number' && /\ba\b/.test(expression)) operands.a = a;
    if (typeof b !== 'number' && /\bb\b/.test(expression)) operands.b = b;
    return elementwise(`${name}_backward`, withNumbers(expression, a, b), dy.shape, operands);
  };
}

/** a + b. */
export const add = (a: Operand, b: Operand): Tensor => binary('add', a, b, 'a + b', { a: (dy) => dy, b: (dy) => dy });

/** a − b. */
export const sub = (a: Operand, b: Operand): Tensor =>
  binary('sub', a, b, 'a - b', { a: (dy) => dy, b: gradient('sub', '-dy', a, b) });

/** a · b, elementwise. */
export const mul = (a: Operand, b: Operand): Tensor =>
  binary('mul', a, b, 'a * b', { a: gradient('mul', 'dy * b', a, b), b: gradient('mul', 'dy * a', a, b) });

/** a / b, elementwise. */
export const div = (a: Operand, b: Operand): Tensor =>
  binary('div', a, b, 'a / b', { a: gradient('div', 'dy / b', a, b), b: gradient('div', '-dy * a / (b * b)', a, b) });
