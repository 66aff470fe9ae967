// `wgrad bench paper`: what the compiler of a GPU that is not here makes of a training step. No figure of it is a time on hardware:
// it finds waste, and puts variants of one kernel in order.
import { readFileSync } from 'node:fs';
import { whyNot } from '../../train/files/data-error.js';
import { UsageError } from '../../train/files/usage-error.js';
import { describeCommand } from '../../train/settings/command-line.js';
import { layered, protocolFlag } from '../../train/settings/config-file.js';
import { configFlags, resolveConfig } from '../../train/settings/settings.js';
import { table } from '../harness.js';
import { commonFlags, openHistory, readMeasurements, resultsFolder } from '../history.js';
import type { StepFigures } from '../step.js';
import { calibrate, calibrationText, paperFor } from './calibration.js';
import { type CardName, cards } from './cards.js';
import { byName, compileFor, type PaperKernel, type PaperReport } from './compile.js';

const names = Object.keys(cards) as CardName[];

export const command = describeCommand({
  name: 'bench paper',
  about:
    'Compiles every kernel of a training step with the compiler of a GPU that is not here, and estimates from below what the step takes\n' +
    'on a card with it. Takes any settings of wgrad train. Needs Mesa with its shims, on Linux.',
  flags: {
    gpu: {
      type: 'string',
      choices: names,
      default: 'navi31',
      help: 'the GPU: three of AMD (RADV), one of NVIDIA (NVK)',
    },
    matrix: { type: 'boolean', help: 'take the first candidate for matrix units wherever there is one' },
    only: { type: 'string', value: 'TEXT', help: 'compile only kernels whose name contains TEXT' },
    each: { type: 'boolean', help: 'a row for each compiled kernel, not for each name' },
    measured: {
      type: 'string',
      value: 'FILE',
      help:
        "a card's `bench step --json`: compile nothing, hold the newest saved result about the same step against it, kernel by " +
        'kernel',
    },
    results: { type: 'string', value: 'DIR', default: resultsFolder, help: 'where --measured looks for saved results' },
    save: commonFlags.save,
    compare: {
      type: 'boolean',
      help: 'print old, new and ratio against the newest saved result of this GPU and these settings',
    },
    json: commonFlags.json,
    protocol: protocolFlag,
    ...configFlags,
  },
  notes: `The estimates are about ${names.map((name) => `${cards[name].name} (${name})`).join(', ')}.`,
});

const heads = [
  ...['kernel', 'launches', 'threads', 'registers', 'spills', 'scratch B', 'workgroup B', 'occupancy %'],
  ...['hot FMA %', 'busiest', 'GFLOP', 'MB', 'least ms'],
];

const percent = (share: number): string => (100 * share).toFixed(0);

/** The report as text: a row for each name, or for each kernel. */
export function paperText({ gpu, card, launches, kernels, failed }: PaperReport, each: boolean): string {
  const rows = (each ? kernels : byName(kernels)).map((k) => [
    ...[
      k.kernel,
      `${k.launches}`,
      `${k.threads}`,
      `${k.registers}`,
      `${k.spills}`,
      `${k.scratchBytes}`,
      `${k.workgroupBytes}`,
    ],
    ...[percent(k.occupancy), k.hotShare === undefined ? '' : percent(k.hotShare), k.busiest ?? ''],
    ...[k.flops / 1e9, k.bytes / 1e6, k.ms],
  ]);
  const sum = (of: (k: PaperKernel) => number): number => kernels.reduce((all, k) => all + of(k), 0);
  const count = (is: (k: PaperKernel) => boolean): number => kernels.filter(is).length;
  return [
    table([heads, ...rows]),
    '',
    `${gpu}: ${launches} launches of ${kernels.length + failed.length} kernels; ${failed.length} do not compile, ` +
      `${count((k) => k.spills > 0)} spill, ${count((k) => k.scratchBytes > 0)} use scratch memory, ` +
      `${count((k) => k.scalarSpills > 0)} keep scalars in vector registers`,
    `at least ${sum((k) => k.ms).toFixed(2)} ms a step on ${card}: ${(sum((k) => k.flops) / 1e9).toFixed(0)} GFLOP of convolutions, ` +
      `${(sum((k) => k.bytes) / 1e9).toFixed(2)} GB bound`,
    ...failed.map((why) => `does not compile: ${why}`),
  ].join('\n');
}

/** What `wgrad bench step --json` printed, or `--save` wrote. */
function readStep(file: string): StepFigures {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UsageError(
      `bench paper: cannot read ${file} — ${whyNot(error)}. Use the output of wgrad bench step --json.`,
    );
  }
  const { report = content } = (content ?? {}) as { report?: unknown };
  const { config, launches, adapter } = (report ?? {}) as Partial<StepFigures>;
  if (typeof config !== 'object' || typeof launches !== 'number' || typeof adapter !== 'string') {
    throw new UsageError(`bench paper: ${file} is not about a step. Use the output of wgrad bench step --json.`);
  }
  return report as StepFigures;
}

/** `wgrad bench paper`. The exit code is 1 where a kernel does not compile. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const { gpu, matrix, only, each, measured, results, save, compare, json, ...given } = flags;
  if (measured !== undefined) {
    const step = readStep(measured);
    const found = calibrate(paperFor(step, gpu, matrix ?? false, readMeasurements(results)), step);
    console.log(json ? JSON.stringify(found, undefined, 2) : calibrationText(found));
    return 0;
  }
  const settings = layered(given);
  resolveConfig(settings); // refuses before a process is started
  const history = openHistory('paper', args);
  const report = await compileFor(gpu, { settings, matrix, only: only ?? '' });
  const { on, ...kept } = report;
  const named = byName(report.kernels);
  const rows = Object.fromEntries(named.map(({ kernel, ms }) => [kernel, ms]));
  const total = report.kernels.reduce((sum, { ms }) => sum + ms, 0);
  history.publish(
    on,
    { save, compare, json },
    {
      settings: { ...settings, matrix, only },
      rows: { ...rows, step: total },
      report: { ...kept, kernels: each ? report.kernels : named },
      text: paperText(report, each),
    },
  );
  return report.failed.length ? 1 : 0;
}
