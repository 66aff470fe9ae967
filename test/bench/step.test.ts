// A tiny real run of `wgrad bench step` as a process: its JSON, and wrong usage of all benchmarks.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { command as kernels } from '../../bench/kernels.js';
import { command as peers } from '../../bench/peers.js';
import { kernelShares, type StepFigures, command as step } from '../../bench/step.js';
import { patience } from '../patience.js';

const test = suite('bench step');
const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
const bench = (...args: string[]) =>
  spawnSync(process.execPath, [cli, 'bench', ...args], { encoding: 'utf8', timeout: patience });

test('launches, bytes and times are summed by kernel, most bytes first', () => {
  const launch = (label: string, bytes: number, ms: number) => ({ label, bytes, ms, shapes: '' });
  assert.equal(kernelShares([launch('a', 10, 1), launch('b', 100, 2), launch('a', 30, 4)]), [
    { kernel: 'b', launches: 1, bytes: 100, ms: 2 },
    { kernel: 'a', launches: 2, bytes: 40, ms: 5 },
  ]);
});

test('one JSON document with the figures of the step, and launches and bytes by kernel', () => {
  const small = ['--size', '8', '--features', '4,8', '--batch', '2', '--repeats', '1'];
  const { status, stdout, stderr } = bench('step', ...small, '--json');
  assert.is(status, 0, stderr);
  const figures = JSON.parse(stdout) as StepFigures;
  const { launches, kernels, movedBytes, plannedBytes, externalBytes, peakBytes } = figures;
  assert.ok(kernels && movedBytes, stdout);
  assert.is(
    kernels.reduce((sum, kernel) => sum + kernel.launches, 0),
    launches,
  );
  assert.is(
    kernels.reduce((sum, { bytes }) => sum + bytes, 0),
    movedBytes,
  );
  assert.is(peakBytes, plannedBytes + externalBytes);
  assert.is(figures.allocatedLater, 0);
  for (const time of [figures.stepMs, figures.encodeMs, figures.firstStepMs, figures.compileMs]) assert.ok(time > 0);
  assert.ok(figures.firstStepMs > figures.compileMs);
});

const refused: [string[], RegExp][] = [
  [['kernel'], /unknown benchmark 'kernel'. Did you mean kernels\?/],
  [[], /name what to measure/],
  [['step', '--repeat', '3'], /unknown flag --repeat. Did you mean --repeats\?/],
  [['step', '--features', '8'], /at least two levels/],
  [['kernels', '--size', '30', '--features', '4,8,16'], /multiples of 4/],
  [['peers', '--shapes', '16x16'], /INPUTS-OUTPUTS@SIDE/],
  [['peers', '--shapes', '16-16@8k2'], /odd kernel/],
  [['peers', '--peers', 'torch'], /unknown peer 'torch'/],
  [['peers', '--work', 'all of it'], /must be one of conv, step, transformer, all — got 'all of it'/],
  [['peers', '--work', 'step', '--method', 'supervised'], /has no teacher/],
  [['peers', '--work', 'step', '--patch', '8,8,8'], /--patch is of the V-Net's step/],
  [['peers', '--network', 'vnet', '--size', '16'], /--size is of the UNet's step/],
  [['peers', '--network', 'vnet', '--work', 'step', '--peers', 'jax-js'], /in tfjs only/],
  [['peers', '--network', 'vnet', '--export', 'x'], /--export is for the UNet/],
];

for (const [args, says] of refused) {
  test(`wrong usage: bench ${args.join(' ')}`, () => {
    const { status, stdout, stderr } = bench(...args);
    assert.is(status, 2, stderr);
    assert.is(stdout, '');
    assert.match(stderr, says);
    assert.is(stderr.trim().split('\n').length, 1, stderr);
  });
}

test('--help holds the help of every benchmark', () => {
  const { status, stdout } = bench('--help');
  assert.is(status, 0);
  for (const { help } of [kernels, step, peers]) assert.ok(stdout.includes(help), help.slice(0, 40));
});

test.run();
