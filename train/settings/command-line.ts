// What a command takes, as one table: it reads the command's flags and writes its help, so that neither can know a flag that the other
// does not. node's parseArgs splits the arguments; types and bounds are checked here, and an error names the nearest known flag.
import { parseArgs } from 'node:util';
import * as v from 'valibot';
import { nearest } from '../../engine/custom.js';
import { cut } from '../files/data-error.js';
import { checked, numberIn, numberWithin, oneOf, reading } from '../files/schema.js';
import { UsageError } from '../files/usage-error.js';

/** One flag. With `many`, its texts are a list: one for each time the flag is given. */
export interface Flag {
  readonly type: 'string' | 'boolean' | 'integer' | 'number';
  /** A line of help: what it does. */
  readonly help: string;
  /** The word for its value in the help: DIR, FILE; by default N for numbers. */
  readonly value?: string;
  /** The texts it may be. */
  readonly choices?: readonly string[];
  /** Its value unless given; the help names it. */
  readonly default?: string | number;
  /** The flag is required; `one`: exactly one of the flags marked so is. */
  readonly needed?: true | 'one';
  readonly many?: true;
  readonly short?: string;
  /** Bounds of a number. */
  readonly min?: number;
  readonly max?: number;
  /** Its heading in the help. */
  readonly under?: string;
}

export type Flags = Readonly<Record<string, Flag>>;

type Given<F extends Flag> = F extends { many: true }
  ? readonly string[]
  : F extends { choices: readonly (infer C)[] }
    ? C
    : F['type'] extends 'boolean'
      ? boolean
      : F['type'] extends 'string'
        ? string
        : number;

/** Whether a flag has a value on every valid command line. */
type IsSure<F extends Flag> = F extends { default: unknown } | { needed: true } | { type: 'boolean' } ? true : false;

export interface CommandLine<F extends Flags> {
  readonly flags: { readonly [K in keyof F as IsSure<F[K]> extends true ? K : never]: Given<F[K]> } & {
    readonly [K in keyof F as IsSure<F[K]> extends true ? never : K]?: Given<F[K]>;
  };
  readonly positionals: readonly string[];
}

/** A command: everything about its arguments. */
export interface CommandTable<F extends Flags> {
  /** Its name: `evaluate`, `bench step`. */
  readonly name: string;
  /** What to type to call it, unless that is `wgrad NAME`. */
  readonly called?: string;
  /** What it does, for its help. */
  readonly about: string;
  /** Arguments without a flag; a name that ends in `…` takes any number, a name in brackets is optional. */
  readonly positionals?: readonly string[];
  readonly flags: F;
  /** Its help after the flags. */
  readonly notes?: string;
}

/** A command's table with its help and its reader. */
export interface Described<F extends Flags = Flags> extends CommandTable<F> {
  readonly help: string;
  /**
   * The flags and positional arguments of a command line. Throws a UsageError for an unknown flag, a missing or malformed value, a
   * missing required flag, and too few or too many positionals.
   */
  read(args: readonly string[]): CommandLine<F>;
}

/** Switches of the engine, which every command takes; cli.ts removes them before a command reads its own flags. */
export const switches = {
  'no-fuse': { type: 'boolean', help: 'run every op as its own launch (to find out whether fusion is at fault)' },
  'no-tune': {
    type: 'boolean',
    help: "run every kernel's default variant, whatever wgrad bench --tune has measured",
  },
} as const satisfies Flags;

/** Makes a command's help and reader from its table. */
export function describeCommand<const F extends Flags>(table: CommandTable<F>): Described<F> {
  const { about, flags, notes } = table;
  const help = [usageOf(table), about.trim(), flagLines(flags), ...(notes ? [notes.trim()] : [])].join('\n\n');
  return { ...table, help, read: (args) => readCommandLine(table, args) };
}

// ---- help

/** Words in lines of at most `width` characters. */
function wrapped(text: string, width: number): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!;
    if (line && line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = line ? `${line} ${word}` : word;
  }
  return lines;
}

/** --run RUN */
function spelled(name: string, { type, value, choices }: Flag): string {
  if (type === 'boolean') return `--${name}`;
  return `--${name} ${value ?? choices?.join('|') ?? (type === 'string' ? 'TEXT' : 'N')}`;
}

/** usage: wgrad predict --run RUN | --weights FILE --out DIR INPUT… [flags] */
function usageOf({ name, called = `wgrad ${name}`, flags, positionals = [] }: CommandTable<Flags>): string {
  const all = Object.entries(flags);
  const one = all.filter(([, { needed }]) => needed === 'one').map(([key, flag]) => spelled(key, flag));
  const always = all.filter(([, { needed }]) => needed === true).map(([key, flag]) => spelled(key, flag));
  const isMore = all.length > one.length + always.length;
  return [
    `usage: ${called}`,
    ...(one.length ? [`(${one.join(' | ')})`] : []),
    ...always,
    ...positionals,
    ...(isMore ? ['[flags]'] : []),
  ].join(' ');
}

