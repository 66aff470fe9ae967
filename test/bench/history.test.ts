// Kept measurements on made-up files: only like is compared with like, the newest counts, slower rows are named.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  compareMeasurements,
  compareSaved,
  comparisonText,
  newestAlike,
  readMeasurements,
  type SavedMeasurement,
  saveMeasurement,
} from '../../bench/history.js';

const test = suite('bench history');

function made(change: Partial<SavedMeasurement> = {}): SavedMeasurement {
  return {
    bench: 'step',
    adapter: 'SwiftShader',
    settings: { size: 64, features: [8, 16], rounds: undefined },
    rows: { step: 100, encoding: 2 },
    date: '2026-01-01T10:00:00.000Z',
    command: 'wgrad bench step',
    environment: {} as SavedMeasurement['environment'],
    loadAverage: { before: 0, after: 0 },
    report: {},
    ...change,
  };
}

function inFolder(work: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-bench-'));
  try {
    work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('what is saved is read back, oldest first; other files are passed over', () => {
  inFolder((folder) => {
    const later = saveMeasurement(made({ date: '2026-02-01T10:00:00.000Z' }), folder);
    saveMeasurement(made(), folder);
    writeFileSync(join(folder, 'picture.png'), '');
    writeFileSync(join(folder, 'older-kind.json'), JSON.stringify({ date: '2025', adapter: 'x', stepMs: 3 }));
    assert.ok(later.endsWith('step-swiftshader-2026-02-01T100000.json'), later);
    assert.equal(
      readMeasurements(folder).map(({ date }) => date),
      ['2026-01-01T10:00:00.000Z', '2026-02-01T10:00:00.000Z'],
    );
  });
  assert.equal(readMeasurements('/nowhere/at/all'), []);
});

test('the newest of the same benchmark, adapter and settings is found; no other', () => {
  inFolder((folder) => {
    saveMeasurement(made({ rows: { step: 1 } }), folder);
    saveMeasurement(made({ rows: { step: 2 }, date: '2026-01-02T10:00:00.000Z' }), folder);
    saveMeasurement(made({ settings: { size: 128, features: [8, 16] }, date: '2026-01-03T10:00:00.000Z' }), folder);
    saveMeasurement(made({ adapter: 'lavapipe', date: '2026-01-04T10:00:00.000Z' }), folder);
    saveMeasurement(made({ bench: 'kernels', date: '2026-01-05T10:00:00.000Z' }), folder);
    const saved = readMeasurements(folder);
    assert.is(saved.length, 5);
    assert.equal(newestAlike(made(), saved)?.rows, { step: 2 });
    assert.is(newestAlike(made({ settings: { size: 64 } }), saved), undefined);
    assert.is(newestAlike(made({ settings: { size: 64, features: [8, 32] } }), saved), undefined);
  });
});

test('old, new and ratio by row; only what is slower by more than 10 % is named', () => {
  const before = made({ rows: { same: 10, edge: 10, slow: 10, fast: 10, gone: 1 } });
  const after = made({ rows: { same: 10, edge: 10.9, slow: 11.5, fast: 5, fresh: 1 } });
  const comparison = compareMeasurements(before, after);
  assert.equal(comparison.slower, ['slow']);
  assert.equal(comparison.unmatched, ['gone', 'fresh']);
  assert.equal(comparison.rows[3], { name: 'fast', oldMs: 10, newMs: 5, ratio: 0.5 });
  const text = comparisonText(comparison);
  assert.match(text, /^since 2026-01-01T10:00 +old ms +new ms +new\/old$/m);
  assert.match(text, /^slow +10\.00 +11\.50 +1\.15$/m);
  assert.match(text, /^slower by more than 10 %: slow$/m);
  assert.match(text, /^only in one of the two: gone; fresh$/m);
  assert.match(comparisonText(compareMeasurements(before, before)), /nothing is slower/);
});

test('without a benchmark, the newest of each is compared with the one before it', () => {
  inFolder((folder) => {
    assert.match(compareSaved(folder), /no two measurements/);
    saveMeasurement(made({ rows: { step: 100 } }), folder);
    assert.match(compareSaved(folder), /no two measurements/);
    saveMeasurement(made({ rows: { step: 200 }, date: '2026-01-02T10:00:00.000Z' }), folder);
    saveMeasurement(made({ rows: { step: 150 }, date: '2026-01-03T10:00:00.000Z' }), folder);
    saveMeasurement(made({ bench: 'kernels', rows: { conv: 1 } }), folder);
    const text = compareSaved(folder);
    assert.match(text, /^step, SwiftShader$/m);
    assert.match(text, /^step +200\.00 +150\.00 +0\.75$/m);
    assert.not.match(text, /kernels/);
  });
});

test.run();
