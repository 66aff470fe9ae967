// Gzip as it is found: headers of any length, several members, and bytes after the last of them, which gunzip ignores, too.
// What Node's own gunzip reads, it reads; only what it refuses is read here member by member.
import { constants, gunzipSync, inflateRawSync } from 'node:zlib';
import type { Refuse } from '../files/data-error.js';
import { isGzip } from './file-format.js';

/** Where the compressed data of the member at `at` begin; undefined where none begins there, or its header is cut. */
function dataStart(bytes: Uint8Array, at: number): number | undefined {
  const [magic1, magic2, method, flags = 0] = bytes.subarray(at, at + 4);
  if (magic1 !== 0x1f || magic2 !== 0x8b || method !== 8 || flags & 0xe0) return undefined;
  let next = at + 10;
  if (flags & 4) next += 2 + (bytes[next] ?? 0) + 256 * (bytes[next + 1] ?? 0); // FEXTRA
  for (const text of [8, 16]) {
    if (!(flags & text)) continue; // FNAME, FCOMMENT: to their zero
    next = next < bytes.length ? bytes.indexOf(0, next) + 1 : 0;
    if (next === 0) return undefined;
  }
  if (flags & 2) next += 2; // FHCRC
  return next < bytes.length ? next : undefined;
}

/** Inflates, and returns how many bytes of the input it took; throws zlib's errors. */
function inflated(bytes: Uint8Array, options: { finishFlush?: number; maxOutputLength?: number }) {
  const { buffer, engine } = inflateRawSync(bytes, { ...options, info: true }) as unknown as {
    buffer: Uint8Array;
    engine: { bytesWritten: number };
  };
  return { buffer, taken: engine.bytesWritten };
}

const damaged = (why: string) => `the gzip data are damaged (${why}). Copy or download it again.`;
const truncated = 'the file is truncated (gzip data end early). Copy or download it again.';

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** At least the first `count` bytes of what is packed, or all there are; little more is touched. */
export function gunzipStart(bytes: Uint8Array, count: number, refuse: Refuse): Uint8Array {
  const parts: Uint8Array[] = [];
  const window = 8192;
  for (let [at, got] = [0, 0]; got < count; ) {
    const start = dataStart(bytes, at);
    if (start === undefined) {
      if (parts.length === 0) refuse(damaged('no gzip header'));
      break;
    }
    const packed = bytes.subarray(start, start + window);
    try {
      const { buffer, taken } = inflated(packed, { finishFlush: constants.Z_SYNC_FLUSH });
      parts.push(buffer);
      got += buffer.length;
      if (taken === packed.length) break; // the member continues beyond the window, or the file ends with it
      at = start + taken + 8;
    } catch (error) {
      refuse(damaged((error as Error).message));
    }
  }
  return joined(parts);
}

/** All that is packed, at most `most` bytes, with lengths and checksums checked; and how many bytes after it are ignored. */
export function gunzip(bytes: Uint8Array, most: number, refuse: Refuse): { content: Uint8Array; ignored: number } {
  try {
    return { content: gunzipSync(bytes, { maxOutputLength: most }), ignored: 0 };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') return refuse(tooLarge(most));
  }
  const parts: Uint8Array[] = [];
  let [at, got] = [0, 0];
  for (let start = dataStart(bytes, 0); start !== undefined; start = dataStart(bytes, at)) {
    try {
      const { buffer, taken } = inflated(bytes.subarray(start), { maxOutputLength: Math.max(1, most - got) });
      parts.push(buffer);
      got += buffer.length;
      at = start + taken + 8;
      if (at > bytes.length) refuse(truncated);
      const view = new DataView(bytes.buffer, bytes.byteOffset + at - 8, 8);
      if (view.getUint32(0, true) !== crc32(buffer)) refuse(damaged('incorrect data check'));
      if (view.getUint32(4, true) !== buffer.length % 2 ** 32) refuse(damaged('incorrect length check'));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      refuse(code === 'ERR_BUFFER_TOO_LARGE' ? tooLarge(most) : code === 'Z_BUF_ERROR' ? truncated : damaged(message));
    }
  }
  if (at === 0) refuse(damaged('no gzip header'));
  if (isGzip(bytes.subarray(at))) refuse(damaged('a second part has no whole header'));
  return { content: joined(parts), ignored: bytes.length - at };
}

const tooLarge = (most: number) =>
  `it unpacks to more than ${most} bytes, far beyond what its header promises. Refused.`;

function crc32(bytes: Uint8Array): number {
  const table = Uint32Array.from({ length: 256 }, (_, n) => {
    for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 255]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
