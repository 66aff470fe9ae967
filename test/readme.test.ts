// README holds what it says. Blocks of TypeScript are type-checked against the packed package and run under Node (```ts), or
// bundled for a browser (```ts page); blocks of shell (```sh), and commands in the text, name scripts, commands and flags that
// exist, and the quick ones run. A new block is covered as it is written.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as esbuild from 'esbuild';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Consumer, execute, executed, manifest, repository } from './package/consumer.js';

const test = suite('README');
const consumer = new Consumer();
const command = join(consumer.installed, manifest.bin.wgrad!);
test.before(async () => {
  await consumer.install();
  for (const name of ['webgpu', '@sparticuz/chromium', '@types/node', '@webgpu/types']) consumer.link(name);
});
test.after(() => consumer.remove());

const readme = readFileSync(join(repository, 'README.md'), 'utf8');

interface Block {
  /** The words after the fence: the language, and where it runs if not under Node. */
  readonly words: readonly string[];
  readonly text: string;
  /** The nearest heading above, and which of its blocks this is. */
  readonly name: string;
}

/** Every fenced block of a Markdown text. */
function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  let heading = '';
  let open: { fence: string; words: string[]; lines: string[] } | undefined;
  for (const line of markdown.split('\n')) {
    const fence = /^\s*(`{3,})(.*)$/.exec(line);
    if (open && fence && fence[1]!.length >= open.fence.length && !fence[2]!.trim()) {
      blocks.push({ words: open.words, text: open.lines.join('\n'), name: `${heading}, block ${blocks.length + 1}` });
      open = undefined;
    } else if (open) {
      open.lines.push(line);
    } else if (fence) {
      open = { fence: fence[1]!, words: fence[2]!.trim().split(/\s+/), lines: [] };
    } else {
      heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading;
    }
  }
  if (open) throw new Error(`README: the block after '${heading}' never ends.`);
  return blocks;
}

const blocks = blocksOf(readme);
const scripts = blocks.filter(({ words }) => words[0] === 'ts');
const shells = blocks.filter(({ words }) => words[0] === 'sh');

/** What README's blocks take as given: declared before those that use the name and do not declare it. */
const given: Record<string, string> = {
  batches: 'const batches = [{ image: new Float32Array(4 * 64 * 64), label: new Uint8Array(4 * 64 * 64) }];',
};

const moduleOf = (text: string): string => {
  const used = Object.entries(given).filter(
    ([name]) => new RegExp(`\\b${name}\\b`).test(text) && !new RegExp(`(const|let|function) ${name}\\b`).test(text),
  );
  return [...used.map(([, declaration]) => declaration), text, 'export {};'].join('\n');
};

test('there are blocks, in languages that are known here', () => {
  assert.ok(scripts.length > 0 && shells.length > 0, 'none found: is the reader broken?');
  for (const { words, name } of blocks) {
    assert.ok(['ts', 'sh', 'json', 'text', 'html', ''].includes(words[0]!), `${name}: ${words[0]}`);
    if (words[0] === 'ts') assert.ok([undefined, 'page'].includes(words[1]), `${name}: where is '${words[1]}'?`);
  }
});

test('every block of TypeScript type-checks', async () => {
  scripts.forEach(({ text }, i) => void consumer.write(`block${i}.ts`, moduleOf(text)));
  consumer.write(
    'tsconfig.json',
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
      files: scripts.map((_, i) => `block${i}.ts`),
    }),
  );
  const compiler = join(repository, 'node_modules/@typescript/native/bin/tsc');
  const { stdout } = await execute(process.execPath, [compiler, '-p', '.', '--pretty', 'false'], consumer.folder);
  const said = stdout.replace(/block(\d+)\.ts/g, (_, i) => `[${scripts[Number(i)]!.name}]`);
  assert.is(said.slice(0, 2000), '');
});

for (const [i, { words, text, name }] of scripts.entries()) {
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

/** Commands of a shell text: without comments, line continuations joined, `a && b` apart. */
const commandsIn = (text: string): string[][] =>
  text
    .replace(/\\\n/g, ' ')
    .split('\n')
    .flatMap((line) => line.replace(/(^|\s)#.*$/, '').split('&&'))
    .map((part) => part.trim().split(/\s+/))
    .filter(([program]) => program);

/** Commands in the text itself: inline code that begins with one of the programs and says what it shall do. */
const inline = [...readme.replace(/^```[\s\S]*?^```/gm, '').matchAll(/`([^`]+)`/g)]
  .map(([, code]) => code!.trim().split(/\s+/))
  .filter((words) => /^((npx )?wgrad [a-z]+|npm [a-z]+)/.test(words.join(' ')));

const helps = new Map<string, Promise<string>>();
const helpOf = (name: string): Promise<string> => {
  const known = helps.get(name) ?? executed(process.execPath, [command, name, '--help'], consumer.folder);
  helps.set(name, known);
  return known;
};

/** Throws unless what a command names is there. */
async function check(words: readonly string[]): Promise<void> {
  const [program, ...args] = words[0] === 'npx' && words[1] === 'wgrad' ? words.slice(1) : words;
  const line = words.join(' ');
  if (program === 'wgrad') {
    const help = `${await helpOf(args[0]!)}${await executed(process.execPath, [command, '--help'], consumer.folder)}`;
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
  assert.ok(all.length > 5, `only ${all.length} commands found`);
  for (const words of all) await check(words);
});

test('the quick commands run as they are written', async () => {
  const lines = shells
    .flatMap(({ text }) => commandsIn(text))
    .map((words) => (words[0] === 'npx' ? words.slice(1) : words));
  let ran = 0;
  for (const [program, name, ...args] of lines) {
    if (program !== 'wgrad' || !['info', 'phantom', 'train'].includes(name!)) continue;
    ran++;
    const dry = name === 'train' ? ['--size', '32', '--features', '4,8', '--dry-run'] : [];
    await executed(process.execPath, [command, name!, ...args, ...dry], consumer.folder);
  }
  assert.ok(ran >= 2, `only ${ran} ran`);
});

test.run();
