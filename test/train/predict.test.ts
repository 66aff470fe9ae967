// wgrad predict with a trained network: whole folders, what cannot be read, and copies that lie in other ways.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { resolveConfig } from '../../train/config.js';
import { readNifti, writeNifti } from '../../train/data/nifti.js';
import { type AxisOrder, inPictureOrder, toFile, toPicture } from '../../train/data/orientation.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { train } from '../../train/training.js';
import { testGpu } from '../gpu.js';
import { patience } from '../patience.js';

const test = suite('predict');
const root = mkdtempSync(join(tmpdir(), 'wgrad-predict-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
const data = join(root, 'phantoms');
writePhantoms(data, { patients: 3, size: 24, seed: 6 });
const run = join(root, 'run');
const config = resolveConfig({
  ...{ method: 'supervised', labeled: 1, iterations: 80, size: 16, features: [4, 8], dropout: [0, 0], batch: 4 },
  ...{ lr: 0.2, evalEvery: 80, orient: 'canonical' },
});
await train({ gpu: await testGpu(), config, data, out: run });

const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
const wgrad = (...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    const child = execFile(process.execPath, [cli, ...args], { timeout: patience }, (_, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });

test('copies that lie in other ways: each prediction is the first one, turned as its copy is', async () => {
  const source = readNifti(join(data, 'patient001', 'patient001_frame01.nii.gz'));
  const orders: AxisOrder[] = [
    { axes: [0, 1, 2], flipped: [false, false, false] },
    { axes: [0, 1, 2], flipped: [true, true, false] },
    { axes: [1, 0, 2], flipped: [false, true, true] },
    { axes: [2, 0, 1], flipped: [false, false, true] },
    { axes: [2, 1, 0], flipped: [true, true, true] },
  ];
  const copies = join(root, 'copies');
  mkdirSync(copies);
  const shapes = orders.map((order, i) => {
    const shape = [0, 0, 0];
    const affine = [...source.affine];
    for (const [k, axis] of order.axes.entries()) {
      shape[axis] = source.shape[k]!;
      for (const row of [0, 4, 8]) {
        affine[row + axis] = source.affine[row + k]! * (order.flipped[k] ? -1 : 1);
        if (order.flipped[k]) affine[row + 3]! += source.affine[row + k]! * (source.shape[k]! - 1);
      }
    }
    const spacing = [0, 1, 2].map((axis) => source.spacing[order.axes.indexOf(axis as 0 | 1 | 2)]!);
    const path = join(copies, `copy${i}_0000.nii.gz`);
    writeNifti(path, { data: toFile(source.data, shape, order), shape, affine, spacing, dtype: 'int16' });
    writeNifti(join(copies, `copy${i}_gt.nii.gz`), { data: [0], shape: [1, 1, 1], dtype: 'uint8' }); // left out
    return shape;
  });
  const out = join(root, 'turned');
  const { code, stdout, stderr } = await wgrad('predict', '--run', run, '--out', out, copies);
  assert.is(code, 0, stderr);
  assert.equal(
    stdout.trim().split('\n'),
    orders.map((_, i) => join(out, `copy${i}.nii.gz`)),
  );
  const labels = orders.map((_, i) => readNifti(join(out, `copy${i}.nii.gz`)));
  const [first] = labels;
  assert.ok(new Set(first!.data).size > 1, 'the network says one class everywhere: nothing is tested');
  for (const [i, order] of orders.entries()) {
    assert.equal(labels[i]!.shape, shapes[i]);
    assert.equal(inPictureOrder(labels[i]!.shape, order), source.shape);
    assert.equal(toPicture(labels[i]!.data, shapes[i]!, order), first!.data, `copy ${i}`);
  }
});

test('one volume that cannot be read does not keep the others from being predicted', async () => {
  const inputs = join(root, 'inputs');
  mkdirSync(inputs);
  const { data: values, shape } = readNifti(join(data, 'patient002', 'patient002_frame01.nii.gz'));
  for (const name of ['a.nii', 'c.nii.gz']) writeNifti(join(inputs, name), { data: values, shape, dtype: 'int16' });
  writeFileSync(join(inputs, 'b.nii'), 'no volume');
  const out = join(root, 'some');
  const { code, stderr } = await wgrad('predict', '--run', run, '--out', out, inputs, join(inputs, 'd.nii'));
  assert.is(code, 1);
  assert.match(stderr, /b\.nii: this is not a NIfTI file/);
  assert.match(stderr, /cannot read .*d\.nii — there is no such file/);
  assert.match(stderr, /predict: 2 of 4 volumes were not predicted\.\n$/);
  assert.equal(readdirSync(out).sort(), ['a.nii.gz', 'c.nii.gz']);
});

test('an empty folder, and two inputs for one output, are wrong usage', async () => {
  const empty = join(root, 'empty');
  mkdirSync(empty);
  const none = await wgrad('predict', '--run', run, '--out', join(root, 'none'), empty);
  assert.is(none.code, 2);
  assert.match(none.stderr, /empty holds no \.nii or \.nii\.gz volume/);
  const twice = await wgrad('predict', '--run', run, '--out', join(root, 'none'), 'x/a.nii', 'y/a_0000.nii.gz');
  assert.is(twice.code, 2);
  assert.match(twice.stderr, /two inputs would both become .*a\.nii\.gz/);
  assert.not.ok(existsSync(join(root, 'none')));
});

test.run();
