// Runs a sweep's trainings, each as its own process of `wgrad train`, so that none can harm another's GPU or memory. There is no scheduler
// here: a cluster's spreads a sweep over machines by `--shard`.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type SweepRun, standingOf } from './sweep.js';

const cli = fileURLToPath(new URL('../cli.js', import.meta.url));

export interface SweepOptions {
  data: string;
  out: string;
  /** How many trainings run at a time. */
  jobs: number;
  /** More arguments for every `wgrad train`. */
  more?: readonly string[];
  /** Aborted: every training gets a SIGINT (and saves), none is started. */
  stop?: AbortSignal;
  /** Aborted: every training ends at once; what it has saved stays. */
  atOnce?: AbortSignal;
  /** Gets what happens, a line at a time. */
  say(line: string): void;
  /** Also gets the trainings' progress; for one at a time. */
  progress?: NodeJS.WritableStream | undefined;
}

export interface SweepOutcome {
  /** Names of failed runs, and the last line that each printed. */
  failed: Map<string, string>;
  interrupted: boolean;
}

/**
 * lavapipe runs a thread on every core. Threads of several trainings would wait for each other at every launch: two trainings with a
 * thread each finish on two cores in 0.7 of the time that they take one after the other.
 */
export function sharedCores(jobs: number): NodeJS.ProcessEnv {
  return jobs > 1 ? { LP_NUM_THREADS: String(Math.max(1, Math.floor(availableParallelism() / jobs))) } : {};
}

/** Files of a sweep beside its run folders. */
export const sweepFiles = (out: string, name: string) => ({
  settings: join(out, 'settings', `${name}.json`),
  log: join(out, 'logs', `${name}.log`),
});

/** The arguments of `wgrad` that a run needs now; one that has begun is resumed. */
function argumentsOf(run: SweepRun, { data, out, more = [] }: Pick<SweepOptions, 'data' | 'out' | 'more'>): string[] {
  const folder = join(out, run.name);
  const begun = standingOf(run, out).state === 'started';
  const settings = begun ? ['--resume'] : ['--config', sweepFiles(out, run.name).settings];
  return ['train', '--data', data, '--out', folder, ...settings, ...more];
}

/** Runs what is not finished; resolves when all have ended. A run that fails does not stop the others. */
export async function runSweep(runs: readonly SweepRun[], options: SweepOptions): Promise<SweepOutcome> {
  const { out, jobs, stop, say } = options;
  const failed = new Map<string, string>();
  const children = new Set<ChildProcess>();
  const send = (signal: NodeJS.Signals) => () => {
    for (const child of children) child.kill(signal);
  };
  stop?.addEventListener('abort', send('SIGINT'), { once: true });
  options.atOnce?.addEventListener('abort', send('SIGKILL'), { once: true });
  for (const folder of ['settings', 'logs']) mkdirSync(join(out, folder), { recursive: true });

  const waiting = [...runs.entries()];
  const next = async (): Promise<void> => {
    for (let taken = waiting.shift(); taken && !stop?.aborted; taken = waiting.shift()) {
      const [index, run] = taken;
      const title = `[${index + 1}/${runs.length}] ${run.name}`;
      const { state, iteration } = standingOf(run, out);
      if (state === 'finished') {
        say(`${title}: already finished`);
        continue;
      }
      writeFileSync(sweepFiles(out, run.name).settings, `${JSON.stringify(run.config, null, 2)}\n`);
      say(
        `${title}: ${state === 'started' ? `continues at ${iteration} of` : 'starts,'} ${run.config.iterations} iterations`,
      );
      const { code, last } = await runOne(run, options, children);
      if (code === 0) say(`${title}: finished`);
      else if (code === 130) say(`${title}: interrupted and saved`);
      else if (stop?.aborted) say(`${title}: stopped at once`);
      else {
        failed.set(run.name, last);
        say(`${title}: failed with exit code ${code} — ${last} (${sweepFiles(out, run.name).log})`);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, runs.length) }, next));
  return { failed, interrupted: stop?.aborted ?? false };
}

function runOne(
  run: SweepRun,
  options: SweepOptions,
  children: Set<ChildProcess>,
): Promise<{ code: number | string; last: string }> {
  const log = sweepFiles(options.out, run.name).log;
  const file = openSync(log, 'a');
  // A group of its own: Ctrl-C in the terminal reaches the sweep only, which passes it on once.
  const child = spawn(process.execPath, [cli, ...argumentsOf(run, options)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: process.platform !== 'win32',
    env: { ...sharedCores(options.jobs), ...process.env },
  });
  children.add(child);
  if (options.stop?.aborted) child.kill('SIGINT');
  const keep = (chunk: Buffer) => void writeSync(file, chunk);
  child.stdout.on('data', keep);
  child.stderr.on('data', (chunk: Buffer) => {
    keep(chunk);
    options.progress?.write(chunk);
  });
  return new Promise((resolve) => {
    const end = (code: number | string) => {
      children.delete(child);
      closeSync(file);
      const lines = readFileSync(log, 'utf8')
        .split(/[\r\n]+/)
        .filter((line) => line.trim());
      resolve({ code, last: lines.at(-1) ?? 'no output' });
    };
    child.on('close', (code, signal) => end(code ?? signal ?? 'none'));
    child.on('error', (error) => {
      if (child.pid === undefined) end(error.message);
    });
  });
}
