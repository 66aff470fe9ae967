// Where a NIfTI header puts its voxels: pixdim, qform and sform read from the header's bytes in mm, whatever its unit; the affine
// that counts; and the same written back. The order is nibabel's: sform where its code is set and it has an inverse, else qform, else the voxel size.
import type { Refuse } from '../files/data-error.js';

/** A header as it was in the file. */
export interface RawHeader {
  readonly version: 1 | 2;
  readonly littleEndian: boolean;
  /** 348 or 540 bytes. */
  readonly bytes: Uint8Array;
}

/** The fields that place voxels in the world, lengths in mm. */
export interface Geometry {
  /** pixdim[0] is the qform's handedness, 1 to 3 the voxel size. */
  readonly pixdim: readonly number[];
  readonly qformCode: number;
  readonly sformCode: number;
  /** b, c, d. */
  readonly quaternion: readonly [number, number, number];
  readonly offset: readonly [number, number, number];
  /** The sform's three rows. */
  readonly srow: readonly number[];
}

/** The geometry in a header's own bytes; metres and micrometres become mm, and what has no unit counts as mm. */
export function readGeometry({ version, littleEndian, bytes }: RawHeader): Geometry {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const numbers = (at: number, count: number) =>
    Array.from({ length: count }, (_, i) =>
      version === 1 ? view.getFloat32(at + 4 * i, littleEndian) : view.getFloat64(at + 8 * i, littleEndian),
    );
  const first = version === 1;
  const units = first ? bytes[123]! : view.getInt32(500, littleEndian);
  const mm = { 1: 1000, 3: 0.001 }[units & 7] ?? 1;
  const inMm = (values: readonly number[]) => (mm === 1 ? values : values.map((value) => value * mm));
  const placed = numbers(first ? 256 : 352, 6);
  const [qfac, ...sizes] = numbers(first ? 76 : 104, 8) as [number, ...number[]];
  return {
    pixdim: [qfac, ...inMm(sizes.slice(0, 3)), ...sizes.slice(3)],
    qformCode: first ? view.getInt16(252, littleEndian) : view.getInt32(344, littleEndian),
    sformCode: first ? view.getInt16(254, littleEndian) : view.getInt32(348, littleEndian),
    quaternion: placed.slice(0, 3) as [number, number, number],
    offset: inMm(placed.slice(3)) as [number, number, number],
    srow: inMm(numbers(first ? 280 : 400, 12)),
  };
}

/** Whether an sform's matrix has an inverse; one of zeros, or of two equal columns, places nothing. */
function isInvertible(srow: readonly number[]): boolean {
  const [a, b, c, , d, e, f, , g, h, i] = srow as [number, ...number[]] as number[];
  const determinant = a! * (e! * i! - f! * h!) - b! * (d! * i! - f! * g!) + c! * (d! * h! - e! * g!);
  const sides = [0, 1, 2].map((axis) => Math.hypot(srow[axis]!, srow[axis + 4]!, srow[axis + 8]!));
  // What is not finite is no singular matrix but a damaged header: affineOf says so.
  return !(Math.abs(determinant) <= 1e-6 * sides[0]! * sides[1]! * sides[2]!);
}

/** Which of its fields place a header's voxels. */
export function placementOf({ sformCode, qformCode, srow }: Geometry): 'sform' | 'qform' | 'none' {
  if (sformCode > 0 && isInvertible(srow)) return 'sform';
  return qformCode > 0 ? 'qform' : 'none';
}

const isSize = (mm: number): boolean => Number.isFinite(mm) && mm !== 0;
const round = (value: number): string => String(Number(value.toPrecision(4)));

/**
 * Voxel sizes in mm: pixdim where it says one, else the side in the sform, else 1; and what had to be made up or looks wrong, a
 * sentence each. Axes of one voxel need no size.
 */
export function voxelSizes(geometry: Geometry, shape: readonly number[]): { sizes: number[]; notes: string[] } {
  const { pixdim, srow, sformCode } = geometry;
  const placement = placementOf(geometry);
  const notes: string[] = [];
  if (sformCode > 0 && placement !== 'sform') {
    const instead = placement === 'qform' ? 'the qform' : 'the voxel size (pixdim)';
    notes.push(`its sform has no inverse and counts as none: ${instead} places the voxels`);
  }
  const missing: { axis: string; written: number; size: number; isSide: boolean }[] = [];
  const sizes = [0, 1, 2].map((axis) => {
    const written = pixdim[axis + 1]!;
    if (isSize(written)) return Math.abs(written);
    const side = placement === 'sform' ? Math.hypot(srow[axis]!, srow[axis + 4]!, srow[axis + 8]!) : 0;
    const size = isSize(side) ? side : 1;
    if (shape[axis]! > 1) missing.push({ axis: 'xyz'[axis]!, written, size, isSide: isSize(side) });
    return size;
  });
  for (const isSide of [true, false]) {
    const alike = missing.filter((each) => each.isSide === isSide);
    const all = (of: (each: (typeof missing)[0]) => string) => alike.map(of).join(', ');
    const from = isSide ? 'taken from its sform' : 'made up';
    if (alike.length) {
      notes.push(
        `its voxel size (pixdim) along ${all(({ axis }) => axis)} is ${all(({ written }) => `${written}`)}: ${all(({ size }) => round(size))} mm is ${from}`,
      );
    }
  }
  if (sizes.some((mm, axis) => shape[axis]! > 1 && (mm < 0.01 || mm > 100))) {
    const shown = sizes.map(round).join('×');
    notes.push(`its voxels are ${shown} mm, which no scanner makes: is its unit (xyzt_units) wrong?`);
  }
  return { sizes, notes };
}

