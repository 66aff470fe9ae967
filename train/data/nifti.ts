// The bytes of NIfTI-1/2 single files, to a volume and back; nifti-file.ts reads and writes the files. nifti-reader-js decodes header
// fields from the header's own bytes only, so it never walks extensions; sizes, byte order and scaling are ours (where the voxels lie:
// nifti-geometry.ts), checked before any allocation.
import { NIFTI1, NIFTI2 } from 'nifti-reader-js';
import { DataError, type Refuse } from '../files/data-error.js';
import { isGzip, notNifti, pairAdvice } from './file-format.js';
import { type NanPolicy, withoutNan } from './intensity.js';
import {
  affineOf,
  copyGeometry,
  placementOf,
  type RawHeader,
  readGeometry,
  voxelSizes,
  writeGeometry,
} from './nifti-geometry.js';

/** A volume in memory: x runs fastest, then y, z (and t). */
export interface Volume {
  /** File name, for messages. */
  readonly name: string;
  /** [x, y, z] or [x, y, z, t] with t > 1; missing axes are 1, trailing axes of size 1 are dropped. */
  readonly shape: readonly number[];
  /** Voxel size along x, y, z in mm. */
  readonly spacing: readonly [number, number, number];
  /** 4×4 row-major, voxel indices to mm: sform, else qform, else spacing. */
  readonly affine: readonly number[];
  /** Values after scl_slope and scl_inter; all finite. */
  readonly data: Float32Array;
  /** scl_slope, by which stored numbers were multiplied; 1 where there is none. */
  readonly slope: number;
  /** The sizes as the header has them, trailing ones and all: what is written on this grid has the same. */
  readonly dims: readonly number[];
  /** What was read although it is wrong or unusual, a sentence each; a user should be told. */
  readonly notes: readonly string[];
  /** How the file stores them: int16, float32 … */
  readonly dtype: string;
  /** Whether the header places the voxels in the world (an sform or qform code is set), or the affine is only spacing. */
  readonly isPlaced: boolean;
  /** The header as it was in the file, so that a result can be written on exactly this grid. */
  readonly header: RawHeader;
}

export const HEADER_BYTES = { 1: 348, 2: 540 } as const;
/** Larger volumes are refused, before anything of their size is allocated: 1 GiB as f32. */
export const mostVoxels = 2 ** 28;
const DEFLATE_MAX_RATIO = 1032; // deflate cannot do better than 1032:1
const TRAILING_ALLOWED = 1 << 20; // bytes after the image that are ignored, as every reader does

type Read = (view: DataView, at: number, littleEndian: boolean) => number;
interface ElementType {
  readonly name: string;
  readonly bytes: number;
  readonly read: Read;
  readonly array?: new (buffer: ArrayBuffer) => ArrayLike<number>;
}
const elementTypes = new Map<number, ElementType>([
  [2, { name: 'uint8', bytes: 1, read: (view, at) => view.getUint8(at), array: Uint8Array }],
  [4, { name: 'int16', bytes: 2, read: (view, at, little) => view.getInt16(at, little), array: Int16Array }],
  [8, { name: 'int32', bytes: 4, read: (view, at, little) => view.getInt32(at, little) }],
  [16, { name: 'float32', bytes: 4, read: (view, at, little) => view.getFloat32(at, little), array: Float32Array }],
  [64, { name: 'float64', bytes: 8, read: (view, at, little) => view.getFloat64(at, little) }],
  [256, { name: 'int8', bytes: 1, read: (view, at) => view.getInt8(at) }],
  [512, { name: 'uint16', bytes: 2, read: (view, at, little) => view.getUint16(at, little), array: Uint16Array }],
  [768, { name: 'uint32', bytes: 4, read: (view, at, little) => view.getUint32(at, little) }],
  [1024, { name: 'int64', bytes: 8, read: (view, at, little) => Number(view.getBigInt64(at, little)) }],
  [1280, { name: 'uint64', bytes: 8, read: (view, at, little) => Number(view.getBigUint64(at, little)) }],
]);

/** How a file's odd values are read. */
export interface ReadOptions {
  /** Default 'refuse'. */
  readonly nan?: NanPolicy | undefined;
}

/** What unpacks gzip where it is read: Node's zlib (gzip.ts). A browser unpacks before, by its DecompressionStream. */
export interface Unpacker {
  /** At least the first `count` bytes, or all there are. */
  start(bytes: Uint8Array, count: number, refuse: Refuse): Uint8Array;
  /** All of it, at most `most` bytes, and how many bytes after it are ignored. */
  whole(bytes: Uint8Array, most: number, refuse: Refuse): { content: Uint8Array; ignored: number };
}

