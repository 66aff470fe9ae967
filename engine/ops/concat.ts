// Concatenation. Along the last axis, a deferred input is computed straight into its slot of the result; other inputs are copied
// there, one launch each (the kernels of shaders/slice.ts). Gradients stay in their slots until an op needs them contiguous.
import { copyRows } from '../../shaders/slice.js';
import { showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { normalizeAxes, ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors } from './float-type.js';
import { deferredWriter, deferSlot } from './fusion.js';
import { moved, slice } from './slice.js';

/**
 * The inputs one after another along `axis`; all other sizes and the element types must agree.
 * @example
 * console.log(await concat([tensor(gpu, [1, 2]), tensor(gpu, [3])], 0).read()); // [1, 2, 3]
 */
export function concat(xs: readonly Tensor[], axis: number): Tensor {
  if (!Array.isArray(xs as unknown)) {
    throw new ShapeError(
      `concat: the inputs are ${showValue(xs)} — expected an array of tensors. Write concat([a, b], axis).`,
    );
  }
  expectTensors('concat', ...xs);
  if (typeof axis !== 'number')
    throw new ShapeError(`concat: the axis is ${showValue(axis)} — expected a number, −1 for the last.`);
  const [first]: readonly Tensor[] = xs;
  if (!first) throw new ShapeError('concat: no inputs — expected at least one.');
  const [at] = normalizeAxes('concat', first.shape.length, axis) as [number];
  for (const x of xs) {
    const fits = x.shape.length === first.shape.length && x.shape.every((n, i) => i === at || n === first.shape[i]);
    if (!fits || x.dtype !== first.dtype) {
      throw new ShapeError(
        `concat: along axis ${at}, got ${first.dtype} ${show(first.shape)} and ${x.dtype} ${show(x.shape)}. All other sizes must match.`,
      );
    }
  }
  const counts = xs.map((x) => x.shape[at]!);
  const total = counts.reduce((sum, n) => sum + n, 0);
  const starts = counts.map((_, i) => counts.slice(0, i).reduce((sum, n) => sum + n, 0));
  const inner = sizeOf(first.shape.slice(at + 1));
  const y = empty(first.gpu, first.shape.with(at, total), first.dtype, 'concat');
  const last = at === first.shape.length - 1 && first.gpu.flags.fuse;
  const aligned = counts.every((n) => n % 4 === 0);
  xs.forEach((x, i) => {
    const write = last && aligned ? deferredWriter(x) : undefined;
    if (write) {
      write({ source: y, row: total, offset: starts[i]! });
      return;
    }
    const length = counts[i]! * inner;
    const { type, rows } = moved('concat', x.dtype, {
      rows: sizeOf(x.shape.slice(0, at)),
      length,
      fromRow: length,
      from: 0,
      toRow: total * inner,
      to: starts[i]! * inner,
    });
    run(copyRows(type, rows), { x, y }, { threads: rows.rows * rows.length });
  });

  const gradient = (dy: Tensor, i: number): Tensor => {
    if (!(last && aligned)) return slice(dy, at, starts[i]!, counts[i]!);
    const dx = empty(first.gpu, xs[i]!.shape, first.dtype, 'dConcat');
    return deferSlot(dx, { source: dy, row: total, offset: starts[i]! }, () => {
      const [count, from] = [counts[i]!, starts[i]!];
      const rows = { rows: dy.size / total, length: count, fromRow: total, from, toRow: count, to: 0 };
      const { type } = moved('concat', dy.dtype, rows);
      run(copyRows(type, rows), { x: dy, y: dx }, { threads: dx.size });
    });
  };
  return record('concat', y, xs, (dy, needs) => xs.map((_, i) => (needs[i] ? gradient(dy, i) : undefined)));
}
