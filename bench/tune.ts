// `wgrad bench --tune`: records the training step of some settings without running it, measures every choice of a kernel that
// it had to make, and keeps the winners in the user's cache, where `openDevice` finds them.
import { adapterFamily, remembered } from '../engine/choices.js';
import { environmentFlags, verifyDevice } from '../engine/debug.js';
import { type AdapterDescription, type Gpu, scope } from '../engine/index.js';
import { openDevice, saveTuning, tuningFile } from '../engine/node.js';
import { askedFor, type Job, recall, type TuneResult, tune } from '../engine/tune.js';
import { tuned } from '../engine/tuned.js';
import type { Tuning } from '../engine/tuning.js';
import { UsageError } from '../train/files/usage-error.js';
import { createTrainer } from '../train/method/trainer.js';
import { environmentOf } from '../train/run/environment.js';
import { describeCommand } from '../train/settings/command-line.js';
import { layered, protocolFlag } from '../train/settings/config-file.js';
import { configFlags, resolveConfig } from '../train/settings/settings.js';
import { table } from './harness.js';

export const command = describeCommand({
  name: 'bench --tune',
  about:
    'Measures the kernels that a training step may use, and remembers the best. The step takes any settings of wgrad train.',
  flags: {
    only: { type: 'string', value: 'TEXT', help: 'measure only keys that contain TEXT' },
    candidates: {
      type: 'string',
      value: 'TEXT',
      help: 'measure only candidates whose printed form contains TEXT, such as "kernel matrix", and the default',
    },
    again: { type: 'boolean', help: 'measure again what was measured before' },
    turns: {
      type: 'integer',
      min: 1,
      default: 7,
      help: 'turns of each candidate; the median of its runs counts',
    },
    adapter: { type: 'string', value: 'NAME', help: "swiftshader, lavapipe, or part of a GPU's name" },
    json: { type: 'boolean', help: 'print one JSON document' },
    'print-table': {
      type: 'boolean',
      help: 'print the text of engine/tuned.ts with the choices remembered for this adapter',
    },
    protocol: protocolFlag,
    ...configFlags,
  },
});

/** The choices that the step of a configuration asks for. Nothing is run. */
export function jobsOfStep(gpu: Gpu, settings: Record<string, unknown>): Job[] {
  scope(gpu, () => void createTrainer(gpu, resolveConfig(settings)).step.info);
  return askedFor(gpu).jobs;
}

const shown = (candidate: unknown): string =>
  typeof candidate === 'object' && candidate !== null
    ? Object.entries(candidate)
        .map(([name, value]) => `${name} ${shown(value)}`)
        .join(', ')
    : String(candidate);

/** A job with its default, and of its other candidates those whose printed form contains `text`. */
export const withCandidates = (job: Job, text: string): Job => ({
  ...job,
  candidates: job.candidates.filter((candidate, i) => i === 0 || shown(candidate).includes(text)),
});

/** A row of the table: what the default takes, what the choice takes, how many candidates there were. */
function rowOf({ key, tuning, candidates }: TuneResult): (string | number)[] {
  const excluded = candidates.filter((candidate) => candidate.excluded !== undefined).length;
  const counts = `${candidates.length} (${excluded})`;
  if (!tuning) return [key, '–', '–', '–', counts, 'the default, unmeasured'];
  const { choice, ms, defaultMs } = tuning;
  const gain = `${(100 * (1 - ms / defaultMs)).toFixed(1)} %`;
  const name = choice === candidates[0]?.candidate ? 'the default' : shown(choice);
  return [key, defaultMs.toFixed(3), ms.toFixed(3), gain, counts, name];
}

