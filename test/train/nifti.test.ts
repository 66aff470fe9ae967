// NIfTI reading and writing: every kind of bad file gets its own message, and good ones mean what nibabel says they mean.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeNifti } from '../../train/data/nifti.js';
import { decodeNiftiFile, readNifti, writeNifti } from '../../train/data/nifti-file.js';
import { DataError } from '../../train/files/data-error.js';
import { closeTo } from '../close-to.js';
import { refuses } from '../refuses.js';

const test = suite('nifti');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-nifti-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** A good NIfTI-1 file of 4×3×2 int16 values −3, −2, …, with a change to its header. */
function file(change: (view: DataView, bytes: Uint8Array) => void = () => {}): Uint8Array {
  const data = Float32Array.from({ length: 24 }, (_, i) => i - 3);
  const bytes = encodeNifti({ data, shape: [4, 3, 2], spacing: [1.5, 1.25, 8], dtype: 'int16' }, 'good');
  change(new DataView(bytes.buffer), bytes);
  return bytes;
}

/** The same numbers as a NIfTI-1 or -2 file of either byte order, written field by field. */
function build(version: 1 | 2, littleEndian: boolean): Uint8Array {
  const size = version === 1 ? 348 : 540;
  const bytes = new Uint8Array(size + 4 + 48);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, size, littleEndian);
  const dims = [3, 4, 3, 2, 1, 1, 1, 1];
  if (version === 1) {
    dims.forEach((n, i) => void view.setInt16(40 + 2 * i, n, littleEndian));
    view.setInt16(70, 4, littleEndian);
    view.setInt16(72, 16, littleEndian);
    [1, 1.5, 1.25, 8].forEach((v, i) => void view.setFloat32(76 + 4 * i, v, littleEndian));
    view.setFloat32(108, 352, littleEndian);
    view.setFloat32(112, 2, littleEndian);
    view.setFloat32(116, 10, littleEndian);
    bytes.set([0x6e, 0x2b, 0x31, 0], 344);
  } else {
    bytes.set([0x6e, 0x2b, 0x32, 0, 0x0d, 0x0a, 0x1a, 0x0a], 4);
    view.setInt16(12, 4, littleEndian);
    view.setInt16(14, 16, littleEndian);
    dims.forEach((n, i) => void view.setBigInt64(16 + 8 * i, BigInt(n), littleEndian));
    [1, 1.5, 1.25, 8].forEach((v, i) => void view.setFloat64(104 + 8 * i, v, littleEndian));
    view.setBigInt64(168, 544n, littleEndian);
    view.setFloat64(176, 2, littleEndian);
    view.setFloat64(184, 10, littleEndian);
  }
  for (let i = 0; i < 24; i++) view.setInt16(size + 4 + 2 * i, i - 3, littleEndian);
  return bytes;
}

const identityAffine = [1.5, 0, 0, 0, 0, 1.25, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1];

for (const version of [1, 2] as const) {
  for (const littleEndian of [true, false]) {
    test(`NIfTI-${version}, ${littleEndian ? 'little' : 'big'}-endian, scaled, plain and gzip`, () => {
      const bytes = build(version, littleEndian);
      for (const content of [bytes, gzipSync(bytes)]) {
        const volume = decodeNiftiFile(content, 'a/volume.nii');
        assert.equal(volume.name, 'volume.nii');
        assert.equal(volume.shape, [4, 3, 2]);
        assert.equal(volume.spacing, [1.5, 1.25, 8]);
        closeTo(volume.affine, identityAffine);
        closeTo(
          volume.data,
          Float32Array.from({ length: 24 }, (_, i) => (i - 3) * 2 + 10),
        );
      }
    });
  }
}

test('every datatype', () => {
  const write: Record<number, [number, (view: DataView, at: number, v: number) => void]> = {
    2: [1, (view, at, v) => view.setUint8(at, v)],
    4: [2, (view, at, v) => view.setInt16(at, v, false)],
    8: [4, (view, at, v) => view.setInt32(at, v, false)],
    16: [4, (view, at, v) => view.setFloat32(at, v, false)],
    64: [8, (view, at, v) => view.setFloat64(at, v, false)],
    256: [1, (view, at, v) => view.setInt8(at, v)],
    512: [2, (view, at, v) => view.setUint16(at, v, false)],
    768: [4, (view, at, v) => view.setUint32(at, v, false)],
    1024: [8, (view, at, v) => view.setBigInt64(at, BigInt(v), false)],
    1280: [8, (view, at, v) => view.setBigUint64(at, BigInt(v), false)],
  };
  for (const [code, [width, set]] of Object.entries(write)) {
    const bytes = new Uint8Array(352 + 24 * width);
    bytes.set(build(1, false).subarray(0, 352));
    const view = new DataView(bytes.buffer);
    view.setInt16(70, Number(code), false);
    view.setInt16(72, width * 8, false);
    for (let i = 0; i < 24; i++) set(view, 352 + i * width, i + 100);
    closeTo(
      decodeNiftiFile(bytes, code).data,
      Float32Array.from({ length: 24 }, (_, i) => (i + 100) * 2 + 10),
      {},
      code,
    );
  }
});

