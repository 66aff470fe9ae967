// Sweeps: what a file means, which runs a shard has, the table; and whole sweeps of tiny trainings, interrupted, killed, failing.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { UsageError } from '../../train/files/usage-error.js';
import { readLog } from '../../train/run/log.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { sharedCores } from '../../train/sweep/processes.js';
import {
  readSweep,
  type SweepResult,
  shardOf,
  standingOf,
  sweepCsv,
  sweepRows,
  sweepTable,
} from '../../train/sweep/sweep.js';
import { patience } from '../patience.js';
import { refuses } from '../refuses.js';

const test = suite('sweep');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-'));
let files = 0;
const fileWith = (content: unknown): string => {
  const path = join(folder, `sweep-${files++}.json`);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
};
const namesOf = (content: unknown): string[] => readSweep(fileWith(content)).runs.map(({ name }) => name);

test('a grid is every combination, named after what differs', () => {
  const { runs } = readSweep(
    fileWith({ base: { batch: 8, lr: 0.1 }, grid: { method: ['mt', 'lccs'], lr: [0.01, 0.02], seed: [1, 2] } }),
  );
  assert.equal(
    runs.map(({ name }) => name),
    ['mt', 'lccs'].flatMap((method) =>
      [0.01, 0.02].flatMap((lr) => [1, 2].map((seed) => `${method}_lr-${lr}_seed-${seed}`)),
    ),
  );
  assert.equal([...new Set(runs.map(({ group }) => group))].length, 4);
  const { config } = runs[5]!;
  assert.equal([config.method, config.lr, config.seed, config.batch, config.labeledBatch], ['lccs', 0.01, 2, 8, 4]);
});

test('a list is its entries; keys may be flags; names hold lists and switches', () => {
  assert.equal(
    namesOf({
      base: { 'labeled-batch': 2, batch: 6 },
      list: [
        {},
        { method: 'mt' },
        { features: [4, 8], dropout: '0,0.1' },
        { 'separation-weight': '0.5', projection: false },
      ],
    }),
    ['base', 'mt', 'features-4-8_dropout-0-0.1', 'separation-weight-0.5_projection-false'],
  );
});

test('a spelling of an earlier version keeps the name of its folder', () => {
  const { runs } = readSweep(
    fileWith({ list: [{ thresholdMode: 'perClass' }, { thresholdMode: 'per-class', seed: 2 }] }),
  );
  assert.equal(
    runs.map(({ name, config }) => [name, config.thresholdMode]),
    [
      ['threshold-mode-perClass', 'per-class'],
      ['threshold-mode-per-class_seed-2', 'per-class'],
    ],
  );
});

test('trainings at a time share the cores', () => {
  assert.equal(sharedCores(1), {});
  assert.equal(sharedCores(availableParallelism() + 1), { LP_NUM_THREADS: '1' });
  assert.equal(sharedCores(10_000), { LP_NUM_THREADS: '1' });
});

test('a name does not change when the grid grows', () => {
  const small = namesOf({ grid: { method: ['mt'], seed: [1] } });
  const large = namesOf({ grid: { method: ['mt', 'lccs'], seed: [1, 2, 3] } });
  assert.ok(large.includes(small[0]!));
});

test('the protocol comes first, then the base, then the run', () => {
  const { runs } = readSweep(fileWith({ protocol: 'acdc', base: { iterations: 3000, lr: 0.5 }, grid: { lr: [0.25] } }));
  assert.equal([runs[0]!.config.iterations, runs[0]!.config.lr, runs[0]!.config.batch], [3000, 0.25, 24]);
});

