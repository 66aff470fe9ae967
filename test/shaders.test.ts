// Every kernel text is validated by Dawn's null backend: no GPU is needed to know that it compiles and binds. A file of
// shaders/ that holds kernels lists representative texts of all its kernels as `variants`.
import { readdirSync, readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Gpu } from '../engine/index.js';
import { kernel } from '../engine/kernel.js';
import { openDevice } from '../engine/node.js';

const test = suite('shaders');

const folder = new URL('../shaders/', import.meta.url);
const files = (readdirSync(folder, { recursive: true, encoding: 'utf8' }) as string[])
  .filter((name) => name.endsWith('.js') && name !== 'wgsl.js' && !name.endsWith('.d.js'))
  .sort();

let opened: Promise<Gpu> | undefined;
const nullGpu = (): Promise<Gpu> => (opened ??= openDevice({ adapter: 'null', quiet: true }));

/** What is wrong with a text, or undefined. */
async function fault(gpu: Gpu, code: string): Promise<string | undefined> {
  const { device } = gpu;
  device.pushErrorScope('validation');
  const { label, layout, bindings } = kernel(gpu, code);
  const module = device.createShaderModule({ code });
  const pipeline = { layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }), compute: { module } };
  const failed = await device.createComputePipelineAsync(pipeline).then(
    () => undefined,
    (error: Error) => error.message,
  );
  const error = await device.popErrorScope();
  // What every WebGPU device has; more must not be needed.
  const size = /@workgroup_size\(([^)]*)\)/
    .exec(code)![1]!
    .split(',')
    .reduce((product, n) => product * Number(n), 1);
  if (bindings.length > 8) return `${label} binds ${bindings.length} buffers, WebGPU guarantees 8`;
  if (!(size <= 256)) return `${label} has workgroups of ${size}, WebGPU guarantees 256`;
  return error?.message ?? failed;
}

test('there are shaders', () => assert.ok(files.length > 10, files.join()));

for (const file of files) {
  const exported: Record<string, unknown> = await import(new URL(file, folder).href);
  // A file of snippets is validated in the kernels that use them.
  if (!readFileSync(new URL(file, folder), 'utf8').includes('@compute') && !exported.variants) continue;
  test(file, async () => {
    const functions = Object.keys(exported).filter((name) => typeof exported[name] === 'function');
    assert.type(exported.variants, 'function', `${file} exports ${functions.join(', ')} but no variants()`);
    const texts = (exported.variants as () => string[])();
    assert.ok(texts.length > 0, `${file}: variants() is empty`);
    const gpu = await nullGpu();
    for (const text of texts) {
      const wrong = await fault(gpu, text);
      assert.is(wrong, undefined, `${file}: ${wrong}\n${text}`);
    }
  });
}

/** The headers of the loops around multiply-adds, without those around a barrier, which are entered once for a chunk or tile. */
function hotLoops(text: string): string[] {
  const found: string[] = [];
  for (const { 0: header, index } of text.matchAll(/for \([^{]*\) \{/g)) {
    let [depth, end] = [1, index + header.length];
    for (; depth > 0; end++) depth += { '{': 1, '}': -1 }[text[end]!] ?? 0;
    const body = text.slice(index, end);
    if (/fma\(|subgroupMatrixMultiplyAccumulate/.test(body) && !body.includes('workgroupBarrier')) found.push(header);
  }
  return found;
}

// Dawn's compiler clamps every index of workgroup memory that it cannot prove; clamps took 40 % of a weight gradient's inner loop.
// It proves indices of loops that count from 0 to a constant by 1.
for (const file of ['tiled', 'tiled-weight-gradient', 'matrix-weight-gradient']) {
  test(`conv/${file}: the bounds of hot loops can be proved`, async () => {
    const { variants } = await import(new URL(`conv/${file}.js`, folder).href);
    const headers = (variants as () => string[])().map(hotLoops);
    assert.ok(
      headers.every((of) => of.length > 0),
      'a kernel without a hot loop',
    );
    const other = headers.flat().filter((header) => !/^for \(var (\w+) = 0; \1 < \d+; \1\+\+\) \{$/.test(header));
    assert.equal(other, []);
  });
}

test('a faulty shader is noticed', async () => {
  const gpu = await nullGpu();
  const text = (body: string): string => `
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @compute @workgroup_size(64) fn faulty() { ${body} }`;
  assert.is(await fault(gpu, text('_ = x[0];')), undefined);
  assert.match((await fault(gpu, text('x[0] = 1.0;')))!, /cannot store/);
  assert.match((await fault(gpu, text('_ = y[0];')))!, /unresolved value 'y'/);
});

test.after(async () => (await opened)?.close());

test.run();
