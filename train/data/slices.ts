// From a case's files to 2-D slices on the network's grid and back. Axes: NIfTI stores x fastest, so slice z of a volume
// is a row-major [H, W] picture with H = y and W = x; a volume that lies otherwise is reordered first (orientation.ts).
import { gather, sourceIndices, type Transform, transformedShape } from './augment.js';
import { DataError } from './data-error.js';
import { readHdf5 } from './hdf5.js';
import type { Case } from './layouts.js';
import { readNifti, type Volume, volumeOf, writeNifti } from './nifti.js';
import {
  type AxisOrder,
  inPictureOrder,
  type Orient,
  orientationCode,
  pictureOrder,
  toFile,
  toPicture,
} from './orientation.js';

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
  /** The image as read, its axes as in the file; writeLabels writes on its grid. */
  readonly volume: Volume;
  /** How the axes of [D, H, W] lie in the file. */
  readonly order: AxisOrder;
}

/** One slice, on its own grid or on the network's. */
export interface Slice {
  /** Case id. */
  readonly id: string;
  readonly z: number;
  /** [height, width] in [0, 1]. */
  readonly image: Float32Array;
  /** [height, width]; undefined where there is no ground truth. */
  readonly label: Uint8Array | undefined;
}

/** A slice on its own grid. */
export interface NativeSlice extends Slice {
  readonly shape: readonly [height: number, width: number];
  /** Pixel size along y, x in mm. */
  readonly spacing: readonly [number, number];
}

/** The network's grid, as in the configuration. */
export interface Grid {
  /** Slices are size×size. */
  readonly size: number;
  /**
   * Pixel size along x, y in mm, at which a slice is cut or padded about its centre. [0, 0] or none (the protocol): the whole slice is
   * resized, whatever its pixels.
   */
  readonly spacing?: readonly number[];
}

/**
 * Reads and checks a case: image 3-D, label on the same grid with whole values in [0, classes). Throws DataError.
 */
export function loadCase(
  c: Case,
  { classes = 4, orient = 'keep' }: { classes?: number; orient?: Orient } = {},
): CaseVolume {
  const { volume, label } = c.hdf5 ? readHdf5Case(c) : { volume: readNifti(c.image), label: undefined };
  if (volume.shape.length !== 3) {
    throw new DataError(
      `case: ${c.image} has shape [${volume.shape}], expected 3-D [x,y,z]. Write each time point to a file of its own.`,
    );
  }
  const order = c.hdf5 ? pictureOrder({ ...volume, spacing: [1, 1, 1] }, 'keep') : pictureOrder(volume, orient);
  const [width, height, depth] = inPictureOrder(volume.shape, order);
  const values = c.hdf5 ? label : c.label ? readLabel(c.label, volume, c.image) : undefined;
  // Slices stored one by one were scaled over their volume before.
  const scaled = c.hdf5?.slices ? volume.data : minMaxScaled(volume.data);
  return {
    case: c,
    depth,
    height,
    width,
    spacing: inPictureOrder(volume.spacing, order),
    image: toPicture(scaled, volume.shape, order),
    label: values && toPicture(classesOf(values, c, classes), volume.shape, order),
    volume,
    order,
  };
}

