// Weights on disk: safetensors files (model/safetensors.ts) in PyTorch's layout, with a hash of all their bytes, written in one piece.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Tensor } from '../../engine/index.js';
import { decodeSafetensors, encodeSafetensors, type NamedArray, SafetensorsError } from '../../model/index.js';
import { arraysOf, assignArrays, nonFiniteIn } from '../../model/state.js';
import { writeAtomically } from '../files/atomic-file.js';
import { whyNot } from '../files/data-error.js';

/** A file that is not a readable checkpoint, or holds another architecture. */
export class CheckpointError extends Error {
  override name = 'CheckpointError';
}

/** A file that is truncated, changed or not a checkpoint at all. An older checkpoint may do. */
export class DamagedCheckpointError extends CheckpointError {
  override name = 'DamagedCheckpointError';
}

function hashOf(parts: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

// The metadata `sha256` is `file:` and the hash of the whole file, with zeros in the hash's own place. Files of earlier
// versions have the hash of the numbers alone, without `file:`.
const unhashed = `file:${'0'.repeat(64)}`;
const hashedFile = /file:[0-9a-f]{64}/;

/** Writes float32 arrays and string metadata. Throws a RangeError for an array that does not fill its shape. */
export function writeSafetensors(
  path: string,
  arrays: ReadonlyMap<string, NamedArray>,
  metadata: Record<string, string> = {},
): void {
  const { sha256: _, ...own } = metadata;
  const bytes = Buffer.from(encodeSafetensors(arrays, { sha256: unhashed, ...own }).buffer);
  // The first match is ours: metadata come first in the file, and the hash comes first in the metadata.
  bytes.write(hashOf([bytes]), bytes.indexOf(unhashed) + 'file:'.length);
  writeAtomically(path, [bytes]);
}

/**
 * Reads arrays of floating-point numbers (and PyTorch's I64 counters) as float32; throws a DamagedCheckpointError for anything that is
 * not a whole, consistent safetensors file, or whose bytes have changed since it was written.
 */
export function readSafetensors(path: string): { arrays: Map<string, NamedArray>; metadata: Record<string, string> } {
  const refuse = (why: string): never => {
    throw new DamagedCheckpointError(`checkpoint: ${path} is not a readable safetensors file — ${why}.`);
  };
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new CheckpointError(`checkpoint: cannot read ${path} — ${whyNot(error)}.`);
  }
  if (
    bytes.subarray(0, 4).equals(Buffer.from('PK\x03\x04')) ||
    bytes.subarray(0, 2).equals(Buffer.from([0x80, 0x02]))
  ) {
    throw new CheckpointError(
      `checkpoint: ${path} is a PyTorch checkpoint. Convert it in Python: import torch; from safetensors.torch import save_file; save_file(torch.load("${path}", map_location="cpu", weights_only=True), "weights.safetensors").`,
    );
  }
  const { arrays, metadata } = decoded(bytes, refuse);
  const { sha256, ...rest } = metadata;
  if (sha256 === undefined) {
    // A file of ours whose hash is under another name was damaged there.
    if (Object.values(rest).some((value) => hashedFile.test(value))) refuse('its hash has moved since it was written');
  } else if (
    sha256 !==
    (sha256.startsWith('file:')
      ? `file:${hashOfFile(bytes, sha256)}`
      : hashOf([bytes.subarray(8 + Number(bytes.readBigUInt64LE(0)))]))
  ) {
    refuse('its bytes have changed since it was written');
  }
  return { arrays, metadata: rest };
}

/** The result of decodeSafetensors, or its complaint through `refuse`. */
function decoded(bytes: Uint8Array, refuse: (why: string) => never): ReturnType<typeof decodeSafetensors> {
  try {
    return decodeSafetensors(bytes);
  } catch (error) {
    if (error instanceof SafetensorsError) return refuse(error.message);
    throw error;
  }
}

/** The hash of a file's bytes, with zeros where the hash itself stands first. */
function hashOfFile(bytes: Buffer, written: string): string {
  const at = bytes.indexOf(written);
  return hashOf([bytes.subarray(0, at), Buffer.from(unhashed), bytes.subarray(at + unhashed.length)]);
}

/** A run was about to save numbers that are not finite; nothing was written. */
export class NonFiniteWeightsError extends CheckpointError {
  override name = 'NonFiniteWeightsError';
}

/** Writes tensors under their names, in PyTorch's layout. Throws a NonFiniteWeightsError before it writes a NaN or an infinity. */
export async function saveTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): Promise<void> {
  const arrays = await arraysOf(tensors);
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
      `checkpoint: ${path} is not usable — ${wrong}. The training diverged, or the file is damaged. Use an earlier checkpoint.`,
    );
  }
}

/** Writes a file's arrays into tensors of the same names and shapes; a CheckpointError lists what does not fit. */
export function assign(
  path: string,
  arrays: ReadonlyMap<string, NamedArray>,
  tensors: ReadonlyMap<string, Tensor>,
): void {
  assignArrays(arrays, tensors, (why) => {
    throw new CheckpointError(`checkpoint: ${path} holds another architecture — ${why}.`);
  });
}

/**
 * Names without the `module.` that PyTorch's DataParallel puts before them, and those of a V-Net without the `encoder.` or `decoder.`
 * that SS-Net and BCP do.
 */
export function ownNames(arrays: ReadonlyMap<string, NamedArray>): Map<string, NamedArray> {
  const prefix = /^module\./;
  const isVNet = [...arrays.keys()].some((name) => name.replace(prefix, '').startsWith('encoder.block_one.'));
  const own = (name: string): string => (isVNet ? name.replace(/^(encoder|decoder)\./, '') : name);
  return new Map([...arrays].map(([name, array]) => [own(name.replace(prefix, '')), array]));
}

/**
 * Loads weights from elsewhere as the start of a training. Names may begin with `module.` (PyTorch's DataParallel), those of a V-Net with `encoder.` or `decoder.`; only tensors that
 * `mayLack` allows may be absent, and keep their values. A CheckpointError lists what does not fit.
 */
export function loadForeignTensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  mayLack: (name: string) => boolean,
): void {
  const arrays = ownNames(readSafetensors(path).arrays);
  checkFinite(path, arrays);
  const lacking = [...tensors.keys()].filter((name) => !arrays.has(name) && mayLack(name));
  assign(path, arrays, new Map([...tensors].filter(([name]) => !lacking.includes(name))));
}
