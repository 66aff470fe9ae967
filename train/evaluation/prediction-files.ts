// Label volumes that some tool has written as NIfTI, one for each case of a data set: which file is whose, and whether it can
// be compared at all. It must lie on the image's own grid: nothing is resampled here.
import { readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { contentsOf, stemOf, volumeNamed, volumesIn } from '../data/case-files.js';
import { type CaseVolume, type Note, type Reading, trustAdvice } from '../data/case-volume.js';
import type { Case } from '../data/datasets.js';
import { ignored, wholeLabels } from '../data/labels.js';
import type { Volume } from '../data/nifti.js';
import { readNifti } from '../data/nifti-file.js';
import { toFile, toPicture } from '../data/orientation.js';
import { DataError, some, whyNot } from '../files/data-error.js';

/**
 * The prediction of each case in `folder`, by case id: CASE.nii.gz or CASE.nii, or the image's file name where no two cases share
 * it. Throws a DataError that names all that are missing, and what is there instead.
 */
export function findPredictions(folder: string, cases: readonly Case[]): Map<string, string> {
  try {
    readdirSync(folder);
  } catch (error) {
    throw new DataError(`evaluate: cannot open ${folder} — ${whyNot(error)}. Give the folder of the predictions.`);
  }
  const there = volumesIn(folder);
  const nameOf = (c: Case): string => stemOf(c.image) ?? c.id;
  const owners = new Map<string, number>();
  for (const name of cases.map(nameOf)) owners.set(name, (owners.get(name) ?? 0) + 1);
  const found = new Map<string, string>();
  for (const c of cases) {
    const names = owners.get(nameOf(c)) === 1 ? [c.id, nameOf(c)] : [c.id];
    const present = [...new Set(names)].flatMap((name) => volumeNamed(there, name)?.path ?? []);
    if (present.length > 1) {
      throw new DataError(
        `evaluate: ${c.id} has ${present.length} predictions: ${present.join(', ')}. Keep one of them.`,
      );
    }
    if (present.length) found.set(c.id, present[0]!);
  }
  const missing = cases.filter((c) => !found.has(c.id));
  if (missing.length) {
    const used = new Set(found.values());
    const others = there.filter(({ path }) => !used.has(path)).map(({ path }) => basename(path));
    const instead = others.length ? `other volumes there are ${some(others)}` : contentsOf(folder);
    throw new DataError(
      `evaluate: ${folder} has no prediction for ${some(missing.slice(0, 5).map((c) => c.id))}${missing.length > 5 ? ', …' : ''} (${missing.length} of ${cases.length} cases). ` +
        `Expected files such as ${missing[0]!.id}.nii.gz; ${instead}. Rename them, or choose whose with --split.`,
    );
  }
  return found;
}

/**
 * How predictions write their classes: with the values of the references, or as class numbers 0 … K − 1, which is how wgrad
 * writes them. These differ only where a data set numbers its labels otherwise; there all files together tell.
 */
export function codingOf(files: Iterable<string>, cases: readonly Case[], classes: number): readonly number[] {
  const numbers = Array.from({ length: classes }, (_, k) => k);
  const table = cases.find((c) => c.labelValues)?.labelValues;
  if (!table) return numbers;
  for (const file of files) {
    if (!wholeLabels(readNifti(file), file).values.every((value) => table.includes(value))) return numbers;
  }
  return table;
}

/**
 * Labels of a prediction, [D, H, W] as the case's own; what it says where the reference ignores does not matter. Throws a DataError unless
 * it lies on the image's grid (with `trust` in voxels: has its shape) and holds `coding`'s values, or is a mask of 0 and 255 for two classes.
 */
export function readPrediction(
  file: string,
  { volume: image, order, label, case: c }: CaseVolume,
  coding: readonly number[],
  trust: Reading['trust'] = 'headers',
): { labels: Uint8Array; notes: Note[] } {
  const prediction = readNifti(file);
  const { shape } = prediction;
  if (`${shape}` !== `${image.shape}`) {
    throw new DataError(
      `evaluate: ${file} and its image differ in shape — got [${shape}], expected [${image.shape}] as in ${c.image}. Resample the prediction onto the image's grid.`,
    );
  }
  const apart = c.hdf5 || trust === 'voxels' ? 0 : voxelsApart(prediction, image); // HDF5 files do not place their voxels
  if (apart > 0.05) {
    throw new DataError(
      `evaluate: ${file} does not lie on the grid of ${c.image} — corners are up to ${apart.toFixed(2)} voxels apart, orientation or voxel size differ. ${trustAdvice}; else resample the prediction onto the image's grid.`,
    );
  }
  const { values: data, notes } = wholeLabels(prediction, file);
  const isMask = coding.length === 2 && data.includes(255) && data.every((value) => value === 0 || value === 255);
  const classOf = new Map((isMask ? [0, 255] : coding).map((value, k) => [value, k]));
  const inFile = Int32Array.from(data, (value) => classOf.get(value) ?? -1);
  const reference = label && toFile(label, image.shape, order);
  const labels = new Uint8Array(data.length);
  const unknown = new Map<number, number>();
  for (let i = 0; i < labels.length; i++) {
    if (inFile[i]! >= 0) labels[i] = inFile[i]!;
    else if (reference?.[i] !== ignored) unknown.set(data[i]!, (unknown.get(data[i]!) ?? 0) + 1);
  }
  if (unknown.size) {
    const sorted = [...unknown].sort((a, b) => a[0] - b[0]);
    throw new DataError(
      `evaluate: ${file} holds the label ${some(sorted.map(([value]) => value))}, expected ${coding.join(', ')} (${some(sorted.map(([value, n]) => `${value}: ${n} voxels`))}). Is it a prediction of these ${coding.length} classes?`,
    );
  }
  return {
    labels: toPicture(labels, image.shape, order),
    notes: [...prediction.notes, ...notes].map((what) => ({ file, what })),
  };
}

/**
 * The greatest distance between corners of two volumes of one shape, in units of the smaller voxel edge. Where a header does not
 * place its voxels only their sizes are compared.
 */
function voxelsApart(prediction: Volume, image: Volume): number {
  const [least] = [...image.spacing].sort((a, b) => a - b) as [number];
  if (!prediction.isPlaced || !image.isPlaced) {
    return Math.max(
      ...image.spacing.map((mm, axis) => (Math.abs(mm - prediction.spacing[axis]!) / least) * (image.shape[axis]! - 1)),
    );
  }
  let most = 0;
  for (let corner = 0; corner < 8; corner++) {
    const at = image.shape.map((length, axis) => ((corner >> axis) & 1 ? length - 1 : 0));
    const difference = [0, 1, 2].map((row) =>
      [...at, 1].reduce((sum, v, column) => {
        const i = 4 * row + column;
        return sum + v * (prediction.affine[i]! - image.affine[i]!);
      }, 0),
    );
    most = Math.max(most, Math.hypot(...difference) / least);
  }
  return most;
}
