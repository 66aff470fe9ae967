// What a run folder says, for the report: its log as series of at most a thousand points, its scores, its pictures. Runs are
// interrupted, old, and half written: whatever is missing or damaged is left out and named in `notes`.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { namesOfClasses } from '../data/class-names.js';

/** Values over iterations; where several were joined, `y` is their mean between `low` and `high`. */
export interface Series {
  x: number[];
  y: (number | null)[];
  low?: (number | null)[];
  high?: (number | null)[];
}

export type Score = Record<string, number | null>;

/** Scores of one volume, by class. */
export interface CaseScores {
  id: string;
  frame: string | undefined;
  metrics: Record<string, Score>;
}

export interface Slices {
  iteration: number;
  /** Of strong views of a training batch, not of a validation. */
  isViews: boolean;
  png: Buffer;
  width: number;
  height: number;
}

/** Everything the report says about a run. */
export interface RunData {
  name: string;
  folder: string;
  /** Settings as they were resolved; empty where config.json is missing. */
  config: Record<string, unknown>;
  environment: Record<string, unknown>;
  /** Names of the classes, background first. */
  classes: string[];
  /** Iterations that were finished. */
  iterations: number;
  /** What the log holds of every iteration, by name, as it is and as it is drawn. */
  training: Map<string, { last: number | null; late: number | null; series: Series }>;
  /** Validation scores by class (`mean` is the foreground's), then metric. */
  validation: Map<string, Map<string, Series>>;
  /** Cosines between prototypes [K, K]: the last, and each pair over time. */
  cosines: { last: number[]; pairs: Map<string, Series> } | undefined;
  /** The best validation of the log. */
  best: { iteration: number; mean: Record<string, Score>; foreground: Score } | undefined;
  /** summary.json: means by class, standard deviations where it has them, cases, confusion. */
  summary:
    | {
        mean: Record<string, Score>;
        std: Record<string, Score>;
        foreground: Score;
        cases: CaseScores[];
        confusion: number[][] | undefined;
      }
    | undefined;
  slices: Slices[];
  notes: string[];
}

/** Reads a run folder, its series as at most `points` points. Throws where it holds neither settings nor a log. */
export function readRun(folder: string, points = 1000): RunData {
  const at = (name: string) => join(folder, name);
  if (!existsSync(at('config.json')) && !existsSync(at('log.jsonl'))) {
    throw new Error(
      `report: '${folder}' is no run folder — it holds neither config.json nor log.jsonl. Name the folder that train wrote.`,
    );
  }
  const notes: string[] = [];
  const object = (name: string): Record<string, unknown> | undefined => {
    try {
      const value: unknown = JSON.parse(readFileSync(at(name), 'utf8'));
      if (isObject(value)) return value;
      notes.push(`${name} holds no object.`);
    } catch (error) {
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isMissing) notes.push(`${name} cannot be read: ${(error as Error).message}`);
      else if (name !== 'summary.json') notes.push(`${name} is missing.`);
    }
    return undefined;
  };
  const config = object('config.json') ?? {};
  const environment = object('environment.json') ?? {};
  const { records, damaged } = readRecords(at('log.jsonl'));
  if (damaged) notes.push(`log.jsonl: ${damaged} ${damaged === 1 ? 'line is' : 'lines are'} damaged and left out.`);
  const steps = records.filter((record) => !('validation' in record));
  const scored = records.flatMap(({ iteration, validation }) =>
    isObject(validation)
      ? [{ iteration, mean: byClass(validation.mean), foreground: scoreOf(validation.foreground_mean) }]
      : [],
  );
  const summary = summaryOf(object('summary.json'), notes);
  const iterations = steps.reduce((most, { iteration }) => Math.max(most, iteration + 1), 0);
  const planned = typeof config.iterations === 'number' ? config.iterations : undefined;
  if (!iterations) notes.push('No iteration was logged yet.');
  else if (planned !== undefined && iterations < planned) {
    notes.push(`The run has finished ${iterations} of ${planned} iterations: it goes on, was interrupted, or failed.`);
  }
  const broken = steps.filter(({ loss }) => loss === null);
  if (broken.length) {
    notes.push(`The loss was not finite, first at iteration ${broken[0]!.iteration}.`);
  }
  if (!scored.length && iterations) notes.push('There was no validation yet.');
  if (!summary && iterations) notes.push('There is no summary.json: no scores by case.');
  const classes = classNames(config, [...scored.map(({ mean }) => mean), summary?.mean ?? {}]);
  const slices = readSlices(at('slices'), bestOf(scored)?.iteration);
  if (!slices.length && scored.length) notes.push('There are no pictures of slices.');
  return {
    name: basename(resolve(folder)),
    folder,
    config,
    environment,
    classes,
    iterations,
    training: trainingSeries(steps, points),
    validation: validationSeries(scored, points),
    cosines: cosineSeries(steps, classes.length, points),
    best: bestOf(scored),
    summary,
    slices,
    notes,
  };
}