/** Decodes a file's bytes, packed by gzip only with an `unpacker`; `name` is used in messages. Throws DataError. */
export function decodeNifti(
  bytes: Uint8Array,
  name: string,
  { nan = 'refuse' }: ReadOptions = {},
  unpacker?: Unpacker,
): Volume {
  const refuse = (what: string): never => {
    throw new DataError(`nifti: ${name}: ${what}`);
  };
  if (bytes.length === 0) refuse('the file is empty. Copy or download it again.');
  const zipped = isGzip(bytes) ? (unpacker ?? refuse('it is packed by gzip. Unpack it first.')) : undefined;
  const start = zipped ? zipped.start(bytes, HEADER_BYTES[2] + 4, refuse) : bytes;
  const header = parseHeader(start, name, refuse);
  const needed = header.offset + header.voxels * header.type.bytes;
  const truncated = (got: number): never =>
    refuse(`the file is truncated — got ${got} bytes, the header promises ${needed}. Copy or download it again.`);
  const notes = [...header.notes];
  let content = bytes;
  if (zipped) {
    // The header is in the file's own words: what it promises must be reachable from the bytes that are there.
    if (needed > bytes.length * DEFLATE_MAX_RATIO + start.length) truncated(start.length);
    const unpacked = zipped.whole(bytes, needed + TRAILING_ALLOWED, refuse);
    content = unpacked.content;
    if (unpacked.ignored) notes.push(`${unpacked.ignored} bytes after its gzip data are ignored`);
  }
  if (content.length < needed) truncated(content.length);
  // A header that contradicts itself is read one way only where the file's length says so, too.
  if (header.doubtful && content.length !== needed) refuse(header.doubtful);
  const values = decodeValues(content, header);
  const finite = withoutNan(values, nan, refuse);
  return {
    name: name.split(/[\\/]/).at(-1)!,
    shape: header.shape,
    spacing: header.spacing,
    affine: header.affine,
    data: finite.data,
    slope: header.slope,
    dims: header.dims,
    notes: [...notes, ...finite.notes],
    dtype: header.type.name,
    isPlaced: header.isPlaced,
    header: header.raw,
  };
}

interface Header {
  raw: RawHeader;
  shape: number[];
  dims: number[];
  notes: string[];
  /** What to refuse it with unless the file has exactly the length that this reading needs. */
  doubtful: string | undefined;
  voxels: number;
  type: ElementType;
  offset: number;
  slope: number;
  intercept: number;
  spacing: [number, number, number];
  affine: number[];
  isPlaced: boolean;
}

