// A run's split.json, which records what it was trained on: the cases of each part, and a fingerprint of each file. Its parts have the form
// of a data set's splits.json, so that it can be copied there.
import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import type * as v from 'valibot';
import { casesOf, type Dataset, openDataset, type SplitOptions, surveyDataset } from '../data/datasets.js';
import { type Case, type Parts, readJson } from '../data/layouts.js';
import type { SplitFile } from '../data/split.js';
import { DataError, some, whyNot } from '../files/data-error.js';
import { listOf, numberWithin, objectWith, oneOf, required, tableOf, text } from '../files/schema.js';
import { UsageError } from '../files/usage-error.js';
import type { Flags } from '../settings/command-line.js';
import { runFiles } from './run-folder.js';

const names = listOf(text, 'a list of names');

/** One file of a case: its bytes, and what it holds. */
const knownFile = objectWith({
  bytes: numberWithin({ min: 0, whole: true }),
  /** In hexadecimal. */
  sha256: text,
  case: text,
  /** An HDF5 file holds image and label, and counts as an image. */
  is: oneOf(['image', 'label']),
});
export type KnownFile = v.InferOutput<typeof knownFile>;
export type Fingerprint = Pick<KnownFile, 'bytes' | 'sha256'>;

const runSplit = objectWith({
  layout: text,
  /** How it came about: `splits.json`, `seed 1337`, `splits_final.json, fold 2`. */
  from: text,
  /** The training patients whose labels were used: the first of `train`. */
  labeled: names,
  train: names,
  val: names,
  test: names,
  /** Cases of each patient. */
  patients: tableOf(names),
  /** By path within the data folder, with slashes. */
  files: tableOf(knownFile),
});

/** split.json of a run. */
export type RunSplit = v.InferOutput<typeof runSplit>;

