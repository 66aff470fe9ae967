// Weights on disk: safetensors, under PyTorch's names and in PyTorch's layout, written so that a crash at any moment leaves
// the old file or the new one. Checks are those of safetensors' own implementation.
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { fromHalf, type Tensor } from '../engine/index.js';
import { whyNot } from './data/data-error.js';

/** A file that is no readable checkpoint, or one of another architecture, or that cannot be written. */
export class CheckpointError extends Error {
  override name = 'CheckpointError';
}

/** A file that was damaged: truncated, changed, or never one. An older one may do. */
export class DamagedCheckpointError extends CheckpointError {
  override name = 'DamagedCheckpointError';
}

export interface NamedArray {
  shape: readonly number[];
  data: Float32Array;
}

/** Changes a file or folder; throws a CheckpointError that says why it cannot be written, where the system does not let it. */
export function orSay<T>(path: string, change: () => T): T {
  try {
    return change();
  } catch (error) {
    throw new CheckpointError(`cannot write ${path} — ${whyNot(error)}. What was there before is kept.`, {
      cause: error,
    });
  }
}

/** Writes a file in one piece: a temporary beside it, fsync, rename, fsync of the folder. */
export function writeAtomically(path: string, parts: readonly Uint8Array[]): void {
  const temporary = `${path}.${process.pid}.tmp`;
  orSay(path, () => {
    try {
      const file = openSync(temporary, 'w');
      try {
        for (const part of parts) for (let done = 0; done < part.length; ) done += writeSync(file, part, done);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  });
  const folder = openSync(dirname(path), 'r');
  fsyncSync(folder);
  closeSync(folder);
}

const headerLimit = 100_000_000;

function hashOf(parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

// The metadata `sha256` is `file:` and the hash of the whole file, with zeros in the hash's own place. Files of before have that of
// the numbers alone, without `file:`.
const unhashed = `file:${'0'.repeat(64)}`;
const hashedFile = /file:[0-9a-f]{64}/;

/** Bytes of an element of the types that weights come in, and how they become numbers. */
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

/** Writes float32 arrays and string metadata. Throws a RangeError for an array that does not fill its shape. */
export function writeSafetensors(
  path: string,
  arrays: ReadonlyMap<string, NamedArray>,
  metadata: Record<string, string> = {},
): void {
  const { sha256: _, ...own } = metadata;
  let offset = 0;
  const bytes = [...arrays.values()].map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  const header: Record<string, unknown> = { __metadata__: { sha256: unhashed, ...own } };
  for (const [name, { shape, data }] of arrays) {
    if (data.length !== shape.reduce((a, b) => a * b, 1)) {
      throw new RangeError(`checkpoint: '${name}' has ${data.length} numbers, expected those of [${shape}].`);
    }
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, (offset += data.byteLength)] };
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(json + ' '.repeat((8 - (Buffer.byteLength(json) % 8)) % 8));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  // The first in the text: the metadata stand first, and the hash before what others put there.
  text.write(hashOf([length, text, ...bytes]), text.indexOf(unhashed) + 'file:'.length);
  writeAtomically(path, [length, text, ...bytes]);
}

/**
 * Reads arrays of floating-point numbers (and PyTorch's I64 counters) as float32; throws a DamagedCheckpointError for anything that is
 * not a whole, consistent safetensors file, or whose numbers are not those that were written.
 */
export function readSafetensors(path: string): { arrays: Map<string, NamedArray>; metadata: Record<string, string> } {
  const refuse = (why: string): never => {
    throw new DamagedCheckpointError(`checkpoint: ${path} is no readable safetensors file — ${why}.`);
  };
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new CheckpointError(`checkpoint: cannot read ${path} — ${whyNot(error)}.`);
  }
  if (bytes.length < 8) refuse(`it has ${bytes.length} bytes`);
  if (
    bytes.subarray(0, 4).equals(Buffer.from('PK\x03\x04')) ||
    bytes.subarray(0, 2).equals(Buffer.from([0x80, 0x02]))
  ) {
    throw new CheckpointError(
      `checkpoint: ${path} is a PyTorch checkpoint. Convert it in Python: import torch; from safetensors.torch import save_file; save_file(torch.load("${path}", map_location="cpu", weights_only=True), "weights.safetensors").`,
    );
  }
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  if (headerBytes > headerLimit || 8 + headerBytes > bytes.length)
    refuse(`its header claims ${headerBytes} bytes of ${bytes.length}`);
  const text = bytes.toString('utf8', 8, 8 + headerBytes);
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
  const { sha256, ...rest } = metadata as Record<string, string>;
  if (sha256 === undefined) {
    // A file of ours whose hash is under another name was damaged there.
    if (Object.values(rest).some((value) => hashedFile.test(value))) refuse('its hash is not where it was written');
  } else if (sha256 !== (sha256.startsWith('file:') ? `file:${hashOfFile(bytes, sha256)}` : hashOf([body]))) {
    refuse('its bytes are not those that were written');
  }
  return { arrays, metadata: rest };
}

/** The hash of a file's bytes, with zeros where the hash itself stands first. */
function hashOfFile(bytes: Buffer, written: string): string {
  const at = bytes.indexOf(written);
  return hashOf([bytes.subarray(0, at), Buffer.from(unhashed), bytes.subarray(at + unhashed.length)]);
}

/** A name that valid JSON text gives twice in its outer object (JSON.parse would silently take the last). */
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

/** Convolution weights [O, …kernel, I] to PyTorch's [O, I, …kernel]; other shapes stay. */
export function toPyTorch({ shape, data }: NamedArray): NamedArray {
  if (shape.length < 4) return { shape, data };
  const [outputs = 0, ...rest] = shape;
  const inputs = rest.pop()!;
  const taps = rest.reduce((a, b) => a * b, 1);
  const moved = new Float32Array(data.length);
  for (let o = 0; o < outputs; o++) {
    for (let t = 0; t < taps; t++) {
      for (let i = 0; i < inputs; i++) moved[(o * inputs + i) * taps + t] = data[(o * taps + t) * inputs + i]!;
    }
  }
  return { shape: [outputs, inputs, ...rest], data: moved };
}

/** PyTorch's [O, I, …kernel] to our [O, …kernel, I]; other shapes stay. */
export function fromPyTorch({ shape, data }: NamedArray): NamedArray {
  if (shape.length < 4) return { shape, data };
  const [outputs = 0, inputs = 0, ...rest] = shape;
  const taps = rest.reduce((a, b) => a * b, 1);
  const moved = new Float32Array(data.length);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let t = 0; t < taps; t++) moved[(o * taps + t) * inputs + i] = data[(o * inputs + i) * taps + t]!;
    }
  }
  return { shape: [outputs, ...rest, inputs], data: moved };
}