for (const [content, message] of [
  ['{', /cannot read/],
  [{}, /expected a grid or a list — got neither/],
  [{ grid: { seed: [1] }, list: [{}] }, /expected a grid or a list — got both/],
  [{ grid: {} }, /"grid" must be an object of settings with lists of values, such as .* — got \{\}/],
  [{ grid: { seed: [] } }, /"grid\.seed" must be a list of at least one value — got \[\]/],
  [{ grid: { seed: 1 } }, /"grid\.seed" must be a list of values — got 1/],
  [{ grid: [] }, /"grid" must be an object — got \[\]/],
  [{ list: [] }, /"list" must be a list of at least one object of settings — got \[\]/],
  [{ list: [1] }, /"list\[0\]" must be an object — got 1/],
  [{ gird: { seed: [1] } }, /unknown key 'gird'. Did you mean 'grid'/],
  [{ method: 'mt', grid: { seed: [1] } }, /unknown key 'method'. Expected protocol, base.*settings go into base/],
  [{ grid: { seeds: [1] } }, /grid — config: unknown setting 'seeds'. Did you mean 'seed'/],
  [{ base: { itterations: 1 }, grid: { seed: [1] } }, /base — .*'itterations'. Did you mean 'iterations'/],
  [{ list: [{ seed: 1 }, { lrr: 1 }] }, /list, entry 2 — .*'lrr'. Did you mean 'lr'/],
  [{ base: 3, grid: { seed: [1] } }, /"base" must be an object — got 3/],
  [{ data: 3, grid: { seed: [1] } }, /"data" must be a text — got 3/],
  [{ protocol: 'acdcc', grid: { seed: [1] } }, /Did you mean 'acdc'/],
  [{ grid: { lr: [0.1, 'fast'] } }, /run 2 of 2 .*lr must be a number/],
  [{ grid: { size: [16, 100] } }, /run 2 of 2 .*multiples of 16/],
  [{ grid: { seed: [1, 2, 1] } }, /runs 1 and 3 are both 'seed-1'/],
  [{ base: { labeledBatch: 2, 'labeled-batch': 3 }, grid: { seed: [1] } }, /labeledBatch twice/],
] as [unknown, RegExp][]) {
  test(`${JSON.stringify(content)} is refused`, () => refuses(() => readSweep(fileWith(content)), UsageError, message));
}

test('shards are disjoint and complete', async () => {
  for (const [runs, n] of [
    [12, 1],
    [12, 5],
    [3, 7],
  ] as const) {
    const all = Array.from({ length: runs }, (_, i) => i);
    const shards = Array.from({ length: n }, (_, i) => shardOf(all, `${i}/${n}`));
    assert.equal(
      shards.flat().sort((a, b) => a - b),
      all,
    );
    const sizes = shards.map((shard) => shard.length);
    assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1, `${sizes}`);
  }
  assert.equal(shardOf([1, 2], undefined), [1, 2]);
  for (const bad of ['2/2', '1', 'a/b', '0/0', '-1/2', '1/2/3', '']) {
    await refuses(() => shardOf([1, 2], bad), UsageError, /--shard must be i\/n with i from 0/);
  }
});

const result = (
  group: string,
  seed: number,
  scores: SweepResult['scores'],
  more: Partial<SweepResult> = {},
): SweepResult => ({
  ...{ name: `${group}_seed-${seed}`, group, seed, state: 'finished', iteration: 6, scores },
  ...more,
});

test('the table: mean and sample standard deviation over seeds, the best of each column', () => {
  const results = [
    result('mt', 1, { Dice: 0.5, HD95: 10 }),
    result('mt', 2, { Dice: 0.7, HD95: 14 }),
    result('mt', 3, { Dice: 0.9 }, { state: 'started' }), // a validation so far does not count
    result('lccs', 1, { Dice: 0.8, HD95: 20 }),
    result('supervised', 1, {}, { state: 'failed' }),
  ];
  const rows = sweepRows(results);
  assert.equal(
    rows.map(({ name, finished, planned, best }) => [name, finished, planned, best]),
    [
      ['mt', 2, 3, ['HD95']],
      ['lccs', 1, 1, ['Dice']],
      ['supervised', 0, 1, []],
    ],
  );
  assert.ok(Math.abs(rows[0]!.mean.Dice! - 0.6) < 1e-12);
  assert.ok(Math.abs(rows[0]!.std.Dice! - Math.sqrt(0.02)) < 1e-12);
  assert.is(rows[1]!.std.Dice, undefined);
  const [head, mt, lccs, supervised] = sweepTable(rows).split('\n');
  assert.match(head!, /runs +Dice +Jaccard +HD95 mm +ASD mm/);
  assert.match(mt!, /^mt +2\/3 +0\.6000 ± 0\.1414 +– +12\.00 ± 2\.83\* +–/);
  assert.match(lccs!, /^lccs +1\/1 +0\.8000\* +– +20\.00 +–/);
  assert.match(supervised!, /^supervised +0\/1 +–/);
  const lines = sweepCsv(results).trim().split('\n');
  assert.is(lines[0], 'run,group,seed,state,iteration,Dice,Jaccard,HD95,ASD');
  assert.is(lines[1], 'mt_seed-1,mt,1,finished,6,0.5,,10,');
  assert.is(lines.length, 6);
});

