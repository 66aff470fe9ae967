// The launch behind comparisons and choices: an expression over operands of different types. No gradients here.
import { elementwiseLayout } from '../../shaders/elementwise.js';
import { typedElementwiseShader } from '../../shaders/typed-elementwise.js';
import type { Shape } from '../shape.js';
import { run } from '../stream.js';
import { type Dtype, empty, Tensor, tensor } from '../tensor.js';

/** Threads of a launch that stores elements one by one, bytes four at a time. */
export const threadsFor = (y: Tensor): number => (y.dtype === 'u8' ? Math.ceil(y.size / 4) : y.size);

/** A number beside operands of integer type becomes one of them; ShapeError if the type cannot hold it. */
export const asOperand = (like: Tensor, operand: Tensor | number): Tensor | number =>
  typeof operand === 'number' && /[iu]/.test(like.dtype)
    ? tensor(like.gpu, operand, [], { dtype: like.dtype, label: 'number' })
    : operand;

/** Launches y = expression over named operands, broadcast to `shape`, y of type `dtype`. Numbers are f32 and bound as data. */
export function typedElementwise(
  name: string,
  dtype: Dtype,
  expression: string,
  shape: Shape,
  all: Readonly<Record<string, Tensor | number>>,
): Tensor {
  const tensors = Object.entries(all).filter((entry): entry is [string, Tensor] => entry[1] instanceof Tensor);
  const numbers = Object.entries(all).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
  const y = empty(tensors[0]![1].gpu, shape, dtype, name);
  const source = typedElementwiseShader(
    name,
    dtype,
    expression,
    elementwiseLayout(shape, Object.fromEntries(tensors.map(([key, x]) => [key, x.shape]))),
    Object.fromEntries(tensors.map(([key, x]) => [key, x.dtype])),
    numbers.map(([key]) => key),
  );
  const bound = Object.fromEntries(tensors.map(([key, x]) => [`${key}_`, x]));
  run(
    source,
    { ...bound, result: y, ...(numbers.length && { numbers: numbers.map(([, n]) => n) }) },
    { threads: threadsFor(y) },
  );
  return y;
}
