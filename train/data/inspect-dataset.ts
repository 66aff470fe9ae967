// Inspection of a whole data set: every file is read once, a few at a time in worker threads, and only numbers are kept. Errors make a
// data set unusable; warnings are for the user to look at.
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { some } from '../files/data-error.js';
import { amongVolumes } from './among-volumes.js';
import type { Reading } from './case-volume.js';
import { type Dataset, describeDataset, surveyDataset } from './datasets.js';
import type { CaseFacts, Intensities } from './inspect-volume.js';
import type { InspectAnswer, InspectQuestion } from './inspect-worker.js';
import type { Case, Parts } from './layouts.js';
import { throughPlane } from './orientation.js';

/** Least, median and greatest of some numbers. */
export interface Spread {
  readonly least: number;
  readonly median: number;
  readonly most: number;
}

export interface PartFacts {
  readonly patients: number;
  readonly volumes: number;
  /** Volumes with ground truth. */
  readonly labelled: number;
  readonly slices: number;
  /** Voxels by label value. */
  readonly labels: Readonly<Record<string, number>>;
}

export interface Inspection {
  readonly dir: string;
  /** One line. */
  readonly description: string;
  readonly layout: string;
  readonly splitFrom: string;
  /** The given number, the data set's own, or as many as its labels reach. */
  readonly classes: number;
  /** Facts of train, val, test, and of `none`: patients in no part. */
  readonly parts: Readonly<Record<string, PartFacts>>;
  /** Along the files' axes. */
  readonly shape: readonly Spread[];
  /** mm along the files' axes. */
  readonly spacing: readonly Spread[];
  /** Medians over the volumes; the least of the least and the greatest of the greatest. */
  readonly intensities: Intensities | undefined;
  /** Volumes by orientation code, '?' where the header has none. */
  readonly orientations: Readonly<Record<string, number>>;
  readonly dtypes: Readonly<Record<string, number>>;
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
  readonly cases: readonly CaseFacts[];
}

/**
 * Reads all of a data set, labels as `reading` says; `onCase` is told how many are done. Throws DataError only where there is no data
 * set to read.
 */
export async function inspectDataset(
  dir: string,
  { reading = {}, onCase = () => {} }: { reading?: Reading; onCase?: (done: number, all: number) => void } = {},
): Promise<Inspection> {
  const { dataset, problems } = surveyDataset(dir);
  // Folders like LA's are used for other data, too; their labels show how many classes there are.
  const said = reading.classes ?? dataset.classNames?.length ?? (/^(LA|UA-MT)/.test(dataset.layout) ? undefined : 4);
  const { classes: _, ...rest } = reading;
  const facts = await inspectCases(dataset.cases, said === undefined ? rest : { ...rest, classes: said }, onCase);
  const values = new Set(facts.flatMap(({ labels }) => Object.keys(labels ?? {}).map(Number)));
  if (typeof reading.ignoreLabel === 'number') values.delete(reading.ignoreLabel);
  const isMask = [...values].every((value) => value === 0 || value === 255);
  const marks = said === undefined && !isMask && values.has(255) && values.size < 100;
  if (marks) values.delete(255);
  const classes = said ?? (isMask ? 2 : Math.max(1, ...values) + 1);
  const known = facts.flatMap(({ image }) => (image ? [image] : []));
  const axes = [0, 1, 2];
  const spacing = known.length ? axes.map((axis) => spreadOf(known.map((image) => image.spacing[axis]!))) : [];
  return {
    dir,
    description: describeDataset(dataset),
    layout: dataset.layout,
    splitFrom: dataset.splitFrom,
    classes,
    parts: factsOfParts(dataset, facts),
    shape: known.length ? axes.map((axis) => spreadOf(known.map((image) => image.shape[axis] ?? 1))) : [],
    spacing,
    intensities: known.length ? overall(known.map((image) => image.intensities)) : undefined,
    orientations: countOf(known.map((image) => image.orientation ?? '?')),
    dtypes: countOf(known.map((image) => image.dtype)),
    errors: [...problems, ...facts.flatMap((fact) => fact.errors)],
    warnings: [
      ...dataset.warnings,
      ...facts.flatMap((fact) => fact.warnings),
      ...(marks
        ? ['255 is a label value beside others; it usually marks voxels to ignore. Use --ignore-label 255']
        : []),
      ...amongCases(dataset, facts, reading),
    ],
    cases: facts,
  };
}

