// Event files are read back by a reader of the tests' own, and their checksums compared with published vectors.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { crc32c, createEventFile, scalarsOf } from '../../train/training/tensorboard.js';
import { type Event, one, readEvents } from './event-reader.js';

const test = suite('tensorboard');
const root = mkdtempSync(join(tmpdir(), 'wgrad-events-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const newFolder = (): string => {
  const path = join(root, String(folders++));
  mkdirSync(path);
  return path;
};

test('CRC-32C: published vectors (RFC 3720 B.4)', () => {
  assert.is(crc32c(new TextEncoder().encode('123456789')), 0xe3069283);
  assert.is(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assert.is(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assert.is(crc32c(Uint8Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c);
  assert.is(crc32c(new Uint8Array(0)), 0);
});

test('the first record says the version; scalars come back with step, tag and value', () => {
  const folder = newFolder();
  const before = Date.now() / 1000;
  const file = createEventFile(folder);
  file.scalars(1, { 'info/lr': 0.01, 'info/total_loss': -2.5 });
  file.scalars(30_000, { 'info/lr': Number.NaN, 'Prüfung/ä': 1e-30 });
  file.scalars(2 ** 40, { x: 3 });
  file.scalars(7, {});
  assert.match(readdirSync(folder)[0]!, /^events\.out\.tfevents\.\d{10}\.[\w.-]+$/);
  const events = readEvents(file.path);
  assert.is(events[0]!.version, 'brain.Event:2');
  assert.is(events.length, 4, 'a step without values writes nothing');
  assert.ok(events.every(({ time }) => time >= before && time <= Date.now() / 1000));
  assert.equal(
    events.slice(1).map(({ step, values }) => [step, ...values.map(({ tag, scalar }) => [tag, scalar])]),
    [
      [1, ['info/lr', Math.fround(0.01)], ['info/total_loss', -2.5]],
      [30_000, ['info/lr', Number.NaN], ['Prüfung/ä', Math.fround(1e-30)]],
      [2 ** 40, ['x', 3]],
    ],
  );
});

test('images: size, colour space and a PNG with these pixels, also beyond the length of a short field', () => {
  const file = createEventFile(newFolder());
  const [width, height] = [70, 50];
  const rgb = Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * 7919) % 256);
  file.image(5, 'train/Image', { width, height, data: rgb });
  file.image(6, 'train/Mask', { width, height, data: rgb.subarray(0, width * height) });
  const events = readEvents(file.path).slice(1);
  events.forEach(({ step, values: [value] }, i) => {
    assert.is(step, 5 + i);
    assert.is(value!.tag, ['train/Image', 'train/Mask'][i]);
    const fields = value!.image!;
    assert.equal(
      [1, 2, 3].map((n) => one(fields, n)),
      [height, width, i ? 1 : 3],
    );
    const png = decode(one(fields, 4) as Buffer, { checkCrc: true });
    assert.equal([png.width, png.height, png.channels], [width, height, i ? 1 : 3]);
    assert.equal([...png.data], [...(i ? rgb.subarray(0, width * height) : rgb)]);
  });
});

test('a resumed run writes a second file that sorts after the first and purges from the step it repeats', () => {
  const folder = newFolder();
  const first = createEventFile(folder);
  for (let step = 1; step <= 10; step++) first.scalars(step, { x: step });
  const second = createEventFile(folder, 6); // killed after 10, its state was of 6
  for (let step = 7; step <= 12; step++) second.scalars(step, { x: 100 + step });
  assert.equal(
    readdirSync(folder).sort(),
    [first.path, second.path].map((path) => path.slice(folder.length + 1)),
  );
  const events = readEvents(second.path);
  assert.equal([events[0]!.version, events[1]!.session, events[1]!.step], ['brain.Event:2', 1, 7]);
  // What a reader does on SessionLog.START: it drops every event of that step and later ones.
  let kept: Event[] = [];
  for (const event of [...readEvents(first.path), ...events]) {
    if (event.session === 1) kept = kept.filter(({ step }) => step < event.step);
    kept.push(event);
  }
  assert.equal(
    kept.flatMap(({ values }) => values.map(({ scalar }) => scalar)),
    [1, 2, 3, 4, 5, 6, 107, 108, 109, 110, 111, 112],
  );
});

test('foreign files in the folder, and one from the future, do not matter', () => {
  const folder = newFolder();
  writeFileSync(join(folder, 'events.out.tfevents.x'), '');
  writeFileSync(join(folder, 'events.out.tfevents.4000000000.elsewhere'), '');
  assert.match(createEventFile(folder, 0).path, /tfevents\.4000000001\./);
});

test('tags and steps: those of SSL4MIS where it has one; shares of no pixels and missing scores are left out', () => {
  assert.equal(
    scalarsOf({
      iteration: 0,
      loss: 1,
      ce: 2,
      dice: 3,
      consistency: 4,
      separation: 5,
      keptAccuracy: -1,
      lr: 0.1,
      consistencyWeight: 0,
      cosines: [1],
      gradients: { supervised: 6, consistencyCosine: 0.5, separationCosine: null },
    }),
    {
      step: 1,
      values: {
        'info/gradient_supervised': 6,
        'info/gradient_consistency_cosine': 0.5,
        'info/total_loss': 1,
        'info/loss_ce': 2,
        'info/loss_dice': 3,
        'info/consistency_loss': 4,
        'info/separation': 5,
        'info/lr': 0.1,
        'info/consistency_weight': 0,
      },
    },
  );
  const validation = {
    mean: { 1: { Dice: 0.5, HD95: 3 }, 2: { Dice: 0.25, HD95: null } },
    foreground_mean: { Dice: 0.375, HD95: 3 },
  };
  assert.equal(scalarsOf({ iteration: 200, validation }), {
    step: 200,
    values: {
      'info/val_1_dice': 0.5,
      'info/val_1_hd95': 3,
      'info/val_2_dice': 0.25,
      'info/val_mean_dice': 0.375,
      'info/val_mean_hd95': 3,
    },
  });
});

test.run();
