// A run folder: every moment at which a process may die or a disk may fill, damaged states, who may train in it, weights to start
// from. All of it in one process on one Gpu; killed.test.ts kills real processes.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { UsageError } from '../../train/files/usage-error.js';
import { CheckpointError, readSafetensors } from '../../train/run/checkpoint.js';
import { runFiles, takeRunFolder } from '../../train/run/run-folder.js';
import { train } from '../../train/training/training.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';
import { type Change, type Contents, contentsOf, leftBy, restore, watching } from './disk.js';
import { argsOf, compared, configOf } from './small-run.js';

const test = suite('run folder');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-run-folder-'));
const data = join(folder, 'data');
const whole = join(folder, 'whole');
const names = compared(2);

/** Trains the small run in `out`, or goes on with it; resolves with what it printed. */
async function trained(out: string, more: { resume?: boolean; initWeights?: string; settings?: object } = {}) {
  const { settings, ...options } = more;
  const { error } = console;
  const said: string[] = [];
  console.error = (...words: unknown[]) => void said.push(words.join(' '));
  try {
    await train({ gpu: await testGpu(), config: configOf({ ...settings }), data, out, ...options });
  } finally {
    console.error = error;
  }
  return said.join('\n');
}

function isWhole(out: string, when: string): void {
  for (const name of names)
    assert.ok(readFileSync(join(out, name)).equals(readFileSync(join(whole, name))), `${name} ${when}`);
}

/** Of an undisturbed run: each change of its folder, and what a process that is killed there may leave behind. */
const moments: { change: Change; left: Contents[] }[] = [];

test.before(async () => {
  writePhantoms(data, { patients: 4, size: 20 });
  await watching(
    whole,
    (change) => moments.push({ change, left: leftBy(change, contentsOf(whole)) }),
    () => trained(whole),
  );
});
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** A folder without what the next process removes, without pictures, and without what events files hold: no process reads those of another. */
const read = (contents: Contents): [string, Buffer | undefined][] =>
  [...contents]
    .filter(([path]) => !/\.(tmp|png|svg|html)$/.test(path) && path !== runFiles.lock)
    .map(([path, bytes]) => (path.includes('tfevents') ? ['events', undefined] : [path, bytes]));
const digest = (contents: Contents): string => {
  const hash = createHash('sha256');
  for (const [path, bytes] of read(contents)) hash.update(`${path}\0${bytes?.length}\0`).update(bytes ?? '');
  return hash.digest('hex');
};

test('a process that dies at any change of its folder is followed by one that ends with the same bytes', async () => {
  const out = join(folder, 'died');
  const seen = new Map<string, string>();
  let states = 0;
  for (const { change, left } of moments) {
    for (const contents of left) {
      states++;
      const when = `after ${change.index} changes, at ${change.call} of ${change.path}`;
      const key = digest(contents);
      if (seen.has(key)) {
        // The same files, beside what was half written: the next process takes the folder with the same files in it.
        if (!contents.has(runFiles.config)) continue;
        if (![...contents.keys()].some((path) => path.endsWith('.tmp'))) continue;
        restore(out, contents);
        takeRunFolder(out, true)();
        assert.is(digest(contentsOf(out)), key, when);
        assert.equal(
          [...contentsOf(out).keys()].filter((path) => /\.tmp$|lock/.test(path)),
          [],
          when,
        );
        continue;
      }
      seen.set(key, when);
      restore(out, contents);
      const resume = contents.has(runFiles.config);
      await trained(out, { resume });
      isWhole(out, when);
    }
  }
  const calls = new Set(moments.map(({ change }) => `${change.call} ${change.path.replace(/\d+\.tmp$/, '')}`));
  console.log(
    `  ${moments.length} changes, ${states} states of the folder, ${seen.size} of them differ in what is read`,
  );
  assert.ok(seen.size > 25 && states > 100, `${seen.size} of ${states}`);
  for (const expected of [
    `renameSync ${runFiles.state}`,
    `renameSync ${runFiles.previous}`,
    `appendFileSync ${runFiles.log}`,
    `renameSync ${runFiles.best}`,
    `renameSync ${runFiles.report}`,
    'linkSync checkpoint-000001.safetensors',
  ])
    assert.ok(calls.has(expected), `${expected} is not among ${[...calls].join(', ')}`);
  const ofFirst = moments.filter(({ change }) => change.path === 'checkpoint-000001.safetensors');
  assert.is(ofFirst.at(-1)!.change.call, 'rmSync', 'the older checkpoint goes when the next one is there');
});

