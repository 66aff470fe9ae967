// wgrad phantom: an ACDC-like data set of synthetic hearts, for a first run and for tests.
import { readCommandLine } from '../command-line.js';
import { writePhantoms } from '../data/phantom-dataset.js';

export const help = `
usage: wgrad phantom OUT [--patients N] [--size N] [--seed S]

Writes short-axis cardiac MR phantoms with ground truth to the folder OUT, laid out as ACDC is, with splits.json.
The same flags give the same bytes.

  --patients N   how many patients, 3 to 999 (default 20)
  --size N       pixels along x and y, 16 to 1024 (default 128)
  --seed S       another set of hearts (default 1337)`;

/** Runs `wgrad phantom OUT`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = readCommandLine(
    'phantom',
    args,
    {
      patients: { type: 'integer', min: 3, max: 999 },
      size: { type: 'integer', min: 16, max: 1024 },
      seed: { type: 'integer', min: 0 },
    },
    ['OUT'],
  );
  const out = positionals[0]!;
  writePhantoms(out, flags);
  console.log(out);
  return 0;
}
