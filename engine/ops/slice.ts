// Slice: a contiguous range along one axis. In rows that hold everything from that axis on, the range is one piece of each row.
import { copyRows, type MovedType, padRows, type Rows } from '../../shaders/slice.js';
import { record } from '../autograd.js';
import { normalizeAxes, ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { type Dtype, empty, type Tensor } from '../tensor.js';

/** How elements move: u8 as words of four, which its rows must fill. */
export function moved(op: string, dtype: Dtype, rows: Rows): { type: MovedType; rows: Rows } {
  if (dtype !== 'u8') return { type: dtype, rows };
  const { length, fromRow, from, toRow, to } = rows;
  if ([length, fromRow, from, toRow, to].some((n) => n % 4)) {
    throw new ShapeError(
      `${op}: u8 moves four elements at a time — got ${length} of ${fromRow} from ${from} to ${to} of ${toRow}. Use another axis.`,
    );
  }
  const words = { length: length / 4, fromRow: fromRow / 4, from: from / 4, toRow: toRow / 4, to: to / 4 };
  return { type: 'u32', rows: { rows: rows.rows, ...words } };
}

/** Elements `first` … `first + count − 1` along `axis`; every other axis whole. */
export function slice(x: Tensor, axis: number, first: number, count: number): Tensor {
  const [at] = normalizeAxes('slice', x.shape.length, axis) as [number];
  const n = x.shape[at]!;
  if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count < 1 || first + count > n) {
    throw new ShapeError(
      `slice: ${count} elements from ${first} along axis ${at} of ${show(x.shape)} — they must lie in [0, ${n}).`,
    );
  }
  const inner = sizeOf(x.shape.slice(at + 1));
  const { type, rows } = moved('slice', x.dtype, {
    rows: sizeOf(x.shape.slice(0, at)),
    length: count * inner,
    fromRow: n * inner,
    from: first * inner,
    toRow: count * inner,
    to: 0,
  });
  const y = empty(x.gpu, x.shape.with(at, count), x.dtype, 'slice');
  run(copyRows(type, rows), { x, y }, { threads: rows.rows * rows.length });

  return record('slice', y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'dSlice');
    run(padRows(type, rows), { dy, dx }, { threads: rows.rows * rows.fromRow });
    return [dx];
  });
}
