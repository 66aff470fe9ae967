// A run that is killed, at random moments and in the middle of saving, and resumed until it is done, ends with the same bytes as one
// that was left alone.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { uniformStream } from '../../engine/index.js';
import { writePhantoms } from '../../train/data/phantom-dataset.js';
import { argsOf, compared, trainIn } from './small-run.js';

const test = suite('killed runs');
const folder = mkdtempSync(join(tmpdir(), 'wgrad-killed-'));
const data = join(folder, 'data');
const whole = join(folder, 'whole');

test.before(() => writePhantoms(data, { patients: 4, size: 20 }));
test.after(() => rmSync(folder, { recursive: true, force: true }));

test('twenty kills, each resumed: the same bytes', async () => {
  const begun = performance.now();
  const alone = trainIn(data, whole, false);
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
      child = spawn(process.execPath, argsOf(data, out, resume), { stdio: ['ignore', 'ignore', 'pipe'] });
      let said = '';
      child.stderr!.on('data', (chunk) => {
        said += chunk;
      });
      const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
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
      assert.is(code, null, `attempt ${attempt} of ${out} ended with ${code}: ${said}`);
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

test.run();
