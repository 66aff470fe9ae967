// The element type an op computes with: all its floating-point inputs share one.
import type { Float } from '../../shaders/wgsl.js';
import { ShapeError } from '../shape.js';
import type { Tensor } from '../tensor.js';

/** The common type of `xs`, f32 or f16; throws a ShapeError for integers or a mixture. */
export function floatType(op: string, ...xs: readonly Tensor[]): Float {
  const types = xs.map(({ dtype }) => dtype);
  const [first] = types;
  if ((first !== 'f32' && first !== 'f16') || types.some((dtype) => dtype !== first)) {
    throw new ShapeError(`${op}: inputs must all be f32 or all f16 — got ${types.join(', ')}. Convert them first.`);
  }
  return first;
}
