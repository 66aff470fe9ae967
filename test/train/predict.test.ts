// wgrad predict with a trained network: whole folders, what cannot be read, and copies that lie in other ways.
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run as predict } from '../../train/commands/predict.js';
import { loadHdf5, writeHdf5 } from '../../train/data/hdf5.js';
import { readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { type AxisOrder, inPictureOrder, toFile, toPicture } from '../../train/data/orientation.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { UsageError } from '../../train/files/usage-error.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { train } from '../../train/training/training.js';
import { testGpu } from '../gpu.js';
import { patience } from '../patience.js';
import { refuses } from '../refuses.js';

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

test('HDF5: z first, or x first as UA-MT has it; which of them is said', async () => {
  const source = readNifti(join(data, 'patient001', 'patient001_frame01.nii.gz'));
  const [width, height, depth] = source.shape as [number, number, number];
  const folder = join(root, 'hdf5');
  mkdirSync(folder);
  const values = Float32Array.from(source.data);
  const turned = toPicture(values, [width, height, depth], { axes: [2, 1, 0], flipped: [false, false, false] });
  await loadHdf5();
  writeHdf5(join(folder, 'ours.h5'), { image: { shape: [depth, height, width], data: values } });
  writeHdf5(join(folder, 'mri_norm2.h5'), { image: { shape: [width, height, depth], data: turned } });
  const files = ['ours.h5', 'mri_norm2.h5'].map((name) => join(folder, name));
  const { code, stdout, stderr } = await wgrad('predict', '--run', run, '--out', join(root, 'of-hdf5'), ...files);
  assert.is(code, 0, stderr);
  assert.match(stderr, /ours\.h5 is read with z first; .*only one named mri_norm2\.h5 is read with x first/);
  const [ours, theirs] = stdout
    .trim()
    .split('\n')
    .map((path) => readNifti(path));
  assert.equal(ours!.shape, [width, height, depth]);
  assert.ok(new Set(ours!.data).size > 1, 'the network says one class everywhere: nothing is tested');
  assert.equal(theirs!.data, ours!.data);
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

// Three cases whose images all have one name, as LA's, split by a list.
const la = join(root, 'la');
const patients = ['patient001', 'patient002', 'patient003'];
for (const patient of patients) {
  mkdirSync(join(la, patient), { recursive: true });
  copyFileSync(join(data, patient, `${patient}_frame01.nii.gz`), join(la, patient, 'image.nii.gz'));
  writeFileSync(join(la, patient, 'label.nii.gz'), 'no label is read');
}
writeFileSync(
  join(la, 'splits.json'),
  JSON.stringify({ train: ['patient003'], val: ['patient001'], test: ['patient002'] }),
);
const alike = join(root, 'alike');

test('--data: every case of a part by its name, whatever lies in its label; probabilities sum to 1 and say the label', async () => {
  const { code, stdout, stderr } = await wgrad(
    ...['predict', '--run', run, '--out', alike, '--data', la, '--split', 'all', '--save-probabilities'],
  );
  assert.is(code, 0, stderr);
  assert.equal(
    stdout.trim().split('\n'),
    patients.map((patient) => join(alike, `${patient}.nii.gz`)),
  );
  for (const patient of patients) {
    const image = readNifti(join(la, patient, 'image.nii.gz'));
    const labels = readNifti(join(alike, `${patient}.nii.gz`));
    const probabilities = readNifti(join(alike, `${patient}_probabilities.nii.gz`));
    const { classes } = config;
    assert.equal(labels.shape, image.shape);
    assert.equal(probabilities.shape, [...image.shape, classes]);
    assert.is(probabilities.dtype, 'float32');
    assert.equal(probabilities.affine, image.affine);
    const voxels = image.data.length;
    for (let i = 0; i < voxels; i++) {
      const ofClass = Array.from({ length: classes }, (_, k) => probabilities.data[k * voxels + i]!);
      const sum = ofClass.reduce((total, p) => total + p, 0);
      assert.ok(Math.abs(sum - 1) < 1e-5, `${patient}, voxel ${i}: ${sum}`);
      assert.is(ofClass.indexOf(Math.max(...ofClass)), labels.data[i], `${patient}, voxel ${i}`);
    }
  }
  const part = join(root, 'part');
  const test = await wgrad(...['predict', '--run', run, '--out', part, '--data', la, '--split-of', 'data']);
  assert.is(test.code, 0, test.stderr);
  assert.equal(readdirSync(part), ['patient002.nii.gz']);
  assert.equal(
    readFileSync(join(part, 'patient002.nii.gz')),
    readFileSync(join(alike, 'patient002.nii.gz')),
    'labels do not depend on whether probabilities are saved',
  );
});

test('--continue: what is whole is skipped, what cannot be read is predicted anew, what is of others is left', async () => {
  const [first, second, third] = patients.map((patient) => join(alike, `${patient}.nii.gz`)) as [
    string,
    string,
    string,
  ];
  const before = [first, second, third].map((file) => readFileSync(file));
  const again = ['predict', '--run', run, '--out', alike, '--continue'];
  const all = [...again, '--data', la, '--split', 'all', '--save-probabilities'];
  truncateSync(first, 60);
  rmSync(join(alike, 'patient003_probabilities.nii.gz'));
  const mended = await wgrad(...all);
  assert.is(mended.code, 0, mended.stderr);
  assert.match(mended.stderr, /patient001\.nii\.gz cannot be read, and is predicted again\n/);
  assert.match(mended.stderr, /predict: 1 of 3 volumes were skipped/);
  assert.equal(mended.stdout.trim().split('\n'), [first, third]);
  assert.ok(existsSync(join(alike, 'patient003_probabilities.nii.gz')));
  assert.equal(
    [first, second, third].map((file) => readFileSync(file)),
    before,
  );

  // One name for two images of one shape; a label volume of another grid, which some other tool wrote; one of another grid of ours.
  const inputs = join(root, 'again');
  mkdirSync(inputs);
  const { data: values, shape } = readNifti(join(la, 'patient001', 'image.nii.gz'));
  const bytes = readFileSync(first);
  const other = values.map((value) => value + (value > 0 ? 1 : 0));
  writeNifti(join(inputs, 'patient001_0000.nii'), { data: other, shape, dtype: 'int16' });
  writeNifti(join(inputs, 'foreign.nii'), { data: values, shape, dtype: 'int16' });
  writeNifti(join(alike, 'foreign.nii.gz'), { data: [1], shape: [1, 1, 1], dtype: 'uint8', description: 'a tool' });
  writeNifti(join(inputs, 'unfit.nii'), { data: values, shape, dtype: 'int16' });
  writeNifti(join(alike, 'unfit.nii.gz'), { data: [1], shape: [1, 1, 1], dtype: 'uint8' });
  const mixed = await wgrad(...again, inputs);
  assert.is(mixed.code, 1, mixed.stderr);
  assert.match(mixed.stderr, /patient001\.nii\.gz exists for .*, but was made from another image/);
  assert.match(mixed.stderr, /foreign\.nii\.gz exists for .*, but was not written by wgrad, and does not fit/);
  assert.match(mixed.stderr, /unfit\.nii\.gz does not fit its image's grid or the classes, and is predicted again/);
  assert.match(mixed.stderr, /predict: 0 of 3 volumes were skipped/);
  assert.equal(readFileSync(first), bytes);
  assert.equal(readNifti(join(alike, 'foreign.nii.gz')).shape, [1, 1, 1]);
  assert.equal(readNifti(join(alike, 'unfit.nii.gz')).shape, shape);

  // The folder of the inputs themselves.
  const beside = await wgrad('predict', '--run', run, '--out', inputs, '--continue', inputs);
  assert.is(beside.code, 2);
  assert.match(beside.stderr, /--out .*again is the folder of .*foreign\.nii\. Name another folder\./);
});

test('weights that cannot be read, and flags that do not go together, leave no folder behind', async () => {
  const out = join(root, 'never');
  const input = join(la, 'patient001', 'image.nii.gz');
  const broken = join(root, 'broken.safetensors');
  writeFileSync(broken, 'no weights');
  const unread = await wgrad('predict', '--weights', broken, '--out', out, input);
  assert.is(unread.code, 1);
  assert.match(unread.stderr, /broken\.safetensors/);
  for (const [args, said] of [
    [[], /INPUT is missing\. Give files, folders, or a data set with --data DIR/],
    [['--data', la, input], /INPUTs and --data cannot be combined/],
    [['--split', 'val', input], /--split needs a data set\. Give one with --data DIR/],
    [['--data', la, '--split', 'all', '--split-of', 'data'], /--split-of and --fold do not apply to --split all/],
    [
      ['--save-probabilities', 'x/a.nii', 'y/a_probabilities.nii'],
      /two inputs would both become .*a_probabilities\.nii/,
    ],
    [['x/a.nii', 'y/A.nii.gz'], /two inputs would both become/],
  ] as const) {
    await refuses(() => predict(['--run', run, '--out', out, ...args]), UsageError, said);
  }
  assert.not.ok(existsSync(out));
});

test.run();
