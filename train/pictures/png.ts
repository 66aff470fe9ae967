// Writes PNG pictures (8 bits, grey or RGB) on node's zlib. Rows are stored with the Up filter, which suits flat drawings
// and enlarged slices; readers see the same pixels whatever the filter. Not fast-png's `encode`, which tests read with its
// `decode`: it has no filter, so slices enlarged 2, 4 and 8 times take 1.15, 1.5 and 1.9 times the bytes, and up to twice the time.
import { deflateSync } from 'node:zlib';
import { writeAtomically } from '../files/atomic-file.js';

/** Pixels from the top left, row by row; one byte a pixel (grey) or three (RGB). */
export interface Picture {
  width: number;
  height: number;
  data: Uint8Array;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) c = crcTable[(c ^ byte) & 255]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

function chunk(type: string, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(12 + body.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, body.length);
  for (let i = 0; i < 4; i++) out[4 + i] = type.charCodeAt(i);
  out.set(body, 8);
  view.setUint32(8 + body.length, crc32(out.subarray(4, 8 + body.length)));
  return out;
}

/** The bytes of a PNG file. Throws a RangeError when the data is neither grey nor RGB of that size. */
export function encodePng({ width, height, data }: Picture): Uint8Array {
  const channels = data.length / (width * height);
  if (!(width > 0 && height > 0 && (channels === 1 || channels === 3))) {
    throw new RangeError(
      `png: ${width}×${height} pixels need ${width * height} or ${3 * width * height} bytes — got ${data.length}.`,
    );
  }
  const stride = width * channels;
  const filtered = new Uint8Array(height * (stride + 1));
  for (let y = 0; y < height; y++) {
    const to = y * (stride + 1) + 1;
    const from = y * stride;
    filtered[to - 1] = 2;
    filtered.set(data.subarray(from, from + stride), to);
    if (y) for (let x = 0; x < stride; x++) filtered[to + x]! -= data[from - stride + x]!;
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = 8;
  header[9] = channels === 3 ? 2 : 0;
  return Buffer.concat([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(filtered, { level: 4 })), // in half the time of 6, with 4 to 10 % more bytes
    chunk('IEND', new Uint8Array(0)),
  ]);
}

/** Writes a PNG file in one piece. */
export const writePng = (path: string, picture: Picture): void => writeAtomically(path, [encodePng(picture)]);
