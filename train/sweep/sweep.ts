// A sweep: many trainings from one file. Here are the plan (which runs, under which names), the state of each run, and the table. A run's
// folder shows whether the run is finished, so a sweep keeps no state and can be repeated at any time.
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { nearest } from '../../engine/custom.js';
import { cut } from '../files/data-error.js';
import { anyObject, checked, objectWith, tableOf, text } from '../files/schema.js';
import { UsageError } from '../files/usage-error.js';
import { iterationOf, runFiles } from '../run/run-folder.js';
import { readProtocol, readSettings } from '../settings/config-file.js';
import { type Config, type ConfigKey, flagOf, resolveConfig, resolveSaved, settingKey } from '../settings/settings.js';

/** One training of a sweep. */
export interface SweepRun {
  /** Its difference from the base, which also names its run folder. */
  readonly name: string;
  /** The same without the seed; runs that share it are one row of the table. */
  readonly group: string;
  readonly config: Config;
}

export interface SweepPlan {
  readonly runs: readonly SweepRun[];
  /** Folders that the file names; flags override them. */
  readonly data: string | undefined;
  readonly out: string | undefined;
}

/** What a sweep file holds; the settings in it are checked run by run. */
const sweepFile = v.strictObject({
  protocol: v.optional(text),
  base: v.optional(anyObject, {}),
  grid: v.optional(
    v.pipe(
      tableOf(v.pipe(v.array(v.unknown(), 'a list of values'), v.nonEmpty('a list of at least one value'))),
      v.minEntries(1, 'an object of settings with lists of values, such as { "seed": [1, 2, 3] }'),
    ),
  ),
  list: v.optional(v.pipe(v.array(anyObject, 'a list'), v.nonEmpty('a list of at least one object of settings'))),
  data: v.optional(text),
  out: v.optional(text),
});

/** Every combination of the grid's values, the last setting varying fastest. */
const combinations = (grid: readonly (readonly [string, readonly unknown[]])[]): Record<string, unknown>[] =>
  grid.reduce<Record<string, unknown>[]>(
    (all, [key, values]) => all.flatMap((one) => values.map((value) => ({ ...one, [key]: value }))),
    [{}],
  );

/** Settings under their keys. A setting given twice, as key and as flag, is an error. */
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

/** `mt_seed-2`: the method, then every other setting as its flag and value. A word stays as the file spells it: so do the folders. */
function nameOf(own: Record<string, unknown>, config: Config): string {
  const { method, ...others } = own;
  const words = Object.entries(others).map(([key, written]) => {
    const value = key === 'size' ? written : config[key as ConfigKey];
    const isWord = typeof value === 'string' && typeof written === 'string';
    return `${flagOf(key)}-${Array.isArray(value) ? value.join('-') : isWord ? written.trim() : value}`;
  });
  return [...(method === undefined ? [] : [config.method]), ...words].join('_') || 'base';
}

/**
 * The runs of a sweep file: `{ "protocol": NAME, "base": { settings }, "grid": { setting: [values] } }`, or a `list` of settings in
 * the grid's place; `data` and `out` may be there too. Throws a UsageError for unknown keys (with the nearest known), values that no
 * run could have, nothing to run, and runs that are the same.
 */
