// A run knows its data: its split and files are in split.json, evaluation and resumption hold to them, and a run that trained nothing
// leaves nothing that could be scored. On one device, by the commands' own functions.
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openDataset } from '../../train/data/datasets.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { DataError } from '../../train/files/data-error.js';
import { UsageError } from '../../train/files/usage-error.js';
import { readSafetensors, writeSafetensors } from '../../train/run/checkpoint.js';
import { isUnbegun, runFiles } from '../../train/run/run-folder.js';
import { describeSplit, openPart, readRunSplit } from '../../train/run/run-split.js';
import { readWeights } from '../../train/run/trained-model.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { type TrainingOptions, train } from '../../train/training/training.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('run and split');
const gpu = await testGpu();
const root = mkdtempSync(join(tmpdir(), 'wgrad-run-split-'));
const data = join(root, 'data');
writePhantoms(data, { patients: 8, size: 16 });
rmSync(join(data, 'splits.json'));
test.after(() => rmSync(root, { recursive: true, force: true }));

const config = resolveConfig({
  ...{ method: 'supervised', labeled: 2, iterations: 2, size: 16, features: [4, 8], dropout: [0, 0], batch: 4 },
  ...{ labeledBatch: 2, evalEvery: 2, saveEvery: 1 },
});
/** Trains quietly; what was said on stderr comes back. */
async function said(options: Partial<TrainingOptions> & { out: string }): Promise<string> {
  return heard(() => train({ gpu, config, data, ...options }));
}
async function heard(work: () => Promise<unknown>): Promise<string> {
  const { error } = console;
  const lines: string[] = [];
  console.error = (...words: unknown[]) => void lines.push(words.join(' '));
  try {
    await work();
  } finally {
    console.error = error;
  }
  return lines.join('\n');
}
const run = join(root, 'run');
await said({ out: run });
const split = readRunSplit(run)!;

/** The data with one patient more, a copy of another under a name that would be for test by its hash. */
function grown(name: string): string {
  const dir = join(root, name);
  cpSync(data, dir, { recursive: true });
  cpSync(join(data, 'patient001'), join(dir, 'patient021'), { recursive: true });
  for (const file of ['frame01', 'frame01_gt']) {
    renameSync(
      join(dir, 'patient021', `patient001_${file}.nii.gz`),
      join(dir, 'patient021', `patient021_${file}.nii.gz`),
    );
  }
  return dir;
}

test('split.json: who was where, in order, with a fingerprint of every file; it is a splits.json, too', async () => {
  const dataset = await openDataset(data);
  assert.equal({ train: split.train, val: split.val, test: split.test }, dataset.patients);
  assert.equal(split.labeled, split.train.slice(0, 2));
  assert.is(split.from, 'seed 1337');
  assert.is(Object.keys(split.files).length, 32);
  const { bytes, sha256 } = split.files[`${split.val[0]}/${split.val[0]}_frame01.nii.gz`]!;
  assert.is(bytes, readFileSync(join(data, split.val[0]!, `${split.val[0]}_frame01.nii.gz`)).length);
  assert.match(sha256, /^[0-9a-f]{64}$/);
  const copy = join(root, 'copied');
  cpSync(data, copy, { recursive: true });
  cpSync(join(run, runFiles.split), join(copy, 'splits.json'));
  assert.equal((await openDataset(copy)).patients, dataset.patients);
});

test("evaluation takes the run's own part, whoever was added; the data set's own only by name, and says who was trained on", async () => {
  const more = grown('more');
  writeFileSync(join(more, 'splits.json'), JSON.stringify({ train: split.test, val: [], test: split.train }));
  let found = await openPart('evaluate', more, run, { part: 'test' });
  assert.equal([...new Set(found.cases.map((c) => c.patient))].sort(), [...split.test].sort());
  const told = await heard(async () => (found = await openPart('evaluate', more, run, { part: 'test' })));
  assert.match(told, /1 patients in .*more are not in the split of .* and are left out: patient021/);
  const warned = await heard(async () => {
    found = await openPart('evaluate', more, run, { part: 'test', splitOf: 'data' });
  });
  assert.match(
    warned,
    new RegExp(`${2 * split.train.length} of ${2 * split.train.length} test volumes were trained on`),
  );
  assert.is(found.trained.length, 2 * split.train.length);

  const gone = join(root, 'gone');
  cpSync(data, gone, { recursive: true });
  rmSync(join(gone, split.test[0]!), { recursive: true });
  await refuses(
    () => openPart('evaluate', gone, run, { part: 'test' }),
    DataError,
    new RegExp(
      `1 of the ${split.test.length} test patients of .* are not in .* — ${split.test[0]}\\. .*--split-of data`,
    ),
  );
  const corrected = join(root, 'corrected');
  cpSync(data, corrected, { recursive: true });
  appendFileSync(join(corrected, split.test[0]!, `${split.test[0]}_frame01_gt.nii.gz`), ' ');
  assert.match(
    await heard(() => openPart('evaluate', corrected, run, { part: 'test' })),
    /files have changed since '.*' was trained: .*_frame01_gt\.nii\.gz has \d+ bytes, had \d+/,
  );
  // Other data under the same names: another hospital's, or the same rewritten. Their own split, and a word.
  const other = join(root, 'other');
  writePhantoms(other, { patients: 8, size: 16, seed: 3 });
  const otherSaid = await heard(async () => (found = await openPart('evaluate', other, run, { part: 'test' })));
  assert.equal([...new Set(found.cases.map((c) => c.patient))], (await openDataset(other)).patients.test);
  if (found.cases.some((c) => split.train.includes(c.patient)))
    assert.match(otherSaid, /have names that '.*' was trained on/);
});

