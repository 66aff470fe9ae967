// The READMEs hold what they say. Blocks of TypeScript are type-checked against the packed package and run under Node (```ts), or
// are bundled for a browser (```ts page), or only type-checked (```ts check); files of the worked example (```ts file=PATH) are put
// into a copy of the sources, and its test runs. Blocks of shell, and commands in the text, name scripts, commands and flags that
// exist; the quick ones run, in one folder and around one small training. Links lead somewhere, and tables are complete.
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import * as esbuild from 'esbuild';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as method from '../engine/method.js';
import * as ops from '../engine/ops/index.js';
import { commands } from '../train/commands/index.js';
import { runFiles } from '../train/run/run-folder.js';
import { methods } from '../train/settings/settings.js';
import { Consumer, execute, executed, manifest, repository } from './package/consumer.js';

const test = suite('README');
const consumer = new Consumer();
const command = join(consumer.installed, manifest.bin.wgrad!);
test.before(async () => {
  await consumer.install();
  for (const name of ['webgpu', '@sparticuz/chromium', '@types/node', '@webgpu/types', 'uvu', 'wgsl-preprocessor'])
    consumer.link(name);
});
test.after(() => consumer.remove());

const texts = Object.fromEntries(
  [
    ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'engine/ONNX.md'],
    ...['engine', 'train', 'bench', 'examples'].map((room) => `${room}/README.md`),
  ].map((path) => [path, readFileSync(join(repository, path), 'utf8')]),
);

interface Block {
  /** The words after the fence: the language, and what becomes of it. */
  readonly words: readonly string[];
  readonly text: string;
  /** The file, the nearest heading above, and which of the file's blocks this is. */
  readonly name: string;
}

