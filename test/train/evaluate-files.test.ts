// Scoring files of any tool, without a GPU: whose file is whose, what cannot be compared, and data that would give wrong numbers.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run as evaluateCommand } from '../../train/commands/evaluate.js';
import { loadCase, writeLabels } from '../../train/data/case-volume.js';
import { casesToEvaluate, openDataset } from '../../train/data/datasets.js';
import { loadHdf5 } from '../../train/data/hdf5.js';
import { readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { type PhantomLayout, phantomLayouts, writePhantoms } from '../../train/data/phantom-dataset.js';
import { evaluateFiles } from '../../train/evaluation/evaluate.js';
import { DataError } from '../../train/files/data-error.js';
import { UsageError } from '../../train/files/usage-error.js';
import { refuses } from '../refuses.js';

const test = suite('evaluate files');
const root = mkdtempSync(join(tmpdir(), 'wgrad-evaluate-files-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
await loadHdf5();

const phantoms = (name: string, layout: PhantomLayout = 'acdc'): string => {
  const dir = join(root, name);
  writePhantoms(dir, { patients: 6, size: 20, seed: 4, layout });
  return dir;
};
const validationOf = (dir: string) => openDataset(dir).then((dataset) => casesToEvaluate(dataset, 'val'));
const folder = (name: string): string => {
  mkdirSync(join(root, name));
  return join(root, name);
};

/** References written as predictions of a data set, `nameOf` by case and `change`d. */
async function predictions(
  name: string,
  data: string,
  {
    nameOf = ({ id }) => id,
    change = (k) => k,
    classes = 4,
  }: {
    nameOf?: (c: { id: string; image: string }) => string;
    change?: (k: number, i: number) => number;
    classes?: number;
  } = {},
): Promise<string> {
  const out = folder(name);
  for (const c of await validationOf(data)) {
    const volume = loadCase(c, { classes });
    writeLabels(join(out, `${nameOf(c)}.nii.gz`), volume, volume.label!.map(change));
  }
  return out;
}

test('in every layout a prediction is read from its own file, never from the reference', async () => {
  for (const layout of phantomLayouts) {
    const data = phantoms(`of-${layout}`, layout);
    const cases = await validationOf(data);
    const good = await predictions(`good-${layout}`, data);
    const summary = await evaluateFiles(good, cases, { classes: 4 });
    assert.is(summary.foreground_mean.Dice, 1, layout);
    assert.is(summary.foreground_mean.HD95, 0, layout);
    const empty = await predictions(`empty-${layout}`, data, { change: () => 0 });
    const nothing = await evaluateFiles(empty, cases, { classes: 4 });
    assert.is(nothing.foreground_mean.Dice, 0, layout);
    assert.equal([nothing.missed, nothing.invented], [3 * cases.length, 0], layout);
  }
});

test('files are found by case or by the image they were made from, and not taken for each other', async () => {
  const data = phantoms('nnunet', 'nnunet');
  const cases = await validationOf(data);
  const named = await predictions('by-image', data, {
    nameOf: ({ image }) => image.replace(/^.*\/(.*)\.nii\.gz$/, '$1'),
  });
  const summary = await evaluateFiles(named, cases, { classes: 4 });
  assert.match(summary.metric_per_case[0]!.prediction_file!, /_0000\.nii\.gz$/);
  assert.is(summary.foreground_mean.Dice, 1);
  const both = await predictions('twice', data);
  cpSync(summary.metric_per_case[0]!.prediction_file!, join(both, `${cases[0]!.id}_0000.nii.gz`));
  await refuses(() => evaluateFiles(both, cases, { classes: 4 }), DataError, /has 2 predictions: .*Keep one of them/);

  const la = phantoms('la', 'la');
  const alike = folder('alike'); // every image is called image.nii.gz
  const [one] = await validationOf(la);
  cpSync(one!.label!, join(alike, 'image.nii.gz'));
  const all = (await openDataset(la)).cases;
  await refuses(
    () => evaluateFiles(alike, all, { classes: 4 }),
    DataError,
    /no prediction for .*, … \(12 of 12 cases\)/,
  );
});

test('label values as in the references, or class numbers', async () => {
  const data = phantoms('numbered', 'nnunet');
  const info = join(data, 'dataset.json');
  const dataset = JSON.parse(readFileSync(info, 'utf8')) as { labels: Record<string, number> };
  const factor = 3;
  for (const name of Object.keys(dataset.labels)) dataset.labels[name]! *= factor;
  writeFileSync(info, JSON.stringify(dataset));
  for (const c of (await openDataset(data)).cases) {
    if (!c.label) continue;
    const label = readNifti(c.label);
    writeNifti(c.label, { data: Uint8Array.from(label.data, (k) => factor * k), dtype: 'uint8', like: label });
  }
  const cases = await validationOf(data);
  assert.equal(cases[0]!.labelValues, [0, 3, 6, 9]);
  for (const [name, change] of [
    ['values', (k: number) => factor * k],
    ['numbers', (k: number) => k],
  ] as const) {
    const summary = await evaluateFiles(await predictions(name, data, { change }), cases, { classes: 4 });
    assert.is(summary.foreground_mean.Dice, 1, name);
  }
  const neither = await predictions('neither', data, { change: (k) => 2 * k });
  await refuses(
    () => evaluateFiles(neither, cases, { classes: 4 }),
    DataError,
    /holds the label 4, 6, expected 0, 1, 2, 3 \(4: \d+ voxels, 6: \d+ voxels\)/,
  );
});

test('another grid is an error: shape, orientation, place, voxel size', async () => {
  const data = phantoms('grids');
  const cases = (await validationOf(data)).slice(0, 1);
  const like = readNifti(cases[0]!.image);
  const [nx, ny, nz] = like.shape as [number, number, number];
  const labels = new Uint8Array(nx * ny * nz);
  const written = async (name: string, content: Partial<Parameters<typeof writeNifti>[1]>) => {
    const out = folder(name);
    writeNifti(join(out, `${cases[0]!.id}.nii.gz`), { data: labels, dtype: 'uint8', ...content });
    return evaluateFiles(out, cases, { classes: 4 });
  };
  const { shape, spacing, affine } = like;
  const moved = (change: (affine: number[]) => void) => {
    const copy = [...affine];
    change(copy);
    return { shape, spacing, affine: copy };
  };
  await written('same', { like });
  await written(
    'rounded',
    moved((a) => void (a[3]! += 1e-3)),
  );
  await refuses(
    () => written('cut', { shape: [nx, ny * nz, 1], spacing }),
    DataError,
    /differ in shape — got \[20,\d+,1\], expected/,
  );
  await refuses(
    () =>
      written(
        'shifted',
        moved((a) => void (a[3]! += spacing[0])),
      ),
    DataError,
    /corners are up to \d+\.\d\d voxels apart/,
  );
  await refuses(
    () =>
      written(
        'mirrored',
        moved((a) => void (a[0]! *= -1)),
      ),
    DataError,
    /does not lie on the grid/,
  );
  await refuses(
    () =>
      written(
        'thick',
        moved((a) => void (a[10]! *= 1.1)),
      ),
    DataError,
    /does not lie on the grid.*--trust voxels; else resample the prediction/,
  );
});

/** A copy of a data set, one file of its first validation case changed. */
async function spoiled(name: string, change: (paths: { image: string; label: string }) => void) {
  const dir = phantoms(name);
  const out = await predictions(`${name}-predictions`, dir);
  const [first] = await validationOf(dir);
  change({ image: first!.image, label: first!.label! });
  const { log } = console;
  console.log = () => {};
  return evaluateCommand(['--data', dir, '--split', 'val', '--predictions', out, '--json']).finally(() => {
    console.log = log;
  });
}

test('data that would give wrong numbers are refused: labels beyond the classes, none, NaN, no voxel size', async () => {
  await refuses(
    () =>
      spoiled('beyond', ({ label }) => {
        const like = readNifti(label);
        writeNifti(label, { data: Uint8Array.from(like.data, (k) => (k === 3 ? 4 : k)), dtype: 'uint8', like });
      }),
    DataError,
    /_gt\.nii\.gz holds the label 4, expected whole numbers 0 to 3/,
  );
  await refuses(
    () => spoiled('unlabelled', ({ label }) => unlinkSync(label)),
    DataError,
    /has no ground truth to compare with/,
  );
  // What is NaN in an image is read as its least value, and said; in a label it is no class.
  const withNan = (file: string) => {
    const like = readNifti(file);
    writeNifti(file, { data: like.data, dtype: 'float32', like });
    const bytes = gunzipSync(readFileSync(file));
    bytes.writeFloatLE(Number.NaN, 352 + 4 * 5);
    writeFileSync(file, bytes);
  };
  assert.is(await spoiled('nan', ({ image }) => withNan(image)), 0);
  await refuses(
    () => spoiled('nan-label', ({ label }) => withNan(label)),
    DataError,
    /_gt\.nii\.gz: 1 of \d+ values are NaN or infinite/,
  );
  // Where pixdim is 0 the sform can say how large a voxel is, else nothing does.
  const sizeless = (image: string, isPlaced: boolean) => {
    const bytes = gunzipSync(readFileSync(image));
    for (const axis of [1, 2, 3]) bytes.writeFloatLE(0, 76 + 4 * axis);
    bytes.writeInt16LE(0, 252);
    if (!isPlaced) bytes.writeInt16LE(0, 254);
    writeFileSync(image, bytes);
  };
  assert.is(await spoiled('placed', ({ image }) => sizeless(image, true)), 0);
  await refuses(
    () => spoiled('sizeless', ({ image }) => sizeless(image, false)),
    DataError,
    /has no voxel size — got pixdim \[0, 0, 0\], expected millimetres/,
  );
});

test('usage: what does not go together', async () => {
  const data = phantoms('usage', 'nnunet');
  const at = ['--data', data, '--predictions', data];
  await refuses(() => evaluateCommand([...at, '--run', 'x']), UsageError, /--run and --predictions cannot be combined/);
  await refuses(
    () => evaluateCommand([...at, '--model', 'teacher']),
    UsageError,
    /--model, --flips, --stride and --window-weights do not apply to --predictions/,
  );
  await refuses(() => evaluateCommand([...at, '--split', 'all']), UsageError, /val, test, train — got 'all'/);
  await refuses(
    () => evaluateCommand([...at, '--classes', '2']),
    UsageError,
    /--classes must give 4 classes, as in dataset\.json .* got 2/,
  );
  await refuses(
    () => evaluateCommand(['--run', 'x', '--data', data, '--classes', '4']),
    UsageError,
    /a model knows its classes/,
  );
});

test.run();
