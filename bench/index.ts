// `wgrad bench`: which benchmark to run.

import { nearestName, UsageError } from '../train/config.js';
import { compareSaved } from './history.js';
import * as kernels from './kernels.js';
import * as peers from './peers.js';
import * as step from './step.js';
import * as tune from './tune.js';

interface Benchmark {
  readonly help: string;
  run(args: string[]): Promise<number>;
}

const benchmarks: Record<string, Benchmark> = { kernels, step, peers, '--tune': tune };

export const help = `
usage: wgrad bench ${Object.keys(benchmarks).join('|')} [flags]
       wgrad bench --compare      the newest saved result of each against the one before it, measuring nothing

${Object.values(benchmarks)
  .map(({ help: text }) => text.trim())
  .join('\n\n\n')}`;

/** The help of one benchmark, where it is named. */
export const helpOf = ([name]: readonly string[]): string =>
  (name !== undefined && Object.hasOwn(benchmarks, name) && benchmarks[name]?.help) || help;

/** Runs one benchmark by name; resolves with the exit code. */
export async function run(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === '--compare' && !rest.length) {
    console.log(compareSaved());
    return 0;
  }
  const benchmark = name !== undefined && Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
  if (!benchmark) {
    const near = name === undefined ? undefined : nearestName(name, Object.keys(benchmarks));
    const what = name === undefined ? 'say what to measure' : `unknown benchmark '${name}'`;
    throw new UsageError(`bench: ${what}. ${near ? `Did you mean ${near}?` : 'See wgrad bench --help.'}`);
  }
  return benchmark.run(rest);
}
