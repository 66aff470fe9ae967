// Splits: the hash that moves nobody, files that name patients or cases, folds, and names that look like visits of one person.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openDataset, splitDataset } from '../../train/data/datasets.js';
import type { Case } from '../../train/data/layouts.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { hashSplit, resolveSplit, visitWarning } from '../../train/data/split.js';
import { DataError } from '../../train/files/data-error.js';
import { refuses } from '../refuses.js';

const test = suite('split');
const root = mkdtempSync(join(tmpdir(), 'wgrad-split-'));
test.after(() => rmSync(root, { recursive: true, force: true }));

const named = (count: number, prefix = 'patient') => Array.from({ length: count }, (_, i) => `${prefix}${i + 1}`);

test('every patient is in one part, no part is empty, and shares are near 70/10/20 %', () => {
  for (let count = 1; count <= 30; count++) {
    for (let seed = 0; seed < 20; seed++) {
      const { train, val, test: tested } = hashSplit(named(count), seed);
      assert.equal([...train, ...val, ...tested].sort(), named(count).sort());
      assert.ok(
        train.length > 0 && (count < 2 || val.length > 0) && (count < 3 || tested.length > 0),
        `${count} ${seed}`,
      );
    }
  }
  const { train, val, test: tested } = hashSplit(named(3000), 7);
  for (const [part, share] of [
    [train, 0.7],
    [val, 0.1],
    [tested, 0.2],
  ] as const) {
    assert.ok(Math.abs(part.length / 3000 - share) < 0.03, `${part.length}`);
  }
  assert.not.equal(hashSplit(named(30), 1), hashSplit(named(30), 2));
});

test('a patient who is added moves nobody from test to training; where parts had their own, nobody at all', () => {
  let moved = 0;
  for (let seed = 0; seed < 200; seed++) {
    for (const count of [3, 4, 5, 8, 20, 60]) {
      const before = hashSplit(named(count), seed);
      const after = hashSplit([...named(count), `another-${seed}`].sort(), seed);
      for (const patient of before.test)
        assert.not.ok(after.train.includes(patient), `${patient} of ${count}, ${seed}`);
      const partOf = (parts: typeof before) => (patient: string) =>
        (['train', 'val', 'test'] as const).find((part) => parts[part].includes(patient));
      const isMoved = named(count).some((patient) => partOf(before)(patient) !== partOf(after)(patient));
      if (count === 60) assert.not.ok(isMoved, `seed ${seed}`);
      moved += Number(isMoved);
      // The order of training stays, so that the first N stay labelled but for who is new among them.
      const stayed = after.train.filter((patient) => before.train.includes(patient));
      assert.equal(
        stayed,
        before.train.filter((patient) => after.train.includes(patient)),
      );
    }
  }
  assert.ok(moved < 400, `${moved} of 1200 splits moved`);
});

const caseOf = (id: string, patient = id.replace(/_frame\d+$/, '')): Case => ({
  id,
  patient,
  frame: undefined,
  image: `${id}.nii.gz`,
  label: undefined,
});
const cases = ['a', 'b', 'c', 'd'].flatMap((name) => [caseOf(`${name}_frame01`), caseOf(`${name}_frame09`)]);
const problemsOf = (content: unknown, fold = 0) =>
  resolveSplit('splits.json', content, cases, fold).problems.join('\n');

