// Volumes that lie in every way axes can: brought to one order, predicted, and back to their own grid, voxel by voxel.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type CaseVolume, loadCase, writeLabels } from '../../train/data/case-volume.js';
import { encodeNifti } from '../../train/data/nifti.js';
import { readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { geometryProblems } from '../../train/data/nifti-geometry.js';
import {
  type AxisOrder,
  canonicalOrder,
  inPictureOrder,
  orientationCode,
  throughPlane,
  toFile,
  toPicture,
} from '../../train/data/orientation.js';
import { nativeSamples, restoreLabels, sampleOnGrid, samplesOf } from '../../train/data/samples.js';
import { predictCase } from '../../train/evaluation/evaluate.js';
import { DataError } from '../../train/files/data-error.js';
import { closeTo } from '../close-to.js';
import { refuses } from '../refuses.js';

const test = suite('orientation');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-orientation-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

const axes = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
] as const;
const orders: AxisOrder[] = axes.flatMap((order) =>
  Array.from({ length: 8 }, (_, bits) => ({
    axes: order,
    flipped: [Boolean(bits & 1), Boolean(bits & 2), Boolean(bits & 4)] as const,
  })),
);

/** A picture [5, 6, 7] with nothing alike in it, and an oblique affine that is nearest to RAS. */
const size = [7, 6, 5] as const;
const picture = Float32Array.from({ length: 7 * 6 * 5 }, (_, i) => (i * 7919) % 1009);
const spacing = [1.5, 1.25, 8] as const;
const turn = (degrees: number) => [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)] as const;
function obliqueAffine(): number[] {
  const [c, s] = turn(25);
  const [d, t] = turn(-15);
  // Rz(25°)·Rx(−15°), columns times the spacing.
  const rotation = [c, -s * d, s * t, s, c * d, -c * t, 0, t, d];
  const row = (i: number, offset: number) => [...[0, 1, 2].map((j) => rotation[3 * i + j]! * spacing[j]!), offset];
  return [...row(0, -30), ...row(1, 12.5), ...row(2, 7), 0, 0, 0, 1];
}

/** The picture stored in another order of axes, with the affine that keeps every voxel where it is in the world. */
function stored(order: AxisOrder, affine: readonly number[]) {
  const shape = [0, 0, 0];
  const turned = [...affine];
  for (const [k, axis] of order.axes.entries()) {
    shape[axis] = size[k]!;
    for (const row of [0, 4, 8]) {
      turned[row + axis] = affine[row + k]! * (order.flipped[k] ? -1 : 1);
      if (order.flipped[k]) turned[row + 3]! += affine[row + k]! * (size[k]! - 1);
    }
  }
  const mm = [0, 1, 2].map((axis) => spacing[order.axes.indexOf(axis as 0 | 1 | 2)]!);
  return { data: toFile(picture, shape, order), shape, affine: turned, spacing: mm };
}

/** Labels that depend on the value and on where in its slice a pixel is; no network would be as sensitive. */
const predictor = (edge: number) => async (slices: Float32Array) => ({
  labels: Uint8Array.from(slices, (value, i) => (Math.round(value * 1000) + 3 * (i % edge) + Math.floor(i / edge)) % 4),
  confidence: undefined,
});

test('48 orders of axes: each is a bijection and its own inverse’s inverse', () => {
  assert.is(new Set(orders.map((order) => JSON.stringify(order))).size, 48);
  for (const order of orders) {
    const { data, shape } = stored(order, obliqueAffine());
    assert.equal(inPictureOrder(shape, order), size);
    assert.equal([...data].sort(), [...picture].sort());
    assert.equal(toPicture(data, shape, order), picture);
  }
  const distinct = new Set(
    orders.map((order) => [...stored(order, obliqueAffine()).data, stored(order, obliqueAffine()).shape].join()),
  );
  assert.is(distinct.size, 48);
});

