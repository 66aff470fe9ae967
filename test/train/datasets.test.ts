// Layout, split, and what is said when either is wrong; real ACDC gives the protocol's slice counts.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCase } from '../../train/data/case-volume.js';
import { casesToEvaluate, type Dataset, openDataset, splitDataset } from '../../train/data/datasets.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { splitPatients } from '../../train/data/split.js';
import { DataError } from '../../train/files/data-error.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';
import { acdcFolder, withoutAcdc } from './acdc.js';

const test = suite('datasets');
const root = mkdtempSync(join(tmpdir(), 'wgrad-datasets-'));
const phantoms = join(root, 'phantoms');
writePhantoms(phantoms, { patients: 6, size: 16, seed: 5 });
test.after(() => rmSync(root, { recursive: true, force: true }));

/** A copy of the phantoms to spoil, with a splits.json of its own if given. */
function copy(name: string, splits?: unknown): string {
  const dir = join(root, name);
  cpSync(phantoms, dir, { recursive: true });
  if (splits === null) rmSync(join(dir, 'splits.json'));
  else if (splits !== undefined) writeFileSync(join(dir, 'splits.json'), JSON.stringify(splits));
  return dir;
}
const patients = ['patient001', 'patient002', 'patient003', 'patient004', 'patient005', 'patient006'];

test('cases by patient and frame, with their labels', async () => {
  const dataset = await openDataset(phantoms);
  assert.is(dataset.cases.length, 12);
  const [first, second] = dataset.cases;
  assert.is(first!.id, 'patient001_frame01');
  assert.is(first!.image, join(phantoms, 'patient001', 'patient001_frame01.nii.gz'));
  assert.is(first!.label, join(phantoms, 'patient001', 'patient001_frame01_gt.nii.gz'));
  assert.is(second!.patient, 'patient001');
  assert.match(second!.frame!, /^\d\d$/);
  assert.is(first!.frame, '01');
});

test('splits.json: train in its order, the first N labelled, both frames of a patient together', async () => {
  const dir = copy('ordered', {
    train: ['patient005', 'patient002', 'patient006'],
    val: ['patient001'],
    test: ['patient003'],
  });
  const dataset = await openDataset(dir);
  assert.is(dataset.splitFrom, 'splits.json');
  const split = splitDataset(dataset, { labeled: 2 });
  const names = (cases: readonly { patient: string }[]) => cases.map((c) => c.patient);
  assert.equal(names(split.labeled), ['patient005', 'patient005', 'patient002', 'patient002']);
  assert.equal(names(split.unlabeled), ['patient006', 'patient006']);
  assert.equal(names(split.val), ['patient001', 'patient001']);
  assert.equal(names(split.test), ['patient003', 'patient003']);
  assert.is(splitDataset(dataset, { labeled: 3 }).unlabeled.length, 0);
  assert.is(casesToEvaluate(dataset, 'train').length, 6);
});

test('without splits.json: by patient, from the seed, nobody twice', async () => {
  const dir = copy('unsplit', null);
  const all = (dataset: Dataset) => Object.values(dataset.patients).flat();
  const dataset = await openDataset(dir, { splitSeed: 3 });
  assert.is(dataset.splitFrom, 'seed 3');
  assert.equal(all(dataset).sort(), patients);
  assert.equal((await openDataset(dir, { splitSeed: 3 })).patients, dataset.patients);
  const orders = await Promise.all(
    [1, 2, 3, 4, 5].map(async (splitSeed) => all(await openDataset(dir, { splitSeed })).join()),
  );
  assert.ok(new Set(orders).size > 1, 'the seed changes nothing');
});

test('70/10/20 % of twenty; never an empty validation part while there are two', () => {
  const sizes = (count: number) => {
    const parts = splitPatients(
      Array.from({ length: count }, (_, i) => `patient${i}`),
      1,
    );
    return [parts.train.length, parts.val.length, parts.test.length];
  };
  assert.equal(sizes(20), [14, 2, 4]);
  assert.equal(sizes(3), [1, 1, 1]);
  assert.equal(sizes(2), [1, 1, 0]);
  assert.equal(sizes(100), [70, 10, 20]);
});

test('bad folders and splits: one message each', async () => {
  await refuses(
    () => openDataset(join(root, 'none')),
    DataError,
    /cannot open .*none — there is no such file or folder/,
  );
  await refuses(() => openDataset(join(phantoms, 'splits.json')), DataError, /cannot open/);
  const outer = join(root, 'outer');
  mkdirSync(join(outer, 'training'), { recursive: true });
  await refuses(() => openDataset(outer), DataError, /holds no known data set — got training\. Expected one of:/);
  const spoiled = copy('spoiled');
  const withSplits = (text: string) => {
    writeFileSync(join(spoiled, 'splits.json'), text);
    return () => openDataset(spoiled);
  };
  await refuses(withSplits('{"train": ['), DataError, /cannot read .*splits\.json/);
  await refuses(withSplits('{"train": "patient001"}'), DataError, /"train" must be a list of names — got "patient001"/);
  await refuses(withSplits('{"train": ["patient099"]}'), DataError, /names patient099, which has no images/);
  await refuses(
    withSplits('{"train": ["patient001"], "val": ["patient001"]}'),
    DataError,
    /patient001 is in "train" and in "val"/,
  );
});

test('empty parts and too many labels', async () => {
  const noTrain = await openDataset(copy('no-train', { train: [], val: ['patient001'] }));
  await refuses(() => splitDataset(noTrain, { labeled: 1 }), DataError, /no training patients/);
  const noVal = await openDataset(copy('no-val', { train: ['patient001'] }));
  await refuses(() => splitDataset(noVal, { labeled: 1 }), DataError, /no validation patients/);
  await refuses(() => casesToEvaluate(noVal, 'test'), DataError, /"test" is empty .* Use one of: train/);
  const dataset = await openDataset(copy('four', { train: patients.slice(0, 4), val: ['patient005'] }));
  for (const labeled of [0, 5, 1.5]) {
    await refuses(
      () => splitDataset(dataset, { labeled }),
      DataError,
      new RegExp(`4 training patients — got ${labeled}`),
    );
  }
});

test('a missing label is refused where it is needed only', async () => {
  const dir = copy('unlabelled', { train: patients.slice(0, 4), val: ['patient005'] });
  const dataset = await openDataset(dir);
  rmSync(dataset.cases.find((c) => c.patient === 'patient004')!.label!);
  const reopened = await openDataset(dir);
  assert.is(splitDataset(reopened, { labeled: 3 }).unlabeled[0]!.label, undefined);
  await refuses(
    () => splitDataset(reopened, { labeled: 4 }),
    DataError,
    /patient004_frame01\.nii\.gz has no ground truth/,
  );
  await refuses(() => casesToEvaluate(reopened, 'train'), DataError, /has no ground truth/);
});

unless(withoutAcdc, test)('real ACDC: the first 3, 7, 14 patients have 68, 136, 256 slices', async () => {
  const dataset = await openDataset(acdcFolder);
  const slices = splitDataset(dataset, { labeled: 14 }).labeled.map((c) => loadCase(c).depth);
  const total = (cases: number) => slices.slice(0, cases).reduce((sum, n) => sum + n, 0);
  assert.equal([total(6), total(14), total(28)], [68, 136, 256]);
  assert.is(dataset.patients.train.length, 70);
  assert.is(dataset.patients.val.length, 10);
});

test.run();
