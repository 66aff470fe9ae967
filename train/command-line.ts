// Reads a command's flags: node's parseArgs with types checked, and a UsageError that names the nearest known flag.
import { parseArgs } from 'node:util';
import { nearestName, UsageError } from './config.js';

/** One flag: its kind, and for numbers the bounds. `many` texts are a list, one for each time that the flag stands. */
export interface Flag {
  readonly type: 'string' | 'boolean' | 'integer' | 'number';
  readonly many?: true;
  readonly short?: string;
  readonly min?: number;
  readonly max?: number;
}

type ValueOf<F extends Flag> = F extends { many: true }
  ? readonly string[]
  : F['type'] extends 'boolean'
    ? boolean
    : F['type'] extends 'string'
      ? string
      : number;

export interface CommandLine<F extends Record<string, Flag>> {
  readonly flags: { readonly [K in keyof F]?: ValueOf<F[K]> };
  readonly positionals: readonly string[];
}

/**
 * The flags and positional arguments of `wgrad COMMAND`. `positionals` names what may stand without a flag; a name that
 * ends in `…` takes any number, one in brackets may be left out. Throws a UsageError for an unknown flag, a missing or malformed value, too few or too many
 * positionals.
 */
export function readCommandLine<const F extends Record<string, Flag>>(
  command: string,
  args: readonly string[],
  known: F,
  positionals: readonly string[] = [],
): CommandLine<F> {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string }> = {};
  for (const [name, { type, short }] of Object.entries(known)) {
    options[name] = { type: type === 'boolean' ? 'boolean' : 'string', ...(short ? { short } : {}) };
  }
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  const flags: Record<string, string | number | boolean | string[]> = {};
  const rest: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') {
      rest.push(token.value);
    } else if (token.kind === 'option') {
      const flag = Object.hasOwn(known, token.name) ? known[token.name] : undefined;
      if (!flag) {
        const near = nearestName(token.name, Object.keys(known));
        const hint = near === undefined ? `See wgrad ${command} --help.` : `Did you mean --${near}?`;
        throw new UsageError(`${command}: unknown flag ${token.rawName}. ${hint}`);
      }
      const value = checkedValue(command, token.rawName, flag, token.value);
      flags[token.name] = flag.many ? [...((flags[token.name] as string[]) ?? []), String(value)] : value;
    }
  }
  const variadic = /…\]?$/.test(positionals.at(-1) ?? '');
  const needed = positionals.filter((name) => !name.startsWith('['));
  if (rest.length < needed.length) {
    throw new UsageError(
      `${command}: ${needed[rest.length]!.replace('…', '')} is missing. See wgrad ${command} --help.`,
    );
  }
  if (rest.length > positionals.length && !variadic) {
    throw new UsageError(
      `${command}: unexpected argument '${rest[positionals.length]}' — it takes ${positionals.length ? positionals.join(' ') : 'flags only'}.`,
    );
  }
  return { flags: flags as CommandLine<F>['flags'], positionals: rest };
}

function checkedValue(command: string, name: string, flag: Flag, value: string | undefined): string | number | boolean {
  if (flag.type === 'boolean') {
    if (value !== undefined) throw new UsageError(`${command}: ${name} takes no value — got '${value}'.`);
    return true;
  }
  if (value === undefined) throw new UsageError(`${command}: ${name} needs a value. See wgrad ${command} --help.`);
  if (flag.type === 'string') return value;
  const number = value.trim() === '' ? Number.NaN : Number(value);
  const what = flag.type === 'integer' ? 'an integer' : 'a number';
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY } = flag;
  const bound = flag.max !== undefined ? ` from ${min} to ${max}` : flag.min !== undefined ? ` of at least ${min}` : '';
  const whole = flag.type === 'number' ? Number.isFinite(number) : Number.isSafeInteger(number);
  if (!whole || number < min || number > max) {
    throw new UsageError(`${command}: ${name} must be ${what}${bound} — got '${value}'.`);
  }
  return number;
}
