// A folder as a few small files, to be carried to a machine and back: everything is compressed together and cut into pieces of a
// given size. 16-bit images are predicted pixel by pixel first (Paeth's predictor, high and low bytes apart), which makes cardiac
// MR a quarter smaller than gzip does; what comes out are the same bytes that went in.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from 'node:zlib';

/** An archive that is incomplete or damaged. */
export class ArchiveError extends Error {
  override name = 'ArchiveError';
}

interface Entry {
  readonly path: string;
  /** Bytes in the archive. */
  readonly bytes: number;
  /** Of the file's content (of a .gz file: what it unpacks to). */
  readonly sha256: string;
  /** Packed again when it is written. */
  readonly gzip: boolean;
  /** Of a predicted image: bytes before the pixels, and pixels of a row. */
  readonly image?: { readonly start: number; readonly columns: number };
}

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** What Paeth's predictor expects of a pixel from its neighbours: left, above, and above left. */
function expected(pixels: Uint16Array, i: number, columns: number): number {
  const first = i % columns === 0;
  const left = first ? 0 : pixels[i - 1]!;
  if (i < columns) return left;
  const above = pixels[i - columns]!;
  if (first) return above;
  const corner = pixels[i - columns - 1]!;
  const sum = left + above - corner;
  const [a, b, c] = [Math.abs(sum - left), Math.abs(sum - above), Math.abs(sum - corner)];
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

/** 16-bit little-endian pixels as the low, then the high bytes of their zigzag-coded prediction errors. */
export function predict(pixels: Uint16Array, columns: number): Uint8Array {
  const n = pixels.length;
  const planes = new Uint8Array(2 * n);
  for (let i = 0; i < n; i++) {
    const error = ((pixels[i]! - expected(pixels, i, columns)) << 16) >> 16;
    const coded = (error << 1) ^ (error >> 15);
    planes[i] = coded & 255;
    planes[n + i] = (coded >> 8) & 255;
  }
  return planes;
}

/** The pixels that `predict` coded. */
export function unpredict(planes: Uint8Array, columns: number): Uint16Array {
  const n = planes.length / 2;
  const pixels = new Uint16Array(n);
  for (let i = 0; i < n; i++) {
    const coded = planes[i]! | (planes[n + i]! << 8);
    pixels[i] = expected(pixels, i, columns) + ((coded >> 1) ^ -(coded & 1));
  }
  return pixels;
}

/** Where the pixels of a 16-bit little-endian NIfTI-1 file start, and its row length. */
function imageOf(bytes: Buffer): Entry['image'] {
  if (bytes.length < 352 || bytes.readInt32LE(0) !== 348 || bytes.readInt16LE(72) !== 16) return undefined;
  const [columns, start] = [bytes.readInt16LE(42), bytes.readFloatLE(108)];
  return columns > 0 && start >= 348 && (bytes.length - start) % 2 === 0 ? { start, columns } : undefined;
}

const filesIn = (folder: string): string[] =>
  (readdirSync(folder, { recursive: true, encoding: 'utf8' }) as string[])
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort();

export interface PackOptions {
  /** Bytes of a piece, at most. */
  readonly piece: number;
  /** Brotli's quality, 0 to 11 (default 9). */
  readonly quality?: number;
  /** Which files; all by default. Paths are relative. */
  readonly filter?: (path: string) => boolean;
}

/** Writes `OUT-0001`, `OUT-0002` … with all files under `folder`; returns their paths. Older pieces of the same name are removed. */
export function pack(folder: string, out: string, { piece, quality = 9, filter = () => true }: PackOptions): string[] {
  const entries: Entry[] = [];
  const parts: Uint8Array[] = [];
  for (const path of filesIn(folder).filter((name) => filter(name))) {
    const stored = readFileSync(join(folder, path));
    const gzip = path.endsWith('.gz');
    const bytes = gzip ? gunzipSync(stored) : stored;
    const image = imageOf(bytes);
    const content = image
      ? Buffer.concat([
          bytes.subarray(0, image.start),
          predict(new Uint16Array(Uint8Array.from(bytes.subarray(image.start)).buffer), image.columns),
        ])
      : bytes;
    parts.push(content);
    entries.push({ path, bytes: content.length, sha256: hash(bytes), gzip, ...(image && { image }) });
  }
  const index = Buffer.from(JSON.stringify(entries));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(index.length));
  const packed = brotliCompressSync(Buffer.concat([length, index, ...parts]), {
    params: { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_LGWIN]: 24 },
  });
  mkdirSync(dirname(out), { recursive: true });
  for (const old of piecesOf(out)) rmSync(old);
  const count = Math.max(1, Math.ceil(packed.length / (piece - 96)));
  const share = Math.ceil(packed.length / count);
  return Array.from({ length: count }, (_, i) => {
    const path = `${out}-${String(i + 1).padStart(4, '0')}`;
    const body = packed.subarray(i * share, (i + 1) * share);
    const head = Buffer.alloc(96); // "wgrad i/n sha256", padded
    head.write(`wgrad ${i + 1}/${count} ${hash(body)}\n`);
    writeFileSync(path, Buffer.concat([head, body]));
    return path;
  });
}