/** 4×4 row-major, voxel indices to mm; `refuse` is called where there is none. */
export function affineOf(geometry: Geometry, refuse: Refuse): number[] {
  const placement = placementOf(geometry);
  let affine: readonly number[];
  if (placement === 'sform') {
    affine = geometry.srow;
  } else if (placement === 'qform') {
    affine = fromQuaternion(geometry, refuse);
  } else {
    const [dx, dy, dz] = [1, 2, 3].map((axis) => (isSize(geometry.pixdim[axis]!) ? geometry.pixdim[axis]! : 1));
    affine = [dx!, 0, 0, 0, 0, dy!, 0, 0, 0, 0, dz!, 0];
  }
  if (!affine.every(Number.isFinite)) refuse(`the affine is not finite — got [${affine}]. The header is damaged.`);
  return [...affine, 0, 0, 0, 1];
}

/** The first three rows of the qform's affine. */
function fromQuaternion({ quaternion, pixdim, offset }: Geometry, refuse: Refuse): number[] {
  let [b, c, d] = quaternion;
  const norm = b * b + c * c + d * d;
  if (!(norm <= 1 + 1e-4))
    refuse(`the qform's quaternion is not a rotation — got [${[b, c, d]}]. Set an sform instead.`);
  let a = 0;
  if (1 - norm < 1e-7) {
    // A half turn whose b, c, d came out a little too long by rounding.
    const length = Math.sqrt(norm);
    [b, c, d] = [b / length, c / length, d / length];
  } else {
    a = Math.sqrt(1 - norm);
  }
  const [dx, dy, dz] = [1, 2, 3].map((axis) => (isSize(pixdim[axis]!) ? Math.abs(pixdim[axis]!) : 1)) as [
    number,
    number,
    number,
  ];
  const k = pixdim[0]! < 0 ? -dz : dz; // qfac
  const [x, y, z] = offset;
  return [
    ...[(a * a + b * b - c * c - d * d) * dx, 2 * (b * c - a * d) * dy, 2 * (b * d + a * c) * k, x],
    ...[2 * (b * c + a * d) * dx, (a * a + c * c - b * b - d * d) * dy, 2 * (c * d - a * b) * k, y],
    ...[2 * (b * d - a * c) * dx, 2 * (c * d + a * b) * dy, (a * a + d * d - b * b - c * c) * k, z],
  ];
}

/** What other programs may read differently in a header: an sform and a qform that disagree, slanted axes, sizes that do not match. */
export function geometryProblems(header: RawHeader): string[] {
  const geometry = readGeometry(header);
  const refuse = (what: string): never => {
    throw new Error(what);
  };
  const { qformCode, pixdim } = geometry;
  const placement = placementOf(geometry);
  if (placement === 'none') return ['it has neither sform nor qform: left and right are a guess'];
  const problems: string[] = [];
  const affine = affineOf(geometry, refuse);
  const column = (axis: number) => [affine[axis]!, affine[axis + 4]!, affine[axis + 8]!];
  const lengths = [0, 1, 2].map((axis) => Math.hypot(...column(axis)));
  const cosine = (a: number, b: number) =>
    Math.abs(column(a).reduce((sum, v, i) => sum + v * column(b)[i]!, 0)) / (lengths[a]! * lengths[b]!);
  if (![cosine(0, 1), cosine(0, 2), cosine(1, 2)].every((value) => value < 1e-3)) {
    problems.push('its axes are not at right angles: ITK refuses it');
  }
  if (
    lengths.some(
      (length, axis) => isSize(pixdim[axis + 1]!) && Math.abs(length - Math.abs(pixdim[axis + 1]!)) > 0.01 * length,
    )
  ) {
    const [sizes, sides] = [pixdim.slice(1, 4), lengths].map((all) =>
      all.map((v) => Number(v.toPrecision(4))).join('×'),
    );
    problems.push(
      `its voxel size (pixdim) is ${sizes}, that of its affine ${sides}; distances are measured with the first`,
    );
  }
  if (placement === 'sform' && qformCode > 0) {
    let qform: number[] | undefined;
    try {
      qform = fromQuaternion(geometry, refuse);
    } catch {
      problems.push('its qform is no rotation: programs that prefer the qform cannot place it');
    }
    const size = Math.max(...lengths);
    if (qform?.some((v, i) => Math.abs(v - affine[i]!) > 0.01 * size)) {
      problems.push('its sform and its qform disagree: programs that prefer the qform see it elsewhere');
    }
  }
  return problems;
}