test('bad input: one message each', async () => {
  const cases: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /empty/],
    ['text', new TextEncoder().encode('this is a text file, not an image'.repeat(30)), /not a NIfTI file/],
    ['three bytes', new Uint8Array([1, 2, 3]), /not a NIfTI file/],
    ['magic', file((_, bytes) => bytes.fill(0, 344, 348)), /not a NIfTI file/],
    ['pair', file((_, bytes) => bytes.set([0x6e, 0x69, 0x31, 0], 344)), /\.hdr\/\.img pair/],
    ['header cut', file().subarray(0, 200), /truncated — got 200 bytes/],
    ['data cut', file().subarray(0, 360), /truncated — got 360 bytes, the header promises 400/],
    ['one byte short', file().subarray(0, 399), /truncated/],
    ['gzip cut', gzipSync(file()).subarray(0, 100), /truncated|damaged/],
    ['gzip of a cut file', gzipSync(file().subarray(0, 390)), /truncated/],
    ['gzip of text', gzipSync(Buffer.from('not an image'.repeat(100))), /not a NIfTI file/],
    ['dim[0] = 0', file((view) => view.setInt16(40, 0, true)), /dim\[0\] must be 1 to 7 — got 0/],
    ['dim[0] = 200', file((view) => view.setInt16(40, 200, true)), /dim\[0\] must be 1 to 7 — got 200/],
    ['dim[3] = 0', file((view) => view.setInt16(46, 0, true)), /at least 1 — got \[4,3,0\]/],
    ['dim[1] < 0', file((view) => view.setInt16(42, -4, true)), /at least 1 — got \[-4,3,2\]/],
    ['huge', file((view) => [42, 44, 46].forEach((at) => void view.setInt16(at, 32767, true))), /voxels/],
    ['large and absent', file((view) => [42, 44].forEach((at) => void view.setInt16(at, 8000, true))), /truncated/],
    [
      'zipped, large and absent',
      gzipSync(file((view) => [42, 44].forEach((at) => void view.setInt16(at, 8000, true)))),
      /truncated/,
    ],
    ['5-D', file((view) => [40, 50].forEach((at, i) => void view.setInt16(at, i ? 2 : 5, true))), /only 2-D to 4-D/],
    [
      'bitpix, and bytes to spare',
      Buffer.concat([file((view) => view.setInt16(72, 8, true)), Buffer.alloc(9)]),
      /bitpix 8/,
    ],
    ['complex', file((view) => view.setInt16(70, 32, true)), /datatype 32 \(complex\) are not read/],
    ['vox_offset 0', file((view) => view.setFloat32(108, 0, true)), /vox_offset .* got 0/],
    ['vox_offset NaN', file((view) => view.setFloat32(108, Number.NaN, true)), /vox_offset .* got NaN/],
    ['vox_offset infinite', file((view) => view.setFloat32(108, Number.POSITIVE_INFINITY, true)), /vox_offset/],
    ['vox_offset past the end', file((view) => view.setFloat32(108, 4000, true)), /truncated/],
    ['scl_inter NaN', file((view) => view.setFloat32(116, Number.NaN, true)), /scl_inter is NaN/],
    ['sform NaN', file((view) => view.setFloat32(284, Number.NaN, true)), /affine is not finite/],
  ];
  for (const [name, bytes, message] of cases) {
    await refuses(() => decodeNiftiFile(bytes, `${name}.nii`), DataError, message);
    await refuses(
      () => decodeNiftiFile(bytes, `${name}.nii`),
      DataError,
      new RegExp(`^nifti: ${name.replace(/[[\]]/g, '.')}`),
    );
  }
});

test('a gzip bomb is refused without unpacking it', async () => {
  const bomb = gzipSync(Buffer.concat([file(), Buffer.alloc(64 << 20)]));
  assert.ok(bomb.length < 100_000);
  const before = process.memoryUsage().arrayBuffers;
  await refuses(() => decodeNiftiFile(bomb, 'bomb.nii.gz'), DataError, /unpacks to more than/);
  assert.ok(process.memoryUsage().arrayBuffers - before < 32 << 20, 'the bomb was unpacked');
});

