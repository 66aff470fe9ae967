// Tuned choices on disk, and verdicts on kernels that must prove themselves: one JSON file per adapter and driver version in the user's
// cache folder. A file that cannot be read, or belongs to another adapter, is ignored: only speed depends on it.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheRoots } from './cache-folder.js';
import {
  adapterFamily,
  adapterIdentity,
  fnv1a,
  keepVerdicts,
  remember,
  rememberVerdicts,
  type Verdict,
} from './choices.js';
import type { AdapterDescription, Gpu } from './device.js';
import { tuned } from './tuned.js';
import type { Tuning } from './tuning.js';

/** Version of the layout below; files of another version are not read. */
const format = 1;

interface Saved {
  readonly format: typeof format;
  readonly adapter: string;
  readonly choices: Readonly<Record<string, Tuning>>;
  /** By hash of the kernels' texts; none in older files. */
  readonly verdicts?: Readonly<Record<string, Verdict>>;
}

/**
 * The file that keeps the choices of an adapter.
 * @example
 * console.log(/tuned-.*\.json$/.test(tuningFile(gpu.adapter))); // true
 */
export function tuningFile(adapter: AdapterDescription): string {
  const name = (adapter.driver || adapter.device || 'gpu')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 40);
  return join(cacheRoots()[0]!, `tuned-${name}-${fnv1a(adapterIdentity(adapter))}.json`);
}

/**
 * Remembers the choices that wgrad ships for this adapter, and over them those of its file. With WGRAD_DEBUG, says why a file is
 * ignored. A browser has neither: its adapters are hardly ever those that were measured, and the tables would travel with every page.
 */
export function loadTuning(gpu: Gpu): void {
  const shipped = tuned.find(({ adapter }) => adapter === adapterFamily(gpu.adapter));
  if (shipped) remember(gpu, shipped.choices);
  const saved = read(gpu);
  if (saved) remember(gpu, saved.choices);
  if (saved?.verdicts) rememberVerdicts(gpu, saved.verdicts);
  keepVerdicts(gpu, (verdicts) => {
    try {
      save(gpu, { verdicts });
    } catch (error) {
      if (gpu.flags.debug >= 1) console.error(`tuner: verdicts are not kept: ${(error as Error).message}.`);
    }
  });
}

/**
 * Adds choices to the adapter's file. Returns its path.
 * @example
 * const choice = { choice: { rows: 4 }, ms: 1.2, defaultMs: 1.5, hash: '5f3a' }; // as the tuner measures them
 * console.log(saveTuning(gpu, { 'my family': choice }) === tuningFile(gpu.adapter)); // true
 */
export const saveTuning = (gpu: Gpu, choices: Readonly<Record<string, Tuning>>): string => save(gpu, { choices });

const sorted = <T>(record: Readonly<Record<string, T>>): Record<string, T> =>
  Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));

/** Adds to the adapter's file, which is written beside it and renamed, so that no reader sees half of it. Returns its path. */
function save(gpu: Gpu, { choices, verdicts }: Partial<Pick<Saved, 'choices' | 'verdicts'>>): string {
  const file = tuningFile(gpu.adapter);
  const before = read(gpu);
  const saved: Saved = {
    ...{ format, adapter: adapterIdentity(gpu.adapter) },
    choices: sorted({ ...before?.choices, ...choices }),
    verdicts: sorted({ ...before?.verdicts, ...verdicts }),
  };
  const half = `${file}.${process.pid}-${randomBytes(4).toString('hex')}`;
  mkdirSync(join(file, '..'), { recursive: true });
  try {
    writeFileSync(half, `${JSON.stringify(saved, null, 1)}\n`);
    renameSync(half, file);
  } catch (error) {
    rmSync(half, { force: true });
    throw error;
  }
  return file;
}

function read({ adapter, flags }: Gpu): Saved | undefined {
  const file = tuningFile(adapter);
  try {
    const saved: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (!isSaved(saved)) throw new Error('its layout is another one');
    if (saved.adapter !== adapterIdentity(adapter)) throw new Error(`it is of ${saved.adapter}`);
    return saved;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (flags.debug >= 1 && code !== 'ENOENT') console.error(`tuner: ${file} is ignored: ${message}.`);
    return undefined;
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isVerdicts = (value: unknown): boolean =>
  isObject(value) && Object.values(value).every((verdict) => verdict === true || typeof verdict === 'string');

const isSaved = (value: unknown): value is Saved =>
  isObject(value) &&
  value.format === format &&
  typeof value.adapter === 'string' &&
  (value.verdicts === undefined || isVerdicts(value.verdicts)) &&
  isObject(value.choices) &&
  Object.values(value.choices).every(
    (tuning) =>
      isObject(tuning) &&
      tuning.choice !== undefined &&
      typeof tuning.ms === 'number' &&
      typeof tuning.defaultMs === 'number' &&
      typeof tuning.hash === 'string',
  );
