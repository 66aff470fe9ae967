// Rows of `length` elements between arrays of longer rows: y[row, to + c] = x[row, from + c].  Slice reads from the middle
// of rows, concat writes into the middle, and the gradient of slice pads with zeros.
// One thread per element, or per four where every length and offset is a multiple of four.
import { enable, flatIndex, u32, wgsl } from './wgsl.js';

/** Types that are moved bit for bit; u8 moves as words of u32. */
export type MovedType = 'f32' | 'f16' | 'u32' | 'i32';

export interface Rows {
  readonly rows: number;
  /** Elements moved per row. */
  readonly length: number;
  /** Row length of x, and the offset of the piece in it. */
  readonly fromRow: number;
  readonly from: number;
  /** Row length of y, and the offset of the piece in it. */
  readonly toRow: number;
  readonly to: number;
}

const widthOf = (...lengths: number[]): 1 | 4 => (lengths.every((n) => n % 4 === 0) ? 4 : 1);
const typeOf = (dtype: MovedType, width: number): string => (width === 4 ? `vec4<${dtype}>` : dtype);

export function copyRows(dtype: MovedType, { rows, length, fromRow, from, toRow, to }: Rows): string {
  const width = widthOf(length, fromRow, from, toRow, to);
  const n = (count: number): string => u32(count / width);
  return wgsl`${enable(dtype === 'f16' ? 'f16' : 'f32')}
@group(0) @binding(0) var<storage, read> x: array<${typeOf(dtype, width)}>;
@group(0) @binding(1) var<storage, read_write> y: array<${typeOf(dtype, width)}>;

@compute @workgroup_size(64)
fn copy_rows(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${n(rows * length)}) { return; }
  let row = i / ${n(length)};
  let column = i % ${n(length)};
  y[row * ${n(toRow)} + ${n(to)} + column] = x[row * ${n(fromRow)} + ${n(from)} + column];
}`;
}

/** dx[row, from + c] = dy[row, c], zero elsewhere: x has rows of `fromRow`, dy of `length`. */
export function padRows(
  dtype: MovedType,
  { rows, length, fromRow, from }: Pick<Rows, 'rows' | 'length' | 'fromRow' | 'from'>,
): string {
  const width = widthOf(length, fromRow, from);
  const n = (count: number): string => u32(count / width);
  return wgsl`${enable(dtype === 'f16' ? 'f16' : 'f32')}
@group(0) @binding(0) var<storage, read> dy: array<${typeOf(dtype, width)}>;
@group(0) @binding(1) var<storage, read_write> dx: array<${typeOf(dtype, width)}>;

@compute @workgroup_size(64)
fn pad_rows(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${n(rows * fromRow)}) { return; }
  let row = i / ${n(fromRow)};
  let column = i % ${n(fromRow)} - ${n(from)}; // wraps around before the piece
  var v = ${typeOf(dtype, width)}();
  if (column < ${n(length)}) { v = dy[row * ${n(length)} + column]; }
  dx[i] = v;
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16', 'u32', 'i32'] as const).flatMap((dtype) =>
    [4, 3].flatMap((unit) => {
      const rows = { rows: 5, length: 2 * unit, fromRow: 4 * unit, from: unit, toRow: 8 * unit, to: 3 * unit };
      return [copyRows(dtype, rows), padRows(dtype, rows)];
    }),
  );
