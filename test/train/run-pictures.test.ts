// What a training shows of itself: TensorBoard events, slices, curves and the report, all of one tiny run that is stopped and
// resumed; and the small pictures themselves.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { greyPicture, labelPicture } from '../../train/pictures/slice-picture.js';
import { readLog } from '../../train/run/log.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { keptBy } from '../../train/training/run-pictures.js';
import { train } from '../../train/training/training.js';
import { testGpu } from '../gpu.js';
import { type Event, one, readEvents } from './event-reader.js';

const test = suite('run pictures');
const root = mkdtempSync(join(tmpdir(), 'wgrad-run-pictures-'));
test.after(() => rmSync(root, { recursive: true, force: true }));

test('a run that was stopped and resumed: every step once in TensorBoard, with pictures; slices, curves, a report', async () => {
  const data = join(root, 'phantoms');
  writePhantoms(data, { patients: 6, size: 32 });
  const config = resolveConfig({
    ...{ labeled: 1, iterations: 6, size: 16, features: [4, 8], dropout: [0.1, 0.2], batch: 4, lr: 0.05 },
    ...{ evalEvery: 3, saveEvery: 6, warmupFraction: 0 },
  });
  const out = join(root, 'run');
  const gpu = await testGpu();
  const controller = new AbortController();
  const watch = setInterval(() => {
    if (readLog(join(out, 'log.jsonl')).length >= 2) controller.abort();
  }, 1);
  const first = await train({ gpu, config, data, out, stop: controller.signal });
  clearInterval(watch);
  assert.ok(first.interrupted, 'the run ended before it was stopped');
  assert.match(
    readFileSync(join(out, 'report.html'), 'utf8'),
    /of 6 iterations: it goes on, was interrupted, or failed/,
  );
  await train({ gpu, config, data, out, resume: true });

  const files = readdirSync(out).filter((name) => name.startsWith('events.'));
  assert.is(files.length, 2);
  let kept: Event[] = [];
  for (const event of files.sort().flatMap((name) => readEvents(join(out, name)))) {
    if (event.session === 1) kept = kept.filter(({ step }) => step < event.step);
    kept.push(event);
  }
  const of = (tag: string) =>
    kept.flatMap(({ step, values }) => values.filter((v) => v.tag === tag).map((v) => ({ step, ...v })));
  const log = readLog(join(out, 'log.jsonl'));
  const steps = log.filter((record) => 'loss' in record);
  assert.equal(
    of('info/total_loss').map(({ step, scalar }) => [step, scalar]),
    steps.map(({ iteration, loss }) => [iteration + 1, Math.fround(loss as number)]),
  );
  assert.is(steps.length, 6);
  assert.equal(
    of('info/val_mean_dice').map(({ step }) => step),
    [3, 6],
  );
  for (const tag of ['train/Image', 'train/GroundTruth', 'train/Prediction', 'train/Kept']) {
    assert.equal(
      of(tag).map(({ step }) => step),
      [3, 6],
      tag,
    );
    const png = decode(one(of(tag)[0]!.image!, 4) as Buffer, { checkCrc: true });
    assert.equal([png.width, png.height], [16, 16]);
  }
  assert.ok((steps[2]!.kept as number) > 0.99, 'an untrained student is unsure of nearly everything');
  const mask = decode(one(of('train/Kept')[0]!.image!, 4) as Buffer).data;
  assert.ok(mask.filter((value) => value === 255).length > 0.9 * mask.length, 'what is kept is white');
  assert.equal(readdirSync(join(out, 'slices')), ['000003.png', '000006.png']);
  for (const name of ['progress.png', 'progress.svg']) assert.ok(existsSync(join(out, name)), name);
  const page = readFileSync(join(out, 'report.html'), 'utf8');
  assert.match(page, /6 of 6 iterations/);
  assert.match(page, /<h2>Confusion between classes<\/h2>/);
  assert.is(page.match(/<img src="data:image\/png/g)?.length, 2);
  assert.not.match(page, /class="notes"/);
});

test('strong views: a picture of them; stopped and resumed, the same bits as in one go', async () => {
  const data = join(root, 'phantoms of views');
  writePhantoms(data, { patients: 6, size: 32 });
  const config = resolveConfig({
    ...{ labeled: 1, iterations: 6, size: 16, features: [4, 8], dropout: [0.1, 0.2], batch: 4, lr: 0.05 },
    ...{ evalEvery: 6, saveEvery: 2, warmupFraction: 0, strong: 'both', strongTurn: true },
  });
  const gpu = await testGpu();
  const [whole, stopped] = [join(root, 'whole'), join(root, 'stopped')];
  await train({ gpu, config, data, out: whole });
  const controller = new AbortController();
  const watch = setInterval(() => {
    if (readLog(join(stopped, 'log.jsonl')).length >= 2) controller.abort();
  }, 1);
  const first = await train({ gpu, config, data, out: stopped, stop: controller.signal });
  clearInterval(watch);
  assert.ok(first.interrupted, 'the run ended before it was stopped');
  await train({ gpu, config, data, out: stopped, resume: true });
  for (const name of ['log.jsonl', join('state', 'last.safetensors'), join('slices', '000006-views.png')]) {
    assert.ok(readFileSync(join(stopped, name)).equals(readFileSync(join(whole, name))), name);
  }

  const picture = decode(readFileSync(join(whole, 'slices', '000006-views.png')));
  // Slices of 16 pixels are enlarged 15 times: four columns, two rows and the legend's line.
  assert.equal([picture.width, picture.height], [10 + 4 * 250, 10 + 24 + 2 * (24 + 240 + 10) + 24]);
  const events = readdirSync(whole).find((name) => name.startsWith('events.'))!;
  const shown = readEvents(join(whole, events)).flatMap(({ values }) =>
    values.filter(({ tag }) => tag === 'train/Views'),
  );
  assert.is(shown.length, 1);
  assert.ok((one(shown[0]!.image!, 4) as Buffer).equals(readFileSync(join(whole, 'slices', '000006-views.png'))));
  const page = readFileSync(join(whole, 'report.html'), 'utf8');
  assert.match(page, /<figcaption>strong views at iteration 6<\/figcaption>/);
  assert.match(page, /<figcaption>validation at iteration 6 \(best\)<\/figcaption>/);
});

test('what is kept: by the thresholds of the record, by class, inverted; else by what is configured', () => {
  const of = (settings: Record<string, unknown>, record: Record<string, unknown>) => {
    const { title, isKept } = keptBy(resolveConfig({ threshold: 0.9, ...settings }), record);
    return [title, isKept(0.7, 0), isKept(0.8, 0), isKept(0.7, 1)];
  };
  assert.equal(of({}, { threshold: 0.75 }), ['confidence < 0.75', true, false, true]);
  assert.equal(of({ selection: 'high' }, { threshold: 0.75 }), ['confidence >= 0.75', false, true, false]);
  const byClass = { threshold0: 0.75, threshold1: 0.5, threshold2: 0.5, threshold3: 0.5 };
  assert.equal(of({ thresholdMode: 'per-class' }, { threshold: 0.9, ...byClass }), [
    'kept, by class',
    true,
    false,
    false,
  ]);
  for (const settings of [{ method: 'supervised' }, { method: 'mt' }, { method: 'uamt' }, { selection: 'all' }]) {
    assert.equal(of(settings, { threshold: 0.1 }), ['confidence < 0.9', true, true, true]);
  }
});

test('grey runs from the least to the greatest value, or over the range that is given', () => {
  const values = Float32Array.of(-1, 0, 1, 3);
  assert.equal([...greyPicture(values, [2, 2]).data], [0, 63, 127, 255]);
  assert.equal([...greyPicture(Float32Array.of(1, 1, 1, 1), [2, 2], [0, 1]).data], [255, 255, 255, 255]);
  assert.equal([...greyPicture(Float32Array.of(5, 5, 5, 5), [2, 2]).data], [0, 0, 0, 0]);
});

test('labels have their classes’ colours, background is black', () => {
  const { width, height, data } = labelPicture(Uint8Array.of(0, 1, 2, 3), [2, 2]);
  assert.equal([width, height], [2, 2]);
  assert.equal([...data], [0, 0, 0, 66, 135, 245, 60, 190, 90, 235, 64, 64]);
});

test.run();
