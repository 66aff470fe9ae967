// Exact distances at random volumes against all pairs of voxels, and every surface metric against a second, naive
// implementation that follows MedPy step by step: erosion, surface, distances, numpy's percentile.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { uniformStream } from '../../engine/index.js';
import { distanceTransform } from '../../train/evaluation/distance-transform.js';
import { volumeScores } from '../../train/evaluation/metrics.js';

const test = suite('surface distances');

type Triple = [number, number, number];

const positionOf = (i: number, [, height, width]: Triple): Triple => [
  Math.floor(i / (height * width)),
  Math.floor(i / width) % height,
  i % width,
];

const squaredDistance = (i: number, j: number, shape: Triple, spacing: Triple): number => {
  const [a, b] = [positionOf(i, shape), positionOf(j, shape)];
  return a.reduce((sum, at, axis) => sum + ((at - b[axis]!) * spacing[axis]!) ** 2, 0);
};

/** Shape 1 to 9 and spacing 0.1 to 10 mm along each axis; every fourth axis is a single voxel. */
function randomGrid(uniform: () => number): { shape: Triple; spacing: Triple } {
  const length = () => (uniform() < 0.25 ? 1 : 1 + Math.floor(uniform() * 9));
  const mm = () => 10 ** (2 * uniform() - 1);
  return { shape: [length(), length(), length()], spacing: [mm(), mm(), mm()] };
}

const sizeOf = (shape: Triple): number => shape[0] * shape[1] * shape[2];

test('the distance transform equals all pairs at 400 random volumes, thin, sparse, full and empty', () => {
  const uniform = uniformStream(17);
  let [full, empty, single] = [0, 0, 0];
  for (let n = 0; n < 400; n++) {
    const { shape, spacing } = randomGrid(uniform);
    const density = [0, 0.02, 0.2, 0.6, 1][n % 5]!;
    const mask = Uint8Array.from({ length: sizeOf(shape) }, () => (uniform() < density ? 1 : 0));
    const set = [...mask.keys()].filter((i) => mask[i]);
    full += set.length === mask.length ? 1 : 0;
    empty += set.length === 0 ? 1 : 0;
    single += mask.length === 1 ? 1 : 0;
    const field = distanceTransform(mask, shape, spacing);
    for (let i = 0; i < mask.length; i++) {
      const expected = set.reduce(
        (least, j) => Math.min(least, squaredDistance(i, j, shape, spacing)),
        Number.POSITIVE_INFINITY,
      );
      const isSame = field[i] === expected || Math.abs(field[i]! - expected) <= 1e-12 * expected;
      assert.ok(isSame, `volume ${n} [${shape}] at ${spacing} mm: voxel ${i} is ${field[i]}, expected ${expected}`);
    }
  }
  assert.ok(full >= 80 && empty >= 80 && single > 0, `${full} full, ${empty} empty, ${single} of one voxel`);
});

/** numpy.percentile(values, 95), linear interpolation. */
function percentile95(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = 0.95 * (sorted.length - 1);
  const below = sorted[Math.floor(at)]!;
  return below + (at % 1) * (sorted[Math.ceil(at)]! - below);
}

