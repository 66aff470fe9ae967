// wgrad demo (npm start): the whole story on a bare machine. It writes phantom hearts, one of them labelled, trains the method and two
// supervised baselines on the same labels, scores them on hearts that none has seen, and shows a table and a picture.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { verifyDevice } from '../../engine/debug.js';
import { openDevice } from '../../engine/node.js';
import { loadCase } from '../data/case-volume.js';
import { cardiacClasses } from '../data/class-names.js';
import { type Case, casesToEvaluate, openDataset } from '../data/datasets.js';
import { writePhantoms } from '../data/phantom-dataset.js';
import { nameOf, planeSides, samplesOf } from '../data/samples.js';
import { evaluateCases } from '../evaluation/evaluate.js';
import { createPredictor, type Predictor } from '../evaluation/predictor.js';
import type { Summary } from '../evaluation/summary.js';
import { newFolder } from '../files/new-folder.js';
import { drawSlices } from '../pictures/slice-picture.js';
import { writeReport } from '../report/page.js';
import { readLog } from '../run/log.js';
import { runFiles } from '../run/run-folder.js';
import { loadModel } from '../run/trained-model.js';
import { describeCommand } from '../settings/command-line.js';
import { readProtocol } from '../settings/config-file.js';
import { type Config, resolveConfig } from '../settings/settings.js';
import { interruptible } from '../training/interrupt.js';
import { clock, sayCompiling } from '../training/progress.js';
import { train } from '../training/training.js';

const defaults = { iterations: 800, seed: 1337 };

export const command = describeCommand({
  name: 'demo',
  about:
    'Trains lccs and two supervised baselines on phantom hearts, one of them labelled, and compares them on unseen hearts.',
  flags: {
    out: { type: 'string', value: 'DIR', help: 'new folder (default runs/demo, or the next free runs/demo-2, …)' },
    iterations: { type: 'integer', min: 1, default: defaults.iterations, help: 'iterations of each training' },
    seed: { type: 'integer', value: 'S', min: 0, default: defaults.seed, help: 'seed of weights, batches and noise' },
    adapter: { type: 'string', value: 'NAME', help: 'GPU or driver to use' },
  },
});

const patients = 24;
/** What differs from the recipe: the size of everything. */
const settings = {
  labeled: 1,
  size: 32,
  spacing: [5, 5], // 160 of 230 mm: the heart, at as many pixels as a CPU has time for
  features: [8, 16, 32, 64],
  dropout: [0, 0, 0.1, 0.2],
  batch: 6,
  labeledBatch: 3,
  lr: 0.1,
  // The protocol's averages reach back 100 of 30 000 iterations; over a few hundred that teacher would be stale.
  emaDecay: 0.9,
  prototypeMomentum: 0.9,
  evalEvery: 160,
  saveEvery: 160,
};

/** What is compared, by the names of the run folders: the baselines first. */
const compared: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  supervised: { method: 'supervised', strong: 'none' },
  'supervised-strong': { method: 'supervised' },
  lccs: { method: 'lccs' },
};

function freeFolder(): string {
  for (let i = 1; ; i++) {
    const folder = join('runs', i === 1 ? 'demo' : `demo-${i}`);
    if (!existsSync(folder)) return folder;
  }
}

