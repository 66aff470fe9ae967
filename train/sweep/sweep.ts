// A sweep: many trainings from one file. Here are the plan (which runs, under which names), what has become of each, and the
// table. A run's folder says itself whether it is finished, so a sweep has no state of its own and can be repeated at any time.
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { nearest } from '../../engine/index.js';
import { UsageError } from '../files/usage-error.js';
import { readSafetensors } from '../run/checkpoint.js';
import { runFiles } from '../run/run-folder.js';
import { readProtocol, readSettings } from '../settings/config-file.js';
import { type Config, type ConfigKey, flagOf, resolveConfig, settingKey } from '../settings/settings.js';

/** One training of a sweep. */
export interface SweepRun {
  /** What differs from the base; the name of its run folder. */
  readonly name: string;
  /** The same without the seed: runs that share it are one row of the table. */
  readonly group: string;
  readonly config: Config;
}

export interface SweepPlan {
  readonly runs: readonly SweepRun[];
  /** Folders that the file names; flags go before them. */
  readonly data: string | undefined;
  readonly out: string | undefined;
}

const fileKeys = ['protocol', 'base', 'grid', 'list', 'data', 'out'];

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Every combination of the grid's values, the last setting varying fastest. */
const combinations = (grid: readonly (readonly [string, readonly unknown[]])[]): Record<string, unknown>[] =>
  grid.reduce<Record<string, unknown>[]>(
    (all, [key, values]) => all.flatMap((one) => values.map((value) => ({ ...one, [key]: value }))),
    [{}],
  );

/** Settings under their keys; the same one twice, as key and as flag, is refused. */
function byKey(where: string, given: Record<string, unknown>): Record<string, unknown> {
  const settings: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(given)) {
    const key = inFile(where, () => settingKey(name));
    if (key in settings) throw new UsageError(`${where} names ${key} twice. Leave one out.`);
    settings[key] = value;
  }
  return settings;
}

function inFile<T>(where: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof UsageError ? new UsageError(`${where} — ${error.message}`) : error;
  }
}

/** `mt_seed-2`: the method, then every other setting as its flag and value. */
function nameOf(own: Record<string, unknown>, config: Config): string {
  const { method, ...others } = own;
  const words = Object.keys(others).map((key) => {
    const value = config[key as ConfigKey];
    return `${flagOf(key)}-${Array.isArray(value) ? value.join('-') : value}`;
  });
  return [...(method === undefined ? [] : [config.method]), ...words].join('_') || 'base';
}

/**
 * The runs of a sweep file: `{ "protocol": NAME, "base": { settings }, "grid": { setting: [values] } }`, or a `list` of settings in
 * the grid's place; `data` and `out` may be there too. Throws a UsageError for unknown keys (with the nearest known), values that no
 * run could have, nothing to run, and runs that are the same.
 */
export function readSweep(file: string): SweepPlan {
  const found = readSettings(file);
  for (const key of Object.keys(found)) {
    if (fileKeys.includes(key)) continue;
    const near = nearest(key, fileKeys);
    throw new UsageError(
      `sweep: ${file} has an unknown key '${key}'. ${near ? `Did you mean '${near}'?` : `It may have ${fileKeys.join(', ')}; settings go into base.`}`,
    );
  }
  const { protocol, base = {}, grid, list, data, out } = found;
  const refuse = (what: string): never => {
    throw new UsageError(`sweep: ${file}: ${what}`);
  };
  for (const [key, value] of Object.entries({ protocol, data, out })) {
    if (value !== undefined && typeof value !== 'string')
      refuse(`${key} must be a text — got ${JSON.stringify(value)}.`);
  }
  if (!isObject(base)) return refuse(`base must be an object of settings — got ${JSON.stringify(base)}.`);
  if ((grid === undefined) === (list === undefined)) {
    return refuse(`has ${grid ? 'a grid and a list' : 'neither a grid nor a list'}, expected one of the two.`);
  }
  const where = (part: string) => `sweep: ${file}: ${part}`;
  const shared = byKey(where('base'), base);
  const owns = grid === undefined ? listed(list, refuse, where) : gridded(grid, refuse, where);
  const protocolSettings = typeof protocol === 'string' ? readProtocol(protocol) : undefined;
  const runs = owns.map((own, n) => {
    const which = where(`run ${n + 1} of ${owns.length} (${JSON.stringify(own)})`);
    const config = inFile(which, () => resolveConfig({ ...shared, ...own }, protocolSettings));
    const { seed: _, ...rest } = own;
    return { name: nameOf(own, config), group: nameOf(rest, config), config };
  });
  const first = new Map<string, number>();
  runs.forEach(({ name }, n) => {
    const same = first.get(name);
    if (same !== undefined) refuse(`runs ${same + 1} and ${n + 1} are both '${name}'. Leave one out.`);
    first.set(name, n);
  });
  return { runs, data: data as string | undefined, out: out as string | undefined };
}

