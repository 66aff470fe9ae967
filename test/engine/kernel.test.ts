// The contract between a shader's text and the tensors an op binds, and what a faulty text or device reports.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, run } from '../../engine/custom.js';
import { add, fromDevice, type Gpu, GpuError, GpuLostError, mul, tensor } from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('kernel');

const text = (body: string, declarations = ''): string => `
  @group(0) @binding(0) var<storage, read> x: array<f32>;
  @group(0) @binding(1) var<storage, read_write> y: array<f32>; ${declarations}
  @compute @workgroup_size(64) fn sample(@builtin(global_invocation_id) id: vec3u) { ${body} }`;

const copy = text('y[id.x] = x[id.x];');

/** A device of its own, for faults that it keeps. */
async function withDevice(work: (gpu: Gpu) => Promise<void>): Promise<void> {
  const gpu = await openDevice({ quiet: true });
  try {
    await work(gpu);
  } finally {
    gpu.close();
  }
}

test('names that do not match are listed on both sides', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1]);
  await refuses(
    () => run(copy, { x, out: empty(gpu, [1]) }, { threads: 1 }),
    GpuError,
    /sample: the shader binds \(x, y\); the op passed \(x, out\)/,
  );
  await refuses(() => run(copy, { x }, { threads: 1 }), GpuError, /passed \(x\)/);
  await refuses(() => run(copy, {}, { threads: 1 }), GpuError, /at least one tensor/);
});

test('the order of the arguments does not matter', async () => {
  const gpu = await testGpu();
  const y = empty(gpu, [2]);
  run(copy, { y, x: tensor(gpu, [3, 4]) }, { threads: 2 });
  assert.equal([...(await y.read())], [3, 4]);
});

test('other groups, uniforms, missing entry points and too many workgroups are refused', async () => {
  const gpu = await testGpu();
  const args = () => ({ x: tensor(gpu, [1]), y: empty(gpu, [1]) });
  const refused = (source: string, message: RegExp) =>
    refuses(() => run(source, args(), { threads: 1 }), GpuError, message);
  await refused(text('', '@group(1) @binding(0) var<storage, read> z: array<f32>;'), /'z' is in group 1/);
  await refused(text('', '@group(0) @binding(2) var<uniform> z: f32;'), /must be a storage buffer.*or bindable/);
  await refused('fn nothing() {}', /no `@compute/);
  await refuses(() => run(copy, args(), { workgroups: [70_000] }), GpuError, /70000×1×1 workgroups — at most 65535/);
});

test('a shader that does not compile names the op and the line', () =>
  withDevice(async (gpu) => {
    const y = empty(gpu, [1]);
    run(text('y[id.x] = z[id.x];'), { x: tensor(gpu, [1]), y }, { threads: 1 });
    await refuses(
      () => y.read(),
      GpuError,
      /^sample: the shader does not compile.\n {2}line 4:\d+ unresolved value 'z'\n.*y\[id.x\] = z\[id.x\]/,
    );
    assert.equal([...(await mul(tensor(gpu, [1]), 2).read())], [2]);
  }));

test('a tensor beyond the limits of the device says what to do', async () => {
  const gpu = await testGpu();
  const limit = Math.min(gpu.limits.maxBufferSize, gpu.limits.maxStorageBufferBindingSize);
  const huge = empty(gpu, [Math.floor(limit / 4) + 1024], 'f32', 'activation');
  const source = `
    @group(0) @binding(0) var<storage, read_write> huge: array<f32>;
    @compute @workgroup_size(64) fn touch() { huge[0] = 1.0; }`;
  await refuses(
    () => run(source, { huge }, { threads: 1 }),
    GpuError,
    /activation: needs a buffer of .* at most .* Reduce batch or patch size/,
  );
  assert.equal([...(await mul(tensor(gpu, [1, 2]), 2).read())], [2, 4]);
});

test('tensors of two devices do not mix, but both work', () =>
  withDevice(async (other) => {
    const gpu = await testGpu();
    const [a, b] = [tensor(gpu, [1]), tensor(other, [2])];
    await refuses(() => add(a, b), GpuError, /on another device/);
    assert.equal([...(await mul(a, 3).read())], [3]);
    assert.equal([...(await mul(b, 3).read())], [6]);
  }));

test('a lost device fails every call, nothing hangs', () =>
  withDevice(async (gpu) => {
    const x = tensor(gpu, [1]);
    // The embedder destroys its own device under the engine.
    const embedded = fromDevice(gpu.device);
    const y = tensor(embedded, [2]);
    gpu.device.destroy();
    await refuses(() => mul(y, 2).read(), GpuLostError, /the GPU was lost/);
    await refuses(() => mul(x, 2).read(), GpuLostError, /the GPU was lost/);
    await refuses(() => mul(y, 2), GpuLostError, /resume/);
  }));

test('a closed Gpu says so', async () => {
  const gpu = await openDevice({ quiet: true });
  const x = tensor(gpu, [1]);
  gpu.close();
  await refuses(() => mul(x, 2), GpuError, /was closed/);
});

test('fromDevice leaves the device alone', () =>
  withDevice(async (gpu) => {
    const embedded = fromDevice(gpu.device);
    assert.equal([...(await mul(tensor(embedded, [2]), 2).read())], [4]);
    embedded.close();
    assert.equal([...(await mul(tensor(gpu, [3]), 2).read())], [6]);
  }));

test.run();
