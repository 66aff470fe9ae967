// Phantoms: ACDC's layout, hearts that are put together as hearts are, the same bytes for the same seed, and hard enough.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCase } from '../../train/data/case-volume.js';
import { casesToEvaluate, openDataset, splitDataset } from '../../train/data/datasets.js';
import { createPhantom, type PhantomFrame } from '../../train/data/phantom.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { DataError } from '../../train/files/data-error.js';
import { refuses } from '../refuses.js';

const test = suite('phantom');
const root = mkdtempSync(join(tmpdir(), 'wgrad-phantom-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
const phantoms = Array.from({ length: 6 }, (_, index) => createPhantom({ size: 64, seed: 1337, index }));
const voxels = (label: ArrayLike<number>, of: number) => Array.from(label).filter((value) => value === of).length;

test('written in ACDC layout, read back like real data', async () => {
  const dir = join(root, 'out');
  writePhantoms(dir, { patients: 20, size: 16, seed: 2 });
  const dataset = await openDataset(dir);
  assert.is(dataset.splitFrom, 'splits.json');
  assert.equal(
    Object.values(dataset.patients).map((part) => part.length),
    [14, 2, 4],
  );
  assert.is(splitDataset(dataset, { labeled: 2 }).labeled.length, 4);
  assert.is(casesToEvaluate(dataset, 'test').length, 8);
  assert.match(readFileSync(join(dir, 'patient001', 'Info.cfg'), 'utf8'), /^ED: 1\nES: \d+\nGroup: \w+\n/);
  const loaded = loadCase(dataset.cases[0]!);
  assert.ok(loaded.depth >= 8 && loaded.depth <= 10);
  const [dx, dy, dz] = loaded.spacing;
  assert.is(dx, dy);
  assert.ok(dx > 12 && dx < 17, `16 pixels of ${dx} mm`); // a field of view of about 230 mm
  assert.ok(dz > 6 && dz < 14, `slices ${dz} mm apart`);
});

test('the same options give the same bytes, another seed or patient another heart', () => {
  const write = (name: string, seed: number) => {
    const dir = join(root, name);
    writePhantoms(dir, { patients: 3, size: 16, seed });
    return readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
      .sort()
      .map((path) => `${path.slice(dir.length)} ${readFileSync(path, 'base64')}`);
  };
  const first = write('first', 7);
  assert.is(first.length, 3 * 5 + 1);
  assert.equal(write('second', 7), first);
  assert.not.equal(write('third', 8), first);
  assert.not.equal(phantoms[0]!.diastole.label, phantoms[1]!.diastole.label);
});

test('all three structures in every frame, in plausible amounts; systole empties the left ventricle', () => {
  for (const { diastole, systole, spacing } of phantoms) {
    const millilitres = (frame: PhantomFrame, of: number) =>
      (voxels(frame.label, of) * spacing[0] * spacing[1] * spacing[2]) / 1000;
    for (const frame of [diastole, systole]) for (const of of [1, 2, 3]) assert.ok(voxels(frame.label, of) > 50);
    const end = millilitres(diastole, 3);
    assert.ok(end > 60 && end < 350, `left ventricle of ${end} ml`);
    const ejected = 1 - millilitres(systole, 3) / end;
    assert.ok(ejected > 0.1 && ejected < 0.9, `ejection fraction ${ejected}`);
  }
});

test('the cavity lies within the myocardium: it never touches background or the right ventricle', () => {
  const size = 64;
  for (const { diastole, systole } of phantoms) {
    for (const { label } of [diastole, systole]) {
      for (let i = 0; i < label.length; i++) {
        if (label[i] !== 3) continue;
        for (const neighbour of [i - 1, i + 1, i - size, i + size]) {
          // A thin wall is less than a pixel at this size once in a while; never more.
          if (label[neighbour]! < 2) assert.ok(voxels(label.subarray(neighbour - 2, neighbour + 3), 2) > 0);
        }
      }
    }
  }
});

test('from base to apex the heart shrinks and the right ventricle ends first', () => {
  for (const { diastole, shape } of phantoms) {
    const pixels = shape[0] * shape[1];
    const slices = Array.from({ length: shape[2] }, (_, z) => diastole.label.subarray(z * pixels, (z + 1) * pixels));
    const last = (of: number) => slices.findLastIndex((slice) => voxels(slice, of) > 0);
    assert.ok(last(1) <= last(2));
    const heart = (z: number) => pixels - voxels(slices[z]!, 0);
    assert.ok(heart(last(2)) < heart(2) / 2, 'the tip is as wide as the base');
  }
});

test('a threshold does not find the ventricles: most pixels as bright as blood are something else', () => {
  for (const { diastole } of phantoms) {
    const { image, label } = diastole;
    const blood = Array.from(image).filter((_, i) => label[i] === 3);
    const middle = blood.sort((a, b) => a - b)[Math.floor(blood.length / 4)]!;
    const bright = Array.from(image.keys()).filter((i) => image[i]! > middle);
    const right = bright.filter((i) => label[i] === 1 || label[i] === 3).length;
    assert.ok(right / bright.length < 0.5, `${right} of ${bright.length} bright pixels are ventricle`);
  }
});

test('what cannot be written', async () => {
  const used = join(root, 'used');
  writePhantoms(used, { patients: 3, size: 16 });
  await refuses(() => writePhantoms(used, { patients: 3, size: 16 }), DataError, /is not empty/);
  writeFileSync(join(root, 'a-file'), '');
  await refuses(() => writePhantoms(join(root, 'a-file'), {}), DataError, /cannot write/);
  await refuses(() => writePhantoms(join(root, 'a-file', 'below'), {}), DataError, /cannot write|not a folder/);
  for (const patients of [2, 1000, 3.5])
    await refuses(() => writePhantoms(join(root, 'x'), { patients }), DataError, /3 to 999/);
  for (const size of [15, 2000]) await refuses(() => writePhantoms(join(root, 'x'), { size }), DataError, /16 to 1024/);
});

test.run();
