// Which files belong to which patient and which part of the split. The layout read is ACDC's; the split is by patient
// always (both frames of a heart are nearly the same picture), from splits.json or, where there is none, from a seed.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { uniformStream } from '../../engine/index.js';
import { DataError, whyNot } from './data-error.js';

/** Label values are indices into this list. */
export const cardiacClasses = ['background', 'right ventricle', 'myocardium', 'left ventricle'] as const;

/** One frame of one patient. */
export interface Case {
  /** patient001_frame01 */
  readonly id: string;
  /** patient001 */
  readonly patient: string;
  readonly frame: number;
  /** Path of the image. */
  readonly image: string;
  /** Path of the ground truth, where there is one. */
  readonly label: string | undefined;
}

export interface Dataset {
  readonly dir: string;
  /** Sorted by patient, then frame. */
  readonly cases: readonly Case[];
  /** Patients of each part; `train` in the order that `labeled` counts in. */
  readonly patients: {
    readonly train: readonly string[];
    readonly val: readonly string[];
    readonly test: readonly string[];
  };
  /** Where the split is from: 'splits.json' or 'seed 1337'. */
  readonly splitFrom: string;
}

/** Cases of each part of the split; `labeled` and `unlabeled` together are the training patients. */
export interface Split {
  readonly labeled: readonly Case[];
  readonly unlabeled: readonly Case[];
  readonly val: readonly Case[];
  readonly test: readonly Case[];
}

/**
 * Lists an ACDC-like folder: patientNNN/patientNNN_frameFF.nii[.gz] with _gt beside it, and splits.json. `splitSeed`
 * makes the 70/10/20 % split where there is no splits.json; it is not the training seed, which must move
 * nobody. Opens no image. Throws DataError.
 */
export function openDataset(dir: string, { splitSeed = 1337 }: { splitSeed?: number } = {}): Dataset {
  const cases = listFolder(dir)
    .filter((name) => /^patient\d+$/.test(name))
    .flatMap((patient) => casesOf(dir, patient));
  if (cases.length === 0) {
    const inside = ['training', 'database', 'train'].find((name) => existsSync(join(dir, name)));
    throw new DataError(
      `dataset: ${dir} holds no patientNNN/patientNNN_frameFF.nii.gz. ` +
        (inside ? `Try ${join(dir, inside)}.` : 'Give the folder that holds the patient folders.'),
    );
  }
  const present = [...new Set(cases.map((c) => c.patient))];
  const file = join(dir, 'splits.json');
  return existsSync(file)
    ? { dir, cases, patients: readSplits(file, present), splitFrom: 'splits.json' }
    : { dir, cases, patients: splitPatients(present, splitSeed), splitFrom: `seed ${splitSeed}` };
}

/** The cases of a split with the first `labeled` training patients labelled. Throws DataError on an empty part. */
export function splitDataset(dataset: Dataset, { labeled }: { labeled: number }): Split {
  const { train, val, test } = dataset.patients;
  const where = `${dataset.dir} (split from ${dataset.splitFrom})`;
  if (train.length === 0) throw new DataError(`split: ${where} has no training patients. Add some to "train".`);
  if (val.length === 0) throw new DataError(`split: ${where} has no validation patients. Add at least one to "val".`);
  if (!Number.isInteger(labeled) || labeled < 1 || labeled > train.length) {
    throw new DataError(
      `split: ${where} has ${train.length} training patients — got ${labeled} labelled. Use 1 to ${train.length}.`,
    );
  }
  const of = (patients: readonly string[]) =>
    patients.flatMap((patient) => dataset.cases.filter((c) => c.patient === patient));
  const split = {
    labeled: of(train.slice(0, labeled)),
    unlabeled: of(train.slice(labeled)),
    val: of(val),
    test: of(test),
  };
  const missing = [...split.labeled, ...split.val].find((c) => !c.label);
  if (missing) {
    throw new DataError(
      `split: ${missing.image} has no ground truth. Add ${missing.id}_gt.nii.gz, or leave ${missing.patient} out of "train" and "val".`,
    );
  }
  return split;
}

/** The cases of one part by name, all with ground truth; throws DataError where it is empty or a label is missing. */
export function casesToEvaluate(dataset: Dataset, part: 'train' | 'val' | 'test'): Case[] {
  const cases = dataset.patients[part].flatMap((patient) => dataset.cases.filter((c) => c.patient === patient));
  if (cases.length === 0) {
    const filled = (['train', 'val', 'test'] as const).filter((name) => dataset.patients[name].length > 0);
    throw new DataError(
      `split: "${part}" is empty in ${dataset.dir} (split from ${dataset.splitFrom}). Use one of: ${filled.join(', ')}.`,
    );
  }
  const missing = cases.find((c) => !c.label);
  if (missing)
    throw new DataError(`split: ${missing.image} has no ground truth. Add ${missing.id}_gt.nii.gz beside it.`);
  return cases;
}

function listFolder(dir: string): string[] {
  try {
    return readdirSync(dir).sort();
  } catch (error) {
    throw new DataError(`dataset: cannot open ${dir} — ${whyNot(error)}. Give a folder of patientNNN folders.`);
  }
}

function casesOf(dir: string, patient: string): Case[] {
  const files = listFolder(join(dir, patient));
  return files.flatMap((file) => {
    const found = new RegExp(`^(${patient}_frame(\\d+))\\.nii(\\.gz)?$`).exec(file);
    if (!found) return [];
    const id = found[1]!;
    const label = [`${id}_gt.nii.gz`, `${id}_gt.nii`].find((name) => files.includes(name));
    return {
      id,
      patient,
      frame: Number(found[2]),
      image: join(dir, patient, file),
      label: label && join(dir, patient, label),
    };
  });
}

function readSplits(file: string, present: readonly string[]): Dataset['patients'] {
  let parts: Record<string, unknown>;
  try {
    parts = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new DataError(`split: cannot read ${file} — ${whyNot(error)}.`);
  }
  const known = new Set(present);
  const seen = new Map<string, string>();
  const part = (name: string): string[] => {
    const list = parts?.[name] ?? [];
    if (!Array.isArray(list) || !list.every((entry) => typeof entry === 'string')) {
      throw new DataError(`split: "${name}" in ${file} must be a list of patient names, such as ["patient001"].`);
    }
    for (const patient of list) {
      if (!known.has(patient))
        throw new DataError(`split: ${file} names ${patient}, which has no images. Remove it there.`);
      if (seen.has(patient)) {
        throw new DataError(
          `split: ${patient} is in "${seen.get(patient)}" and in "${name}" of ${file}. Keep it in one.`,
        );
      }
      seen.set(patient, name);
    }
    return list;
  };
  return { train: part('train'), val: part('val'), test: part('test') };
}

/** 70/10/20 % of the patients in a random order; with two or more one is for validation, with three or more one for test. */
export function splitPatients(patients: readonly string[], seed: number): Dataset['patients'] {
  const order = shuffled(patients, uniformStream(seed, 0x5917));
  const val = order.length < 2 ? 0 : Math.max(1, Math.round(order.length * 0.1));
  const test = order.length < 3 ? 0 : Math.max(1, Math.round(order.length * 0.2));
  const train = order.length - val - test;
  return { train: order.slice(0, train), val: order.slice(train, train + val), test: order.slice(train + val) };
}

/** A copy in random order (Fisher–Yates). */
export function shuffled<T>(items: readonly T[], uniform: () => number): T[] {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(uniform() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