/** "decoder.out_conv.weight holds 16 values that are not finite, the first NaN at 3": of the first array that has some; undefined if none has. */
export function nonFiniteIn(arrays: ReadonlyMap<string, Pick<NamedArray, 'data'>>): string | undefined {
  for (const [name, { data }] of arrays) {
    const first = data.findIndex((value) => !Number.isFinite(value));
    if (first < 0) continue;
    const count = data.reduce((sum, value) => sum + Number(!Number.isFinite(value)), 0);
    return `'${name}' holds ${count} of ${data.length} values that are not finite, first ${data[first]} at ${first}`;
  }
  return undefined;
}

/** Numbers that a run would save are not finite: nothing was written. */
export class NonFiniteWeightsError extends CheckpointError {
  override name = 'NonFiniteWeightsError';
}

/** Writes tensors under their names, in PyTorch's layout. Throws a NonFiniteWeightsError before it writes a NaN or an infinity. */
export async function saveTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const arrays = new Map<string, NamedArray>();
  for (const [name, t] of tensors) {
    arrays.set(name, toPyTorch({ shape: t.shape, data: Float32Array.from(await t.read()) }));
  }
  const wrong = nonFiniteIn(arrays);
  if (wrong) throw new NonFiniteWeightsError(`checkpoint: ${wrong}; ${path} was not written.`);
  writeSafetensors(path, arrays, metadata);
}

/** Reads a checkpoint into tensors of the same names and shapes; a CheckpointError lists what does not fit. */
export function loadTensors(path: string, tensors: ReadonlyMap<string, Tensor>): Record<string, string> {
  const { arrays, metadata } = readSafetensors(path);
  checkFinite(path, arrays);
  assign(path, arrays, tensors);
  return metadata;
}

/** Throws a DamagedCheckpointError for numbers that no network can compute with. */
export function checkFinite(path: string, arrays: ReadonlyMap<string, NamedArray>): void {
  const wrong = nonFiniteIn(arrays);
  if (wrong) {
    throw new DamagedCheckpointError(
      `checkpoint: ${path} is not usable — ${wrong}: a training that diverged, or a damaged file. Use an earlier checkpoint.`,
    );
  }
}

/** Writes a file's arrays into tensors of the same names and shapes; a CheckpointError lists what does not fit. */
export function assign(
  path: string,
  arrays: ReadonlyMap<string, NamedArray>,
  tensors: ReadonlyMap<string, Tensor>,
): void {
  const ours = new Map([...arrays].map(([name, array]) => [name, fromPyTorch(array)] as const));
  const wrong = [
    ...[...tensors].flatMap(([name, t]) => {
      const shape = ours.get(name)?.shape;
      if (!shape) return [`'${name}' is missing`];
      return shape.join() === t.shape.join() ? [] : [`'${name}' has shape [${shape}], expected [${t.shape}]`];
    }),
    ...[...ours.keys()]
      .filter((name) => !tensors.has(name) && !name.endsWith('num_batches_tracked'))
      .map((name) => `'${name}' is unknown`),
  ];
  if (wrong.length) {
    const more = wrong.length > 5 ? `, and ${wrong.length - 5} more` : '';
    throw new CheckpointError(
      `checkpoint: ${path} is of another architecture — ${wrong.slice(0, 5).join(', ')}${more}.`,
    );
  }
  for (const [name, t] of tensors) t.write(ours.get(name)!.data);
}

/** Names without the `module.` that PyTorch's DataParallel puts before them. */
export const withoutModule = (arrays: ReadonlyMap<string, NamedArray>): Map<string, NamedArray> =>
  new Map([...arrays].map(([name, array]) => [name.replace(/^module\./, ''), array]));

/**
 * Weights that somebody else trained, as the start of ours: names may begin with `module.` (PyTorch's DataParallel); what is not in the
 * file keeps its value only under `mayLack`. A CheckpointError lists what does not fit.
 */
export function loadForeignTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  mayLack: (name: string) => boolean,
): void {
  const arrays = withoutModule(readSafetensors(path).arrays);
  checkFinite(path, arrays);
  const lacking = [...tensors.keys()].filter((name) => !arrays.has(name) && mayLack(name));
  assign(path, arrays, new Map([...tensors].filter(([name]) => !lacking.includes(name))));
}
