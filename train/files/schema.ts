// How JSON from outside is checked: valibot describes what it must look like, and each schema's message says what it expects ("a whole
// number from 0 to 255"), so that every mismatch reads in the house's form. Runs in a browser, too.
import * as v from 'valibot';
import { cut } from './data-error.js';

/** A JSON object whose keys are checked elsewhere. */
export const anyObject = v.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'an object',
);

export const text = v.string('a text');

export const listOf = <S extends v.GenericSchema>(item: S) => v.array(item, 'a list');

/** An object whose keys are names. valibot's own takes a list for one. */
export const tableOf = <S extends v.GenericSchema>(item: S) =>
  v.pipe(anyObject, v.record(v.string(), item as v.GenericSchema<unknown, v.InferOutput<S>>));

/** An object with these keys, and perhaps others. */
export const objectWith = <E extends v.ObjectEntries>(entries: E) => v.pipe(anyObject, v.object(entries));

export function numberWithin(min: number, max: number, whole = false) {
  const range = max === Number.MAX_VALUE ? `of at least ${min}` : `from ${min} to ${max}`;
  const expected = `a ${whole ? 'whole ' : ''}number ${range}`;
  return v.pipe(
    v.number(expected),
    whole ? v.safeInteger(expected) : v.finite(expected),
    v.minValue(min, expected),
    v.maxValue(max, expected),
  );
}

/** What is wrong with a value: where in it, and in words. */
export interface Mismatch {
  /** The first key on the way to it; empty for the value itself. */
  readonly key: string;
  /** What is expected there. */
  readonly expected: string;
  /** `"labels.atrium" must be a whole number from 0 to 255 — got 1.5.` */
  readonly message: string;
}

/** A value as its schema makes it, or all that is wrong with it. */
export function checked<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
): { readonly value: v.InferOutput<S> } | { readonly value?: undefined; readonly mismatches: readonly Mismatch[] } {
  const { success, output, issues } = v.safeParse(schema, value);
  return success ? { value: output } : { mismatches: issues.map(mismatchOf) };
}

/** A value as its schema makes it; `refuse` throws what is wrong first. */
export function required<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  refuse: (what: string) => never,
): v.InferOutput<S> {
  const found = checked(schema, value);
  return 'mismatches' in found ? refuse(found.mismatches[0]!.message) : found.value;
}

function mismatchOf({ path, message: expected, input, kind, type }: v.BaseIssue<unknown>): Mismatch {
  const keys = (path ?? []).map(({ key }) => key as string | number);
  const place = keys.map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i ? '.' : ''}${key}`)).join('');
  const isMissing = kind === 'schema' && type === 'object' && input === undefined;
  const message = isMissing
    ? `"${cut(place)}" is missing.`
    : `${place ? `"${cut(place)}"` : 'it'} must be ${expected} — got ${cut(JSON.stringify(input) ?? 'nothing')}.`;
  return { key: `${keys[0] ?? ''}`, expected, message };
}
