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
import * as node from '../engine/node.js';
import { swiftShaderRuns } from '../engine/swiftshader.js';
import * as tune from '../engine/tune.js';
import * as model from '../model/index.js';
import * as method from '../train/method/index.js';
import { withCache } from './cache-folder.js';
import { testGpu } from './gpu.js';
import { lackingSources, unless } from './unless.js';

const test = suite('documented examples');

interface Entry {
  readonly values: Record<string, unknown>;
  /** How many of the values have no example. */
  readonly most: number;
  /** Whether a source file belongs to the entry: `wgrad` and `wgrad/node` have an `openDevice` each. */
  readonly has: (file: string) => boolean;
}

const ofNode = (file: string): boolean => /^engine\/(node|swiftshader|tuner-cache)\.ts$/.test(file);
const ofEngine = (file: string): boolean => /^(engine|shaders)\//.test(file) && !ofNode(file);

const entries: Record<string, Entry> = {
  wgrad: { values: engine, most: 0, has: ofEngine },
  'wgrad/custom': { values: custom, most: 0, has: ofEngine },
  'wgrad/debug': { values: debug, most: 0, has: ofEngine },
  'wgrad/tune': { values: tune, most: 0, has: ofEngine },
  'wgrad/method': { values: method, most: 0, has: (file) => ofEngine(file) || file.startsWith('train/') },
  'wgrad/model': { values: model, most: 0, has: (file) => /^model\//.test(file) },
  'wgrad/node': { values: node, most: 0, has: ofNode },
};
/** What an example may use: every name of the engine and the models, and of its own entry. */
const everything = Object.assign({}, ...Object.values(entries).map(({ values }) => values));

/** The doc comments of what the entry's sources export, by name. */
function comments({ has }: Entry): Map<string, string> {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const texts = ['shaders', 'engine', 'model', 'train'].flatMap((room) =>
    (readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }) as string[])
      .map((name) => `${room}/${name.replaceAll('\\', '/')}`)
      .filter((name) => name.endsWith('.ts') && has(name))
      .map((name) => readFileSync(join(root, name), 'utf8')),
  );
  const exported = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*(?:\/\/.*\s*)?export (?:async )?(?:const|function|class) (\w+)/g;
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

const elsewhere = swiftShaderRuns ? undefined : 'SwiftShader runs on Linux x64 only';

/** What is wrong with the example of a name; undefined where it uses the name and prints what it says. */
async function wrongIn(entry: Entry, name: string, code: string): Promise<string | undefined> {
  const gpu = await testGpu();
  const names: Record<string, unknown> = { ...everything, ...entry.values };
  const wanted = [...code.matchAll(/console\.log\(.*\);(?: \})? \/\/ (.*)$/gm)].map(([, text]) => text!);
  const printed: string[] = [];
  const log = { log: (...values: unknown[]) => void printed.push(values.map(shown).join(' ')) };
  const run = new AsyncFunction('gpu', 'console', ...Object.keys(names), code);
  await engine
    .scope(gpu, () => run(gpu, log, ...Object.values(names)))
    .catch((error: Error) => printed.push(`${error.name}: ${error.message}`));
  if (!new RegExp(`\\b${name}\\b`).test(code)) return `${name}: its example does not use it`;
  if (printed.join('\n') === wanted.join('\n')) return undefined;
  return `${name}: prints ${printed.join(' | ')}, says ${wanted.join(' | ')}`;
}

for (const [title, entry] of Object.entries(entries)) {
  const { values, most } = entry;

  unless(lackingSources, test)(`${title}: examples run, and print what they say`, () =>
    withCache(async () => {
      const all = comments(entry);
      const wrong: (string | undefined)[] = [];
      for (const name of Object.keys(values)) {
        const code = exampleIn(all.get(name));
        if (code && name !== 'keepSwiftShader') wrong.push(await wrongIn(entry, name, code));
      }
      assert.is(wrong.filter(Boolean).join('\n'), '');
      const rest = Object.keys(values).length - most;
      assert.ok(wrong.length >= rest - 1, `only ${wrong.length} of ${rest} found: is the reader broken?`);
    }),
  );

  unless(lackingSources, test)(`${title}: at most ${most} without an example`, () => {
    const all = comments(entry);
    const isInternal = (name: string): boolean => all.get(name)?.includes('@internal') ?? false;
    const without = Object.keys(values).filter((name) => !exampleIn(all.get(name)) && !isInternal(name));
    const list = `${without.length} of ${Object.keys(values).length} have none: ${without.join(', ')}`;
    assert.ok(without.length <= most, `${title}: ${list}. Write one.`);
    assert.ok(without.length === most, `${title}: ${list}. Lower the number.`);
  });
}

unless(lackingSources ?? elsewhere, test)('wgrad/node: the example of keepSwiftShader runs', () =>
  withCache(async () => {
    const entry = entries['wgrad/node']!;
    const code = exampleIn(comments(entry).get('keepSwiftShader'))!;
    assert.is(await wrongIn(entry, 'keepSwiftShader', code), undefined);
  }),
);

test.run();
