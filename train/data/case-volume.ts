// A case in memory: image and label read from its files, checked against each other and put in the order of a picture's axes; and
// labels and probabilities written on its grid. Axes: NIfTI stores x fastest, so slice z of a volume is a row-major [H, W] picture
// with H = y and W = x; a volume that lies otherwise is reordered first (orientation.ts).
import { DataError } from '../files/data-error.js';
import { readHdf5 } from './hdf5.js';
import { minMaxScaled, type NanPolicy, percentileScaled, zScored } from './intensity.js';
import { classesOf, wholeLabels } from './labels.js';
import type { Case } from './layouts.js';
import { type Volume, volumeOf } from './nifti.js';
import { readNifti, writeNifti } from './nifti-file.js';
import {
  type AxisOrder,
  inPictureOrder,
  type Orient,
  orientationCode,
  pictureOrder,
  toFile,
  toPicture,
} from './orientation.js';

/** Something about a file that a user should be told. */
export interface Note {
  readonly file: string;
  readonly what: string;
}

/** How cases are read, as in the configuration. */
export interface Reading {
  /** Background included; default 4. */
  readonly classes?: number;
  /** Default 'keep'. */
  readonly orient?: Orient;
  /** Label value of voxels to ignore; default none but the data set's own. */
  readonly ignoreLabel?: number | null;
  /** 'voxels': labels correspond to images voxel by voxel, whatever the headers say; default 'headers'. */
  readonly trust?: 'headers' | 'voxels';
  /** What NaN and infinite intensities are read as; default 'least'. */
  readonly nan?: NanPolicy;
  /**
   * How intensities are scaled over the volume: to [0, 1] from the least to the greatest (default), or between two percentiles and
   * clipped; to mean 0 and deviation 1; or not at all.
   */
  readonly intensity?: 'minmax' | 'percentile' | 'zscore' | 'stored';
  /** Those two; default 0.5 and 99.5 %. */
  readonly intensityPercentiles?: readonly number[];
}

/** A case in memory. Images are [D, H, W] = [z, y, x], x fastest. */
export interface CaseVolume {
  readonly case: Case;
  readonly depth: number;
  readonly height: number;
  readonly width: number;
  /** Voxel size along x, y, z in mm. */
  readonly spacing: readonly [number, number, number];
  /** [D, H, W], scaled over the volume as `intensity` says. */
  readonly image: Float32Array;
  /** [D, H, W], `ignored` (labels.ts) where a voxel is to be left out; undefined where the case has no ground truth. */
  readonly label: Uint8Array | undefined;
  /** What was read although it is wrong or unusual, and should be told: a file and a sentence each. */
  readonly notes: readonly Note[];
  /** The image as read, its axes as in the file; writeLabels writes on its grid. */
  readonly volume: Volume;
  /** How the axes of [D, H, W] lie in the file. */
  readonly order: AxisOrder;
}

/**
 * Reads and checks a case: image 3-D, label on the same grid with whole values that are classes or to be ignored. Throws DataError.
 */
export function loadCase(c: Case, reading: Reading = {}): CaseVolume {
  const { classes = 4, orient = 'keep', ignoreLabel, nan = 'least', intensity = 'minmax' } = reading;
  const read = c.hdf5 ? readHdf5Case(c, nan) : { volume: readNifti(c.image, { nan }), label: undefined };
  const { volume } = read;
  if (volume.shape.length !== 3) throw new DataError(filmMessage(c.image, volume));
  const order = c.hdf5 ? pictureOrder({ ...volume, spacing: [1, 1, 1] }, 'keep') : pictureOrder(volume, orient);
  const [width, height, depth] = inPictureOrder(volume.shape, order);
  const file = !c.hdf5 && c.label ? readLabel(c.label, volume, reading) : undefined;
  const label = c.hdf5 ? read.label && wholeLabels({ data: read.label, slope: 1 }, c.label!) : file;
  const notesOn = (path: string | undefined, notes: readonly string[] = []) =>
    notes.map((what): Note => ({ file: path!, what }));
  return {
    case: c,
    depth,
    height,
    width,
    spacing: inPictureOrder(volume.spacing, order),
    image: toPicture(scaledBy(intensity, volume.data, c, reading.intensityPercentiles), volume.shape, order),
    label: label && toPicture(classesOf(label.values, c, { classes, ignoreLabel }), volume.shape, order),
    notes: [...notesOn(c.image, volume.notes), ...notesOn(c.label, label?.notes)],
    volume,
    order,
  };
}

