// Overlapping windows: where they lie, and that what is put together is the mean of what they say.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  capture,
  concat,
  conv,
  type Gpu,
  mul,
  ShapeError,
  softmax,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import type { Segmenter } from '../../model/index.js';
import type { CaseVolume } from '../../train/data/case-volume.js';
import { sidesAt, stackSamples } from '../../train/data/samples.js';
import { predictCase, predictProbabilities } from '../../train/evaluation/evaluate.js';
import { createPredictor, type Predictor } from '../../train/evaluation/predictor.js';
import { createWindowPredictor } from '../../train/evaluation/window-predictor.js';
import { slabsOf, windowPositions } from '../../train/evaluation/windows.js';
import { UsageError } from '../../train/files/usage-error.js';
import { strideOf, windowsOf } from '../../train/run/trained-model.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { type Network, positions, windows } from '../reference/windows.js';
import { refuses } from '../refuses.js';

const test = suite('windows');

/** As a predictor of two classes: the probability of the second is the voxel itself, whatever the sides. */
const identity: Predictor = async (samples) => {
  const probabilities = new Float32Array(2 * samples.length);
  for (const [i, p] of samples.entries()) probabilities.set([1 - p, p], 2 * i);
  return { labels: Uint8Array.from(samples, (p) => Number(p > 0.5)), confidence: undefined, probabilities };
};

/** A function of x [N, …, 1] as a network. */
const network = (gpu: Gpu, classes: number, logits: (x: Tensor) => Tensor): Segmenter =>
  Object.assign(logits, { gpu, classes, inChannels: 1 }) as unknown as Segmenter;

/** Says its input: the logits of two classes, of probability p = 1/(1 + e^−x) the second. */
const echo = (gpu: Gpu) => network(gpu, 2, (x) => concat([mul(x, 0), x], -1));

/** Three classes by a convolution, whose zero padding makes the place in the patch count, and which no mirror image leaves alone. */
function convolving(gpu: Gpu, rank: number): Segmenter {
  const uniform = uniformStream(31);
  const weight = tensor(
    gpu,
    Float32Array.from({ length: 3 * 3 ** rank }, () => 4 * uniform() - 2),
    [3, ...new Array(rank).fill(3), 1],
  );
  return network(gpu, 3, (x) => conv(x, weight));
}

test('positions along an axis: the last window ends with it, a longer one has it in its middle', () => {
  for (const n of [80, 81, 88, 112, 148, 244])
    for (const [side, stride] of [
      [80, 4],
      [112, 18],
      [64, 64],
    ] as const)
      assert.equal(windowPositions(n, side, stride), positions(n, side, stride), `${n}, ${side} every ${stride}`);
  assert.equal(windowPositions(81, 80, 4), [0, 1]);
  assert.equal(windowPositions(244, 112, 18), [0, 18, 36, 54, 72, 90, 108, 126, 132]);
  assert.equal(windowPositions(3, 8, 4), [-2]);
});

test('slabs: every plane once, with all of its windows, and no more planes than may be', () => {
  for (const [length, side, stride, most] of [
    [100, 10, 4, 30],
    [100, 10, 10, 10],
    [17, 4, 3, 1],
    [9, 9, 1, 4],
    [5, 8, 2, 100],
    [64, 16, 16, 47],
  ] as const) {
    const all = windowPositions(length, side, stride);
    const slabs = slabsOf(length, side, all, most);
    let next = 0;
    for (const { first, end, positions: own, firstWhole, endWhole } of slabs) {
      assert.is(firstWhole, next);
      next = endWhole;
      assert.ok(endWhole > firstWhole && first <= firstWhole && end >= endWhole);
      for (const p of all) {
        const isOver = p < endWhole && p + side > firstWhole;
        if (isOver) assert.ok(own.includes(p), `${p} over [${firstWhole}, ${endWhole})`);
      }
      for (const p of own) assert.ok(Math.max(0, p) >= first && Math.min(length, p + side) <= end);
      assert.ok(end - first <= Math.max(most, 2 * side), `${end - first} planes`);
    }
    assert.is(next, length);
    if (most >= length) assert.is(slabs.length, 1);
  }
});

