// Comparisons: u8, 1 where true. They have no gradient. By the bits, so that no driver's treatment of NaN shows (shaders/typed-elementwise.ts).
import { showValue } from '../arguments.js';
import { broadcastShapes, ShapeError } from '../shape.js';
import { Tensor } from '../tensor.js';
import type { Operand } from './arithmetic.js';
import { asOperand, typedElementwise } from './typed-elementwise.js';

/** The dtype that tensors share, and the shape of their broadcast; throws a ShapeError if there is none of either. */
export function commonOperands(
  op: string,
  operands: Readonly<Record<string, Operand>>,
): { like: Tensor; shape: number[] } {
  const tensors: Tensor[] = [];
  for (const [name, x] of Object.entries(operands)) {
    if (x instanceof Tensor) tensors.push(x);
    else if (typeof x !== 'number') {
      throw new ShapeError(`${op}: ${name} is ${showValue(x)} — expected a tensor or a number.`);
    }
  }
  const [like] = tensors;
  if (!like) throw new ShapeError(`${op}: all operands are numbers — expected at least one tensor.`);
  if (tensors.some(({ dtype }) => dtype !== like.dtype)) {
    const types = tensors.map(({ dtype }) => dtype).join(' and ');
    throw new ShapeError(`${op}: tensors must be of one type — got ${types}. Convert one of them.`);
  }
  return { like, shape: tensors.reduce<number[]>((shape, x) => broadcastShapes(op, shape, x.shape), []) };
}

function compare(name: string, a: Operand, b: Operand, sign: string): Tensor<'u8'> {
  const { like, shape } = commonOperands(name, { a, b });
  const isFloat = like.dtype === 'f32' || like.dtype === 'f16';
  const floats = `!is_nan(a) && !is_nan(b) && ordered(a) ${sign} ordered(b)`;
  const holds = isFloat ? (sign === '!=' ? `!(${floats.replace('!=', '==')})` : floats) : `a ${sign} b`;
  return typedElementwise(`compare_${name}`, 'u8', `select(0u, 1u, ${holds})`, shape, {
    a: asOperand(like, a),
    b: asOperand(like, b),
  });
}

/**
 * Whether a = b, element by element, as u8 0 or 1: tensors of one type or a tensor and a number, numpy's broadcasting. False for NaN.
 * @example
 * console.log(await equal(tensor(gpu, [1, 2]), 2).read()); // [0, 1]
 */
export const equal = (a: Operand, b: Operand): Tensor<'u8'> => compare('equal', a, b, '==');

/**
 * Whether a ≠ b, likewise; true for NaN.
 * @example
 * console.log(await notEqual(tensor(gpu, [1, 2]), 2).read()); // [1, 0]
 */
export const notEqual = (a: Operand, b: Operand): Tensor<'u8'> => compare('notEqual', a, b, '!=');

/**
 * Whether a < b, likewise.
 * @example
 * console.log(await less(tensor(gpu, [1, 2]), 2).read()); // [1, 0]
 */
export const less = (a: Operand, b: Operand): Tensor<'u8'> => compare('less', a, b, '<');

/**
 * Whether a ≤ b, likewise.
 * @example
 * console.log(await lessEqual(tensor(gpu, [1, 2]), 2).read()); // [1, 1]
 */
export const lessEqual = (a: Operand, b: Operand): Tensor<'u8'> => compare('lessEqual', a, b, '<=');

/**
 * Whether a > b, likewise.
 * @example
 * console.log(await greater(tensor(gpu, [1, 2]), 1).read()); // [0, 1]
 */
export const greater = (a: Operand, b: Operand): Tensor<'u8'> => compare('greater', a, b, '>');

/**
 * Whether a ≥ b, likewise.
 * @example
 * console.log(await greaterEqual(tensor(gpu, [1, 2]), 2).read()); // [0, 1]
 */
export const greaterEqual = (a: Operand, b: Operand): Tensor<'u8'> => compare('greaterEqual', a, b, '>=');
