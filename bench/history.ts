// Measurements that are kept: one JSON file each in bench/results/, and the comparison of a new one with the newest earlier one.
// Only like is compared with like: the same benchmark, the same adapter and exactly the same settings.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Gpu } from '../engine/index.js';
import { type Environment, environmentOf } from '../train/run/environment.js';
import type { Flags } from '../train/settings/command-line.js';
import { table } from './harness.js';

export const resultsFolder = 'bench/results';

/** What identifies a measurement, and its milliseconds by row. */
export interface Measurement {
  readonly bench: string;
  readonly adapter: string;
  /** Everything that changes what is measured. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Milliseconds by the name of what took them. */
  readonly rows: Readonly<Record<string, number>>;
}

/** A file of the results folder. */
export interface SavedMeasurement extends Measurement {
  readonly date: string;
  readonly command: string;
  readonly environment: Environment;
  /** On a CPU adapter whatever else runs takes part in the measurement: ratios survive that, absolute figures do not. */
  readonly loadAverage: { readonly before: number; readonly after: number };
  readonly report: unknown;
}

/** The card, or the software driver. */
export const adapterName = ({ adapter: { software, device, driver, description } }: Gpu): string =>
  software ? driver || description || device : device || driver || description;

const slug = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]+/g, '-');

/** Writes a measurement; returns the file's name. */
export function saveMeasurement(saved: SavedMeasurement, folder = resultsFolder): string {
  mkdirSync(folder, { recursive: true });
  const time = saved.date.slice(0, 19).replace(/:/g, '');
  const file = join(folder, `${saved.bench}-${slug(saved.adapter)}-${time}.json`);
  writeFileSync(file, `${JSON.stringify(saved, undefined, 2)}\n`);
  return file;
}

const isMeasurement = (value: unknown): value is SavedMeasurement => {
  const { bench, adapter, settings, rows, date } = (value ?? {}) as Partial<SavedMeasurement>;
  return (
    [bench, adapter, date].every((text) => typeof text === 'string') &&
    [settings, rows].every((object) => typeof object === 'object' && object !== null)
  );
};

/** All measurements of the folder, oldest first; files of other kinds are passed over. */
export function readMeasurements(folder = resultsFolder): SavedMeasurement[] {
  if (!existsSync(folder)) return [];
  const found: SavedMeasurement[] = [];
  for (const name of readdirSync(folder)) {
    if (!name.endsWith('.json')) continue;
    try {
      const value: unknown = JSON.parse(readFileSync(join(folder, name), 'utf8'));
      if (isMeasurement(value)) found.push(value);
    } catch {
      console.error(`bench: ${join(folder, name)} is no JSON and is passed over.`);
    }
  }
  return found.sort((a, b) => (a.date < b.date ? -1 : 1));
}

/** As it is read back from a file: without keys that are undefined. */
const asSaved = (settings: Measurement['settings']): unknown => JSON.parse(JSON.stringify(settings));

const alike = (a: Measurement, b: Measurement): boolean =>
  a.bench === b.bench && a.adapter === b.adapter && isDeepStrictEqual(asSaved(a.settings), asSaved(b.settings));

/** The newest of the measurements that is comparable with this one; `undefined` when there is none. */
export const newestAlike = (
  measurement: Measurement,
  among: readonly SavedMeasurement[],
): SavedMeasurement | undefined => among.filter((other) => alike(other, measurement)).at(-1);

export interface ComparedRow {
  readonly name: string;
  readonly oldMs: number;
  readonly newMs: number;
  /** New over old: above 1 it got slower. */
  readonly ratio: number;
}

/** A row counts as slower from 10 % on. */
const slowerFrom = 1.1;

export interface Comparison {
  readonly since: string;
  readonly rows: ComparedRow[];
  readonly slower: string[];
  /** Rows that only one of the two has. */
  readonly unmatched: string[];
}

