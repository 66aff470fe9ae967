// The loader end to end, on phantoms and on real ACDC: what a batch holds, resuming, errors across the thread, and that
// a process with an open loader still ends.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { applyTransform, drawTransform, transformedShape } from '../../train/data/augment.js';
import { loadCase } from '../../train/data/case-volume.js';
import { openDataset, splitDataset } from '../../train/data/datasets.js';
import { type Batch, createLoader, type LoaderOptions } from '../../train/data/loader.js';
import { readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { nativeSamples, resizeNearest, samplesOf } from '../../train/data/samples.js';
import { DataError } from '../../train/files/data-error.js';
import { patience } from '../patience.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';
import { acdcFolder, withoutAcdc } from './acdc.js';

const test = suite('loader');
const root = mkdtempSync(join(tmpdir(), 'wgrad-loader-'));
const dir = join(root, 'phantoms');
writePhantoms(dir, { patients: 8, size: 24, seed: 1 });
test.after(() => rmSync(root, { recursive: true, force: true }));
const options: LoaderOptions = { dir, labeled: 2, patch: [16, 16], batch: 5, labeledBatch: 2, seed: 11 };

async function take(count: number, change: Partial<LoaderOptions> = {}): Promise<Batch[]> {
  const loader = createLoader({ ...options, ...change });
  const batches: Batch[] = [];
  for (let i = 0; i < count; i++) batches.push(await loader.next());
  await loader.close();
  return batches;
}

test('a batch: labelled items first, each an augmented slice of its case', async () => {
  const split = splitDataset(await openDataset(dir), { labeled: 2 });
  const slices = new Map(
    [...split.labeled, ...split.unlabeled]
      .flatMap((c) => nativeSamples(loadCase(c), options))
      .map((s) => [`${s.id} z=${s.z}`, s]),
  );
  const labeled = new Set(split.labeled.map((c) => c.id));
  for (const [i, batch] of (await take(6)).entries()) {
    assert.is(batch.iteration, i);
    assert.is(batch.image.length, 5 * 16 * 16);
    assert.is(batch.label.length, 5 * 16 * 16);
    assert.equal(batch.hasLabel, [true, true, true, true, true]);
    assert.equal(
      batch.cases.map((name) => labeled.has(name.split(' ')[0]!)),
      [true, true, false, false, false],
    );
    for (const [index, name] of batch.cases.entries()) {
      const slice = slices.get(name)!;
      const transform = drawTransform(11, i, index);
      const range = [index * 256, (index + 1) * 256] as const;
      const [, height, width] = slice.shape;
      // As SSL4MIS: first turned or rotated at its own size, then resized.
      const expected = <A extends Float32Array | Uint8Array>(picture: A) =>
        resizeNearest(
          applyTransform(picture, [height, width], transform),
          transformedShape([height, width], transform),
          [16, 16],
        );
      assert.equal(batch.image.slice(...range), expected(slice.image));
      assert.equal(batch.label.slice(...range), expected(slice.label!));
    }
  }
});

test('resumed at an iteration, the batches are the same; another seed gives others; augmenting can be off', async () => {
  const whole = await take(8);
  assert.equal(await take(3, { startIteration: 5 }), whole.slice(5));
  assert.equal(await take(8, { ahead: 1 }), whole);
  assert.not.equal(
    (await take(8, { seed: 12 })).map((b) => b.cases),
    whole.map((b) => b.cases),
  );
  const plain = (await take(1, { augment: false }))[0]!;
  assert.equal(plain.cases, whole[0]!.cases);
  const [id, z] = plain.cases[0]!.split(' z=');
  const slice = samplesOf(loadCase((await openDataset(dir)).cases.find((c) => c.id === id)!), options)[Number(z)]!;
  assert.equal(plain.image.slice(0, 256), slice.image);
});

test('supervised: labelled items only, and only those are read', async () => {
  const loader = createLoader({ ...options, batch: 3, labeledBatch: 3 });
  const { labeledSamples, unlabeledSamples } = await loader.ready();
  assert.is(unlabeledSamples, 0);
  const split = splitDataset(await openDataset(dir), { labeled: 2 });
  assert.is(
    labeledSamples,
    split.labeled.reduce((sum, c) => sum + loadCase(c).depth, 0),
  );
  const patients = new Set(split.labeled.map((c) => c.patient));
  for (let i = 0; i < 10; i++)
    for (const name of (await loader.next()).cases) assert.ok(patients.has(name.slice(0, 10)));
  await loader.close();
});

test('without splits.json the split is that of openDataset, whatever the training seed', async () => {
  const unsplit = join(root, 'unsplit');
  cpSync(dir, unsplit, { recursive: true });
  rmSync(join(unsplit, 'splits.json'));
  for (const seed of [1, 2, 3]) {
    const train = new Set((await openDataset(unsplit)).patients.train);
    const batches = await take(5, { dir: unsplit, seed });
    for (const name of batches.flatMap((batch) => batch.cases)) assert.ok(train.has(name.slice(0, 10)), name);
  }
});

test('unlabelled patients without ground truth are used, and marked', async () => {
  const bare = join(root, 'bare');
  cpSync(dir, bare, { recursive: true });
  for (const c of splitDataset(await openDataset(bare), { labeled: 2 }).unlabeled) rmSync(c.label!);
  const [batch] = await take(1, { dir: bare });
  assert.equal(batch!.hasLabel, [true, true, false, false, false]);
  assert.ok(batch!.label.subarray(2 * 256).every((value) => value === 0));
});

test('errors of the data arrive at next and ready, by name, again and again', async () => {
  const spoil = async (name: string, work: (image: string, label: string) => void) => {
    const copy = join(root, name);
    cpSync(dir, copy, { recursive: true });
    const c = splitDataset(await openDataset(copy), { labeled: 2 }).labeled[0]!;
    work(c.image, c.label!);
    return copy;
  };
  const cases: [string, RegExp][] = [
    [await spoil('cut', (image) => truncateSync(image, 500)), /frame01\.nii\.gz: .*truncated/],
    [await spoil('emptied', (image) => truncateSync(image, 0)), /the file is empty/],
    [await spoil('text', (image) => writeFileSync(image, 'no picture')), /not a NIfTI file/],
    [
      await spoil('beyond', (_, label) => {
        const like = readNifti(label);
        writeNifti(label, { data: like.data.map((v) => v * 2), like, dtype: 'uint8' });
      }),
      /_gt\.nii\.gz holds the label (4|6)/,
    ],
    [
      await spoil('other-shape', (_, label) => writeNifti(label, { data: [0, 0], shape: [2, 1, 1], dtype: 'uint8' })),
      /differ in shape/,
    ],
    [join(root, 'nowhere'), /cannot open/],
  ];
  for (const [folder, message] of cases) {
    const loader = createLoader({ ...options, dir: folder });
    await refuses(() => loader.next(), DataError, message);
    await refuses(() => loader.next(), DataError, message);
    await refuses(() => loader.ready(), DataError, message);
    await loader.close();
  }
  const tooMany = splitDataset(await openDataset(dir), { labeled: 1 });
  const trainPatients = (tooMany.labeled.length + tooMany.unlabeled.length) / 2;
  await refuses(() => take(1, { labeled: trainPatients }), DataError, /nothing unlabelled to learn from.*"supervised"/);
  await refuses(() => take(1, { labeled: 99 }), DataError, /got 99 labelled/);
  await refuses(() => take(1, { patch: [16, -1] }), DataError, /sides of a patch must be 1 or more voxels — got 16,-1/);
  await refuses(() => take(1, { labeledBatch: 6 }), DataError, /got 6 of 5/);
});

test('a programming error in the worker keeps its stack and does not hang', async () => {
  await refuses(() => take(1, { startIteration: Number.NaN }), Error, /loader: TypeError.*\n +at /s);
});

test('batches asked for at once come in order; after close there are none', async () => {
  const loader = createLoader(options);
  const batches = await Promise.all(Array.from({ length: 12 }, () => loader.next()));
  assert.equal(
    batches.map((batch) => batch.iteration),
    Array.from({ length: 12 }, (_, i) => i),
  );
  assert.is(loader.stats.batches, 12);
  const pending = loader
    .next()
    .then(() => loader.next())
    .then(() => loader.next());
  const outcome = pending.then(
    () => 'made',
    (error: Error) => error.message,
  );
  await loader.close();
  assert.match(await outcome, /made|closed/);
  await refuses(() => loader.next(), Error, /closed/);
});

test('a loader that nobody closes does not keep the process alive', () => {
  const script = `
    import { createLoader } from ${JSON.stringify(new URL('../../train/data/loader.js', import.meta.url).href)};
    const loader = createLoader(${JSON.stringify(options)});
    await loader.next();
    console.log('got one');`;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', script], { timeout: patience });
  assert.is(String(output).trim(), 'got one');
});

unless(withoutAcdc, test)('real ACDC: 7 labelled patients, 136 slices, and batches faster than a step', async () => {
  const loader = createLoader({ dir: acdcFolder, labeled: 7, patch: [96, 96], batch: 8, labeledBatch: 4, seed: 1337 });
  const info = await loader.ready();
  assert.is(info.labeledSamples, 136);
  for (let i = 0; i < 20; i++) {
    const { image, label } = await loader.next();
    assert.ok(image.every((value) => value >= 0 && value <= 1));
    assert.ok(label.every((value) => value <= 3));
  }
  await loader.close();
});

test.run();
