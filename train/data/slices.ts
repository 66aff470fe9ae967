// From a case's files to 2-D slices and back. One axis convention everywhere: NIfTI stores x fastest, so slice z of a
// volume is already a row-major [H, W] picture with H = y and W = x; nothing is ever transposed.

import { DataError } from './data-error.js';
import type { Case } from './datasets.js';
import { readNifti, type Volume } from './nifti.js';

/** A case in memory. Images are [D, H, W] = [z, y, x], x fastest. */
export interface CaseVolume {
  readonly case: Case;
  readonly depth: number;
  readonly height: number;
  readonly width: number;
  /** Voxel size along x, y, z in mm. */
  readonly spacing: readonly [number, number, number];
  /** [D, H, W], min–max scaled to [0, 1] over the volume. */
  readonly image: Float32Array;
  /** [D, H, W]; undefined where the case has no ground truth. */
  readonly label: Uint8Array | undefined;
  /** The image as read: pass it as `like` to writeNifti. */
  readonly volume: Volume;
}

/** One slice on the network's grid. */
export interface Slice {
  /** Case id. */
  readonly id: string;
  readonly z: number;
  /** [size, size] in [0, 1]. */
  readonly image: Float32Array;
  /** [size, size]; undefined where there is no ground truth. */
  readonly label: Uint8Array | undefined;
}

/**
 * Reads and checks a case: image 3-D, label on the same grid with whole values in [0, classes). Throws DataError.
 */
export function loadCase(c: Case, { classes = 4 }: { classes?: number } = {}): CaseVolume {
  const volume = readNifti(c.image);
  if (volume.shape.length !== 3) {
    throw new DataError(
      `case: ${c.image} has shape [${volume.shape}], expected 3-D [x,y,z]. Write each time point to a file of its own.`,
    );
  }
  const [width, height, depth] = volume.shape as [number, number, number];
  return {
    case: c,
    depth,
    height,
    width,
    spacing: volume.spacing,
    image: minMaxScaled(volume.data),
    label: c.label ? readLabel(c.label, volume, c.image, classes) : undefined,
    volume,
  };
}

function readLabel(path: string, image: Volume, imagePath: string, classes: number): Uint8Array {
  const volume = readNifti(path);
  if (volume.shape.length !== 3 || volume.shape.some((n, axis) => n !== image.shape[axis])) {
    throw new DataError(
      `case: ${path} and its image differ in shape — got [${volume.shape}], expected [${image.shape}] as in ${imagePath}. Resample the label onto the image's grid.`,
    );
  }
  const label = new Uint8Array(volume.data.length);
  for (let i = 0; i < label.length; i++) {
    const value = volume.data[i]!;
    if (!(Number.isInteger(value) && value >= 0 && value < classes)) {
      throw new DataError(
        `case: ${path} holds the label ${value}, expected whole numbers 0 to ${classes - 1}. Correct the labels or set the number of classes.`,
      );
    }
    label[i] = value;
  }
  return label;
}

/** (v − min) / (max − min), the protocol's normalisation; a constant volume becomes 0. */
export function minMaxScaled(values: Float32Array): Float32Array {
  let least = Number.POSITIVE_INFINITY;
  let most = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const range = most - least;
  return range > 0 ? values.map((value) => (value - least) / range) : new Float32Array(values.length);
}

/** All slices of a case on a size×size grid, from z = 0. */
export function slicesOf(volume: CaseVolume, size: number): Slice[] {
  const { depth, height, width, image, label } = volume;
  const pixels = height * width;
  return Array.from({ length: depth }, (_, z) => ({
    id: volume.case.id,
    z,
    image: resizeNearest(image.subarray(z * pixels, (z + 1) * pixels), [height, width], [size, size]),
    label: label && resizeNearest(label.subarray(z * pixels, (z + 1) * pixels), [height, width], [size, size]),
  }));
}

/** The slices of a case as one array [D, size, size], what a predictor takes. */
export function stackSlices(volume: CaseVolume, size: number): Float32Array {
  const stack = new Float32Array(volume.depth * size * size);
  for (const slice of slicesOf(volume, size)) stack.set(slice.image, slice.z * size * size);
  return stack;
}

/** Predicted labels [D, size, size] back on the case's own grid [D, H, W]. */
export function restoreLabels(
  labels: Uint8Array,
  size: number,
  volume: Pick<CaseVolume, 'depth' | 'height' | 'width'>,
): Uint8Array {
  const { depth, height, width } = volume;
  const restored = new Uint8Array(depth * height * width);
  for (let z = 0; z < depth; z++) {
    const slice = labels.subarray(z * size * size, (z + 1) * size * size);
    restored.set(resizeNearest(slice, [size, size], [height, width]), z * height * width);
  }
  return restored;
}

/**
 * Nearest-neighbour resize of [H, W] as `scipy.ndimage.zoom(order=0)` does it: corners map to corners, output index i
 * takes input index floor(i·(n_in − 1)/(n_out − 1) + ½), halves rounded up.
 */
export function resizeNearest<A extends Float32Array | Uint8Array>(
  source: A,
  [fromHeight, fromWidth]: readonly [number, number],
  [toHeight, toWidth]: readonly [number, number],
): A {
  const rows = sourceIndices(fromHeight, toHeight);
  const columns = sourceIndices(fromWidth, toWidth);
  const resized = new (source.constructor as new (length: number) => A)(toHeight * toWidth);
  for (let y = 0; y < toHeight; y++) {
    const row = rows[y]! * fromWidth;
    for (let x = 0; x < toWidth; x++) resized[y * toWidth + x] = source[row + columns[x]!]!;
  }
  return resized;
}

function sourceIndices(from: number, to: number): Uint32Array {
  const zoom = to > 1 ? (from - 1) / (to - 1) : 0;
  // The last coordinate may come out a rounding error beyond the edge.
  return Uint32Array.from({ length: to }, (_, i) => Math.min(from - 1, Math.floor(i * zoom + 0.5)));
}
