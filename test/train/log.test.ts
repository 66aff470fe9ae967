// log.jsonl survives a crash in the middle of a line.
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { appendRecord, readLog, rewindLog } from '../../train/run/log.js';
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
  await refuses(
    () => readLog(path),
    Error,
    /line 2 of .*damaged\.jsonl is not the record of an iteration — got .*Remove that line/,
  );
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

test('rewinding to where a validation was keeps it: a resumed run does not validate there again', () => {
  const path = file('validated.jsonl');
  const validation = { foreground_mean: { Dice: 0.5 } };
  const before = [{ iteration: 18 }, { iteration: 19 }, { iteration: 20, validation }];
  for (const record of [...before, { iteration: 20, loss: 1 }, { iteration: 21, validation }])
    appendRecord(path, record);
  rewindLog(path, 20);
  assert.equal(readLog(path), before);
});

test.run();
