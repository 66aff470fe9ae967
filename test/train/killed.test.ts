// A run that is killed, at random moments and in the middle of saving, and resumed until it is done, ends with the same bytes as one
// that was left alone. Also: who else may not train in its folder, damaged states, full disks.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { uniformStream } from '../../engine/index.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';

const test = suite('killed runs');

const command = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'wgrad-killed-'));
const data = join(folder, 'data');
const settings = [
  ...['--method', 'lccs', '--size', '16', '--features', '4,8', '--dropout', '0.1', '--batch', '2', '--labeled', '1'],
  ...['--iterations', '40', '--eval-every', '10', '--save-every', '2', '--keep-checkpoints', '2'],
  ...['--warmup-fraction', '0.1'],
];
const adapter = process.env.WGRAD_ADAPTER ? ['--adapter', process.env.WGRAD_ADAPTER] : [];
const argsOf = (out: string, resume: boolean): string[] => [
  ...[command, 'train', '--data', data, '--out', out, ...adapter],
  ...(resume ? ['--resume'] : settings),
];
const trainIn = (out: string, resume: boolean) =>
  spawnSync(process.execPath, argsOf(out, resume), { encoding: 'utf8' });

test.before(() => writePhantoms(data, { patients: 4, size: 20 }));
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** What must be equal: weights, state, log, scores; neither times nor pictures of them. */
const compared = [
  ...[
    'checkpoint-last.safetensors',
    'checkpoint-best.safetensors',
    'state/last.safetensors',
    'log.jsonl',
    'summary.json',
  ],
  ...['checkpoint-000038.safetensors', 'checkpoint-000040.safetensors', 'config.json'],
];

const whole = join(folder, 'whole');

test('twenty kills, each resumed: the same bytes', async () => {
  const begun = performance.now();
  const alone = trainIn(whole, false);
  assert.is(alone.status, 0, alone.stderr);
  const duration = performance.now() - begun;
  const seed = 20;
  const uniform = uniformStream(seed);
  const kills = { starting: 0, training: 0, saving: 0 };
  let run = 0;
  let child: ChildProcess;
  const total = () => kills.starting + kills.training + kills.saving;
  while (total() < 20) {
    const out = join(folder, `killed-${run++}`);
    for (let attempt = 0; ; attempt++) {
      // Every other process is killed as soon as it begins to write a state, the others after a random time.
      const inSave = attempt % 2 === 1 && total() < 20;
      const resume = existsSync(join(out, 'config.json'));
      if (!resume) rmSync(out, { recursive: true, force: true }); // killed before it had begun
      child = spawn(process.execPath, argsOf(out, resume), { stdio: 'ignore' });
      const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
      const kill = (): void => void child.kill('SIGKILL');
      const saves = 1 + Math.floor(3 * uniform());
      let seen = 0;
      const watched =
        inSave && resume
          ? watch(join(out, 'state'), (_, name) => {
              if (name?.endsWith('.tmp') && ++seen >= saves) kill();
            })
          : undefined;
      const timer = total() < 20 && !watched ? setTimeout(kill, uniform() * duration) : undefined;
      const code = await ended;
      clearTimeout(timer);
      watched?.close();
      if (code === 0) break;
      assert.is(code, null, `attempt ${attempt} of ${out} ended with ${code}`);
      if (watched) kills.saving++;
      else kills[existsSync(join(out, 'state', 'last.safetensors')) ? 'training' : 'starting']++;
    }
    for (const name of compared) {
      assert.ok(
        readFileSync(join(out, name)).equals(readFileSync(join(whole, name))),
        `${name} after ${JSON.stringify(kills)}`,
      );
    }
    const leftovers = (readdirSync(out, { recursive: true, encoding: 'utf8' }) as string[]).filter((name) =>
      /tmp$|lock/.test(name),
    );
    assert.equal(leftovers, []);
  }
  console.log(
    `seed ${seed}: ${run} runs, killed ${kills.starting} times before the first state, ${kills.training} between saves, ${kills.saving} while saving`,
  );
  assert.ok(kills.saving >= 4 && kills.training + kills.starting >= 4, JSON.stringify(kills));
});

test('a damaged state is passed over for the one before it; two damaged ones are an error', () => {
  const out = join(folder, 'damaged');
  cpSync(whole, out, { recursive: true });
  const last = join(out, 'state', 'last.safetensors');
  const bytes = readFileSync(last);
  bytes[bytes.length - 5]! ^= 4;
  writeFileSync(last, bytes);
  const { status, stderr } = trainIn(out, true);
  assert.is(status, 0, stderr);
  assert.match(stderr, /not those that were written\. Continuing from the state before it/);
  for (const name of compared) assert.ok(readFileSync(join(out, name)).equals(readFileSync(join(whole, name))), name);
  for (const name of ['last', 'previous'])
    writeFileSync(join(out, 'state', `${name}.safetensors`), bytes.subarray(0, 500));
  const broken = trainIn(out, true);
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
  const refused = trainIn(out, true);
  assert.is(refused.status, 2, refused.stderr);
  assert.match(refused.stderr, new RegExp(`process ${process.pid} on .* trains in`));
  writeFileSync(lock, JSON.stringify({ pid: 2 ** 22 + 1, host }));
  const done = trainIn(out, true);
  assert.is(done.status, 0, done.stderr);
  assert.match(done.stderr, /all 40 iterations are done/);
  const changed = spawnSync(process.execPath, [...argsOf(out, true), '--lr', '0.5', '--seed', '9'], {
    encoding: 'utf8',
  });
  assert.is(changed.status, 2);
  assert.match(changed.stderr, /lr was 0\.01 and is 0\.5, seed was 1337 and is 9/);
});

test('weights of somebody else start student and teacher; another architecture is refused', () => {
  const from = join(whole, 'checkpoint-best.safetensors');
  const out = join(folder, 'started');
  const args = [...argsOf(out, false), '--init-weights', from, '--iterations', '1', '--lr', '0'];
  const started = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.is(started.status, 0, started.stderr);
  const other = spawnSync(
    process.execPath,
    [...argsOf(join(folder, 'other'), false), '--init-weights', from, '--features', '4,16'],
    { encoding: 'utf8' },
  );
  assert.is(other.status, 1);
  assert.match(other.stderr, /is of another architecture — .*has shape/);
});

test('a full disk, one that fills while training, a read-only one: the older state stays, and the run can be resumed', () => {
  const small = join(folder, 'small');
  const hash = `sha256sum ${small}/run/state/last.safetensors`;
  const resume = `${process.execPath} ${argsOf(`${small}/run`, true).join(' ')}; echo exit $?; ${hash}`;
  const script = [
    `mkdir -p ${small} && mount -t tmpfs -o size=8m none ${small} && cp -r ${whole} ${small}/run && ${hash}`,
    `sed -i 's/"iterations": 40/"iterations": 60/' ${small}/run/config.json`,
    `cat /dev/zero > ${small}/fill 2>/dev/null; ${resume}`,
    `truncate -s -32K ${small}/fill; ${resume}`,
    `rm ${small}/fill; mount -o remount,ro ${small}; ${resume}`,
    `mount -o remount,rw ${small}; ${resume}`,
  ].join('\n');
  const { status, stdout, stderr } = spawnSync('unshare', ['-rm', 'sh', '-c', script], { encoding: 'utf8' });
  if (status !== 0 || /mount:/.test(stderr)) {
    return console.log('skipped: a full disk — no file system may be mounted here');
  }
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
});

test.run();
