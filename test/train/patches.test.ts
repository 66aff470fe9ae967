// Patches of slices and volumes: what a turn, a flip and a place cut out (numpy says), that every place occurs equally often, that labels go
// with images; bytes in place of numbers; coarser voxels, and the way back.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { uniformStream } from '../../engine/index.js';
import { drawPatch, type PatchDraw } from '../../train/data/augment.js';
import { type CaseVolume, loadCase } from '../../train/data/case-volume.js';
import { coarseImage, coarseLabels } from '../../train/data/downsample.js';
import { zScored } from '../../train/data/intensity.js';
import { createLoader, type LoaderOptions } from '../../train/data/loader.js';
import { writeNifti } from '../../train/data/nifti-file.js';
import { cutPatch, levelsOf, storedSample } from '../../train/data/patches.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { type Grid, nativeSamples, restoreLabels, samplesOf, sidesAt, stackSamples } from '../../train/data/samples.js';
import { predictCase, windowStride } from '../../train/evaluation/evaluate.js';
import type { Predictor } from '../../train/evaluation/predictor.js';
import { closeTo } from '../close-to.js';

const test = suite('patches');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-patches-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

type Triple = readonly [number, number, number];

/** A volume of these sides whose voxel i is i + 1, in its image and in its label. */
function counting([depth, height, width]: Triple): CaseVolume {
  const voxels = depth * height * width;
  const image = Float32Array.from({ length: voxels }, (_, i) => i + 1);
  const label = Uint8Array.from(image);
  return { ...{ depth, height, width, image, label, spacing: [1, 1, 1], case: { id: 'a' } } } as unknown as CaseVolume;
}

function cut(volume: CaseVolume, patch: Triple, draw: PatchDraw): { image: Float32Array; label: Uint8Array } {
  const [sample] = nativeSamples(volume, { patch, sample: 'patches' });
  const voxels = patch[0] * patch[1] * patch[2];
  const [image, label] = [new Float32Array(voxels).fill(99), new Uint8Array(voxels).fill(99)]; // what a buffer held before
  cutPatch(storedSample(sample!), patch, draw, image, label);
  return { image, label };
}

test('whole volumes turned and flipped: np.flip(np.rot90(a, turns, axes=(1, 2)), 1 + flip)', () => {
  // a = np.arange(1, 25).reshape(2, 3, 4)
  const expected: [0 | 1 | 2 | 3, 0 | 1, Triple, string][] = [
    [0, 0, [2, 3, 4], '9 10 11 12 5 6 7 8 1 2 3 4 21 22 23 24 17 18 19 20 13 14 15 16'],
    [0, 1, [2, 3, 4], '4 3 2 1 8 7 6 5 12 11 10 9 16 15 14 13 20 19 18 17 24 23 22 21'],
    [1, 0, [2, 4, 3], '1 5 9 2 6 10 3 7 11 4 8 12 13 17 21 14 18 22 15 19 23 16 20 24'],
    [1, 1, [2, 4, 3], '12 8 4 11 7 3 10 6 2 9 5 1 24 20 16 23 19 15 22 18 14 21 17 13'],
    [2, 0, [2, 3, 4], '4 3 2 1 8 7 6 5 12 11 10 9 16 15 14 13 20 19 18 17 24 23 22 21'],
    [2, 1, [2, 3, 4], '9 10 11 12 5 6 7 8 1 2 3 4 21 22 23 24 17 18 19 20 13 14 15 16'],
    [3, 0, [2, 4, 3], '12 8 4 11 7 3 10 6 2 9 5 1 24 20 16 23 19 15 22 18 14 21 17 13'],
    [3, 1, [2, 4, 3], '1 5 9 2 6 10 3 7 11 4 8 12 13 17 21 14 18 22 15 19 23 16 20 24'],
  ];
  for (const [turns, flip, shape, values] of expected) {
    const draw: PatchDraw = { transform: { kind: 'turnAndFlip', turns, flip }, place: [0.5, 0.5, 0.5] };
    const { image, label } = cut(counting([2, 3, 4]), shape, draw);
    assert.is(image.join(' '), values, `${turns} turns, flip ${flip}`);
    assert.is(label.join(' '), values);
  }
});

test('a patch is a part of the turned volume, wherever it is placed', () => {
  const volume = counting([3, 5, 7]);
  for (const turns of [0, 1, 2, 3] as const) {
    for (const flip of [0, 1] as const) {
      const transform = { kind: 'turnAndFlip', turns, flip } as const;
      const sides: Triple = turns % 2 ? [3, 7, 5] : [3, 5, 7];
      const whole = cut(volume, sides, { transform, place: [0, 0, 0] }).image;
      const patch: Triple = [2, 3, 4];
      for (const place of [
        [0, 0, 0],
        [0.4, 0.99, 0.6],
        [0.999, 0.2, 0.999],
      ] as const) {
        const first = sides.map((side, axis) => Math.floor(place[axis]! * (side - patch[axis]! + 1)));
        const { image, label } = cut(volume, patch, { transform, place });
        image.forEach((value, i) => {
          const [z, y, x] = [Math.floor(i / 12), Math.floor(i / 4) % 3, i % 4];
          const at = ((first[0]! + z) * sides[1] + first[1]! + y) * sides[2] + first[2]! + x;
          assert.is(value, whole[at], `${turns} ${flip} ${place} at ${z},${y},${x}`);
          assert.is(label[i], value);
        });
      }
    }
  }
});

