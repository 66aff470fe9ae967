// A tiny real run of `wgrad bench kernels`, and that its cases are those of the network.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type KernelSizes, kernelCases, unetConvolutions } from '../../bench/kernel-cases.js';
import { kernelsTable, measureKernels } from '../../bench/kernels.js';
import { unet } from '../../model/index.js';
import { UsageError } from '../../train/files/usage-error.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('bench kernels');
const sizes: KernelSizes = { size: 8, features: [4, 8], batch: 2, classes: 3 };

test('the convolutions are exactly those that the network has', async () => {
  const gpu = await testGpu();
  const three: KernelSizes = { ...sizes, features: [4, 8, 12] };
  const model = unet(gpu, { inChannels: 1, classes: 3, features: three.features });
  const weights = [...model.state.values()].filter((t) => t.shape.length === 4).map((t) => t.shape.join());
  const ours = unetConvolutions(three).map(({ inputs, outputs, k }) => [outputs, k, k, inputs].join());
  assert.equal([...new Set(ours)].sort(), [...new Set(weights)].sort());
});

test('every case runs alone, and its launches bind what it says must move', async () => {
  const gpu = await testGpu();
  const cases = kernelCases(gpu, sizes);
  const wanted = ['conv 3×3', 'conv 1×1', 'batch norm', 'leaky relu', 'dropout', 'max pool', 'upsample', 'concat'];
  for (const name of [...wanted, 'cross entropy', 'dice', 'consistency', 'prototype', 'sgd', 'ema']) {
    assert.ok(
      cases.some((one) => one.name.startsWith(name) || one.name.includes(name)),
      name,
    );
  }
  assert.is(new Set(cases.map(({ name }) => name)).size, cases.length, 'names repeat');
  for (const { name, bytes, prepare } of cases) {
    const step = prepare(gpu);
    await step.prepare();
    const launches = await step.profile();
    const inPlace = /^(sgd|ema)/.test(name) ? 2 : 1; // what is bound once is read and written
    const bound = inPlace * launches.reduce((sum, launch) => sum + launch.bytes, 0);
    assert.ok(bound >= bytes, `${name}: launches bind ${bound} bytes, and ${bytes} must move`);
  }
});

test('a tiny run has a row for each kernel: times, rates, the share and what bounds it', async () => {
  const gpu = await testGpu();
  const seen: string[] = [];
  const report = await measureKernels(gpu, sizes, { repeats: 1, only: 'leaky relu [', copyBytes: 2 ** 16 }, (row) =>
    seen.push(row.kernel),
  );
  assert.equal(Object.keys(report).sort(), ['adapter', 'results', 'roofline', 'sizes']);
  assert.ok(report.roofline.gigabytesPerSecond > 0 && report.roofline.gflops > 0);
  assert.equal(seen, ['leaky relu [2,8,8,4], forward', 'leaky relu [2,8,8,4], backward']);
  const [forward, backward] = report.results;
  assert.is(forward!.bytes, 2 * 4 * 2 * 8 * 8 * 4);
  assert.is(backward!.bytes, 3 * 4 * 2 * 8 * 8 * 4);
  for (const row of report.results) {
    assert.equal(Object.keys(row).sort(), [
      'bound',
      'bytes',
      'flops',
      'gflops',
      'gigabytesPerSecond',
      'kernel',
      'launches',
      'ms',
      'rooflineMs',
      'share',
    ]);
    assert.ok(row.ms > 0 && Math.abs(row.share - row.rooflineMs / row.ms) < 1e-9, JSON.stringify(row));
  }
  assert.match(kernelsTable(report), /^leaky relu \[2,8,8,4\], forward +1 /m);
});

test('a name that no kernel has is wrong usage', async () => {
  const gpu = await testGpu();
  await refuses(
    () => measureKernels(gpu, sizes, { repeats: 1, only: 'no such thing' }),
    UsageError,
    /no kernel's name/,
  );
});

test.run();
