// `wgrad bench --tune`: what it finds in a step, what it prints, and what it leaves in the cache.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { jobsOfStep, report, tunedSource, withCandidates } from '../../bench/tune.js';
import { openDevice } from '../../engine/node.js';
import type { Job, TuneResult } from '../../engine/tune.js';
import { testGpu } from '../gpu.js';

const test = suite('bench tune');

test("a step's choices are found without running it; each can be measured, and what it launches fits", async () => {
  const gpu = await openDevice({ adapter: 'null', quiet: true });
  try {
    const jobs = jobsOfStep(gpu, { size: 16, features: [4, 8], batch: 2, labeledBatch: 1 });
    const families = new Set(jobs.map(({ key }) => key.split(' ')[0]));
    assert.equal([...families].sort(), ['conv.forward', 'conv.inputGradient', 'conv.weightGradient']);
    assert.is(new Set(jobs.map(({ key }) => key)).size, jobs.length);
    for (const { key, candidates, reference, terms, build } of jobs) {
      assert.ok(
        candidates.length > 0 && (typeof terms === 'number' ? [terms] : Object.values(terms)).every((n) => n > 0),
        key,
      );
      const shapes = [reference, ...candidates].map((candidate) => {
        const { launches, checks = [], outputs } = build(candidate);
        const tensors = new Map(
          [...launches, ...checks].flatMap(({ args }) =>
            Object.entries(args).map(([name, t]) => [t.name ?? name, t.shape]),
          ),
        );
        for (const output of outputs) assert.ok(tensors.has(output), `${key}: no launch binds '${output}'`);
        return JSON.stringify(outputs.map((output) => [output, tensors.get(output)]));
      });
      assert.is(new Set(shapes).size, 1, `${key}: candidates disagree on the outputs' shapes`);
    }
  } finally {
    gpu.close();
  }
});

const adapter = {
  vendor: 'v',
  architecture: 'a',
  device: 'd',
  description: 'driver 1.0',
  driver: 'D',
  software: false,
};

test('the table says what won, by how much, and what was excluded', () => {
  const [first, second, third] = [{ tile: { rows: 1 } }, { tile: { rows: 2 } }, { tile: { rows: 3 } }];
  const result = (over: Partial<TuneResult>): TuneResult => ({
    key: 'conv a',
    tuning: { choice: second, ms: 1.5, defaultMs: 2, hash: '0' },
    problem: undefined,
    candidates: [
      { candidate: first, ms: 2, excluded: undefined, hopeless: false },
      { candidate: second, ms: 1.5, excluded: undefined, hopeless: false },
      { candidate: third, ms: undefined, excluded: 'does not compile: line 3: no', hopeless: false },
    ],
    seconds: 1,
    ...over,
  });
  const lines = report([
    result({}),
    result({
      key: 'conv b',
      tuning: { choice: first, ms: 2, defaultMs: 2, hash: '0' },
      candidates: result({}).candidates.slice(0, 2),
    }),
    result({ key: 'conv c', tuning: undefined, problem: 'the reference fails', candidates: [] }),
  ]).split('\n');
  assert.match(lines[1]!, /^conv a +2\.000 +1\.500 +25\.0 % +3 \(1\) +tile rows 2$/);
  assert.match(lines[2]!, /^conv b +2\.000 +2\.000 +0\.0 % +2 \(0\) +the default$/);
  assert.match(lines[3]!, /^conv c +– +– +– +0 \(0\) +the default, unmeasured$/);
  assert.equal(lines.slice(4), [
    'conv a: tile rows 3 does not compile: line 3: no',
    'conv c: not measured, the reference fails',
  ]);
});

test('--candidates keeps the default and those whose printed form contains the text', () => {
  const candidates = [
    { kernel: 'tiled', tile: { rows: 1 } },
    { kernel: 'direct', tile: { rows: 1 } },
    { kernel: 'matrix', tile: { rows: 2 } },
  ];
  const job: Job = {
    key: 'a',
    candidates,
    reference: candidates[1],
    terms: 1,
    build: () => ({ launches: [], outputs: [] }),
  };
  const [tiled, direct, matrix] = candidates;
  assert.equal(withCandidates(job, 'kernel matrix').candidates, [tiled, matrix]);
  assert.equal(withCandidates(job, 'rows 1').candidates, [tiled, direct]);
  assert.equal(withCandidates(job, 'none').candidates, [tiled]);
  assert.equal(withCandidates(job, '').candidates, candidates);
});

test('the shipped table keeps what beats the default, by key', () => {
  const text = tunedSource(adapter, {
    b: { choice: { rows: 2 }, ms: 1.23456, defaultMs: 2, hash: '1f' },
    a: { choice: { rows: 3 }, ms: 1, defaultMs: 2, hash: '2f' },
    same: { choice: { rows: 1 }, ms: 2, defaultMs: 2, hash: '3f' },
  });
  const own = text.slice(text.indexOf('{ adapter: "v · a · d"'));
  assert.match(
    own,
    /^\{ adapter: "v · a · d", choices: \{\n"a": .*\n"b": \{"choice":\{"rows":2\},"ms":1.235,"defaultMs":2,"hash":"1f"\},\n\}\},\n/,
  );
  assert.not.match(text, /"same"/);
});

test('the command measures what is left, saves it, and the next process runs it', async () => {
  const cache = mkdtempSync(join(tmpdir(), 'wgrad-tune-'));
  const { adapter } = await testGpu();
  const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
  const name = adapter.driver.toLowerCase();
  const tune = (...args: string[]): string =>
    execFileSync(
      process.execPath,
      [
        ...[cli, 'bench', '--tune', '--turns', '1', '--only', 'conv.forward f32 b2 1x16x16 1>4'],
        ...['--size', '16', '--features', '4,8', '--batch', '2', '--labeled-batch', '1', ...args],
      ],
      {
        encoding: 'utf8',
        stdio: 'pipe',
        env: {
          ...process.env,
          XDG_CACHE_HOME: cache,
          WGRAD_TUNE: '',
          ...(adapter.software && { WGRAD_ADAPTER: name }),
        },
      },
    );
  try {
    const { results } = JSON.parse(tune('--json')) as { results: TuneResult[] };
    assert.is(results.length, 1);
    const [{ key, tuning, problem, candidates }] = results as [TuneResult];
    assert.is(problem, undefined);
    assert.equal(
      candidates.flatMap(({ excluded }) => excluded ?? []),
      [],
    );
    const [file, ...others] = readdirSync(join(cache, 'wgrad')).filter((entry) => entry.startsWith('tuned-'));
    assert.equal(others, []);
    const saved = JSON.parse(readFileSync(join(cache, 'wgrad', file!), 'utf8'));
    assert.equal(saved.choices, { [key]: tuning });
    assert.equal(JSON.parse(tune('--json')).results, [], 'measured before');
    assert.is(JSON.parse(tune('--json', '--again')).results.length, 1);
    assert.match(
      tune('--print-table'),
      /^\/\/ The choices that wgrad ships[\s\S]*export const tuned: readonly TunedTable\[\] = \[/,
    );
  } finally {
    rmSync(cache, { recursive: true, force: true });
  }
});

test.run();