test('where a side is shorter than the patch it is padded on both sides, the smaller half first', () => {
  const draw: PatchDraw = { transform: { kind: 'identity' }, place: [0.7, 0.7, 0.7] };
  const { image, label } = cut(counting([1, 2, 3]), [2, 5, 3], draw);
  const rows = [0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0];
  assert.equal([...image], [...rows, ...Array(15).fill(0)]);
  assert.equal([...label], [...image]);
  // As a predictor's window is padded.
  assert.equal([...stackSamples(counting([1, 2, 3]), { patch: [2, 5, 3], sample: 'patches' })], [...image]);
});

test('every place, from the first to the last, every turn and flip, equally often (χ²)', () => {
  const draws = 6000;
  const counts = [
    new Array(4).fill(0),
    new Array(2).fill(0),
    new Array(5).fill(0),
    new Array(7).fill(0),
    new Array(9).fill(0),
  ];
  for (let i = 0; i < draws; i++) {
    const { transform, place } = drawPatch(7, Math.floor(i / 4), i % 4);
    if (transform.kind !== 'turnAndFlip') throw new Error('no turn');
    counts[0]![transform.turns]++;
    counts[1]![transform.flip]++;
    for (const [axis, u] of place.entries()) counts[2 + axis]![Math.floor(u * counts[2 + axis]!.length)]++;
  }
  for (const found of counts) {
    const expected = draws / found.length;
    const chi = found.reduce((sum: number, n: number) => sum + (n - expected) ** 2 / expected, 0);
    const freedom = found.length - 1;
    assert.ok(chi < freedom + 5 * Math.sqrt(2 * freedom), `χ² ${chi} of ${found}`);
  }
  assert.equal(drawPatch(7, 3, 1), drawPatch(7, 3, 1));
  assert.not.equal(drawPatch(7, 3, 1).place, drawPatch(7, 3, 2).place);
  assert.equal(drawPatch(7, 3, 1, false), { ...drawPatch(7, 3, 1), transform: { kind: 'identity' } });
});

test('volumes of few values are kept as bytes, and give the same numbers to the bit', () => {
  const uniform = uniformStream(3);
  const few = Float32Array.from({ length: 5000 }, () => Math.fround(Math.floor(256 * uniform()) * 0.0123 - 1.7));
  const kept = levelsOf(few);
  assert.ok(kept.values instanceof Uint8Array && kept.table!.length > 200);
  assert.equal(
    new Uint32Array(Float32Array.from(kept.values, (code) => kept.table![code]!).buffer),
    new Uint32Array(few.buffer),
  );
  const many = Float32Array.from({ length: 5000 }, uniform);
  assert.is(levelsOf(many).values, many);
  const signed = levelsOf(Float32Array.of(0, -0));
  assert.ok(Object.is(signed.table![signed.values[1]!], -0));
});

test('coarser voxels: means of 2×2×2, labels of four of eight, and of what is there at an odd end', () => {
  const label = Uint8Array.of(1, 1, 0, 0, 1, 1, 0, 0); // half of them
  assert.equal([...coarseLabels(label, [2, 2, 2], [2, 2, 2])], [1]);
  assert.equal([...coarseLabels(Uint8Array.of(1, 1, 0, 0, 1, 0, 0, 0), [2, 2, 2], [2, 2, 2])], [0]);
  assert.equal([...coarseLabels(Uint8Array.of(2, 1, 2, 1, 3, 3, 3, 0), [2, 2, 2], [2, 2, 2])], [3]);
  assert.equal([...coarseImage(Float32Array.of(1, 2, 3, 4, 5, 6), [1, 2, 3], [2, 2, 2])], [3, 4.5]);
  assert.equal([...coarseImage(Float32Array.of(1, 2, 3, 4, 5, 6), [1, 2, 3], [1, 2, 2])], [3, 4.5]);
});

/** Two classes: the probability of the second is 1 where the voxel is above a limit. */
const above =
  (limit: number): Predictor =>
  async (patches) => {
    const probabilities = new Float32Array(2 * patches.length);
    for (const [i, p] of patches.entries()) probabilities[2 * i + Number(p > limit)] = 1;
    return { labels: Uint8Array.from(patches, (p) => Number(p > limit)), confidence: undefined, probabilities };
  };

