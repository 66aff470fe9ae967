// The patients of training, validation and test: read from a file (a data set's splits.json, nnU-Net's splits_final.json, a run's
// split.json: one format), or drawn by a hash of each patient's name, so that adding a patient does not move the others.
import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { uniformStream } from '../../engine/index.js';
import { cut, some } from '../files/data-error.js';
import { anyObject, checked, listOf, tableOf, text } from '../files/schema.js';
import type { Case, Parts } from './layouts.js';

/** The content of a split's file; entries are patients, or cases of patients. A list of such objects holds folds. */
export interface SplitFile {
  /** In the order that `labeled` counts in. */
  readonly train?: readonly string[];
  readonly val?: readonly string[];
  readonly test?: readonly string[];
  /** The cases of each patient, where their names do not show it. */
  readonly patients?: Readonly<Record<string, readonly string[]>>;
}

/** A split's file, resolved for the cases of a data set. */
export interface ResolvedSplit {
  readonly parts: Parts;
  /** All cases, with the patients that the file gives them. If it names some cases of a patient, that patient's others are left out. */
  readonly cases: readonly Case[];
  /** How many cases are left out so. */
  readonly left: number;
  /** Problems, a sentence each; the split leaves out what is wrong. */
  readonly problems: readonly string[];
}

const names = listOf(text, 'a list of names');
const partNames = ['train', 'val', 'test'] as const;

/** An entry as cases are named: without folders, endings, slice number and nnU-Net's channel. */
const bare = (entry: string): string =>
  entry
    .replace(/^.*[\\/]/, '')
    .replace(/\.(nii(\.gz)?|h5|hdf5|npz|npy|b2nd|pkl)$/i, '')
    .replace(/_slice_\d+$/, '')
    .replace(/_0000$/, '');

/** Finds the cases that a split's file names; messages call it `file`. */
export function resolveSplit(file: string, content: unknown, cases: readonly Case[], fold = 0): ResolvedSplit {
  const problems: string[] = [];
  const nothing = { parts: { train: [], val: [], test: [] }, cases, left: 0, problems };
  const isList = Array.isArray(content);
  if (isList && fold >= content.length) {
    problems.push(
      `split: ${file} has ${content.length} folds, 0 to ${content.length - 1} — got fold ${fold}. Use one of them.`,
    );
    return nothing;
  }
  if (!isList && fold > 0) {
    problems.push(`split: ${file} is one split, not a list of folds — got fold ${fold}. Leave --fold out.`);
    return nothing;
  }
  const found: unknown = isList ? content[fold] : content;
  const { value: lists } = checked(anyObject, found);
  if (!lists) {
    problems.push(
      `split: ${file} holds no split — got ${cut(found)}, expected {"train": [NAME, …], "val": [NAME, …], "test": [NAME, …]}, or a list of such folds.`,
    );
    return nothing;
  }
  const split = checkedParts(file, lists, cases, problems);
  const grouped = groupCases(file, split.patients, cases, problems);
  const patients = new Set(grouped.map((c) => c.patient));
  const byId = new Map(grouped.map((c) => [c.id, c]));
  const example = grouped[0]?.patient ?? 'NAME';

  const owner = new Map<string, string>(); // case → part
  const listed = new Map<string, string>(); // patient → part
  const whole = new Set<string>(); // patients that are named themselves
  const parts = { train: [] as string[], val: [] as string[], test: [] as string[] };
  for (const part of partNames) {
    if (isList && part !== 'test' && lists[part] === undefined) {
      problems.push(
        `split: fold ${fold} has no list "${part}" in ${file}. Expected [{"train": [NAME, …], "val": [NAME, …]}, …].`,
      );
    }
    for (const entry of split[part] ?? []) {
      const c = patients.has(entry) ? undefined : (byId.get(entry) ?? byId.get(bare(entry)));
      const patient = c?.patient ?? (patients.has(entry) ? entry : patients.has(bare(entry)) ? bare(entry) : undefined);
      if (patient === undefined) {
        const [name = ''] = byId.keys();
        const others = name === example ? `${example}` : `the patient ${example} or the case ${name}`;
        problems.push(
          `split: ${file} names ${cut(entry)}, which has no images. There are ${patients.size} patients, such as ${others}. Remove it from the file.`,
        );
        continue;
      }
      const before = listed.get(patient);
      if (before !== undefined && before !== part) {
        const why = c ? `${patient}, whose case ${entry} this is,` : patient;
        problems.push(`split: ${why} is in "${before}" and in "${part}" of ${file}. Keep a patient in one part.`);
        continue;
      }
      if (c ? owner.has(c.id) : whole.has(patient)) {
        problems.push(`split: ${cut(entry)} is in "${part}" of ${file} twice. Keep it once.`);
        continue;
      }
      if (before === undefined) {
        listed.set(patient, part);
        parts[part].push(patient);
      }
      if (c) owner.set(c.id, part);
      else whole.add(patient);
    }
  }
  const kept = grouped.filter((c) => !listed.has(c.patient) || whole.has(c.patient) || owner.has(c.id));
  return { parts, cases: kept, left: grouped.length - kept.length, problems };
}

