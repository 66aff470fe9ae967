// wgrad bench claim (npm run claim): trains the method and its baselines on one budget, each at its own best λ, and says who is ahead, by how much, and how
// sure that is. Repeat the command at any time: finished runs are kept, interrupted ones go on.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { environmentFlags } from '../../engine/debug.js';
import { openDevice } from '../../engine/node.js';
import { writeAtomically } from '../../train/files/atomic-file.js';
import { UsageError } from '../../train/files/usage-error.js';
import { writePng } from '../../train/pictures/png.js';
import { describeCommand } from '../../train/settings/command-line.js';
import { interruptible } from '../../train/sweep/interrupt.js';
import { runSweep } from '../../train/sweep/processes.js';
import { standingOf } from '../../train/sweep/sweep.js';
import { budget, lambdas, type Planned, planned, type Row, studies } from './plan.js';
import { type Judges, judgesIn, type RunScores, scoresOf } from './scores.js';
import { mean } from './statistics.js';
import { ahead, claimPicture, claimTable, diceOf, type Finished, type Which } from './table.js';

export const command = describeCommand({
  name: 'bench claim',
  about: `
Trains low-confidence consistency and class separation beside its baselines on ACDC, ${budget.labeled} patients labelled, at a size that a
CPU has time for: each method first on one seed at λ_max ${lambdas.join(', ')}, then at its best on all seeds. Prints one table
(Dice and HD95 of the best and the last checkpoint, mean ± standard deviation over seeds, differences paired by patient with
standard error and 95 % interval), draws it, and writes both and a JSON document to --out.
44 runs of 2 to 6 minutes each on two cores; with --jobs 2 all of them take about two thirds of the time.`,
  flags: {
    data: {
      type: 'string',
      value: 'DIR',
      needed: true,
      help: 'data set; its validation patients choose λ and the best checkpoint',
    },
    test: {
      type: 'string',
      value: 'DIR',
      help: 'labelled patients that choose nothing (their test part, or all of them)',
    },
    out: { type: 'string', value: 'DIR', default: join('runs', 'claim'), help: 'folder of run folders' },
    study: { type: 'string', value: 'NAME', default: 'claim', help: `${Object.keys(studies).join(', ')}` },
    rows: { type: 'string', value: 'NAME,…', help: 'only these rows of the study' },
    seeds: { type: 'string', value: 'N,…', help: "other seeds than the study's" },
    jobs: { type: 'integer', min: 1, default: 1, help: 'trainings to run at a time; on a CPU as many as it has cores' },
    quick: { type: 'boolean', help: 'the study quick: five rows, 400 iterations, one seed; 6 minutes on two cores' },
    adapter: { type: 'string', value: 'NAME', help: 'GPU or driver to use' },
    'dry-run': { type: 'boolean', help: 'list the runs and how far they are; train nothing' },
  },
});

