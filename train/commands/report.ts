// wgrad report: run folders as one HTML page, and their key figures as a table.
import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { whyNot } from '../files/data-error.js';
import { makeFolder } from '../files/new-folder.js';
import { UsageError } from '../files/usage-error.js';
import { overview, overviewText } from '../report/numbers.js';
import { readRuns, writePage } from '../report/page.js';
import { describeCommand } from '../settings/command-line.js';

export const command = describeCommand({
  name: 'report',
  about: `
Writes one self-contained HTML page: curves, slices, scores by class and case, confusion, settings. Several runs are overlaid
and compared. A run may be unfinished, interrupted or old: the page lists what is missing.`,
  positionals: ['[RUN…]'],
  flags: {
    run: { type: 'string', many: true, value: 'RUN', help: 'run folder; more may follow, with or without the flag' },
    out: {
      type: 'string',
      value: 'FILE',
      help: 'page to write (default RUN/report.html; for several runs, report.html in this folder)',
    },
    json: { type: 'boolean', help: "print the table and the page's path as JSON" },
  },
});

/** Runs `wgrad report`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = command.read(args);
  const folders = [...(flags.run ?? []), ...positionals];
  if (!folders.length) throw new UsageError('report: --run is required. Name a folder that wgrad train wrote.');
  for (const folder of folders) {
    if (!existsSync(folder) || !statSync(folder).isDirectory()) {
      throw new UsageError(`report: there is no folder '${folder}'. Name a folder that wgrad train wrote.`);
    }
  }
  const twice = folders.find((folder, i) => folders.findIndex((other) => resolve(other) === resolve(folder)) < i);
  if (twice !== undefined) throw new UsageError(`report: the run '${twice}' is named twice. Name each once.`);
  const out = flags.out ?? (folders.length === 1 ? join(folders[0]!, 'report.html') : 'report.html');
  if (existsSync(out) && statSync(out).isDirectory()) {
    throw new UsageError(`report: --out '${out}' is a folder. Name a file, for instance ${join(out, 'report.html')}.`);
  }
  const runs = readRuns(folders);
  try {
    makeFolder(dirname(resolve(out)));
    writePage(runs, out);
  } catch (error) {
    throw new UsageError(`report: cannot write '${out}' — ${whyNot(error)}. Name another file with --out.`);
  }
  if (flags.json) {
    const rows = runs.map((one) => ({
      run: one.folder,
      ...Object.fromEntries(overview(one).map(({ key, value }) => [key, value])),
      notes: one.notes,
    }));
    console.log(JSON.stringify({ page: out, runs: rows }, null, 2));
  } else {
    console.log(overviewText(runs));
    for (const one of runs) for (const note of one.notes) console.error(`${one.name}: ${note}`);
    console.log(`\n${out}`);
  }
  return 0;
}
