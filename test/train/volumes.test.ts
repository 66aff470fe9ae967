// Runs on volumes, of every method and with everything that the claim's recipe adds: cut into patches, predicted by windows, resumed bit for
// bit; and what is refused of volumes.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openDataset } from '../../train/data/datasets.js';
import { createLoader } from '../../train/data/loader.js';
import { readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { createAtrium } from '../../train/data/phantom-atrium.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { DataError } from '../../train/files/data-error.js';
import { UsageError } from '../../train/files/usage-error.js';
import { readLog } from '../../train/run/log.js';
import { loadModel } from '../../train/run/trained-model.js';
import { type Config, methods, resolveConfig } from '../../train/settings/settings.js';
import { dryRun, train } from '../../train/training/training.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('volumes');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-volumes-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));
const data = join(folder, 'atria');
writePhantoms(data, { volumes: true, patients: 5, size: 24 });

const settings = {
  ...{ patch: [8, 16, 16], classes: 2, intensity: 'zscore', features: [2, 4], dropout: [0.1], labeled: 1 },
  ...{ batch: 4, labeledBatch: 2, iterations: 3, evalEvery: 3, saveEvery: 1, lr: 0.05, warmupFraction: 0 },
  ...{ diceClasses: 'foreground', threshold: 0.8, projectionWidth: 4, uncertaintyPasses: 2 },
};
const recipe = { strong: 'both', strongTurn: true, statistics: 'apart', separation: 'proto-ce' };
const configOf = (more: Record<string, unknown> = {}): Config => resolveConfig({ ...settings, ...more });
const state = (run: string): Buffer => readFileSync(join(folder, run, 'state', 'last.safetensors'));

test('phantoms of volumes: an atrium of a plausible size, vessels as bright, the same for the same seed', () => {
  for (const index of [0, 1, 2]) {
    const { image, label, shape, spacing } = createAtrium({ size: 48, seed: 1337, index });
    assert.is(image.length, shape[0] * shape[1] * shape[2]);
    const inside = label.reduce((sum, k) => sum + k, 0);
    const share = inside / label.length;
    assert.ok(share > 0.04 && share < 0.16, `${share} of the volume`);
    const millilitres = (inside * spacing[0] * spacing[1] * spacing[2]) / 1000;
    assert.ok(millilitres > 25 && millilitres < 110, `${millilitres} ml`);
    const atrium = [...image].filter((_, i) => label[i] === 1).sort((a, b) => a - b);
    const quarter = atrium[Math.floor(atrium.length / 4)]!;
    const bright = image.reduce((sum, v) => sum + Number(v >= quarter), 0);
    assert.ok(inside / bright < 0.75, 'a threshold finds it');
  }
  const one = createAtrium({ size: 24, seed: 3, index: 1 });
  assert.equal(createAtrium({ size: 24, seed: 3, index: 1 }).image, one.image);
  assert.not.equal(createAtrium({ size: 24, seed: 4, index: 1 }).label, one.label);
});

for (const method of methods) {
  test(`${method}: runs, scores and draws`, async () => {
    const config = configOf({ method, ...(method === 'supervised' || method === 'bcp' ? {} : recipe) });
    const result = await train({ gpu: await testGpu(), config, data, out: join(folder, method) });
    assert.is(result.iterations, 3);
    const log = readLog(join(folder, method, 'log.jsonl'));
    const steps = log.filter((record) => 'loss' in record);
    assert.ok(steps.length === 3 && steps.every(({ loss }) => Number.isFinite(loss)));
    assert.ok(log.some((record) => 'validation' in record));
    assert.ok(existsSync(join(folder, method, 'slices', '000003.png')));
  });
}

test('a stopped run resumes to the same bits', async () => {
  const gpu = await testGpu();
  const out = join(folder, 'resumed');
  const config = configOf({ method: 'lccs', ...recipe });
  const controller = new AbortController();
  const watch = setInterval(() => {
    const log = join(out, 'log.jsonl');
    if (existsSync(log) && readLog(log).length) controller.abort();
  }, 1);
  const first = await train({ gpu, config, data, out, stop: controller.signal });
  clearInterval(watch);
  assert.ok(first.interrupted && first.iterations > 0, 'it ended before it was stopped');
  await train({ gpu, config, data, out, resume: true });
  assert.ok(state('resumed').equals(state('lccs')));
});

test('the last checkpoint counts: nobody need be in validation', async () => {
  const gpu = await testGpu();
  const all = join(folder, 'all');
  writePhantoms(all, { volumes: true, patients: 3, size: 24 });
  const split = { train: ['patient001', 'patient002', 'patient003'], val: [], test: [] };
  writeFileSync(join(all, 'splits.json'), JSON.stringify(split));
  await refuses(
    async () => train({ gpu, config: configOf({ method: 'mt' }), data: all, out: join(folder, 'best') }),
    DataError,
    /no validation patients to choose a checkpoint by\. .*--select last/,
  );
  const result = await train({
    gpu,
    config: configOf({ method: 'mt', select: 'last' }),
    data: all,
    out: join(folder, 'last'),
  });
  assert.is(result.best, undefined);
  assert.not.ok(existsSync(join(folder, 'last', 'checkpoint-best.safetensors')));
  assert.equal(loadModel(gpu, { run: join(folder, 'last') }).config.patch, [8, 16, 16]);
  // Of a validated run it is the last scores that count.
  const scored = await train({
    ...{ gpu, data, out: join(folder, 'scored') },
    config: configOf({ method: 'mt', select: 'last', evalEvery: 1, iterations: 2 }),
  });
  assert.is(scored.best!.iteration, 2);
  assert.not.ok(existsSync(join(folder, 'scored', 'checkpoint-best.safetensors')));
});

test('a batch that this GPU cannot bind is refused before there is a folder, with the one that fits', async () => {
  const gpu = await testGpu();
  const limits = gpu.limits;
  // 4 items of 8×16×16 voxels and 4 channels (the skip beside what came up) are 128 KiB.
  const small = new Proxy(limits, {
    get: (of, name) => (name === 'maxStorageBufferBindingSize' ? 100_000 : Reflect.get(of, name, of)),
  });
  Object.defineProperty(gpu, 'limits', { value: small, configurable: true });
  try {
    const config = configOf({ method: 'mt' });
    const said = /binds at most 0\.1 MiB\..* A batch of 3 fits: use --batch 3 --labeled-batch 2/;
    const out = join(folder, 'unfit');
    await refuses(() => train({ gpu, config, data, out }), UsageError, said);
    assert.not.ok(existsSync(out));
    const { fits, fittingBatch } = dryRun(gpu, config);
    assert.equal([fits, fittingBatch], [false, 3]);
    const supervised = dryRun(gpu, configOf({ method: 'supervised', labeledBatch: 4 }));
    assert.equal([supervised.fits, supervised.fittingBatch], [false, 3]);
    assert.is(dryRun(gpu, configOf({ method: 'mt', patch: [16, 16, 16] })).fittingBatch, undefined);
  } finally {
    Object.defineProperty(gpu, 'limits', { value: limits, configurable: true });
  }
  assert.is(dryRun(gpu, configOf({ method: 'mt' })).fits, true);
});

/** A data set of two volumes like those of `data`, of which the first was changed. */
function changed(name: string, change: (image: string, label: string) => void): string {
  const dir = join(folder, name);
  for (const patient of ['patient001', 'patient002']) {
    mkdirSync(join(dir, patient), { recursive: true });
    for (const file of ['image.nii.gz', 'label.nii.gz'])
      writeFileSync(join(dir, patient, file), readFileSync(join(data, patient, file)));
  }
  change(join(dir, 'patient001', 'image.nii.gz'), join(dir, 'patient001', 'label.nii.gz'));
  writeFileSync(join(dir, 'splits.json'), JSON.stringify({ train: ['patient001', 'patient002'], val: [] }));
  return dir;
}

const load = async (dir: string, patch: readonly number[]) => {
  const loader = createLoader({
    ...{ dir, labeled: 1, classes: 2, patch, sample: 'patches', select: 'last', batch: 2, labeledBatch: 1, seed: 1 },
  });
  try {
    const { warnings } = await loader.ready();
    return { warnings: warnings.join('\n'), batch: await loader.next() };
  } finally {
    await loader.close();
  }
};

test('volumes smaller than the patch are padded, and that is said; a single slice is one, too', async () => {
  const { warnings, batch } = await load(
    changed('plain', () => {}),
    [8, 32, 16],
  );
  assert.match(warnings, /2 of 2 volumes are smaller than the patch 8×32×16 .*padded/);
  assert.ok(batch.image.length === 2 * 8 * 32 * 16);
  const flat = changed('flat', (image, label) => {
    for (const path of [image, label]) {
      const volume = readNifti(path);
      const [x, y] = volume.shape as [number, number];
      const data = volume.data.slice(5 * x * y, 6 * x * y);
      writeNifti(path, { data, shape: [x, y, 1], spacing: volume.spacing, dtype: 'uint8' });
    }
  });
  const one = await load(flat, [8, 16, 16]);
  assert.match(one.warnings, /1 of 2 volumes is smaller than the patch 8×16×16 .*patient001 1×/);
});

test('a label of another shape, and mixed voxel sizes', async () => {
  const other = changed('other', (_, label) => {
    const { data: values, shape, spacing } = readNifti(label);
    const rest = values.slice(shape[0]! * shape[1]!);
    writeNifti(label, { data: rest, shape: [shape[0]!, shape[1]!, shape[2]! - 1], spacing, dtype: 'uint8' });
  });
  await refuses(() => load(other, [8, 16, 16]), DataError, /label\.nii\.gz and its image differ in shape/);
  const mixed = changed('mixed', (image, label) => {
    for (const path of [image, label]) {
      const { data: values, shape } = readNifti(path);
      writeNifti(path, { data: values, shape, spacing: [1, 1, 1], dtype: 'uint8' });
    }
  });
  assert.match(
    (await load(mixed, [8, 16, 16])).warnings,
    /patient00\d: voxels of .* mm along x, half or twice the median/,
  );
});

test('the data set of volumes is described', async () => {
  const { layout, patients } = await openDataset(data);
  assert.is(layout, 'LA');
  assert.equal([patients.train.length, patients.val.length, patients.test.length], [3, 1, 1]);
});

test.run();
