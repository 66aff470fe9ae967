// Weights as bytes: the safetensors format, which holds named arrays and text metadata, and PyTorch's layout of them. Checks are those
// of safetensors' own implementation. No file access here, so that a browser reads and writes the same bytes as Node.
import { fromHalf } from '../engine/custom.js';
import type { WeightLayout } from './module.js';

/**
 * Thrown for bytes that are not a whole, consistent safetensors file; the message says why, without a file name.
 * @example
 * try { decodeSafetensors(new Uint8Array(3)); } catch (error) { console.log(error.name, error.message); } // SafetensorsError it has 3 bytes
 * console.log(new SafetensorsError('it is cut off') instanceof Error); // true
 */
export class SafetensorsError extends Error {
  override name = 'SafetensorsError';
}

/** One array of a file: its shape, and the elements with the last axis fastest. */
export interface NamedArray {
  shape: readonly number[];
  data: Float32Array;
}

const headerLimit = 100_000_000;

/** Element types of weights: bytes of an element, and its conversion to a number. */
const readable: Record<string, { bytes: number; read(view: DataView, at: number): number }> = {
  F64: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
  F32: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  F16: { bytes: 2, read: (view, at) => fromHalf(view.getUint16(at, true)) },
  BF16: { bytes: 2, read: (view, at) => fromBits(view.getUint16(at, true) << 16) },
  I64: { bytes: 8, read: (view, at) => Number(view.getBigInt64(at, true)) },
};

const bits = new DataView(new ArrayBuffer(4));
function fromBits(value: number): number {
  bits.setInt32(0, value);
  return bits.getFloat32(0);
}

function numbersOf(bytes: Uint8Array, dtype: string): Float32Array {
  if (dtype === 'F32') return new Float32Array(Uint8Array.from(bytes).buffer);
  const { bytes: size, read } = readable[dtype]!;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / size }, (_, i) => read(view, i * size));
}

/**
 * The bytes of a safetensors file of float32 arrays and text metadata; the metadata comes first in its header. Throws a RangeError for
 * an array that does not fill its shape.
 * @example
 * const bytes = encodeSafetensors(new Map([['w', { shape: [2], data: Float32Array.of(1, 2) }]]), { by: 'me' });
 * console.log(decodeSafetensors(bytes).metadata.by); // me
 */
