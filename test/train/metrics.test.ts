// Overlap and surface distances against hand-computed cases and brute force over all pairs of voxels.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { uniformStream } from '../../engine/index.js';
import { keepLargestComponents } from '../../train/evaluation/components.js';
import { distanceTransform } from '../../train/evaluation/distance-transform.js';
import { volumeScores } from '../../train/evaluation/metrics.js';
import { type CaseSummary, scoresAsCsv, summarize } from '../../train/evaluation/summary.js';
import { border, percentile } from '../../train/evaluation/surface-distances.js';

const test = suite('metrics');

type Triple = [number, number, number];

const summaryOf = (name: string, metrics: CaseSummary['metrics']): CaseSummary => ({
  case: name,
  image: `${name}.nii`,
  reference_file: `${name}_gt.nii`,
  prediction_file: null,
  spacing: [1, 1, 1],
  metrics,
});

/** Random blobs: thresholded sums of a few bumps. */
function blobs(shape: Triple, seed: number): Uint8Array {
  const uniform = uniformStream(seed);
  const centres = Array.from({ length: 3 }, () => shape.map((n) => 1 + uniform() * (n - 2)));
  const out = new Uint8Array(shape[0] * shape[1] * shape[2]);
  for (let i = 0; i < out.length; i++) {
    const at = [Math.floor(i / (shape[1] * shape[2])), Math.floor(i / shape[2]) % shape[1], i % shape[2]];
    const field = centres.reduce((s, c) => s + Math.exp(-at.reduce((d, v, axis) => d + (v - c[axis]!) ** 2, 0) / 6), 0);
    out[i] = field > 0.45 ? 1 : 0;
  }
  return out;
}

/** Every coordinate, in mm. */
const position = (i: number, [, h, w]: Triple, spacing: Triple): number[] => [
  Math.floor(i / (h * w)) * spacing[0],
  (Math.floor(i / w) % h) * spacing[1],
  (i % w) * spacing[2],
];

/** Surface voxels with the outside counted as background. */
function surface(mask: Uint8Array, [d, h, w]: Triple): number[] {
  const inside = (z: number, y: number, x: number) =>
    z >= 0 && y >= 0 && x >= 0 && z < d && y < h && x < w && mask[(z * h + y) * w + x] === 1;
  return [...mask.keys()].filter((i) => {
    const [z, y, x] = [Math.floor(i / (h * w)), Math.floor(i / w) % h, i % w];
    const near = [
      inside(z - 1, y, x),
      inside(z + 1, y, x),
      inside(z, y - 1, x),
      inside(z, y + 1, x),
      inside(z, y, x - 1),
      inside(z, y, x + 1),
    ];
    return mask[i] === 1 && near.includes(false);
  });
}

for (const [seed, shape, spacing] of [
  [1, [6, 12, 10], [8, 1.4, 1.4]],
  [2, [1, 14, 9], [10, 0.7, 2]],
  [3, [7, 7, 7], [1, 1, 1]],
] as [number, Triple, Triple][]) {
  test(`HD95 and ASD equal brute force [${shape}] at ${spacing} mm`, () => {
    const a = blobs(shape, seed);
    const b = blobs(shape, seed + 100);
    const score = volumeScores(a, b, { shape, spacing, classes: 2 })[1]!;
    for (const [unit, hd95, symmetric, asd, assd] of [
      [spacing, score.HD95, score.HD95_symmetric, score.ASD, score.ASSD],
      [[1, 1, 1], score.HD95_voxels, score.HD95_symmetric_voxels, score.ASD_voxels, score.ASSD_voxels],
    ] as [Triple, number, number, number, number][]) {
      const [sa, sb] = [surface(a, shape), surface(b, shape)];
      const directed = (from: number[], to: number[]) =>
        from.map((i) =>
          Math.min(
            ...to.map((j) =>
              Math.hypot(...position(i, shape, unit).map((v, axis) => v - position(j, shape, unit)[axis]!)),
            ),
          ),
        );
      const [ab, ba] = [directed(sa, sb), directed(sb, sa)];
      const pooled = [...ab, ...ba].sort((p, q) => p - q);
      assert.ok(Math.abs(hd95 - percentile(pooled, 0.95)) < 1e-9, `HD95 ${hd95}`);
      const mean = (d: number[]): number => d.reduce((s, v) => s + v, 0) / d.length;
      assert.ok(Math.abs(asd - mean(ab)) < 1e-9, `ASD ${asd}`);
      assert.ok(Math.abs(assd - mean(pooled)) < 1e-9, `ASSD ${assd}`);
      const [top, other] = [ab, ba].map((d) =>
        percentile(
          d.sort((p, q) => p - q),
          0.95,
        ),
      ) as [number, number];
      assert.ok(Math.abs(symmetric - Math.max(top, other)) < 1e-9, `symmetric HD95 ${symmetric}`);
    }
    assert.ok(
      Math.abs(score.volume_ml - (a.filter(Boolean).length * spacing[0] * spacing[1] * spacing[2]) / 1000) < 1e-9,
    );
    const both = a.filter((v, i) => v && b[i]).length;
    const sum = a.filter(Boolean).length + b.filter(Boolean).length;
    assert.is(score.Dice, (2 * both) / sum);
    assert.is(score.Jaccard, both / (sum - both));
    assert.is(score.TP + score.FP + score.FN + score.TN, a.length);
  });
}

