// What a launch binds besides tensors: an embedder's textures, samplers and uniform buffers, which is how it shares pictures and
// constants with a renderer. The layout is read off the shader's text alone, so that a kernel is known by its text here, too.
import { showValue } from './arguments.js';
import { checkUnmapped, storageOf } from './buffer.js';
import { expectGpu, type Gpu, GpuError } from './device.js';
import type { Binding } from './kernel.js';
import type { Bindable } from './launch.js';
import { Storage } from './memory.js';
import { WgslSizes } from './wgsl-sizes.js';

type Entry = Partial<GPUBindGroupLayoutEntry>;
type Access = GPUStorageTextureAccess;

const TEXTURE_BINDING = 0x4;
const STORAGE_BINDING = 0x8;
const UNIFORM = 0x40;

/** Formats of storage textures, without optional features; those of the second list may be read and written by one launch. */
const storable = /^(?:rgba(?:8(?:unorm|snorm|uint|sint)|16(?:uint|sint|float))|(?:r|rg|rgba)32(?:uint|sint|float))$/;
const updatable = /^r32(?:uint|sint|float)$/;

/** Whether a device has storage textures of a format with this access. */
const stores = ({ features }: Gpu, format: string, access: Access): boolean =>
  (access === 'read-write' ? updatable : storable).test(format) ||
  (format === 'bgra8unorm' && access === 'write-only' && features.has('bgra8unorm-storage')) ||
  features.has(access === 'read-write' ? 'texture-formats-tier2' : 'texture-formats-tier1');

/** What WGSL calls the numbers of a format; a depth is an f32. */
const numbersOf = (format: string): 'uint' | 'sint' | 'float' =>
  /uint|^stencil/.test(format) ? 'uint' : format.includes('sint') ? 'sint' : 'float';

/** Bytes of a texel; 0 where the format has no such number (compressed, depth, stencil). */
function texelBytes(format: string): number {
  const plain = /^(r|rg|rgba|bgra)(8|16|32)(?!\w*-block)/.exec(format);
  if (plain) return (plain[1]!.length * Number(plain[2])) / 8;
  return /^(?:rgb10a2|rg11b10|rgb9e5)/.test(format) ? 4 : 0;
}

/** Whether every use of a texture loads or measures it, so that nothing needs to be filtered. */
function onlyLoads(text: string, name: string): boolean {
  const count = (pattern: string): number => text.match(new RegExp(pattern, 'g'))?.length ?? 0;
  return count(`\\btexture(?:Load|Dimensions|Num\\w+)\\s*\\(\\s*${name}\\b`) === count(`\\b${name}\\b(?!\\s*:)`);
}

/** The layout's part for a type of WGSL; undefined for a type that no launch binds. */
function entryOf(type: string, loads: boolean): Entry | undefined {
  if (/^sampler(?:_comparison)?$/.test(type))
    return { sampler: { type: type === 'sampler' ? 'filtering' : 'comparison' } };
  const [, kind = '', dimension, parameters = ''] =
    /^texture_(storage_|multisampled_|depth_|depth_multisampled_)?([123]d|2d_array|cube|cube_array)(?:<(.+)>)?$/.exec(
      type,
    ) ?? [];
  if (!dimension) return undefined;
  const viewDimension = dimension.replace('_', '-') as GPUTextureViewDimension;
  if (kind === 'storage_') {
    const [format, written] = parameters.split(',');
    const access = ({ write: 'write-only', read: 'read-only', read_write: 'read-write' } as const)[written!];
    return access && { storageTexture: { format: format as GPUTextureFormat, access, viewDimension } };
  }
  const multisampled = kind.includes('multisampled');
  const numbers = ({ f32: 'float', u32: 'uint', i32: 'sint' } as const)[parameters];
  const float = loads || multisampled ? 'unfilterable-float' : 'float';
  const sampleType = kind.startsWith('depth') ? 'depth' : numbers === 'float' ? float : numbers;
  return sampleType && { texture: { sampleType, viewDimension, multisampled } };
}

/** How many of a kind one launch binds. */
const limits = {
  texture: 'maxSampledTexturesPerShaderStage',
  storageTexture: 'maxStorageTexturesPerShaderStage',
  sampler: 'maxSamplersPerShaderStage',
  buffer: 'maxUniformBuffersPerShaderStage',
} as const;

