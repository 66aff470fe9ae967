// Each input is copied into its slot of the result: one launch an input. Uses the kernels of shaders/slice.ts.
import { copyRows } from '../../shaders/slice.js';
import { record } from '../autograd.js';
import { normalizeAxes, ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { moved, slice } from './slice.js';

/** The inputs one after another along `axis`; all other sizes and the element types must agree. */
export function concat(xs: readonly Tensor[], axis: number): Tensor {
  const [first] = xs;
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
  xs.forEach((x, i) => {
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

  return record('concat', y, xs, (dy, needs) =>
    xs.map((_, i) => (needs[i] ? slice(dy, at, starts[i]!, counts[i]!) : undefined)),
  );
}