/** A line of help for each flag, under their headings. */
export function flagLines(flags: Flags): string {
  const headings = [...new Set(Object.values(flags).map(({ under }) => under))];
  return headings
    .map((heading) => {
      const own = Object.entries(flags).filter(([, { under }]) => under === heading);
      const names = own.map(([name, flag]) => `  ${flag.short ? `-${flag.short}, ` : ''}${spelled(name, flag)}`);
      const column = Math.min(44, 2 + Math.max(...names.map(({ length }) => length)));
      const lines = own.map(([, { help, default: value }], i) => {
        const text = value === undefined ? help : `${help} (default ${value})`;
        const [first = '', ...more] = wrapped(text, 128 - column);
        const indented = (line: string) => ' '.repeat(column) + line;
        return names[i]!.length + 2 > column
          ? [names[i]!, ...[first, ...more].map(indented)]
          : [names[i]!.padEnd(column) + first, ...more.map(indented)];
      });
      return [...(heading === undefined ? [] : [`${heading}:`]), ...lines.flat()].join('\n');
    })
    .join('\n\n');
}

// ---- reading

function readCommandLine<F extends Flags>(table: CommandTable<F>, args: readonly string[]): CommandLine<F> {
  const { name: command, called = `wgrad ${command}`, flags: known, positionals = [] } = table;
  const see = `See ${called} --help.`;
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
        const near = nearest(token.name, [...Object.keys(known), ...Object.keys(switches)]);
        const hint = near === undefined ? see : `Did you mean --${near}?`;
        throw new UsageError(`${command}: unknown flag ${cut(token.rawName)}. ${hint}`);
      }
      // `--data --json` forgot the value; `--data=--json` means it.
      const isForgotten = flag.type !== 'boolean' && !token.inlineValue && token.value?.startsWith('--');
      const value = checkedValue(command, token.rawName, flag, isForgotten ? undefined : token.value);
      flags[token.name] = flag.many ? [...((flags[token.name] as string[]) ?? []), String(value)] : value;
    }
  }
  const variadic = /…\]?$/.test(positionals.at(-1) ?? '');
  const required = positionals.filter((name) => !name.startsWith('['));
  if (rest.length < required.length) {
    throw new UsageError(`${command}: ${required[rest.length]!.replace('…', '')} is missing. ${see}`);
  }
  if (rest.length > positionals.length && !variadic) {
    throw new UsageError(
      `${command}: unexpected argument '${cut(rest[positionals.length]!)}' — expected ${positionals.length ? `only ${positionals.join(' ')}` : 'flags only'}. ${see}`,
    );
  }
  checkNeeded(command, see, known, flags);
  for (const [name, { type, default: value }] of Object.entries(known)) {
    if (flags[name] !== undefined) continue;
    if (value !== undefined) flags[name] = value;
    else if (type === 'boolean') flags[name] = false;
  }
  return { flags: flags as CommandLine<F>['flags'], positionals: rest };
}

function checkNeeded(command: string, see: string, known: Flags, given: Readonly<Record<string, unknown>>): void {
  const marked = (mark: Flag['needed']) => Object.keys(known).filter((name) => known[name]!.needed === mark);
  const lacking = marked(true).find((name) => given[name] === undefined);
  if (lacking) throw new UsageError(`${command}: --${lacking} is required. ${see}`);
  const one = marked('one').map((name) => spelled(name, known[name]!));
  const both = marked('one').filter((name) => given[name] !== undefined);
  if (one.length && !both.length) throw new UsageError(`${command}: give ${one.join(' or ')}. ${see}`);
  if (both.length > 1) {
    const names = both.map((name) => `--${name}`);
    throw new UsageError(`${command}: ${names.join(' and ')} cannot be combined. Give one of them.`);
  }
}

/** The schema of a flag's text. */
const schemaOf = ({ type, choices, min, max }: Flag) => {
  if (choices) return oneOf(choices);
  return type === 'string' ? v.string() : reading(numberIn, numberWithin({ min, max, whole: type === 'integer' }));
};

function checkedValue(command: string, name: string, flag: Flag, value: string | undefined): string | number | boolean {
  if (flag.type === 'boolean') {
    if (value !== undefined) throw new UsageError(`${command}: ${name} takes no value — got '${cut(value)}'.`);
    return true;
  }
  if (value === undefined) throw new UsageError(`${command}: ${name} needs a value. See wgrad ${command} --help.`);
  // An empty path is a variable that a script forgot to set; it would mean this folder.
  if (value === '' && flag.type === 'string') {
    throw new UsageError(`${command}: ${name} is empty. Give it a value, or leave it out.`);
  }
  const found = checked(schemaOf(flag), value);
  if (!found.mismatches) return found.value;
  throw new UsageError(`${command}: ${name} must be ${found.mismatches[0].expected} — got '${cut(value)}'.`);
}
