// One image file, or one case with its label, looked at closely: sizes, intensities, labels, and what is suspicious.
import { createHash } from 'node:crypto';
import { DataError } from './data-error.js';
import { loadHdf5, readHdf5 } from './hdf5.js';
import type { Case } from './layouts.js';
import { readNifti, type Volume, volumeOf } from './nifti.js';
import { geometryProblems } from './nifti-geometry.js';
import { orientationCode } from './orientation.js';
import { readHdf5Case } from './slices.js';

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
  /** Where the file's axes point, for instance LPS; undefined where the header does not say. */
  readonly orientation: string | undefined;
  readonly dtype: string;
  readonly intensities: Intensities;
}

/** What one case holds, and what is wrong with it. */
export interface CaseFacts {
  readonly id: string;
  readonly image?: VolumeFacts;
  /** Voxels by label value as in the file. */
  readonly labels?: Readonly<Record<string, number>>;
  /** Of the image's values: two cases with the same are the same image. */
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

export const factsOf = (volume: Volume): VolumeFacts => ({
  shape: volume.shape,
  spacing: volume.spacing,
  orientation: volume.isPlaced ? orientationCode(volume.affine) : undefined,
  dtype: volume.dtype,
  intensities: intensitiesOf(volume.data),
});

/** How often each value occurs; undefined as soon as there are more than `most` different ones, or one is not whole. */
export function countValues(values: Float32Array, most: number): Record<string, number> | undefined {
  const counts = new Map<number, number>();
  for (const value of values) {
    const before = counts.get(value);
    if (before === undefined && (counts.size === most || !Number.isInteger(value))) return undefined;
    counts.set(value, (before ?? 0) + 1);
  }
  return Object.fromEntries([...counts].sort(([a], [b]) => a - b).map(([value, n]) => [String(value), n]));
}

/** Reads a case and says all that is wrong with it; never throws for what a file holds. `classes`: labels are 0 … classes−1, any where not given. */
export function inspectCase(c: Case, classes?: number): CaseFacts {
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
  const both = c.hdf5 ? attempt(() => readHdf5Case(c)) : undefined;
  const image = c.hdf5 ? both?.volume : attempt(() => readNifti(c.image));
  const labelFile = c.hdf5 || !c.label ? undefined : attempt(() => readNifti(c.label!));
  const label = c.hdf5 ? both?.label : labelFile?.data;
  if (image) {
    if (image.shape.length !== 3) errors.push(`case: ${c.image} has shape [${image.shape}], expected 3-D.`);
    const [first] = image.data;
    if (image.data.every((value) => value === first)) warnings.push(`${c.image}: every voxel is ${first}`);
    if (!c.hdf5) for (const problem of geometryProblems(image.header)) warnings.push(`${c.image}: ${problem}`);
  }
  if (image && labelFile) {
    if (`${labelFile.shape}` !== `${image.shape}`) {
      errors.push(`case: ${c.label} has shape [${labelFile.shape}], its image [${image.shape}].`);
    } else if (labelFile.isPlaced !== image.isPlaced) {
      warnings.push(`${c.label}: only one of image and label has an sform or a qform`);
    } else if (labelFile.isPlaced && orientationCode(labelFile.affine) !== orientationCode(image.affine)) {
      errors.push(
        `case: ${c.label} lies ${orientationCode(labelFile.affine)}, its image ${orientationCode(image.affine)}.`,
      );
    } else {
      const apart = Math.max(...image.affine.map((v, i) => Math.abs(v - labelFile.affine[i]!)));
      if (apart > 0.01 * Math.min(...image.spacing)) {
        warnings.push(`${c.label}: its affine differs from the image's by up to ${apart.toPrecision(3)} mm`);
      }
    }
  }
  const labels = label && countValues(label, 256);
  if (label && !labels) errors.push(`case: ${c.label} holds values that are no labels, expected whole numbers.`);
  if (labels) {
    const allowed = new Set(c.labelValues ?? Array.from({ length: classes ?? 256 }, (_, k) => k));
    const isMask = classes === 2 && Object.keys(labels).every((value) => value === '0' || value === '255');
    const beyond = isMask ? [] : Object.keys(labels).filter((value) => !allowed.has(Number(value)));
    if (beyond.length) {
      errors.push(
        `case: ${c.label} holds the label ${beyond.slice(0, 5).join(', ')}, expected ${c.labelValues?.join(', ') ?? `0 to ${allowed.size - 1}`}. Correct it, or give the number of classes with --classes.`,
      );
    }
    if (Object.keys(labels).join() === '0') warnings.push(`${c.label}: no voxel has a label`);
  }
  return {
    id: c.id,
    ...(image ? { image: factsOf(image), hash: hashOf(image) } : {}),
    ...(labels ? { labels } : {}),
    errors,
    warnings,
  };
}

const hashOf = ({ shape, data }: Volume): string =>
  createHash('sha1')
    .update(`${shape}`)
    .update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    .digest('hex');

/** A file's arrays by name: the one of a NIfTI file, or those of an HDF5 file. Throws DataError. */
export async function readImages(path: string): Promise<{ name: string; volume: Volume }[]> {
  if (!path.endsWith('.h5') && !path.endsWith('.hdf5')) return [{ name: 'image', volume: readNifti(path) }];
  await loadHdf5();
  const arrays = Object.entries(readHdf5(path, ['image', 'label'])).flatMap(([name, array]) =>
    array ? [{ name, volume: volumeOf(name, array.data, [...array.shape].reverse(), array.dtype) }] : [],
  );
  if (!arrays.length) throw new DataError(`hdf5: ${path} has no datasets 'image' and 'label'. Expected at least one.`);
  return arrays;
}
