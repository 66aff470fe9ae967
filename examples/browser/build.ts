// Bundles the page into examples/browser/dist: one HTML file, one style sheet, one script, which open from the disk. The
// script is classic, not a module: browsers load no modules from file:// addresses.
//
//   npm run example
import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const source = join(root, 'examples/browser');

/** The package's own entries from their sources, so that nothing has to be built before. */
const alias = {
  wgrad: join(root, 'engine/index.ts'),
  'wgrad/model': join(root, 'model/index.ts'),
  'wgrad/method': join(root, 'train/method/index.ts'),
  'wgrad/data': join(root, 'train/data/index.ts'),
  'wgrad/predictor': join(root, 'train/evaluation/predictor.ts'),
};

/** Builds the page into `out` and returns the address of its HTML file. */
export async function buildPage(out = join(source, 'dist')): Promise<string> {
  mkdirSync(out, { recursive: true });
  await build({
    entryPoints: [join(source, 'page.ts'), join(source, 'page.css')],
    outdir: out,
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2022',
    platform: 'browser',
    charset: 'utf8',
    alias,
    loader: { '.safetensors': 'binary' },
    logLevel: 'warning',
  });
  cpSync(join(source, 'index.html'), join(out, 'index.html'));
  return pathToFileURL(join(out, 'index.html')).href;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const address = await buildPage();
  console.log(`Open this in a browser with WebGPU (Chrome, Edge, Safari 26, Firefox 145, or newer):\n${address}`);
}