type Refuse = (what: string) => never;
type Where = (part: string) => string;

function gridded(grid: unknown, refuse: Refuse, where: Where): Record<string, unknown>[] {
  if (!isObject(grid) || !Object.keys(grid).length) {
    return refuse('the grid is empty, expected settings with lists of values, for instance { "seed": [1, 2, 3] }.');
  }
  const settings = Object.entries(byKey(where('grid'), grid));
  for (const [key, values] of settings) {
    if (!Array.isArray(values) || !values.length) {
      refuse(`grid: ${key} must be a list of at least one value — got ${JSON.stringify(values)}.`);
    }
  }
  return combinations(settings as [string, unknown[]][]);
}

function listed(list: unknown, refuse: Refuse, where: Where): Record<string, unknown>[] {
  if (!Array.isArray(list) || !list.length || !list.every(isObject)) {
    return refuse(
      'list must hold at least one object of settings, for instance [{ "method": "mt" }, { "method": "lccs" }].',
    );
  }
  return list.map((own, n) => byKey(where(`list, entry ${n + 1}`), own));
}

/** Every n-th run, from the i-th on: `i/n`, i from 0. Throws a UsageError for anything else. */
export function shardOf<T>(runs: readonly T[], shard: string | undefined): T[] {
  if (shard === undefined) return [...runs];
  const [, i, n] = /^(\d+)\/(\d+)$/.exec(shard) ?? [];
  if (i === undefined || Number(n) < 1 || Number(i) >= Number(n)) {
    throw new UsageError(`sweep: --shard must be i/n with i from 0 to n − 1 — got '${shard}'.`);
  }
  return runs.filter((_, index) => index % Number(n) === Number(i));
}

export type RunState = 'waiting' | 'started' | 'finished';

/** Where a run stands, by what its folder holds: `iteration` of the last state that was saved. */
export interface RunStanding {
  readonly state: RunState;
  readonly iteration: number;
}

/** Where a run of the plan stands. Throws a UsageError when its folder belongs to a run with other settings. */
export function standingOf({ name, config }: SweepRun, out: string): RunStanding {
  const file = (part: string) => join(out, name, part);
  if (existsSync(file(runFiles.config))) {
    const theirs = inFile(`sweep: '${join(out, name)}'`, () => resolveConfig({}, readSettings(file(runFiles.config))));
    const differs = (Object.keys(config) as ConfigKey[]).find(
      (key) => JSON.stringify(config[key]) !== JSON.stringify(theirs[key]),
    );
    if (differs) {
      throw new UsageError(
        `sweep: '${join(out, name)}' is a run with ${differs} ${JSON.stringify(theirs[differs])}, the file says ${JSON.stringify(config[differs])}. Use another --out.`,
      );
    }
  }
  // A lock without a state is of a run that did not get as far as saving: it, too, is resumed, by its own settings.
  const begun = existsSync(file(runFiles.config)) && existsSync(file(runFiles.lock));
  if (!existsSync(file(runFiles.state))) return { state: begun ? 'started' : 'waiting', iteration: 0 };
  const saved = iterationIn(file(runFiles.state));
  const done = saved >= config.iterations && existsSync(file(runFiles.summary));
  return { state: done ? 'finished' : 'started', iteration: saved };
}

/** The iteration that a state is of; 0 for one that cannot be read. */
function iterationIn(checkpoint: string): number {
  try {
    return Number(readSafetensors(checkpoint).metadata.iteration ?? 0);
  } catch {
    return 0;
  }
}

/** What the table says of runs: name, title, decimals, and whether more is better. */
const measures = [
  { name: 'Dice', title: 'Dice', decimals: 4, more: true },
  { name: 'Jaccard', title: 'Jaccard', decimals: 4, more: true },
  { name: 'HD95', title: 'HD95 mm', decimals: 2, more: false },
  { name: 'ASD', title: 'ASD mm', decimals: 2, more: false },
] as const;
type Measure = (typeof measures)[number]['name'];
type Scores = Partial<Record<Measure, number>>;

