// Paper against a card: what is expected of each kernel, which saved result is taken, and what does not fit together is said.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { SavedMeasurement } from '../../bench/history.js';
import { calibrate, calibrationText, paperFor } from '../../bench/paper/calibration.js';
import type { PaperKernel, PaperReport } from '../../bench/paper/compile.js';
import type { StepFigures } from '../../bench/step.js';
import { UsageError } from '../../train/files/usage-error.js';

const test = suite('calibration');

const onPaper = (kernel: string, launches: number, ms: number, flops = 0) =>
  ({ kernel, launches, ms, flops }) as unknown as PaperKernel;
const paper = {
  card: 'C',
  kernels: [
    onPaper('conv', 1, 2, 1e9),
    onPaper('conv', 1, 1, 1e9),
    onPaper('conv_b', 1, 1, 1e9),
    onPaper('pool', 4, 2),
    onPaper('gone', 1, 1),
  ],
} as unknown as PaperReport;
const step = (kernels: [string, number, number][], config: Record<string, unknown> = {}): StepFigures =>
  ({
    ...{ adapter: 'a card', launches: 9, config },
    kernels: kernels.map(([kernel, launches, ms]) => ({ kernel, launches, ms, bytes: 0 })),
  }) as unknown as StepFigures;

test('expected is the estimate times the factor of its kind, and what launches cost', () => {
  const found = calibrate(
    paper,
    step([
      ['conv', 2, 8],
      ['conv_b', 1, 1],
      ['pool', 2, 6],
      ['new', 8, 4],
    ]),
  );
  assert.is(found.launchMs, 0.5); // that of `new`
  assert.equal(found.factors, { convolutions: (7 + 0.5) / 4, others: 5 / 2 });
  assert.equal(
    found.kernels.map(({ kernel, launches, expectedMs }) => [kernel, ...launches, expectedMs]),
    [
      ['conv', 2, 2, 1.875 * 3 + 1],
      ['pool', 4, 2, 2.5 * 2 + 1],
      ['conv_b', 1, 1, 1.875 + 0.5],
    ],
  );
  assert.is(found.kernels[1]!.ratio, 1); // the only one of its kind that both know
  assert.equal([found.paperMs, found.measuredMs], [7, 19]);
  assert.equal([found.onlyPaper, found.onlyMeasured], [['gone'], ['new']]);
  const text = calibrationText(found);
  assert.match(text, /^conv +2 +2 +3\.00 +6\.6\d +8\.00 +1\.2\d$/m);
  assert.match(text, /factor, convolutions 1\.88, others 2\.50, and 500\.0 µs a launch/);
  assert.match(text, /^only on paper: gone$/m);
  assert.match(text, /^only measured: new$/m);
});

test('the newest saved result about the same step on that GPU is taken', () => {
  const saved = (name: string, adapter: string, settings: Record<string, unknown>): SavedMeasurement =>
    ({
      bench: 'paper',
      adapter,
      settings: { fuse: true, tune: true, ...settings },
      report: name,
    }) as unknown as SavedMeasurement;
  const all = [
    saved('old', 'navi31', { batch: 4, features: [4, 8], dropout: [0, 0] }),
    saved('new', 'navi31', { batch: 4, features: [4, 8], dropout: [0, 0] }),
    saved('matrix', 'navi31', { batch: 4, features: [4, 8], dropout: [0, 0], matrix: true }),
    saved('part', 'navi31', { batch: 4, features: [4, 8], dropout: [0, 0], only: 'conv' }),
    saved('half', 'navi31', { batch: 4, features: [4, 8], dropout: [0, 0], precision: 'f16' }),
    saved('nvk', 'nvk-172', { batch: 4, features: [4, 8], dropout: [0, 0] }),
  ];
  // What does not change the kernels does not matter: the seed.
  const measured = step([], { batch: 4, features: '4,8', dropout: '0,0', seed: 7 });
  const name = (gpu: string, matrix: boolean): unknown => paperFor(measured, gpu, matrix, all);
  assert.equal([name('navi31', false), name('navi31', true), name('nvk-172', false)], ['new', 'matrix', 'nvk']);
  assert.throws(
    () => paperFor(step([], { batch: 8 }), 'navi31', false, all),
    (error: Error) =>
      error instanceof UsageError && /no saved result for navi31 .*batch 8.* --save/.test(error.message),
  );
});

test('a step without times by kernel is refused', () => {
  const { kernels: _, ...without } = step([]);
  assert.throws(() => calibrate(paper, without as StepFigures), /no times by kernel — its adapter had no timestamps/);
});

test.run();
