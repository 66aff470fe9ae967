// `wgrad bench`: which benchmark to run.

import { nearest } from '../engine/custom.js';
import { UsageError } from '../train/files/usage-error.js';
import type { Described } from '../train/settings/command-line.js';
import * as claim from './claim/index.js';
import { compareSaved } from './history.js';
import * as kernels from './kernels.js';
import * as paper from './paper/index.js';
import * as peers from './peers.js';
import * as step from './step.js';
import * as tune from './tune.js';

interface Benchmark {
  readonly command: Pick<Described, 'help'>;
  run(args: string[]): Promise<number>;
}

const benchmarks: Record<string, Benchmark> = { kernels, step, peers, paper, claim, '--tune': tune };

/** The table of each benchmark, by what names it. */
export const parts = Object.fromEntries(Object.entries(benchmarks).map(([name, { command: own }]) => [name, own]));

export const command = {
  help: `usage: wgrad bench ${Object.keys(benchmarks).join('|')} [flags]
       wgrad bench --compare      compare the newest saved result of each with the one before; measure nothing

${Object.values(parts)
  .map(({ help }) => help)
  .join('\n\n\n')}`,
};

/** Runs one benchmark by name; resolves with the exit code. */
export async function run(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === '--compare' && !rest.length) {
    console.log(compareSaved());
    return 0;
  }
  const benchmark = name !== undefined && Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
  if (!benchmark) {
    const near = name === undefined ? undefined : nearest(name, Object.keys(benchmarks));
    const what = name === undefined ? 'name what to measure' : `unknown benchmark '${name}'`;
    throw new UsageError(`bench: ${what}. ${near ? `Did you mean ${near}?` : 'See wgrad bench --help.'}`);
  }
  return benchmark.run(rest);
}