test('damage inside gzip data is found by its checksum', async () => {
  const bytes = gzipSync(file(), { level: 0 }); // stored: a changed byte is not a broken stream
  bytes[bytes.length - 30] = bytes[bytes.length - 30]! ^ 0xff;
  await refuses(() => decodeNiftiFile(bytes, 'flipped.nii.gz'), DataError, /damaged/);
});

test('several gzip members are one file', () => {
  const bytes = file();
  const members = Buffer.concat([gzipSync(bytes.subarray(0, 370)), gzipSync(bytes.subarray(370))]);
  closeTo(decodeNiftiFile(members, 'members').data, decodeNiftiFile(bytes, 'whole').data);
});

test('NaN and infinite values are counted, and the file named', async () => {
  const data = Float32Array.from({ length: 8 }, (_, i) => i);
  const bytes = encodeNifti({ data, shape: [2, 2, 2], dtype: 'float32' }, 'x');
  const view = new DataView(bytes.buffer);
  view.setFloat32(352, Number.NaN, true);
  view.setFloat32(364, Number.NEGATIVE_INFINITY, true);
  await refuses(
    () => decodeNiftiFile(bytes, 'd/heart.nii'),
    DataError,
    /d\/heart\.nii: 2 of 8 values are NaN or infinite/,
  );
});

test('extensions are stepped over, and a crafted loop of them does not hang', () => {
  const plain = file();
  const bytes = new Uint8Array(plain.length + 112);
  bytes.set(plain.subarray(0, 352));
  bytes.set(plain.subarray(352), 464);
  const view = new DataView(bytes.buffer);
  view.setFloat32(108, 464, true);
  view.setUint8(348, 1); // "extensions follow"
  view.setInt32(352, 16, true); // sizes that send a reader back and forth for ever
  view.setInt32(368, -16, true);
  closeTo(decodeNiftiFile(bytes, 'loop.nii').data, decodeNiftiFile(plain, 'plain.nii').data);
});

test('slope: 0, NaN and infinite mean none, whatever the intercept', () => {
  for (const slope of [0, Number.NaN, Number.POSITIVE_INFINITY]) {
    for (const intercept of [7, Number.NaN]) {
      const bytes = file((view) => {
        view.setFloat32(112, slope, true);
        view.setFloat32(116, intercept, true);
      });
      closeTo(decodeNiftiFile(bytes, 'x').data.subarray(0, 3), [-3, -2, -1]);
    }
  }
  const bytes = file((view) => {
    view.setFloat32(112, -0.5, true);
    view.setFloat32(116, 6.75, true);
  });
  closeTo(decodeNiftiFile(bytes, 'x').data.subarray(0, 2), [8.25, 7.75]);
});

test('affine: sform before qform before pixdim', () => {
  const sform = [0, -2, 0, 5, 3, 0, 0, 6, 0, 0, 4, 7];
  const withForms = (sformCode: number, qformCode: number) =>
    decodeNiftiFile(
      file((view) => {
        view.setInt16(252, qformCode, true);
        view.setInt16(254, sformCode, true);
        // A quarter turn about z: x → y, y → −x.
        [0, 0, Math.SQRT1_2, 10, 20, 30].forEach((v, i) => void view.setFloat32(256 + 4 * i, v, true));
        sform.forEach((v, i) => void view.setFloat32(280 + 4 * i, v, true));
      }),
      'x',
    ).affine;
  const qform = [0, -1.25, 0, 10, 1.5, 0, 0, 20, 0, 0, 8, 30];
  closeTo(withForms(1, 2), [...sform, 0, 0, 0, 1]);
  closeTo(withForms(0, 1), [...qform, 0, 0, 0, 1], { atol: 1e-6 });
  closeTo(withForms(0, 0), identityAffine);
});

