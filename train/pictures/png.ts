// PNG files, encoded by fast-png.
import { encode } from 'fast-png';
import { writeAtomically } from '../files/atomic-file.js';

/** Pixels from the top left, row by row; one byte a pixel (grey) or three (RGB). */
export interface Picture {
  width: number;
  height: number;
  data: Uint8Array;
}

/** The bytes of a PNG file. Throws a RangeError when the data is neither grey nor RGB of that size. */
export function encodePng({ width, height, data }: Picture): Uint8Array {
  const channels = data.length / (width * height);
  if (!(width > 0 && height > 0 && (channels === 1 || channels === 3))) {
    throw new RangeError(
      `png: ${width}×${height} pixels need ${width * height} or ${3 * width * height} bytes — got ${data.length}.`,
    );
  }
  return encode({ width, height, data, channels });
}

/** Writes a PNG file in one piece. */
export const writePng = (path: string, picture: Picture): void => writeAtomically(path, [encodePng(picture)]);
