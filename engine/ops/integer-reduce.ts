// Reductions of integers over axes. No gradients here.
import { type IntegerReduction, integerReduceShader } from '../../shaders/integer-reduce.js';
import { sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, view } from '../tensor.js';
import { cast } from './cast.js';

/**
 * The reduction of x, u8, u32 or i32, over `axes` (sorted, not negative), which remain with size 1. Sums and products of u8 are u32, all
 * others have the type of x.
 */
export function reducedIntegers(kind: IntegerReduction['kind'], x: Tensor, axes: readonly number[]): Tensor {
  const shape = [...x.shape];
  let y = x;
  const reduce = (outer: number, count: number, inner: number): void => {
    const splits = Math.ceil(count / 64);
    const part = empty(x.gpu, [outer, splits, inner], y.dtype === 'i32' ? 'i32' : 'u32', kind);
    run(
      integerReduceShader({ kind, type: y.dtype, outer, count, inner, splits }),
      { x: y, y: part },
      { threads: part.size },
    );
    y = part;
    if (splits > 1) reduce(outer, splits, inner);
  };
  for (const axis of [...axes].reverse()) {
    reduce(sizeOf(shape.slice(0, axis)), shape[axis]!, sizeOf(shape.slice(axis + 1)));
    shape[axis] = 1;
  }
  if (!axes.length) reduce(1, 1, x.size); // a copy
  y = view(y, shape);
  return kind === 'max' || kind === 'min' ? cast(y, x.dtype) : y;
}
