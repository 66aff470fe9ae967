// Arguments of calls: values as errors print them, and the check for unknown options.
import { ShapeError } from './shape.js';

const most = 60;

/** A value as errors print it, cut when it is long. */
export function showValue(value: unknown): string {
  const text = words(value);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function words(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (value instanceof Promise) return 'a promise';
  if (Array.isArray(value)) return `[${value.slice(0, 20).map(words).join(', ')}${value.length > 20 ? ', …' : ''}]`;
  const { dtype, shape } = value as { dtype?: unknown; shape?: unknown };
  if (typeof dtype === 'string' && Array.isArray(shape)) return `a tensor ${dtype} [${shape.join(',')}]`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  const keys = Object.keys(value);
  return Object.getPrototypeOf(value) === Object.prototype ? `{ ${keys.join(', ')} }` : `a ${value.constructor.name}`;
}

/** Edit distance: the number of single-letter changes between two words. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

/** @internal The known word nearest to an unknown one; undefined when none is near. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const lower = word.toLowerCase();
  const ranked = known
    .map((name) => ({ name, apart: distance(lower, name.toLowerCase()) }))
    .sort((a, b) => a.apart - b.apart);
  const [best] = ranked;
  if (best && best.apart <= Math.max(word.length > 3 ? 2 : 1, Math.floor(word.length / 3))) return best.name;
  return known.find(
    (name) => lower.length > 2 && (name.toLowerCase().includes(lower) || lower.includes(name.toLowerCase())),
  );
}

/**
 * Throws a ShapeError unless `options` is a plain object (or undefined) whose keys are all `known`. `hints` say what to do about
 * unknown names that people try.
 */
export function checkOptions(
  op: string,
  options: unknown,
  known: readonly string[],
  hints: Readonly<Record<string, string>> = {},
): void {
  if (options === undefined) return;
  const expected = known.length ? `an object of ${known.join(', ')}` : 'no options';
  if (typeof options !== 'object' || options === null || Array.isArray(options) || 'shape' in options) {
    throw new ShapeError(`${op}: got options ${showValue(options)}, expected ${expected}.`);
  }
  const unknown = Object.keys(options).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const meant = nearest(unknown, known);
  const hint = hints[unknown] ?? (meant ? `Did you mean '${meant}'?` : 'Leave it out.');
  throw new ShapeError(`${op}: unknown option ${showValue(unknown)} — expected ${expected}. ${hint}`);
}

/** Throws a ShapeError when a call got more arguments than it takes; `others` are those after its last parameter. */
export function checkNoMore(op: string, others: readonly unknown[], takes: string): void {
  if (others.length)
    throw new ShapeError(`${op}: got ${showValue(others[0])} after ${takes}, expected nothing. Leave it out.`);
}