type Entry = { iteration: number; [name: string]: unknown };

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The records of a log; a last line that was cut off does not count as damaged. */
function readRecords(path: string): { records: Entry[]; damaged: number } {
  if (!existsSync(path)) return { records: [], damaged: 0 };
  const lines = readFileSync(path, 'utf8').split('\n');
  lines.pop(); // '' after the last line break, or what a crash cut off
  const records: Entry[] = [];
  let damaged = 0;
  for (const line of lines) {
    if (line.trim() === '') continue;
    try {
      const value: unknown = JSON.parse(line);
      if (isObject(value) && Number.isFinite(value.iteration)) records.push(value as Entry);
      else damaged++;
    } catch {
      damaged++;
    }
  }
  return { records, damaged };
}

const numberOf = (value: unknown): number | null =>
  typeof value === 'number' && Number.isFinite(value) ? value : typeof value === 'boolean' ? Number(value) : null;

/** The numbers of a score; what is no number is null. */
const scoreOf = (value: unknown): Score =>
  isObject(value) ? Object.fromEntries(Object.entries(value).map(([name, v]) => [name, numberOf(v)])) : {};

const byClass = (value: unknown): Record<string, Score> =>
  isObject(value) ? Object.fromEntries(Object.entries(value).map(([k, score]) => [k, scoreOf(score)])) : {};

function summaryOf(value: Record<string, unknown> | undefined, notes: string[]): RunData['summary'] {
  if (!value) return undefined;
  const list = Array.isArray(value.metric_per_case) ? value.metric_per_case.filter(isObject) : [];
  if (!list.length) notes.push('summary.json holds no cases.');
  const confusion = value.confusion;
  const isSquare =
    Array.isArray(confusion) &&
    confusion.every((row) => Array.isArray(row) && row.length === confusion.length && row.every(Number.isFinite));
  return {
    mean: byClass(value.mean),
    std: byClass(value.std),
    foreground: scoreOf(value.foreground_mean),
    cases: list.map(caseOf),
    confusion: isSquare ? (confusion as number[][]) : undefined,
  };
}

function caseOf(value: Record<string, unknown>): CaseScores {
  const file = [value.image, value.reference_file].find((name) => typeof name === 'string') as string | undefined;
  const fromFile = file?.replace(/^.*[\\/]/, '').replace(/(_gt)?\.nii(\.gz)?$/, '');
  const id = typeof value.case === 'string' ? value.case : (fromFile ?? 'unnamed');
  const frame = value.frame === undefined || value.frame === null ? undefined : String(value.frame);
  return { id, frame, metrics: byClass(value.metrics) };
}

function classNames(config: Record<string, unknown>, scores: Record<string, Score>[]): string[] {
  const named = config.classNames;
  if (Array.isArray(named) && named.every((name) => typeof name === 'string')) return named as string[];
  const highest = Math.max(0, ...scores.flatMap((mean) => Object.keys(mean).map(Number)).filter(Number.isFinite));
  const count = typeof config.classes === 'number' ? config.classes : highest + 1;
  return namesOfClasses(Math.min(256, count));
}

/** A record whose gradients' numbers stand beside the others, as `gradients.NAME`. */
const flat = ({ gradients, ...record }: Entry): Entry =>
  isObject(gradients)
    ? { ...record, ...Object.fromEntries(Object.entries(gradients).map(([name, v]) => [`gradients.${name}`, v])) }
    : record;

/** What was logged of every iteration, or of some. −1 stands for a share of no pixels. */
function trainingSeries(nested: readonly Entry[], points: number): RunData['training'] {
  const steps = nested.map(flat);
  const names = new Set<string>();
  for (const record of steps) {
    for (const [name, value] of Object.entries(record)) {
      if (name !== 'iteration' && (typeof value === 'number' || value === null)) names.add(name);
    }
  }
  const training: RunData['training'] = new Map();
  for (const name of names) {
    const known = steps.filter((record) => name in record);
    const y = known.map((record) => (record[name] === -1 ? null : numberOf(record[name])));
    const late = y.slice(Math.floor(0.75 * y.length)).filter((v) => v !== null);
    const series = decimated(
      known.map(({ iteration }) => iteration),
      y,
      points,
    );
    training.set(name, { last: y.at(-1) ?? null, late: meanOf(late), series });
  }
  return training;
}

