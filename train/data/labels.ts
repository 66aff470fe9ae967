// From the numbers in a label file to classes: which are whole, which are classes, which mark voxels to ignore. References and
// predictions, training, inspection and evaluation all use this file.
import { DataError, some } from '../files/data-error.js';
import type { Case } from './layouts.js';

/** The class number of a voxel that is not learned from and not scored; every loss leaves it out. */
export const ignored = 255;

/** The meaning of label values. */
export interface LabelRules {
  /** Labels are 0 … classes − 1, or the case's own values in that order. */
  readonly classes: number;
  /** Value of voxels to ignore; without one, every value is a class. */
  readonly ignoreLabel?: number | null | undefined;
}

/** A label this close to a whole number is that number: interpolation moves values further. */
const slack = 1e-3;

/** Label values as whole numbers, with a note where they were rounded; the same array where they are whole. */
export interface WholeLabels {
  readonly values: Float32Array;
  readonly notes: readonly string[];
}

/**
 * Rounds values that are off by at most 1e-3; in a file that stores its numbers times a slope, by at most half the slope, up to 0.25.
 * Throws a DataError that names all other values and counts their voxels.
 */
export function wholeLabels({ data, slope }: { data: Float32Array; slope: number }, path: string): WholeLabels {
  const step = Math.abs(slope);
  const most = step <= 0.5 ? Math.max(slack, 0.501 * step) : slack;
  const others = new Map<number, number>();
  let [worst, off] = [0, 0];
  for (const value of data) {
    const apart = Math.abs(value - Math.round(value));
    if (apart <= most) {
      if (apart > worst) worst = apart;
    } else {
      off++;
      if (others.size < 1000 || others.has(value)) others.set(value, (others.get(value) ?? 0) + 1);
    }
  }
  if (off) {
    const listed = [...others].sort((a, b) => b[1] - a[1]);
    throw new DataError(
      `case: ${path} holds values that are not labels: ${some(listed.map(([value, n]) => `${shown(value)} (${voxels(n)})`))}, ${voxels(off)} of ${data.length}; expected whole numbers. ` +
        'If it was resampled, resample it again with nearest neighbour; turn probabilities into labels by their argmax.',
    );
  }
  if (worst === 0) return { values: data, notes: [] };
  const why = worst > slack ? `stored times a slope of ${shown(slope)}` : 'not whole';
  return {
    values: data.map((value) => Math.round(value) + 0), // + 0: no −0
    notes: [`its labels are ${why}: rounded, by at most ${worst.toPrecision(2)}`],
  };
}

const shown = (value: number): string => String(Number(value.toPrecision(6)));
const voxels = (n: number): string => `${n} voxel${n === 1 ? '' : 's'}`;

/** The values that are classes, in their order; undefined where any whole number from 0 to 255 is one. */
function classValues(c: Pick<Case, 'labelValues'>, classes: number | undefined, isMask: boolean) {
  if (c.labelValues) return c.labelValues;
  if (isMask) return [0, 255];
  return classes === undefined ? undefined : Array.from({ length: classes }, (_, k) => k);
}

/** The value that marks voxels to ignore in a case: the one asked for, else the data set's own. */
const markOf = (c: Pick<Case, 'ignoreValue'>, asked: number | null | undefined): number | undefined =>
  asked ?? c.ignoreValue;

/** The usual marks of unlabelled voxels. */
const usualMarks = [255, -1];

/** The fault in the values of a label file, counted by value; undefined if there is none. */
export function unknownLabels(
  counts: ReadonlyMap<number, number>,
  c: Case,
  { classes, ignoreLabel }: { classes?: number | undefined; ignoreLabel?: number | null | undefined },
): string | undefined {
  const mark = markOf(c, ignoreLabel);
  const known = classValues(c, classes, isMaskOf(counts.keys(), c, classes, mark));
  const isKnown = (value: number) =>
    value === mark || (known ? known.includes(value) : Number.isInteger(value) && value >= 0 && value <= 255);
  const unknown = [...counts].filter(([value]) => !isKnown(value)).sort((a, b) => a[0] - b[0]);
  if (!unknown.length) return undefined;
  const expected = c.labelValues
    ? `one of ${some(c.labelValues, 12)}${c.labelTable ? ' (dataset.json)' : ''}`
    : `whole numbers 0 to ${(classes ?? 256) - 1}`;
  const usual = unknown.find(([value]) => usualMarks.includes(value))?.[0];
  const advice =
    usual !== undefined
      ? `${usual} usually marks voxels to ignore: leave them out with --ignore-label ${usual}, or correct the labels.`
      : c.labelTable
        ? `Correct the labels, or "labels" in ${c.labelTable}.`
        : 'Correct the labels, or set the number of classes with --classes.';
  const counted = some(unknown.map(([value, n]) => `${value}: ${voxels(n)}`));
  return `case: ${c.label} holds the label ${some(unknown.map(([value]) => value))}, expected ${expected} (${counted}). ${advice}`;
}

/** Whether values are a mask of two classes, 0 and 255. */
function isMaskOf(
  values: Iterable<number>,
  c: Pick<Case, 'labelValues'>,
  classes: number | undefined,
  mark: number | undefined,
): boolean {
  if (classes !== 2 || c.labelValues || mark === 255) return false;
  const all = [...values];
  return all.includes(255) && all.every((value) => value === 0 || value === 255);
}

/** How often each value occurs. */
export function countOf(values: Float32Array): Map<number, number> {
  const counts = new Map<number, number>();
  let [last, run] = [values[0]!, 0]; // neighbours are mostly alike
  for (const value of values) {
    if (value === last) run++;
    else {
      counts.set(last, (counts.get(last) ?? 0) + run);
      [last, run] = [value, 1];
    }
  }
  if (run) counts.set(last, (counts.get(last) ?? 0) + run);
  return counts;
}

/**
 * Whole label values as classes: by the case's table, or as they are; a mask of 0 and 255 becomes classes 0 and 1, and the mark of voxels
 * to ignore becomes `ignored`. Throws a DataError that names values that are not classes.
 */
export function classesOf(values: Float32Array, c: Case, { classes, ignoreLabel }: LabelRules): Uint8Array {
  const counts = countOf(values);
  const wrong = unknownLabels(counts, c, { classes, ignoreLabel });
  if (wrong) throw new DataError(wrong);
  const mark = markOf(c, ignoreLabel);
  const table = classValues(c, classes, isMaskOf(counts.keys(), c, classes, mark))!;
  const classOf = new Map(table.map((value, k) => [value, k]));
  if (mark !== undefined) classOf.set(mark, ignored);
  const label = new Uint8Array(values.length);
  for (let i = 0; i < label.length; i++) {
    const k = classOf.get(values[i]!)!;
    if (k >= classes && k !== ignored) throw new DataError(`case: ${c.label} holds class ${k} of ${classes} classes.`);
    label[i] = k;
  }
  return label;
}
