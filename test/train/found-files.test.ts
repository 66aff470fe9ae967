// Files as they are found in the wild, built byte by byte: read with a word where others read them, else named with what to do.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { imagesOf, kindOf, volumesIn } from '../../train/data/case-files.js';
import { loadCase, writeLabels } from '../../train/data/case-volume.js';
import { openDataset, surveyDataset } from '../../train/data/datasets.js';
import { inspectDataset } from '../../train/data/inspect-dataset.js';
import { flattenedBy } from '../../train/data/inspect-volume.js';
import { percentileScaled } from '../../train/data/intensity.js';
import { classesOf, ignored, wholeLabels } from '../../train/data/labels.js';
import type { Case } from '../../train/data/layouts.js';
import { encodeNifti } from '../../train/data/nifti.js';
import { decodeNiftiFile, readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { createNotices } from '../../train/data/notices.js';
import { evaluateFiles } from '../../train/evaluation/evaluate.js';
import { DataError } from '../../train/files/data-error.js';
import { UsageError } from '../../train/files/usage-error.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { closeTo } from '../close-to.js';
import { refuses } from '../refuses.js';

const test = suite('found files');
const root = mkdtempSync(join(tmpdir(), 'wgrad-found-'));
test.after(() => rmSync(root, { recursive: true, force: true }));

const shape = [4, 3, 2];
const counting = Float32Array.from({ length: 24 }, (_, i) => i);

/** 4×3×2 int16 values 0 … 23 of 1.5×1.25×8 mm, with a change to its bytes. */
function file(change: (view: DataView, bytes: Uint8Array) => void = () => {}): Uint8Array {
  const bytes = encodeNifti({ data: counting, shape, spacing: [1.5, 1.25, 8], dtype: 'int16' }, 'good');
  change(new DataView(bytes.buffer), bytes);
  return bytes;
}

function put(path: string, content: Uint8Array | string): string {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, content);
  return full;
}

/** A gzip member with a long header: `extra` bytes of FEXTRA, then names. */
function withLongHeader(content: Uint8Array, extra: number, name: string, comment: string): Buffer {
  const packed = gzipSync(content);
  const header = Buffer.from(packed.subarray(0, 10));
  header[3] = 4 | 8 | 16 | 2;
  const field = Buffer.alloc(2 + extra, 0x41);
  field.writeUInt16LE(extra, 0);
  const names = Buffer.from(`${name}\0${comment}\0`, 'latin1');
  return Buffer.concat([header, field, names, Buffer.alloc(2), packed.subarray(10)]);
}

