// Overlapping windows: where they lie, and that what is put together is the mean of what they say.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { uniformStream } from '../../engine/index.js';
import type { CaseVolume } from '../../train/data/case-volume.js';
import { sidesAt, stackSamples } from '../../train/data/samples.js';
import { predictCase, predictProbabilities } from '../../train/evaluation/evaluate.js';
import type { Predictor } from '../../train/evaluation/predictor.js';
import { predictWindows, windowPositions, windowsOf } from '../../train/evaluation/windows.js';
import { UsageError } from '../../train/files/usage-error.js';
import { strideOf } from '../../train/run/trained-model.js';
import { closeTo } from '../close-to.js';
import { refuses } from '../refuses.js';

const test = suite('windows');

/** Two classes: the probability of the second is the pixel itself. */
const identity: Predictor = async (patches) => {
  const probabilities = new Float32Array(2 * patches.length);
  for (const [i, p] of patches.entries()) probabilities.set([1 - p, p], 2 * i);
  return { labels: Uint8Array.from(patches, (p) => Number(p > 0.5)), confidence: undefined, probabilities };
};

test('positions along an axis: the last window ends with it', () => {
  assert.equal(windowPositions(80, 80, 4), [0]);
  assert.equal(windowPositions(81, 80, 4), [0, 1]);
  assert.equal(windowPositions(88, 80, 4), [0, 4, 8]);
  assert.equal(windowPositions(148, 112, 18), [0, 18, 36]);
  assert.equal(windowPositions(244, 112, 18), [0, 18, 36, 54, 72, 90, 108, 126, 132]);
  assert.equal(windowPositions(3, 8, 4), [0]);
  assert.is(windowsOf({ sides: [9, 8, 20], patch: [4, 8, 8], stride: [4, 4, 6] }).length, 3 * 1 * 3);
});

for (const [sides, patch, stride] of [
  [
    [7, 9],
    [4, 4],
    [3, 2],
  ],
  [
    [4, 4],
    [4, 4],
    [1, 1],
  ],
  [
    [5, 7, 6],
    [4, 4, 4],
    [2, 3, 1],
  ],
] as [number[], number[], number[]][]) {
  test(`[${sides}] by [${patch}] every [${stride}]: a network that says its input gives it back`, async () => {
    const voxels = sides.reduce((a, b) => a * b, 1);
    const samples = Float32Array.from({ length: 3 * voxels }, uniformStream(4));
    const { labels, probabilities } = await predictWindows(identity, samples, { sides, patch, stride });
    closeTo(
      probabilities.filter((_, i) => i % 2 === 1),
      samples,
      { atol: 1e-6 },
    );
    assert.equal(
      labels,
      Uint8Array.from(samples, (p) => Number(p > 0.5)),
    );
  });
}

test('where windows disagree their mean decides', async () => {
  let call = 0;
  const wavering: Predictor = async (patches) => {
    call++;
    const windows = patches.length / 4;
    const probabilities = Float32Array.from({ length: 2 * patches.length }, (_, i) => {
      const p = Math.floor(i / 8) % windows === 0 ? 0.9 : 0.3; // the first window is sure of class 1, the others are not
      return i % 2 ? p : 1 - p;
    });
    return { labels: new Uint8Array(patches.length), confidence: undefined, probabilities };
  };
  const { labels, probabilities } = await predictWindows(wavering, new Float32Array(6), {
    ...{ sides: [1, 6], patch: [1, 4], stride: [1, 2] },
  });
  assert.is(call, 1);
  closeTo(
    probabilities.filter((_, i) => i % 2 === 1),
    [0.9, 0.9, 0.6, 0.6, 0.3, 0.3],
    { atol: 1e-6 },
  );
  assert.equal([...labels], [1, 1, 1, 1, 0, 0]);
});

/** A case of 3 slices of 10×14 pixels, 2×1 mm. */
const volume = {
  ...{ depth: 3, height: 10, width: 14, spacing: [1, 2, 5] },
  image: Float32Array.from({ length: 3 * 10 * 14 }, uniformStream(9)),
  ...{ label: undefined, case: { id: 'a' } },
} as unknown as CaseVolume;

test('a case by windows: as large a grid as the slice needs at its spacing, whole slices predicted', async () => {
  const grid = { patch: [8, 8], spacing: [1, 2], classes: 2 };
  assert.equal(sidesAt(volume, grid), [10, 14]);
  assert.equal(sidesAt(volume, { ...grid, spacing: [2, 2] }), [10, 8]);
  assert.equal(sidesAt(volume, { patch: [8, 8] }), [8, 8]);
  const expected = Uint8Array.from(volume.image, (p) => Number(p > 0.5));
  const labels = await predictCase(identity, volume, { ...grid, stride: [4, 4] });
  assert.equal(labels, expected);
  const { probabilities } = await predictProbabilities(identity, volume, { ...grid, stride: [3, 5] });
  closeTo(probabilities.subarray(420), volume.image, { atol: 1e-6 });
  const cut = await predictCase(identity, volume, grid); // one patch a slice: beyond it all is background
  assert.ok(cut.some((k, i) => k !== expected[i]));
});

test('volumes are samples, too: whole, resized or at a spacing, and back', async () => {
  const solid = { patch: [3, 10, 14] };
  assert.equal([...stackSamples(volume, solid)], [...volume.image]);
  const apart = { patch: [4, 12, 16], spacing: [1, 2, 5], classes: 2 };
  const labels = await predictCase(identity, volume, apart);
  assert.equal(
    labels,
    Uint8Array.from(volume.image, (p) => Number(p > 0.5)),
  );
  const doubled = stackSamples(volume, { patch: [6, 10, 14] });
  assert.equal(doubled.subarray(0, 140), volume.image.subarray(0, 140));
  assert.equal(doubled.subarray(5 * 140), volume.image.subarray(2 * 140));
});

test('cut or padded by an odd number of pixels, a slice comes back to where it was', async () => {
  for (const [height, width] of [
    [11, 15],
    [12, 16],
    [13, 14],
  ] as const) {
    const labels = await predictCase(identity, volume, { patch: [height, width], spacing: [1, 2], classes: 2 });
    const expected = Uint8Array.from(volume.image, (p) => Number(p > 0.5));
    assert.equal(labels, expected, `${height}×${width}`);
  }
});

test('--stride is one number or one a side, and needs a spacing', async () => {
  const grid = { patch: [32, 48], spacing: [1.5, 1.5] };
  assert.is(strideOf('predict', undefined, grid), undefined);
  assert.equal(strideOf('predict', '16', grid), [16, 16]);
  assert.equal(strideOf('predict', '16,24', grid), [16, 24]);
  for (const text of ['0', '1.5', '33', '16,24,8', 'x', '', '16,'])
    await refuses(() => strideOf('predict', text, grid), UsageError, /--stride must be 1 or 2 whole numbers .*got '/);
  await refuses(
    () => strideOf('evaluate', '8', { patch: [32, 32], spacing: [0, 0] }),
    UsageError,
    /nothing to stride over/,
  );
});

test.run();
