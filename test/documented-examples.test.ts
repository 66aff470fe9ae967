// Examples in doc comments (`@example`) run as they are written, with the engine's names and an open `gpu` at hand, and print what the
// comment behind `console.log` says: numbers to four digits. What has no example yet is counted; the number may only fall.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as custom from '../engine/custom.js';
import * as debug from '../engine/debug.js';
import * as engine from '../engine/index.js';
import * as method from '../engine/method.js';
import * as tune from '../engine/tune.js';
import { testGpu } from './gpu.js';
import { lackingSources, unless } from './unless.js';

const test = suite('documented examples');

/** The engine's entries, and how many of their values have no example. */
const entries: Record<string, { values: Record<string, unknown>; most: number }> = {
  wgrad: { values: engine, most: 3 },
  'wgrad/custom': { values: custom, most: 1 },
  'wgrad/debug': { values: debug, most: 0 },
  'wgrad/tune': { values: tune, most: 4 },
  'wgrad/method': { values: method, most: 10 },
};
const names: Record<string, unknown> = Object.assign({}, ...Object.values(entries).map(({ values }) => values));

/** The doc comments of what the sources export, by name. */
function comments(): Map<string, string> {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const texts = ['shaders', 'engine'].flatMap((room) =>
    (readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }) as string[])
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(root, room, name), 'utf8')),
  );
  const exported = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*export (?:async )?(?:const|function|class) (\w+)/g;
  return new Map(texts.flatMap((text) => [...text.matchAll(exported)].map(([, comment, name]) => [name!, comment!])));
}

/** The code of a comment's example; undefined where it has none. */
const exampleIn = (comment = ''): string | undefined =>
  /^@example\n((?:(?!^@)[\s\S])*)/m.exec(comment.replace(/^ *\* ?/gm, ''))?.[1]?.trim();

/** A value as comments write it. */
function shown(value: unknown): string {
  if (typeof value === 'number') return String(Number(value.toPrecision(4)));
  if (ArrayBuffer.isView(value) || Array.isArray(value)) return `[${Array.from(value as number[], shown).join(', ')}]`;
  return String(value);
}

const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (...args: unknown[]) => Promise<void>;

unless(lackingSources, test)('run, and print what they say', async () => {
  const gpu = await testGpu();
  const all = comments();
  const wrong: string[] = [];
  let ran = 0;
  for (const name of Object.keys(names)) {
    const code = exampleIn(all.get(name));
    if (!code) continue;
    ran++;
    const wanted = [...code.matchAll(/console\.log\(.*\);(?: \})? \/\/ (.*)$/gm)].map(([, text]) => text!);
    const printed: string[] = [];
    const log = { log: (...values: unknown[]) => void printed.push(values.map(shown).join(' ')) };
    const run = new AsyncFunction('gpu', 'console', ...Object.keys(names), code);
    await engine
      .scope(gpu, () => run(gpu, log, ...Object.values(names)))
      .catch((error: Error) => printed.push(`${error.name}: ${error.message}`));
    if (!new RegExp(`\\b${name}\\b`).test(code)) wrong.push(`${name}: its example does not use it`);
    if (printed.join('\n') !== wanted.join('\n'))
      wrong.push(`${name}: prints ${printed.join(' | ')}, says ${wanted.join(' | ')}`);
  }
  assert.is(wrong.join('\n'), '');
  assert.ok(ran > 80, `only ${ran} found: is the reader broken?`);
});

for (const [entry, { values, most }] of Object.entries(entries)) {
  unless(lackingSources, test)(`${entry}: at most ${most} without an example`, () => {
    const all = comments();
    const without = Object.keys(values).filter((name) => !exampleIn(all.get(name)));
    const list = `${without.length} of ${Object.keys(values).length} have none: ${without.join(', ')}`;
    assert.ok(without.length <= most, `${entry}: ${list}. Write one.`);
    assert.ok(without.length === most, `${entry}: ${list}. Lower the number.`);
  });
}

test.run();
