// What every public op means in float64, by its name. Throws where shapes do not fit, so that a program which shrinking made
// meaningless is left out. A family is a file: elements, axes, rows, images.
import { axes } from './meaning-axes.js';
import { elements } from './meaning-elements.js';
import { images } from './meaning-images.js';
import { rows } from './meaning-rows.js';
import type { Call } from './program.js';
import type { Real, Tape } from './reference.js';
import { NoMeaning } from './shapes.js';

type Meaning = (tape: Tape, ...args: never[]) => Real | readonly Real[] | Readonly<Record<string, Real>>;

/** Ops that are called by programs. */
export const meanings: Readonly<Record<string, Meaning>> = { ...elements, ...axes, ...rows, ...images };

/** The value of a call: `args` are reals, numbers, options, state and draws, as the call has them. */
export function meaningOf(tape: Tape, { name, part }: Pick<Call, 'name' | 'part'>, args: readonly unknown[]): Real {
  const meaning = meanings[name] as ((tape: Tape, ...args: unknown[]) => unknown) | undefined;
  if (!meaning) throw new NoMeaning(name);
  const result = meaning(tape, ...args);
  return (part === undefined ? result : (result as Record<string, Real>)[part]) as Real;
}