/** One run's line: `scores` are the foreground's of the best validation, where there was one. */
export interface SweepResult {
  readonly name: string;
  readonly group: string;
  readonly seed: number;
  readonly state: RunState | 'failed';
  readonly iteration: number;
  readonly scores: Scores;
}

/** What is known of every run of the plan, those of other shards too; `failed` are names of this one's that failed. */
export function resultsOf(plan: SweepPlan, out: string, failed: ReadonlySet<string> = new Set()): SweepResult[] {
  return plan.runs.map((run) => {
    const { state, iteration } = standingOf(run, out);
    const { name, group, config } = run;
    const failure = failed.has(name) && state !== 'finished' ? 'failed' : state;
    return { name, group, seed: config.seed, state: failure, iteration, scores: scoresIn(join(out, name)) };
  });
}

function scoresIn(run: string): Scores {
  try {
    const summary = JSON.parse(readFileSync(join(run, runFiles.summary), 'utf8')) as { foreground_mean?: Scores };
    const all = summary.foreground_mean ?? {};
    return Object.fromEntries(
      measures.flatMap(({ name }) => (typeof all[name] === 'number' ? [[name, all[name]]] : [])),
    );
  } catch {
    return {};
  }
}

/** A row of the table: means over the finished runs of a group, and their sample standard deviations where there are two. */
export interface SweepRow {
  readonly name: string;
  readonly finished: number;
  readonly planned: number;
  readonly mean: Scores;
  readonly std: Scores;
  /** Measures in which no other row is better, and one is worse. */
  readonly best: readonly Measure[];
}

/** Rows by group, in the plan's order. */
export function sweepRows(results: readonly SweepResult[]): SweepRow[] {
  const rows = [...new Set(results.map(({ group }) => group))].map((name) => {
    const own = results.filter(({ group }) => group === name);
    const finished = own.filter(({ state }) => state === 'finished');
    const [mean, std]: [Scores, Scores] = [{}, {}];
    for (const { name: measure } of measures) {
      const values = finished.flatMap(({ scores }) => (scores[measure] === undefined ? [] : [scores[measure]!]));
      if (!values.length) continue;
      const average = values.reduce((a, b) => a + b, 0) / values.length;
      mean[measure] = average;
      if (values.length < 2) continue;
      std[measure] = Math.sqrt(values.reduce((sum, v) => sum + (v - average) ** 2, 0) / (values.length - 1));
    }
    return { name, finished: finished.length, planned: own.length, mean, std };
  });
  return rows.map((row) => {
    const best = measures.filter(({ name, more }) => {
      const others = rows.flatMap(({ mean }) => (mean[name] === undefined ? [] : [mean[name]!]));
      const own = row.mean[name];
      const [best, worst] = more ? [Math.max, Math.min] : [Math.min, Math.max];
      return own !== undefined && own === best(...others) && own !== worst(...others);
    });
    return { ...row, best: best.map(({ name }) => name) };
  });
}

/** The rows as text; the best of each column have a star. */
export function sweepTable(rows: readonly SweepRow[]): string {
  const cells = rows.map(({ name, finished, planned, mean, std, best }) => [
    name,
    `${finished}/${planned}`,
    ...measures.map((measure) => {
      const value = mean[measure.name];
      if (value === undefined) return '– ';
      const spread = std[measure.name];
      const text = `${value.toFixed(measure.decimals)}${spread === undefined ? '' : ` ± ${spread.toFixed(measure.decimals)}`}`;
      return `${text}${best.includes(measure.name) ? '*' : ' '}`;
    }),
  ]);
  const heads = ['validation, mean of classes', 'runs', ...measures.map(({ title }) => `${title} `)];
  const widths = heads.map((head, c) => Math.max(head.length, ...cells.map((row) => row[c]!.length)));
  return [heads, ...cells]
    .map((row) =>
      row
        .map((cell, c) => (c ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** One line a run: its settings as they were varied, its state and its scores. */
export function sweepCsv(results: readonly SweepResult[]): string {
  const lines = results.map(({ name, group, seed, state, iteration, scores }) =>
    [name, group, seed, state, iteration, ...measures.map(({ name: measure }) => scores[measure] ?? '')].join(),
  );
  return `${['run', 'group', 'seed', 'state', 'iteration', ...measures.map(({ name }) => name)].join()}\n${lines.join('\n')}\n`;
}

/** The name of a sweep without `out`: that of its file. */
export const sweepName = (file: string): string => basename(file).replace(/\.json$/, '');