/** The results as a table, and under it a line for everything that went wrong. */
export function report(results: readonly TuneResult[]): string {
  const head = ['key', 'default ms', 'chosen ms', 'gain', 'candidates (excluded)', 'choice'];
  const wrong = results.flatMap(({ key, problem, candidates }) => [
    ...(problem === undefined ? [] : [`${key}: not measured, ${problem}`]),
    ...candidates.flatMap(({ candidate, excluded }) =>
      excluded === undefined ? [] : [`${key}: ${shown(candidate)} ${excluded}`],
    ),
  ]);
  return [table([head, ...results.map(rowOf)]), ...wrong].join('\n');
}

const rounded = (_: string, value: unknown): unknown =>
  typeof value === 'number' ? Number(value.toPrecision(4)) : value;

/**
 * The text of engine/tuned.ts with these choices for an adapter, over those that are shipped for it. What only confirms the
 * default is left out.
 */
export function tunedSource(adapter: AdapterDescription, choices: Readonly<Record<string, Tuning>>): string {
  const family = adapterFamily(adapter);
  const better = Object.entries(choices).filter(([, { ms, defaultMs }]) => ms < defaultMs);
  const others = tuned.filter((shipped) => shipped.adapter !== family);
  const tables = [...others, { adapter: family, choices: Object.fromEntries(better) }];
  const text = tables
    .sort((a, b) => (a.adapter < b.adapter ? -1 : 1))
    .map((shipped) => {
      const lines = Object.entries(shipped.choices)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, tuning]) => `${JSON.stringify(key)}: ${JSON.stringify(tuning, rounded)},\n`);
      return `{ adapter: ${JSON.stringify(shipped.adapter)}, choices: {\n${lines.join('')}}},\n`;
    });
  return `// The choices that wgrad ships, for adapters measured so far. Written by \`wgrad bench --tune --print-table\`: do not edit
// by hand. What a user measured on the same adapter wins over it.
// biome-ignore-all lint/suspicious/noApproximativeNumericConstant: a measured time may look like one
import type { TunedTable } from './tuning.js';

// biome-ignore format: one line for each key
export const tuned: readonly TunedTable[] = [
${text.join('')}];
`;
}

/** Most times that a step is recorded again because its choices have changed. */
const mostRounds = 3;

/** `wgrad bench --tune`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const { only = '', candidates = '', again, turns, adapter, json, 'print-table': print, ...settings } = flags;
  if (!environmentFlags().tune)
    throw new UsageError('bench: --tune and --no-tune (or WGRAD_TUNE=0) cannot be combined. Leave one out.');
  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    await verifyDevice(gpu);
    const results: TuneResult[] = [];
    // A winner may apply its input's activation on load where the default did not, or the reverse; later convolutions of the same
    // tensor then ask for other choices.
    for (let round = 0; round < mostRounds; round++) {
      const measured = new Set(results.map(({ key }) => key));
      const jobs = jobsOfStep(gpu, layered(settings)).filter(({ key }) => key.includes(only) && !measured.has(key));
      const left = again ? jobs : jobs.filter((job) => !recall(gpu, job));
      if (round && !left.length) break;
      if (round) console.error(`${left.length} more choices follow from these`);
      else console.error(`${jobs.length} choices in this step, ${jobs.length - left.length} of them measured before`);
      const some = left.map((job) => withCandidates(job, candidates));
      let done = 0;
      const onResult = (result: TuneResult): void => {
        if (result.tuning) saveTuning(gpu, { [result.key]: result.tuning }); // the next one may take the process with it
        console.error(`${++done}/${left.length} ${result.key}: ${result.seconds.toFixed(2)} s`);
      };
      results.push(...(await tune(gpu, some, { turns, onResult })));
    }
    if (print) process.stdout.write(tunedSource(gpu.adapter, remembered(gpu)));
    else if (json) console.log(JSON.stringify({ environment: environmentOf(gpu), results }, null, 2));
    else if (results.length) console.log(report(results));
    if (results.some(({ tuning }) => tuning)) console.error(`saved ${tuningFile(gpu.adapter)}`);
    return results.every(({ problem }) => problem === undefined) ? 0 : 1;
  } finally {
    gpu.close();
  }
}
