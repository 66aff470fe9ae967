// What goes into an archive comes out, byte by byte; an archive that is damaged or incomplete says so.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ArchiveError, pack, piecesOf, predict, unpack, unpredict } from '../../bench/experiment/archive.js';
import { philox4x32 } from '../../engine/custom.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';

const test = suite('archive');

const inFolder = (body: (folder: string) => void): void => {
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-archive-'));
  try {
    body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

test('prediction is undone, extremes and odd widths included', () => {
  for (const columns of [1, 2, 7, 16]) {
    const pixels = Uint16Array.from({ length: 7 * columns + 3 }, (_, i) =>
      i % 5 === 0 ? [0, 65535, 32767, 32768][i % 4]! : philox4x32([i, 0, 0, 0], [1, 2])[0]! & 0xffff,
    );
    assert.equal(unpredict(predict(pixels, columns), columns), pixels);
  }
  const smooth = Uint16Array.from({ length: 4096 }, (_, i) => 1000 + (i % 64) * 3 + Math.floor(i / 64) * 5);
  const planes = predict(smooth, 64);
  assert.ok(planes.subarray(65).filter((byte) => byte > 10).length < 64, 'errors of a smooth image are small');
});

test('a data set and other files', () =>
  inFolder((folder) => {
    const data = join(folder, 'data');
    writePhantoms(data, { patients: 3, size: 16 });
    mkdirSync(join(data, 'deep', 'er'), { recursive: true });
    writeFileSync(join(data, 'deep', 'er', 'log.jsonl'), 'x\n'.repeat(1000));
    writeFileSync(join(data, 'empty'), '');
    writeFileSync(join(data, 'left-out'), 'y');
    writeFileSync(join(data, 'other.gz'), gzipSync('no image'));
    const out = join(folder, 'there', 'data');
    const pieces = pack(data, out, { piece: 2000, quality: 4, filter: (path) => path !== 'left-out' });
    assert.ok(pieces.length > 2);
    assert.ok(pieces.every((path) => readFileSync(path).length <= 2000));
    const names = unpack(out, join(folder, 'again'));
    assert.not(names.includes('left-out'));
    assert.ok(names.includes(join('deep', 'er', 'log.jsonl')) && names.includes('empty'));
    for (const name of names) {
      const [before, after] = [data, join(folder, 'again')].map((place) => readFileSync(join(place, name)));
      const content = (bytes: Buffer): Buffer => (name.endsWith('.gz') ? gunzipSync(bytes) : bytes);
      assert.ok(content(before!).equals(content(after!)), name);
    }
    assert.ok(names.some((name) => name.endsWith('_gt.nii.gz')));
    // Fewer pieces: the old ones are gone.
    pack(data, out, { piece: 1e6, quality: 4 });
    assert.is(piecesOf(out).length, 1);
  }));

test('damaged, missing and foreign pieces', () =>
  inFolder((folder) => {
    const data = join(folder, 'data');
    mkdirSync(data);
    writeFileSync(
      join(data, 'a'),
      Buffer.from(Array.from({ length: 5000 }, (_, i) => philox4x32([i, 0, 0, 0], [3, 4])[0]! & 255)),
    );
    const out = join(folder, 'x');
    const failsWith = (pattern: RegExp): void =>
      assert.throws(
        () => unpack(out, join(folder, 'y')),
        (error: Error) => error instanceof ArchiveError && pattern.test(error.message),
      );
    failsWith(/there is no/);
    const pieces = pack(data, out, { piece: 2000 });
    assert.is(pieces.length, 3);
    const bytes = readFileSync(pieces[1]!);
    const turned = Buffer.from(bytes);
    turned[500]! ^= 1;
    writeFileSync(pieces[1]!, turned);
    failsWith(/x-0002 is damaged/);
    rmSync(pieces[1]!);
    failsWith(/x-0003 is piece 3, expected 2/);
    writeFileSync(pieces[1]!, bytes);
    rmSync(pieces[2]!);
    failsWith(/2 of 3 pieces/);
    writeFileSync(pieces[2]!, 'something else');
    failsWith(/is piece \?, expected 3/);
  }));

test.run();