test('the ablations that come along are sweeps', () => {
  const bench = fileURLToPath(new URL('../../../bench/', import.meta.url));
  const methods = readSweep(join(bench, 'ablation-acdc.json')).runs.map(({ group }) => group);
  assert.equal([...new Set(methods)], ['supervised', 'mt', 'uamt', 'lccs-consistency', 'lccs-separation', 'lccs']);
  const { runs } = readSweep(join(bench, 'ablation-lccs-acdc.json'));
  assert.ok(
    runs.every(({ config }) => config.method === 'lccs' && config.iterations === 30_000 && config.labeled === 7),
  );
});

test('rows that are all alike have no star', () => {
  const rows = sweepRows([result('a', 1, { Dice: 0 }), result('b', 1, { Dice: 0 })]);
  assert.not.match(sweepTable(rows), /\*/);
});

test("a folder with another run's settings is refused", async () => {
  const { runs } = readSweep(fileWith({ base: { lr: 0.2 }, grid: { seed: [7] } }));
  const out = join(folder, 'others');
  mkdirSync(join(out, 'seed-7'), { recursive: true });
  const config = join(out, 'seed-7', 'config.json');
  writeFileSync(config, JSON.stringify(resolveConfig({ lr: 0.1, seed: 7 })));
  await refuses(() => standingOf(runs[0]!, out), UsageError, /holds a run with another lr — got 0\.1, expected 0\.2/);
  writeFileSync(config, JSON.stringify({ lr: 0.2, seed: 7 })); // of a version with fewer settings: the others are defaults
  assert.equal(standingOf(runs[0]!, out), { state: 'waiting', iteration: 0 });
  writeFileSync(join(out, 'seed-7', 'lock.json'), '{}'); // killed before it saved, or alive: wgrad train --resume decides
  assert.equal(standingOf(runs[0]!, out), { state: 'started', iteration: 0 });
});

