// Inspection of one image file, or of one case with its label: sizes, intensities, labels, and anything suspicious.
import { createHash } from 'node:crypto';
import { DataError } from '../files/data-error.js';
import { hdf5End } from './case-files.js';
import { filmMessage, placeOnImage, type Reading, readHdf5Case, trustAdvice } from './case-volume.js';
import { loadHdf5, readHdf5 } from './hdf5.js';
import type { NanPolicy } from './intensity.js';
import { countOf, unknownLabels, wholeLabels } from './labels.js';
import type { Case } from './layouts.js';
import { type Volume, volumeOf } from './nifti.js';
import { readNifti } from './nifti-file.js';
import { geometryProblems } from './nifti-geometry.js';
import { orientationCode } from './orientation.js';

/** Percentiles that are told: the least, 1 %, the median, 99 %, the greatest. */
export interface Intensities {
  readonly least: number;
  readonly p1: number;
  readonly median: number;
  readonly p99: number;
  readonly most: number;
}

export interface VolumeFacts {
  readonly shape: readonly number[];
  /** mm along the file's axes. */
  readonly spacing: Volume['spacing'];
  /** The directions of the file's axes, for instance LPS; undefined where the header has none. */
  readonly orientation: string | undefined;
  readonly dtype: string;
  readonly intensities: Intensities;
  /** How many times larger the range is than that between 0.5 and 99.5 %: what a few outliers do to min–max scaling. */
  readonly flattened: number;
}

/** What one case holds, and what is wrong with it. */
export interface CaseFacts {
  readonly id: string;
  readonly image?: VolumeFacts;
  /** Voxels by label value as in the file. */
  readonly labels?: Readonly<Record<string, number>>;
  /** Hash of the image's values: two cases with the same hash are the same image. */
  readonly hash?: string;
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
}

/** Sorted copies' values at shares of the way. */
export function intensitiesOf(values: Float32Array): Intensities {
  const sorted = values.slice().sort();
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return { least: at(0), p1: at(0.01), median: at(0.5), p99: at(0.99), most: at(1) };
}

/**
 * How many times larger the range is than that between 0.5 and 99.5 %, to 1 part in 4096; 1 of an image that is nearly all one value.
 */
export function flattenedBy(values: Float32Array): number {
  const bins = new Uint32Array(4096);
  let [least, most, floor] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (!(most > least)) return 1;
  const scale = bins.length / (most - least);
  for (const value of values) {
    bins[Math.min(bins.length - 1, Math.floor((value - least) * scale))]!++;
    if (value === least) floor++;
  }
  if (floor >= 0.99 * values.length) return 1;
  const at = (share: number): number => {
    let [sum, bin] = [0, 0];
    while (sum + bins[bin]! <= share * (values.length - 1)) sum += bins[bin++]!;
    return bin;
  };
  return bins.length / (at(0.995) - at(0.005) + 1);
}

export const factsOf = (volume: Volume): VolumeFacts => ({
  ...placeOf(volume),
  shape: volume.shape,
  dtype: volume.dtype,
  intensities: intensitiesOf(volume.data),
});

/** What volumes of a data set are compared by. */
export const placeOf = (volume: Volume): Pick<VolumeFacts, 'spacing' | 'orientation' | 'flattened'> => ({
  spacing: volume.spacing,
  orientation: volume.isPlaced ? orientationCode(volume.affine) : undefined,
  flattened: flattenedBy(volume.data),
});

/** How often each value occurs; undefined as soon as there are more than `most` different ones, or one is not whole. */
export function countValues(values: Float32Array, most: number): Record<string, number> | undefined {
  const counts = new Map<number, number>();
  for (const value of values) {
    const before = counts.get(value);
    if (before === undefined && (counts.size === most || !Number.isInteger(value))) return undefined;
    counts.set(value, (before ?? 0) + 1);
  }
  return recordOf(counts);
}

/** Reads a case and lists all its faults; never throws for a file's content. Without `classes`, any whole label is a class. */
export function inspectCase(c: Case, reading: Reading = {}): CaseFacts {
  const { nan = 'least', trust = 'headers' } = reading;
  const errors: string[] = [];
  const warnings: string[] = [];
  const attempt = <T>(work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      errors.push(error.message);
      return undefined;
    }
  };
  const warn = (file: string, notes: readonly string[]) => warnings.push(...notes.map((note) => `${file}: ${note}`));
  const both = c.hdf5 ? attempt(() => readHdf5Case(c, nan)) : undefined;
  const image = c.hdf5 ? both?.volume : attempt(() => readNifti(c.image, { nan }));
  const labelFile = c.hdf5 || !c.label ? undefined : attempt(() => readNifti(c.label!));
  const label = c.hdf5 ? both?.label && { data: both.label, slope: 1 } : labelFile;
  if (image) {
    if (image.shape.length !== 3) errors.push(filmMessage(c.image, image));
    const [first] = image.data;
    if (image.data.every((value) => value === first)) warnings.push(`${c.image}: every voxel is ${first}`);
    warn(c.image, image.notes);
    if (!c.hdf5) warn(c.image, geometryProblems(image.header));
  }
  if (labelFile) warn(c.label!, labelFile.notes);
  if (image && labelFile) {
    if (`${labelFile.shape}` !== `${image.shape}`) {
      errors.push(`case: ${c.label} has shape [${labelFile.shape}], its image [${image.shape}].`);
    } else if (trust === 'headers') {
      const { wrong, notes } = placeOnImage(labelFile, image);
      if (wrong) errors.push(`case: ${c.label} ${wrong}. ${trustAdvice}.`);
      warn(c.label!, notes);
    }
  }
  const whole = label && attempt(() => wholeLabels(label, c.label!));
  const counts = whole && countOf(whole.values);
  if (whole) warn(c.label!, whole.notes);
  if (counts) {
    const wrong = unknownLabels(counts, c, reading);
    if (wrong) errors.push(wrong);
    if (counts.size === 1 && counts.has(0)) warnings.push(`${c.label}: no voxel has a label`);
  }
  return {
    id: c.id,
    ...(image ? { image: factsOf(image), hash: hashOf(image) } : {}),
    ...(counts && counts.size <= 1000 ? { labels: recordOf(counts) } : {}),
    errors,
    warnings,
  };
}

const recordOf = (counts: ReadonlyMap<number, number>): Record<string, number> =>
  Object.fromEntries([...counts].sort(([a], [b]) => a - b).map(([value, n]) => [String(value), n]));

const hashOf = ({ shape, data }: Volume): string =>
  createHash('sha1')
    .update(`${shape}`)
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');

/** A file's arrays by name: the one of a NIfTI file, or those of an HDF5 file. Throws DataError. */
export async function readImages(path: string, nan: NanPolicy = 'least'): Promise<{ name: string; volume: Volume }[]> {
  if (!hdf5End.test(path)) return [{ name: 'image', volume: readNifti(path, { nan }) }];
  await loadHdf5();
  const arrays = Object.entries(readHdf5(path, ['image', 'label'], nan)).flatMap(([name, array]) =>
    array
      ? [
          {
            name,
            volume: { ...volumeOf(name, array.data, [...array.shape].reverse(), array.dtype), notes: array.notes },
          },
        ]
      : [],
  );
  if (!arrays.length) throw new DataError(`hdf5: ${path} has no datasets 'image' and 'label'. Expected at least one.`);
  return arrays;
}
