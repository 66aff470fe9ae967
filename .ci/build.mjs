// The build: each source becomes one file of dist/. Packages that the engine, the models and the trainer import are bundled, one
// file each, into dist/vendor/, so that whoever installs wgrad installs none of them; their licences go to dist/LICENSES.txt.
// Packages that an embedder chooses (peer dependencies) and those of benchmarks and tests stay imports.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { build } from 'esbuild';

const { peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
const shipped = ['engine', 'shaders', 'model', 'train'];
const rooms = [...shipped, 'bench', 'examples/node', 'test'];

/** Scripts of pages: each is one bundle with the packages that it imports, and with its style sheet beside it. */
const pageScripts = ['train/report/script.ts'];

/** What the shipped rooms import of packages. */
const vendored = new Set();

/** Its file in dist/vendor/, without the ending. */
const fileOf = (path) => path.replace(/\.js$/, '');

const nameOf = (path) => path.split('/', path.startsWith('@') ? 2 : 1).join('/');

/** Leaves every import in place; a package of the shipped rooms is then imported from dist/vendor/. */
const packages = {
  name: 'packages',
  setup({ onResolve, initialOptions: { absWorkingDir } }) {
    onResolve({ filter: /./ }, ({ path, importer, kind }) => {
      if (kind === 'entry-point') return undefined;
      const from = importer.slice(absWorkingDir.length + 1).replaceAll('\\', '/');
      const stays =
        /^(\.|node:)/.test(path) || nameOf(path) in peerDependencies || !shipped.includes(from.split('/')[0]);
      if (stays) return { path, external: true };
      vendored.add(path);
      return { path: posix.relative(posix.dirname(from), `vendor/${fileOf(path)}.js`), external: true };
    });
  },
};

/** The licences of all packages of which a bundle holds something. */
function licencesOf(inputs) {
  const folders = inputs.flatMap((path) => path.match(/^.*node_modules\/(@[^/]+\/)?[^/]+/)?.[0] ?? []);
  return [...new Set(folders)].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e(\.|$)/i.test(entry));
    if (!file) throw new Error(`build: ${name} holds no licence. Bundle another package.`);
    return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
  });
}

const options = {
  absWorkingDir: process.cwd(),
  outdir: 'dist',
  outbase: '.',
  bundle: true,
  format: 'esm',
  target: 'node20',
  platform: 'neutral',
  mainFields: ['module', 'main'],
  logLevel: 'warning',
};

rmSync('dist', { recursive: true, force: true });
const sources = rooms
  .flatMap((room) =>
    readdirSync(room, { recursive: true })
      .filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'))
      .map((path) => join(room, path)),
  )
  .filter((path) => !pageScripts.includes(path.replaceAll('\\', '/')));
await build({
  ...options,
  entryPoints: [...sources, 'examples/browser/build.ts'],
  plugins: [packages],
  sourcemap: true,
});
const vendor = await build({
  ...options,
  entryPoints: [...vendored].map((path) => ({ in: path, out: fileOf(path) })),
  outdir: 'dist/vendor',
  external: ['node:*'],
  splitting: true,
  minifyWhitespace: true,
  legalComments: 'none',
  metafile: true,
});
const pages = await build({
  ...options,
  entryPoints: pageScripts,
  // uPlot formats numbers in this language; some browsers' own is none that Intl knows ("en-US@posix").
  define: { navigator: '{ "language": "en" }' },
  format: 'iife',
  target: 'es2022',
  minify: true,
  legalComments: 'none',
  metafile: true,
});
for (const [path, { entryPoint, inputs }] of Object.entries(pages.metafile.outputs)) {
  const licences = licencesOf(Object.keys(inputs)).join('\n');
  if (entryPoint) writeFileSync(path, `/*\n${licences}*/\n${readFileSync(path, 'utf8')}`);
}
const inputs = [vendor, pages].flatMap(({ metafile }) => Object.keys(metafile.inputs));
writeFileSync('dist/LICENSES.txt', licencesOf(inputs).join(`\n${'-'.repeat(80)}\n\n`));
