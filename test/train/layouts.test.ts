// Public layouts, each recognised and read without conversion: the same hearts in each give the same batches and losses.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCase } from '../../train/data/case-volume.js';
import { casesToEvaluate, describeDataset, openDataset, splitDataset } from '../../train/data/datasets.js';
import { loadHdf5, writeHdf5 } from '../../train/data/hdf5.js';
import { type Batch, createLoader } from '../../train/data/loader.js';
import { readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { phantomLayouts, writePhantoms } from '../../train/data/phantom-dataset.js';
import { DataError } from '../../train/files/data-error.js';
import { createTrainer } from '../../train/method/trainer.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('layouts');
const root = mkdtempSync(join(tmpdir(), 'wgrad-layouts-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
await loadHdf5();
for (const layout of phantomLayouts) writePhantoms(join(root, layout), { patients: 6, size: 20, seed: 4, layout });

/** A copy of phantoms to change. */
function copy(layout: string, name: string): string {
  const dir = join(root, name);
  cpSync(join(root, layout), dir, { recursive: true });
  return dir;
}
const writeJson = (file: string, value: unknown) => writeFileSync(file, JSON.stringify(value));

test('each is recognised, and told in one line', async () => {
  const lines = await Promise.all(
    phantomLayouts.map(async (name) => describeDataset(await openDataset(join(root, name)))),
  );
  const start = (layout: string) => `${layout} layout: 6 patients, 12 volumes, `;
  const parts = ' with train 4 / val 1 / test 1';
  assert.equal(lines, [
    `${start('ACDC')}splits.json${parts}`,
    `${start('nnU-Net')}splits_final.json, fold 0 and imagesTs${parts}`,
    `${start('LA')}splits.json${parts}`,
    `${start('SSL4MIS HDF5')}train_slices.list${parts}, HDF5 files have no spacing: mm are voxels`,
    `${start('UA-MT HDF5')}train.list, its last 1 for validation,${parts}, HDF5 files have no spacing: mm are voxels`,
  ]);
});

test('the same patients in the same parts, the same batches, the same first losses', async () => {
  const firstBatches = async (name: string): Promise<Batch[]> => {
    const loader = createLoader({
      dir: join(root, name),
      labeled: 2,
      patch: [16, 16],
      batch: 4,
      labeledBatch: 2,
      seed: 3,
    });
    const batches = [await loader.next(), await loader.next(), await loader.next()];
    await loader.close();
    return batches;
  };
  const gpu = await testGpu();
  const config = resolveConfig({ method: 'mt', labeled: 2, size: 16, features: [4, 8], dropout: [0.1, 0.1], batch: 4 });
  const lossOf = async ({ image, label }: Batch): Promise<number> => {
    const trainer = createTrainer(gpu, config);
    trainer.setBatch(image, label);
    trainer.setIteration(0);
    return (await trainer.step().metrics.read())[0]!;
  };
  const { patients } = await openDataset(join(root, 'acdc'));
  const expected = await firstBatches('acdc');
  const loss = await lossOf(expected[0]!);
  assert.ok(Number.isFinite(loss) && loss > 0);
  for (const name of phantomLayouts.slice(1)) {
    assert.equal((await openDataset(join(root, name))).patients, patients, name);
    const batches = await firstBatches(name);
    if (name === 'la-h5') {
      // Its values were z-scored: scaling them back to [0, 1] leaves a rounding.
      for (const [i, batch] of batches.entries()) {
        closeTo(batch.image, expected[i]!.image, { atol: 1e-6 });
        assert.equal(batch.label, expected[i]!.label);
      }
      closeTo([await lossOf(batches[0]!)], [loss], { atol: 1e-5 });
    } else {
      assert.equal(batches, expected, name);
      // Equal batches make equal losses: once is enough to see it.
      if (name === 'h5') assert.is(await lossOf(batches[0]!), loss, name);
    }
  }
});

test('validation and test volumes are the same, too; SSL4MIS’s from slices and from volumes', async () => {
  const acdc = await openDataset(join(root, 'acdc'));
  for (const name of phantomLayouts.slice(1)) {
    const other = await openDataset(join(root, name));
    for (const part of ['train', 'val', 'test'] as const) {
      const [expected, got] = [casesToEvaluate(acdc, part), casesToEvaluate(other, part)];
      assert.equal(
        got.map((c) => c.id),
        expected.map((c) => c.id),
      );
      assert.equal(
        got.map((c) => c.frame),
        expected.map((c) => c.frame),
      );
      for (const [i, c] of got.entries()) {
        const [volume, wanted] = [loadCase(c), loadCase(expected[i]!)];
        closeTo(volume.image, wanted.image, { atol: 1e-6 });
        assert.equal(volume.label, wanted.label);
      }
    }
  }
  const h5 = await openDataset(join(root, 'h5'));
  assert.is(casesToEvaluate(h5, 'train')[0]!.hdf5!.slices!.length, loadCase(casesToEvaluate(acdc, 'train')[0]!).depth);
  assert.is(casesToEvaluate(h5, 'val')[0]!.hdf5!.slices, undefined);
});

test('ACDC: training/ and testing/, Info.cfg and the 4-D film are let be', async () => {
  const dir = join(root, 'official');
  const source = join(root, 'acdc');
  for (const [i, patient] of readdirSync(source)
    .filter((name) => name.startsWith('patient'))
    .entries()) {
    cpSync(join(source, patient), join(dir, i < 4 ? 'training' : 'testing', patient), { recursive: true });
  }
  writeFileSync(join(dir, 'training', 'patient001', 'patient001_4d.nii.gz'), 'a film');
  const dataset = await openDataset(dir);
  assert.is(dataset.cases.length, 12);
  assert.equal(dataset.patients.test, ['patient005', 'patient006']);
  assert.is(dataset.patients.val.length, 1);
  assert.is(dataset.patients.train.length, 3);
  assert.is(dataset.splitFrom, 'seed 1337 and testing/');
  cpSync(dir, join(root, 'above', 'database'), { recursive: true });
  assert.equal((await openDataset(join(root, 'above'))).patients, dataset.patients);
  cpSync(join(dir, 'training', 'patient001'), join(dir, 'testing', 'patient001'), { recursive: true });
  await refuses(() => openDataset(dir), DataError, /patient001 is in training\/ and in testing\//);
});

test('nnU-Net: who has no label is learned from without; splits and dataset.json are checked', async () => {
  const dir = copy('nnunet', 'nnunet-bare');
  const bare = (await openDataset(dir)).patients.train[2]!;
  for (const name of readdirSync(join(dir, 'labelsTr'))) if (name.startsWith(bare)) rmSync(join(dir, 'labelsTr', name));
  rmSync(join(dir, 'splits_final.json'));
  rmSync(join(dir, 'labelsTs'), { recursive: true });
  const dataset = await openDataset(dir);
  assert.is(dataset.patients.train.at(-1), bare);
  assert.equal(dataset.patients.test, (await openDataset(join(root, 'nnunet'))).patients.test);
  assert.is(dataset.splitFrom, 'seed 1337 and imagesTs');
  const split = splitDataset(dataset, { labeled: 2, classes: 4 });
  assert.ok([...split.labeled, ...split.val].every((c) => c.label));
  assert.is(split.unlabeled.filter((c) => !c.label).length, 2);
  await refuses(() => casesToEvaluate(dataset, 'test'), DataError, /has no ground truth to compare with/);
  await refuses(
    () => splitDataset(dataset, { labeled: 2, classes: 3 }),
    DataError,
    /names 4 classes .*Use --classes 4/,
  );

  const info = JSON.parse(readFileSync(join(dir, 'dataset.json'), 'utf8'));
  const withInfo = (change: Record<string, unknown>) => () => {
    writeJson(join(dir, 'dataset.json'), { ...info, ...change });
    return openDataset(dir);
  };
  await refuses(withInfo({ channel_names: { 0: 'T1', 1: 'T2' } }), DataError, /2 channels \(T1, T2\), expected one/);
  await refuses(
    withInfo({ labels: { background: 0, heart: [1, 2] } }),
    DataError,
    /"labels\.heart" must be a whole number from 0 to 255 — got \[1,2\]/,
  );
  await refuses(withInfo({ labels: { background: 0, a: 1, b: 1 } }), DataError, /two labels have the value 1/);
  await refuses(withInfo({ labels: { a: 1 } }), DataError, /no label has the value 0/);
  const ignoring = await withInfo({ labels: { background: 0, a: 1, b: 2, ignore: 3 } })();
  assert.equal(ignoring.classNames, ['background', 'a', 'b']);
  const labelled = ignoring.cases.find((c) => c.label)!;
  const [before, after] = [await openDataset(join(root, 'nnunet')), ignoring].map(
    (all) => loadCase(all.cases.find((c) => c.id === labelled.id)!, { classes: all === ignoring ? 3 : 4 }).label!,
  );
  assert.equal(
    after,
    before!.map((k) => (k === 3 ? 255 : k)),
  );
  await refuses(withInfo({ labels: 3 }), DataError, /"labels" must be an object/);
  await refuses(withInfo({ file_ending: '.png' }), DataError, /holds \.png files/);
  writeFileSync(join(dir, 'dataset.json'), '{');
  await refuses(() => openDataset(dir), DataError, /cannot read .*dataset\.json/);

  const split2 = copy('nnunet', 'nnunet-split');
  const cases = readdirSync(join(split2, 'labelsTr')).map((name) => name.replace('.nii.gz', ''));
  const withFold = (fold: unknown) => () => {
    writeJson(join(split2, 'splits_final.json'), [fold]);
    return openDataset(split2);
  };
  await refuses(
    withFold({ train: [cases[0]], val: [cases[1]] }),
    DataError,
    /patient001, whose case .* is in "train" and in "val"/,
  );
  await refuses(withFold({ train: ['nobody'], val: [cases[1]] }), DataError, /names nobody, which has no image/);
  await refuses(withFold({ train: cases }), DataError, /fold 0 has no list "val"/);
  renameSync(join(split2, 'imagesTr', `${cases[0]}_0000.nii.gz`), join(split2, 'imagesTr', `${cases[0]}_0001.nii.gz`));
  await refuses(() => openDataset(split2), DataError, /_0001\.nii\.gz is a second channel/);
});

test('labels that are not 0 to K−1: dataset.json’s table, a mask of 0 and 255, or an error', async () => {
  const dir = copy('nnunet', 'nnunet-mapped');
  writeJson(join(dir, 'dataset.json'), {
    channel_names: { 0: 'MR' },
    labels: { background: 0, left: 30, right: 10, wall: 20 },
    file_ending: '.nii.gz',
  });
  const rewrite = (folder: string, value: (v: number) => number) => {
    for (const name of readdirSync(folder)) {
      const like = readNifti(join(folder, name));
      writeNifti(join(folder, name), { data: like.data.map(value), dtype: 'uint8', like });
    }
  };
  rewrite(join(dir, 'labelsTr'), (v) => v * 10);
  const dataset = await openDataset(dir);
  assert.equal(dataset.classNames, ['background', 'right', 'wall', 'left']);
  assert.match(describeDataset(dataset), /label values 0, 10, 20, 30 are classes 0, 1, 2, 3/);
  const plain = await openDataset(join(root, 'nnunet'));
  assert.equal(loadCase(dataset.cases[0]!).label, loadCase(plain.cases[0]!).label);
  rewrite(join(dir, 'labelsTr'), (v) => (v === 30 ? 3 : v));
  await refuses(
    () => loadCase(dataset.cases[0]!),
    DataError,
    /holds the label 3, expected one of 0, 10, 20, 30 \(dataset\.json\)/,
  );

  const la = copy('la', 'la-mask');
  const cases = (await openDataset(la)).cases;
  const binary = loadCase(cases[0]!).label!.map((v) => Math.min(v, 1));
  const like = readNifti(cases[0]!.label!);
  for (const foreground of [1, 255]) {
    writeNifti(cases[0]!.label!, { data: binary.map((v) => v * foreground), dtype: 'uint8', like });
    assert.equal(loadCase(cases[0]!, { classes: 2 }).label, binary);
  }
  await refuses(
    () => loadCase(cases[0]!, { classes: 4 }),
    DataError,
    /holds the label 255, expected whole numbers 0 to 3/,
  );
  const half = binary.map((v, i) => (v && i % 2 ? 255 : v));
  writeNifti(cases[0]!.label!, { data: half, dtype: 'uint8', like });
  await refuses(
    () => loadCase(cases[0]!, { classes: 2 }),
    DataError,
    /holds the label 255, expected whole numbers 0 to 1/,
  );
});

test('more classes than the labels have is an error at once', async () => {
  const loader = createLoader({
    dir: join(root, 'la'),
    labeled: 2,
    patch: [16, 16],
    batch: 2,
    labeledBatch: 1,
    seed: 1,
    classes: 6,
  });
  await refuses(
    () => loader.next(),
    DataError,
    /the labels of the 2 labelled patients are 0 to 3, of 6 classes\. Use --classes 4/,
  );
  await loader.close();
});

test('UA-MT: the folder of the cases, or the one around it with the lists', async () => {
  const dir = join(root, 'uamt');
  const inner = join(dir, 'training set');
  cpSync(join(root, 'la-h5'), inner, { recursive: true });
  for (const name of ['train.list', 'test.list']) renameSync(join(inner, name), join(dir, name));
  const expected = (await openDataset(join(root, 'la-h5'))).patients;
  assert.equal((await openDataset(dir)).patients, expected);
  assert.equal((await openDataset(inner)).patients, expected);
});

test('lists that name what is not there, or somebody twice', async () => {
  const dir = copy('h5', 'h5-lists');
  const list = readFileSync(join(dir, 'val.list'), 'utf8');
  writeFileSync(join(dir, 'val.list'), `${list}patient099_frame01\n`);
  await refuses(() => openDataset(dir), DataError, /val\.list names patient099_frame01, which has no file/);
  const train = readFileSync(join(dir, 'train_slices.list'), 'utf8').split('\n')[0]!;
  writeFileSync(join(dir, 'val.list'), `${list}\r\n\n${train}\n`);
  await refuses(() => openDataset(dir), DataError, /is in the lists of train and of val/);
});

test('nothing known, and two at once', async () => {
  const empty = join(root, 'empty');
  mkdirSync(empty);
  await refuses(
    () => openDataset(empty),
    DataError,
    /got an empty folder\. Expected one of:\n {2}ACDC .*\n {2}nnU-Net/,
  );
  for (const name of 'abcdefgh') writeFileSync(join(empty, `${name}.png`), '');
  await refuses(() => openDataset(empty), DataError, /got a\.png, b\.png, .*f\.png, … \(8 in all\)/);
  const both = copy('acdc', 'both');
  cpSync(join(root, 'la'), both, { recursive: true });
  await refuses(
    () => openDataset(both),
    DataError,
    /matches more than one layout: ACDC's \(12 volumes\) and LA's \(12 volumes\)/,
  );
  mkdirSync(join(root, 'hollow', 'imagesTr'), { recursive: true });
  await refuses(() => openDataset(join(root, 'hollow')), DataError, /imagesTr holds no NAME_0000\.nii\.gz/);
});

test('HDF5 files that are damaged, foreign or otherwise built name themselves', async () => {
  const dir = copy('h5', 'h5-bad');
  const c = casesToEvaluate(await openDataset(dir), 'val')[0]!;
  const whole = readFileSync(c.image);
  for (const length of [40, 600, whole.length - 500, whole.length - 1]) {
    writeFileSync(c.image, whole.subarray(0, length));
    await refuses(() => loadCase(c), DataError, new RegExp(`hdf5: .*${c.id}\\.h5: the file is truncated`));
  }
  writeFileSync(c.image, 'this is a text of more than eight bytes'.repeat(50));
  await refuses(() => loadCase(c), DataError, /this is not an HDF5 file/);
  rmSync(c.image);
  await refuses(() => loadCase(c), DataError, /cannot read .* there is no such file/);
  const write = (arrays: Parameters<typeof writeHdf5>[1]) => () => {
    rmSync(c.image, { force: true });
    writeHdf5(c.image, arrays);
    return loadCase(c);
  };
  const array = (shape: number[], value = 0) => ({
    shape,
    data: new Float32Array(shape.reduce((a, b) => a * b)).fill(value),
  });
  await refuses(write({ label: array([2, 3, 4]) }), DataError, /no dataset 'image'/);
  await refuses(write({ image: array([3, 4]) }), DataError, /'image' has 2 axes, expected 3\. Is it a slice\?/);
  await refuses(write({ image: array([24]) }), DataError, /has shape \[24\]\. Expected 2 or 3 axes/);
  await refuses(write({ image: array([2, 3, 4]), label: array([2, 3, 5]) }), DataError, /differ in shape/);
  await refuses(write({ image: array([2, 3, 4], Number.NaN) }), DataError, /'image': 24 of 24 values are NaN/);
  await refuses(
    write({ image: array([2, 3, 4]), label: array([2, 3, 4], 0.5) }),
    DataError,
    /holds values that are not labels: 0\.5 \(24 voxels\)/,
  );
  assert.is(write({ image: array([2, 3, 4]) })().label, undefined);
});

test.run();
