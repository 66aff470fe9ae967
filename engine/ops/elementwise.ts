// The launch behind arithmetic, unary functions and every broadcast: WGSL expressions over named operands. No gradients here.
import { elementwiseLayout, elementwiseShader } from '../../shaders/elementwise.js';
import type { Shape } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/**
 * Launches y = expression over named operands, broadcast to `shape`. The expression is WGSL over the operands' names;
 * `V` is its working type, `result` is taken. Records no gradient.
 */
export function elementwise(name: string, expression: string, shape: Shape, operands: Record<string, Tensor>): Tensor {
  const tensors = Object.values(operands);
  const dtype = floatType(name, ...tensors);
  const y = empty(tensors[0]!.gpu, shape, dtype, name);
  const shapes = Object.fromEntries(Object.entries(operands).map(([key, x]) => [key, x.shape]));
  const layout = elementwiseLayout(shape, shapes);
  const bound = Object.fromEntries(Object.entries(operands).map(([key, x]) => [`${key}_`, x]));
  run(
    elementwiseShader(dtype, `elementwise_${name}`, expression, layout),
    { ...bound, result: y },
    { threads: y.size },
  );
  return y;
}