/** A volume from one HDF5 file, or from one for each slice. */
export function readHdf5Case(c: Case): { volume: Volume; label: Float32Array | undefined } {
  const { axes, slices } = c.hdf5!;
  const files = slices ?? [c.image];
  const parts = files.map((path) => {
    const { image, label } = readHdf5(path, ['image', 'label']);
    if (!image) throw new DataError(`hdf5: ${path} has no dataset 'image'. Expected 'image' and 'label'.`);
    if (image.shape.length !== (slices ? 2 : 3)) {
      throw new DataError(
        `hdf5: ${path}: 'image' has ${image.shape.length} axes, expected ${slices ? 2 : 3}. Is it a ${slices ? 'volume' : 'slice'}?`,
      );
    }
    if (label && `${label.shape}` !== `${image.shape}`) {
      throw new DataError(
        `case: image and label of ${path} differ in shape — got [${label.shape}], expected [${image.shape}].`,
      );
    }
    return { path, image, label };
  });
  const [first] = parts as [(typeof parts)[0]];
  const other = parts.find(({ image }) => `${image.shape}` !== `${first.image.shape}`);
  if (other)
    throw new DataError(
      `hdf5: ${other.path} is [${other.image.shape}], the first slice [${first.image.shape}]. Expected one size.`,
    );
  const shape = slices ? [slices.length, ...first.image.shape] : first.image.shape;
  const joined = (arrays: (Float32Array | undefined)[]): Float32Array | undefined => {
    if (arrays.some((array) => !array)) return undefined;
    const all = new Float32Array(shape.reduce((product, n) => product * n, 1));
    for (const [i, array] of arrays.entries()) all.set(array!, i * array!.length);
    return axes === 'zyx'
      ? all
      : toPicture(all, [...shape].reverse(), { axes: [2, 1, 0], flipped: [false, false, false] });
  };
  const image = joined(parts.map((part) => part.image.data))!;
  const label = joined(parts.map((part) => part.label?.data));
  return {
    volume: volumeOf(c.id, image, axes === 'zyx' ? [...shape].reverse() : shape, first.image.dtype),
    label,
  };
}

function readLabel(path: string, image: Volume, imagePath: string): Float32Array {
  const volume = readNifti(path);
  if (volume.shape.length !== 3 || volume.shape.some((n, axis) => n !== image.shape[axis])) {
    throw new DataError(
      `case: ${path} and its image differ in shape — got [${volume.shape}], expected [${image.shape}] as in ${imagePath}. Resample the label onto the image's grid.`,
    );
  }
  const [lies, expected] = [orientationCode(volume.affine), orientationCode(image.affine)];
  if (volume.isPlaced && image.isPlaced && lies !== expected) {
    throw new DataError(
      `case: ${path} lies ${lies}, its image ${expected}. Reorder the label, or if the voxels do correspond, give it the header of ${imagePath}.`,
    );
  }
  return volume.data;
}

