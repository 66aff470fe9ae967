// Matrix units (tensor cores) as WGSL's experimental subgroup matrices: C [M, N] += A [M, K] · B [K, N], multiplied by all
// threads of a subgroup together. The emulation puts plain arithmetic in their place, so that tests execute every offset of a
// kernel on adapters without such units.
import type { Float } from '../wgsl.js';

/** A size that an adapter multiplies, and how its subgroups are laid out. Sums are f32. */
export interface MatrixUnit {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  /** Type of A and B. */
  readonly component: Float;
  /** Threads reserved for a subgroup: its size, or the largest possible one where the driver chooses. */
  readonly lanes: number;
  /** Whether the kernel requests subgroups of `lanes` threads. */
  readonly pinned: boolean;
  /** Computes with plain arithmetic instead. */
  readonly emulated?: boolean;
}

/**
 * Where one operand lies in workgroup memory: an array of vectors of 16 bytes, `stride` vectors from row to row (column to
 * column). Vulkan wants rows aligned so.
 */
interface Operand {
  readonly buffer: string;
  readonly stride: number;
  readonly columnMajor?: boolean;
}

/** WGSL for one kernel's matrix products. Offsets are WGSL expressions in vectors; the kernel has `local`, the local index. */
export interface MatrixWords {
  /** First lines of the shader. */
  readonly enable: string;
  /** Functions, after the declarations of the buffers. */
  readonly functions: string;
  /** Type of C; a `var` of this type starts at 0. */
  readonly sum: string;
  /** Attribute of the entry point. */
  readonly attribute: string;
  left(offset: string): string;
  right(offset: string): string;
  multiply(a: string, b: string, c: string): string;
  /** A statement that writes C row by row, `sumRow` vectors each, to `scratch`, an array of vec4f. */
  store(offset: string, c: string): string;
}

/** Vectors from row to row of a stored C, and those of all its rows: one more than a row has, which spreads rows over the banks. */
export const sumRow = ({ N }: MatrixUnit): number => N / 4 + 1;
export const sumRoom = (unit: MatrixUnit): number => unit.M * sumRow(unit);

export function matrixWords(
  unit: MatrixUnit,
  { left, right, scratch, f16 }: { left: Operand; right: Operand; scratch: string; f16: boolean },
): MatrixWords {
  const { M, N, K, component, lanes, emulated = false } = unit;
  const half = f16 || component === 'f16' ? 'enable f16;\n' : '';
  const order = ({ columnMajor = false }: Operand): string => (columnMajor ? 'col_major' : 'row_major');
  if (!emulated) {
    const load = (type: string, operand: Operand, offset: string): string =>
      `subgroupMatrixLoad<${type}, ${order(operand)}>(&${operand.buffer}, ${offset}, ${operand.stride})`;
    return {
      enable: `diagnostic(off, chromium.subgroup_matrix_uniformity);
${half}enable subgroups;
enable chromium_experimental_subgroup_matrix;
${unit.pinned ? 'enable subgroup_size_control;' : ''}`,
      functions: '',
      sum: `subgroup_matrix_result<f32, ${N}, ${M}>`,
      attribute: unit.pinned ? `@subgroup_size(${unit.lanes})` : '',
      left: (offset) => load(`subgroup_matrix_left<${component}, ${K}, ${M}>`, left, offset),
      right: (offset) => load(`subgroup_matrix_right<${component}, ${N}, ${K}>`, right, offset),
      multiply: (a, b, c) => `subgroupMatrixMultiplyAccumulate(${a}, ${b}, ${c})`,
      store: (offset, c) => `subgroupMatrixStore<row_major>(&${scratch}, ${offset}, ${c}, ${sumRow(unit)});`,
    };
  }
  // As in a unit, each lane holds some elements of C. A and B are read in place: no thread overwrites them before the next barrier.
  const own = Math.ceil((M * N) / 4 / lanes);
  const C = `array<vec4f, ${own}>`;
  const at = ({ buffer, stride, columnMajor }: Operand, offset: string, row: string, column: string): string => {
    const [major, minor] = columnMajor ? [column, row] : [row, column];
    return component === 'f16'
      ? `unpack2x16float(${buffer}[${offset} + ${major} * ${stride} + ${minor} / 8][${minor} % 8 / 2])[${minor} % 2]`
      : `${buffer}[${offset} + ${major} * ${stride} + ${minor} / 4][${minor} % 4]`;
  };
  return {
    enable: half,
    functions: `
fn multiply(a: i32, b: i32, c: ${C}, lane: i32) -> ${C} {
  var sum = c;
  for (var e = 0; e < ${own}; e++) {
    let row = (e * ${lanes} + lane) / ${N / 4};
    let column = (e * ${lanes} + lane) % ${N / 4} * 4;
    if (row < ${M}) {
      for (var k = 0; k < ${K}; k++) {
        sum[e] += ${at(left, 'a', 'row', 'k')} * vec4f(${[0, 1, 2, 3].map((n) => at(right, 'b', 'k', `(column + ${n})`)).join(', ')});
      }
    }
  }
  return sum;
}
fn store_sum(offset: i32, c: ${C}, lane: i32) {
  var sum = c;
  for (var e = 0; e < ${own}; e++) {
    let row = (e * ${lanes} + lane) / ${N / 4};
    if (row < ${M}) { ${scratch}[offset + row * ${sumRow(unit)} + (e * ${lanes} + lane) % ${N / 4}] = sum[e]; }
  }
}`,
    sum: C,
    attribute: '',
    left: (offset) => offset,
    right: (offset) => offset,
    multiply: (a, b, c) => `multiply(${a}, ${b}, ${c}, local % ${lanes})`,
    store: (offset, c) => `store_sum(${offset}, ${c}, local % ${lanes});`,
  };
}

/** Parameter of the entry point that gives the subgroup size; empty where the size is fixed. */
export const subgroupSize = (unit: MatrixUnit): string =>
  unit.pinned || unit.emulated ? '' : ', @builtin(subgroup_size) size: u32';
/** The subgroup size, as an expression. */
export const laneCount = (unit: MatrixUnit): string => (unit.pinned || unit.emulated ? `${unit.lanes}` : 'i32(size)');

/** Components of a vector of 16 bytes, which operands are staged in, and its type; halves lie in pairs, the lower one first. */
export const vectorWidth = (component: Float): 4 | 8 => (component === 'f16' ? 8 : 4);
export const vectorType = (component: Float): string => (component === 'f16' ? 'vec4u' : 'vec4f');

/** Vectors from row to row in workgroup memory: one of padding keeps rows off each other's banks. */
export const rowOf = (component: Float, components: number): number => components / vectorWidth(component) + 1;

/** Sizes that adapters are known to list (NVIDIA and AMD, NVIDIA, Intel, Apple), subgroups pinned or not; `variants` validates them. */
export const knownUnits: readonly MatrixUnit[] = [
  { M: 16, N: 16, K: 16, component: 'f16', lanes: 32, pinned: true },
  { M: 16, N: 8, K: 16, component: 'f16', lanes: 32, pinned: true },
  { M: 16, N: 8, K: 8, component: 'f16', lanes: 32, pinned: true },
  { M: 8, N: 16, K: 16, component: 'f16', lanes: 32, pinned: true },
  { M: 8, N: 8, K: 8, component: 'f16', lanes: 128, pinned: false },
  { M: 8, N: 8, K: 8, component: 'f32', lanes: 32, pinned: true },
];