function readOthers(gpu: Gpu, label: string, text: string): Binding[] {
  const sizes = new WgslSizes(text);
  const declared = text.matchAll(
    /@group\((\d+)\)\s*@binding\((\d+)\)\s*var\s*(<\s*uniform\s*>)?\s*(\w+)\s*:\s*([^;]+);/g,
  );
  const bindings = [...declared].map(([, group, index, uniform, name, written]) => {
    if (group !== '0')
      throw new GpuError(`${label}: binding '${name}' is in group ${group}; kernels use group 0 only.`);
    const type = written!.replace(/\s+/g, '').replace(/,>$/, '>');
    const entry: Entry | undefined = uniform ? { buffer: { type: 'uniform' } } : entryOf(type, onlyLoads(text, name!));
    if (!entry)
      throw new GpuError(`${label}: '${name}' is ${type}, which no launch binds — expected a texture or a sampler.`);
    const { format, access } = entry.storageTexture ?? {};
    if (format && !stores(gpu, format, access!)) {
      throw new GpuError(
        `${label}: '${name}' is ${type} — this device has no storage texture of ${format} that is ${access}. Use r32float or rgba8unorm.`,
      );
    }
    return {
      name: name!,
      index: Number(index),
      writes: access !== undefined && access !== 'read-only',
      element: undefined,
      onlyStores: access === 'write-only',
      leastBytes: uniform ? (sizes.leastBytes(name!) ?? 0) : 0,
      other: { type: uniform ? `var<uniform> ${type}` : type, entry, misfit: tensorMisfit },
    };
  });
  for (const [kind, name] of Object.entries(limits)) {
    const count = bindings.filter(({ other }) => kind in other.entry).length;
    if (count > gpu.limits[name]!)
      throw new GpuError(`${label}: binds ${count} of a kind; this GPU has ${name} ${gpu.limits[name]}.`);
  }
  return bindings;
}

/** What a shader declares, in words. */
const declaredAs = ({ other }: Binding): string => `the shader declares ${other?.type ?? 'a storage buffer'}`;

/** Why a binding of another kind takes no tensor. */
const tensorMisfit = (binding: Binding): string =>
  `is a tensor or numbers — ${declaredAs(binding)}. Pass what bindable(gpu, …) gives, or declare it var<storage, read>`;

/** Why a binding does not take this texture. */
function textureMisfit({ features }: Gpu, texture: GPUTexture, binding: Binding): string | undefined {
  const { format, usage, dimension, depthOrArrayLayers: layers, sampleCount } = texture;
  const { texture: sampled, storageTexture: stored } = binding.other?.entry ?? {};
  const as = declaredAs(binding);
  if (!sampled && !stored)
    return `is a texture — ${as}. Declare it as texture_2d<f32> or texture_storage_2d<${format}, write>`;
  const [flag, name] = sampled ? [TEXTURE_BINDING, 'TEXTURE_BINDING'] : [STORAGE_BINDING, 'STORAGE_BINDING'];
  if (!(usage & flag)) {
    return `has usage 0x${usage.toString(16)} — expected ${name} (0x${flag}) in it. Create the texture with that usage`;
  }
  const view = (sampled ?? stored)!.viewDimension!;
  const wanted = view === '1d' || view === '3d' ? view : '2d';
  if (wanted !== dimension || (view === '2d' && layers !== 1)) {
    return `is a ${dimension} texture with ${layers} layers — ${as}. Declare it as what it is (an array: texture_2d_array)`;
  }
  if (sampled && sampled.multisampled !== sampleCount > 1) return `has ${sampleCount} samples a texel — ${as}`;
  if (stored) return stored.format === format ? undefined : `is ${format} — ${as}. Name the texture's own format there`;
  const { sampleType } = sampled!;
  const depth = format.startsWith('depth');
  const fits =
    sampleType === 'depth'
      ? depth
      : sampleType!.endsWith('float')
        ? numbersOf(format) === 'float'
        : sampleType === numbersOf(format);
  if (!fits)
    return `is ${format} — ${as}, which reads other numbers. Declare <u32> for …uint, <i32> for …sint, else <f32>`;
  if (sampleType === 'float' && (depth || (format.endsWith('32float') && !features.has('float32-filterable')))) {
    return `is ${format}, which this device does not filter. Read it by textureLoad alone, called on '${binding.name}' itself`;
  }
  return undefined;
}

function viewOf(texture: GPUTexture, { texture: sampled, storageTexture: stored }: Entry): GPUTextureView {
  return texture.createView({
    dimension: (sampled ?? stored)!.viewDimension!,
    ...(stored && { mipLevelCount: 1 }),
    ...(texture.format.startsWith('depth') && { aspect: 'depth-only' }),
  });
}

function ofTexture(gpu: Gpu, texture: GPUTexture): Bindable {
  const { format, usage, width, height, depthOrArrayLayers: layers, dimension, sampleCount } = texture;
  const label = texture.label || 'texture';
  if (!(usage & (TEXTURE_BINDING | STORAGE_BINDING))) {
    throw new GpuError(
      `bindable: '${label}' has usage 0x${usage.toString(16)} — expected TEXTURE_BINDING (0x4), to read it, or STORAGE_BINDING (0x8) in it. Create it with that usage.`,
    );
  }
  const viewDimension = dimension === '2d' && layers > 1 ? '2d-array' : dimension;
  const multisampled = sampleCount > 1;
  const numbers = numbersOf(format);
  const sampleType = numbers === 'float' ? 'unfilterable-float' : numbers;
  const entry: Entry =
    usage & TEXTURE_BINDING
      ? { texture: { sampleType, viewDimension, multisampled } }
      : { storageTexture: { format, access: 'write-only', viewDimension } };
  const bytes = texelBytes(format) * width * height * layers * sampleCount;
  const resource = viewOf(texture, entry);
  const storage = storageOf(gpu, { op: 'bindable', object: texture, bytes, label, entry, resource });
  return {
    ...{ gpu, storage, offset: 0, bytes, dtype: format },
    shape: layers > 1 ? [layers, height, width] : [height, width],
    external: {
      readOthers,
      resource: ({ other }) => viewOf(texture, other!.entry),
      misfit: (binding) => textureMisfit(gpu, texture, binding),
    },
  };
}