test('patients, cases, file names and folds are found; what contradicts itself is said', () => {
  const patients = resolveSplit('splits.json', { train: ['c', 'a'], val: ['b'], test: ['d'] }, cases);
  assert.equal(patients.parts, { train: ['c', 'a'], val: ['b'], test: ['d'] });
  assert.is(patients.cases.length, 8);
  const byCase = resolveSplit('splits.json', { train: ['c_frame09', 'a_frame01', 'a_frame09'], val: ['b'] }, cases);
  assert.equal(byCase.problems, []);
  assert.equal(byCase.parts, { train: ['c', 'a'], val: ['b'], test: [] });
  assert.equal(
    byCase.cases.map((c) => c.id).filter((id) => /^[abc]/.test(id)),
    [...['a_frame01', 'a_frame09', 'b_frame01', 'b_frame09', 'c_frame09']],
  );
  assert.is(byCase.left, 1);
  const asFiles = { train: ['a/a_frame01.nii.gz', 'c_frame01_0000.nii'], val: ['b_frame09_slice_3.h5'] };
  assert.equal(resolveSplit('splits.json', asFiles, cases).parts, { train: ['a', 'c'], val: ['b'], test: [] });
  const folds = [
    { train: ['a', 'b'], val: ['c'] },
    { train: ['c', 'a'], val: ['b'] },
  ];
  assert.equal(resolveSplit('splits.json', folds, cases, 1).parts.train, ['c', 'a']);
  const grouped = { patients: { one: ['a_frame01', 'b_frame01'] }, train: ['one', 'c'], val: ['d'] };
  const found = resolveSplit('splits.json', grouped, cases);
  assert.equal(
    found.cases.filter((c) => c.patient === 'one').map((c) => c.id),
    ['a_frame01', 'b_frame01'],
  );
  assert.equal(found.problems, []);

  assert.match(
    problemsOf({ train: ['a_frame01'], val: ['a_frame09'] }),
    /a, whose case a_frame09 this is, is in "train" and in "val"/,
  );
  assert.match(problemsOf({ train: ['a', 'a'] }), /a is in "train" of splits\.json twice/);
  assert.match(
    problemsOf({ train: ['x'] }),
    /names x, which has no images\. There are 4 patients, such as the patient a or the case a_frame01/,
  );
  assert.match(
    problemsOf({ train: 'a' }),
    /splits\.json: "train" must be a list of names — got "a"\. Use for instance \{"train": \["a/,
  );
  assert.match(problemsOf(folds, 2), /has 2 folds, 0 to 1 — got fold 2/);
  assert.match(problemsOf(folds[0], 1), /is one split, not a list of folds — got fold 1/);
  for (const content of [null, 3, 'a', [7]]) assert.match(problemsOf(content), /holds no split — got/);
  assert.match(
    problemsOf({ patients: ['a'], train: ['a'] }),
    /splits\.json: "patients" must be an object — got \["a"\]\. Use for instance \{"patients": \{"a/,
  );
  assert.match(problemsOf({ patients: { x: ['q'] } }), /gives x the case q, which has no images/);
  assert.match(problemsOf({ patients: { x: ['a_frame01'], y: ['a_frame01'] } }), /a_frame01 to x and to y/);
});

test('names that look like visits of one person are warned of, series are not', () => {
  for (const names of [
    ['P01-t0', 'P01-t1', 'P02-t0'],
    ['a_visit1', 'a_visit2'],
    ['x_baseline', 'x_followup'],
    ['P1_1', 'P1_2', 'P2_1', 'P2_2'],
    ['s_pre', 's_post', 'r_pre'],
  ]) {
    assert.match(visitWarning(names) ?? '', /look like visits of one patient/, names.join());
  }
  for (const names of [
    ['patient001', 'patient002'],
    ['la_003', 'la_004', 'la_007'],
    named(40, 'siteA_').concat(named(40, 'siteB_')),
    ['t1', 't2'],
    ['sub-01', 'sub-02'],
  ]) {
    assert.is(visitWarning(names), undefined, names.join());
  }
});

/** An nnU-Net folder with a phantom's first volume under other names. */
function nnunetOf(name: string, ids: readonly string[]): string {
  const source = join(root, 'source');
  writePhantoms(source, { patients: 3, size: 16 });
  const dir = join(root, name);
  for (const folder of ['imagesTr', 'labelsTr']) mkdirSync(join(dir, folder), { recursive: true });
  for (const id of ids) {
    cpSync(join(source, 'patient001', 'patient001_frame01.nii.gz'), join(dir, 'imagesTr', `${id}_0000.nii.gz`));
    cpSync(join(source, 'patient001', 'patient001_frame01_gt.nii.gz'), join(dir, 'labelsTr', `${id}.nii.gz`));
  }
  rmSync(source, { recursive: true });
  return dir;
}

test('sessions of BIDS, and both phases of a heart, are one patient', async () => {
  const ids = named(6, 'sub-0').flatMap((name) => [`${name}_ses-1_T1w`, `${name}_ses-2_T1w`]);
  const sessions = await openDataset(nnunetOf('bids', ids));
  assert.equal([...new Set(sessions.cases.map((c) => c.patient))], named(6, 'sub-0'));
  assert.is(sessions.cases[1]!.frame, 'ses-2_T1w');
  assert.equal(sessions.warnings, []);
  const phases = await openDataset(
    nnunetOf(
      'phases',
      named(4, 'A0').flatMap((name) => [`${name}_ED`, `${name}_ES`]),
    ),
  );
  assert.is(new Set(phases.cases.map((c) => c.patient)).size, 4);
  const visits = await openDataset(
    nnunetOf(
      'visits',
      named(4, 'P').flatMap((name) => [`${name}-t0`, `${name}-t1`]),
    ),
  );
  assert.is(new Set(visits.cases.map((c) => c.patient)).size, 8);
  assert.match(visits.warnings.join(), /P1-t0, P1-t1 look like visits of one patient \(4 such names\)/);
});

test("splits_final.json's folds; a fold that is not there; folds of splits.json", async () => {
  const ids = named(4, 'c');
  const dir = nnunetOf('folds', ids);
  const folds = ids.map((val) => ({ train: ids.filter((id) => id !== val), val: [val] }));
  writeFileSync(join(dir, 'splits_final.json'), JSON.stringify(folds));
  for (const [fold, val] of ids.entries()) {
    const dataset = await openDataset(dir, { fold });
    assert.equal(dataset.patients.val, [val]);
    assert.is(dataset.splitFrom, `splits_final.json, fold ${fold}`);
    assert.is(splitDataset(dataset, { labeled: 2 }).unlabeled.length, 1);
  }
  await refuses(() => openDataset(dir, { fold: 4 }), DataError, /has 4 folds, 0 to 3 — got fold 4/);
  writeFileSync(join(dir, 'splits.json'), JSON.stringify(folds.slice(0, 2).reverse()));
  assert.equal((await openDataset(dir)).patients.val, ['c2']);
  rmSync(join(dir, 'splits.json'));
  rmSync(join(dir, 'splits_final.json'));
  await refuses(() => openDataset(dir, { fold: 1 }), DataError, /has no folds — got fold 1/);
});

test('a data set of one patient says what is missing, not a list to edit', async () => {
  const dir = nnunetOf('single', ['c1']);
  await refuses(
    async () => splitDataset(await openDataset(dir), { labeled: 1 }),
    DataError,
    /has 1 patients, 1 with labels — expected at least 2/,
  );
});

test.run();
