// Elements of tensors: their types, and the conversion of numbers to bytes and back. A number that the type cannot hold gives an
// error that names it, never another number. f32 and f16 round; beyond f16's range a number becomes infinite, as in IEEE 754.
import { nearest, showValue } from './arguments.js';
import { type Shape, ShapeError, show, sizeOf } from './shape.js';

/** u8 is packed four to a word on the GPU (labels): element i is byte i & 3 of word i >> 2, lowest byte first. */
export type Dtype = 'f32' | 'f16' | 'u32' | 'i32' | 'u8';
/** What `read` returns: Float32Array for f32 and f16, Uint32Array, Int32Array, Uint8Array. */
export type TypedArray = Float32Array | Uint32Array | Int32Array | Uint16Array | Uint8Array;
/** What `read` returns for elements of type D; a Float32Array where D is `any`. */
export type ElementsOf<D extends Dtype> = unknown extends D
  ? Float32Array
  : { f32: Float32Array; f16: Float32Array; u32: Uint32Array; i32: Int32Array; u8: Uint8Array }[D];
/** Numbers in one row, or nested arrays of them, all of one length at each depth. */
export type NestedNumbers = ArrayLike<number> | readonly NestedNumbers[];

const elementBytes: Record<Dtype, number> = { f32: 4, f16: 2, u32: 4, i32: 4, u8: 1 };

/** Bytes on the GPU: a multiple of 4. */
export const bytesOf = (shape: Shape, dtype: Dtype): number => Math.ceil((sizeOf(shape) * elementBytes[dtype]) / 4) * 4;

/** Names of these types in other libraries. */
const otherNames: Record<string, Dtype> = {
  float32: 'f32',
  float: 'f32',
  float16: 'f16',
  half: 'f16',
  uint32: 'u32',
  int32: 'i32',
  int: 'i32',
  uint8: 'u8',
  bool: 'u8',
};

/** Throws a ShapeError unless `dtype` is the name of a type. */
export function checkDtype(op: string, dtype: unknown): asserts dtype is Dtype {
  const known = Object.keys(elementBytes);
  if (typeof dtype === 'string' && known.includes(dtype)) return;
  const meant = typeof dtype === 'string' ? (otherNames[dtype.toLowerCase()] ?? nearest(dtype, known)) : undefined;
  const hint = meant ? ` Did you mean '${meant}'?` : '';
  throw new ShapeError(`${op}: unknown dtype ${showValue(dtype)} — expected ${known.join(', ')}.${hint}`);
}

const halves = new Float32Array(1);
const halfBits = new Uint32Array(halves.buffer);

