// Which cases are for training, validation and test. The split is always by patient (both frames of a heart are nearly the same picture).
// It comes from splits.json, from files of the layout, or from a seed.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DataError, some, whyNot } from '../files/data-error.js';
import { hintFor } from './folder-hint.js';
import { loadHdf5 } from './hdf5.js';
import { type Case, type Layout, type Listing, layouts, type Parts, readJson } from './layouts.js';
import { hashSplit, resolveSplit, type SplitFile, visitWarning } from './split.js';

export type { Case } from './layouts.js';

export interface Dataset {
  readonly dir: string;
  /** ACDC, nnU-Net, LA, SSL4MIS HDF5 or UA-MT HDF5. */
  readonly layout: string;
  /** Sorted by patient, then frame. */
  readonly cases: readonly Case[];
  /** Patients of each part; `train` in the order that `labeled` counts in. */
  readonly patients: Parts;
  /** The origin of the split: 'splits.json', 'seed 1337' or a file of the layout. */
  readonly splitFrom: string;
  /** Names of the classes, if the data set has them. */
  readonly classNames: readonly string[] | undefined;
  /** Notes for the user: what is mapped, what is left out. */
  readonly notes: readonly string[];
  /** What looks wrong. */
  readonly warnings: readonly string[];
}

/** Whose split a data set is opened with. */
export interface SplitOptions {
  /** Seed of a drawn split. It is not the training seed, which must not move patients. Default 1337. */
  readonly splitSeed?: number;
  /** Fold of splits.json or splits_final.json; default 0. */
  readonly fold?: number;
  /** A split that replaces the data set's own, such as a run's, and its name in messages. */
  readonly split?: { readonly from: string; readonly content: SplitFile };
}

/** Cases of each part of the split; `labeled` and `unlabeled` together are the training patients. */
export interface Split {
  readonly labeled: readonly Case[];
  readonly unlabeled: readonly Case[];
  readonly val: readonly Case[];
  readonly test: readonly Case[];
}

/**
 * Lists a data set in any known layout, and its split: from splits.json (`train` in order, `val`, `test`: patients), else from nnU-Net's
 * splits_final.json, else from files of the layout, else about 70/10/20 % by a hash of each patient's name and `splitSeed`. It opens no
 * image, but loads the library that reads HDF5 where one is needed. Throws DataError.
 */
export async function openDataset(dir: string, options: SplitOptions = {}): Promise<Dataset> {
  const { dataset, problems } = surveyDataset(dir, options);
  if (problems.length) throw new DataError(problems[0]!);
  if (dataset.cases.some((c) => c.hdf5)) await loadHdf5();
  return dataset;
}

/** As openDataset, but returns the problems of a split's file as a list; the split leaves out what is wrong. */
export function surveyDataset(
  dir: string,
  { splitSeed = 1337, fold = 0, split: given }: SplitOptions = {},
): { dataset: Dataset; problems: readonly string[] } {
  const { layout, listing } = recognise(dir);
  const { classNames, notes = [], warnings = [] } = listing;
  const described = { dir, layout: layout.name, classNames };
  const file = ['splits.json', 'splits_final.json'].find((name) => existsSync(join(dir, name)));
  if (!given && !file) {
    if (fold > 0) {
      throw new DataError(`split: ${dir} has no folds — got fold ${fold}. Put a list of them into splits.json.`);
    }
    const drawn = completeSplit(listing.cases, listing.split, splitSeed);
    const warning = visitWarning(namesOf(listing.cases));
    return {
      dataset: {
        ...described,
        cases: listing.cases,
        ...drawn,
        notes,
        warnings: warning ? [...warnings, warning] : warnings,
      },
      problems: [],
    };
  }
  const path = join(dir, file ?? '');
  const content = given ? given.content : readJson(path);
  const { parts, cases, left, problems } = resolveSplit(given?.from ?? path, content, listing.cases, given ? 0 : fold);
  // nnU-Net's folds cover the training images; test images are in another folder.
  const test = file === 'splits_final.json' && !given ? (listing.split?.parts.test ?? parts.test) : parts.test;
  const named = Array.isArray(content) ? `${file}, fold ${fold}` : (given?.from ?? file!);
  const own = (content as SplitFile | null)?.patients;
  const visits = own ? undefined : visitWarning(namesOf(cases));
  return {
    dataset: {
      ...described,
      cases,
      patients: { ...parts, test },
      splitFrom: test === parts.test ? named : `${named} and ${listing.split!.from}`,
      notes: left ? [...notes, `${left} volumes of these patients are in no list`] : notes,
      warnings: visits ? [...warnings, visits] : warnings,
    },
    problems,
  };
}

