// The package as its users meet it: what is in it, that it imports, type-checks and bundles in a project of its own, and how
// large it gets there.
import { readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, posix } from 'node:path';
import { gzipSync } from 'node:zlib';
import * as esbuild from 'esbuild';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Consumer, execute, executed, manifest, repository } from './consumer.js';

const test = suite('package');
const consumer = new Consumer();
test.before(() => consumer.install());
test.after(() => consumer.remove());

/** A gradient by hand: d(sum (2x)²) = 8x. */
const gradient = `
export async function gradient(gpu) {
  const x = tensor(gpu, [1, 2, 3], [3], { requiresGrad: true });
  const loss = sum(square(mul(x, 2)));
  return [await loss.item(), ...(await backward(loss).get(x).read())].join();
}`;
const expected = '56,8,16,24';
const engineImports = `import { backward, fromDevice, mul, square, sum, tensor } from 'wgrad';`;

test('holds what it exports, licence, READMEs and changes, and no tests or sources', () => {
  const contents = consumer.contents();
  for (const target of [...Object.values(manifest.exports), ...Object.values(manifest.bin)]) {
    for (const path of typeof target === 'string' ? [target] : Object.values(target)) {
      assert.ok(contents.includes(posix.normalize(path)), `${path} is exported and not there`);
    }
  }
  for (const [entry, target] of Object.entries(manifest.exports)) {
    if (typeof target !== 'string') assert.is(Object.keys(target)[0], 'types', `${entry}: types come first`);
  }
  for (const room of ['', 'engine/', 'train/', 'bench/', 'examples/'])
    assert.ok(contents.includes(`${room}README.md`), room);
  assert.ok(contents.includes('CHANGELOG.md') && contents.includes('LICENSE'));
  const astray = contents.filter((path) =>
    /\.test\.|(^|\/)test\/|(^|\/)examples\/(?!README|node\/|pages\/)|^(?!examples\/).*(?<!\.d)\.ts$/.test(path),
  );
  assert.equal(astray, []);
});

test('imports only what it holds and what package.json declares', async () => {
  // Benchmarks against peers need the peers; whoever runs them installs them.
  const { devDependencies } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));
  const declared = manifest.peerDependencies;
  const { metafile } = await esbuild.build({
    entryPoints: consumer
      .contents()
      .filter((path) => path.endsWith('.js'))
      .map((path) => join(consumer.installed, path)),
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    write: false,
    outdir: 'unused',
    metafile: true,
    logLevel: 'silent', // a file that is not there is an error, and thrown
  });
  const packages = Object.entries(metafile.inputs).flatMap(([from, { imports }]) =>
    imports.filter(({ external }) => external).map(({ path }) => ({ from, path })),
  );
  assert.ok(packages.length > 50, `only ${packages.length} imports of packages found`);
  const astray = packages.filter(({ from, path }) => {
    const name = path
      .split('/')
      .slice(0, path.startsWith('@') ? 2 : 1)
      .join('/');
    if (path.startsWith('node:') || builtinModules.includes(name) || name in declared) return false;
    return !(from.includes('wgrad/dist/bench/') && name in devDependencies);
  });
  assert.equal(astray, []);
});