export function parseHeader(bytes: Uint8Array, name: string, refuse: Refuse): Header {
  if (bytes.length < 4) refuse(notNifti(bytes, name));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const littleEndian = [348, 540].includes(view.getInt32(0, true));
  const version = { 348: 1, 540: 2 }[view.getInt32(0, littleEndian)] as 1 | 2 | undefined;
  if (!version) return refuse(notNifti(bytes, name));
  const size = HEADER_BYTES[version];
  if (bytes.length < size) refuse(`the file is truncated — got ${bytes.length} bytes, a header has ${size}.`);
  const magic = String.fromCharCode(...bytes.subarray(version === 1 ? 344 : 4, version === 1 ? 348 : 8));
  if (magic === `ni${version}\0`) refuse(`this is one half of a .hdr/.img pair. ${pairAdvice}`);
  if (magic !== `n+${version}\0`) {
    if (/\.hdr$/i.test(name)) refuse(`this is the header of an ANALYZE 7.5 pair, not a NIfTI file. ${pairAdvice}`);
    refuse('this is not a NIfTI file: its header has no magic word. Expected .nii or .nii.gz of version 1 or 2.');
  }

  // A copy of exactly the header: nothing for nifti-reader-js to walk past. (Buffer's own `slice` would not copy.)
  const own = new Uint8Array(bytes.subarray(0, size));
  const fields = version === 1 ? new NIFTI1() : new NIFTI2();
  fields.readHeader(own.buffer as ArrayBuffer);
  // 64-bit fields of big-endian files come out wrong from nifti-reader-js.
  const int64 = (at: number) => Number(view.getBigInt64(at, littleEndian));
  const dims = version === 1 ? fields.dims : fields.dims.map((_, i) => int64(16 + 8 * i));
  const offset = version === 1 ? fields.vox_offset : int64(168);

  const rank = dims[0]!;
  if (!(rank >= 1 && rank <= 7)) refuse(`dim[0] must be 1 to 7 — got ${rank}. The header is damaged.`);
  const written = dims.slice(1, rank + 1);
  const notes: string[] = [];
  const doubts: string[] = [];
  // Old tools leave 0 where a trailing axis has no size: nifti1_io reads it as 1.
  const last = written.findLastIndex((n) => n > 1);
  const sizes = written.map((n, axis) => (n === 0 && axis > Math.max(0, last) ? 1 : n));
  const unsized = `every size must be at least 1 — got [${written}]. The header is damaged.`;
  if (!sizes.every((n) => n >= 1)) refuse(unsized);
  if (written.includes(0)) {
    doubts.push(unsized);
    notes.push(`its sizes are [${written}]: a trailing 0 is read as 1`);
  }
  if (sizes.slice(4).some((n) => n > 1)) refuse(`only 2-D to 4-D images are read — got [${sizes}]. Split the file.`);
  const voxels = sizes.reduce((product, n) => product * n, 1);
  if (voxels > mostVoxels) refuse(`[${sizes}] has more than ${mostVoxels} voxels. Crop it or split it.`);
  const shape = [sizes[0]!, sizes[1] ?? 1, sizes[2] ?? 1, ...((sizes[3] ?? 1) > 1 ? [sizes[3]!] : [])];

  const type = elementTypes.get(fields.datatypeCode);
  if (!type) {
    const named = { 1: 'binary', 32: 'complex', 128: 'RGB', 1792: 'complex', 2304: 'RGBA' }[fields.datatypeCode];
    const shown = `${fields.datatypeCode}${named ? ` (${named})` : ''}`;
    return refuse(`images of datatype ${shown} are not read. Convert it to int16 or float32.`);
  }
  const bitpix = fields.numBitsPerVoxel;
  if (bitpix !== type.bytes * 8) {
    if (bitpix !== 0)
      doubts.push(`datatype ${type.name} has ${type.bytes * 8} bits — got bitpix ${bitpix}. The header is damaged.`);
    notes.push(`its bitpix is ${bitpix}: the datatype, ${type.name}, says ${type.bytes * 8}`);
  }
  if (!Number.isSafeInteger(offset) || offset < size + 4) {
    refuse(`vox_offset must be a whole number of at least ${size + 4} — got ${offset}. The header is damaged.`);
  }
  // nibabel's rules: no slope (0, NaN, infinite) means no scaling at all; a slope with a bad intercept is an error.
  const scaled = Number.isFinite(fields.scl_slope) && fields.scl_slope !== 0;
  if (scaled && !Number.isFinite(fields.scl_inter)) refuse(`scl_inter is ${fields.scl_inter}. The header is damaged.`);

  const raw = { version, littleEndian, bytes: own } as const;
  const geometry = readGeometry(raw);
  const affine = affineOf(geometry, refuse);
  const { sizes: spacing, notes: geometryNotes } = voxelSizes(geometry, shape);
  return {
    raw,
    shape,
    dims: sizes,
    notes: [...notes, ...geometryNotes],
    doubtful: doubts[0],
    voxels,
    type,
    offset,
    slope: scaled ? fields.scl_slope : 1,
    intercept: scaled ? fields.scl_inter : 0,
    spacing: spacing as [number, number, number],
    affine,
    isPlaced: placementOf(geometry) !== 'none',
  };
}

function decodeValues(content: Uint8Array, header: Header): Float32Array {
  const { voxels, type, offset, slope, intercept } = header;
  const { littleEndian } = header.raw;
  const view = new DataView(content.buffer, content.byteOffset + offset, voxels * type.bytes);
  const data = new Float32Array(voxels);
  if (littleEndian && type.array) {
    // The common case, without a call per voxel: a copy (for alignment) read as the machine's own numbers.
    const start = content.byteOffset + offset;
    const raw = new type.array(content.buffer.slice(start, start + voxels * type.bytes) as ArrayBuffer);
    for (let i = 0; i < voxels; i++) data[i] = raw[i]! * slope + intercept;
  } else {
    for (let i = 0; i < voxels; i++) data[i] = type.read(view, i * type.bytes, littleEndian) * slope + intercept;
  }
  return data;
}

const written = {
  uint8: { code: 2, array: Uint8Array, least: 0, most: 255 },
  int16: { code: 4, array: Int16Array, least: -32768, most: 32767 },
  float32: { code: 16, array: Float32Array, least: Number.NEGATIVE_INFINITY, most: Number.POSITIVE_INFINITY },
} as const;