/** The one layout that a folder has. */
function recognise(dir: string): { layout: Layout; listing: Listing } {
  let names: string[];
  try {
    names = readdirSync(dir).sort();
  } catch (error) {
    throw new DataError(`dataset: cannot open ${dir} — ${whyNot(error)}. Give the folder of a data set.`);
  }
  const found = layouts.flatMap((layout) => {
    const listing = layout.list(dir);
    return listing ? [{ layout, listing }] : [];
  });
  if (found.length === 1) return found[0]!;
  if (found.length > 1) {
    const all = found.map(({ layout, listing }) => `${layout.name}'s (${listing.cases.length} volumes)`).join(' and ');
    throw new DataError(`dataset: ${dir} matches more than one layout: ${all}. Keep each data set in its own folder.`);
  }
  const hint = hintFor(dir);
  throw new DataError(
    `dataset: ${dir} holds no known data set — got ${names.length ? some(names, 6) : 'an empty folder'}. ${hint && `${hint} `}Expected one of:\n` +
      layouts.map(({ name, looksFor }) => `  ${name.padEnd(13)} ${looksFor}`).join('\n'),
  );
}

/** One line: layout, patients, volumes, the split and its origin, notes for the user. */
export function describeDataset({ layout, cases, patients, splitFrom, notes }: Dataset): string {
  const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`;
  const parts = (['train', 'val', 'test'] as const)
    .filter((part) => patients[part].length)
    .map((part) => `${part} ${patients[part].length}`);
  const used = new Set([...patients.train, ...patients.val, ...patients.test]);
  const left = new Set(cases.filter((c) => !used.has(c.patient)).map((c) => c.patient)).size;
  const bare = cases.filter((c) => !c.label).length;
  return [
    `${layout} layout: ${count(new Set(cases.map((c) => c.patient)).size, 'patient')}`,
    count(cases.length, 'volume'),
    `${splitFrom} with ${parts.join(' / ') || 'no patients'}`,
    ...(left ? [`${count(left, 'patient')} in no part`] : []),
    ...(bare ? [`${count(bare, 'volume')} without labels`] : []),
    ...notes,
  ].join(', ');
}

/** The cases of some patients, in their order. */
export const casesOf = ({ cases }: Dataset, patients: readonly string[]): Case[] =>
  patients.flatMap((patient) => cases.filter((c) => c.patient === patient));

/**
 * The cases of a split with the first `labeled` training patients labelled. Throws DataError on an empty part (with `select: 'last'`
 * nobody need be in validation), and where the data set names another number of classes than `classes`.
 */
export function splitDataset(
  dataset: Dataset,
  { labeled, classes, select = 'best' }: { labeled: number; classes?: number; select?: 'best' | 'last' },
): Split {
  const { train, val, test } = dataset.patients;
  const where = `${dataset.dir} (split from ${dataset.splitFrom})`;
  const everyone = namesOf(dataset.cases);
  const isDrawn = dataset.splitFrom.startsWith('seed ');
  if (isDrawn && (train.length === 0 || val.length === 0)) {
    const labelled = namesOf(dataset.cases.filter((c) => c.label));
    throw new DataError(
      `split: ${dataset.dir} has ${everyone.length} patients, ${labelled.length} with labels — expected at least 2 with labels: one to train on, one to validate on. ` +
        (labelled.length < everyone.length ? 'wgrad inspect tells why the others have none.' : 'Add patients.'),
    );
  }
  if (train.length === 0) throw new DataError(`split: ${where} has no training patients. Add some to "train".`);
  if (val.length === 0 && select === 'best') {
    throw new DataError(
      `split: ${where} has no validation patients to choose a checkpoint by. Add at least one to "val", or use --select last.`,
    );
  }
  if (!Number.isInteger(labeled) || labeled < 1 || labeled > train.length) {
    throw new DataError(
      `split: ${where} has ${train.length} training patients — got ${labeled} labelled. Use 1 to ${train.length}.`,
    );
  }
  const named = dataset.classNames;
  if (classes !== undefined && named && named.length !== classes) {
    throw new DataError(
      `dataset: dataset.json names ${named.length} classes (${named.join(', ')}) — got ${classes}. Use --classes ${named.length}.`,
    );
  }
  const split = {
    labeled: casesOf(dataset, train.slice(0, labeled)),
    unlabeled: casesOf(dataset, train.slice(labeled)),
    val: casesOf(dataset, val),
    test: casesOf(dataset, test),
  };
  const missing = [...split.labeled, ...split.val].find((c) => !c.label);
  if (missing) throw new DataError(withoutLabel(missing));
  return split;
}

const withoutLabel = (c: Case): string =>
  `split: ${c.image} has no ground truth. Add it, or leave ${c.patient} out of "val" and out of the first patients of "train".`;

/** The cases of one part by name, all with ground truth; throws DataError where it is empty or a label is missing. */
export function casesToEvaluate(dataset: Dataset, part: keyof Parts): readonly Case[] {
  return withLabels(dataset, part, casesOf(dataset, dataset.patients[part]));
}

/** The cases of a part; throws a DataError if there are none. */
export function someCases(dataset: Dataset, part: keyof Parts, cases: readonly Case[]): readonly Case[] {
  if (cases.length === 0) {
    const filled = (['train', 'val', 'test'] as const).filter((name) => dataset.patients[name].length > 0);
    throw new DataError(
      `split: "${part}" is empty in ${dataset.dir} (split from ${dataset.splitFrom}). Use one of: ${filled.join(', ')}.`,
    );
  }
  return cases;
}

/** The cases of a part; throws a DataError if there are none, or one has no ground truth. */
export function withLabels(dataset: Dataset, part: keyof Parts, cases: readonly Case[]): readonly Case[] {
  const missing = someCases(dataset, part, cases).find((c) => !c.label);
  if (missing) {
    throw new DataError(`split: ${missing.image} has no ground truth to compare with. Add it, or use wgrad predict.`);
  }
  return cases;
}

/** The layout's own split, its missing parts drawn by the seed; without one, a split drawn by the seed. */
function completeSplit(
  cases: readonly Case[],
  given: Listing['split'],
  seed: number,
): { patients: Parts; splitFrom: string } {
  const { train, val, test = [] } = given?.parts ?? {};
  const open = (taken: readonly string[]) => cases.filter((c) => !taken.includes(c.patient));
  if (train && val) {
    // Patients without labels that are in no list are unlabelled training data.
    const rest = open([...train, ...val, ...test]).filter((c) => !c.label);
    return { patients: { train: [...train, ...namesOf(rest)], val, test }, splitFrom: given!.from };
  }
  if (train) {
    // From the end, so that the first N stay the protocol's labelled ones.
    const count = train.length < 2 ? 0 : Math.max(1, Math.round(train.length * 0.1));
    const patients = { train: train.slice(0, train.length - count), val: train.slice(train.length - count), test };
    return { patients, splitFrom: `${given!.from}, its last ${count} for validation,` };
  }
  const remaining = open(test);
  const labelled = namesOf(remaining.filter((c) => c.label));
  const unlabelled = namesOf(remaining).filter((patient) => !labelled.includes(patient));
  const drawn = hashSplit(labelled, seed, test.length ? { val: 0.1, test: 0 } : undefined);
  return {
    patients: { train: [...drawn.train, ...unlabelled], val: drawn.val, test: [...drawn.test, ...test] },
    splitFrom: given ? `seed ${seed} and ${given.from}` : `seed ${seed}`,
  };
}

const namesOf = (cases: readonly Case[]): string[] => [...new Set(cases.map((c) => c.patient))];