test('resumption: refused by name where what it learns from differs, allowed in words; the split stays', async () => {
  const longer = resolveConfig({ ...config, iterations: 3 });
  const changed = join(root, 'changed');
  cpSync(data, changed, { recursive: true });
  const patient = split.train[1]!;
  const [from, to] = [split.train[0]!, patient].map((name) => join(changed, name, `${name}_frame01.nii.gz`));
  cpSync(from!, to!);
  cpSync(from!.replace('frame01', 'frame01_gt'), to!.replace('frame01', 'frame01_gt'));
  rmSync(join(changed, split.val[0]!), { recursive: true });
  const out = join(root, 'resumed');
  cpSync(run, out, { recursive: true });
  await refuses(
    () => said({ out, data: changed, config: longer, resume: true }),
    UsageError,
    new RegExp(`is not what .* was trained on — .*${patient}_frame01\\.nii\\.gz has .*--changed-data`),
  );
  assert.equal(readRunSplit(out), split);
  // A patient more, and a test label corrected, touch nothing that is trained on.
  const more = grown('more-resumed');
  appendFileSync(join(more, split.test[0]!, `${split.test[0]}_frame01_gt.nii.gz`), ' ');
  assert.match(await said({ out, data: more, config: longer, resume: true }), /1 patient in no part/);
  assert.equal(readRunSplit(out), split);
  const whole = join(root, 'whole');
  cpSync(run, whole, { recursive: true });
  await said({ out: whole, config: longer, resume: true });
  for (const file of [runFiles.last, runFiles.log]) {
    assert.ok(readFileSync(join(out, file)).equals(readFileSync(join(whole, file))), file);
  }
  // In words: who is left of the split goes on, and that is what the run knows from now on.
  const allowed = join(root, 'allowed');
  cpSync(run, allowed, { recursive: true });
  rmSync(join(changed, split.train[2]!), { recursive: true });
  cpSync(join(data, split.val[0]!), join(changed, split.val[0]!), { recursive: true });
  await said({ out: allowed, data: changed, config: longer, resume: true, changedData: true });
  assert.equal(
    readRunSplit(allowed)!.train,
    split.train.filter((name) => name !== split.train[2]),
  );
});

test('a run that failed before its first iteration leaves no model, and is begun again by the same command', async () => {
  const bad = join(root, 'bad');
  cpSync(data, bad, { recursive: true });
  const { train: trained } = (await openDataset(bad)).patients;
  const label = join(bad, trained[0]!, `${trained[0]}_frame01_gt.nii.gz`);
  cpSync(label, `${label}.kept`);
  writeFileSync(label, 'not a volume');
  const out = join(root, 'failed');
  await refuses(() => said({ out, data: bad }), DataError, /frame01_gt/);
  assert.ok(isUnbegun(out));
  assert.not.ok(existsSync(join(out, runFiles.last)));
  await refuses(() => readWeights({ run: out }), UsageError, /has saved 0 trained iterations.*Start wgrad train again/);
  await refuses(() => readWeights({ run: out, role: 'teacher' }), UsageError, /0 trained iterations/);
  renameSync(`${label}.kept`, label);
  await said({ out, data: bad });
  assert.not.ok(isUnbegun(out));
  assert.is(
    readRunSplit(out)!.files[`${trained[0]}/${trained[0]}_frame01_gt.nii.gz`]!.bytes,
    readFileSync(label).length,
  );
  await refuses(() => said({ out, data: bad }), UsageError, /exists and is not an empty folder/);
  // What somebody put there stays.
  const mine = join(root, 'mine');
  cpSync(out, mine, { recursive: true });
  for (const name of [runFiles.last, runFiles.best, runFiles.summary]) rmSync(join(mine, name));
  assert.not.ok(isUnbegun(mine));
});

test('weights that are not finite are neither read nor saved', async () => {
  const { arrays, metadata } = readSafetensors(join(run, runFiles.last));
  for (const [name, value] of [
    ['decoder.out_conv.bias', Number.NaN],
    ['encoder.in_conv.conv_conv.1.running_var', Number.POSITIVE_INFINITY],
  ] as const) {
    const broken = new Map(arrays);
    const data = Float32Array.from(arrays.get(name)!.data);
    data[1] = value;
    broken.set(name, { shape: arrays.get(name)!.shape, data });
    const file = join(root, 'broken.safetensors');
    writeSafetensors(file, broken, metadata);
    await refuses(
      () => readWeights({ weights: file }),
      Error,
      new RegExp(
        `broken\\.safetensors is not usable — '${name}' holds 1 of \\d+ values that are not finite, first ${value} at 1`,
      ),
    );
    await refuses(() => said({ out: join(root, 'from-broken'), initWeights: file }), Error, /is not usable/);
  }
  // A step so long that the weights overflow while its own loss is finite.
  const out = join(root, 'overflown');
  await refuses(
    () => said({ out, config: resolveConfig({ ...config, lr: 1e20, weightDecay: 1e20, iterations: 1 }) }),
    Error,
    /the weights are not finite after 1 iterations — .* The last good state is in /,
  );
  assert.not.ok(existsSync(join(out, runFiles.last)));
});

test('a data folder that changed under a run is described anew only when nothing was trained', async () => {
  const dataset = await openDataset(data);
  assert.equal(describeSplit(dataset, 2), split);
});

test.run();