/** A volume to write, and where its geometry comes from. */
export interface NiftiContent {
  /** x fastest. */
  readonly data: ArrayLike<number>;
  readonly dtype: keyof typeof written;
  /** Default: that of `like`, with its trailing ones. */
  readonly shape?: readonly number[];
  /** mm; default 1. Ignored with `like`. */
  readonly spacing?: readonly number[];
  /** 4×4 row-major; default: the spacing on the diagonal. Ignored with `like`. */
  readonly affine?: readonly number[];
  /** Copies the geometry bit for bit: pixdim, units, qform and sform; NIfTI-2 stays NIfTI-2. */
  readonly like?: Volume;
  /** The header's `descrip`, ASCII, at most 79 characters; default wgrad. */
  readonly description?: string;
}

/** Where a header has `descrip`. */
const descriptionAt = { 1: 148, 2: 240 } as const;

/** The `descrip` of a volume's header: what wrote it says of itself. */
export function descriptionOf({ header: { version, bytes } }: Volume): string {
  const at = descriptionAt[version];
  const text = String.fromCharCode(...bytes.subarray(at, at + 80));
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** A volume of values that came without a NIfTI header: x fastest, spacing in mm, axes as they are. */
export function volumeOf(name: string, data: Float32Array, shape: readonly number[], dtype: string): Volume {
  const bytes = encodeNifti({ data: new Uint8Array(data.length), dtype: 'uint8', shape }, name);
  const header: RawHeader = { version: 1, littleEndian: true, bytes: bytes.slice(0, HEADER_BYTES[1]) };
  const affine = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  return {
    ...{ name, shape, spacing: [1, 1, 1], affine, data, dtype, isPlaced: false, header },
    ...{ slope: 1, dims: shape, notes: [] },
  };
}

/** The bytes of an uncompressed NIfTI file; `name` is used in messages. Throws DataError. */
export function encodeNifti(content: NiftiContent, name: string): Uint8Array {
  const { like, dtype } = content;
  const shape = content.shape ?? like?.dims;
  if (!shape) throw new DataError(`nifti: ${name}: writing needs a shape, or a volume to be like.`);
  const voxels = shape.reduce((product, n) => product * n, 1);
  if (voxels !== content.data.length || shape.length < 1 || shape.length > 7) {
    throw new DataError(
      `nifti: ${name}: shape and data do not agree — got [${shape}] and ${content.data.length} values.`,
    );
  }
  if (like && ![0, 1, 2].every((axis) => (shape[axis] ?? 1) === like.shape[axis])) {
    throw new DataError(`nifti: ${name}: not the grid of ${like.name} — got [${shape}], expected [${like.shape}].`);
  }
  const { code, array, least, most } = written[dtype];
  const values = array.from(content.data);
  for (let i = 0; i < voxels; i++) {
    const value = content.data[i]!;
    if (!(value >= least && value <= most) || (dtype !== 'float32' && !Number.isInteger(value))) {
      throw new DataError(`nifti: ${name}: value ${value} at index ${i} is not a ${dtype}.`);
    }
  }
  const version = like?.header.version ?? 1;
  const offset = HEADER_BYTES[version] + 4; // 352 or 544, both multiples of 4
  const bytes = new Uint8Array(offset + values.byteLength);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, HEADER_BYTES[version], true);
  const dims = [shape.length, ...shape, 1, 1, 1, 1, 1, 1].slice(0, 8);
  const description = new TextEncoder().encode(content.description ?? 'wgrad').subarray(0, 79);
  bytes.set(description, descriptionAt[version]);
  if (version === 1) {
    if (shape.some((n) => n > 32767)) throw new DataError(`nifti: ${name}: sizes above 32767 do not fit NIfTI-1.`);
    for (const [i, n] of dims.entries()) view.setInt16(40 + 2 * i, n, true);
    view.setInt16(70, code, true);
    view.setInt16(72, values.BYTES_PER_ELEMENT * 8, true);
    view.setFloat32(108, offset, true);
    view.setFloat32(112, 1, true); // scl_slope
    bytes.set([0x6e, 0x2b, 0x31, 0], 344);
  } else {
    bytes.set([0x6e, 0x2b, 0x32, 0, 0x0d, 0x0a, 0x1a, 0x0a], 4);
    view.setInt16(12, code, true);
    view.setInt16(14, values.BYTES_PER_ELEMENT * 8, true);
    for (const [i, n] of dims.entries()) view.setBigInt64(16 + 8 * i, BigInt(n), true);
    view.setBigInt64(168, BigInt(offset), true);
    view.setFloat64(176, 1, true);
  }
  if (like) copyGeometry(like.header, bytes);
  else writeGeometry(view, content.spacing ?? [1, 1, 1], content.affine);
  bytes.set(new Uint8Array(values.buffer), offset); // typed arrays are little-endian on every machine Node runs on
  return bytes;
}
