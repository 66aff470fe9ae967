// PNG files against another decoder: every pixel must come back.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodePng, writePng } from '../../train/pictures/png.js';
import { refuses } from '../refuses.js';

const test = suite('png');
const noise = (length: number) => Uint8Array.from({ length }, (_, i) => Math.imul(i + 1, 2654435761) >>> 24);

test('RGB and grey pixels come back, with the checksums that a strict reader wants', () => {
  for (const [width, height, channels] of [
    [1, 1, 3],
    [7, 5, 3],
    [300, 2, 3],
    [5, 7, 1],
  ] as const) {
    const data = noise(width * height * channels);
    const picture = decode(encodePng({ width, height, data }), { checkCrc: true });
    assert.equal([picture.width, picture.height, picture.channels, picture.depth], [width, height, channels, 8]);
    assert.equal(Array.from(picture.data), Array.from(data), `${width}×${height}×${channels}`);
  }
});

test('a flipped bit is noticed by a strict reader', () => {
  const file = encodePng({ width: 4, height: 4, data: noise(48) });
  file[20]! ^= 1;
  assert.throws(() => decode(file, { checkCrc: true }), /CRC/i);
});

test('a flat picture takes few bytes', () => {
  const data = new Uint8Array(3 * 1200 * 800).fill(255);
  assert.ok(encodePng({ width: 1200, height: 800, data }).length < 20_000);
});

test('pixels of the wrong number are refused', async () => {
  await refuses(() => encodePng({ width: 2, height: 2, data: new Uint8Array(8) }), RangeError, /2×2 .* 4 or 12 .* 8/);
  await refuses(() => encodePng({ width: 0, height: 2, data: new Uint8Array(0) }), RangeError, /0×2/);
});

test('written in one piece: no other file is left', () => {
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-png-'));
  try {
    const path = join(folder, 'a.png');
    writePng(path, { width: 1, height: 1, data: Uint8Array.of(1, 2, 3) });
    writePng(path, { width: 1, height: 1, data: Uint8Array.of(4, 5, 6) });
    assert.equal(readdirSync(folder), ['a.png']);
    assert.equal(Array.from(decode(readFileSync(path)).data), [4, 5, 6]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