test('where a voxel is in the world does not depend on the order that it is stored in', () => {
  // Checked by hand for one: x and z swapped, y reversed.
  const { data, shape, affine } = stored({ axes: [2, 1, 0], flipped: [false, true, false] }, obliqueAffine());
  assert.equal(shape, [5, 6, 7]);
  const world = (matrix: readonly number[], [x, y, z]: readonly [number, number, number]) =>
    [0, 4, 8].map((row) => matrix[row]! * x + matrix[row + 1]! * y + matrix[row + 2]! * z + matrix[row + 3]!);
  // Picture voxel (2, 1, 3) is file voxel (3, 6 − 1 − 1, 2).
  closeTo(world(affine, [3, 4, 2]), world(obliqueAffine(), [2, 1, 3]), { atol: 1e-9 });
  assert.is(data[3 + 5 * (4 + 6 * 2)], picture[2 + 7 * (1 + 6 * 3)]);
});

test('canonical: all 48 copies become the same picture, and the prediction of a copy is the copy of the prediction', async () => {
  const grid = { patch: [9, 9] };
  const config = { ...grid, orient: 'canonical', classes: 4 } as const;
  let reference: { volume: CaseVolume; labels: Uint8Array } | undefined;
  for (const [i, order] of orders.entries()) {
    const { data, shape, affine, spacing: mm } = stored(order, obliqueAffine());
    const path = join(folder, `copy-${i}.nii`);
    writeNifti(path, { data, shape, affine, spacing: mm, dtype: 'float32' });
    const volume = loadCase({ id: `copy-${i}`, patient: '', frame: undefined, image: path, label: undefined }, config);
    const labels = await predictCase(predictor(9), volume, config);
    reference ??= { volume, labels };
    assert.equal([volume.width, volume.height, volume.depth], size);
    closeTo(volume.spacing, spacing, { rtol: 1e-6 });
    assert.equal(volume.image, reference.volume.image);
    assert.equal(labels, reference.labels);

    const out = join(folder, `labels-${i}.nii.gz`);
    writeLabels(out, volume, labels);
    const written = readNifti(out);
    assert.equal(written.shape, shape);
    assert.equal(written.affine, readNifti(path).affine);
    assert.equal(Uint8Array.from(written.data), toFile(reference.labels, shape, order));
  }
  assert.ok(new Set(reference!.labels).size === 4);
});

test('keep: the arrays as stored, whatever the affine says, unless the slices lie along another axis', () => {
  for (const [i, order] of orders.entries()) {
    const { data, shape, affine, spacing: mm } = stored(order, obliqueAffine());
    const path = join(folder, `kept-${i}.nii`);
    writeNifti(path, { data, shape, affine, spacing: mm, dtype: 'float32' });
    const volume = loadCase({ id: 'kept', patient: '', frame: undefined, image: path, label: undefined });
    assert.is(volume.spacing[2], 8);
    assert.equal(volume.order.flipped, [false, false, false]);
    const across = order.axes[2];
    const inPlane = [0, 1, 2].filter((axis) => axis !== across);
    assert.equal(volume.order.axes, [...inPlane, across]);
    if (across === 2)
      closeTo(
        volume.image,
        data.map((v) => v / Math.max(...data)),
        { atol: 1e-6 },
      );
  }
});

test('the axis across slices: a lone one of size 1, a clearly coarser one, else the third', () => {
  assert.is(throughPlane([9, 9, 9], [1, 1, 1]), 2);
  assert.is(throughPlane([9, 9, 9], [8, 1.5, 1.5]), 0);
  assert.is(throughPlane([9, 9, 9], [1.4, 1, 1]), 2);
  assert.is(throughPlane([9, 1, 9], [1, 1, 8]), 1);
  assert.is(throughPlane([9, 1, 1], [1, 1, 1]), 2);
  assert.is(throughPlane([9, 9, 1], [1, 8, 1]), 2);
});

test('orientation codes are nibabel’s', () => {
  const code = (x: number[], y: number[], z: number[]) =>
    orientationCode([x[0]!, y[0]!, z[0]!, 0, x[1]!, y[1]!, z[1]!, 0, x[2]!, y[2]!, z[2]!, 0, 0, 0, 0, 1]);
  assert.is(code([1, 0, 0], [0, 1, 0], [0, 0, 1]), 'RAS');
  assert.is(code([-1, 0, 0], [0, -1, 0], [0, 0, 1]), 'LPS');
  assert.is(code([0, 0, -2], [3, 0, 0], [0, -1, 0]), 'IRP');
  // A short-axis plane of the heart, 40° and more from every axis of the body.
  assert.is(code([0.7, -0.6, -0.3], [-0.1, 0.4, -0.9], [0.7, 0.7, 0.2]), 'RIA');
  assert.equal(canonicalOrder([0, 0, 1, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 1]), {
    axes: [2, 0, 1],
    flipped: [false, false, true],
  });
});

