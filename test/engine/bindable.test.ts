// Textures, samplers and uniform buffers of an embedder in launches: what goes through them, in which order, and what is refused.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { bindable, empty, flush, perElement, record, run } from '../../engine/custom.js';
import {
  add,
  backward,
  capture,
  fromBuffer,
  type Gpu,
  GpuError,
  mul,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { kernelCount } from '../../engine/kernel.js';
import { openDevice } from '../../engine/node.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('bindable');

const [copySource, copyTarget, sampled, stored, uniform] = [0x1, 0x2, 0x4, 0x8, 0x40];

const texture = (gpu: Gpu, size: number[], rest: Partial<GPUTextureDescriptor> = {}): GPUTexture =>
  gpu.device.createTexture({ label: 'picture', size, format: 'r32float', usage: sampled | stored, ...rest });

/** Writes x [H, W] into a texture of r32float, one thread a texel. */
const store = `
  @group(0) @binding(0) var<storage, read> x: array<f32>;
  @group(0) @binding(1) var picture: texture_storage_2d<r32float, write>;
  ${perElement('store', 'x', 'let w = textureDimensions(picture).x; textureStore(picture, vec2u(i % w, i / w), vec4f(x[i]));')}`;

const load = `
  @group(0) @binding(0) var picture: texture_2d<f32>;
  @group(0) @binding(1) var<storage, read_write> y: array<f32>;
  ${perElement('load', 'y', 'let w = textureDimensions(picture).x; y[i] = textureLoad(picture, vec2u(i % w, i / w), 0).x;')}`;

const toTexture = (x: Tensor, to: GPUTexture): void =>
  run(store, { x, picture: bindable(x.gpu, to) }, { threads: x.size });

function fromTexture(gpu: Gpu, from: GPUTexture): Tensor {
  const y = empty(gpu, [from.height, from.width]);
  run(load, { picture: bindable(gpu, from), y }, { threads: y.size });
  return y;
}

const floats = (count: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.fround(Math.sin(i) * 1e3 + 1e-3));

for (const [height, width] of [
  [1, 1],
  [3, 5],
  [17, 257],
] as const) {
  test(`tensor → texture → tensor keeps every bit, ${height}×${width}`, async () => {
    const gpu = await testGpu();
    const values = floats(height * width);
    const picture = texture(gpu, [width, height]);
    toTexture(tensor(gpu, values, [height, width]), picture);
    assert.equal([...(await fromTexture(gpu, picture).read())], values);
  });
}

test('a texture of bytes for display holds what the embedder then copies', async () => {
  const gpu = await testGpu();
  const { device } = gpu;
  const screen = texture(gpu, [64, 2], { format: 'rgba8unorm', usage: stored | copySource });
  const text = `
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var screen: texture_storage_2d<rgba8unorm, write>;
    ${perElement('show', 'x', 'textureStore(screen, vec2u(i % 64u, i / 64u), vec4f(x[i], 1.0 - x[i], 0.0, 1.0));')}`;
  const x = tensor(
    gpu,
    Array.from({ length: 128 }, (_, i) => (2 * i) / 255),
  );
  run(text, { x, screen: bindable(gpu, screen) }, { threads: x.size });
  flush(gpu);
  const bytes = device.createBuffer({ size: 512, usage: 0x1 | 0x8 });
  const encoder = device.createCommandEncoder();
  encoder.copyTextureToBuffer({ texture: screen }, { buffer: bytes, bytesPerRow: 256 }, [64, 2]);
  device.queue.submit([encoder.finish()]);
  await bytes.mapAsync(1);
  const texels = [...new Uint8Array(bytes.getMappedRange())];
  assert.equal(texels, Array.from({ length: 128 }, (_, i) => [2 * i, 255 - 2 * i, 0, 255]).flat());
});

test('a sampler interpolates, and reads arrays, volumes and integers', async () => {
  const gpu = await testGpu();
  const { device } = gpu;
  const from = (
    size: number[],
    format: GPUTextureFormat,
    data: Uint8Array<ArrayBuffer>,
    dimension: GPUTextureDimension = '2d',
  ) => {
    const made = texture(gpu, size, { format, dimension, usage: sampled | copyTarget });
    device.queue.writeTexture({ texture: made }, data, { bytesPerRow: 4 * size[0]!, rowsPerImage: size[1]! }, size);
    return bindable(gpu, made);
  };
  const y = empty(gpu, [6]);
  const source = `
    @group(0) @binding(0) var line: texture_2d<f32>;
    @group(0) @binding(1) var smooth_: sampler;
    @group(0) @binding(2) var layers: texture_2d_array<u32>;
    @group(0) @binding(3) var volume: texture_3d<i32>;
    @group(0) @binding(4) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(1) fn look() {
      for (var i = 0u; i < 3u; i++) { y[i] = textureSampleLevel(line, smooth_, vec2f(0.25 + 0.25 * f32(i), 0.5), 0.0).x; }
      y[3] = f32(textureLoad(layers, vec2u(0), 1, 0).x);
      y[4] = f32(textureLoad(volume, vec3u(0, 0, 1), 0).x);
      y[5] = f32(textureNumLayers(layers));
    }`;
  const args = {
    line: from([2, 1], 'rgba8unorm', Uint8Array.of(0, 0, 0, 0, 255, 0, 0, 0)),
    smooth_: bindable(gpu, device.createSampler({ magFilter: 'linear', minFilter: 'linear' })),
    layers: from([1, 1, 2], 'r32uint', Uint8Array.of(1, 0, 0, 0, 7, 1, 0, 0)),
    volume: from([1, 1, 2], 'r32sint', Uint8Array.of(0, 0, 0, 0, 255, 255, 255, 255), '3d'),
    y,
  };
  run(source, args, { workgroups: [1] });
  const [left, between, right, ...integers] = await y.read();
  assert.equal([left, right, ...integers], [0, 1, 263, -1, 2]);
  assert.ok(Math.abs(between! - 0.5) < 1 / 255, `${between}: drivers may interpolate in eight bits`);
});

const scale = `
  struct Scale { factor: f32, offset: vec3f }
  @group(0) @binding(0) var<uniform> scale: Scale;
  @group(0) @binding(1) var<storage, read_write> y: array<f32>;
  ${perElement('scaled', 'y', 'y[i] = scale.factor * y[i] + scale.offset.z;')}`;

test('a uniform struct, whole and as a part of a buffer; a change between two flushes is seen by the second', async () => {
  const gpu = await testGpu();
  const { device } = gpu;
  const buffer = device.createBuffer({ label: 'camera', size: 512, usage: uniform | 0x8 });
  device.queue.writeBuffer(buffer, 0, Float32Array.of(2, 0, 0, 0, 0, 0, 1, 0));
  device.queue.writeBuffer(buffer, 256, Float32Array.of(3, 0, 0, 0, 0, 0, 5, 0));
  const y = tensor(gpu, [1, 10]);
  run(scale, { scale: bindable(gpu, buffer), y }, { threads: 2 });
  run(scale, { scale: bindable(gpu, { buffer, offset: 256, size: 32 }), y }, { threads: 2 });
  flush(gpu);
  device.queue.writeBuffer(buffer, 0, Float32Array.of(0));
  run(scale, { scale: bindable(gpu, buffer), y }, { threads: 2 });
  flush(gpu);
  assert.equal([...(await y.read())], [1, 1]);
  device.queue.writeBuffer(buffer, 0, Float32Array.of(2));
  const z = tensor(gpu, [1, 10]);
  run(scale, { scale: bindable(gpu, buffer), y: z }, { threads: 2 });
  run(scale, { scale: bindable(gpu, { buffer, offset: 256, size: 32 }), y: z }, { threads: 2 });
  assert.equal([...(await z.read())], [14, 68]);
});

test('a launch that reads a uniform waits for the launch that writes the same buffer as a tensor', async () => {
  const gpu = await testGpu();
  const buffer = gpu.device.createBuffer({ size: 32, usage: uniform | 0x80 | 0x4 | 0x8 });
  const shared = fromBuffer(gpu, buffer, [8]);
  const fill = `@group(0) @binding(0) var<storage, read_write> y: array<f32>; ${perElement('fill', 'y', 'y[i] = f32(i + 1u);')}`;
  const read = `
    @group(0) @binding(0) var<uniform> from_: vec4f;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    ${perElement('copied', 'y', 'y[i] = from_[i];')}`;
  const y = empty(gpu, [4]);
  run(fill, { y: shared }, { threads: 8 });
  run(read, { from_: bindable(gpu, buffer), y }, { threads: 4 });
  assert.equal([...(await y.read())], [1, 2, 3, 4]);
});

test('launches over one texture run in the order in which they were recorded', async () => {
  const gpu = await testGpu();
  const picture = texture(gpu, [3, 1]);
  const results: Tensor[] = [];
  for (let i = 0; i < 4; i++) {
    toTexture(tensor(gpu, [i, 2 * i, 3 * i]), picture);
    results.push(fromTexture(gpu, picture));
    toTexture(tensor(gpu, [-1, -1, -1]), picture);
  }
  assert.equal(
    await Promise.all(results.map(async (y) => [...(await y.read())])),
    [0, 1, 2, 3].map((i) => [i, 2 * i, 3 * i]),
  );
});

test('a captured step keeps the texture, reads what is in it at each call, and makes its bind groups once', async () => {
  const gpu = await testGpu();
  const { device } = gpu;
  const [input, output] = [texture(gpu, [2, 1], { usage: sampled | copyTarget }), texture(gpu, [2, 1])];
  let made = 0;
  const { createBindGroup } = device;
  device.createBindGroup = (...args) => {
    made++;
    return createBindGroup.apply(device, args);
  };
  const step = capture(gpu, () => {
    const y = mul(fromTexture(gpu, input), 2);
    toTexture(y, output);
    return { y };
  });
  try {
    for (const value of [1, 2, 3]) {
      device.queue.writeTexture({ texture: input }, Float32Array.of(value, -value), { bytesPerRow: 8 }, [2, 1]);
      const before = made;
      const { y } = step();
      assert.equal([...(await y.read())], [2 * value, -2 * value]);
      if (value > 1) assert.is(made, before);
      assert.equal([...(await fromTexture(gpu, output).read())], [2 * value, -2 * value]);
    }
    assert.is(step.info.externalBytes, 16, 'two textures of two texels');
  } finally {
    device.createBindGroup = createBindGroup;
  }
  input.destroy();
  await refuses(() => step().y.read(), GpuError, /estroyed/);
});

test('a texture counts in a profile by the bytes of its texels', async () => {
  const gpu = await testGpu();
  const picture = texture(gpu, [5, 3], { format: 'rgba16float', usage: sampled });
  const step = capture(gpu, () => fromTexture(gpu, picture));
  const [launch] = step.launches();
  assert.equal(
    launch!.args.map(({ bytes, dtype }) => [bytes, dtype]),
    [
      [60, 'f32'],
      [120, 'rgba16float'],
    ],
  );
  assert.is((await step.profile())[0]!.bytes, 180);
});

test('textures of any format share a kernel: only the text tells them apart', async () => {
  const gpu = await testGpu();
  const read = (format: GPUTextureFormat) => fromTexture(gpu, texture(gpu, [1, 1], { format, usage: sampled })).read();
  await read('r32float');
  const before = kernelCount(gpu);
  assert.equal(
    [...(await read('rgba8unorm')), ...(await read('depth24plus')), ...(await read('bgra8unorm'))],
    [0, 0, 0],
  );
  assert.is(kernelCount(gpu), before);
});

test('a gradient refuses a texture that was stored to after its op; a custom op reads one', async () => {
  const gpu = await testGpu();
  const picture = texture(gpu, [2, 1]);
  toTexture(tensor(gpu, [3, 4]), picture);
  const x = tensor(gpu, [1, 1], undefined, { requiresGrad: true });
  const source = `
    @group(0) @binding(0) var<storage, read> x: array<f32>;
    @group(0) @binding(1) var picture: texture_2d<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    ${perElement('weighted', 'x', 'y[i] = x[i] * textureLoad(picture, vec2u(i, 0), 0).x;')}`;
  const weighted = (a: Tensor): Tensor => {
    const y = empty(gpu, a.shape);
    run(source, { x: a, picture: bindable(gpu, picture), y }, { threads: a.size });
    return y;
  };
  const op = (): Tensor => record('weighted', weighted(x), [x], (dy) => [weighted(dy)]);
  assert.equal([...(await backward(sum(op())).get(x)!.read())], [3, 4]);
  const late = sum(op());
  toTexture(tensor(gpu, [0, 0]), picture);
  await refuses(() => backward(late), GpuError, /'picture' was changed by store after weighted/);
});

test('what does not fit a binding is refused where it is bound', async () => {
  const gpu = await testGpu();
  const { device } = gpu;
  const y = tensor(gpu, [0]);
  const sampler = bindable(gpu, device.createSampler());
  const of = (rest: Partial<GPUTextureDescriptor>, size = [1, 1]) => bindable(gpu, texture(gpu, size, rest));
  const refused = (source: string, picture: unknown, message: RegExp) =>
    refuses(() => run(source, { picture, y } as never, { threads: 1 }), GpuError, message);
  const declares = (declaration: string, body = '') => `
    @group(0) @binding(0) var${declaration};
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(1) fn sample() { y[0] = 1.0; ${body} }`;
  const ofStore = declares(' picture: texture_storage_2d<rgba8unorm, write>');
  await refused(load, of({ usage: stored }), /'picture' has usage 0x8 — expected TEXTURE_BINDING \(0x4\)/);
  await refused(ofStore, of({ usage: sampled }), /'picture' has usage 0x4 — expected STORAGE_BINDING \(0x8\)/);
  await refused(ofStore, of({}), /'picture' is r32float — the shader declares texture_storage_2d<rgba8unorm,write>/);
  await refused(load, of({ format: 'r32uint' }), /'picture' is r32uint — the shader declares texture_2d<f32>/);
  await refused(load, of({}, [1, 1, 2]), /is a 2d texture with 2 layers — the shader declares texture_2d<f32>/);
  await refused(load, of({ dimension: '3d' }), /is a 3d texture/);
  await refused(load, of({ sampleCount: 4, usage: sampled | 0x10 }), /has 4 samples a texel/);
  await refused(load, sampler, /'picture' is a sampler — the shader declares texture_2d<f32>/);
  await refused(
    load,
    tensor(gpu, [1]),
    /'picture' is a tensor or numbers — the shader declares texture_2d<f32>. Pass what bindable\(gpu, …\) gives/,
  );
  await refused(load, [1], /'picture' is a tensor or numbers/);
  const buffers = declares('<storage, read> picture: array<f32>');
  await refused(buffers, of({}), /'picture' is a texture — the shader declares a storage buffer/);
  await refused(buffers, sampler, /'picture' is a sampler — the shader declares a storage buffer/);
  await refused(
    declares('<uniform> picture: vec4f'),
    of({}),
    /'picture' is a texture — the shader declares var<uniform> vec4f/,
  );
  const four = bindable(gpu, device.createBuffer({ size: 4, usage: uniform }));
  await refused(
    declares('<uniform> picture: vec4f'),
    four,
    /'picture' is \[4\], 4 bytes — the shader's type needs at least 16/,
  );
  await refused(load, four, /'picture' is a uniform buffer — the shader declares texture_2d/);
  await refused(declares(' picture: texture_external'), of({}), /'picture' is texture_external, which no launch binds/);
  await refused(
    declares(' picture: texture_storage_2d<r8unorm, read>'),
    of({}),
    /no storage texture of r8unorm that is read-only/,
  );
  const twice = `
    @group(0) @binding(0) var picture: texture_2d<f32>;
    @group(0) @binding(1) var out: texture_storage_2d<r32float, write>;
    @compute @workgroup_size(1) fn twice() { textureStore(out, vec2u(0), textureLoad(picture, vec2u(0), 0)); }`;
  const both = of({});
  await refuses(
    () => run(twice, { picture: both, out: both }, { threads: 1 }),
    GpuError,
    /bound twice, as 'picture' and 'out'/,
  );
  const filtered = `
    @group(0) @binding(0) var picture: texture_2d<f32>;
    @group(0) @binding(1) var s: sampler;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(1) fn filtered() { y[0] = textureSampleLevel(picture, s, vec2f(0), 0.0).x; }`;
  const filter = () => run(filtered, { picture: of({}), s: sampler, y }, { threads: 1 });
  if (!gpu.features.has('float32-filterable'))
    await refuses(filter, GpuError, /is r32float, which this device does not filter/);
  const many = Array.from({ length: 40 }, (_, i) => [`s${i}`, sampler] as const);
  const text = many.map(([name], i) => `@group(0) @binding(${i}) var ${name}: sampler;`).join('\n');
  await refuses(
    () => run(`${text} @compute @workgroup_size(1) fn many() {}`, Object.fromEntries(many), { threads: 1 }),
    GpuError,
    /many: binds 40 of a kind; this GPU has maxSamplersPerShaderStage/,
  );
  assert.equal([...(await y.read())], [0]);
});

test('bindable refuses what it cannot bind', async () => {
  const gpu = await testGpu();
  const { device } = gpu;
  const refused = (given: unknown, message: RegExp) =>
    refuses(() => bindable(gpu, given as GPUBuffer), GpuError, message);
  await refused(texture(gpu, [1, 1]).createView(), /not a view of one/);
  await refused(tensor(gpu, [1]), /expected a GPUTexture/);
  await refused(undefined, /bindable: got undefined/);
  await refused(texture(gpu, [1, 1], { usage: copyTarget }), /'picture' has usage 0x2 — expected TEXTURE_BINDING/);
  await refused(device.createBuffer({ size: 16, usage: 0x80 }), /expected UNIFORM \(0x40\)/);
  await refused(device.createBuffer({ size: 16, usage: uniform, mappedAtCreation: true }), /is mapped. Call unmap/);
  const buffer = device.createBuffer({ size: 512, usage: uniform });
  await refused({ buffer, offset: 4 }, /16|508 bytes from byte 4 on .* multiple of/);
  await refused({ buffer, offset: 256, size: 512 }, /512 bytes from byte 256 on of 'buffer', which has 512/);
});

test('a texture of another device, or a destroyed one, is an error of the launch alone', async () => {
  const gpu = await testGpu();
  const other = await openDevice({ quiet: true });
  try {
    const foreign = fromTexture(gpu, texture(other, [1, 1]));
    await refuses(() => foreign.read(), GpuError, /bindable: 'picture' is no texture that this device can use now/);
    await refuses(() => add(foreign, 1).read(), GpuError, /'picture'/);
    const gone = texture(gpu, [1, 1]);
    gone.destroy();
    toTexture(tensor(gpu, [1]), gone);
    flush(gpu);
    await refuses(() => gpu.settled(), GpuError, /bindable: 'picture' is no texture that this device can use now/);
    const sampler = bindable(gpu, other.device.createSampler({ label: 'theirs' }));
    const y = empty(gpu, [1]);
    const text = `
      @group(0) @binding(0) var s: sampler;
      @group(0) @binding(1) var<storage, read_write> y: array<f32>;
      @compute @workgroup_size(1) fn touch() { y[0] = 1.0; }`;
    run(text, { s: sampler, y }, { threads: 1 });
    await refuses(() => y.read(), GpuError, /touch: .*Sampler.*cannot be used with/);
    assert.equal([...(await mul(tensor(gpu, [2]), 2).read())], [4]);
    await gpu.settled();
  } finally {
    other.close();
  }
});

test.run();
