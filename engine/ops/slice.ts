// Slice: a range along one axis. In rows that hold everything from that axis on, a contiguous range is one piece of each row; one with
// a step is a map of indices.

import type { MapAxis } from '../../shaders/index-map.js';
import { copyRows, type MovedType, padRows, type Rows } from '../../shaders/slice.js';
import { checkOptions } from '../arguments.js';
import { record } from '../autograd.js';
import { normalizeAxes, ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { type Dtype, empty, type Tensor } from '../tensor.js';
import { expectTensors } from './float-type.js';
import { mapped, plainAxes } from './mapped.js';

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

/** Options of `slice`. */
export interface SliceOptions {
  /** From one element to the next, not 0; a negative step goes backwards. Default 1. */
  readonly step?: number;
}

/**
 * `count` elements from `first` on along `axis`, `step` apart; every other axis whole. Any type. Throws a ShapeError unless all lie in
 * the axis.
 * @example
 * console.log(await slice(tensor(gpu, [1, 2, 3, 4]), 0, 1, 2).read()); // [2, 3]
 */
export function slice(x: Tensor, axis: number, first: number, count: number, options: SliceOptions = {}): Tensor {
  expectTensors('slice', x);
  checkOptions('slice', options, ['step']);
  const { step = 1 } = options;
  const [at] = normalizeAxes('slice', x.shape.length, axis) as [number];
  const n = x.shape[at]!;
  const last = first + (count - 1) * step;
  const areWhole = [first, count, step].every(Number.isInteger) && step !== 0;
  if (!areWhole || first < 0 || count < 1 || first >= n || last < 0 || last >= n) {
    const apart = step === 1 ? '' : `, ${step} apart,`;
    throw new ShapeError(
      `slice: ${count} elements from ${first}${apart} along axis ${at} of ${show(x.shape)} — they must lie in [0, ${n}).`,
    );
  }
  const shape = x.shape.with(at, count);
  const inner = sizeOf(x.shape.slice(at + 1));
  const piece = {
    rows: sizeOf(x.shape.slice(0, at)),
    length: count * inner,
    fromRow: n * inner,
    from: first * inner,
    toRow: count * inner,
    to: 0,
  };
  const inWords = [piece.length, piece.fromRow, piece.from].every((size) => size % 4 === 0);
  if (step !== 1 || (x.dtype === 'u8' && !inWords)) {
    const axes = plainAxes(x.shape).with(at, { size: count, stride: step * inner });
    const back: MapAxis[] = plainAxes(shape).map(({ stride }, k) => ({ size: x.shape[k]!, stride }));
    const rule = { kind: 'constant', before: first, from: count, step } as const;
    return record('slice', mapped('slice', x, shape, { axes, offset: first * inner }), [x], (dy) => [
      mapped('dSlice', dy, x.shape, { axes: back.with(at, { ...back[at]!, rule }), offset: 0 }, 0),
    ]);
  }
  const { type, rows } = moved('slice', x.dtype, piece);
  const y = empty(x.gpu, shape, x.dtype, 'slice');
  run(copyRows(type, rows), { x, y }, { threads: rows.rows * rows.length });

  return record('slice', y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'dSlice');
    run(padRows(type, rows), { dy, dx }, { threads: rows.rows * rows.fromRow });
    return [dx];
  });
}