test('declarations name no package but the peers', () => {
  const declared = consumer.contents().filter((path) => path.endsWith('.d.ts'));
  assert.ok(declared.length > 50, `only ${declared.length} declarations`);
  const named = declared.flatMap((path) =>
    [
      ...readFileSync(join(consumer.installed, path), 'utf8').matchAll(/(?:from|import\()\s*['"]([^.'"][^'"]*)['"]/g),
    ].map(([, name]) => ({ path, name: name! })),
  );
  const isPeer = (name: string) => Object.keys(manifest.peerDependencies).some((peer) => name.split('/')[0] === peer);
  assert.equal(
    named.filter(({ path, name }) => !name.startsWith('node:') && !isPeer(name) && !path.startsWith('dist/bench/')),
    [],
  );
});

test('npm installs nothing beside it; the licences of what it bundles are in it', () => {
  assert.equal(
    readdirSync(join(consumer.folder, 'node_modules')).filter((name) => !name.startsWith('.')),
    [manifest.name],
  );
  const licences = readFileSync(join(consumer.installed, 'dist/LICENSES.txt'), 'utf8');
  const bundled = consumer
    .contents()
    .flatMap((path) => path.match(/^dist\/vendor\/((?:@[^/]+\/)?[^/]+?)(?:\.js|\/.*)$/)?.[1] ?? [])
    .filter((name) => !name.startsWith('chunk-'));
  assert.ok(bundled.includes('nifti-reader-js') && bundled.includes('wgsl-preprocessor'), bundled.join());
  for (const name of [...bundled, 'fflate', 'uplot']) {
    assert.match(
      licences,
      new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\(.+\\)\\n\\n(?:.*\\n){0,20}.*Copyright`, 'm'),
      name,
    );
  }
});

test('scripts run under any shell: no quotes, variables, globs or commands of one', () => {
  for (const [name, line] of Object.entries(manifest.scripts)) {
    assert.not.match(line, /['"$*~`;|<>]|(^|&& )(?!npm |node |tsc |biome |typedoc)\S/, `npm run ${name}: ${line}`);
  }
});

test('publint finds nothing', async () => {
  const { messages } = await publint({ pkgDir: consumer.installed, strict: true, pack: false });
  assert.equal(
    messages.map((message) => formatMessage(message, { name: manifest.name } as never)),
    [],
  );
});

test('without Dawn: the pure entries import, and opening a device says what to install', async () => {
  const out = await consumer.node(
    'bare.mjs',
    `import * as engine from 'wgrad';
    import * as model from 'wgrad/model';
    import { openDevice } from 'wgrad/node';
    console.log(typeof engine.conv, typeof model.unet);
    await openDevice({ adapter: 'null' }).catch((error) => console.log(error.name, error.message));`,
  );
  assert.match(
    out,
    /^function function\nGpuError device: the package 'webgpu' .* is not installed\. Run: npm install webgpu \(.*\)\.\n$/,
  );
});

test('a Node script computes a gradient, and no global is assigned', async () => {
  for (const name of ['webgpu', '@sparticuz/chromium']) consumer.link(name);
  const out = await consumer.node(
    'script.mjs',
    `const before = new Set(Reflect.ownKeys(globalThis));
    const { backward, mul, square, sum, tensor } = await import('wgrad');
    const { openDevice } = await import('wgrad/node');
    await import('wgrad/model');
    await import('wgrad/train');
    ${gradient}
    const gpu = await openDevice({ quiet: true });
    console.log(await gradient(gpu));
    console.log(JSON.stringify(Reflect.ownKeys(globalThis).filter((name) => !before.has(name)).map(String)));
    gpu.close();`.replace('export async', 'async'),
  );
  assert.is(out, `${expected}\n[]\n`);
});

test('the command runs where it is installed', async () => {
  const command = join(consumer.installed, manifest.bin.wgrad!);
  assert.match(await executed(process.execPath, [command, '--help'], consumer.folder), /usage: wgrad COMMAND/);
  const { stdout } = await execute(process.execPath, [command, 'info', '--json'], consumer.folder);
  assert.ok(JSON.parse(stdout), stdout);
});

const typed = `
import { add, backward, bufferOf, capture, createSgd, fromBuffer, fromDevice, type Gpu, openDevice, type Tensor, tensor } from 'wgrad';
import { countParameters, unet } from 'wgrad/model';
export async function embed(device: GPUDevice, theirs: GPUBuffer): Promise<number> {
  const gpu: Gpu = fromDevice(device);
  const model = unet(gpu, { inChannels: 1, classes: 4, features: [16, 32] });
  const x: Tensor = fromBuffer(gpu, theirs, [1, 16, 16, 1], { dtype: 'f32', offset: 256 });
  const y = capture(gpu, () => add(model(x, { mode: 'eval' }), 1))();
  const { buffer, offset, size } = bufferOf(y);
  createSgd(model.parameters).step(backward(tensor(gpu, 1, [], { requiresGrad: true })), tensor(gpu, 0.1));
  // @ts-expect-error: a shape is not a string
  tensor(gpu, 0, 'wrong');
  await openDevice();
  bufferOf(y) satisfies { buffer: GPUBuffer };
  void buffer;
  return offset + size + countParameters(model);
}`;
const typedNode = `
import { type OpenOptions, openDevice } from 'wgrad/node';
import { type Config, resolveConfig } from 'wgrad/train';
const options: OpenOptions = { adapter: 'null' };
openDevice(options).then((gpu) => gpu.close());
export const config: Config = resolveConfig;`;

/** Type-checks files of the consumer's, libraries' declarations included; returns what the compiler says first. */
async function check(
  compiler: string,
  files: Record<string, string>,
  options: Record<string, unknown>,
): Promise<string> {
  for (const [name, code] of Object.entries(files)) consumer.write(name, code);
  const compilerOptions = {
    target: 'es2022',
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    skipLibCheck: false,
    ...options,
  };
  consumer.write('tsconfig.json', JSON.stringify({ compilerOptions, files: Object.keys(files) }));
  const { stdout, stderr } = await execute(
    process.execPath,
    [join(repository, compiler), '-p', '.', '--pretty', 'false'],
    consumer.folder,
  );
  return (stdout + stderr).slice(0, 2000);
}

const kinds: Record<string, Record<string, unknown>> = {
  nodenext: { module: 'nodenext', lib: ['es2023'], types: [] },
  'nodenext with the DOM': { module: 'nodenext', lib: ['es2023', 'dom'], types: [] },
  'esnext and bundler': { module: 'esnext', moduleResolution: 'bundler', lib: ['es2023', 'dom'], types: [] },
};
for (const [name, options] of Object.entries(kinds)) {
  test(`strict TypeScript, ${name}`, async () => {
    assert.is(await check('node_modules/@typescript/native/bin/tsc', { 'embed.ts': typed }, options), '');
  });
}

test('strict TypeScript 6, and the entries that need the types of Node', async () => {
  const options = { module: 'nodenext', lib: ['es2023', 'dom'], types: ['node'] };
  consumer.link('@types/node');
  symlinkSync(
    join(repository, 'node_modules/undici-types'),
    join(dirname(join(consumer.folder, 'node_modules/x')), 'undici-types'),
    'junction',
  );
  const code = typedNode.replace(
    'export const config: Config = resolveConfig;',
    'export type { Config }; void resolveConfig;',
  );
  const files = { 'embed.ts': typed, 'node.ts': code };
  assert.is(await check('node_modules/typescript/lib/tsc.js', files, options), '');
});

/** Bundles for the browser; what a bundle imports from Node, or assigns, fails here. */
async function bundle(
  name: string,
  code: string,
): Promise<{ inputs: Map<string, number>; bytes: number; gzip: number; path: string }> {
  const path = join(consumer.folder, `${name}.bundle.mjs`);
  const { metafile } = await esbuild.build({
    stdin: { contents: code, resolveDir: consumer.folder, sourcefile: `${name}.js` },
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    outfile: path,
    metafile: true,
    logLevel: 'silent',
  });
  const [output] = Object.values(metafile.outputs);
  const inputs = new Map(
    Object.entries(output!.inputs)
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .map(([input, { bytesInOutput }]) => [input.split('node_modules/wgrad/dist/').at(-1)!, bytesInOutput]),
  );
  const made = readFileSync(path);
  return { inputs, bytes: made.length, gzip: gzipSync(made).length, path };
}

test('a browser bundle holds no Node and computes a gradient on a device it is given', async () => {
  const { path } = await bundle(
    'page',
    `${engineImports}${gradient} export { fromDevice }; export { unet } from 'wgrad/model';`,
  );
  const code = readFileSync(path, 'utf8');
  assert.not.match(code, /\bnode:|\brequire\(|from ?"/);
  const out = await consumer.node(
    'page.mjs',
    `import { openDevice } from 'wgrad/node';
    import { fromDevice, gradient } from './page.bundle.mjs';
    const host = await openDevice({ quiet: true });
    console.log(await gradient(fromDevice(host.device)));
    host.close();`,
  );
  assert.is(out, `${expected}\n`);
});

test('importing two functions leaves the others out', async () => {
  const { inputs, bytes } = await bundle('two', `import { tensor, add } from 'wgrad'; console.log(tensor, add);`);
  const names = [...inputs.keys()];
  assert.ok(names.includes('engine/tensor.js') && names.includes('shaders/elementwise.js'), names.join(' '));
  const astray = names.filter((name) =>
    /conv|norm|pool|loss|optimizer|prototypes|tuner|matmul|unet|model\//.test(name),
  );
  assert.equal(astray, []);
  assert.ok(bytes < 49_000, `${bytes} bytes`);
});

// As of 2026-11-26: 2.7 kB more for the kernels of 2-by-2 blocks in every convolution, 4 kB for V-Net, crops and views, 13 kB for the
// ops that other models need (functions, comparisons, maps of indices, gather, reductions), 11 kB for attention, layer norm, losses,
// products with broadcasting, layers and schedules, 6 kB for kernels of prototypes with a projection head, 2 kB for
// arguments of steps, assign and fromImage, 5 kB for pooling of any window, resizing and integers, 5.2 kB for convolutions
// with dilation and groups and transposed ones of any kernel, 3 kB for proofs of matrix kernels and masks of dropout, 2.7 kB for
// textures, samplers and uniform buffers (0.13 kB of them where every launch binds; the rest comes with `bindable` alone), 0.4 kB for
// quotients that round correctly. Of these, kernels of every kind of convolution cost conv and backward 4.3 kB, and steps' arguments, paddings and masks 1.8 kB. The tuner and
// kernels for matrix units come with `tune` alone.
const sizes: Record<string, { code: string; most: number }> = {
  'tensor and add': { code: `export { tensor, add, fromDevice } from 'wgrad';`, most: 19_100 },
  'conv and backward': {
    code: `export { tensor, conv, backward, mean, square, createSgd, capture, fromDevice } from 'wgrad';`,
    most: 54_000,
  },
  'all that a model needs': { code: `export * from 'wgrad'; export * from 'wgrad/model';`, most: 122_000 },
  'the whole engine and the models': {
    code: `${['', '/custom', '/tune', '/debug', '/model'].map((entry) => `export * from 'wgrad${entry}';`).join(' ')}
      export * from ${JSON.stringify(join(consumer.installed, 'dist/engine/method.js'))};`,
    most: 164_700,
  },
};
for (const [name, { code, most }] of Object.entries(sizes)) {
  test(`size of a browser bundle: ${name}, at most ${most} bytes gzipped`, async () => {
    const { bytes, gzip } = await bundle(name.replaceAll(' ', '-'), code);
    console.log(`\n${name}: ${bytes} bytes minified, ${gzip} gzipped`);
    assert.ok(gzip <= most, `${gzip} bytes`);
  });
}

test('the example of Node fits its picture', async () => {
  consumer.link('fast-png');
  const example = join(repository, 'examples/node/coordinate-network.ts');
  const { code } = await esbuild.transform(readFileSync(example, 'utf8'), { loader: 'ts', format: 'esm' });
  const out = await consumer.node(
    'coordinate-network.mjs',
    code.replace(/= process\.argv\.slice\(2\)/, `= ['drawn', '60', '16']`),
  );
  const losses = [...out.matchAll(/^step \d+ {2}loss ([\d.]+)$/gm)].map(([, loss]) => Number(loss));
  assert.is(losses.length, 4, out);
  assert.ok(losses.at(-1)! < losses[0]! / 20, `${losses}`);
  const { decode } = await import('fast-png');
  const [before, after, target] = ['before', 'after', 'target'].map(
    (name) => decode(readFileSync(join(consumer.folder, 'drawn', `${name}.png`))).data,
  );
  const distance = (a: ArrayLike<number>) =>
    Array.from(target!).reduce((sum, value, i) => sum + Math.abs(value - a[i]!), 0) / target!.length;
  assert.is(target!.length, 16 * 16 * 3);
  assert.ok(distance(after!) < distance(before!) / 3, `${distance(before!)} → ${distance(after!)} of 255`);
});

test.run();