const cases: [sides: number[], patch: number[], stride: number[]][] = [
  [
    [7, 9],
    [4, 4],
    [3, 2],
  ],
  [
    [4, 6],
    [4, 6],
    [1, 1],
  ],
  [
    [3, 9],
    [6, 4],
    [2, 4],
  ],
  [
    [5, 7, 6],
    [4, 4, 4],
    [2, 3, 1],
  ],
  [
    [9, 4, 3],
    [2, 4, 6],
    [1, 4, 5],
  ],
];
for (const [sides, patch, stride] of cases) {
  const voxels = sides.reduce((a, b) => a * b, 1);
  const samples = Float32Array.from({ length: 3 * voxels }, uniformStream(4));
  const name = `[${sides}] by [${patch}] every [${stride}]`;

  test(`${name}: a network that says its input gives it back`, async () => {
    const gpu = await testGpu();
    for (const weights of ['uniform', 'gaussian'] as const) {
      const predict = createPredictor(gpu, echo(gpu), patch, { stride, weights, batch: 4, probabilities: true });
      const centred = samples.map((p) => 8 * p - 4);
      const { labels, probabilities, confidence } = await predict(centred, true, sides);
      const expected = Array.from(centred, (x) => 1 / (1 + Math.exp(-x)));
      const ofSecond = probabilities!.filter((_, i) => i % 2 === 1);
      closeTo(ofSecond, expected, { atol: 1e-6 }, weights);
      assert.equal(
        labels,
        Uint8Array.from(centred, (x) => Number(x > 0)),
      );
      closeTo(
        confidence!,
        expected.map((p) => Math.max(p, 1 - p)),
        { atol: 1e-6 },
      );
    }
  });

  test(`${name}: the mean of what windows and their mirror images say, as plain loops have it`, async () => {
    const gpu = await testGpu();
    const model = convolving(gpu, patch.length);
    const one = tensor(gpu, 0, [1, ...patch, 1]);
    const step = capture(gpu, () => softmax(model(one)));
    const said: Network = (values) => {
      one.write(values);
      return step().read();
    };
    const gaussian = (place: readonly number[]) =>
      place.reduce((w, i, axis) => w * Math.exp(-0.5 * ((i - (patch[axis]! - 1) / 2) / (patch[axis]! / 8)) ** 2), 1);
    for (const [flips, weights] of [
      [false, 'uniform'],
      [true, 'gaussian'],
    ] as const) {
      const weight = weights === 'gaussian' ? gaussian : () => 1;
      const predict = createPredictor(gpu, model, patch, { stride, weights, flips, batch: 3, probabilities: true });
      const { labels, probabilities } = await predict(samples, false, sides);
      for (let s = 0; s < 3; s++) {
        const sample = samples.slice(s * voxels, (s + 1) * voxels);
        const expected = await windows(said, sample, sides, patch, stride, { flips, weight });
        closeTo(probabilities!.subarray(3 * s * voxels, 3 * (s + 1) * voxels), expected, { atol: 1e-6 }, `sample ${s}`);
        for (let i = 0; i < voxels; i++) {
          const [label, ps] = [labels[s * voxels + i]!, expected.subarray(3 * i, 3 * i + 3)];
          assert.ok(ps[label]! >= Math.max(...ps) - 1e-6);
        }
      }
    }
  });

  test(`${name}: the same bits in batches of 1 and 4, and in small pieces`, async () => {
    const gpu = await testGpu();
    const model = convolving(gpu, patch.length);
    const options = { stride, flips: true, probabilities: true };
    const found = await createPredictor(gpu, model, patch, { ...options, batch: 4 })(samples, true, sides);
    assert.equal(await createPredictor(gpu, model, patch, { ...options, batch: 1 })(samples, true, sides), found);
    const least = 2 * voxels;
    for (const most of [least, Math.ceil(voxels / 2)]) {
      const predict = createWindowPredictor(gpu, model, patch, { ...options, batch: 4 }, most);
      assert.equal(await predict(samples, true, sides), found, `${most} voxels at once`);
    }
  });
}

test('windows reach no further than they are: a change in a sample changes what they say of it alone', async () => {
  const gpu = await testGpu();
  const predict = createPredictor(gpu, convolving(gpu, 2), [4, 4], { stride: [2, 4], probabilities: true });
  const samples = new Float32Array(2 * 12 * 8).fill(0.5);
  const before = (await predict(samples, false, [12, 8])).probabilities!;
  samples[0] = 2;
  const after = (await predict(samples, false, [12, 8])).probabilities!;
  const changed = [...before.keys()].filter((i) => before[i] !== after[i]).map((i) => Math.floor(i / 3));
  assert.ok(changed.length > 0);
  for (const i of changed) assert.ok(i < 4 * 8 && i % 8 < 4, `voxel ${i}`);
});

test('samples of several sizes one after another, two calls at once, and what is no sample', async () => {
  const gpu = await testGpu();
  const model = echo(gpu);
  const options = { stride: [3, 3], batch: 2, probabilities: true };
  const predict = createPredictor(gpu, model, [4, 5], options);
  const draws = uniformStream(12);
  const inputs = [
    [6, 6],
    [20, 9],
    [4, 5],
    [11, 30],
  ].map((sides) => ({
    sides,
    data: Float32Array.from({ length: sides[0]! * sides[1]! }, draws),
  }));
  const alone = [];
  for (const { sides, data } of inputs) alone.push(await predict(data, true, sides));
  assert.equal(await Promise.all(inputs.map(({ sides, data }) => predict(data, true, sides))), alone);
  await refuses(() => predict(new Float32Array(7), false, [2, 3]), ShapeError, /got 7 numbers as samples of \[2,3\]/);
  await refuses(
    () => predict(new Float32Array(8), false, [2, 2, 2]),
    ShapeError,
    /expected whole samples with 2 sides/,
  );
  await refuses(() => createPredictor(gpu, model, [4, 5], { stride: [3, 6] }), ShapeError, /the stride is \[3,6\]/);
  for (const flips of [false, true]) {
    const plain = createPredictor(gpu, model, [4, 5], { flips });
    await refuses(() => plain(new Float32Array(36), false, [6, 6]), ShapeError, /Make the predictor with a stride/);
  }
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
  assert.equal(windowsOf('predict', {}, grid), {});
  assert.equal(windowsOf('predict', { stride: '16', 'window-weights': 'uniform' }, grid), { stride: [16, 16] });
  const gaussian = { stride: '8', 'window-weights': 'gaussian' } as const;
  assert.equal(windowsOf('predict', gaussian, grid), { stride: [8, 8], weights: 'gaussian' });
  await refuses(() => windowsOf('predict', { 'window-weights': 'gaussian' }, grid), UsageError, /Give --stride, too/);
});

test.run();
