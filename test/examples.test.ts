// The examples of Node that import nothing but the package run as they stand and do what their heads say.
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('examples');
const root = fileURLToPath(new URL('../../', import.meta.url));

async function run(name: string, ...args: string[]): Promise<{ out: string; losses: number[] }> {
  const file = join(root, 'dist/examples/node', `${name}.js`);
  const { stdout: out } = await promisify(execFile)(process.execPath, [file, ...args], { cwd: root });
  return { out, losses: [...out.matchAll(/^step \d+ {2}loss ([\d.]+)$/gm)].map(([, loss]) => Number(loss)) };
}

for (const name of ['beside-tfjs', 'character-transformer', 'digit-classifier']) {
  test(`${name} is below 120 lines`, () => {
    assert.ok(readFileSync(join(root, 'examples/node', `${name}.ts`), 'utf8').split('\n').length <= 120);
  });
}

test('the digit classifier tells unseen digits apart, and its state goes through a file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'wgrad-examples-'));
  try {
    const file = join(folder, 'digits.safetensors');
    const { out, losses } = await run('digit-classifier', '60', file);
    const [seen, loaded] = [...out.matchAll(/: (0\.\d+|1\.000)$/gm)].map(([, accuracy]) => Number(accuracy));
    assert.ok(losses.at(-1)! < losses[0]! / 2, out);
    assert.ok(seen! > 0.85, out);
    assert.is(loaded, seen);
    assert.ok(existsSync(file));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the transformer learns the characters of a text and writes some', async () => {
  const { out, losses } = await run('character-transformer', '20', 'README.md', '8');
  assert.ok(losses.at(-1)! < losses[0]! - 0.8, out);
  const text = JSON.parse(/^text: (.*)$/m.exec(out)![1]!) as string;
  assert.is(Array.from(text).length, 40, out);
  assert.ok(readFileSync(join(root, 'README.md'), 'utf8').startsWith(Array.from(text).slice(0, 32).join('')));
});

test('beside TensorFlow.js: the same losses to the digits of f32, and the time of both', async () => {
  const { out } = await run('beside-tfjs', '4', '8');
  const losses = [...out.matchAll(/^step \d {2}wgrad ([\d.]+) {2}tfjs ([\d.]+)$/gm)].map(([, a, b]) => [
    Number(a),
    Number(b),
  ]);
  assert.is(losses.length, 4, out);
  for (const [ours, theirs] of losses) assert.ok(Math.abs(ours! - theirs!) < 1e-5, out);
  assert.ok(losses.at(-1)![0]! < losses[0]![0]!, out);
  for (const name of ['wgrad', 'tfjs'])
    assert.match(out, new RegExp(`^${name}: [\\d.]+ ms a step, \\d+ ms the first$`, 'm'));
});

test.run();