test('gzip: bytes after it, headers of any length, members of any size, empty ones', async () => {
  const bytes = file();
  const tail = (...values: number[]) => Buffer.concat([gzipSync(bytes), Buffer.from(values)]);
  const spoilt = (fromEnd: number) => {
    const content = tail(7);
    content[content.length - fromEnd]! ^= 0x55;
    return content;
  };
  const found: [string, Uint8Array, RegExp | undefined][] = [
    ['one byte after', tail(7), /^1 bytes after its gzip data are ignored$/],
    ['a text after', Buffer.concat([gzipSync(bytes), Buffer.from('uploaded by x'.repeat(999))]), /^12987 bytes after/],
    ['zeros after', tail(0, 0, 0), undefined],
    [
      'two members and a byte',
      Buffer.concat([gzipSync(bytes.subarray(0, 9)), gzipSync(bytes.subarray(9)), tail(9).subarray(-1)]),
      /^1 bytes/,
    ],
    ['an empty member first', Buffer.concat([gzipSync(Buffer.alloc(0)), gzipSync(bytes)]), undefined],
    ['members of one byte', Buffer.concat(Array.from(bytes, (byte) => gzipSync(Buffer.from([byte])))), undefined],
    ['a long header', withLongHeader(bytes, 65535, 'n'.repeat(9000), 'c'.repeat(20000)), undefined],
    [
      'long headers of two members',
      Buffer.concat([
        withLongHeader(bytes.subarray(0, 100), 60000, 'a', 'b'),
        withLongHeader(bytes.subarray(100), 9000, 'a', 'b'),
      ]),
      undefined,
    ],
  ];
  for (const [name, content, note] of found) {
    // Bits 1 of the flags ask for a header checksum that nothing here is held against: Node's gunzip refuses a wrong one.
    const volume = decodeNiftiFile(content, name);
    assert.equal(volume.data, counting, name);
    if (note) assert.match(volume.notes.join(), note, name);
    else assert.equal(volume.notes, [], name);
  }
  for (const [name, content] of [
    [
      'a damaged second member',
      Buffer.concat([gzipSync(bytes.subarray(0, 9)), gzipSync(bytes.subarray(9)).fill(3, 12, 20)]),
    ],
    [
      'a cut second member',
      Buffer.concat([gzipSync(bytes.subarray(0, 9)), gzipSync(bytes.subarray(9)).subarray(0, -9)]),
    ],
    ['a wrong checksum, and a byte', spoilt(9)],
    ['a wrong length, and a byte', spoilt(5)],
    ['only a header', gzipSync(bytes).subarray(0, 10)],
  ] as const) {
    await refuses(() => decodeNiftiFile(content, name), DataError, /damaged|truncated/);
  }
  // However it is spoiled: the right voxels, or an error of ours.
  const good = Buffer.concat([withLongHeader(bytes, 30, 'name', 'x'), Buffer.from('tail')]);
  let state = 7;
  const random = (n: number) => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) % n;
  for (let round = 0; round < 500; round++) {
    const content = Buffer.from(good);
    for (let i = 0; i < 1 + (round % 3); i++) content[random(content.length)] = random(256);
    try {
      assert.equal(
        decodeNiftiFile(round % 2 ? content : content.subarray(0, random(content.length)), 'spoiled').data,
        counting,
      );
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
    }
  }
});

test('headers that contradict themselves are read where the length of the file agrees, else refused', async () => {
  const read = (change: (view: DataView) => void, spare = 0) =>
    decodeNiftiFile(Buffer.concat([file(change), Buffer.alloc(spare)]), 'x');
  const dims =
    (...n: number[]) =>
    (view: DataView) =>
      n.forEach((v, i) => void view.setInt16(40 + 2 * i, v, true));
  for (const bitpix of [0, 8, 64]) {
    const volume = read((view) => view.setInt16(72, bitpix, true));
    assert.equal(volume.data, counting);
    assert.match(volume.notes.join(), new RegExp(`bitpix is ${bitpix}: the datatype, int16, says 16`));
  }
  assert.equal(read((view) => view.setInt16(72, 0, true), 10).data, counting);
  await refuses(() => read((view) => view.setInt16(72, 64, true), 10), DataError, /bitpix 64/);
  for (const sizes of [
    [4, 4, 3, 2, 0],
    [7, 4, 3, 2, 0, 0, 0, 0],
    [5, 4, 3, 2, 1, 0],
  ]) {
    const volume = read(dims(...sizes));
    assert.equal([volume.shape, [...volume.data]], [shape, [...counting]]);
    assert.match(volume.notes.join(), /a trailing 0 is read as 1/);
  }
  assert.equal(read(dims(3, 6, 4, 0)).shape, [6, 4, 1]);
  await refuses(() => read(dims(3, 4, 3, 0)), DataError, /at least 1 — got \[4,3,0\]/); // half of the data would be lost
  await refuses(() => read(dims(4, 4, 0, 3, 2)), DataError, /at least 1/);
  assert.equal(read(dims(5, 4, 3, 2, 1, 1)).notes, []);
});