/** What MedPy's metrics do, from its definitions; undefined where it would throw. */
function naiveDistances(prediction: Uint8Array, reference: Uint8Array, k: number, shape: Triple, spacing: Triple) {
  const has = (labels: Uint8Array, at: Triple): boolean =>
    at.every((v, axis) => v >= 0 && v < shape[axis]!) && labels[(at[0] * shape[1] + at[1]) * shape[2] + at[2]] === k;
  const surfaceOf = (labels: Uint8Array): number[] =>
    [...labels.keys()].filter((i) => {
      const at = positionOf(i, shape);
      const isEroded = [0, 1, 2].some((axis) =>
        [-1, 1].some((step) => !has(labels, at.map((v, a) => (a === axis ? v + step : v)) as Triple)),
      );
      return labels[i] === k && isEroded;
    });
  const [ofPrediction, ofReference] = [surfaceOf(prediction), surfaceOf(reference)];
  if (!ofPrediction.length || !ofReference.length) return undefined;
  const directed = (from: number[], to: number[]): number[] =>
    from.map((i) => Math.sqrt(Math.min(...to.map((j) => squaredDistance(i, j, shape, spacing)))));
  const mean = (values: number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;
  const there = directed(ofPrediction, ofReference);
  const back = directed(ofReference, ofPrediction);
  return {
    HD95: percentile95([...there, ...back]),
    HD95_symmetric: Math.max(percentile95(there), percentile95(back)),
    ASD: mean(there),
    ASSD: mean([...there, ...back]),
  };
}

test('surface metrics equal the naive implementation at 150 random pairs of volumes with three classes', () => {
  const uniform = uniformStream(29);
  let [measured, without] = [0, 0];
  for (let n = 0; n < 150; n++) {
    const { shape, spacing } = randomGrid(uniform);
    const classes = n % 3 ? 4 : 2;
    // Boxes, some of them in both volumes nearly alike, some cut by the edge; then salt.
    const volume = () => {
      const labels = new Uint8Array(sizeOf(shape));
      for (let k = 1; k < classes; k++) {
        const low = shape.map((length) => Math.floor(uniform() * length));
        const high = low.map((at, axis) => at + uniform() * (shape[axis]! - at));
        for (const i of labels.keys()) {
          if (positionOf(i, shape).every((at, axis) => at >= low[axis]! && at <= high[axis]!)) labels[i] = k;
        }
      }
      return labels.map((k) => (uniform() < 0.03 ? Math.floor(uniform() * classes) : k));
    };
    const [prediction, reference] = [volume(), volume()];
    const scores = volumeScores(prediction, reference, { shape, spacing, classes });
    for (let k = 1; k < classes; k++) {
      for (const [suffix, unit] of [
        ['', spacing],
        ['_voxels', [1, 1, 1] as Triple],
      ] as const) {
        const expected = naiveDistances(prediction, reference, k, shape, unit);
        if (expected) measured++;
        else without++;
        for (const name of ['HD95', 'HD95_symmetric', 'ASD', 'ASSD'] as const) {
          const found = scores[k]![`${name}${suffix}` as 'HD95'];
          const isSame = expected ? Math.abs(found! - expected[name]) <= 1e-12 * (1 + expected[name]) : found === null;
          assert.ok(isSame, `pair ${n}, class ${k}, ${name}${suffix}: ${found}, expected ${expected?.[name]}`);
        }
      }
    }
  }
  assert.ok(measured > 300 && without > 20, `${measured} with distances, ${without} without`);
});

test('distances computed by hand: directions differ, and so do pooled and directed percentiles', () => {
  const shape: Triple = [1, 1, 11];
  const line = (...at: number[]) => Uint8Array.from({ length: 11 }, (_, x) => (at.includes(x) ? 1 : 0));
  const grid = { shape, spacing: [5, 3, 2] as Triple, classes: 2 };
  // Prediction {0}, reference {0, 10}: distances 0 there, 0 and 10 voxels back; pooled 0, 0, 10.
  const near = volumeScores(line(0), line(0, 10), grid)[1]!;
  assert.equal([near.HD95_voxels, near.HD95_symmetric_voxels, near.ASD_voxels, near.ASSD_voxels], [9, 9.5, 0, 10 / 3]);
  assert.equal([near.HD95, near.HD95_symmetric, near.ASD, near.ASSD], [18, 19, 0, 20 / 3]);
  const far = volumeScores(line(0, 10), line(0), grid)[1]!;
  assert.equal([far.HD95_voxels, far.HD95_symmetric_voxels, far.ASD_voxels, far.ASSD_voxels], [9, 9.5, 5, 10 / 3]);
  assert.equal([near.volume_ml, near.reference_ml], [0.03, 0.06]);

  // Two voxels 3 and 4 steps apart along y and x, at the corners of a box; 6 and 4 mm with this spacing.
  const corner = (i: number) => Uint8Array.from({ length: 20 }, (_, at) => (at === i ? 1 : 0));
  const apart = volumeScores(corner(0), corner(19), { shape: [1, 4, 5], spacing: [9, 2, 1], classes: 2 })[1]!;
  assert.equal([apart.HD95_voxels, apart.ASD_voxels], [5, 5]);
  assert.is(apart.HD95, Math.sqrt(36 + 16));

  // A mask that fills the volume: its surface is the volume's edge, so the inner voxel of a 3×3×3 volume is 1 away.
  const full = new Uint8Array(27).fill(1);
  const inner = Uint8Array.from({ length: 27 }, (_, i) => (i === 13 ? 1 : 0));
  const filled = volumeScores(inner, full, { shape: [3, 3, 3], spacing: [1, 1, 1], classes: 2 })[1]!;
  assert.is(filled.ASD, 1);
  assert.is(filled.HD95, Math.sqrt(3));
});

test.run();