test('a disk that fills at any kind of file: it is said, and the folder is as a process that died there leaves it', async () => {
  const grows = ({ call }: Change) => !/^(rename|rm|rmdir|unlink)Sync$/.test(call);
  const kinds = new Map<string, Change>();
  for (const { change } of moments) {
    const kind = `${change.call} ${change.path.replace(/[\d.]+(tmp|vm|\w+)$/, '')}`;
    if (grows(change) && change.index > moments.findIndex(({ change: { path } }) => path === runFiles.config))
      kinds.set(kind, change); // the last of each
  }
  const out = join(folder, 'full');
  for (const { index, call, path } of kinds.values()) {
    const when = `full at ${call} of ${path}`;
    rmSync(out, { recursive: true, force: true });
    const full = (change: Change) => {
      if (change.index >= index && grows(change))
        throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    };
    const said = await watching(out, full, () => trained(out)).catch((reason: Error) => reason.message);
    const why = /cannot write .* — the disk is full\. What was there before is kept\./;
    assert.match(said, why, when);
    // The run is done before its report is written, and does not fail with it.
    if (path.startsWith(runFiles.report)) assert.match(said, /no report was written/);
    else assert.match(said, new RegExp(`^(train: )?${why.source}$`), when);
    assert.is(digest(contentsOf(out)), digest(moments[index]!.left[0]!), when);
    assert.equal(
      [...contentsOf(out).keys()].filter((name) => /\.tmp$|lock/.test(name)),
      [],
      when,
    );
  }
  assert.ok(kinds.size >= 12, [...kinds.keys()].join(', '));
});

test('a damaged state is passed over for the one before it; two damaged ones are an error', async () => {
  const out = join(folder, 'damaged');
  cpSync(whole, out, { recursive: true });
  const last = join(out, runFiles.state);
  const bytes = readFileSync(last);
  bytes[bytes.length - 5]! ^= 4;
  writeFileSync(last, bytes);
  assert.match(await trained(out, { resume: true }), /Continuing from the state before it/);
  isWhole(out, 'after a damaged state');
  for (const name of [runFiles.state, runFiles.previous]) writeFileSync(join(out, name), bytes.subarray(0, 500));
  await refuses(() => trained(out, { resume: true }), CheckpointError, /is not a readable safetensors file/);
  assert.ok(readFileSync(join(out, runFiles.best)).equals(readFileSync(join(whole, runFiles.best))));
});

test('one process at a time; a dead one does not count; other settings are refused by name', async () => {
  const out = join(folder, 'locked');
  cpSync(whole, out, { recursive: true });
  const lock = join(out, runFiles.lock);
  const host = hostname();
  const alive = process.ppid; // not this process: what it left itself does not keep it out
  writeFileSync(lock, JSON.stringify({ pid: alive, host }));
  const inUse = new RegExp(`process ${alive} on .* is training in`);
  await refuses(() => trained(out, { resume: true }), UsageError, inUse);
  assert.ok(existsSync(lock), 'the lock of the other stays');
  const command = (...more: string[]) => spawnSync(process.execPath, [...argsOf(data, out, 'resume'), ...more]);
  const refused = command();
  assert.is(refused.status, 2);
  assert.match(String(refused.stderr), inUse);
  writeFileSync(lock, JSON.stringify({ pid: 2 ** 22 + 1, host }));
  assert.match(await trained(out, { resume: true }), /all 2 iterations are done/);
  const changed = command('--lr', '0.5', '--seed', '9');
  assert.is(changed.status, 2);
  assert.match(String(changed.stderr), /lr was 0\.01 and is now 0\.5, seed was 1337 and is now 9/);
});

