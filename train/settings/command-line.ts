// What a command takes, as one table: its flags are read by it and its help is written from it, so that neither can know a flag
// that the other does not. Reading is node's parseArgs with types checked, and a UsageError that names the nearest known flag.
import { parseArgs } from 'node:util';
import * as v from 'valibot';
import { nearest } from '../../engine/index.js';
import { cut } from '../files/data-error.js';
import { checked, numberIn, numberWithin, oneOf, reading } from '../files/schema.js';
import { UsageError } from '../files/usage-error.js';

/** One flag. `many` texts are a list, one for each time that the flag stands. */
export interface Flag {
  readonly type: 'string' | 'boolean' | 'integer' | 'number';
  /** What it does, a line of help. */
  readonly help: string;
  /** What stands for its value in the help: DIR, FILE; N for numbers where not given. */
  readonly value?: string;
  /** The texts that it may be. */
  readonly choices?: readonly string[];
  /** Its value where it is not given; the help names it. */
  readonly default?: string | number;
  /** It must be given; `one`: one of the flags that are so marked, and no more. */
  readonly needed?: true | 'one';
  readonly many?: true;
  readonly short?: string;
  /** Bounds of a number. */
  readonly min?: number;
  readonly max?: number;
  /** The heading that it stands under in the help. */
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

/** Whether a flag has a value on every command line that is right. */
type IsSure<F extends Flag> = F extends { default: unknown } | { needed: true } | { type: 'boolean' } ? true : false;

export interface CommandLine<F extends Flags> {
  readonly flags: { readonly [K in keyof F as IsSure<F[K]> extends true ? K : never]: Given<F[K]> } & {
    readonly [K in keyof F as IsSure<F[K]> extends true ? never : K]?: Given<F[K]>;
  };
  readonly positionals: readonly string[];
}

/** What a command is: everything about its arguments. */
export interface CommandTable<F extends Flags> {
  /** As it is called: `evaluate`, `bench step`. */
  readonly name: string;
  /** What is typed to call it, where that is not `wgrad NAME`. */
  readonly called?: string;
  /** What it does, for its help. */
  readonly about: string;
  /** What may stand without a flag; a name that ends in `…` takes any number, one in brackets may be left out. */
  readonly positionals?: readonly string[];
  readonly flags: F;
  /** What its help says after the flags. */
  readonly notes?: string;
}

/** A command's table with what is made of it. */
export interface Described<F extends Flags = Flags> extends CommandTable<F> {
  readonly help: string;
  /**
   * The flags and positional arguments of a command line. Throws a UsageError for an unknown flag, a missing or malformed value, a flag
   * that is needed, too few or too many positionals.
   */
  read(args: readonly string[]): CommandLine<F>;
}

/** Switches of the engine, which every command takes; the command line takes them out before a command reads its own. */
export const switches = {
  'no-fuse': { type: 'boolean', help: 'every op is a launch of its own (to find out whether fusing is at fault)' },
  'no-tune': {
    type: 'boolean',
    help: 'every kernel runs its default, whatever was measured (wgrad bench --tune)',
  },
} as const satisfies Flags;

/** Makes help and reader of a command's table. */
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
      `${command}: unexpected argument '${cut(rest[positionals.length]!)}' — it takes ${positionals.length ? positionals.join(' ') : 'flags only'}.`,
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
  if (lacking) throw new UsageError(`${command}: --${lacking} is needed. ${see}`);
  const one = marked('one').map((name) => spelled(name, known[name]!));
  const both = marked('one').filter((name) => given[name] !== undefined);
  if (one.length && !both.length) throw new UsageError(`${command}: give ${one.join(' or ')}. ${see}`);
  if (both.length > 1) {
    const names = both.map((name) => `--${name}`);
    throw new UsageError(`${command}: ${names.join(' and ')} exclude each other. Give one of them.`);
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