export function compareMeasurements(before: SavedMeasurement, after: Measurement): Comparison {
  const names = Object.keys(after.rows).filter((name) => Object.hasOwn(before.rows, name));
  const rows = names.map((name) => {
    const [oldMs, newMs] = [before.rows[name]!, after.rows[name]!];
    return { name, oldMs, newMs, ratio: newMs / oldMs };
  });
  const all = new Set([...Object.keys(before.rows), ...Object.keys(after.rows)]);
  return {
    since: before.date,
    rows,
    slower: rows.filter(({ ratio }) => ratio > slowerFrom).map(({ name }) => name),
    unmatched: [...all].filter((name) => !names.includes(name)),
  };
}

/** A comparison as text. */
export function comparisonText({ since, rows, slower, unmatched }: Comparison): string {
  const heads = ['since ' + since.slice(0, 16), 'old ms', 'new ms', 'new/old'];
  const lines = [table([heads, ...rows.map(({ name, oldMs, newMs, ratio }) => [name, oldMs, newMs, ratio])])];
  if (unmatched.length) lines.push(`only in one of the two: ${unmatched.join('; ')}`);
  lines.push(slower.length ? `slower by more than 10 %: ${slower.join('; ')}` : 'nothing is slower by more than 10 %');
  return lines.join('\n');
}

/** The newest measurement of every kind against the one before it, as text (`wgrad bench --compare`). */
export function compareSaved(folder = resultsFolder): string {
  const all = readMeasurements(folder);
  const newest = all.filter((one, i) => !all.slice(i + 1).some((later) => alike(later, one)));
  const texts = newest.flatMap((one) => {
    const before = newestAlike(one, all.slice(0, all.indexOf(one)));
    return before ? [`${one.bench}, ${one.adapter}\n${comparisonText(compareMeasurements(before, one))}`] : [];
  });
  return texts.length
    ? texts.join('\n\n')
    : `bench: no two measurements of the same benchmark, adapter and settings in ${folder}. Make them with --save.`;
}

/** Flags of every benchmark. */
export const commonFlags = {
  adapter: { type: 'string', value: 'NAME', help: "swiftshader, lavapipe, or part of a GPU's name" },
  save: { type: 'boolean', help: `write the result to ${resultsFolder}/` },
  compare: {
    type: 'boolean',
    help: 'print old, new and ratio against the newest saved result of this adapter and these settings',
  },
  json: { type: 'boolean', help: 'print one JSON document' },
} as const satisfies Flags;

/** Where something was measured, as it is kept. */
export interface MeasuredOn {
  readonly adapter: string;
  readonly environment: Environment;
  /** Switches of the engine that change what is measured. */
  readonly switches: { readonly fuse: boolean; readonly tune: boolean };
}

/** A Gpu, as a measurement keeps it. */
export const measuredOn = (gpu: Gpu): MeasuredOn => ({
  adapter: adapterName(gpu),
  environment: environmentOf(gpu),
  switches: { fuse: gpu.flags.fuse, tune: gpu.flags.tune },
});

/** Notes the load of the machine, then saves, compares and prints what was measured. */
export function openHistory(bench: string, args: readonly string[]) {
  const before = loadavg()[0]!;
  return {
    publish(
      { adapter, environment, switches }: MeasuredOn,
      flags: { readonly save?: boolean; readonly compare?: boolean; readonly json?: boolean },
      result: { settings: Record<string, unknown>; rows: Record<string, number>; report: unknown; text: string },
    ): void {
      const measurement = { bench, adapter, settings: { ...result.settings, ...switches }, rows: result.rows };
      const earlier = flags.compare ? newestAlike(measurement, readMeasurements()) : undefined;
      if (flags.save) {
        const date = new Date().toISOString();
        const command = ['wgrad', 'bench', bench, ...args].join(' ');
        const loadAverage = { before, after: loadavg()[0]! };
        const saved = { ...measurement, date, command, environment, loadAverage, report: result.report };
        console.error(`saved ${saveMeasurement(saved)}`);
      }
      console.log(flags.json ? JSON.stringify(result.report, undefined, 2) : result.text);
      if (flags.compare) {
        const text = earlier
          ? comparisonText(compareMeasurements(earlier, measurement))
          : `bench: no earlier result of ${bench} on ${measurement.adapter} with these settings in ${resultsFolder}. Make one with --save.`;
        (flags.json ? console.error : console.log)(text);
      }
    },
  };
}