test('two cubes shifted by one voxel', () => {
  const shape: Triple = [5, 6, 7];
  const cube = (x0: number) => {
    const m = new Uint8Array(210);
    for (let z = 1; z < 4; z++)
      for (let y = 1; y < 4; y++) for (let x = x0; x < x0 + 3; x++) m[(z * 6 + y) * 7 + x] = 2;
    return m;
  };
  const score = volumeScores(cube(1), cube(2), { shape, spacing: [1, 1, 2], classes: 3 })[2]!;
  assert.is(score.Dice, 36 / 54);
  assert.is(score.HD95, 2);
  assert.is(score.HD95_voxels, 1);
});

test('a missed and an invented structure have no distance and are counted; one absent from both has no Dice', () => {
  const shape: Triple = [1, 1, 3];
  const scores = volumeScores(Uint8Array.of(1, 0, 0), Uint8Array.of(0, 2, 0), {
    shape,
    spacing: [1, 1, 1],
    classes: 4,
  });
  assert.is(scores[1]!.invented, 1);
  assert.is(scores[2]!.missed, 1);
  for (const k of [1, 2]) assert.equal([scores[k]!.Dice, scores[k]!.HD95, scores[k]!.ASD], [0, null, null]);
  assert.equal([scores[3]!.Dice, scores[3]!.missed, scores[3]!.invented], [null, 0, 0]);
  const cases = [summaryOf('a', scores)];
  const { mean, foreground_mean } = summarize(cases, 4);
  assert.is(mean[3]!.Dice, null);
  assert.is(foreground_mean.Dice, 0);
  assert.equal([foreground_mean.missed, foreground_mean.invented, foreground_mean.HD95], [1, 1, null]);
});

test('means, deviations and counts over cases; a row of CSV for each case and class', () => {
  const shape: Triple = [1, 1, 4];
  const score = (a: number[], b: number[]) =>
    volumeScores(Uint8Array.from(a), Uint8Array.from(b), { shape, spacing: [1, 1, 1], classes: 3 });
  const cases = [
    summaryOf('one', score([1, 1, 2, 2], [1, 1, 2, 2])),
    { ...summaryOf('two, "x"', score([1, 0, 0, 0], [1, 1, 2, 0])), frame: '12' },
    summaryOf('three', score([0, 0, 0, 0], [0, 0, 0, 0])),
  ];
  const { mean, std, foreground_mean, foreground_std, missed, invented } = summarize(cases, 3);
  const third = 2 / 3;
  assert.is(mean[1]!.Dice, (1 + third) / 2);
  assert.ok(Math.abs(std[1]!.Dice! - Math.sqrt(((1 - third) / 2) ** 2 * 2)) < 1e-12);
  assert.equal([mean[1]!.counted.Dice, mean[2]!.counted.Dice, mean[2]!.counted.HD95], [2, 2, 1]);
  assert.equal([mean[2]!.missed, missed, invented], [1, 1, 0]);
  assert.is(std[2]!.HD95, null, 'one case has no deviation');
  assert.is(foreground_mean.counted.Dice, 4);
  assert.ok(Math.abs(foreground_std.Dice! - Math.sqrt(((1 - third / 2) / 2) ** 2 * 2)) < 1e-12);
  const [head, ...rows] = scoresAsCsv(summarize(cases, 3)).trimEnd().split('\n');
  assert.match(head!, /^case,frame,class,Dice,Jaccard,HD95,/);
  assert.is(rows.length, 6);
  assert.match(rows[2]!, /^"two, ""x""",12,1,0\.66/);
  assert.match(rows[5]!, /^three,,2,,,/);
});