/** The bits of the f16 nearest to a number (ties to even). */
export function toHalf(value: number): number {
  halves[0] = value;
  const bits = halfBits[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: adding a number whose last place is 2^-24 rounds correctly.
    halves[0] = Math.abs(value) + 0.5;
    return sign | (halfBits[0]! - 0x3f000000);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

/**
 * The number of an f16's bits.
 * @example
 * console.log(fromHalf(0x3c00)); // 1
 */
export function fromHalf(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

const isRow = (value: unknown): value is ArrayLike<unknown> => Array.isArray(value) || ArrayBuffer.isView(value);

/** Numbers in one row, and the shape of their nesting; throws a ShapeError when the nesting is ragged or there are none. */
export function rowOf(op: string, label: string, data: unknown): { values: ArrayLike<number>; shape: Shape } {
  if (data instanceof DataView || !isArrayLike(data)) {
    throw new ShapeError(
      `${op}: the data of '${label}' is ${showValue(data)} — expected a number, an array of numbers, or nested arrays.`,
    );
  }
  if (!Array.isArray(data) || !data.some(isRow)) return { values: data as ArrayLike<number>, shape: [data.length] };
  const shape: number[] = [];
  for (let level: unknown = data; isRow(level); level = level[0]) shape.push(level.length);
  const values: number[] = [];
  const walk = (level: unknown, depth: number, path: string): void => {
    if (depth === shape.length && !isRow(level)) values.push(level as number);
    else if (isRow(level) && level.length === shape[depth]) {
      for (let i = 0; i < level.length; i++) walk(level[i], depth + 1, `${path}[${i}]`);
    } else {
      const found = isRow(level) ? `${level.length} elements` : showValue(level);
      const wanted = depth < shape.length ? `${shape[depth]} elements` : 'a number';
      throw new ShapeError(
        `${op}: the nested arrays of '${label}' are ragged — got ${found} at data${path}, expected ${wanted} as in the first. Fill them up.`,
      );
    }
  };
  walk(data, 0, '');
  return { values, shape };
}

const isArrayLike = (data: unknown): data is ArrayLike<unknown> =>
  typeof data === 'object' && data !== null && Number.isSafeInteger((data as { length?: unknown }).length);

const ranges = { u32: [0, 2 ** 32 - 1], i32: [-(2 ** 31), 2 ** 31 - 1], u8: [0, 255] } as const;

/** Typed arrays whose elements all fit the type, so that no check is needed. */
const fitting: Record<Dtype, string> = {
  f32: 'Float32Array Float64Array Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array Uint32Array',
  f16: 'Float32Array Float64Array Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array Uint32Array',
  u32: 'Uint8Array Uint8ClampedArray Uint16Array Uint32Array',
  i32: 'Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array',
  u8: 'Uint8Array Uint8ClampedArray',
};

/** Throws a ShapeError that names the first value which is not a number or does not fit the type. */
function checkValues(op: string, label: string, values: ArrayLike<unknown>, dtype: Dtype): void {
  if (ArrayBuffer.isView(values) && fitting[dtype].split(' ').includes(values.constructor.name)) return;
  const range = dtype === 'f32' || dtype === 'f16' ? undefined : ranges[dtype];
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (typeof value !== 'number') {
      const hint = typeof value === 'boolean' ? ' Write 1 and 0.' : ' Convert it first.';
      throw new ShapeError(`${op}: value ${i} of '${label}' is ${showValue(value)} — expected a number.${hint}`);
    }
    if (range && !(Number.isInteger(value) && value >= range[0] && value <= range[1])) {
      throw new ShapeError(
        `${op}: value ${i} of '${label}' is ${value} — expected a whole number from ${range[0]} to ${range[1]} for ${dtype}. Use another dtype, or convert it first.`,
      );
    }
  }
}

/** The bytes of values; throws a ShapeError for one that the type cannot hold. */
export function encodeElements(
  op: string,
  label: string,
  values: ArrayLike<number>,
  dtype: Dtype,
): ArrayBufferView<ArrayBuffer> {
  checkValues(op, label, values, dtype);
  if (dtype === 'f32' && values instanceof Float32Array) return values as Float32Array<ArrayBuffer>;
  const padded = new ArrayBuffer(Math.ceil((values.length * elementBytes[dtype]) / 4) * 4);
  switch (dtype) {
    case 'f32':
      new Float32Array(padded).set(values);
      break;
    case 'f16':
      new Uint16Array(padded).set(Array.from(values, toHalf));
      break;
    case 'u32':
      new Uint32Array(padded).set(values);
      break;
    case 'i32':
      new Int32Array(padded).set(values);
      break;
    case 'u8':
      new Uint8Array(padded).set(values);
      break;
  }
  return new Uint8Array(padded);
}

/** The elements that these bytes hold; f16 comes as f32. */
export function decodeElements(bytes: ArrayBuffer, dtype: Dtype, size: number): TypedArray {
  switch (dtype) {
    case 'f32':
      return new Float32Array(bytes, 0, size);
    case 'f16':
      return Float32Array.from(new Uint16Array(bytes, 0, size), fromHalf);
    case 'u32':
      return new Uint32Array(bytes, 0, size);
    case 'i32':
      return new Int32Array(bytes, 0, size);
    case 'u8':
      return new Uint8Array(bytes, 0, size);
  }
}

/** Throws a ShapeError unless the shape takes `count` values. */
export function checkCount(op: string, shape: Shape, count: number): void {
  if (sizeOf(shape) !== count) {
    throw new ShapeError(`${op}: ${show(shape)} has ${sizeOf(shape)} elements — got ${count} values.`);
  }
}