test('weights of somebody else start student and teacher; another architecture is refused', async () => {
  const initWeights = join(whole, runFiles.best);
  const out = join(folder, 'started');
  await trained(out, { initWeights, settings: { method: 'mt', iterations: 1, lr: 0, weightDecay: 0 } });
  const [from, state] = [readSafetensors(initWeights).arrays, readSafetensors(join(out, runFiles.state)).arrays];
  const weights = [...from.keys()].filter((name) => !/running|batches/.test(name));
  assert.ok(weights.length > 20);
  for (const role of ['student', 'teacher'])
    for (const name of weights)
      assert.equal(state.get(`${role}.${name}`)!.data, from.get(name)!.data, `${role}.${name}`);
  await refuses(
    () => trained(join(folder, 'other'), { initWeights, settings: { features: [4, 16] } }),
    CheckpointError,
    /holds another architecture — .*has shape/,
  );
});

const mounts = spawnSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'none', tmpdir()]).status === 0;
unless(mounts ? undefined : 'no file system may be mounted here', test)(
  'a full disk, one that fills while training, a read-only one: the older state stays, and the run can be resumed',
  () => {
    const small = join(folder, 'small');
    const half = Math.floor(statSync(join(whole, runFiles.state)).size / 2048); // room for half a state
    const module = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
    const script = `
      import { execSync } from 'node:child_process';
      import { createHash } from 'node:crypto';
      import { readFileSync } from 'node:fs';
      import { openDevice } from ${module('../../engine/node.js')};
      import { train } from ${module('../../train/training/training.js')};
      import { configOf } from ${module('./small-run.js')};
      const sh = (command) => execSync(command.replaceAll('SMALL', ${JSON.stringify(small)}), { stdio: 'ignore' });
      const gpu = await openDevice({ quiet: true });
      const outcomes = [];
      const resume = async () => {
        const config = configOf({ iterations: 6, evalEvery: 6 });
        const options = { gpu, config, data: ${JSON.stringify(data)}, out: ${JSON.stringify(join(small, 'run'))}, resume: true };
        const message = await train(options).then(() => 'done', (error) => error.message);
        const state = readFileSync(${JSON.stringify(join(small, 'run', runFiles.state))});
        outcomes.push([message, createHash('sha256').update(state).digest('hex')]);
      };
      sh('cat /dev/zero > SMALL/fill || true');
      await resume();
      sh('truncate -s -${half}K SMALL/fill');
      await resume();
      sh('rm SMALL/fill; mount -o remount,ro SMALL');
      await resume();
      sh('mount -o remount,rw SMALL');
      await resume();
      console.log(JSON.stringify(outcomes));
      gpu.close();`;
    const prepare = `mkdir -p ${small} && mount -t tmpfs -o size=8m none ${small} && cp -r ${whole} ${small}/run && exec "$@"`;
    const command = ['unshare', '-rm', 'sh', '-c', prepare, 'sh', process.execPath, '--input-type=module', '-'];
    const { status, stdout, stderr } = spawnSync(command[0]!, command.slice(1), { encoding: 'utf8', input: script });
    assert.is(status, 0, stderr);
    const outcomes = JSON.parse(stdout.trim().split('\n').at(-1)!) as [string, string][];
    const messages = outcomes.map(([message]) => message);
    assert.match(messages[0]!, /cannot write .* — the disk is full\. What was there before is kept/);
    assert.match(messages[1]!, /cannot write .* — the disk is full\. What was there before is kept/);
    assert.match(messages[2]!, /cannot write to '\S+' — the file system is read-only\. What was there before is kept/);
    assert.is(messages[3], 'done');
    const before = createHash('sha256')
      .update(readFileSync(join(whole, runFiles.state)))
      .digest('hex');
    assert.equal(
      outcomes.slice(0, 3).map(([, hash]) => hash),
      [before, before, before],
    );
    assert.is.not(outcomes[3]![1], before);
  },
);

test.run();
