// How JSON from outside is checked: valibot describes what it must look like, and each schema's message says what it expects ("a whole
// number from 0 to 255"), so that every mismatch reads in the house's form. Runs in a browser, too.
import * as v from 'valibot';
import { cut } from './data-error.js';

/** An object, as JSON has them; its keys are checked elsewhere. valibot's own objects also take lists. */
export const anyObject = v.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'an object',
);

export const text = v.string('a text');

export const listOf = <S extends v.GenericSchema>(item: S, expected = 'a list') =>
  v.pipe(v.array(item, expected), v.readonly());

/** An object from any names to values of one kind. */
export const tableOf = <S extends v.GenericSchema>(item: S) =>
  v.pipe(anyObject, v.record(v.string(), item), v.readonly());

/** An object with these keys, and perhaps others, which are left out. */
export const objectWith = <const E extends v.ObjectEntries>(entries: E) =>
  v.pipe(anyObject, v.object(entries), v.readonly());

const most = Number.MAX_VALUE;

/** A number, or a whole one, from `min` to `max`. */
export function numberWithin({
  min = -most,
  max = most,
  whole = false,
}: {
  min?: number;
  max?: number;
  whole?: boolean;
}) {
  const range = max < most ? ` from ${min} to ${max}` : min > -most ? ` of at least ${min}` : '';
  const expected = `a ${whole ? 'whole ' : ''}number${range}`;
  return v.pipe(
    v.number(expected),
    whole ? v.safeInteger(expected) : v.finite(expected),
    v.minValue(min, expected),
    v.maxValue(max, expected),
  );
}

export const oneOf = <const C extends string>(words: readonly C[]) =>
  v.picklist(words, words.length === 2 ? words.join(' or ') : `one of ${words.join(', ')}`);

/** A schema of what `read` makes of a value. */
export const reading = <S extends v.GenericSchema>(read: (value: unknown) => unknown, schema: S) =>
  v.pipe(v.unknown(), v.transform(read), schema);

/** The number that a text stands for; everything else as it is. */
export const numberIn = (value: unknown): unknown =>
  typeof value === 'string' && value.trim() ? Number(value) : value;

/** What is wrong with a value. */
export interface Mismatch {
  /** The first key on the way to it; empty for the value as a whole. */
  readonly key: string;
  /** Whether its schema knows no such key. */
  readonly isUnknown: boolean;
  /** What is expected there. */
  readonly expected: string;
  /** `"labels.atrium" must be a whole number from 0 to 255 — got 1.5.` */
  readonly message: string;
}

type Checked<T> =
  | { readonly value: T; readonly mismatches?: undefined }
  | { readonly value?: undefined; readonly mismatches: [Mismatch, ...Mismatch[]] };

/** A value as its schema makes it, or all that is wrong with it. `at` is what leads to the value. */
export function checked<S extends v.GenericSchema>(schema: S, value: unknown, at = ''): Checked<v.InferOutput<S>> {
  const { success, output, issues } = v.safeParse(schema, value);
  if (success) return { value: output };
  const [first, ...others] = issues.map((issue) => mismatchOf(issue, at)) as [Mismatch, ...Mismatch[]];
  return { mismatches: [first, ...others] };
}

/** A value as its schema makes it; `refuse` throws the first that is wrong. */
export function required<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  refuse: (what: string) => never,
  at = '',
): v.InferOutput<S> {
  const found = checked(schema, value, at);
  return found.mismatches ? refuse(found.mismatches[0].message) : found.value;
}

function mismatchOf({ path, message: expected, input, type, ...issue }: v.BaseIssue<unknown>, at: string): Mismatch {
  const keys = (path ?? []).map(({ key }) => key as string | number);
  const steps = keys.map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`)).join('');
  const place = cut(at + (at ? steps : steps.replace(/^\./, '')));
  const isUnknown = type === 'strict_object' && issue.expected === 'never';
  const isMissing = /^(strict_)?object$/.test(type) && input === undefined;
  const wrong = `must be ${expected} — got ${cut(JSON.stringify(input) ?? 'nothing')}`;
  const what = isUnknown ? 'is an unknown key' : isMissing ? 'is missing' : wrong;
  return { key: `${keys[0] ?? ''}`, isUnknown, expected, message: `${place ? `"${place}"` : 'it'} ${what}.` };
}