const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
const data = join(folder, 'data');
writePhantoms(data, { patients: 6, size: 32 });
/** Long enough to be interrupted. Both sweeps below train it; the bits of the first are what the second must repeat. */
const base = {
  ...{ method: 'supervised', labeled: 1, size: 16, features: [4, 8], dropout: [0.1, 0], batch: 4, lr: 0.05 },
  ...{ iterations: 40, evalEvery: 40, saveEvery: 2 },
};

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}
const sweep = (...args: string[]): Promise<Ended> =>
  new Promise((resolve) => {
    const child = execFile(process.execPath, [cli, 'sweep', ...args], { timeout: patience }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });

const until = async (what: string, holds: () => boolean): Promise<void> => {
  const deadline = Date.now() + patience;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`${what} did not happen.`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
const ended = (child: ChildProcess): Promise<number | null> => new Promise((resolve) => child.on('exit', resolve));
const undisturbed = join(folder, 'undisturbed');
const state = (run: string): Buffer => readFileSync(join(run, 'state', 'last.safetensors'));

test('a failing run does not stop the others; shards share a folder; the rest is skipped', async () => {
  const file = fileWith({ base, list: [{ seed: 2 }, { lr: 1e30, iterations: 12 }, { seed: 3 }] });
  const out = undisturbed;
  const dry = await sweep(file, '--out', out, '--dry-run', '--json');
  assert.is(dry.code, 0, dry.stderr);
  assert.equal(
    (JSON.parse(dry.stdout) as { name: string; state: string }[]).map(({ name, state: is }) => [name, is]),
    [
      ['seed-2', 'waiting'],
      ['lr-1e+30_iterations-12', 'waiting'],
      ['seed-3', 'waiting'],
    ],
  );
  assert.not.ok(existsSync(out), 'a dry run writes nothing');

  const first = await sweep(file, '--data', data, '--out', out, '--shard', '1/2');
  assert.is(first.code, 1, first.stderr);
  assert.match(first.stderr, /\[1\/1\] lr-1e\+30_iterations-12: failed with exit code 1 — .*the loss is/);
  assert.match(first.stdout, /base +0\/2 +–/);
  const second = await sweep(file, '--data', data, '--out', out, '--shard', '0/2', '--jobs', '2', '--json');
  assert.is(second.code, 0, second.stderr);
  const { runs } = JSON.parse(second.stdout) as { runs: SweepResult[] };
  assert.equal(
    runs.map(({ name, state: is }) => [name, is]),
    [
      ['seed-2', 'finished'],
      ['lr-1e+30_iterations-12', 'started'],
      ['seed-3', 'finished'],
    ],
  );
  assert.ok(typeof runs[0]!.scores.Dice === 'number');
  assert.equal(JSON.parse(readFileSync(join(out, 'sweep.json'), 'utf8')), JSON.parse(second.stdout));
  assert.is(readFileSync(join(out, 'sweep.csv'), 'utf8').trim().split('\n').length, 4);

  const before = state(join(out, 'seed-2'));
  const again = await sweep(file, '--data', data, '--out', out);
  assert.is(again.code, 1);
  assert.match(again.stderr, /seed-2: already finished/);
  assert.match(again.stderr, /seed-3: already finished/);
  assert.ok(before.equals(state(join(out, 'seed-2'))));
});

test('interrupted, then a training killed, then finished: the bits of a sweep that nobody disturbed', async () => {
  const file = fileWith({ base, grid: { seed: [2, 3] } });
  const out = join(folder, 'disturbed');
  const begin = () => {
    const child = spawn(process.execPath, [cli, 'sweep', file, '--data', data, '--out', out], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk) => (said += chunk));
    return { child, exit: ended(child), said: () => said };
  };
  const logged = (run: string) => readLog(join(out, run, 'log.jsonl')).length;

  const first = begin();
  await until('seed-2', () => logged('seed-2') > 3);
  first.child.kill('SIGINT');
  assert.is(await first.exit, 130, first.said());
  assert.match(first.said(), /seed-2: interrupted and saved/);
  assert.not.ok(existsSync(join(out, 'seed-3')), 'no other one is started');
  const { runs } = readSweep(file);
  const { state: is, iteration } = standingOf(runs[0]!, out);
  assert.is(is, 'started');
  assert.ok(iteration > 0 && iteration < 40, `saved at ${iteration}`);

  const second = begin();
  await until('seed-2 again', () => logged('seed-2') > iteration + 3);
  assert.match(second.said(), new RegExp(`seed-2: continues at ${iteration} of 40`));
  second.child.kill('SIGINT');
  second.child.kill('SIGTERM'); // the second signal ends everything at once
  assert.is(await second.exit, 130, second.said());
  assert.match(second.said(), /seed-2: stopped at once/);

  const third = await sweep(file, '--data', data, '--out', out, '--shard', '0/2');
  assert.is(third.code, 0, third.stderr);
  assert.match(third.stdout, /base +1\/2/);
  assert.ok(state(join(out, 'seed-2')).equals(state(join(undisturbed, 'seed-2'))));
});

for (const [what, args, message] of [
  ['no file', [], /FILE\.json is missing/],
  ['no data', [fileWith({ grid: { seed: [1] } })], /--data is required/],
  [
    'a shard that is none',
    [fileWith({ grid: { seed: [1] } }), '--data', data, '--shard', '1/1'],
    /--shard must be i\/n/,
  ],
  [
    'no jobs',
    [fileWith({ grid: { seed: [1] } }), '--data', data, '--jobs', '0'],
    /--jobs must be a whole number of at least 1/,
  ],
  ['an unknown flag', ['x.json', '--shards', '0/2'], /Did you mean --shard/],
  ['a file that is not there', ['/nowhere/x.json', '--data', data], /cannot read/],
] as [string, string[], RegExp][]) {
  test(`${what}: exit 2 and a line that says so`, async () => {
    const { code, stderr } = await sweep(...args);
    assert.is(code, 2, stderr);
    assert.match(stderr, message);
    assert.not.match(stderr, /\n {4}at /);
  });
}

test.run();