/** Warnings that only show when all cases are seen together. */
function amongCases(dataset: Dataset, facts: readonly CaseFacts[], { intensity = 'minmax' }: Reading): string[] {
  const warnings: string[] = [];
  const images = new Map<string, string[]>();
  for (const { id, hash } of facts) if (hash) images.set(hash, [...(images.get(hash) ?? []), id]);
  const owner = new Map(dataset.cases.map((c) => [c.id, c.patient]));
  const partOf = (id: string) =>
    (['train', 'val', 'test'] as const).find((part) => dataset.patients[part].includes(owner.get(id)!)) ?? 'no part';
  for (const ids of images.values()) {
    if (ids.length < 2) continue;
    const parts = new Set(ids.map(partOf));
    const leak = parts.size > 1 && (parts.has('val') || parts.has('test')) ? ': scores will be too good' : '';
    warnings.push(
      `the same image under ${ids.length} names: ${ids.map((id) => `${id} (${partOf(id)})`).join(', ')}${leak}`,
    );
  }
  const named = facts.flatMap(({ id, image }) => (image ? [{ id, ...image }] : []));
  warnings.push(...amongVolumes(named, { hasSpacing: !dataset.cases.some((c) => c.hdf5), intensity }));
  const bare = facts.filter((fact, i) => !fact.labels && !fact.errors.length && dataset.cases[i]);
  for (const { id } of bare.filter((fact) => ['val', 'test'].includes(partOf(fact.id)))) {
    warnings.push(`${id} is for validation or test, but has no label: it cannot be scored`);
  }
  if (bare.length)
    warnings.push(
      `without labels, to learn from only: ${some(
        bare.map(({ id }) => id),
        12,
      )}`,
    );
  return warnings;
}

function factsOfParts(dataset: Dataset, facts: readonly CaseFacts[]): Record<string, PartFacts> {
  const { train, val, test } = dataset.patients;
  const placed = new Set([...train, ...val, ...test]);
  const none = [...new Set(dataset.cases.map((c) => c.patient))].filter((patient) => !placed.has(patient));
  const all: Record<keyof Parts | 'none', readonly string[]> = { train, val, test, none };
  return Object.fromEntries(
    Object.entries(all).flatMap(([part, patients]) => {
      if (part === 'none' && !patients.length) return [];
      const wanted = new Set(patients);
      const inside = facts.filter((_, i) => wanted.has(dataset.cases[i]!.patient));
      const labels: Record<string, number> = {};
      for (const fact of inside)
        for (const [value, n] of Object.entries(fact.labels ?? {})) labels[value] = (labels[value] ?? 0) + n;
      const slices = inside.reduce(
        (sum, { image }) => sum + (image ? image.shape[throughPlane(image.shape, image.spacing)]! : 0),
        0,
      );
      const labelled = inside.filter((fact) => fact.labels).length;
      return [[part, { patients: patients.length, volumes: inside.length, labelled, slices, labels }]];
    }),
  );
}

const medianOf = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;
const spreadOf = (values: readonly number[]): Spread => ({
  least: Math.min(...values),
  median: medianOf(values),
  most: Math.max(...values),
});

const overall = (all: readonly Intensities[]): Intensities => ({
  least: Math.min(...all.map((one) => one.least)),
  p1: medianOf(all.map((one) => one.p1)),
  median: medianOf(all.map((one) => one.median)),
  p99: medianOf(all.map((one) => one.p99)),
  most: Math.max(...all.map((one) => one.most)),
});

function countOf(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** Facts of every case, in order, from as many threads as pay. */
async function inspectCases(
  cases: readonly Case[],
  reading: Reading,
  onCase: (done: number, all: number) => void,
): Promise<CaseFacts[]> {
  const facts: CaseFacts[] = [];
  let [next, done] = [0, 0];
  const threads = Math.min(cases.length, availableParallelism(), 8);
  const work = () =>
    new Promise<void>((resolve, reject) => {
      const worker = new Worker(new URL('./inspect-worker.js', import.meta.url));
      const give = () => {
        if (next < cases.length)
          worker.postMessage({ index: next, reading, case: cases[next++]! } satisfies InspectQuestion);
        else worker.terminate().then(() => resolve(), reject);
      };
      worker.on('message', ({ index, fact }: InspectAnswer) => {
        facts[index] = fact;
        onCase(++done, cases.length);
        give();
      });
      worker.on('error', reject);
      give();
    });
  await Promise.all(Array.from({ length: threads }, work));
  return facts;
}
