// log.jsonl survives a crash in the middle of a line; the progress line says where a run is, on a terminal and in a file.
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { appendRecord, clock, createProgress, readLog, rewindLog } from '../../train/log.js';
import { refuses } from '../refuses.js';

const test = suite('log');
const root = mkdtempSync(join(tmpdir(), 'wgrad-log-'));
test.after(() => rmSync(root, { recursive: true, force: true }));
const file = (name: string): string => join(root, name);

test('records come back in order; no file is no record', () => {
  const path = file('a.jsonl');
  assert.equal(readLog(path), []);
  const records = [
    { iteration: 0, loss: 1.25, kept: 1 / 3 },
    { iteration: 1, loss: 1e-12, validation: { mean: { 1: { Dice: null } } }, text: 'line\nbreak' },
  ];
  for (const record of records) appendRecord(path, record);
  assert.equal(readLog(path), records);
  assert.is(readFileSync(path, 'utf8').split('\n').length, 3);
});

test('a last line that was cut off anywhere is left out, and the log can go on', () => {
  const path = file('cut.jsonl');
  appendRecord(path, { iteration: 0, loss: 2 });
  const whole = readFileSync(path, 'utf8');
  const next = '{"iteration":1,"loss":12.5}';
  for (let cut = 1; cut <= next.length; cut++) {
    writeFileSync(path, whole + next.slice(0, cut));
    assert.equal(readLog(path), [{ iteration: 0, loss: 2 }], `cut at ${cut}`);
  }
  rewindLog(path, 1);
  appendRecord(path, { iteration: 1, loss: 3 });
  assert.equal(
    readLog(path).map(({ loss }) => loss),
    [2, 3],
  );
});

test('a damaged line in the middle is named, not skipped', async () => {
  const path = file('damaged.jsonl');
  appendRecord(path, { iteration: 0 });
  appendFileSync(path, '{"iteration":\n');
  appendRecord(path, { iteration: 2 });
  await refuses(() => readLog(path), Error, /line 2 of .*damaged\.jsonl is not JSON.*Remove that line/);
});

test('rewinding removes what a resumed run will write again, and nothing else', () => {
  const path = file('rewind.jsonl');
  rewindLog(path, 5);
  for (let iteration = 0; iteration < 10; iteration++) appendRecord(path, { iteration, loss: iteration / 7 });
  const before = readLog(path);
  rewindLog(path, 10);
  assert.equal(readLog(path), before);
  rewindLog(path, 4);
  assert.equal(readLog(path), before.slice(0, 4));
  rewindLog(path, 0);
  assert.equal(readLog(path), []);
  assert.is(
    readdirSync(root).some((name) => name.endsWith('.tmp')),
    false,
  );
});

test('clock', () => {
  assert.equal([0, 59.4, 59.6, 61, 3599, 3661, -5, 360000].map(clock), [
    '0:00',
    '0:59',
    '1:00',
    '1:01',
    '59:59',
    '1:01:01',
    '0:00',
    '100:00:00',
  ]);
});

/** Runs `work` with a clock that only `tick` moves, and returns what the progress line wrote. */
function written(
  stream: { isTTY?: boolean; columns?: number },
  work: (progress: ReturnType<typeof createProgress>, tick: (seconds: number) => void) => void,
  start = 0,
): string[] {
  const lines: string[] = [];
  const out = { ...stream, write: (text: string) => lines.push(text) } as unknown as NodeJS.WriteStream;
  const { now } = performance;
  let time = 1000;
  performance.now = () => time;
  try {
    const progress = createProgress('mt', 100, start, out);
    work(progress, (seconds) => {
      time += 1000 * seconds;
    });
    progress.end();
  } finally {
    performance.now = now;
  }
  return lines;
}

test('in a file: a plain line every ten seconds and one at the end, with rate and remaining time', () => {
  const lines = written({}, (progress, tick) => {
    for (let done = 1; done <= 100; done++) {
      tick(0.5);
      progress.update(done, `loss ${done}`);
    }
  });
  assert.is(lines.length, 5);
  assert.is(lines[0], 'mt 20/100  loss 20  2.00 it/s  0:40 left\n');
  assert.is(lines.at(-1), 'mt 100/100  loss 100  2.00 it/s  0:00 left\n');
});

test('a resumed run counts its rate from where it went on', () => {
  const lines = written(
    {},
    (progress, tick) => {
      tick(10);
      progress.update(60, 'x');
    },
    50,
  );
  assert.equal(lines, ['mt 60/100  x  1.00 it/s  0:40 left\n']);
});

test('the rate is that of the last minute', () => {
  const lines = written({}, (progress, tick) => {
    for (let done = 1; done <= 20; done++) {
      tick(60);
      progress.update(done, '');
    }
    for (let done = 21; done <= 99; done++) {
      tick(1);
      progress.update(done, '');
    }
    tick(1);
    progress.update(100, '');
  });
  assert.match(lines.at(-1)!, /1\.00 it\/s/);
});

test('on a terminal: one line that rewrites itself within its width, and ends', () => {
  const lines = written({ isTTY: true, columns: 40 }, (progress, tick) => {
    for (let done = 1; done <= 10; done++) {
      tick(0.1);
      progress.update(done, 'a very long list of losses that does not fit');
    }
  });
  assert.is(lines.at(-1), '\n');
  const drawn = lines.slice(0, -1);
  assert.is(drawn.length, 5);
  for (const line of drawn) {
    assert.ok(line.startsWith('\r\x1b[K'), JSON.stringify(line));
    assert.not(line.includes('\n'));
    assert.is(line.length, 4 + 39);
  }
});

test.run();