/** The lists and the table of a split's file; one that is malformed becomes a problem, and is left out. */
function checkedParts(
  file: string,
  content: Readonly<Record<string, unknown>>,
  cases: readonly Case[],
  problems: string[],
): SplitFile {
  const { patient = 'NAME', id = 'CASE' } = cases[0] ?? {};
  const read = <S extends v.GenericSchema>(key: string, schema: S, example: unknown) => {
    const { value, mismatches: [wrong] = [] } = checked(schema, content[key], key);
    if (wrong)
      problems.push(`split: ${file}: ${wrong.message} Use for instance {"${key}": ${JSON.stringify(example)}}.`);
    return value;
  };
  const [train, val, test] = partNames.map((part) => read(part, v.nullish(names, []), [patient]));
  return { train, val, test, patients: read('patients', v.optional(tableOf(names)), { [patient]: [id] }) };
}

/** Cases with the patients that `patients` names. */
function groupCases(
  file: string,
  patients: SplitFile['patients'],
  cases: readonly Case[],
  problems: string[],
): readonly Case[] {
  if (!patients) return cases;
  const known = new Set(cases.map((c) => c.id));
  const owners = new Map<string, string>();
  for (const [patient, names] of Object.entries(patients)) {
    for (const name of names) {
      const id = known.has(name) ? name : bare(name);
      if (!known.has(id)) {
        problems.push(`split: "patients" in ${file} gives ${patient} the case ${cut(name)}, which has no images.`);
      } else if (owners.has(id) && owners.get(id) !== patient) {
        problems.push(`split: "patients" in ${file} gives ${id} to ${owners.get(id)} and to ${patient}. Keep it once.`);
      } else owners.set(id, patient);
    }
  }
  return cases.map((c) => (owners.has(c.id) ? { ...c, patient: owners.get(c.id)! } : c));
}

/** A number from 0 to 1 from a patient's name and the seed, whatever other patients there are. */
const placeOf = (seed: number, patient: string): number =>
  createHash('sha256').update(`${seed}/${patient}`).digest().readUIntBE(0, 6) / 2 ** 48;

/**
 * About 70/10/20 % of the patients by the hash of each one's name. Of two or more, at least one is for validation; of three or more, at
 * least one for test. An added patient moves others only where a part would be empty without them, and never from test to training.
 */
export function hashSplit(
  patients: readonly string[],
  seed: number,
  shares: { readonly val: number; readonly test: number } = { val: 0.1, test: 0.2 },
): Parts {
  const places = new Map(patients.map((patient) => [patient, placeOf(seed, patient)]));
  const order = [...patients].sort((a, b) => places.get(a)! - places.get(b)! || (a < b ? -1 : 1));
  const below = (list: readonly string[], limit: number) => list.filter((patient) => places.get(patient)! < limit);
  const hasTest = shares.test > 0 && order.length > 2;
  // The lowest are for test, the next for validation, all others train; a part that would be empty takes from its neighbour above.
  const tested = hasTest ? Math.min(Math.max(1, below(order, shares.test).length), order.length - 2) : 0;
  const rest = order.slice(tested);
  const within = below(rest, (hasTest ? shares.test : 0) + shares.val).length;
  const validated = rest.length < 2 ? 0 : Math.min(Math.max(1, within), rest.length - 1);
  return { train: rest.slice(validated), val: rest.slice(0, validated), test: order.slice(0, tested) };
}

/** 70/10/20 % of the patients in a random order. Of two or more, at least one is for validation; of three or more, one for test. */
export function splitPatients(patients: readonly string[], seed: number): Parts {
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

/** Words for a time or a phase at the end of a name, with or without a number. */
const occasion =
  /[-_. ](?:(?:t|tp|v|w|d|m|y|fu|bl|ed|es|pre|post|visit|time|timepoint|scan|week|day|month|year|phase|exam|study|session|baseline|followup|follow-up)[-_]?\d*)$/i;

/**
 * A warning where patients' names look like visits or phases of one person, who may then be in two parts; otherwise undefined. P01-t0
 * beside P01-t1 does; so do a few trailing numbers per name (P01_1, P01_2), but not a series (la_003, la_004, …).
 */
export function visitWarning(patients: readonly string[]): string | undefined {
  const alike = (ending: RegExp): string[][] => {
    const groups = new Map<string, string[]>();
    for (const patient of patients) {
      const stem = patient.replace(ending, '');
      if (stem !== patient && stem !== '') groups.set(stem, [...(groups.get(stem) ?? []), patient]);
    }
    return [...groups.values()].filter((names) => names.length > 1);
  };
  const timed = alike(occasion);
  const numbered = alike(/[-_. ]\d{1,3}$/);
  const isSeries = numbered.length < 2 || numbered.some((names) => names.length > 12);
  const groups = timed.length ? timed : isSeries ? [] : numbered;
  if (!groups.length) return undefined;
  return (
    `${some(groups[0]!, 3)} look like visits of one patient (${groups.length} such names), who may then be both trained on and tested on. ` +
    'If they are, group them in splits.json: {"patients": {NAME: [CASE, …]}, "train": [NAME, …], …}'
  );
}
