// A run's folder: what it holds, which process owns it, and how a new process continues after one that died at any moment.
//
// state/last.safetensors is the run: weights, teacher, optimizer, prototypes, counters, of one iteration, in one file. It is written
// beside and renamed into place, after the one before became state/previous.safetensors, so that one of the two is whole at any moment.
// The iterations after it write everything else (log, best checkpoint, summary, pictures) again, bit for bit.
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Tensor } from '../../engine/index.js';
import { orSay, writeAtomically } from '../files/atomic-file.js';
import { DataError, whyNot } from '../files/data-error.js';
import { newFolder } from '../files/new-folder.js';
import { checked, objectWith, text } from '../files/schema.js';
import { UsageError } from '../files/usage-error.js';
import { DamagedCheckpointError, loadTensors, readSafetensors, saveTensors } from './checkpoint.js';

/** Names of the files in a run folder. */
export const runFiles = {
  config: 'config.json',
  environment: 'environment.json',
  split: 'split.json',
  log: 'log.jsonl',
  last: 'checkpoint-last.safetensors',
  best: 'checkpoint-best.safetensors',
  state: join('state', 'last.safetensors'),
  previous: join('state', 'previous.safetensors'),
  curves: 'progress',
  slices: 'slices',
  summary: 'summary.json',
  report: 'report.html',
  lock: 'lock.json',
} as const;

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

/** Removes files that a killed process left half written. */
function removeLeftovers(out: string): void {
  for (const name of readdirSync(out, { recursive: true, encoding: 'utf8' }) as string[]) {
    const pid = /\.(\d+)\.tmp$/.exec(name)?.[1];
    if (pid && (Number(pid) === process.pid || !isAlive(Number(pid)))) rmSync(join(out, name), { force: true });
  }
}

const lockFile = objectWith({ pid: v.optional(v.number()), host: v.optional(text) });

/** A lock's owner; undefined for a lock that a crash cut off. */
function readLock(path: string): v.InferOutput<typeof lockFile> | undefined {
  try {
    return checked(lockFile, JSON.parse(readFileSync(path, 'utf8'))).value;
  } catch {
    return undefined;
  }
}

/** Throws a UsageError where another process is training in a folder. */
function refuseTaken(out: string): void {
  const lock = join(out, runFiles.lock);
  if (!existsSync(lock)) return;
  const { pid = 0, host } = readLock(lock) ?? {};
  const elsewhere = host !== undefined && host !== hostname();
  if (elsewhere || (pid > 0 && pid !== process.pid && isAlive(pid))) {
    throw new UsageError(
      `train: process ${pid} on ${host} is training in '${out}'. Wait for it${elsewhere ? `, or delete ${lock} if it is gone` : ''}.`,
    );
  }
}

/** @internal The iteration that a state file is of; undefined where there is none, or none that can be read. */
export function iterationOf(file: string): number | undefined {
  try {
    return Number(readSafetensors(file).metadata.iteration);
  } catch {
    return undefined;
  }
}

/**
 * Whether a folder holds only what a training writes before its first iteration, and nothing trained. Such a run failed at once (labels
 * that do not fit, a full disk) or was killed; it may be started again.
 */
export function isUnbegun(out: string): boolean {
  if (!existsSync(out) || !statSync(out).isDirectory()) return false;
  const { config, environment, split, log, slices, lock } = runFiles;
  const beginnings = new Set<string>([config, environment, split, log, slices, lock, 'state']);
  const holds = readdirSync(out);
  const within = (name: string): string[] => (holds.includes(name) ? readdirSync(join(out, name)) : []);
  return (
    holds.includes('state') &&
    holds.every((name) => beginnings.has(name) || /^events\.out\.tfevents|\.\d+\.tmp$/.test(name)) &&
    within(slices).length === 0 &&
    within('state').every((name) => /\.\d+\.tmp$/.test(name) || iterationOf(join(out, 'state', name)) === 0) &&
    (!holds.includes(log) || statSync(join(out, log)).size === 0)
  );
}

/**
 * Takes a run folder for this process; call the result to give it back. A new run needs an `out` that is empty, missing, or holds a run
 * that has trained nothing; to `resume`, `out` must hold a run. Throws a UsageError otherwise, or where another process trains in it.
 */
export function takeRunFolder(out: string, resume: boolean): () => void {
  const lock = join(out, runFiles.lock);
  if (resume) {
    if (!existsSync(join(out, runFiles.config))) {
      throw new UsageError(`train: '${out}' holds no run to resume. Start one without --resume.`);
    }
    refuseTaken(out);
  } else if (isUnbegun(out)) {
    refuseTaken(out);
    for (const name of readdirSync(out)) rmSync(join(out, name), { recursive: true });
  } else {
    newFolder('train', out, ', or continue it with --resume');
  }
  try {
    if (resume) removeLeftovers(out);
    for (const name of ['state', runFiles.slices]) mkdirSync(join(out, name), { recursive: true });
    writeFileSync(lock, `${JSON.stringify({ pid: process.pid, host: hostname() })}\n`);
  } catch (error) {
    throw new DataError(`train: cannot write to '${out}' — ${whyNot(error)}. What was there before is kept.`);
  }
  return () => rmSync(lock, { force: true });
}

/** Writes a JSON document in one piece. */
export const writeJson = (path: string, value: unknown): void =>
  writeAtomically(path, [new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)]);

/** Makes an iteration's state the run's, and keeps the one before. */
export async function saveState(out: string, state: ReadonlyMap<string, Tensor>, iteration: number): Promise<void> {
  const next = join(out, 'state', 'next.safetensors');
  const [last, previous] = [join(out, runFiles.state), join(out, runFiles.previous)];
  await saveTensors(next, state, { iteration: String(iteration) });
  if (existsSync(last)) renameSync(last, previous);
  renameSync(next, last);
}

/**
 * Loads the run's state and returns its iteration; undefined if none was saved yet. A damaged state is reported on stderr, and the one
 * before it is used. Throws a CheckpointError if neither can be read, or if they hold another architecture.
 */
export function loadState(out: string, state: ReadonlyMap<string, Tensor>): number | undefined {
  const files = [runFiles.state, runFiles.previous].map((name) => join(out, name)).filter((path) => existsSync(path));
  for (const [i, path] of files.entries()) {
    try {
      return Number(loadTensors(path, state).iteration);
    } catch (error) {
      if (!(error instanceof DamagedCheckpointError) || i === files.length - 1) throw error;
      console.error(`${error.message} Continuing from the state before it.`);
    }
  }
  return undefined;
}

const numbered = /^checkpoint-(\d+)\.safetensors$/;

/** Also keeps the last checkpoint under its iteration's number, and the newest `count` of such checkpoints. */
export function keepCheckpoint(out: string, iteration: number, count: number): void {
  if (count > 0) {
    const own = join(out, `checkpoint-${String(iteration).padStart(6, '0')}.safetensors`);
    rmSync(own, { force: true });
    orSay(own, () => linkSync(join(out, runFiles.last), own)); // the last one is replaced, not written over
  }
  const kept = readdirSync(out)
    .filter((name) => numbered.test(name))
    .sort((a, b) => Number(numbered.exec(b)![1]) - Number(numbered.exec(a)![1]));
  for (const name of kept.slice(count)) rmSync(join(out, name), { force: true });
}