/** Runs `wgrad demo`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const out = flags.out ?? freeFolder();
  newFolder('demo', out);
  const start = performance.now();
  const gpu = await openDevice(flags.adapter ? { adapter: flags.adapter } : {});
  const { stop, done } = interruptible();
  try {
    await verifyDevice(gpu);
    const data = join(out, 'phantoms');
    writePhantoms(data, { patients, size: 48 });
    const test = casesToEvaluate(await openDataset(data), 'test');
    console.error(
      `${patients} phantom hearts in ${data}, ${settings.labeled} with labels, ${test.length} test volumes`,
    );

    const recipe = readProtocol('acdc-strong');
    const results: Result[] = [];
    for (const [name, switches] of Object.entries(compared)) {
      const { iterations, seed } = flags;
      const config = resolveConfig({ ...recipe, ...settings, ...switches, iterations, seed });
      const folder = join(out, name);
      const { interrupted } = await train({ gpu, config, data, out: folder, stop });
      if (interrupted) {
        console.error(`interrupted and saved; continue with: wgrad train --data ${data} --out ${folder} --resume`);
        return 130;
      }
      const predictor = createPredictor(gpu, loadModel(gpu, { run: folder }).model, config.patch);
      await sayCompiling(predictor.prepare);
      results.push({ name, config, predictor, run: folder, summary: await evaluateCases(predictor, test, config) });
    }
    const page = join(out, 'report.html');
    writeReport(
      results.map((result) => result.run),
      page,
    );
    const picture = join(out, 'comparison.png');
    await drawComparison(picture, test, results);
    console.log(comparisonTable(results));
    console.log(selectionLine(results.at(-1)!.run));
    console.log(
      `One run on ${test.length} test volumes: differences of a few hundredths are luck. bench/README.md has three seeds on real hearts.`,
    );
    console.log(`
picture           ${picture}
page              ${page}   (curves, slices and scores of all)
run folders       ${results.map((result) => result.run).join(', ')}   (progress.png, slices/, log.jsonl)
total time        ${clock((performance.now() - start) / 1000)}
your own data     wgrad train --data DIR --out RUN --labeled N     (wgrad train --help)`);
    return 0;
  } finally {
    done();
    gpu.close();
  }
}

/** One training, scored. */
interface Result {
  readonly name: string;
  readonly config: Config;
  readonly summary: Summary;
  readonly predictor: Predictor;
  readonly run: string;
}

function comparisonTable(results: readonly Result[]): string {
  const number = (value: number | null, digits: number) => (value === null ? '–' : value.toFixed(digits));
  const rows = results.map(({ name, summary: { mean, foreground_mean: all } }) =>
    [
      name.padEnd(18),
      ...Object.values(mean).map(({ Dice }) => number(Dice, 4).padStart(18)),
      number(all.Dice, 4).padStart(10),
      number(all.HD95, 2).padStart(10),
      String(all.missed).padStart(8),
    ].join(''),
  );
  const titles = [
    'Dice (test)'.padEnd(18),
    ...cardiacClasses.slice(1).map((name) => name.padStart(18)),
    'mean'.padStart(10),
  ];
  return [`${titles.join('')}   HD95 mm  missed`, ...rows].join('\n');
}

/** How many pixels lccs kept over its last quarter, and how right the student was on them. */
function selectionLine(run: string): string {
  const records = readLog(join(run, runFiles.log)).filter(({ kept }) => typeof kept === 'number');
  const last = records.slice(Math.floor(0.75 * records.length));
  const mean = (name: string) => {
    const values = last.map((record) => record[name] as number).filter((value) => value >= 0);
    const sum = values.reduce((total, value) => total + value, 0);
    return values.length ? `${((100 * sum) / values.length).toFixed(1)} %` : '–';
  };
  return (
    `lccs kept ${mean('kept')} of the unlabelled pixels as unsure (last quarter): ` +
    `${mean('keptAccuracy')} of those were right, ${mean('droppedAccuracy')} of the others`
  );
}

/** One middle slice of up to four test hearts: image, ground truth, and what each network says. */
async function drawComparison(path: string, cases: readonly Case[], results: readonly Result[]): Promise<void> {
  const rows = [];
  for (const c of cases.filter((_, i) => i % Math.max(1, Math.floor(cases.length / 4)) === 0).slice(0, 4)) {
    const { config } = results[0]!;
    const samples = samplesOf(loadCase(c, config), config);
    const sample = samples[Math.floor(samples.length / 2)]!;
    const { image, label } = sample;
    const cells: { title: string; labels: Uint8Array; reference?: Uint8Array }[] = [
      { title: 'ground truth', labels: label! },
    ];
    for (const { name, predictor } of results)
      cells.push({ title: name, labels: (await predictor(image)).labels, reference: label! });
    const [height, width] = planeSides(config);
    rows.push({ caption: nameOf(sample, config), height, width, image, cells });
  }
  drawSlices(path, rows);
}