test('a 2-D file is one slice; stored types, scaling and NIfTI-2 come back as labels on the file’s own header', async () => {
  const flat = join(folder, 'flat.nii.gz');
  writeNifti(flat, { data: Uint8Array.from({ length: 30 }, (_, i) => i * 8), shape: [6, 5], dtype: 'uint8' });
  const volume = loadCase({ id: 'flat', patient: '', frame: undefined, image: flat, label: undefined });
  assert.equal([volume.depth, volume.height, volume.width], [1, 5, 6]);
  const out = join(folder, 'flat-labels.nii.gz');
  writeLabels(out, volume, await predictCase(predictor(16), volume, { patch: [16, 16], classes: 4 }));
  assert.equal(readNifti(out).shape, [6, 5, 1]);

  // A NIfTI-2 file, made of a NIfTI-1 one field by field: int16 with a slope, geometry from a qform and an sform.
  const bytes = nifti2();
  const path = join(folder, 'two.nii');
  writeFileSync(path, bytes);
  const two = loadCase(
    { id: 'two', patient: '', frame: undefined, image: path, label: undefined },
    { orient: 'canonical' },
  );
  assert.is(two.volume.dtype, 'int16');
  closeTo(two.volume.data.subarray(0, 3), [10, 12, 14]);
  const result = join(folder, 'two-labels.nii');
  writeLabels(result, two, await predictCase(predictor(8), two, { patch: [8, 8], classes: 4 }));
  const written = readFileSync(result);
  for (const [from, to] of [
    [104, 168],
    [344, 496],
    [500, 504],
  ] as const) {
    assert.equal([...written.subarray(from, to)], [...bytes.subarray(from, to)], `bytes ${from} to ${to}`);
  }
  assert.equal(geometryProblems(two.volume.header), []);
});

function nifti2(): Uint8Array {
  const bytes = new Uint8Array(544 + 2 * 24);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, 540, true);
  bytes.set([0x6e, 0x2b, 0x32, 0, 0x0d, 0x0a, 0x1a, 0x0a], 4);
  view.setInt16(12, 4, true);
  view.setInt16(14, 16, true);
  for (const [i, n] of [3, 4, 3, 2, 1, 1, 1, 1].entries()) view.setBigInt64(16 + 8 * i, BigInt(n), true);
  for (const [i, v] of [-1, 1.5, 1.25, 8].entries()) view.setFloat64(104 + 8 * i, v, true);
  view.setBigInt64(168, 544n, true);
  view.setFloat64(176, 2, true); // slope
  view.setFloat64(184, 10, true); // intercept
  view.setInt32(344, 1, true);
  view.setInt32(348, 2, true);
  // A half turn about y with qfac −1: x and z reversed, and z once more.
  for (const [i, v] of [0, 1, 0, 5.5, -7, 1 / 3].entries()) view.setFloat64(352 + 8 * i, v, true);
  for (const [i, v] of [-1.5, 0, 0, 5.5, 0, 1.25, 0, -7, 0, 0, 8, 1 / 3].entries())
    view.setFloat64(400 + 8 * i, v, true);
  view.setInt32(500, 2, true); // mm
  for (let i = 0; i < 24; i++) view.setInt16(544 + 2 * i, i, true);
  return bytes;
}

