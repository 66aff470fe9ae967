// wgrad phantom: an ACDC-like data set of synthetic hearts, for a first run and for tests.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { readCommandLine } from '../command-line.js';
import { UsageError } from '../config.js';
import { writePhantoms } from '../data/phantom.js';

export const help = `
usage: wgrad phantom OUT [--patients N] [--size N] [--seed S]

Writes short-axis cardiac MR phantoms with ground truth to the folder OUT, laid out as ACDC is, with splits.json.
The same flags give the same bytes.

  --patients N   how many patients (default 20)
  --size N       pixels in plane (default 96)
  --seed S       (default 1337)`;

/** Runs `wgrad phantom OUT`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = readCommandLine(
    'phantom',
    args,
    { patients: { type: 'integer', min: 1 }, size: { type: 'integer', min: 16 }, seed: { type: 'integer', min: 0 } },
    ['OUT'],
  );
  const out = positionals[0]!;
  if (existsSync(out) && !(statSync(out).isDirectory() && readdirSync(out).length === 0)) {
    throw new UsageError(`phantom: '${out}' exists and is no empty folder. Name a new one, or remove it.`);
  }
  writePhantoms(out, flags);
  console.log(out);
  return 0;
}
