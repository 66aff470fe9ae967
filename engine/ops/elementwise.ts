// The launch behind arithmetic, unary functions and every broadcast: WGSL expressions over named operands. No gradients here.
import { elementwiseLayout, elementwiseShader } from '../../shaders/elementwise.js';
import type { Shape } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/**
 * Launches y = expression over named operands, broadcast to `shape`. The expression is WGSL over the operands' names;
 * `V` is its working type; the names `result` and `numbers` are reserved. A number as an operand is rounded to f32 and bound as data.
 * `functions` defines what it calls (shaders/functions.ts). Records no gradient.
 */
export function elementwise(
  name: string,
  expression: string,
  shape: Shape,
  all: Readonly<Record<string, Tensor | number>>,
  functions?: (wide: boolean) => string,
): Tensor {
  const operands: Record<string, Tensor> = {};
  const numbers: Record<string, number> = {};
  for (const [key, operand] of Object.entries(all)) {
    if (typeof operand === 'number') numbers[key] = operand;
    else operands[key] = operand;
  }
  const tensors = Object.values(operands);
  const dtype = floatType(name, ...tensors);
  const y = empty(tensors[0]!.gpu, shape, dtype, name);
  const shapes = Object.fromEntries(Object.entries(operands).map(([key, x]) => [key, x.shape]));
  const layout = elementwiseLayout(shape, shapes);
  const bound = Object.fromEntries(Object.entries(operands).map(([key, x]) => [`${key}_`, x]));
  const values = Object.values(numbers);
  run(
    elementwiseShader(dtype, `elementwise_${name}`, expression, layout, Object.keys(numbers), functions),
    { ...bound, result: y, ...(values.length && { numbers: values }) },
    { threads: y.size },
  );
  return y;
}
