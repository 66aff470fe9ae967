// The element type an op computes with: all its floating-point inputs share one.
import type { Float } from '../../shaders/wgsl.js';
import { showValue } from '../arguments.js';
import { ShapeError } from '../shape.js';
import { Tensor } from '../tensor.js';

/** The common type of `xs`, f32 or f16; throws a ShapeError for integers or a mixture. */
export function floatType(op: string, ...xs: readonly Tensor[]): Float {
  expectTensors(op, ...xs);
  const types = xs.map(({ dtype }) => dtype);
  const [first] = types;
  if ((first !== 'f32' && first !== 'f16') || types.some((dtype) => dtype !== first)) {
    throw new ShapeError(`${op}: inputs must all be f32 or all f16 — got ${types.join(', ')}. Convert them first.`);
  }
  return first;
}

/** Throws a ShapeError unless all of these are tensors. */
export function expectTensors(op: string, ...xs: readonly unknown[]): void {
  const other = xs.findIndex((x) => !(x instanceof Tensor));
  if (other < 0) return;
  const which = xs.length > 1 ? `input ${other}` : 'the input';
  throw new ShapeError(
    `${op}: ${which} is ${showValue(xs[other])} — expected a tensor. Make one with tensor(gpu, data).`,
  );
}