// [first byte, bytes per field, fields] of dim_info, pixdim, xyzt_units, qform and sform codes, quaternion, offsets, srow.
const geometryFields = {
  1: [
    [39, 1, 1],
    [76, 4, 8],
    [123, 1, 1],
    [252, 2, 2],
    [256, 4, 6],
    [280, 4, 12],
  ],
  2: [
    [104, 8, 8],
    [344, 4, 2],
    [352, 8, 6],
    [400, 8, 12],
    [500, 4, 1],
    [524, 1, 1],
  ],
} as const;

/** Copies pixdim, units, qform and sform bit for bit into a little-endian header of the same version. */
export function copyGeometry(from: RawHeader, to: Uint8Array): void {
  for (const [first, width, count] of geometryFields[from.version]) {
    for (let field = 0; field < count; field++) {
      const at = first + field * width;
      const source = from.bytes.slice(at, at + width);
      to.set(from.littleEndian ? source : source.reverse(), at);
    }
  }
}

/** Writes pixdim, an sform, and the same as a qform where the axes are orthogonal (ITK reads nothing else). */
export function writeGeometry(view: DataView, spacing: readonly number[], given?: readonly number[]): void {
  const [dx = 1, dy = 1, dz = 1] = spacing;
  const affine = given ?? [dx, 0, 0, 0, 0, dy, 0, 0, 0, 0, dz, 0, 0, 0, 0, 1];
  const float32 = (at: number, values: readonly number[]) => {
    for (const [i, value] of values.entries()) view.setFloat32(at + 4 * i, value, true);
  };
  const quaternion = toQuaternion(affine);
  float32(76, [quaternion?.qfac ?? 1, dx, dy, dz, 1, 1, 1, 1]);
  view.setUint8(123, 2); // mm
  view.setInt16(252, quaternion ? 1 : 0, true);
  view.setInt16(254, 1, true);
  if (quaternion) float32(256, [...quaternion.bcd, affine[3]!, affine[7]!, affine[11]!]);
  float32(280, affine.slice(0, 12));
}

/** b, c, d with a ≥ 0 and qfac of the rotation in an affine (nifti1_io's quaternion convention); undefined if sheared. */
function toQuaternion(affine: readonly number[]): { bcd: [number, number, number]; qfac: number } | undefined {
  const column = (j: number) => [affine[j]!, affine[j + 4]!, affine[j + 8]!];
  const unit = [0, 1, 2].map((j) => {
    const length = Math.hypot(...column(j));
    return column(j).map((v) => v / length);
  });
  const dot = (p: number[], q: number[]) => p[0]! * q[0]! + p[1]! * q[1]! + p[2]! * q[2]!;
  const [p, q, r] = unit as [number[], number[], number[]];
  if (![dot(p, q), dot(p, r), dot(q, r)].every((cosine) => Math.abs(cosine) < 1e-4)) return undefined;
  const cross = [p[1]! * q[2]! - p[2]! * q[1]!, p[2]! * q[0]! - p[0]! * q[2]!, p[0]! * q[1]! - p[1]! * q[0]!];
  const qfac = dot(cross, r) < 0 ? -1 : 1;
  const [[r11, r21, r31], [r12, r22, r32], [r13, r23, r33]] = [p, q, r.map((v) => v * qfac)] as [
    [number, number, number],
    [number, number, number],
    [number, number, number],
  ];
  // The largest of a², b², c², d² is the safe one to divide by.
  const squares = [1 + r11 + r22 + r33, 1 + r11 - r22 - r33, 1 - r11 + r22 - r33, 1 - r11 - r22 + r33];
  const largest = squares.indexOf(Math.max(...squares));
  const s = 2 * Math.sqrt(squares[largest]!); // 4 × the largest component
  const [a, b, c, d] = [
    [s / 4, (r32 - r23) / s, (r13 - r31) / s, (r21 - r12) / s],
    [(r32 - r23) / s, s / 4, (r12 + r21) / s, (r13 + r31) / s],
    [(r13 - r31) / s, (r12 + r21) / s, s / 4, (r23 + r32) / s],
    [(r21 - r12) / s, (r13 + r31) / s, (r23 + r32) / s, s / 4],
  ][largest] as [number, number, number, number];
  const sign = a < 0 ? -1 : 1;
  return { bcd: [b * sign, c * sign, d * sign], qfac };
}