test('the largest component of each class stays: faces, edges and corners connect', () => {
  const shape: Triple = [2, 3, 4];
  //                              z = 0                                z = 1
  const labels = Uint8Array.of(1, 0, 0, 2, 0, 1, 0, 2, 2, 0, 0, 0, /**/ 0, 0, 2, 0, 0, 0, 1, 0, 1, 0, 0, 0);
  const kept = Uint8Array.of(1, 0, 0, 2, 0, 1, 0, 2, 0, 0, 0, 0, /**/ 0, 0, 2, 0, 0, 0, 1, 0, 1, 0, 0, 0);
  const copy = labels.slice();
  keepLargestComponents(copy, shape, 3);
  assert.equal(copy, kept);
  // Of equally large ones the first; classes beyond are left alone; nothing at all is fine.
  const two = Uint8Array.of(1, 0, 1, 7, 0, 7);
  keepLargestComponents(two, [1, 1, 6], 2);
  assert.equal(two, Uint8Array.of(1, 0, 0, 7, 0, 7));
  keepLargestComponents(new Uint8Array(0), [0, 0, 0], 4);
});

test('a volume of the usual size takes well under a second', () => {
  const shape: Triple = [20, 256, 256];
  const ball = (radius: number) =>
    Uint8Array.from({ length: 20 * 256 * 256 }, (_, i) => {
      const [z, y, x] = [Math.floor(i / 65536), Math.floor(i / 256) % 256, i % 256];
      return ((z - 10) * 8) ** 2 + (y - 128) ** 2 + (x - 120) ** 2 < radius ** 2 ? 1 : 0;
    });
  const [a, b] = [ball(60), ball(66)];
  const start = performance.now();
  const score = volumeScores(a, b, { shape, spacing: [8, 1, 1], classes: 2 })[1]!;
  assert.ok(score.HD95! > 3 && score.HD95! < 12);
  assert.ok(performance.now() - start < 3000);
});

test('identical volumes score 1 and 0', () => {
  const shape: Triple = [4, 8, 8];
  const a = blobs(shape, 5);
  const score = volumeScores(a, a, { shape, spacing: [5, 1, 1], classes: 2 })[1]!;
  assert.equal([score.Dice, score.Jaccard, score.HD95, score.ASD], [1, 1, 0, 0]);
});

test('percentile interpolates as numpy', () => {
  assert.is(percentile([0, 1, 2, 3], 0.95), 2.8499999999999996);
  assert.is(percentile([4], 0.95), 4);
});

test('the distance transform is exact', () => {
  const shape: Triple = [4, 5, 6];
  const mask = new Uint8Array(120);
  for (const i of [7, 55, 118]) mask[i] = 1;
  const spacing: Triple = [3, 1.5, 0.5];
  const field = distanceTransform(mask, shape, spacing);
  for (let i = 0; i < 120; i++) {
    const here = position(i, shape, spacing);
    const nearest = Math.min(
      ...[7, 55, 118].map((j) => here.reduce((s, v, axis) => s + (v - position(j, shape, spacing)[axis]!) ** 2, 0)),
    );
    assert.ok(Math.abs(field[i]! - nearest) < 1e-9, `voxel ${i}`);
  }
  assert.is(border(new Uint8Array(27).fill(0), [3, 3, 3]).some(Boolean), false);
});

test('volumes of the wrong size are refused', () => {
  assert.throws(
    () => volumeScores(new Uint8Array(3), new Uint8Array(4), { shape: [1, 2, 2], spacing: [1, 1, 1], classes: 2 }),
    /metrics/,
  );
});

test.run();