export function readSweep(file: string): SweepPlan {
  const refuse = (what: string): never => {
    throw new UsageError(`sweep: ${file}: ${what}`);
  };
  const found = checked(sweepFile, readSettings(file));
  if (found.mismatches) {
    const [{ key, isUnknown, message }] = found.mismatches;
    if (!isUnknown) return refuse(message);
    const keys = Object.keys(sweepFile.entries);
    const near = nearest(key, keys);
    const hint = near ? `Did you mean '${near}'?` : `Expected ${keys.join(', ')}; settings go into base.`;
    return refuse(`unknown key '${cut(key)}'. ${hint}`);
  }
  const { protocol, base, grid, list, data, out } = found.value;
  const where = (part: string) => `sweep: ${file}: ${part}`;
  const shared = byKey(where('base'), base);
  const owns = grid
    ? combinations(Object.entries(byKey(where('grid'), grid)) as [string, unknown[]][])
    : list?.map((own, n) => byKey(where(`list, entry ${n + 1}`), own));
  if (!owns || (grid && list)) {
    return refuse(`expected a grid or a list — got ${owns ? 'both. Leave one out' : 'neither. Add one'}.`);
  }
  const protocolSettings = protocol === undefined ? undefined : readProtocol(protocol);
  const runs = owns.map((own, n) => {
    const which = where(`run ${n + 1} of ${owns.length} (${cut(own)})`);
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
  return { runs, data, out };
}

/** Every n-th run, from the i-th on: `i/n`, i from 0. Throws a UsageError for anything else. */
export function shardOf<T>(runs: readonly T[], shard: string | undefined): T[] {
  if (shard === undefined) return [...runs];
  const [, i, n] = /^(\d+)\/(\d+)$/.exec(shard) ?? [];
  if (i === undefined || Number(n) < 1 || Number(i) >= Number(n)) {
    throw new UsageError(`sweep: --shard must be i/n with i from 0 to n − 1 — got '${cut(shard)}'.`);
  }
  return runs.filter((_, index) => index % Number(n) === Number(i));
}

export type RunState = 'waiting' | 'started' | 'finished';

/** A run's state, read from its folder; `iteration` is that of the last save. */
export interface RunStanding {
  readonly state: RunState;
  readonly iteration: number;
}

/** The standing of a run of the plan. Throws a UsageError when its folder belongs to a run with other settings. */
export function standingOf({ name, config }: SweepRun, out: string): RunStanding {
  const file = (part: string) => join(out, name, part);
  if (existsSync(file(runFiles.config))) {
    const theirs = inFile(`sweep: '${join(out, name)}'`, () => resolveSaved(readSettings(file(runFiles.config))));
    const differs = (Object.keys(config) as ConfigKey[]).find(
      (key) => JSON.stringify(config[key]) !== JSON.stringify(theirs[key]),
    );
    if (differs) {
      throw new UsageError(
        `sweep: '${join(out, name)}' holds a run with another ${differs} — got ${JSON.stringify(theirs[differs])}, expected ${JSON.stringify(config[differs])}. Use another --out.`,
      );
    }
  }
  // A lock without a state belongs to a run that never saved; it is resumed, too, with its own settings.
  const begun = existsSync(file(runFiles.config)) && existsSync(file(runFiles.lock));
  if (!existsSync(file(runFiles.state))) return { state: begun ? 'started' : 'waiting', iteration: 0 };
  const saved = iterationOf(file(runFiles.state)) || 0;
  const done = saved >= config.iterations && existsSync(file(runFiles.summary));
  return { state: done ? 'finished' : 'started', iteration: saved };
}

/** The columns of the table: name, title, decimals, and whether more is better. */
const measures = [
  { name: 'Dice', title: 'Dice', decimals: 4, more: true },
  { name: 'Jaccard', title: 'Jaccard', decimals: 4, more: true },
  { name: 'HD95', title: 'HD95 mm', decimals: 2, more: false },
  { name: 'ASD', title: 'ASD mm', decimals: 2, more: false },
] as const;
type Measure = (typeof measures)[number]['name'];
type Scores = Partial<Record<Measure, number>>;

/** One run's line; `scores` are the foreground's at the best validation, if there was one. */
export interface SweepResult {
  readonly name: string;
  readonly group: string;
  readonly seed: number;
  readonly state: RunState | 'failed';
  readonly iteration: number;
  readonly scores: Scores;
}

/** Results of every run of the plan, including other shards'; `failed` names the runs of this shard that failed. */
export function resultsOf(plan: SweepPlan, out: string, failed: ReadonlySet<string> = new Set()): SweepResult[] {
  return plan.runs.map((run) => {
    const { state, iteration } = standingOf(run, out);
    const { name, group, config } = run;
    const failure = failed.has(name) && state !== 'finished' ? 'failed' : state;
    return { name, group, seed: config.seed, state: failure, iteration, scores: scoresIn(join(out, name)) };
  });
}

/** The scores of a run's summary.json that are compared, where they are numbers. */
const scoredSummary = objectWith({
  foreground_mean: v.object(
    v.entriesFromList(
      measures.map(({ name }) => name),
      v.fallback(v.optional(v.number()), undefined),
    ),
  ),
});

function scoresIn(run: string): Scores {
  try {
    return (
      checked(scoredSummary, JSON.parse(readFileSync(join(run, runFiles.summary), 'utf8'))).value?.foreground_mean ?? {}
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
  /** Measures in which no other row is better and at least one is worse. */
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

/** One line per run: its name, group, seed, state and scores. */
export function sweepCsv(results: readonly SweepResult[]): string {
  const lines = results.map(({ name, group, seed, state, iteration, scores }) =>
    [name, group, seed, state, iteration, ...measures.map(({ name: measure }) => scores[measure] ?? '')].join(),
  );
  return `${['run', 'group', 'seed', 'state', 'iteration', ...measures.map(({ name }) => name)].join()}\n${lines.join('\n')}\n`;
}

/** The name of a sweep without `out`: its file's name. */
export const sweepName = (file: string): string => basename(file).replace(/\.json$/, '');
