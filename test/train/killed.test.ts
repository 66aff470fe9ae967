// A process that is really killed: as it starts, between two saves, in the middle of one; each time another continues, and the run ends
// with the bytes of one that was left alone. What any other moment leaves behind, run-folder.test.ts walks through in one process.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { readLog } from '../../train/run/log.js';
import { train } from '../../train/training/training.js';
import { testGpu } from '../gpu.js';
import { argsOf, compared, configOf } from './small-run.js';

const test = suite('killed runs');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-killed-'));
const data = join(folder, 'data');
const iterations = 40;
const length = { method: 'supervised', iterations, evalEvery: 20, saveEvery: 2 };

test.before(() => writePhantoms(data, { patients: 4, size: 20 }));
test.after(() => rmSync(folder, { recursive: true, force: true }));

test('killed as it starts, between saves and while saving, each time resumed: the same bytes', async () => {
  const [whole, out] = [join(folder, 'whole'), join(folder, 'killed')];
  const state = join(out, 'state');
  /** Trains or continues in a process, which is killed as soon as `when` holds; resolves with how it ended and what it said. */
  const process_ = (more: typeof length | 'resume', when: () => boolean) =>
    new Promise<{ signal: NodeJS.Signals | null; code: number | null; said: string }>((resolve) => {
      const child = spawn(process.execPath, argsOf(data, out, more), { stdio: ['ignore', 'ignore', 'pipe'] });
      let said = '';
      child.stderr.on('data', (chunk) => (said += chunk));
      const poll = setInterval(() => when() && child.kill('SIGKILL'), 1);
      child.on('close', (code, signal) => {
        clearInterval(poll);
        resolve({ signal, code, said });
      });
    });
  const isSaving = () => existsSync(state) && readdirSync(state).some((name) => name.endsWith('.tmp'));
  const begun = () => readLog(join(out, 'log.jsonl')).length;

  const starting = await process_(length, () => existsSync(join(out, 'environment.json')));
  assert.is(starting.signal, 'SIGKILL', starting.said);
  assert.not.ok(existsSync(join(state, 'last.safetensors')), 'it was killed too late');

  const training = await process_('resume', () => !isSaving() && begun() >= 3);
  assert.is(training.signal, 'SIGKILL', training.said);
  assert.match(training.said, /no state was saved yet; starting from the beginning/);
  assert.ok(begun() >= 3 && begun() < iterations);

  const before = begun();
  const saving = await process_('resume', () => isSaving() && begun() > before + 4);
  assert.is(saving.signal, 'SIGKILL', saving.said);
  assert.ok(begun() < iterations);

  const ended = await process_('resume', () => false);
  assert.is(ended.code, 0, ended.said);
  await train({ gpu: await testGpu(), config: configOf(length), data, out: whole });
  for (const name of compared(iterations)) {
    assert.ok(readFileSync(join(out, name)).equals(readFileSync(join(whole, name))), name);
  }
  const names = readdirSync(out, { recursive: true, encoding: 'utf8' }) as string[];
  assert.equal(
    names.filter((name) => /tmp$|lock/.test(name)),
    [],
  );
});

test.run();