/** Every fenced block of a Markdown text. */
function blocksOf(document: string, markdown: string): Block[] {
  const blocks: Block[] = [];
  let heading = '';
  let open: { fence: string; words: string[]; lines: string[] } | undefined;
  for (const line of markdown.split('\n')) {
    const fence = /^\s*(`{3,})(.*)$/.exec(line);
    if (open && fence && fence[1]!.length >= open.fence.length && !fence[2]!.trim()) {
      const name = `${document}, ${heading}, block ${blocks.length + 1}`;
      blocks.push({ words: open.words, text: open.lines.join('\n'), name });
      open = undefined;
    } else if (open) {
      open.lines.push(line);
    } else if (fence) {
      open = { fence: fence[1]!, words: fence[2]!.trim().split(/\s+/), lines: [] };
    } else {
      heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading;
    }
  }
  if (open) throw new Error(`${document}: the block after '${heading}' never ends.`);
  return blocks;
}

const blocks = Object.entries(texts).flatMap(([document, text]) => blocksOf(document, text));
/** The file that a block is, as its fence says. */
const fileOf = ({ words }: Block): string | undefined => /^file=(.+)$/.exec(words[1] ?? '')?.[1];
const scripts = blocks.filter((block) => block.words[0] === 'ts' && !fileOf(block));
const example = blocks.filter((block) => block.words[0] === 'ts' && fileOf(block));
const shells = blocks.filter(({ words }) => words[0] === 'sh');
/** A document without its blocks. */
const proseOf = (document: string): string => texts[document]!.replace(/^```[\s\S]*?^```/gm, '');

/** What the blocks take as given: declared before those that use the name and do not declare it. */
const given: Record<string, string> = {
  batches: 'const batches = [{ image: new Float32Array(2 * 32 * 32), label: new Uint8Array(2 * 32 * 32) }];',
};

const moduleOf = (text: string): string => {
  const used = Object.entries(given).filter(
    ([name]) => new RegExp(`\\b${name}\\b`).test(text) && !new RegExp(`(const|let|function) ${name}\\b`).test(text),
  );
  return [...used.map(([, declaration]) => declaration), text, 'export {};'].join('\n');
};

/** The first words of a table's rows below a heading, as code. */
function rowsBelow(document: string, heading: string): string[] {
  const from = texts[document]!.split(new RegExp(`^#+ ${heading}$`, 'm'))[1];
  assert.ok(from, `${document} has no heading '${heading}'`);
  return [...from.split(/^#+ /m)[0]!.matchAll(/^\| `([^`]+)`/gm)].map(([, code]) => code!);
}

test('the first page is short', () => {
  const words = texts['README.md']!.split(/\s+/).length;
  assert.ok(words <= 1200, `README.md has ${words} words: what is new belongs into a room's README`);
});

test('there are blocks, in languages that are known here', () => {
  assert.ok(scripts.length > 0 && shells.length > 0 && example.length > 0, 'none found: is the reader broken?');
  for (const { words, name } of blocks) {
    assert.ok(['ts', 'sh', 'json', 'text', 'html', ''].includes(words[0]!), `${name}: ${words[0]}`);
    if (words[0] === 'ts') assert.match(words[1] ?? '', /^$|^page$|^check$|^file=/, `${name}: what is '${words[1]}'?`);
  }
});

test('links lead to files and headings that exist', () => {
  /** As GitHub makes an anchor of a heading. */
  const anchorOf = (heading: string): string =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .trim()
      .replaceAll(' ', '-');
  let links = 0;
  for (const document of Object.keys(texts)) {
    for (const [, target] of proseOf(document).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target!)) continue;
      links++;
      const [path, anchor] = target!.split('#') as [string, string?];
      const file = path ? join(dirname(document), path).replaceAll('\\', '/') : document;
      assert.ok(existsSync(join(repository, file)), `${document}: there is no ${file}`);
      if (anchor === undefined) continue;
      const headings = [...proseOf(file).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading!));
      assert.ok(headings.includes(anchor), `${document}: ${file} has no heading #${anchor}`);
    }
  }
  assert.ok(links > 20, `only ${links} found`);
});

test('source files that are named exist', () => {
  const made = new Set(example.map((block) => fileOf(block)));
  let named = 0;
  for (const [document, text] of Object.entries(texts)) {
    for (const [path] of text.matchAll(/(?<![\w./-])(?:[a-z-]+\/)+[a-z-]+(?:\.test)?\.(?:ts|py|sh|md)\b/g)) {
      if (made.has(path)) continue;
      named++;
      const there = [path, join(dirname(document), path)].some((file) => existsSync(join(repository, file)));
      assert.ok(there, `${document}: there is no ${path}`);
    }
  }
  assert.ok(named > 40, `only ${named} found`);
});

test("the table of ops has every op's row, and no other", () => {
  const exported = Object.entries({ ...ops, ...method }).flatMap(([name, value]) =>
    typeof value === 'function' ? [name] : [],
  );
  const rows = rowsBelow('engine/README.md', 'Every op').map((code) => /^\w+/.exec(code)![0]);
  assert.equal(rows.toSorted(), exported.toSorted());
});

test('the tables of switches, commands, methods and a run’s files have every row', () => {
  const flags = readFileSync(join(repository, 'engine/flags.ts'), 'utf8');
  const switches = new Set([...flags.matchAll(/['.](WGRAD_[A-Z_]+)/g)].map(([, name]) => name!));
  const shown = rowsBelow('engine/README.md', 'Debugging').map((code) => code.split('=')[0]!);
  assert.equal([...new Set(shown)].toSorted(), [...switches].toSorted());
  const named = rowsBelow('train/README.md', 'First run').map((code) => code.replace('wgrad ', ''));
  assert.equal(named.toSorted(), Object.keys(commands).toSorted());
  const ofMethods = rowsBelow('train/README.md', 'Methods').filter((code) => !code.startsWith('--'));
  assert.equal(ofMethods.toSorted(), methods.toSorted());
  for (const file of Object.values(runFiles)) assert.ok(texts['train/README.md']!.includes(`\`${file}`), file);
});

/** Commands of a shell text: without comments, line continuations joined, `a && b` apart. */
const commandsIn = (text: string): string[][] =>
  text
    .replace(/\\\n/g, ' ')
    .split('\n')
    .flatMap((line) => line.replace(/(^|\s)#.*$/, '').split('&&'))
    .map((part) => part.trim().split(/\s+/))
    .filter(([program]) => program);

/** Commands in the text itself: inline code that begins with one of the programs and says what it shall do. */
const inline = Object.keys(texts)
  .flatMap((document) => [...proseOf(document).matchAll(/`([^`]+)`/g)])
  .map(([, code]) => code!.trim().split(/\s+/))
  .filter((words) => /^((npx )?wgrad [a-z]+|npm [a-z]+|node dist)/.test(words.join(' ')));

const helps = new Map<string, Promise<string>>();
const helpOf = (name: string): Promise<string> => {
  const loaded = commands[name]?.load().then(({ command: { help } }) => help);
  const known = helps.get(name) ?? loaded ?? executed(process.execPath, [command, name], consumer.folder);
  helps.set(name, known);
  return known;
};

/** Throws unless what a command names is there. */
async function check(words: readonly string[]): Promise<void> {
  const [program, ...args] = words[0] === 'npx' && words[1] === 'wgrad' ? words.slice(1) : words;
  const line = words.join(' ');
  if (program === 'wgrad') {
    const help = `${await helpOf(args[0]!)}${await helpOf('--help')}`;
    for (const flag of args.filter((word) => word.startsWith('--') && word !== '--help')) {
      assert.match(help, new RegExp(`${flag.split('=')[0]}\\b`), `${line}: ${args[0]} knows no ${flag}`);
    }
  } else if (program === 'npm') {
    const [verb, name] = args;
    if (verb === 'run') assert.ok(name! in manifest.scripts, `${line}: package.json has no such script`);
    else if (verb === 'start' || verb === 'test') assert.ok(verb in manifest.scripts, line);
    else if (verb === 'install') {
      const known = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));
      const names = { [known.name]: '', ...known.devDependencies, ...known.dependencies, ...known.peerDependencies };
      for (const wanted of args.slice(1).filter((word) => !word.startsWith('-'))) {
        assert.ok(wanted in names, `${line}: nothing here speaks of ${wanted}`);
      }
    } else assert.is(verb, 'ci', `${line}: this test does not know 'npm ${verb}'`);
  } else if (program === 'node') {
    const source = args[0]!.replace(/^dist\//, '').replace(/\.js$/, '.ts');
    assert.ok(existsSync(join(repository, source)), `${line}: there is no ${source}`);
  } else {
    throw new Error(
      `${line}: this test does not know '${program}'. Teach it how to check that, or write it as \`\`\`text.`,
    );
  }
}

test('every command names scripts, commands and flags that exist', async () => {
  const all = [...shells.flatMap(({ text }) => commandsIn(text)), ...inline];
  assert.ok(all.length > 20, `only ${all.length} commands found`);
  for (const words of all) await check(words);
});

/** The quick commands, and what makes each as small as it can be. A later one works on what an earlier one made. */
const small: Record<string, readonly string[]> = {
  phantom: ['--patients', '6', '--size', '32'],
  inspect: [],
  train: ['--size', '16', '--features', '4,8', '--batch', '2', '--iterations', '2'],
  evaluate: [],
  predict: [],
  export: [],
  report: [],
  sweep: [],
};

test('the quick commands run as they are written, on a small data set', async () => {
  for (const { words, text } of blocks) {
    const file = /^file=(.+)$/.exec(words[1] ?? '')?.[1];
    if (words[0] === 'json' && file) consumer.write(file, text);
  }
  const lines = new Set(
    shells
      .flatMap(({ text }) => commandsIn(text))
      .map((words) => (words[0] === 'npx' ? words.slice(1) : words))
      .filter(([program, name]) => program === 'wgrad' && name! in small)
      .map((words) => words.join(' ')),
  );
  const order = Object.keys(small);
  const rank = (line: string) => order.indexOf(line.split(' ')[1]!);
  for (const line of [...lines].sort((a, b) => rank(a) - rank(b))) {
    const [, name, ...args] = line.split(' ');
    const smaller = small[name!]!;
    for (let i = 0; i < smaller.length; i += 2) {
      const at = args.indexOf(smaller[i]!);
      if (at >= 0) args.splice(at, 2);
    }
    await executed(process.execPath, [command, name!, ...args, ...smaller], consumer.folder);
  }
  assert.ok(lines.size >= order.length, `only ${[...lines].join(', ')}`);
});

/** What the compiler says of files of a folder. */
async function complaints(folder: string, files: readonly string[]): Promise<string> {
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        target: 'es2022',
        module: 'nodenext',
        lib: ['es2023', 'dom', 'dom.iterable'],
        types: ['node', '@webgpu/types'],
        strict: true,
        noEmit: true,
        skipLibCheck: true,
      },
      files,
    }),
  );
  const compiler = join(repository, 'node_modules/@typescript/native/bin/tsc');
  return (await execute(process.execPath, [compiler, '-p', '.', '--pretty', 'false'], folder)).stdout;
}

test('every block of TypeScript type-checks', async () => {
  scripts.forEach(({ text }, i) => void consumer.write(`block${i}.ts`, moduleOf(text)));
  const stdout = await complaints(
    consumer.folder,
    scripts.map((_, i) => `block${i}.ts`),
  );
  const said = stdout.replace(/block(\d+)\.ts/g, (_, i) => `[${scripts[Number(i)]!.name}]`);
  assert.is(said.slice(0, 2000), '');
});

for (const [i, { words, text, name }] of scripts.entries()) {
  if (words[1] === 'check') continue;
  if (words[1] === 'page') {
    test(`${name} bundles for a browser`, async () => {
      await esbuild.build({
        stdin: { contents: moduleOf(text), resolveDir: consumer.folder, loader: 'ts' },
        bundle: true,
        write: false,
        format: 'esm',
        platform: 'browser',
        logLevel: 'silent',
      });
    });
  } else {
    test(`${name} runs`, async () => {
      const { code } = await esbuild.transform(moduleOf(text), { loader: 'ts', format: 'esm' });
      const out = await consumer.node(`block${i}.mjs`, `${code}\nprocess.exit(0);`);
      if (/console\.log/.test(text)) assert.ok(out.trim(), 'it prints nothing');
      assert.not.match(out, /NaN|undefined|Infinity/);
    });
  }
}

test('the op of the worked example type-checks among the sources, and its test passes', async () => {
  const folder = join(consumer.folder, 'example');
  for (const room of ['engine', 'shaders', 'test']) {
    cpSync(join(repository, room), join(folder, room), { recursive: true, filter: (path) => !/\.md$/.test(path) });
  }
  for (const block of example) {
    const path = join(folder, fileOf(block)!);
    const before = existsSync(path) ? readFileSync(path, 'utf8') : '';
    writeFileSync(path, `${before}${block.text}\n`);
  }
  const tests = example.map((block) => fileOf(block)!).filter((path) => path.endsWith('.test.ts'));
  assert.is(tests.length, 1);
  assert.is((await complaints(folder, [...tests, 'shaders/wgsl-preprocessor.d.ts'])).slice(0, 2000), '');
  const outfile = join(folder, basename(tests[0]!, '.ts').concat('.mjs'));
  await esbuild.build({
    entryPoints: [join(folder, tests[0]!)],
    outfile,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    logLevel: 'silent',
  });
  assert.match(await executed(process.execPath, [outfile], folder), /Passed: +[1-9]/);
});

test.run();