/** Size and SHA-256 of a file, read piece by piece. Throws DataError. */
export function fingerprint(path: string): Fingerprint {
  const hash = createHash('sha256');
  try {
    const file = openSync(path, 'r');
    try {
      const piece = Buffer.alloc(2 ** 20);
      for (let got = readSync(file, piece); got > 0; got = readSync(file, piece)) hash.update(piece.subarray(0, got));
      return { bytes: fstatSync(file).size, sha256: hash.digest('hex') };
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw new DataError(`split: cannot read ${path} — ${whyNot(error)}.`);
  }
}

/** The files that hold a case's image. */
export const imagesOf = (c: Case): string[] => [...new Set([c.image, ...(c.hdf5?.slices ?? [])])];

function filesOf(c: Case): { path: string; is: 'image' | 'label' }[] {
  const images = imagesOf(c);
  const hasOwnLabel = c.label !== undefined && !images.includes(c.label);
  return [
    ...images.map((path) => ({ path, is: 'image' as const })),
    ...(hasOwnLabel ? [{ path: c.label!, is: 'label' as const }] : []),
  ];
}

/** A file's path within the data folder, the same on every system. */
const within = (dir: string, path: string): string => relative(dir, path).split(sep).join('/');

/** Reads every file that is in a part of the data set's split, and describes both. */
export function describeSplit(dataset: Dataset, labeled: number): RunSplit {
  const { dir, layout, splitFrom, patients } = dataset;
  const everyone = [...patients.train, ...patients.val, ...patients.test];
  const cases = casesOf(dataset, everyone);
  return {
    layout,
    from: splitFrom,
    labeled: patients.train.slice(0, labeled),
    ...patients,
    patients: Object.fromEntries(
      everyone.map((patient) => [patient, cases.filter((c) => c.patient === patient).map((c) => c.id)]),
    ),
    files: Object.fromEntries(
      cases.flatMap((c) =>
        filesOf(c).map(({ path, is }) => [within(dir, path), { case: c.id, is, ...fingerprint(path) } as const]),
      ),
    ),
  };
}

/** A run's split.json; undefined where it has none (as in earlier versions). Throws a DataError for one that is damaged. */
export function readRunSplit(run: string): RunSplit | undefined {
  const file = join(run, runFiles.split);
  if (!existsSync(file)) return undefined;
  return required(runSplit, readJson(file), (what) => {
    throw new DataError(`split: ${file} is damaged: ${what} Restore it, or delete it.`);
  });
}

/** Files of a run that a data folder no longer holds as they were: `gone.nii.gz is missing`, `a.nii.gz has changed`. */
function changesSince(split: RunSplit, dir: string, patients: readonly string[]): string[] {
  const cases = new Set(patients.flatMap((patient) => split.patients[patient] ?? []));
  return Object.entries(split.files)
    .filter(([, known]) => cases.has(known.case))
    .flatMap(([file, { bytes, sha256 }]) => {
      const path = join(dir, file);
      const found = statSync(path, { throwIfNoEntry: false });
      if (!found?.isFile()) return [`${file} is missing`];
      if (found.size !== bytes) return [`${file} has ${found.size} bytes, had ${bytes}`];
      return fingerprint(path).sha256 === sha256 ? [] : [`${file} has changed`];
    });
}

/** Whether an image of a case is a file of `known` (SHA-256 → bytes). It reads only files of a known size. */
function isAmong(known: ReadonlyMap<string, number>, c: Case): boolean {
  const sizes = new Set(known.values());
  return imagesOf(c).some(
    (path) => sizes.has(statSync(path, { throwIfNoEntry: false })?.size ?? -1) && known.has(fingerprint(path).sha256),
  );
}

/** Cases whose image is, byte for byte, one that the run trained on, under whatever name. */
function trainedOn(split: RunSplit, cases: readonly Case[]): Case[] {
  const trained = new Set(split.train.flatMap((patient) => split.patients[patient] ?? []));
  const known = new Map(
    Object.values(split.files).flatMap((file) =>
      file.is === 'image' && trained.has(file.case) ? [[file.sha256, file.bytes] as const] : [],
    ),
  );
  return cases.filter((c) => isAmong(known, c));
}

/** A run's parts and patients, limited to a data folder's cases: a split for openDataset. */
function splitWithin(split: RunSplit, cases: readonly Case[]): Parts & SplitFile {
  const there = new Set(cases.map((c) => c.id));
  const patients = Object.fromEntries(
    Object.entries(split.patients).flatMap(([patient, ids]) => {
      const present = ids.filter((id) => there.has(id));
      return present.length ? [[patient, present] as const] : [];
    }),
  );
  const part = (names: readonly string[]) => names.filter((patient) => patients[patient]);
  return { train: part(split.train), val: part(split.val), test: part(split.test), patients };
}

/** Flags of commands that take a part of a data set. */
export const partFlags = {
  'split-of': {
    type: 'string',
    choices: ['run', 'data'],
    help: "whose split to use: the run's, as it was trained (default if DIR holds its files), or the data set's own, as it is now",
  },
  fold: {
    type: 'integer',
    value: 'K',
    min: 0,
    default: 0,
    help: "fold of the data set's own split, if that is a list of folds",
  },
} as const satisfies Flags;

/** Opens a data set for its cases alone, without its own split. */
const noSplit: SplitOptions = { split: { from: '', content: {} } };

/** Opens a data set for all its cases, in a part or not. Throws DataError. */
export const openEveryCase = async (data: string): Promise<readonly Case[]> => (await openDataset(data, noSplit)).cases;

/** The option that opens a data set with this split again. */
export const sameSplit = ({ splitFrom, patients, cases }: Dataset): SplitOptions['split'] => ({
  from: splitFrom,
  content: {
    ...patients,
    patients: Object.fromEntries(
      [...patients.train, ...patients.val, ...patients.test].map((patient) => [
        patient,
        cases.filter((c) => c.patient === patient).map((c) => c.id),
      ]),
    ),
  },
});

/**
 * Opens the data set of a resumed run with the run's split. Throws a UsageError that names the first files of its training and validation
 * that have changed; where `changed` allows that, missing patients are left out.
 */
export async function reopenDataset(data: string, run: string, split: RunSplit, changed: boolean): Promise<Dataset> {
  const changes = changesSince(split, data, [...split.train, ...split.val]);
  if (changes.length && !changed) {
    throw new UsageError(
      `train: --resume must give the same bits, but ${data} is not what '${run}' was trained on — ${some(changes)}. ` +
        'Give the original folder, start a new run with --init-weights, or add --changed-data to continue anyway.',
    );
  }
  if (changes.length)
    console.error(`train: the data have changed, so the result will not be bit-identical: ${some(changes)}`);
  const { cases } = surveyDataset(data, noSplit).dataset;
  return openDataset(data, {
    split: { from: `${join(run, runFiles.split)} (${split.from})`, content: splitWithin(split, cases) },
  });
}

/** A part, and whose split it is taken from: the run's, as it was trained, or the data set's own, as it is now. */
export interface PartOptions {
  readonly part: keyof Parts;
  /** Default: the run's if the data set is the run's, otherwise the data set's own. */
  readonly splitOf?: 'run' | 'data' | undefined;
  readonly fold?: number | undefined;
}

/**
 * The cases of one part of a data set, for a model of `run` (undefined where its training is unknown). Throws a DataError where a patient
 * of the run's part is missing; reports differences on stderr. With `splitOf: 'data'`, `trained` are the cases that the run trained on.
 */
export async function openPart(
  command: string,
  data: string,
  run: string | undefined,
  { part, splitOf, fold = 0 }: PartOptions,
): Promise<{ dataset: Dataset; cases: readonly Case[]; trained: readonly string[] }> {
  const split = run === undefined ? undefined : readRunSplit(run);
  const own = async () => {
    const dataset = await openDataset(data, { fold });
    return { dataset, cases: casesOf(dataset, dataset.patients[part]), trained: [] };
  };
  const say = (text: string) => console.error(`${command}: ${text}`);
  if (!split) {
    if (splitOf === 'run')
      throw new UsageError(`${command}: --split-of run needs a run with a split.json. Leave --split-of out.`);
    return own();
  }
  if (splitOf === 'data') {
    const found = await own();
    const trained = part === 'train' ? [] : trainedOn(split, found.cases).map((c) => c.id);
    if (trained.length) {
      say(
        `${trained.length} of ${found.cases.length} ${part} volumes were trained on (${some(trained)}), so this is not a test.`,
      );
    }
    return { ...found, trained };
  }
  const { cases: present } = surveyDataset(data, noSplit).dataset;
  if (splitOf !== 'run' && !isDataOf(split, present)) {
    const found = await own();
    const alike = [...new Set(found.cases.map((c) => c.patient))].filter((patient) => split.train.includes(patient));
    if (alike.length && part !== 'train') {
      say(
        `${data} shares no file with '${run}', so its own split is used. ${alike.length} of its patients have names that '${run}' was trained on (${some(alike)}). If they are the same people, this is not a test.`,
      );
    }
    return found;
  }
  const content = splitWithin(split, present);
  const gone = split[part].filter((patient) => !content[part].includes(patient));
  if (gone.length) {
    throw new DataError(
      `${command}: ${gone.length} of the ${split[part].length} ${part} patients of '${run}' are not in ${data} — ${some(gone)}. Give the data set it was trained on, or use --split-of data for this one's own split.`,
    );
  }
  const dataset = await openDataset(data, { split: { from: join(run!, runFiles.split), content } });
  const cases = casesOf(dataset, content[part]);
  const known = new Set(Object.values(split.patients).flat());
  const added = [...new Set(present.filter((c) => !known.has(c.id)).map((c) => c.patient))];
  if (added.length) {
    say(`${added.length} patients in ${data} are not in the split of '${run}' and are left out: ${some(added)}`);
  }
  const changes = changesSince(split, data, split[part]);
  if (changes.length) say(`files have changed since '${run}' was trained: ${some(changes)}`);
  return { dataset, cases, trained: [] };
}

/** Whether any image of the data set is one of the run's, byte for byte. */
function isDataOf(split: RunSplit, cases: readonly Case[]): boolean {
  const known = new Map(Object.values(split.files).map(({ sha256, bytes }) => [sha256, bytes]));
  return cases.some((c) => isAmong(known, c));
}
