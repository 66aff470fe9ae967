// A choice between two operands, element by element. Nothing of the one that is not chosen shows, in value or gradient, even if it is NaN.
import { record } from '../autograd.js';
import { broadcastShapes, ShapeError } from '../shape.js';
import { type Dtype, Tensor } from '../tensor.js';
import { type Operand, unbroadcast } from './arithmetic.js';
import { commonOperands } from './comparisons.js';
import { expectTensors } from './float-type.js';
import { isLabelType } from './labeled-pixels.js';
import { asOperand, typedElementwise } from './typed-elementwise.js';

/**
 * a where `condition` (u8, u32 or i32, as comparisons give) is not 0, else b: tensors of one type or numbers, numpy's broadcasting of
 * all three. Two numbers make an f32 tensor. The gradient goes to the chosen operand alone.
 * @example
 * console.log(await where(tensor(gpu, [1, 0], [2], { dtype: 'u8' }), tensor(gpu, [5, 6]), -1).read()); // [5, -1]
 */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  expectTensors('where', condition);
  if (!isLabelType(condition.dtype)) {
    throw new ShapeError(
      `where: the condition is ${condition.dtype} — expected u8, u32 or i32. Make one with greater(x, 0) or another comparison.`,
    );
  }
  const areNumbers = typeof a === 'number' && typeof b === 'number';
  const { like, shape: ofBoth } = areNumbers ? { like: undefined, shape: [] } : commonOperands('where', { a, b });
  const shape = broadcastShapes('where', condition.shape, ofBoth);
  const dtype: Dtype = like?.dtype ?? 'f32';
  const choose = (p: Operand, q: Operand): Tensor =>
    typedElementwise('choose', dtype, 'select(b, a, condition != 0)', shape, {
      condition,
      a: like ? asOperand(like, p) : p,
      b: like ? asOperand(like, q) : q,
    });
  const chosen = Object.entries({ a, b }).filter((entry): entry is [string, Tensor] => entry[1] instanceof Tensor);
  return record(
    'where',
    choose(a, b),
    chosen.map(([, x]) => x),
    (dy, needs) =>
      chosen.map(([key, x], i) =>
        needs[i] ? unbroadcast(key === 'a' ? choose(dy, 0) : choose(0, dy), x.shape) : undefined,
      ),
  );
}
