// The kit for a machine that has a GPU, and neither Node's packages nor a network: `node dist/bench/experiment/build-kit.js [OUT] [--data DIR]`
// writes OUT (.kit) with the built program, the packages that it loads (bundled, a file each) and, with --data, the data set in pieces.
// Node itself and Dawn's binding come from elsewhere; `webgpu` is found beside the current folder.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { describeCommand } from '../../train/settings/command-line.js';
import { pack } from './archive.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const load = createRequire(join(root, 'package.json'));

/** What benchmarks and tests import by name; missing ones (optional packages) are left out. */
const packages = [
  '@tensorflow/tfjs',
  '@tensorflow/tfjs-backend-webgpu',
  '@jax-js/jax',
  'uvu',
  'uvu/assert',
  'fast-png',
];

/** Bundles the packages into `folder`, an importable file each; packages that share code share it there, too. */
async function bundlePackages(folder: string): Promise<void> {
  const names = packages.filter((name) => {
    try {
      import.meta.resolve(name);
      return true;
    } catch {
      return false;
    }
  });
  const fileOf = (name: string): string => name.replaceAll('/', '__').replace(/\.js$/, '');
  await build({
    entryPoints: names.map((name) => ({ in: name, out: fileOf(name) })),
    outdir: join(folder, '.bundled'),
    absWorkingDir: root,
    bundle: true,
    splitting: true,
    minify: true,
    format: 'esm',
    platform: 'node',
    mainFields: ['module', 'main'],
    target: 'node20',
    logLevel: 'error',
    banner: {
      js: "import { createRequire as kitRequire } from 'node:module'; const require = kitRequire(import.meta.url);",
    },
  });
  const exported = new Map<string, Record<string, string>>();
  for (const name of names) {
    const parts = name.split('/');
    const owner = name.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0]!;
    const inside = name.slice(owner.length + 1);
    const up = owner.includes('/') ? '../..' : '..';
    mkdirSync(join(folder, owner), { recursive: true });
    const shim = `${inside.replaceAll('/', '__').replace(/\.js$/, '') || 'index'}.mjs`;
    const from = `${up}/.bundled/${fileOf(name)}.js`;
    const text = readFileSync(join(folder, '.bundled', `${fileOf(name)}.js`), 'utf8');
    const hasDefault = /\bas default\b|export default/.test(text);
    writeFileSync(
      join(folder, owner, shim),
      `export * from '${from}';\n${hasDefault ? `export { default } from '${from}';\n` : ''}`,
    );
    exported.set(owner, { ...exported.get(owner), [inside ? `./${inside}` : '.']: `./${shim}` });
  }
  for (const [owner, exports] of exported) {
    const { version } = JSON.parse(readFileSync(packageFile(owner), 'utf8')) as { version: string };
    writeFileSync(
      join(folder, owner, 'package.json'),
      JSON.stringify({ name: owner, version, type: 'module', exports }),
    );
  }
}

/** A package's package.json, also where its exports hide it. */
function packageFile(name: string): string {
  for (const folder of load.resolve.paths(name) ?? []) {
    const file = join(folder, name, 'package.json');
    if (existsSync(file)) return file;
  }
  throw new Error(`build-kit: ${name} is not installed. Run npm ci.`);
}

const bytesOf = (folder: string): number =>
  (readdirSync(folder, { recursive: true, encoding: 'utf8' }) as string[])
    .map((name) => statSync(join(folder, name)))
    .reduce((sum, entry) => sum + (entry.isFile() ? entry.size : 0), 0);

const command = describeCommand({
  name: 'build-kit',
  called: 'node dist/bench/experiment/build-kit.js',
  about: 'Writes the built program and the packages that it loads to OUT.',
  positionals: ['OUT…'],
  flags: {
    data: { type: 'string', value: 'DIR', help: 'a data set to add, in pieces' },
    piece: { type: 'number', min: 1, default: 20, help: 'MiB of a piece' },
  },
});
const { flags, positionals } = command.read(process.argv.slice(2));
const out = positionals[0]!;
const program = join(out, 'wgrad');
rmSync(program, { recursive: true, force: true });
mkdirSync(program, { recursive: true });
const dist = dirname(fileURLToPath(new URL('../', import.meta.url)));
cpSync(dist, join(program, 'dist'), { recursive: true, filter: (path) => !/\.map$|\.d\.ts$/.test(path) });
for (const name of ['package.json', 'train/protocols', 'bench/pytorch']) {
  if (existsSync(join(root, name))) cpSync(join(root, name), join(program, name), { recursive: true });
}
// What compilers said of the step on paper, to hold against the card.
cpSync(join(root, 'bench/results'), join(program, 'bench/results'), {
  recursive: true,
  filter: (path) => statSync(path).isDirectory() || /^paper-.*\.json$/.test(basename(path)),
});
await bundlePackages(join(program, 'node_modules'));
console.log(`${program}: ${(bytesOf(program) / 2 ** 20).toFixed(1)} MiB`);
if (flags.data) {
  const name = join(out, 'data');
  const pieces = pack(flags.data, name, {
    piece: flags.piece * 2 ** 20,
    filter: (path) => !path.endsWith('.cfg'),
  });
  for (const path of pieces) console.log(`${path}: ${(statSync(path).size / 2 ** 20).toFixed(1)} MiB`);
}
