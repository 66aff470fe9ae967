// `wgrad bench`: which benchmark to run.

import { UsageError } from '../train/config.js';

interface Benchmark {
  readonly help: string;
  run(args: string[]): Promise<number>;
}

const benchmarks: Record<string, () => Promise<Benchmark>> = {
  peers: () => import('./peers.js'),
  step: () => import('./step.js'),
  '--tune': () => import('./tune.js'),
};

export const help = `
usage: wgrad bench ${Object.keys(benchmarks).join('|')} [flags]

Measurements.

  peers   convolutions against tfjs and jax-js, in turns on one adapter
  step    the whole training step: time, launches, encoding, bytes, profile
  --tune  measures the kernels that a training step may use, and remembers the best for this adapter

wgrad bench NAME --help   the flags of one`;

/** Runs one benchmark by name; resolves with the exit code. */
export async function run(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  const load = name !== undefined && Object.hasOwn(benchmarks, name) ? benchmarks[name] : undefined;
  if (!load) {
    throw new UsageError(
      `bench: ${name === undefined ? 'say what to measure' : `unknown benchmark '${name}'`}. See wgrad bench --help.`,
    );
  }
  return (await load()).run(rest);
}