/** Runs the command; resolves with the exit code. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const name = flags.quick ? 'quick' : flags.study;
  const study = Object.hasOwn(studies, name) ? studies[name] : undefined;
  if (!study)
    throw new UsageError(`claim: no study is called '${name}'. Use one of ${Object.keys(studies).join(', ')}.`);
  const rows = chosenRows(study.rows, flags.rows);
  const seeds = flags.seeds === undefined ? study.seeds : numbersIn(flags.seeds);
  const { data, out, jobs } = flags;
  const { stop, atOnce, done } = interruptible();
  const switches = environmentFlags();
  const more = [
    ...(flags.adapter ? ['--adapter', flags.adapter] : []),
    ...(switches.fuse ? [] : ['--no-fuse']),
    ...(switches.tune ? [] : ['--no-tune']),
  ];
  const tuned = rows.filter((row) => row.tuned);
  const grid = tuned.flatMap((row) => lambdas.map((lambda) => planned(row, seeds[0]!, lambda)));
  if (flags['dry-run']) {
    const later = rows.flatMap((row) => seeds.slice(row.tuned ? 1 : 0).map((seed) => planned(row, seed)));
    for (const one of [...grid, ...later]) {
      const { state, iteration } = standingOf(one, out);
      console.log(`${one.row.tuned ? one.group : one.name}  ${state}  ${iteration}/${one.config.iterations}`);
    }
    return 0;
  }
  mkdirSync(out, { recursive: true });
  const trained = async (runs: readonly Planned[]): Promise<boolean> => {
    const { failed, interrupted } = await runSweep(runs, {
      ...{ data, out, jobs, more, stop, atOnce },
      say: (line) => process.stderr.write(`${line}\n`),
      progress: jobs === 1 ? process.stderr : undefined,
    });
    for (const [which, why] of failed) console.error(`failed: ${which} — ${why}`);
    return !interrupted && !failed.size;
  };
  const judges = await judgesIn(data, flags.test);
  try {
    if (!(await trained(grid))) return stop.aborted ? 130 : 1;
    const gridScores = await scoredRuns(grid, out, judges, flags.adapter);
    const best = new Map(tuned.map((row) => [row.name, bestLambda(row, grid, gridScores)]));
    const runs = rows.flatMap((row) => seeds.map((seed) => planned(row, seed, best.get(row.name))));
    if (!(await trained(runs))) return stop.aborted ? 130 : 1;
    const scores = await scoredRuns(runs, out, judges, flags.adapter);
    const finished = rows.map((row): Finished => {
      const own = runs.filter((one) => one.row === row);
      const of = { row, lambda: own[0]!.lambda, seeds: own.map(({ seed }) => seed) };
      return { ...of, scores: own.map((one) => scores.get(one.name)!) };
    });
    const which: Which[] = ['best', 'last', ...(judges.test ? (['test-best', 'test-last'] as const) : [])];
    const table = claimTable(study, finished, which);
    const document = {
      ...{ study: name, about: study.about, budget, date: new Date().toISOString().slice(0, 10) },
      grid: grid.map((one) => ({
        ...{ row: one.row.name, lambda: one.lambda },
        last: mean(gridScores.get(one.name)!.last.dice),
        best: mean(gridScores.get(one.name)!.best.dice),
      })),
      rows: finished.map((row) => ({
        ...{
          name: row.row.name,
          about: row.row.about,
          recipe: row.row.recipe ?? 'acdc-strong',
          settings: row.row.settings,
          lambda: row.lambda,
          seeds: row.seeds,
        },
        dice: Object.fromEntries(which.map((one) => [one, diceOf(row, one)])),
        ahead: Object.fromEntries(
          finished.flatMap((other) =>
            study.against.includes(other.row.name) && other !== row
              ? [[other.row.name, Object.fromEntries(which.map((one) => [one, ahead(row, other, one)]))]]
              : [],
          ),
        ),
        runs: row.scores,
      })),
    };
    const place = (ending: string) => join(out, `${name}.${ending}`);
    const bytes = (text: string) => [new TextEncoder().encode(`${text}\n`)];
    writeAtomically(place('json'), bytes(JSON.stringify(document, null, 1)));
    writeAtomically(place('md'), bytes(table));
    writePng(place('png'), claimPicture(study, finished, which.at(-1)!));
    console.log(`${study.about}\n\n${table}\n`);
    if (grid.length) {
      console.log(`last validation Dice of seed ${seeds[0]} by λ_max:`);
      for (const row of tuned) {
        const own = grid.filter((one) => one.row === row);
        console.log(
          `  ${row.name}: ${own.map((one) => `${one.lambda}: ${mean(gridScores.get(one.name)!.last.dice).toFixed(3)}`).join('  ')}`,
        );
      }
    }
    console.log(`\ntable, picture, numbers: ${place('md')}, ${place('png')}, ${place('json')}`);
    return 0;
  } finally {
    done();
  }
}

function chosenRows(rows: readonly Row[], names: string | undefined): readonly Row[] {
  if (names === undefined) return rows;
  return names.split(',').map((name) => {
    const row = rows.find((one) => one.name === name.trim());
    if (!row) throw new UsageError(`claim: no row is called '${name}'. Use ${rows.map((one) => one.name).join(', ')}.`);
    return row;
  });
}

function numbersIn(text: string): number[] {
  const numbers = text.split(',').map(Number);
  if (numbers.some((n) => !Number.isInteger(n) || n < 0)) {
    throw new UsageError(`claim: --seeds must be whole numbers — got '${text}'. Use for instance 1,2,3.`);
  }
  return numbers;
}

/** The λ whose last validation is best: the last one was chosen by nothing. */
function bestLambda(row: Row, grid: readonly Planned[], scores: ReadonlyMap<string, RunScores>): number {
  const own = grid
    .filter((one) => one.row === row)
    .map((one) => [one.lambda, mean(scores.get(one.name)!.last.dice)] as const);
  return own.reduce((best, one) => (one[1] > best[1] ? one : best))[0];
}

async function scoredRuns(
  runs: readonly Planned[],
  out: string,
  judges: Judges,
  adapter: string | undefined,
): Promise<Map<string, RunScores>> {
  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    const scores = new Map<string, RunScores>();
    for (const { name } of runs) scores.set(name, await scoresOf(gpu, join(out, name), judges));
    return scores;
  } finally {
    gpu.close();
  }
}