function ofSampler(gpu: Gpu, sampler: GPUSampler): Bindable {
  const storage = new Storage(0, sampler.label || 'sampler');
  storage.buffer = sampler as unknown as GPUBuffer; // not undefined, or the planner would make one
  storage.external = true;
  const misfit = (binding: Binding): string | undefined =>
    binding.other?.entry.sampler
      ? undefined
      : `is a sampler — ${declaredAs(binding)}. Pass it where the shader declares a sampler`;
  return {
    gpu,
    storage,
    offset: 0,
    bytes: 0,
    dtype: 'sampler',
    shape: [],
    external: { readOthers, resource: () => sampler, misfit },
  };
}

function ofUniform(gpu: Gpu, { buffer, offset = 0, size = buffer.size - offset }: GPUBufferBinding): Bindable {
  const label = buffer.label || 'buffer';
  if (!(buffer.usage & UNIFORM)) {
    throw new GpuError(
      `bindable: '${label}' has usage 0x${buffer.usage.toString(16)} — expected UNIFORM (0x40) in it. Create it with that usage; a storage buffer becomes a tensor by fromBuffer().`,
    );
  }
  checkUnmapped('bindable', buffer, label);
  const { minUniformBufferOffsetAlignment: alignment, maxUniformBufferBindingSize: most } = gpu.limits;
  if (offset % alignment !== 0 || !(offset >= 0 && size > 0 && size <= most && offset + size <= buffer.size)) {
    throw new GpuError(
      `bindable: ${size} bytes from byte ${offset} on of '${label}', which has ${buffer.size} — expected an offset that is a multiple of ${alignment}, and at most ${most} bytes.`,
    );
  }
  const entry: Entry = { buffer: { type: 'uniform' } };
  const resource = { buffer, offset, size };
  const storage = storageOf(gpu, { op: 'bindable', object: buffer, bytes: buffer.size, label, entry, resource });
  const misfit = (binding: Binding): string | undefined =>
    binding.other?.entry.buffer ? undefined : `is a uniform buffer — ${declaredAs(binding)}. Declare it var<uniform>`;
  return {
    gpu,
    storage,
    offset,
    bytes: size,
    dtype: 'uniform',
    shape: [size],
    external: { readOthers, resource: () => resource, misfit },
  };
}

/**
 * An embedder's texture, sampler or uniform buffer (a part of it: `{ buffer, offset, size }` in bytes), for `run` to bind by the name
 * of its declaration. A texture that a shader loads or samples needs the usage TEXTURE_BINDING, one that it stores to STORAGE_BINDING;
 * a storage texture is bound at its first mip level, others with all levels, and `texture_2d` takes no array. The resource stays the
 * embedder's and must outlive its use. What the embedder submits and the engine's flushes take effect in their order: call `flush`
 * before you change what a recorded launch reads, or draw what it writes. A captured step keeps the resource it was recorded with and
 * finds what is in it at each call; where the texture is another one at every call (a canvas), store to it outside of the step.
 *
 * Throws a GpuError for another usage; `run` throws one where the shader declares another kind, format or dimension. If the resource
 * was destroyed or belongs to another device, reading what is computed from it throws, and `await gpu.settled()` where nothing is.
 * @example
 * const pixel = gpu.device.createTexture({ size: [1, 1], format: 'r32float', usage: 0x8 }); // STORAGE_BINDING
 * const text = `@group(0) @binding(0) var<storage, read> x: array<f32>;
 *   @group(0) @binding(1) var pixel: texture_storage_2d<r32float, write>;
 *   @compute @workgroup_size(1) fn show() { textureStore(pixel, vec2u(0), vec4f(x[0])); }`;
 * run(text, { x: tensor(gpu, [0.5]), pixel: bindable(gpu, pixel) }, { workgroups: [1] });
 * flush(gpu); // from now on the renderer sees it
 */
export function bindable(gpu: Gpu, resource: GPUTexture | GPUSampler | GPUBuffer | GPUBufferBinding): Bindable {
  expectGpu('bindable', gpu);
  gpu.check();
  if (typeof resource === 'object' && resource !== null) {
    if ('createView' in resource) return ofTexture(gpu, resource);
    if ('mapState' in resource) return ofUniform(gpu, { buffer: resource });
    if ('buffer' in resource) return ofUniform(gpu, resource);
    if (Object.prototype.toString.call(resource) === '[object GPUSampler]') return ofSampler(gpu, resource);
  }
  throw new GpuError(
    `bindable: got ${showValue(resource)} — expected a GPUTexture (not a view of one), a GPUSampler or a GPUBuffer with the usage UNIFORM.`,
  );
}