function scaledBy(
  intensity: NonNullable<Reading['intensity']>,
  values: Float32Array,
  c: Case,
  percentiles: readonly number[] | undefined,
): Float32Array {
  switch (intensity) {
    case 'stored':
      return values;
    case 'zscore':
      return zScored(values);
    case 'percentile':
      return percentileScaled(values, percentiles);
    case 'minmax':
      return c.hdf5?.slices ? values : minMaxScaled(values); // slices stored one by one were scaled over their volume before
  }
}

/** The message for an image that is not a single volume. */
export const filmMessage = (path: string, { shape }: Volume): string =>
  `case: ${path} has shape [${shape}], expected 3-D [x,y,z]: it holds ${shape[3]} volumes. Write each to a file of its own, for instance: fslsplit ${path} frame -t.`;

/** A volume from one HDF5 file, or from one for each slice. */
export function readHdf5Case(c: Case, nan: NanPolicy = 'refuse'): { volume: Volume; label: Float32Array | undefined } {
  const { axes, slices } = c.hdf5!;
  const files = slices ?? [c.image];
  const parts = files.map((path) => {
    const { image, label } = readHdf5(path, c.label === undefined ? ['image'] : ['image', 'label'], nan);
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
  const volume = volumeOf(c.id, image, axes === 'zyx' ? [...shape].reverse() : shape, first.image.dtype);
  return { volume: { ...volume, notes: [...new Set(parts.flatMap((part) => part.image.notes))] }, label };
}

/** What is wrong with, and what to tell of, a label's place on its image; both are volumes of the same shape. */
export function placeOnImage(label: Volume, image: Volume): { wrong?: string; notes: string[] } {
  if (label.isPlaced !== image.isPlaced) return { notes: ['only one of image and label has an sform or a qform'] };
  const [lies, expected] = [orientationCode(label.affine), orientationCode(image.affine)];
  if (label.isPlaced && lies !== expected) return { wrong: `lies ${lies}, its image ${expected}`, notes: [] };
  const apart = Math.max(...image.affine.map((v, i) => Math.abs(v - label.affine[i]!)));
  if (apart <= 0.01 * Math.min(...image.spacing)) return { notes: [] };
  return { notes: [`its affine differs from the image's by up to ${apart.toPrecision(3)} mm`] };
}

/** Advice where headers disagree although voxels may correspond. */
export const trustAdvice =
  'If the voxels do correspond (labels saved with an identity affine, say), use --trust voxels';

function readLabel(path: string, image: Volume, { trust = 'headers' }: Reading) {
  const volume = readNifti(path);
  if (volume.shape.length !== 3 || volume.shape.some((n, axis) => n !== image.shape[axis])) {
    throw new DataError(
      `case: ${path} and its image differ in shape — got [${volume.shape}], expected [${image.shape}] as in ${image.name}. Resample the label onto the image's grid.`,
    );
  }
  const { wrong, notes } = trust === 'voxels' ? { wrong: undefined, notes: [] } : placeOnImage(volume, image);
  if (wrong) throw new DataError(`case: ${path} ${wrong}. ${trustAdvice}; else reorder the label.`);
  const whole = wholeLabels(volume, path);
  return { values: whole.values, notes: [...volume.notes, ...notes, ...whole.notes] };
}

/**
 * Writes labels [D, H, W] of a case as uint8 NIfTI in the image's own order of axes, on its grid and affine; `description` goes into
 * the header.
 */
export function writeLabels(
  path: string,
  { volume, order }: CaseVolume,
  labels: Uint8Array,
  description?: string,
): void {
  writeNifti(path, {
    data: toFile(labels, volume.shape, order),
    dtype: 'uint8',
    like: volume,
    ...(description !== undefined && { description }),
  });
}

/** Writes class probabilities [K, D, H, W] of a case as float32 NIfTI [x, y, z, K], axes and grid as writeLabels. */
export function writeProbabilities(
  path: string,
  { volume, order }: CaseVolume,
  probabilities: Float32Array,
  description: string,
): void {
  const voxels = volume.data.length;
  const data = new Float32Array(probabilities.length);
  for (let first = 0; first < data.length; first += voxels) {
    data.set(toFile(probabilities.subarray(first, first + voxels), volume.shape, order), first);
  }
  writeNifti(path, {
    data,
    dtype: 'float32',
    shape: [...volume.shape, data.length / voxels],
    like: volume,
    description,
  });
}