/** The pieces of an archive that are there, in order. */
export const piecesOf = (out: string): string[] => {
  const [folder, name] = [dirname(out), basename(out)];
  let names: string[] = [];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names
    .filter((each) => each.startsWith(`${name}-`) && /^\d{4}$/.test(each.slice(name.length + 1)))
    .sort()
    .map((each) => join(folder, each));
};

/** Restores an archive into `folder`; resolves with the relative paths. Throws an ArchiveError if a piece is missing or damaged. */
export function unpack(out: string, folder: string): string[] {
  const pieces = piecesOf(out);
  if (!pieces.length) throw new ArchiveError(`archive: there is no '${out}-0001'.`);
  let expectedCount = 0;
  const bodies = pieces.map((path, i) => {
    const bytes = readFileSync(path);
    const [, index, count, sha256] = /^wgrad (\d+)\/(\d+) ([0-9a-f]{64})\n/.exec(bytes.toString('latin1', 0, 96)) ?? [];
    const body = bytes.subarray(96);
    if (Number(index) !== i + 1) {
      throw new ArchiveError(`archive: ${path} is piece ${index ?? '?'}, expected ${i + 1}. Bring the missing pieces.`);
    }
    if (hash(body) !== sha256) throw new ArchiveError(`archive: ${path} is damaged. Bring it again.`);
    expectedCount = Number(count);
    return body;
  });
  if (bodies.length !== expectedCount) {
    throw new ArchiveError(
      `archive: ${bodies.length} of ${expectedCount} pieces of '${out}' are here. Bring the others.`,
    );
  }
  const all = brotliDecompressSync(Buffer.concat(bodies));
  const indexBytes = Number(all.readBigUInt64LE(0));
  const entries = JSON.parse(all.toString('utf8', 8, 8 + indexBytes)) as Entry[];
  let at = 8 + indexBytes;
  for (const { path, bytes, sha256, gzip, image } of entries) {
    const target = join(folder, path);
    if (relative(folder, target).startsWith('..'))
      throw new ArchiveError(`archive: '${path}' lies outside of ${folder}.`);
    const content = all.subarray(at, (at += bytes));
    const restored = image
      ? Buffer.concat([
          content.subarray(0, image.start),
          new Uint8Array(unpredict(content.subarray(image.start), image.columns).buffer),
        ])
      : content;
    if (hash(restored) !== sha256) throw new ArchiveError(`archive: '${path}' does not come out as it went in.`);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, gzip ? gzipSync(restored, { level: 1 }) : restored);
  }
  return entries.map(({ path }) => path);
}