test('qform: a half turn whose quaternion is too long by rounding, a negative qfac, and no rotation at all', async () => {
  const withQuaternion = (b: number, c: number, d: number, qfac: number) =>
    decodeNiftiFile(
      file((view) => {
        view.setInt16(254, 0, true);
        view.setInt16(252, 1, true);
        view.setFloat32(76, qfac, true);
        [b, c, d, 0, 0, 0].forEach((v, i) => void view.setFloat32(256 + 4 * i, v, true));
      }),
      'x',
    ).affine;
  const x = Math.fround(Math.SQRT1_2) + 2e-7; // 2x² > 1
  closeTo(withQuaternion(x, x, 0, 1), [0, 1.25, 0, 0, 1.5, 0, 0, 0, 0, 0, -8, 0, 0, 0, 0, 1], { atol: 1e-6 });
  closeTo(withQuaternion(1.0000001, 0, 0, -1), [1.5, 0, 0, 0, 0, -1.25, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1], { atol: 1e-6 });
  await refuses(() => withQuaternion(1, 1, 0, 1), DataError, /quaternion is not a rotation/);
  await refuses(() => withQuaternion(Number.NaN, 0, 0, 1), DataError, /quaternion is not a rotation/);
});

test('spacing in mm whatever the unit; 0 falls back to the affine', () => {
  const metres = file((view) => {
    [0.0015, 0.002, 0.01].forEach((v, i) => void view.setFloat32(80 + 4 * i, v, true));
    view.setUint8(123, 1);
  });
  closeTo(decodeNiftiFile(metres, 'x').spacing, [1.5, 2, 10], { rtol: 1e-6 });
  closeTo(
    decodeNiftiFile(
      file((view) => view.setFloat32(80, 0, true)),
      'x',
    ).spacing,
    [1.5, 1.25, 8],
  );
  closeTo(
    decodeNiftiFile(
      file((view) => view.setFloat32(88, -8, true)),
      'x',
    ).spacing,
    [1.5, 1.25, 8],
  );
});

test('shapes: 2-D gains a z of 1, trailing ones go, 4-D stays', () => {
  const dims = (...n: number[]) =>
    decodeNiftiFile(
      file((view) => n.forEach((v, i) => void view.setInt16(40 + 2 * i, v, true))),
      'x',
    ).shape;
  assert.equal(dims(2, 6, 4), [6, 4, 1]);
  assert.equal(dims(1, 24), [24, 1, 1]);
  assert.equal(dims(4, 4, 3, 2, 1), [4, 3, 2]);
  assert.equal(dims(7, 4, 3, 2, 1, 1, 1, 1), [4, 3, 2]);
  assert.equal(dims(4, 2, 3, 2, 2), [2, 3, 2, 2]);
});

test('round trip through files, gzip and plain, with an oblique affine', () => {
  const [c, s] = [Math.cos(0.3), Math.sin(0.3)];
  const oblique = [1.5 * c, -1.25 * s, 0, -80, 1.5 * s, 1.25 * c, 0, 30, 0, 0, -8, 12.5, 0, 0, 0, 1]; // det < 0
  const data = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i));
  for (const name of ['volume.nii', 'volume.nii.gz']) {
    const path = join(folder, name);
    writeNifti(path, { data, shape: [4, 3, 2], spacing: [1.5, 1.25, 8], affine: oblique, dtype: 'float32' });
    const volume = readNifti(path);
    closeTo(volume.data, data);
    closeTo(volume.affine, oblique, { rtol: 1e-6, atol: 1e-6 });
    // The qform says the same as the sform: read it alone.
    const bytes = volume.header.bytes.slice();
    new DataView(bytes.buffer).setInt16(254, 0, true);
    const qformOnly = new Uint8Array(352 + 96);
    qformOnly.set(bytes);
    closeTo(decodeNiftiFile(qformOnly, 'q').affine, oblique, { atol: 1e-5 });
  }
  assert.equal(readFileSync(join(folder, 'volume.nii.gz'))[0], 0x1f);
  assert.equal(
    readdirSync(folder).filter((name) => name.includes('tmp')),
    [],
  );
  // A sheared affine has no quaternion: it is kept as an sform alone.
  const sheared = [1.5, 0.4, 0, 0, 0, 1.25, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1];
  const bytes = encodeNifti({ data, shape: [4, 3, 2], affine: sheared, dtype: 'float32' }, 'x');
  closeTo(decodeNiftiFile(bytes, 'x').affine, sheared, { rtol: 1e-6 });
  assert.is(new DataView(bytes.buffer).getInt16(252, true), 0);
});

test('quaternions of every half turn survive writing', () => {
  for (const signs of [
    [1, 1, 1],
    [-1, -1, 1],
    [-1, 1, -1],
    [1, -1, -1],
    [-1, 1, 1],
    [-1, -1, -1],
  ]) {
    const affine = [2 * signs[0]!, 0, 0, 1, 0, 3 * signs[1]!, 0, 2, 0, 0, 4 * signs[2]!, 3, 0, 0, 0, 1];
    const bytes = encodeNifti({ data: [0, 1], shape: [2, 1, 1], spacing: [2, 3, 4], affine, dtype: 'uint8' }, 'x');
    new DataView(bytes.buffer).setInt16(254, 0, true);
    closeTo(decodeNiftiFile(bytes, 'x').affine, affine, { atol: 1e-6 }, String(signs));
  }
});

