// A run folder: who may train in it, damaged states, full and read-only disks, weights to start from.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { unless } from '../unless.js';
import { argsOf, compared, trainIn } from './small-run.js';

const test = suite('run folder');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-run-folder-'));
const data = join(folder, 'data');
const whole = join(folder, 'whole');

test.before(() => {
  writePhantoms(data, { patients: 4, size: 20 });
  const { status, stderr } = trainIn(data, whole, false);
  assert.is(status, 0, stderr);
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

test('a damaged state is passed over for the one before it; two damaged ones are an error', () => {
  const out = join(folder, 'damaged');
  cpSync(whole, out, { recursive: true });
  const last = join(out, 'state', 'last.safetensors');
  const bytes = readFileSync(last);
  bytes[bytes.length - 5]! ^= 4;
  writeFileSync(last, bytes);
  const { status, stderr } = trainIn(data, out, true);
  assert.is(status, 0, stderr);
  assert.match(stderr, /not those that were written\. Continuing from the state before it/);
  for (const name of compared) assert.ok(readFileSync(join(out, name)).equals(readFileSync(join(whole, name))), name);
  for (const name of ['last', 'previous'])
    writeFileSync(join(out, 'state', `${name}.safetensors`), bytes.subarray(0, 500));
  const broken = trainIn(data, out, true);
  assert.is(broken.status, 1);
  assert.match(broken.stderr, /is no readable safetensors file/);
  assert.ok(
    readFileSync(join(out, 'checkpoint-best.safetensors')).equals(
      readFileSync(join(whole, 'checkpoint-best.safetensors')),
    ),
  );
});

test('one process at a time; a dead one does not count; other settings are refused by name', () => {
  const out = join(folder, 'locked');
  cpSync(whole, out, { recursive: true });
  const lock = join(out, 'lock.json');
  const host = hostname();
  writeFileSync(lock, JSON.stringify({ pid: process.pid, host }));
  const refused = trainIn(data, out, true);
  assert.is(refused.status, 2, refused.stderr);
  assert.match(refused.stderr, new RegExp(`process ${process.pid} on .* trains in`));
  writeFileSync(lock, JSON.stringify({ pid: 2 ** 22 + 1, host }));
  const done = trainIn(data, out, true);
  assert.is(done.status, 0, done.stderr);
  assert.match(done.stderr, /all 40 iterations are done/);
  const changed = spawnSync(process.execPath, [...argsOf(data, out, true), '--lr', '0.5', '--seed', '9'], {
    encoding: 'utf8',
  });
  assert.is(changed.status, 2);
  assert.match(changed.stderr, /lr was 0\.01 and is 0\.5, seed was 1337 and is 9/);
});

test('weights of somebody else start student and teacher; another architecture is refused', () => {
  const from = join(whole, 'checkpoint-best.safetensors');
  const out = join(folder, 'started');
  const args = [...argsOf(data, out, false), '--init-weights', from, '--iterations', '1', '--lr', '0'];
  const started = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.is(started.status, 0, started.stderr);
  const other = spawnSync(
    process.execPath,
    [...argsOf(data, join(folder, 'other'), false), '--init-weights', from, '--features', '4,16'],
    { encoding: 'utf8' },
  );
  assert.is(other.status, 1);
  assert.match(other.stderr, /is of another architecture — .*has shape/);
});

const mounts = spawnSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'none', tmpdir()]).status === 0;
unless(mounts ? undefined : 'no file system may be mounted here', test)(
  'a full disk, one that fills while training, a read-only one: the older state stays, and the run can be resumed',
  () => {
    const small = join(folder, 'small');
    const hash = `sha256sum ${small}/run/state/last.safetensors`;
    const resume = `${process.execPath} ${argsOf(data, `${small}/run`, true).join(' ')}; echo exit $?; ${hash}`;
    const script = [
      `mkdir -p ${small} && mount -t tmpfs -o size=8m none ${small} && cp -r ${whole} ${small}/run && ${hash}`,
      `sed -i 's/"iterations": 40/"iterations": 60/' ${small}/run/config.json`,
      `cat /dev/zero > ${small}/fill 2>/dev/null; ${resume}`,
      `truncate -s -32K ${small}/fill; ${resume}`,
      `rm ${small}/fill; mount -o remount,ro ${small}; ${resume}`,
      `mount -o remount,rw ${small}; ${resume}`,
    ].join('\n');
    const { status, stdout, stderr } = spawnSync('unshare', ['-rm', 'sh', '-c', script], { encoding: 'utf8' });
    assert.is(status, 0, stderr);
    assert.equal(
      [...stdout.matchAll(/^exit (\d)$/gm)].map(([, code]) => code),
      ['1', '1', '1', '0'],
      stderr,
    );
    assert.match(stderr, /cannot write to '\S+' — the disk is full\. What was there before is kept/);
    assert.match(stderr, /cannot write \S+next\.safetensors — the disk is full\. What was there before is kept/);
    assert.match(stderr, /cannot write to '\S+' — the file system is read-only\. What was there before is kept/);
    const hashes = [...stdout.matchAll(/^([0-9a-f]{64})/gm)].map(([, hash]) => hash);
    assert.is(hashes.length, 5);
    assert.is(new Set(hashes.slice(0, 4)).size, 1);
    assert.is.not(hashes[4], hashes[0]);
  },
);

test.run();
