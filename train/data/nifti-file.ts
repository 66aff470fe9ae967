// NIfTI files on disk, gzip or not: nifti.ts knows their bytes.
import { closeSync, openSync, readFileSync, readSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { DataError, whyNot } from '../files/data-error.js';
import { isGzip } from './file-format.js';
import { gunzip, gunzipStart } from './gzip.js';
import {
  decodeNifti,
  encodeNifti,
  HEADER_BYTES,
  type NiftiContent,
  parseHeader,
  type ReadOptions,
  type Volume,
} from './nifti.js';

/** Reads a file; a DataError names it and its fault: missing, truncated, not NIfTI, NaN, unsupported. */
export function readNifti(path: string, options: ReadOptions = {}): Volume {
  let bytes: Buffer;
  try {
    if (!statSync(path).isFile()) throw new DataError(`nifti: ${path} is not a file.`);
    bytes = readFileSync(path);
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`nifti: cannot read ${path} — ${whyNot(error)}.`);
  }
  return decodeNiftiFile(bytes, path, options);
}

/** decodeNifti of bytes as a file holds them: packed by gzip or not. */
export const decodeNiftiFile = (bytes: Uint8Array, name: string, options: ReadOptions = {}): Volume =>
  decodeNifti(bytes, name, options, { start: gunzipStart, whole: gunzip });

/** The shape in a file's header; undefined where that cannot be read. Reads little more than the header. */
export function shapeIn(path: string): readonly number[] | undefined {
  let file: number | undefined;
  try {
    file = openSync(path, 'r');
    const bytes = new Uint8Array(1 << 17);
    const start = bytes.subarray(0, readSync(file, bytes));
    const refuse = (what: string): never => {
      throw new DataError(what);
    };
    const header = isGzip(start) ? gunzipStart(start, HEADER_BYTES[2] + 4, refuse) : start;
    return parseHeader(header, path, refuse).shape;
  } catch {
    return undefined; // its reader will tell why
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/**
 * Writes a single little-endian NIfTI file, gzip when the name ends in .gz; a temporary file beside it is renamed, so a
 * crash never leaves half a volume under the name. Throws DataError where it cannot write or values do not fit the dtype.
 */
export function writeNifti(path: string, content: NiftiContent): void {
  const bytes = encodeNifti(content, path);
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    writeFileSync(temporary, path.endsWith('.gz') ? gzipSync(bytes, { level: 6 }) : bytes);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new DataError(`nifti: cannot write ${path} — ${whyNot(error)}.`);
  }
}