test('a label written like an image keeps its geometry bit for bit', () => {
  for (const version of [1, 2] as const) {
    for (const littleEndian of [true, false]) {
      const source = build(version, littleEndian);
      const view = new DataView(source.buffer);
      const [codes, quaternion] = version === 1 ? [252, 256] : [344, 352];
      for (let i = 0; i < 18; i++) {
        // Numbers without a short binary form in quatern_b … srow_z.
        if (version === 1) view.setFloat32(quaternion + 4 * i, 0.1 + 0.01 * i, littleEndian);
        else view.setFloat64(quaternion + 8 * i, 0.1 + 0.01 * i, littleEndian);
      }
      if (version === 1) {
        view.setInt16(codes, 1, littleEndian);
        view.setInt16(codes + 2, 2, littleEndian);
      } else {
        view.setInt32(codes, 1, littleEndian);
        view.setInt32(codes + 4, 2, littleEndian);
      }
      source[version === 1 ? 123 : 503] = 0;
      const image = decodeNiftiFile(source, 'image.nii');
      const labels = Uint8Array.from({ length: 24 }, (_, i) => i % 4);
      const written = decodeNiftiFile(
        encodeNifti({ data: labels, like: image, dtype: 'uint8' }, 'label.nii'),
        'label.nii',
      );
      closeTo(written.data, labels);
      assert.is(written.header.version, version);
      assert.equal(written.affine, image.affine);
      assert.equal(written.spacing, image.spacing);
      // In the same byte order the geometry's bytes are the same bytes.
      if (littleEndian) {
        const spans =
          version === 1
            ? [
                [76, 108],
                [123, 124],
                [252, 328],
              ]
            : [
                [104, 168],
                [344, 496],
                [500, 504],
              ];
        for (const [from, to] of spans) {
          assert.equal(written.header.bytes.slice(from, to), image.header.bytes.slice(from, to), `bytes ${from}–${to}`);
        }
      }
    }
  }
});

test('writing refuses what does not fit and where it cannot', async () => {
  const write = (content: object, path = join(folder, 'out.nii')) =>
    writeNifti(path, { data: [0, 1], shape: [2, 1, 1], dtype: 'uint8', ...content });
  await refuses(() => write({ data: [0, 256] }), DataError, /value 256 at index 1 is not a uint8/);
  await refuses(() => write({ data: [0.5, 1] }), DataError, /value 0.5 at index 0/);
  await refuses(() => write({ data: [0, Number.NaN], dtype: 'float32' }), DataError, /value NaN/);
  await refuses(() => write({ shape: [3, 1, 1] }), DataError, /shape and data do not agree/);
  await refuses(() => write({ like: decodeNiftiFile(file(), 'image.nii') }), DataError, /not the grid of image.nii/);
  await refuses(() => write({}, join(folder, 'missing', 'out.nii')), DataError, /no such file or folder/);
  await refuses(() => write({}, folder), DataError, /cannot write/);
  assert.equal(
    readdirSync(folder).filter((name) => name.includes('tmp')),
    [],
  );
});

test('reading names a missing file and a folder', async () => {
  await refuses(() => readNifti(join(folder, 'none.nii.gz')), DataError, /none\.nii\.gz — there is no such file/);
  await refuses(() => readNifti(folder), DataError, /is not a file/);
  writeFileSync(join(folder, 'empty.nii.gz'), '');
  await refuses(() => readNifti(join(folder, 'empty.nii.gz')), DataError, /empty/);
});

test('random damage gives a volume or a DataError, nothing else', () => {
  let state = 1;
  const random = (n: number) => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) % n;
  for (let round = 0; round < 3000; round++) {
    const bytes = build(round % 2 ? 1 : 2, round % 4 < 2);
    for (let i = 0; i < 4; i++) bytes[random(360)] = random(256);
    const content = round % 3 ? bytes : gzipSync(bytes);
    if (round % 9 === 0) content[random(content.length)] = random(256);
    try {
      const { shape, data } = decodeNiftiFile(content, 'damaged');
      assert.is(
        shape.reduce((p, n) => p * n, 1),
        data.length,
      );
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
    }
  }
});

test.run();
