// The claim: its statistics against plain formulas, its plan, its table and picture from made-up scores, the scores of a real run.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { planned, studies } from '../../bench/claim/plan.js';
import { judgesIn, type PatientScores, type RunScores, scoresOf } from '../../bench/claim/scores.js';
import { deviation, mean, pairedDifference } from '../../bench/claim/statistics.js';
import { ahead, claimPicture, claimTable, type Finished } from '../../bench/claim/table.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { readLog } from '../../train/run/log.js';
import { runFiles } from '../../train/run/run-folder.js';
import { train } from '../../train/training/training.js';
import { testGpu } from '../gpu.js';
import { configOf } from '../train/small-run.js';

const test = suite('claim');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-claim-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

test('a paired difference: seeds averaged by patient, standard error over patients, an interval that holds the mean', () => {
  const a = [
    [0.5, 0.7, 0.6, 0.9],
    [0.6, 0.7, 0.7, 0.8],
  ];
  const b = [
    [0.4, 0.7, 0.5, 0.7],
    [0.5, 0.6, 0.9, 0.8],
  ];
  const difference = pairedDifference(a, b);
  const byPatient = [0.1, 0.05, -0.05, 0.1];
  assert.ok(Math.abs(difference.mean - 0.05) < 1e-12);
  const variance = byPatient.reduce((sum, d) => sum + (d - 0.05) ** 2, 0) / 3;
  assert.ok(Math.abs(difference.error - Math.sqrt(variance / 4)) < 1e-12);
  assert.ok(Math.abs(difference.seeds[0]! - 0.1) < 1e-12 && Math.abs(difference.seeds[1]!) < 1e-12);
  // The exact distribution of the resampled mean has 4⁴ equally likely outcomes.
  const outcomes = byPatient
    .flatMap((p) => byPatient.flatMap((q) => byPatient.flatMap((r) => byPatient.map((s) => (p + q + r + s) / 4))))
    .sort((x, y) => x - y);
  for (const [end, share] of [
    [0, 0.025],
    [1, 0.975],
  ] as const)
    assert.ok(
      Math.abs(difference.interval[end] - outcomes[Math.round(share * 255)]!) <= 0.0126,
      String(difference.interval),
    );
  assert.equal(pairedDifference(a, b), difference, 'the same scores, the same interval');
});

test('every study can be run: settings that resolve, names and settings that differ', () => {
  for (const [name, { rows, seeds, against }] of Object.entries(studies)) {
    const runs = rows.flatMap((row) => seeds.map((seed) => planned(row, seed, row.tuned ? 3 : undefined)));
    assert.is(new Set(runs.map((run) => run.name)).size, runs.length, name);
    assert.is(
      new Set(runs.map((run) => JSON.stringify(run.config))).size,
      runs.length,
      `${name}: two rows are the same run`,
    );
    for (const baseline of against)
      assert.ok(
        rows.some((row) => row.name === baseline),
        `${name}: ${baseline}`,
      );
    const budgets = runs.map(({ config: { iterations, labeledBatch, patch } }) =>
      JSON.stringify([iterations, labeledBatch, patch]),
    );
    assert.is(new Set(budgets).size, 1, `${name}: one budget`);
  }
});

const patients = ['a', 'b', 'c'];
const of = (...dice: number[]): PatientScores => ({ patients, dice, hd95: [3, null, 5] });
const finished = (name: string, ...seeds: number[][]): Finished => ({
  row: { name, about: name, settings: { method: name } },
  lambda: 3,
  seeds: seeds.map((_, i) => i + 1),
  scores: seeds.map((dice): RunScores => {
    const scores = of(...dice);
    return { best: scores, last: scores, bestIteration: 5, selection: { kept: 0.25 } };
  }),
});

test('the table: means, deviations, how far ahead; the picture draws a bar a row', () => {
  const rows = [finished('mt', [0.5, 0.6, 0.7], [0.6, 0.6, 0.9]), finished('lccs', [0.6, 0.7, 0.8], [0.7, 0.7, 0.7])];
  const study = { about: 'two rows', rows: [], seeds: [1, 2], against: ['mt'] };
  const table = claimTable(study, rows, ['best', 'last']);
  assert.match(table, /\| mt +\| 3 +\| 1 2 +\| 0\.650 ± 0\.071 \|/);
  assert.match(table, /\| lccs .*\+0\.050 ± 0\.050 \[/);
  assert.match(table, /4\.00 ± 0\.00 \| 25\.0 %/);
  assert.is(ahead(rows[0]!, rows[0]!, 'last'), undefined);
  const { width, height, data } = claimPicture(study, rows, 'last');
  const at = (x: number, y: number) => [...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3)].join();
  const barEnds = [0, 1].map((row) => {
    let x = 262;
    while (at(x, 56 + 34 * row + 8) !== '255,255,255') x++;
    return x;
  });
  assert.ok(barEnds[1]! > barEnds[0]! && barEnds[1]! < width && height > 100, String(barEnds));
});

test('the scores of a run: its own validation by patient, its last checkpoint, test patients; kept for the next time', async () => {
  const data = join(folder, 'data');
  const run = join(folder, 'run');
  writePhantoms(data, { patients: 6, size: 20 });
  const gpu = await testGpu();
  const { error } = console;
  console.error = () => {};
  try {
    await train({ gpu, config: configOf({ method: 'lccs', iterations: 2, evalEvery: 1 }), data, out: run });
  } finally {
    console.error = error;
  }
  const judges = await judgesIn(data, data);
  const scores = await scoresOf(gpu, run, judges);
  const validations = readLog(join(run, runFiles.log)).flatMap(({ iteration, validation }) =>
    validation ? [{ iteration, dice: (validation as { foreground_mean: { Dice: number } }).foreground_mean.Dice }] : [],
  );
  const best = validations.reduce((most, one) => (one.dice > most.dice ? one : most));
  assert.is(scores.bestIteration, best.iteration);
  assert.ok(Math.abs(mean(scores.best.dice) - best.dice) < 0.02, `${mean(scores.best.dice)} and ${best.dice}`);
  assert.ok(
    scores.test!.last.patients.length > 0 && !scores.test!.last.patients.some((p) => scores.last.patients.includes(p)),
  );
  assert.ok(scores.selection.kept! > 0 && scores.cosines!.length === 16);
  assert.equal(JSON.parse(readFileSync(join(run, 'claim.json'), 'utf8')).last, scores.last);
  assert.equal(await scoresOf(gpu, run, judges), scores);
});

test('deviation of one value is not a number', () => {
  assert.ok(Number.isNaN(deviation([1])));
});

test.run();