test('a case by windows of its own voxels: any size, and predictions go back to where they were', async () => {
  for (const sides of [
    [4, 4, 4],
    [5, 7, 9],
    [1, 3, 2],
    [8, 4, 11],
  ] as Triple[]) {
    const volume = counting(sides);
    const grid = { patch: [4, 4, 4], sample: 'patches', classes: 2 } as const;
    const limit = volume.image.length / 2;
    const labels = await predictCase(above(limit), volume, grid);
    assert.equal(
      labels,
      Uint8Array.from(volume.image, (v) => Number(v > limit)),
      `${sides}`,
    );
  }
});

test('at coarser voxels predictions go back by nearest neighbour', async () => {
  const volume = counting([5, 6, 7]);
  const grid: Grid & { classes: number } = { patch: [4, 4, 4], sample: 'patches', downsample: 2, classes: 2 };
  assert.equal(sidesAt(volume, grid), [4, 4, 4]);
  const coarse = coarseImage(volume.image, [5, 6, 7], [2, 2, 2]); // 3×3×4
  const labels = await predictCase(above(80), volume, grid);
  labels.forEach((k, i) => {
    const [z, y, x] = [Math.floor(i / 42), Math.floor(i / 7) % 6, i % 7];
    const value = coarse[(Math.floor(z / 2) * 3 + Math.floor(y / 2)) * 4 + Math.floor(x / 2)]!;
    assert.is(k, Number(value > 80), `${z},${y},${x}`);
  });
  const [middle] = samplesOf(volume, { patch: [3, 3, 4], sample: 'patches', downsample: 2 });
  assert.equal(middle!.image, coarse);
  const ones = restoreLabels(
    new Uint8Array(36).fill(1),
    { patch: [3, 3, 4], sample: 'patches', downsample: 2 },
    volume,
  );
  assert.ok(ones.every((k) => k === 1) && ones.length === 210);
});

test('slices have patches, too', async () => {
  const volume = counting([2, 5, 6]);
  const grid = { patch: [4, 4], sample: 'patches', classes: 2 } as const;
  assert.equal(sidesAt(volume, grid), [5, 6]);
  assert.equal(nativeSamples(volume, grid).length, 2);
  assert.equal(nativeSamples(volume, { ...grid, downsample: 2 })[1]!.shape, [1, 3, 3]);
  assert.equal(
    await predictCase(above(31), volume, grid),
    Uint8Array.from(volume.image, (v) => Number(v > 31)),
  );
});

test('windows are half of a side apart unless a stride is given; a sample that is one patch has none', () => {
  assert.equal(windowStride({ patch: [4, 6, 7], sample: 'patches', stride: [0] }), [2, 3, 4]);
  assert.equal(windowStride({ patch: [4, 6, 7], sample: 'patches', stride: [1, 2, 3] }), [1, 2, 3]);
  assert.is(windowStride({ patch: [4, 6], sample: 'whole', stride: [0] }), undefined);
  assert.is(windowStride({ patch: [4, 6] }), undefined);
});

test('intensities: z-scored or as stored', () => {
  closeTo(zScored(Float32Array.of(1, 2, 3, 4)), [-1.3416408, -0.4472136, 0.4472136, 1.3416408], { atol: 1e-6 });
  assert.equal([...zScored(new Float32Array(3).fill(5))], [0, 0, 0]);
  const image = join(folder, 'levels.nii.gz');
  writeNifti(image, { data: [0, 50, 100, 250], shape: [2, 2, 1], dtype: 'uint8' });
  const c = { id: 'levels', patient: 'levels', frame: undefined, image, label: undefined };
  assert.equal([...loadCase(c, { intensity: 'stored' }).image], [0, 50, 100, 250]);
  assert.equal([...loadCase(c, { intensity: 'zscore' }).image], [...zScored(Float32Array.of(0, 50, 100, 250))]);
});

test('the loader cuts the same patches in any run, and labels belong to images', async () => {
  const dir = join(folder, 'phantoms');
  writePhantoms(dir, { volumes: true, patients: 5, size: 24 });
  const options: LoaderOptions = {
    ...{ dir, labeled: 2, classes: 2, patch: [8, 16, 16], sample: 'patches', intensity: 'stored' },
    ...{ batch: 3, labeledBatch: 2, seed: 5 },
  };
  const take = async (count: number, startIteration = 0) => {
    const loader = createLoader({ ...options, startIteration });
    const batches = [];
    for (let i = 0; i < count; i++) batches.push(await loader.next());
    await loader.close();
    return batches;
  };
  const first = await take(6);
  assert.equal(
    (await take(2, 4)).map(({ image, label }) => [image, label]),
    first.slice(4).map(({ image, label }) => [image, label]),
  );
  assert.ok(first.every(({ cases }) => cases.every((name) => /^patient\d+$/.test(name))));
  // The atrium is bright, on average, wherever it was cut.
  const mean = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
  for (const { image, label } of first) {
    const of = (k: number) => mean(image.filter((_, i) => label[i] === k && i < 2 * 2048));
    assert.ok(of(1) > of(0) + 20, `${of(1)} in, ${of(0)} out`);
  }
  assert.not.equal(first[0]!.image, first[1]!.image);
});

test.run();
