// Operations that only integers have. A member is a line. The arithmetic that floats have, too, is in arithmetic.ts and
// powers-and-extrema.ts. Nothing here has a gradient.
import { showValue } from '../arguments.js';
import { ShapeError } from '../shape.js';
import type { Tensor } from '../tensor.js';
import type { Operand } from './arithmetic.js';
import { commonOperands } from './comparisons.js';
import { asOperand, typedElementwise } from './typed-elementwise.js';

/** The expression of two operands of one integer type; T stands for that type in it. Numbers must fit the type. */
function integers(name: string, a: Operand, b: Operand, expression: string, types = ['u32', 'i32']): Tensor {
  const { like, shape } = commonOperands(name, { a, b });
  const { dtype } = like;
  if (!types.includes(dtype)) {
    throw new ShapeError(`${name}: got ${dtype}, expected tensors of ${types.join(' or ')}. Convert them first.`);
  }
  const operands = { a: asOperand(like, a), b: asOperand(like, b) };
  return typedElementwise(name, dtype, expression.replaceAll('T(', `${dtype}(`), shape, operands);
}

const bytesToo = ['u8', 'u32', 'i32'];

/**
 * a − b · div(a, b), u32 or i32: it has the sign of a. Where b is 0 it is a; the number 0 as b is a ShapeError. Tensors of one type, or
 * a tensor and a number that fits; numpy's broadcasting.
 * @example
 * console.log(await remainder(tensor(gpu, [7, 9], [2], { dtype: 'u32' }), 4).read()); // [3, 1]
 */
export function remainder(a: Operand, b: Operand): Tensor {
  if (b === 0) throw new ShapeError('remainder: the divisor is 0 — expected another number.');
  return integers('remainder', a, b, 'select(a % b, a, b == T(0))');
}

/**
 * The bits that a and b both have; u8, u32 or i32, numpy's broadcasting. Of masks as comparisons give them: where both hold.
 * @example
 * console.log(await bitAnd(tensor(gpu, [6, 5], [2], { dtype: 'u32' }), 3).read()); // [2, 1]
 */
export const bitAnd = (a: Operand, b: Operand): Tensor => integers('bitAnd', a, b, 'a & b', bytesToo);

/**
 * The bits that a, b or both have, likewise.
 * @example
 * console.log(await bitOr(tensor(gpu, [6, 5], [2], { dtype: 'u32' }), 3).read()); // [7, 7]
 */
export const bitOr = (a: Operand, b: Operand): Tensor => integers('bitOr', a, b, 'a | b', bytesToo);

/**
 * The bits that one of a and b has, likewise. `bitXor(mask, 1)` turns a mask around, and `bitXor(x, -1)` all bits of an i32.
 * @example
 * console.log(await bitXor(tensor(gpu, [6, 5], [2], { dtype: 'u32' }), 3).read()); // [5, 6]
 */
export const bitXor = (a: Operand, b: Operand): Tensor => integers('bitXor', a, b, 'a ^ b', bytesToo);

function shift(name: string, a: Operand, b: Operand, expression: string): Tensor {
  if (typeof b === 'number' && !(Number.isInteger(b) && b >= 0 && b < 32)) {
    throw new ShapeError(`${name}: got ${showValue(b)} places, expected a whole number from 0 to 31.`);
  }
  return integers(name, a, b, expression);
}

/**
 * The bits of a, u32 or i32, b places higher, with zeros below; 0 where b is negative or above 31.
 * @example
 * console.log(await shiftLeft(tensor(gpu, [6, 5], [2], { dtype: 'u32' }), 1).read()); // [12, 10]
 */
export const shiftLeft = (a: Operand, b: Operand): Tensor =>
  shift('shiftLeft', a, b, 'select(a << (u32(b) & 31u), T(0), u32(b) > 31u)');

/**
 * The bits of a, b places lower, with zeros above, or for i32 copies of its sign; only those where b is negative or above 31.
 * @example
 * console.log(await shiftRight(tensor(gpu, [6, 5], [2], { dtype: 'u32' }), 1).read()); // [3, 2]
 */
export const shiftRight = (a: Operand, b: Operand): Tensor =>
  shift('shiftRight', a, b, '(a >> min(u32(b), 31u)) >> select(0u, 1u, u32(b) > 31u)');
