// The launch behind arithmetic, unary functions and every broadcast: WGSL expressions over named operands. No gradients here.
import { elementwiseLayout, elementwiseShader } from '../../shaders/elementwise.js';
import type { Shape } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/**
 * Launches y = expression over named operands, broadcast to `shape`. The expression is WGSL over the operands' names;
 * `V` is its working type; the names `result` and `numbers` are reserved. A number as an operand is rounded to f32 and bound as data.
 * `functions` defines what it calls (shaders/functions.ts). Operands are floats, or all tensors of the integer `type`. Records no gradient.
 */
export function elementwise(
  name: string,
  expression: string,
  shape: Shape,
  all: Readonly<Record<string, Tensor | number>>,
  functions?: (wide: boolean) => string,
  type?: 'i32' | 'u32',
): Tensor {
  const bound: Record<string, Tensor> = {};
  const shapes: Record<string, Shape> = {};
  const numbers: Record<string, number> = {};
  for (const [key, operand] of Object.entries(all)) {
    if (typeof operand === 'number') numbers[key] = operand;
    else {
      bound[`${key}_`] = operand;
      shapes[key] = operand.shape;
    }
  }
  const tensors = Object.values(bound);
  const dtype = type ?? floatType(name, ...tensors);
  const y = empty(tensors[0]!.gpu, shape, dtype, name);
  const layout = elementwiseLayout(shape, shapes);
  const values = Object.values(numbers);
  run(
    elementwiseShader(dtype, `elementwise_${name}`, expression, layout, Object.keys(numbers), functions),
    { ...bound, result: y, ...(values.length && { numbers: values }) },
    { threads: y.size },
  );
  return y;
}