/** Label values as classes: by the case's table; a mask of 0 and 255 is classes 0 and 1; else as they are. */
function classesOf(values: Float32Array, { label: path, labelValues }: Case, classes: number): Uint8Array {
  const isMask =
    classes === 2 && !labelValues && values.includes(255) && values.every((value) => value === 0 || value === 255);
  const table = labelValues ?? (isMask ? [0, 255] : undefined);
  const byValue = table && new Map(table.map((value, k) => [value, k]));
  const label = new Uint8Array(values.length);
  for (let i = 0; i < label.length; i++) {
    const value = values[i]!;
    const k = byValue ? (byValue.get(value) ?? -1) : value;
    if (!(Number.isInteger(k) && k >= 0 && k < classes)) {
      const expected = labelValues
        ? `one of ${labelValues.join(', ')} (dataset.json)`
        : `whole numbers 0 to ${classes - 1}`;
      throw new DataError(
        `case: ${path} holds the label ${value}, expected ${expected}. Correct the labels or set the number of classes.`,
      );
    }
    label[i] = k;
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

/** All slices of a case on its own grid, from z = 0; they share the volume's memory. */
export function nativeSlices(volume: CaseVolume): NativeSlice[] {
  const { depth, height, width, image, label, spacing } = volume;
  const pixels = height * width;
  return Array.from({ length: depth }, (_, z) => ({
    id: volume.case.id,
    z,
    image: image.subarray(z * pixels, (z + 1) * pixels),
    label: label?.subarray(z * pixels, (z + 1) * pixels),
    shape: [height, width],
    spacing: [spacing[1], spacing[0]],
  }));
}

/** A slice on the network's grid, after a transform on its own, as SSL4MIS's RandomGenerator does; nearest neighbour. */
export function sliceOnGrid(
  { id, z, image, label, shape, spacing }: NativeSlice,
  grid: Grid,
  transform: Transform,
): Slice {
  const turned = transformedShape(shape, transform);
  const isTurned = transform.kind === 'turnAndFlip' && transform.turns % 2 === 1;
  const [mmY, mmX] = isTurned ? [spacing[1], spacing[0]] : spacing;
  const wanted = {
    rows: gridPositions(turned[0], mmY, grid, 1),
    columns: gridPositions(turned[1], mmX, grid, 0),
  };
  const indices = sourceIndices(shape, transform, wanted);
  return {
    id,
    z,
    image: gather(image, indices),
    label: label && gather(label, indices),
  };
}

/** All slices of a case on the network's grid, from z = 0. */
export const slicesOf = (volume: CaseVolume, grid: Grid): Slice[] =>
  nativeSlices(volume).map((slice) => sliceOnGrid(slice, grid, { kind: 'identity' }));

/** The slices of a case as one array [D, size, size], what a predictor takes. */
export function stackSlices(volume: CaseVolume, grid: Grid): Float32Array {
  const { size } = grid;
  const stack = new Float32Array(volume.depth * size * size);
  for (const slice of slicesOf(volume, grid)) stack.set(slice.image, slice.z * size * size);
  return stack;
}

/** Predicted labels [D, size, size] back on the case's own [D, H, W]; background where the network's grid does not reach. */
export function restoreLabels(
  labels: Uint8Array,
  grid: Grid,
  volume: Pick<CaseVolume, 'depth' | 'height' | 'width' | 'spacing'>,
): Uint8Array {
  const { size } = grid;
  const { depth, height, width, spacing } = volume;
  const wanted = {
    rows: nativePositions(height, spacing[1], grid, 1),
    columns: nativePositions(width, spacing[0], grid, 0),
  };
  const indices = sourceIndices([size, size], { kind: 'identity' }, wanted);
  const restored = new Uint8Array(depth * height * width);
  for (let z = 0; z < depth; z++) {
    const slice = labels.subarray(z * size * size, (z + 1) * size * size);
    restored.set(gather(slice, indices), z * height * width);
  }
  return restored;
}

/** Writes labels [D, H, W] of a case as uint8 NIfTI in the image's own order of axes, on its grid and affine. */
export function writeLabels(path: string, { volume, order }: CaseVolume, labels: Uint8Array): void {
  writeNifti(path, { data: toFile(labels, volume.shape, order), dtype: 'uint8', like: volume });
}

/** For each position of the grid along an axis (0: x, 1: y), the pixel that is nearest; −1 where the slice does not reach. */
function gridPositions(from: number, mm: number, { size, spacing }: Grid, axis: 0 | 1): Int32Array {
  const wanted = spacing?.[axis];
  return wanted ? centred(from, size, wanted / mm) : resizePositions(from, size);
}

/** The way back: for each pixel of the slice, the position on the grid. */
function nativePositions(to: number, mm: number, { size, spacing }: Grid, axis: 0 | 1): Int32Array {
  const wanted = spacing?.[axis];
  return wanted ? centred(size, to, mm / wanted) : resizePositions(size, to);
}

/** Both centres on each other, `step` source pixels from one position to the next. */
const centred = (from: number, to: number, step: number): Int32Array =>
  Int32Array.from({ length: to }, (_, i) => {
    const at = Math.floor((i - (to - 1) / 2) * step + (from - 1) / 2 + 0.5);
    return at >= 0 && at < from ? at : -1;
  });

/**
 * As `scipy.ndimage.zoom(order=0)` resizes: corners map to corners, output index i takes input index
 * floor(i·(n_in − 1)/(n_out − 1) + ½), halves rounded up.
 */
export function resizePositions(from: number, to: number): Int32Array {
  const zoom = to > 1 ? (from - 1) / (to - 1) : 0;
  // The last coordinate may come out a rounding error beyond the edge.
  return Int32Array.from({ length: to }, (_, i) => Math.min(from - 1, Math.floor(i * zoom + 0.5)));
}

/** Nearest-neighbour resize of a picture [H, W] (resizePositions). */
export function resizeNearest<A extends Float32Array | Uint8Array>(
  source: A,
  [fromHeight, fromWidth]: readonly [number, number],
  [toHeight, toWidth]: readonly [number, number],
): A {
  const wanted = { rows: resizePositions(fromHeight, toHeight), columns: resizePositions(fromWidth, toWidth) };
  return gather(source, sourceIndices([fromHeight, fromWidth], { kind: 'identity' }, wanted));
}