test('what other programs may read differently is said', () => {
  const problemsOf = (affine: readonly number[] | undefined, change: (view: DataView) => void = () => {}) => {
    const bytes = encodeNifti(
      { data: [0, 1], shape: [2, 1, 1], dtype: 'uint8', spacing, ...(affine ? { affine } : {}) },
      'x',
    );
    change(new DataView(bytes.buffer));
    return geometryProblems({ version: 1, littleEndian: true, bytes: bytes.slice(0, 348) }).join('; ');
  };
  assert.is(problemsOf(obliqueAffine()), '');
  const slanted = obliqueAffine();
  slanted[1]! += 0.3;
  assert.match(problemsOf(slanted), /not at right angles/);
  assert.match(
    problemsOf(obliqueAffine().map((v, i) => (i % 4 === 2 ? v * 2 : v))),
    /pixdim\) is 1.5×1.25×8, that of its affine 1.5×1.25×16/,
  );
  assert.match(
    problemsOf(obliqueAffine(), (view) => view.setFloat32(268, 99, true)),
    /sform and its qform disagree/,
  );
  assert.match(
    problemsOf(obliqueAffine(), (view) => view.setFloat32(256, 3, true)),
    /qform is no rotation/,
  );
  const unplaced = (view: DataView) => {
    view.setInt16(252, 0, true);
    view.setInt16(254, 0, true);
  };
  assert.match(problemsOf(obliqueAffine(), unplaced), /neither sform nor qform/);
});

test('a label that lies otherwise than its image is refused, not read upside down', async () => {
  const [image, label] = [join(folder, 'image.nii'), join(folder, 'label.nii')];
  const data = new Uint8Array(24).map((_, i) => i % 4);
  writeNifti(image, { data, shape: [4, 3, 2], dtype: 'uint8' });
  writeNifti(label, {
    data,
    shape: [4, 3, 2],
    dtype: 'uint8',
    affine: [-1, 0, 0, 3, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
  });
  const c = { id: 'a', patient: 'a', frame: undefined, image, label };
  await refuses(() => loadCase(c), DataError, /label\.nii lies LAS, its image RAS/);
});

test('spacing: pixels of one size in mm, cut or padded about the centre, and back', () => {
  const data = Uint8Array.from({ length: 6 * 4 }, (_, i) => i + 1);
  const path = join(folder, 'pixels.nii');
  writeNifti(path, { data, shape: [6, 4, 1], spacing: [1, 2, 8], dtype: 'uint8' });
  const volume = loadCase({ id: 'a', patient: 'a', frame: undefined, image: path, label: path }, { classes: 25 });
  const rows = (values: ArrayLike<number>, width: number) =>
    Array.from({ length: values.length / width }, (_, y) =>
      Array.from(values)
        .slice(y * width, (y + 1) * width)
        .join(' '),
    );
  // 4×4 pixels of 1×2 mm: the middle four of six columns, all rows.
  const same = samplesOf(volume, { patch: [4, 4], spacing: [1, 2] })[0]!.label!;
  assert.equal(rows(same, 4), ['2 3 4 5', '8 9 10 11', '14 15 16 17', '20 21 22 23']);
  // Of 2×2 mm: every other column, and one of padding; halves go up.
  const coarse = samplesOf(volume, { patch: [4, 4], spacing: [2, 2] })[0]!.label!;
  assert.equal(rows(coarse, 4), ['1 3 5 0', '7 9 11 0', '13 15 17 0', '19 21 23 0']);
  const refined = restoreLabels(coarse, { patch: [4, 4], spacing: [2, 2] }, volume);
  assert.equal(rows(refined, 6), ['1 3 3 5 5 0', '7 9 9 11 11 0', '13 15 15 17 17 0', '19 21 21 23 23 0']);
  // Turned by a quarter and mirrored, its pixels are 2×1 mm: every other row, and each column twice.
  const turned = sampleOnGrid(
    nativeSamples(volume, { patch: [4, 4] })[0]!,
    { patch: [4, 4], spacing: [1, 2] },
    { kind: 'turnAndFlip', turns: 1, flip: 1 },
  );
  assert.equal(rows(turned.label!, 4), ['18 18 12 12', '16 16 10 10', '14 14 8 8', '0 0 0 0']);
  const back = restoreLabels(same, { patch: [4, 4], spacing: [1, 2] }, volume);
  assert.equal(rows(back, 6), ['0 2 3 4 5 0', '0 8 9 10 11 0', '0 14 15 16 17 0', '0 20 21 22 23 0']);
});

test.run();