export function encodeSafetensors(
  arrays: ReadonlyMap<string, NamedArray>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  let end = 0;
  const header: Record<string, unknown> = { __metadata__: metadata };
  for (const [name, { shape, data }] of arrays) {
    if (data.length !== shape.reduce((a, b) => a * b, 1)) {
      throw new RangeError(`safetensors: '${name}' has ${data.length} numbers, expected those of [${shape}].`);
    }
    header[name] = { dtype: 'F32', shape, data_offsets: [end, (end += data.byteLength)] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const start = 8 + Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(start + end).fill(0x20, 8, start); // spaces fill the header
  new DataView(bytes.buffer).setBigUint64(0, BigInt(start - 8), true);
  bytes.set(text, 8);
  let at = start;
  for (const { data } of arrays.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}

/**
 * The arrays of floating-point numbers (and PyTorch's I64 counters) in a safetensors file, as float32, and its metadata. Throws a
 * SafetensorsError.
 * @example
 * const bytes = encodeSafetensors(new Map([['w', { shape: [2], data: Float32Array.of(1, 2) }]]));
 * console.log(decodeSafetensors(bytes).arrays.get('w').data); // [1, 2]
 */
export function decodeSafetensors(bytes: Uint8Array): {
  arrays: Map<string, NamedArray>;
  metadata: Record<string, string>;
} {
  const refuse = (why: string): never => {
    throw new SafetensorsError(why);
  };
  if (bytes.length < 8) refuse(`it has ${bytes.length} bytes`);
  const headerBytes = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  if (headerBytes > headerLimit || 8 + headerBytes > bytes.length)
    refuse(`its header claims ${headerBytes} bytes of ${bytes.length}`);
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + headerBytes));
  if (!text.startsWith('{')) refuse('its header is no JSON object');
  let header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  try {
    header = JSON.parse(text);
  } catch {
    return refuse('its header is not JSON');
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) refuse(`its header names '${twice}' twice`);
  const { __metadata__: metadata = {}, ...entries } = header as typeof header & { __metadata__?: object };
  if (typeof metadata !== 'object' || metadata === null || Object.values(metadata).some((v) => typeof v !== 'string')) {
    refuse('its metadata are not texts under names');
  }
  const body = bytes.subarray(8 + headerBytes);
  const arrays = new Map<string, NamedArray>();
  let expected = 0;
  const ordered = Object.entries(entries).sort(
    ([, a], [, b]) => (a?.data_offsets?.[0] ?? 0) - (b?.data_offsets?.[0] ?? 0),
  );
  for (const [name, entry] of ordered) {
    const { dtype, shape, data_offsets: offsets } = entry ?? {};
    const isWhole = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
    const type = Object.hasOwn(readable, dtype ?? '') ? readable[dtype!] : undefined;
    if (!type || !Array.isArray(shape) || !shape.every(isWhole) || !Array.isArray(offsets) || !offsets.every(isWhole)) {
      refuse(`entry '${name}' is malformed, or its type '${dtype}' is none of ${Object.keys(readable).join(', ')}`);
    }
    const [begin, end] = offsets!;
    if (begin !== expected) refuse(`'${name}' starts at ${begin}, expected ${expected}`);
    if (end - begin !== type!.bytes * shape!.reduce((a, b) => a * b, 1))
      refuse(`'${name}' [${shape}] does not fill its ${end - begin} bytes`);
    if (end > body.length) refuse(`'${name}' ends at ${end} of ${body.length} bytes: the file is truncated`);
    arrays.set(name, {
      shape: shape!,
      data: numbersOf(body.subarray(begin, end), dtype!),
    });
    expected = end;
  }
  if (expected !== body.length) refuse(`${body.length - expected} bytes belong to no tensor`);
  return { arrays, metadata: metadata as Record<string, string> };
}

/** A name that occurs twice in the outer object of valid JSON text (JSON.parse would silently take the last). */
function duplicateKey(text: string): string | undefined {
  const names = new Set<string>();
  let depth = 0;
  for (const [token, string] of text.matchAll(/[{}[\]]|("(?:[^"\\]|\\.)*")\s*:?/gs)) {
    if (token === '{' || token === '[') depth++;
    else if (token === '}' || token === ']') depth--;
    else if (depth === 1 && token.endsWith(':')) {
      const name = JSON.parse(string!) as string;
      if (names.has(name)) return name;
      names.add(name);
    }
  }
  return undefined;
}

/**
 * Convolution weights [O, …kernel, I] to PyTorch's [O, I, …kernel] or, where they are those of a transposed convolution, [I, O/groups,
 * …kernel] from [O, …kernel, I/groups]. Without a layout, shapes of four axes and more are weights of a convolution; others stay.
 * @example
 * const { shape, data } = toPyTorch({ shape: [1, 1, 2, 2], data: Float32Array.of(1, 2, 3, 4) });
 * console.log(shape, data); // [1, 2, 1, 2] [1, 3, 2, 4]
 */
export function toPyTorch({ shape, data }: NamedArray, layout: WeightLayout = {}): NamedArray {
  const { kernel = shape.length > 3, transposed = false, groups = 1 } = layout;
  if (!kernel) return { shape, data };
  const [outputs = 0, ...rest] = shape;
  const inputs = rest.pop()!;
  const taps = rest.reduce((a, b) => a * b, 1);
  const moved = new Float32Array(data.length);
  const place = placeOf(outputs, inputs, transposed, groups);
  for (let o = 0; o < outputs; o++) {
    for (let t = 0; t < taps; t++) {
      for (let i = 0; i < inputs; i++) moved[place(o, i) * taps + t] = data[(o * taps + t) * inputs + i]!;
    }
  }
  return { shape: [...(transposed ? [inputs * groups, outputs / groups] : [outputs, inputs]), ...rest], data: moved };
}

/** The index of output o and input i of its group among PyTorch's kernels. */
const placeOf = (outputs: number, inputs: number, transposed: boolean, groups: number) => {
  const ofGroup = outputs / groups;
  return (o: number, i: number): number =>
    transposed ? (Math.floor(o / ofGroup) * inputs + i) * ofGroup + (o % ofGroup) : o * inputs + i;
};

/**
 * PyTorch's [O, I, …kernel], or transposed [I, O/groups, …kernel], to our [O, …kernel, I/groups]; other shapes stay, as in `toPyTorch`.
 * @example
 * const { shape, data } = fromPyTorch({ shape: [1, 2, 1, 2], data: Float32Array.of(1, 3, 2, 4) });
 * console.log(shape, data); // [1, 1, 2, 2] [1, 2, 3, 4]
 */
export function fromPyTorch({ shape, data }: NamedArray, layout: WeightLayout = {}): NamedArray {
  const { kernel = shape.length > 3, transposed = false, groups = 1 } = layout;
  if (!kernel) return { shape, data };
  const [first = 0, second = 0, ...rest] = shape;
  const [outputs, inputs] = transposed ? [second * groups, first / groups] : [first, second];
  const taps = rest.reduce((a, b) => a * b, 1);
  const moved = new Float32Array(data.length);
  const place = placeOf(outputs, inputs, transposed, groups);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let t = 0; t < taps; t++) moved[(o * taps + t) * inputs + i] = data[place(o, i) * taps + t]!;
    }
  }
  return { shape: [outputs, ...rest, inputs], data: moved };
}