test('what is no NIfTI is named, with what converts it', async () => {
  const text = (value: string) => Buffer.from(value.padEnd(600, ' '));
  const at = (offset: number, value: string | number[]) => {
    const bytes = Buffer.alloc(600, 0x20);
    bytes.set(typeof value === 'string' ? Buffer.from(value, 'latin1') : value, offset);
    return bytes;
  };
  const mgh = Buffer.alloc(600);
  [1, 4, 3, 2, 1, 3].forEach((n, i) => void mgh.writeInt32BE(n, 4 * i));
  const cases: [string, Uint8Array, RegExp][] = [
    ['a.dcm', at(128, 'DICM'), /a DICOM file\. .*dcm2niix/],
    ['a.nrrd', text('NRRD0004\ntype: short'), /an NRRD file\. .*SimpleITK/],
    ['a.mha', text('ObjectType = Image\nNDims = 3'), /MetaImage.*SimpleITK/],
    ['a.mgh', mgh, /FreeSurfer.*mri_convert/],
    ['a.mgz', gzipSync(mgh), /FreeSurfer.*mri_convert/],
    ['a.zip', at(0, [0x50, 0x4b, 3, 4]), /ZIP archive\. .*unzip/],
    ['a.nii.zst', at(0, [0x28, 0xb5, 0x2f, 0xfd]), /Zstandard.*zstd -d/],
    ['lfs.nii.gz', text('version https://git-lfs.github.com/spec/v1\noid sha256:0'), /Git LFS pointer.*git lfs pull/],
    ['annex.nii.gz', text('../../.git/annex/objects/aa'), /git-annex pointer/],
    ['page.nii.gz', text('<!DOCTYPE html><html>'), /an HTML page, not the file.*Download/],
    ['error.nii.gz', text('{"message": "Not found"}'), /a JSON text/],
    ['twice.nii.gz', gzipSync(gzipSync(file())), /packed by gzip twice/],
    ['a.img', at(0, [1, 2, 3]), /\.hdr\/\.img pair\. .*nibabel/],
    ['a.npy', at(0, [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]), /a NumPy array/],
    ['a.h5.nii', at(0, [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]), /an HDF5 file/],
    ['._a.nii', at(0, [0, 5, 0x16, 7]), /macOS's companion/],
    ['zeros.nii', Buffer.alloc(600), /zeros only/],
    [
      'a.hdr',
      file((_, bytes) => bytes.set([0x6e, 0x69, 0x31, 0], 344)),
      /one half of a \.hdr\/\.img pair\. .*fslchfiletype/,
    ],
    ['b.hdr', file((_, bytes) => bytes.fill(0, 344, 348)), /ANALYZE 7\.5/],
  ];
  for (const [name, bytes, message] of cases) await refuses(() => decodeNiftiFile(bytes, name), DataError, message);
});

test('affine and spacing are in mm whatever the unit; what cannot be is said', () => {
  const scaled = (code: number, factor: number, forms: [number, number]) =>
    decodeNiftiFile(
      file((view) => {
        view.setUint8(123, code);
        view.setInt16(252, forms[1], true);
        view.setInt16(254, forms[0], true);
        for (let i = 0; i < 3; i++) view.setFloat32(80 + 4 * i, view.getFloat32(80 + 4 * i, true) * factor, true);
        [10, 20, 30].forEach((mm, i) => void view.setFloat32(268 + 4 * i, mm * factor, true));
        [1.5, 0, 0, 10, 0, 1.25, 0, 20, 0, 0, 8, 30].forEach(
          (mm, i) => void view.setFloat32(280 + 4 * i, mm * factor, true),
        );
      }),
      'x',
    );
  const affine = [1.5, 0, 0, 10, 0, 1.25, 0, 20, 0, 0, 8, 30, 0, 0, 0, 1];
  for (const [code, factor] of [
    [0, 1],
    [2, 1],
    [1, 1e-3],
    [3, 1e3],
    [1 + 8, 1e-3],
  ] as const) {
    for (const forms of [
      [1, 1],
      [0, 1],
    ] as [number, number][]) {
      const volume = scaled(code, factor, forms);
      closeTo(volume.spacing, [1.5, 1.25, 8], { rtol: 1e-6 });
      closeTo(volume.affine, affine, { rtol: 1e-6, atol: 1e-6 });
      assert.equal(volume.notes, []);
    }
  }
  for (const factor of [1e-3, 1e3])
    assert.match(scaled(2, factor, [1, 1]).notes.join(), /which no scanner makes: is its unit/);
});

test('an sform without an inverse counts as none: the qform, else the voxel size; zero and NaN pixdim are said', () => {
  const singular: number[][] = [
    new Array(12).fill(0),
    [1.5, 1.5, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0],
    [1.5, 0, 0, 0, 0, 1.25, 0, 0, 0, 0, 0, 0],
  ];
  for (const srow of singular) {
    for (const qform of [1, 0]) {
      const volume = decodeNiftiFile(
        file((view) => {
          view.setInt16(252, qform, true);
          [0, 0, 1, 5, 6, 7].forEach((v, i) => void view.setFloat32(256 + 4 * i, v, true)); // half a turn about z
          srow.forEach((v, i) => void view.setFloat32(280 + 4 * i, v, true));
        }),
        'x',
      );
      const expected = qform ? [-1.5, 0, 0, 5, 0, -1.25, 0, 6, 0, 0, 8, 7] : [1.5, 0, 0, 0, 0, 1.25, 0, 0, 0, 0, 8, 0];
      closeTo(volume.affine.slice(0, 12), expected, { atol: 1e-6 });
      assert.is(volume.isPlaced, qform === 1);
      assert.match(volume.notes.join(), /its sform has no inverse and counts as none/);
    }
  }
  const size = (value: number, isPlaced: boolean) =>
    decodeNiftiFile(
      file((view) => {
        view.setFloat32(88, value, true);
        for (const at of [252, 254]) view.setInt16(at, isPlaced && at === 254 ? 1 : 0, true);
      }),
      'x',
    );
  for (const value of [0, Number.NaN]) {
    assert.equal(size(value, true).spacing, [1.5, 1.25, 8]);
    assert.match(size(value, true).notes.join(), new RegExp(`along z is ${value}: 8 mm is taken from its sform`));
    assert.equal(size(value, false).spacing, [1.5, 1.25, 1]);
    assert.ok(size(value, false).affine.every(Number.isFinite));
    assert.match(size(value, false).notes.join(), new RegExp(`along z is ${value}: 1 mm is made up`));
  }
});

test('labels are written with the image’s own dim', () => {
  for (const dims of [
    [4, 4, 3, 2, 1],
    [5, 4, 3, 2, 1, 1],
    [2, 6, 4],
    [3, 24, 1, 1],
    [1, 24],
    [4, 4, 3, 2, 0],
  ]) {
    const image = put(
      'dims.nii',
      file((view) => dims.forEach((v, i) => void view.setInt16(40 + 2 * i, v, true))),
    );
    const volume = loadCase({ id: 'a', patient: 'a', frame: undefined, image, label: undefined });
    const out = join(root, 'dims-labels.nii');
    writeLabels(out, volume, new Uint8Array(24));
    const view = new DataView(readNifti(out).header.bytes.slice().buffer);
    const got = Array.from({ length: dims.length }, (_, i) => view.getInt16(40 + 2 * i, true));
    assert.equal(
      got,
      dims.map((n) => n || 1),
      `${dims}`,
    );
  }
});

test('NaN intensities are read as the least or 0 with a note; where nothing is finite it is an error', async () => {
  const bytes = encodeNifti({ data: counting.map((v) => v + 5), shape, dtype: 'float32' }, 'x');
  const view = new DataView(bytes.buffer);
  view.setFloat32(352, Number.NaN, true);
  view.setFloat32(356, Number.POSITIVE_INFINITY, true);
  const least = decodeNiftiFile(bytes, 'x', { nan: 'least' });
  closeTo(least.data.subarray(0, 3), [7, 7, 7]);
  assert.match(least.notes.join(), /^2 of 24 values are NaN or infinite: read as 7, the smallest finite value$/);
  closeTo(decodeNiftiFile(bytes, 'x', { nan: 'zero' }).data.subarray(0, 3), [0, 0, 7]);
  await refuses(() => decodeNiftiFile(bytes, 'x'), DataError, /2 of 24 values are NaN/);
  const none = encodeNifti({ data: counting, shape, dtype: 'float32' }, 'x');
  new Float32Array(none.buffer, 352).fill(Number.NaN);
  await refuses(() => decodeNiftiFile(none, 'x', { nan: 'least' }), DataError, /24 of 24 .* nothing to read/);
});

test('labels: rounded where a slope explains it, else the values and their voxels are named', async () => {
  const scaled = (slope: number, stored: number[]) => ({ data: Float32Array.from(stored, (q) => q * slope), slope });
  const half = wholeLabels(scaled(2 / 255, [0, 127, 128, 255]), 'x');
  assert.equal([...half.values], [0, 1, 1, 2]);
  assert.match(half.notes.join(), /stored times a slope of 0\.00784314: rounded, by at most 0\.0039/);
  assert.equal([...wholeLabels(scaled(3 / 65535, [0, 21845, 65535]), 'x').values], [0, 1, 3]);
  const whole = Float32Array.from([0, 1, 255]);
  assert.is(wholeLabels({ data: whole, slope: 1 }, 'x').values, whole);
  assert.equal([...wholeLabels({ data: Float32Array.from([0.9999, -0.0001]), slope: 1 }, 'x').values], [1, 0]);
  for (const [data, slope] of [
    [[0, 0.5, 0.5, 1.25], 1],
    [[0, 0.99, 0.5], 1],
    [[0, 0.5, 1.5, 1.5], 0.5],
    [[Number.NaN], 1],
  ] as const) {
    await refuses(
      () => wholeLabels({ data: Float32Array.from(data), slope }, 'x'),
      DataError,
      /holds values that are not labels: \S+ \(\d voxels?\)/,
    );
  }
});

test('labels: 255 and −1 are named as marks; --ignore-label maps them, and nothing of them is scored', async () => {
  const c: Case = { id: 'a', patient: 'a', frame: undefined, image: 'a.nii', label: 'a_gt.nii' };
  for (const mark of [255, -1]) {
    const values = Float32Array.from([0, 1, mark, 2]);
    await refuses(
      () => classesOf(values, c, { classes: 4 }),
      DataError,
      new RegExp(`holds the label ${mark}, .*\\(${mark}: 1 voxel\\).*--ignore-label ${mark}`),
    );
    assert.equal([...classesOf(values, c, { classes: 4, ignoreLabel: mark })], [0, 1, ignored, 2]);
  }
  await refuses(
    () => classesOf(Float32Array.from([7]), { ...c, labelTable: 'd/dataset.json' }, { classes: 4 }),
    DataError,
    /"labels" in d\/dataset\.json/,
  );
  await refuses(() => classesOf(Float32Array.from([7]), c, { classes: 4 }), DataError, /--classes/);
  assert.equal([...classesOf(Float32Array.from([0, 255, 1]), c, { classes: 2, ignoreLabel: 255 })], [0, 255, 1]);
  assert.equal([...classesOf(Float32Array.from([0, 255]), c, { classes: 2 })], [0, 1]);

  const image = put('ignore/image.nii', file());
  const like = readNifti(image);
  const [truth, said] = [
    counting.map((i) => (i < 8 ? 1 : i < 16 ? -1 : 0)),
    counting.map((i) => (i < 12 ? 1 : i === 23 ? 1 : 0)),
  ];
  const label = join(root, 'ignore/label.nii');
  writeNifti(label, { data: truth, dtype: 'int16', like });
  writeNifti(join(put('ignore-predictions/x', ''), '..', 'a.nii.gz'), { data: said, dtype: 'uint8', like });
  const cases = [{ ...c, image, label }];
  const {
    metric_per_case,
    ignored: count,
    confusion,
  } = await evaluateFiles(join(root, 'ignore-predictions'), cases, { classes: 2, ignoreLabel: -1 });
  const { TP, FP, FN, TN } = metric_per_case[0]!.metrics[1]!;
  assert.equal([TP, FP, FN, TN, count], [8, 1, 0, 7, 8]);
  assert.equal(confusion, [
    [7, 1],
    [0, 8],
  ]);
});

test('--trust voxels: labels that lie otherwise correspond all the same', async () => {
  const image = put(
    'trust/image.nii',
    encodeNifti(
      {
        data: counting,
        shape,
        affine: [-1.5, 0, 0, 9, 0, -1.25, 0, 9, 0, 0, 8, 0, 0, 0, 0, 1],
        spacing: [1.5, 1.25, 8],
        dtype: 'int16',
      },
      'x',
    ),
  );
  const label = put('trust/label.nii', encodeNifti({ data: counting.map((i) => i % 4), shape, dtype: 'uint8' }, 'x'));
  const c: Case = { id: 'a', patient: 'a', frame: undefined, image, label };
  await refuses(
    () => loadCase(c),
    DataError,
    /lies RAS, its image LPS\. If the voxels do correspond .* --trust voxels/,
  );
  assert.equal(
    [...loadCase(c, { trust: 'voxels' }).label!],
    [...counting].map((i) => i % 4),
  );
  put('trust-predictions/a.nii', encodeNifti({ data: counting.map((i) => i % 4), shape, dtype: 'uint8' }, 'x'));
  const dir = join(root, 'trust-predictions');
  await refuses(() => evaluateFiles(dir, [{ ...c, label: image }], { classes: 24 }), DataError, /--trust voxels/);
  const summary = await evaluateFiles(dir, [c], { classes: 4, trust: 'voxels' });
  assert.is(summary.foreground_mean.Dice, 1);
});

test('outliers that flatten the scaling are found; percentiles clip them', async () => {
  const values = Float32Array.from({ length: 1000 }, (_, i) => i % 100);
  assert.ok(Math.abs(flattenedBy(values) - 1) < 0.02);
  assert.ok(flattenedBy(values.map((v, i) => (i === 7 ? 1e6 : v))) > 1000);
  assert.is(flattenedBy(new Float32Array(10)), 1);
  assert.is(flattenedBy(values.map((_, i) => (i < 5 ? i : 0))), 1);
  const scaled = percentileScaled(
    values.map((v, i) => (i === 7 ? 1e6 : v)),
    [1, 99],
  );
  assert.equal([scaled[7], scaled[0]], [1, 0]);
  closeTo([scaled[50]!], [49 / 97], { atol: 0.02 });
  assert.is(resolveConfig({ intensity: 'percentile' }).intensityPercentiles[1], 99.5);
  await refuses(() => resolveConfig({ intensityPercentiles: [99, 1] }), UsageError, /two rising percentages/);
  assert.equal(
    [
      resolveConfig({ 'ignore-label': '-1' }).ignoreLabel,
      resolveConfig({ ignoreLabel: 'none' }).ignoreLabel,
      resolveConfig().ignoreLabel,
    ],
    [-1, null, null],
  );
});

test('what is an image is decided by names alike for all: hidden, labels, films, suffixes, twice', async () => {
  for (const stem of ['a_gt', 'a_label', 'label', 'a_seg', 'sub-1_dseg', 'x.mask', 'A_GT'])
    assert.is(kindOf(stem), 'label', stem);
  for (const stem of ['patient001_4d', 'x-4D']) assert.is(kindOf(stem), 'film', stem);
  for (const stem of ['a', 'segment_1', 'case_0000', 'gtx']) assert.is(kindOf(stem), 'image', stem);
  const film = encodeNifti({ data: new Uint8Array(24), shape: [2, 2, 2, 3], dtype: 'uint8' }, 'x');
  for (const name of ['A.NII.GZ', 'b.nii', 'b_gt.nii', '._b.nii', '.hidden.nii.gz', 'notes.txt'])
    put(`names/${name}`, file());
  put('names/run1_bold.nii.gz', gzipSync(film));
  const { images, notes } = imagesOf(join(root, 'names'));
  assert.equal(
    images,
    ['A.NII.GZ', 'b.nii'].map((name) => join(root, 'names', name)),
  );
  assert.match(
    notes.join('\n'),
    /left out as labels, by their names: b_gt\.nii\n.*left out as films of several volumes: run1_bold\.nii\.gz$/,
  );
  put('twice/a.nii', file());
  put('twice/a.NII.GZ', gzipSync(file()));
  await refuses(
    () => volumesIn(join(root, 'twice')),
    DataError,
    /a\.NII\.GZ and a\.nii are one volume twice|a\.nii and a\.NII\.GZ are one volume twice/,
  );
  put('films/x.nii', film);
  put('only-labels/x_gt.nii', file());
  put('foreign/x.dcm', 'x');
  put('nn/imagesTr/x_0000.nii', file());
  put('nn/labelsTr/x.nii', file());
  for (const [folder, message] of [
    ['films', /holds films only: x\.nii\. .*fslsplit/],
    ['only-labels', /holds only labels, by their names: x_gt\.nii/],
    ['foreign', /no \.nii or \.nii\.gz volume, but 1 DICOM file \(dcm2niix/],
    ['nn', /but its folders do: imagesTr, labelsTr\. Give one of them, such as .*imagesTr\.$/],
    ['nn/labelsTr', /holds labels, by its name\. .*imagesTr/],
  ] as const) {
    await refuses(() => imagesOf(join(root, folder)), DataError, message);
  }
});

test('layouts: Medical Decathlon, orphan labels, labels that fit no case, folders beside the right one', async () => {
  const label = encodeNifti({ data: counting.map((i) => i % 2), shape, dtype: 'uint8' }, 'x');
  for (const id of ['la_003', 'la_0004', '._la_003']) {
    put(`msd/imagesTr/${id}.nii.gz`, gzipSync(file()));
    put(`msd/labelsTr/${id}.nii.gz`, gzipSync(label));
  }
  const training = ['la_003', 'la_0004'].map((id) => ({
    image: `./imagesTr/${id}.nii.gz`,
    label: `./labelsTr/${id}.nii.gz`,
  }));
  put(
    'msd/dataset.json',
    JSON.stringify({ modality: { 0: 'MRI' }, labels: { 0: 'background', 1: 'atrium' }, training, test: [] }),
  );
  const { cases, classNames } = await openDataset(join(root, 'msd'));
  assert.equal(
    cases.map((c) => [c.id, Boolean(c.label)]),
    [
      ['la_0004', true],
      ['la_003', true],
    ].sort(),
  );
  assert.equal(classNames, ['background', 'atrium']);

  put('orphans/imagesTr/a_0000.nii', file());
  put('orphans/labelsTr/a.nii', label);
  put('orphans/labelsTr/b.nii', label);
  put('orphans/imagesTr/c.nii', file());
  const { dataset } = surveyDataset(join(root, 'orphans'));
  assert.equal(
    dataset.cases.map(({ id }) => id),
    ['a'],
  );
  assert.equal(dataset.warnings, [
    '1 label file without an image: labelsTr/b.nii',
    '1 volume that no case has: imagesTr/c.nii',
  ]);
  assert.equal((await inspectDataset(join(root, 'orphans'))).warnings.slice(0, 2), dataset.warnings);

  put('unfit/imagesTr/a_0000.nii', file());
  put('unfit/labelsTr/a_0000.nii', label);
  await refuses(
    () => openDataset(join(root, 'unfit')),
    DataError,
    /holds 1 label file, none named like a case: found a_0000\.nii; the label of a_0000\.nii is a\.nii\.gz/,
  );
  await refuses(
    () => openDataset(join(root, 'orphans', 'imagesTr')),
    DataError,
    /The folder above, .*orphans, is a data set\. Give that one/,
  );
  put('above/inner/x/image.nii', file());
  await refuses(() => openDataset(join(root, 'above')), DataError, /Its folder .*inner is a data set/);
  put('bids/sub-01/anat/sub-01_T1w.nii.gz', gzipSync(file()));
  await refuses(() => openDataset(join(root, 'bids')), DataError, /It has the BIDS layout/);
  put('dicom/1.dcm', 'x');
  await refuses(() => openDataset(join(root, 'dicom')), DataError, /1 DICOM file \(dcm2niix/);
});

test('each kind of notice is said once, and counted', () => {
  const lines: string[] = [];
  const notices = createNotices('train', (line) => lines.push(line));
  notices.add([
    { file: 'a', what: 'rounded, by at most 0.5' },
    { file: 'b', what: 'rounded, by at most 1.2e-7' },
  ]);
  notices.add([{ file: 'c', what: 'other: x' }]);
  notices.add([{ file: 'a', what: 'rounded, by at most 0.5' }]);
  notices.end();
  assert.equal(lines, [
    'train: a: rounded, by at most 0.5',
    'train: c: other: x',
    'train: 2 files in all: rounded, by at most 0.5',
  ]);
});

test.run();
