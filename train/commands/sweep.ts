// wgrad sweep: a list or a grid of trainings, each its own process of `wgrad train`, and one table at the end.
import { join, resolve } from 'node:path';
import { environmentFlags } from '../../engine/debug.js';
import { writeAtomically } from '../files/atomic-file.js';
import { whyNot } from '../files/data-error.js';
import { makeFolder } from '../files/new-folder.js';
import { UsageError } from '../files/usage-error.js';
import { describeCommand } from '../settings/command-line.js';
import { interruptible } from '../sweep/interrupt.js';
import { runSweep } from '../sweep/processes.js';
import {
  readSweep,
  resultsOf,
  shardOf,
  standingOf,
  sweepCsv,
  sweepName,
  sweepRows,
  sweepTable,
} from '../sweep/sweep.js';

export const command = describeCommand({
  name: 'sweep',
  about: `
Trains every combination of settings in FILE and compares them. Each run is its own process of wgrad train, with its own folder in
--out, named after what differs. Repeat the command at any time: it skips finished runs, continues interrupted ones and retries
failed ones. Ctrl-C saves what is running.

  { "protocol": "acdc",                                      settings to start from (optional)
    "base": { "labeled": 7, "iterations": 3000 },            settings of all runs
    "grid": { "method": ["supervised", "mt", "lccs"], "seed": [1, 2, 3] } }

Instead of the grid, "list": [{ "method": "mt" }, { "method": "lccs", "threshold": 0.9 }] names every run.`,
  positionals: ['FILE.json'],
  flags: {
    data: { type: 'string', value: 'DIR', help: 'data set (or "data" in FILE)' },
    out: {
      type: 'string',
      value: 'DIR',
      help: 'folder of run folders (or "out" in FILE; default runs/ and FILE\'s name)',
    },
    shard: { type: 'string', value: 'i/n', help: 'run only every n-th run, from the i-th on; i from 0 to n − 1' },
    jobs: {
      type: 'integer',
      min: 1,
      default: 1,
      help: 'trainings to run at a time on this machine; on a CPU as many as it has cores',
    },
    'dry-run': {
      type: 'boolean',
      help: 'list each run, its state and the command that runs it alone; train nothing',
    },
    adapter: { type: 'string', value: 'NAME', help: 'GPU or driver to use' },
    json: { type: 'boolean', help: 'print the runs and the table as one JSON document' },
  },
  notes: `
The table at the end shows the foreground's scores at the best validation, mean ± standard deviation over seeds; the best of each
column has a star. sweep.csv (one line per run) and sweep.json in --out hold the same. Exit code: 1 if a run failed, 130 if
interrupted.

On a Slurm cluster, one run per array task (12 runs: 0-11), all on one file system:

  #SBATCH --array=0-11 --gres=gpu:1 --signal=B:INT@120 --requeue
  exec node_modules/.bin/wgrad sweep sweep.json --data acdc --out runs/sweep \\
    --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT

As an indexed Job of Kubernetes (completionMode: Indexed, completions: 12, parallelism: 4), runs/ on a shared volume:

  command: [sh, -c, 'exec node_modules/.bin/wgrad sweep sweep.json --data /acdc --out /runs/sweep
    --shard $JOB_COMPLETION_INDEX/12']

Afterwards, wgrad sweep FILE.json --data DIR --out DIR prints the table of all runs, and wgrad report compares their curves.`,
});

/** Runs `wgrad sweep FILE`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = command.read(args);
  const file = positionals[0]!;
  const { 'dry-run': dry, json, jobs, adapter } = flags;
  const plan = readSweep(file);
  const data = flags.data ?? plan.data;
  const out = flags.out ?? plan.out ?? join('runs', sweepName(file));
  const mine = shardOf(plan.runs, flags.shard);
  if (!data && !dry) throw new UsageError('sweep: --data is required. See wgrad sweep --help.');
  const engineFlags = environmentFlags();
  const switches = [...(engineFlags.fuse ? [] : ['--no-fuse']), ...(engineFlags.tune ? [] : ['--no-tune'])];
  const more = [...(adapter ? ['--adapter', adapter] : []), ...switches];

  if (dry) {
    const listed = mine.map((one) => ({
      name: one.name,
      ...standingOf(one, out),
      command: `wgrad sweep ${file} --data ${data ?? 'DIR'} --out ${out} --shard ${plan.runs.indexOf(one)}/${plan.runs.length}`,
    }));
    const width = Math.max(0, ...listed.map(({ name }) => name.length));
    if (json) console.log(JSON.stringify(listed, null, 2));
    else {
      for (const { name, state, iteration, command } of listed) {
        console.log(`${name.padEnd(width)}  ${state.padEnd(8)}  ${String(iteration).padStart(6)}  ${command}`);
      }
    }
    return 0;
  }

  for (const one of plan.runs) standingOf(one, out); // a folder with other settings is an error before anything is trained
  try {
    makeFolder(resolve(out));
  } catch (error) {
    throw new UsageError(`sweep: cannot write to '${out}' — ${whyNot(error)}. Name another folder.`);
  }
  const { stop, atOnce, done } = interruptible();
  const { failed, interrupted } = await runSweep(mine, {
    data: data!,
    out,
    more,
    jobs,
    stop,
    atOnce,
    say: (line) => process.stderr.write(`${line}\n`),
    progress: jobs === 1 ? process.stderr : undefined,
  }).finally(done);
  const results = resultsOf(plan, out, new Set(failed.keys()));
  const rows = sweepRows(results);
  const bytes = (text: string) => [new TextEncoder().encode(text)];
  writeAtomically(join(out, 'sweep.csv'), bytes(sweepCsv(results)));
  const document = JSON.stringify({ runs: results, table: rows }, null, 2);
  writeAtomically(join(out, 'sweep.json'), bytes(`${document}\n`));
  console.log(json ? document : sweepTable(rows));
  for (const [name, why] of failed) console.error(`failed: ${name} — ${why}`);
  if (interrupted) console.error('interrupted; repeat the command to continue');
  return interrupted ? 130 : failed.size ? 1 : 0;
}