const meanOf = (values: readonly number[]): number | null =>
  values.length ? values.reduce((sum, v) => sum + v, 0) / values.length : null;

const short = (value: number | null): number | null => (value === null ? null : Number(value.toPrecision(5)));

/** At most `most` points: short series as they are, long ones as least, mean and greatest of equal stretches. */
export function decimated(x: readonly number[], y: readonly (number | null)[], most = 1000): Series {
  if (x.length <= most) return { x: [...x], y: y.map(short) };
  const size = Math.ceil(x.length / (most / 2)); // each stretch has a low and a high point
  const series: Required<Series> = { x: [], y: [], low: [], high: [] };
  for (let start = 0; start < x.length; start += size) {
    const end = Math.min(start + size, x.length);
    const values = y.slice(start, end).filter((v) => v !== null);
    const pick = (choose: (...v: number[]) => number) => (values.length ? short(choose(...values)) : null);
    series.x.push(x[(start + end - 1) >> 1]!);
    series.y.push(short(meanOf(values)));
    series.low.push(pick(Math.min));
    series.high.push(pick(Math.max));
  }
  return series;
}

interface Scored {
  iteration: number;
  mean: Record<string, Score>;
  foreground: Score;
}

function validationSeries(scored: readonly Scored[], points: number): RunData['validation'] {
  const validation: RunData['validation'] = new Map();
  const keys = new Set(scored.flatMap(({ mean }) => Object.keys(mean)));
  for (const key of [...keys, 'mean']) {
    const metrics = new Map<string, Series>();
    for (const metric of ['Dice', 'HD95']) {
      const y = scored.map(({ mean, foreground }) => (key === 'mean' ? foreground : mean[key])?.[metric] ?? null);
      if (y.some((value) => value !== null)) {
        metrics.set(
          metric,
          decimated(
            scored.map(({ iteration }) => iteration),
            y,
            points,
          ),
        );
      }
    }
    validation.set(key, metrics);
  }
  return validation;
}

function bestOf(scored: readonly Scored[]): Scored | undefined {
  let best: Scored | undefined;
  for (const one of scored) if (!best || (one.foreground.Dice ?? -1) > (best.foreground.Dice ?? -1)) best = one;
  return best;
}

function cosineSeries(steps: readonly Entry[], classes: number, points: number): RunData['cosines'] {
  const known = steps.filter(({ cosines }) => Array.isArray(cosines) && cosines.length === classes * classes);
  const last = known.at(-1)?.cosines as number[] | undefined;
  if (!last) return undefined;
  const pairs = new Map<string, Series>();
  for (let i = 0; i < classes; i++) {
    for (let j = i + 1; j < classes; j++) {
      const y = known.map(({ cosines }) => numberOf((cosines as unknown[])[i * classes + j]));
      pairs.set(
        `${i} ${j}`,
        decimated(
          known.map(({ iteration }) => iteration + 1),
          y,
          points,
        ),
      );
    }
  }
  return { last: last.map((v) => numberOf(v) ?? Number.NaN), pairs };
}

/** The pictures of the best validation, of the last, of the first, and of the last strong views. */
function readSlices(folder: string, best: number | undefined): Slices[] {
  const pictures = (existsSync(folder) ? readdirSync(folder) : [])
    .flatMap((name) => {
      const [, digits, views] = /^(\d+)(-views)?\.png$/.exec(name) ?? [];
      return digits ? [{ name, iteration: Number.parseInt(digits, 10), isViews: views !== undefined }] : [];
    })
    .sort((a, b) => a.iteration - b.iteration);
  const validations = pictures.filter(({ isViews }) => !isViews);
  const views = pictures.filter(({ isViews }) => isViews);
  const ofBest = validations.find(({ iteration }) => iteration === best);
  const wanted = new Set([ofBest, validations.at(-1), validations[0], views.at(-1)].filter((one) => one !== undefined));
  return [...wanted].flatMap(({ name, iteration, isViews }) => {
    const png = readFileSync(join(folder, name));
    if (png.length < 33 || png.readUInt32BE(0) !== 0x89504e47) return [];
    return [{ iteration, isViews, png, width: png.readUInt32BE(16), height: png.readUInt32BE(20) }];
  });
}
