// wgrad inspect on phantoms and on what is wrong with them: everything at once, nothing missed, the right exit code.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadHdf5 } from '../../train/data/hdf5.js';
import { inspectDataset } from '../../train/data/inspect-dataset.js';
import { countValues, intensitiesOf } from '../../train/data/inspect-volume.js';
import { readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { unless } from '../unless.js';
import { acdcFolder, withoutAcdc } from './acdc.js';

const test = suite('inspect');
const root = mkdtempSync(join(tmpdir(), 'wgrad-inspect-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
const phantoms = join(root, 'phantoms');
writePhantoms(phantoms, { patients: 8, size: 20, seed: 4 });

const cli = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
function wgrad(...args: string[]): { code: number; stdout: string; stderr: string } {
  try {
    return {
      code: 0,
      stdout: execFileSync(process.execPath, [cli, ...args], { encoding: 'utf8', stdio: 'pipe' }),
      stderr: '',
    };
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
    return { code: status, stdout, stderr };
  }
}

test('a good data set: what it holds, and nothing suspicious', async () => {
  const found = await inspectDataset(phantoms);
  assert.equal(found.errors, []);
  assert.equal(found.warnings, []);
  assert.is(found.classes, 4);
  const {
    train,
    val,
    test: rest,
  } = found.parts as Record<string, { patients: number; volumes: number; slices: number }>;
  assert.equal([train!.patients, val!.patients, rest!.patients], [5, 1, 2]);
  assert.equal([train!.volumes, val!.volumes, rest!.volumes], [10, 2, 4]);
  // Against the files, one by one.
  const patients = JSON.parse(readFileSync(join(phantoms, 'splits.json'), 'utf8')).train as string[];
  const images = found.cases.filter(({ id }) => patients.includes(id.slice(0, 10)));
  const files = images.map(({ id }) => join(phantoms, id.slice(0, 10), `${id}.nii.gz`));
  assert.is(
    train!.slices,
    files.reduce((sum, file) => sum + readNifti(file).shape[2]!, 0),
  );
  const labels: Record<string, number> = {};
  for (const file of files) {
    for (const value of readNifti(file.replace('.nii.gz', '_gt.nii.gz')).data) labels[value] = (labels[value] ?? 0) + 1;
  }
  assert.equal(found.parts.train!.labels, labels);
  const depths = found.cases.map((c) => c.image!.shape[2]!).sort((a, b) => a - b);
  assert.equal(found.shape[2], { least: depths[0], median: depths[7], most: depths[15] });
  assert.equal([found.orientations, found.dtypes], [{ RAS: 16 }, { int16: 16 }]);
});

test('percentiles and values', () => {
  const values = Float32Array.from({ length: 101 }, (_, i) => 100 - i);
  assert.equal(intensitiesOf(values), { least: 0, p1: 1, median: 50, p99: 99, most: 100 });
  assert.is(values[0], 100, 'sorted in place');
  assert.equal(countValues(Float32Array.from([2, 0, 0, -1]), 3), { '-1': 1, 0: 2, 2: 1 });
  assert.is(countValues(Float32Array.from([2, 0, 0, -1]), 2), undefined);
  assert.is(countValues(Float32Array.from([0.5]), 9), undefined);
});

test('everything that is wrong is said at once, and nothing else', async () => {
  const dir = join(root, 'spoiled');
  cpSync(phantoms, dir, { recursive: true });
  const all = (await inspectDataset(phantoms)).cases.map(({ id }) => id);
  const id = (i: number) => all[i]!;
  const image = (i: number) => join(dir, id(i).slice(0, 10), `${id(i)}.nii.gz`);
  const label = (i: number) => image(i).replace('.nii.gz', '_gt.nii.gz');
  const change = (file: string, dtype: 'uint8' | 'int16' | 'float32', value: (v: number, i: number) => number) => {
    const like = readNifti(file);
    writeNifti(file, { data: like.data.map(value), like, dtype });
  };
  const parts = {
    train: ['patient001', 'patient002', 'patient003', 'patient004', 'patient005'],
    val: ['patient006'],
    test: [],
  };
  writeFileSync(
    join(dir, 'splits.json'),
    JSON.stringify({ ...parts, val: ['patient006', 'patient001', 'patient077'] }),
  );
  truncateSync(image(0), 400);
  writeFileSync(label(1), 'no label');
  change(label(2), 'uint8', (v) => (v === 3 ? 7 : v));
  change(label(3), 'float32', (v) => v / 2);
  change(image(4), 'int16', () => 5);
  change(label(5), 'uint8', () => 0);
  const shifted = readNifti(label(6));
  const affine = shifted.affine.map((v, i) => (i === 3 ? v + 4 : v));
  writeNifti(label(6), { data: shifted.data, shape: shifted.shape, spacing: shifted.spacing, affine, dtype: 'uint8' });
  const flipped = readNifti(label(7));
  const mirrored = flipped.affine.map((v, i) => (i === 0 ? -v : v));
  writeNifti(label(7), {
    data: flipped.data,
    shape: flipped.shape,
    spacing: flipped.spacing,
    affine: mirrored,
    dtype: 'uint8',
  });
  cpSync(image(8), image(10)); // patient005 and 006: train and val
  cpSync(label(8), label(10));
  const wide = readNifti(image(9));
  const spacing = wide.spacing.map((mm, axis) => (axis === 0 ? mm * 3 : mm));
  writeNifti(image(9), { data: wide.data, shape: wide.shape, spacing, dtype: 'int16' });
  rmSync(label(11)); // patient006: val
  writeNifti(label(12), { data: [0, 1], shape: [2, 1, 1], dtype: 'uint8' });
  change(image(13), 'float32', (v, i) => (i === 9 ? 1e9 : v)); // an outlier
  rmSync(label(14)); // patient008, in no part

  const { errors, warnings, parts: told } = await inspectDataset(dir);
  const expectAll = (found: readonly string[], expected: RegExp[]) => {
    for (const pattern of expected)
      assert.is(found.filter((line) => pattern.test(line)).length, 1, `${pattern} in\n${found.join('\n')}`);
    assert.is(found.length, expected.length, found.join('\n'));
  };
  expectAll(errors, [
    /splits\.json names patient077, which has no images/,
    /patient001 is in "train" and in "val"/,
    new RegExp(`${id(0)}\\.nii\\.gz: the file is truncated`),
    new RegExp(`${id(1)}_gt\\.nii\\.gz: this is not a NIfTI file`),
    new RegExp(`${id(2)}_gt\\.nii\\.gz holds the label 7, expected whole numbers 0 to 3 \\(7: \\d+ voxels\\)`),
    new RegExp(`${id(3)}_gt\\.nii\\.gz holds values that are not labels: [01]\\.5 \\(\\d+ voxels\\), `),
    new RegExp(`${id(7)}_gt\\.nii\\.gz lies LAS, its image RAS\\. If the voxels do correspond .* --trust voxels`),
    new RegExp(`${id(12)}_gt\\.nii\\.gz has shape \\[2,1,1\\], its image`),
  ]);
  expectAll(warnings, [
    new RegExp(`${id(4)}\\.nii\\.gz: every voxel is 5`),
    new RegExp(`${id(5)}_gt\\.nii\\.gz: no voxel has a label`),
    new RegExp(`${id(6)}_gt\\.nii\\.gz: its affine differs from the image's by up to 4`),
    new RegExp(`same image under 2 names: ${id(8)} \\(train\\), ${id(10)} \\(val\\): scores will be too good`),
    new RegExp(`${id(9)}: voxels of .* mm along x, half or twice the median`),
    new RegExp(`${id(9)}_gt\\.nii\\.gz: its affine differs`),
    new RegExp(`outliers flatten 1 of 15 images: .*\\(${id(13)}\\)\\. Train with --intensity percentile`),
    new RegExp(`${id(11)} is for validation or test, but has no label`),
    new RegExp(`without labels, to learn from only: ${id(11)}, ${id(14)}$`),
  ]);
  assert.is(told.none!.patients, 2);

  const { code, stdout } = wgrad('inspect', dir);
  assert.is(code, 1);
  assert.match(stdout, /\n9 warnings:\n {2}/);
  assert.match(stdout, /\n8 errors:\n {2}/);
  assert.match(stdout, /\n {2}no part +2 +4 +3 /);
});

test('the command: text, JSON, files of each kind, and what is not there', async () => {
  const text = wgrad('inspect', phantoms);
  assert.is(text.code, 0);
  assert.match(text.stdout, /^ACDC layout: 8 patients, 16 volumes, splits\.json with train 5 \/ val 1 \/ test 2\n/);
  assert.match(text.stdout, /\n {2}train +5 +10 +10 +\d+ +9\d\.\d\d %/);
  assert.match(text.stdout, /\nnothing suspicious\n$/);
  const json = JSON.parse(wgrad('inspect', phantoms, '--json').stdout);
  assert.is(json.cases.length, 16);
  assert.is(json.layout, 'ACDC');

  const id = json.cases[0].id as string;
  const image = wgrad('inspect', join(phantoms, 'patient001', `${id}.nii.gz`));
  assert.match(
    image.stdout,
    /int16, NIfTI-1, little-endian\n {2}size +20×20×\d+\n[\s\S]*RAS \(sform 1, qform 1\)[\s\S]*histogram +0 [ ▁▂▃▄▅▆▇█]{40} \d+\n$/,
  );
  const label = wgrad('inspect', join(phantoms, 'patient001', `${id}_gt.nii.gz`), '--json');
  assert.equal(Object.keys(JSON.parse(label.stdout).images[0].values), ['0', '1', '2', '3']);

  await loadHdf5();
  const h5 = join(root, 'h5');
  writePhantoms(h5, { patients: 3, size: 16, layout: 'la-h5' });
  assert.is(wgrad('inspect', h5).code, 0);
  const strict = wgrad('inspect', h5, '--classes', '2');
  assert.is(strict.code, 1);
  assert.match(strict.stdout, /\n6 errors:\n.*holds the label 2, 3, expected whole numbers 0 to 1/);
  assert.match(
    wgrad('inspect', join(h5, (await inspectDataset(h5)).cases[0]!.id, 'mri_norm2.h5')).stdout,
    /image\n {2}stored as +float32, HDF5\n[\s\S]*\nlabel\n/,
  );

  const none = wgrad('inspect', join(root, 'none'));
  assert.equal([none.code, none.stdout], [1, '']);
  assert.match(none.stderr, /^inspect: cannot open .*none — there is no such file or folder\.\n$/);
  assert.is(wgrad('inspect').code, 2);
  assert.is(wgrad('inspect', phantoms, '--clases', '4').code, 2);
});

unless(withoutAcdc, test)('real ACDC: 1312 training slices, and a patient that is there twice', async () => {
  let told = 0;
  const found = await inspectDataset(acdcFolder, { onCase: (done, all) => void (told = done / all) });
  assert.is(told, 1);
  assert.equal(found.errors, []);
  assert.is(found.parts.train!.slices, 1312);
  assert.is(
    found.warnings.filter((line) =>
      /the same image under 2 names: patient074_frame\d\d \(train\), patient076/.test(line),
    ).length,
    2,
  );
  assert.is(found.warnings.filter((line) => /every voxel is 1×1×1 mm/.test(line)).length, 1);
});

test.run();
