// Cases in memory: checks between image and label, normalisation, and resizing as scipy does it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { loadCase } from '../../train/data/case-volume.js';
import { minMaxScaled } from '../../train/data/intensity.js';
import { writeNifti } from '../../train/data/nifti-file.js';
import { resizeNearest, restoreLabels, samplesOf, stackSamples } from '../../train/data/samples.js';
import { DataError } from '../../train/files/data-error.js';
import { closeTo } from '../close-to.js';
import { refuses } from '../refuses.js';

const test = suite('samples');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-samples-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** A case on disk: an image of these values and a label. */
function makeCase(
  name: string,
  image: ArrayLike<number>,
  shape: number[],
  label?: ArrayLike<number>,
  labelShape = shape,
) {
  const paths = { image: join(folder, `${name}.nii.gz`), label: label && join(folder, `${name}_gt.nii`) };
  writeNifti(paths.image, { data: image, shape, spacing: [1.5, 1.25, 8], dtype: 'float32' });
  if (label) writeNifti(paths.label!, { data: label, shape: labelShape, dtype: 'float32' });
  return { id: name, patient: name, frame: '01', image: paths.image, label: paths.label || undefined };
}
const counting = (count: number) => Array.from({ length: count }, (_, i) => i);

test('a volume becomes slices with H = y and W = x, scaled over the whole volume', () => {
  const shape = [3, 2, 2]; // W = 3, H = 2, D = 2
  const loaded = loadCase(
    makeCase(
      'axes',
      counting(12),
      shape,
      counting(12).map((i) => i % 4),
    ),
  );
  assert.equal([loaded.depth, loaded.height, loaded.width], [2, 2, 3]);
  assert.equal(loaded.spacing, [1.5, 1.25, 8]);
  closeTo(
    loaded.image,
    counting(12).map((i) => i / 11),
    { atol: 1e-7 },
  );
  const slices = samplesOf(loaded, { patch: [2, 2] });
  assert.is(slices.length, 2);
  assert.is(slices[1]!.z, 1);
  // Columns 0 and 2 (corners map to corners) of both rows of slice 1.
  closeTo(
    slices[1]!.image,
    [6, 8, 9, 11].map((i) => i / 11),
    { atol: 1e-7 },
  );
  assert.equal(
    slices[1]!.label,
    Uint8Array.from([6, 8, 9, 11], (i) => i % 4),
  );
  closeTo(stackSamples(loaded, { patch: [2, 2] }).subarray(4), slices[1]!.image);
});

test('min–max: negative levels, and a constant volume', () => {
  closeTo(minMaxScaled(Float32Array.from([-4, 0, 4])), [0, 0.5, 1]);
  closeTo(minMaxScaled(new Float32Array(5).fill(3)), [0, 0, 0, 0, 0]);
});

test('label problems name the file and the value', async () => {
  const shape = [2, 2, 2];
  const load =
    (name: string, label: number[], labelShape = shape) =>
    () =>
      loadCase(makeCase(name, counting(8), shape, label, labelShape), { classes: 4 });
  await refuses(
    load('beyond', [0, 1, 2, 3, 4, 0, 0, 0]),
    DataError,
    /beyond_gt\.nii holds the label 4, expected .* 0 to 3/,
  );
  await refuses(load('negative', [0, -1, 0, 0, 0, 0, 0, 0]), DataError, /the label -1/);
  await refuses(load('half', [0, 0.5, 0, 0, 0, 0, 0, 0]), DataError, /values that are not labels: 0\.5 \(1 voxel\)/);
  await refuses(
    load(
      'shape',
      counting(4).map(() => 0),
      [2, 2, 1],
    ),
    DataError,
    /differ in shape — got \[2,2,1\], expected \[2,2,2\]/,
  );
  const twoClasses = makeCase('two', counting(8), shape, [0, 1, 2, 0, 0, 0, 0, 0]);
  await refuses(() => loadCase(twoClasses, { classes: 2 }), DataError, /label 2, expected .* 0 to 1/);
});

test('a time series is refused with what to do; no ground truth is fine', async () => {
  await refuses(
    () => loadCase(makeCase('cine', counting(16), [2, 2, 2, 2])),
    DataError,
    /shape \[2,2,2,2\], expected 3-D/,
  );
  const loaded = loadCase(makeCase('unlabelled', counting(8), [2, 2, 2]));
  assert.is(loaded.label, undefined);
  assert.is(samplesOf(loaded, { patch: [4, 4] })[0]!.label, undefined);
});

test('resize agrees with scipy.ndimage.zoom(order=0)', () => {
  // a = np.arange(35).reshape(5, 7); zoom(a, (h / 5, w / 7), order=0)
  const source = Uint8Array.from(counting(35));
  const expected: [number, number, number[]][] = [
    [
      8,
      4,
      [
        0, 2, 4, 6, 7, 9, 11, 13, 7, 9, 11, 13, 14, 16, 18, 20, 14, 16, 18, 20, 21, 23, 25, 27, 21, 23, 25, 27, 28, 30,
        32, 34,
      ],
    ],
    [
      3,
      10,
      [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 14, 15, 15, 16, 17, 17, 18, 19, 19, 20, 28, 29, 29, 30, 31, 31, 32, 33, 33, 34],
    ],
  ];
  for (const [height, width, values] of expected) {
    assert.equal(resizeNearest(source, [5, 7], [height, width]), Uint8Array.from(values));
  }
  assert.equal(resizeNearest(source, [5, 7], [5, 7]), source);
  assert.equal(resizeNearest(source, [5, 7], [1, 1]), Uint8Array.of(0));
  // The last row and column are the source's last at any size, although rounding may put them beyond it.
  for (let n = 2; n < 400; n++) {
    const resized = resizeNearest(source, [5, 7], [n, n]);
    assert.is(resized.at(-1), 34);
    assert.is(resized[0], 0);
  }
});

test('labels go back to their own grid', () => {
  const width = 9;
  const height = 7;
  const label = Uint8Array.from({ length: 2 * width * height }, (_, i) => (i * 7) % 4);
  const loaded = loadCase(makeCase('back', label, [width, height, 2], label));
  const size = 63; // a multiple of everything: nothing is lost on the way up
  const grid = { patch: [size, size] };
  const up = new Uint8Array(2 * size * size);
  for (const slice of samplesOf(loaded, grid)) up.set(slice.label!, slice.z * size * size);
  assert.equal(restoreLabels(up, grid, loaded), label);
});

test.run();
