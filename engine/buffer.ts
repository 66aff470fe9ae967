// Tensors over the embedder's own GPUBuffers, and the GPUBuffers of tensors: both without a copy. All tensors over one
// buffer share one storage, so that the engine sees when a launch would read and write the same one.
import { checkOptions } from './arguments.js';
import { expectGpu, type Gpu, GpuError, type Outcome } from './device.js';
import { checkDtype } from './elements.js';
import { checkContents, renew } from './fate.js';
import { Storage } from './memory.js';
import { checkShape, type Shape, ShapeError, show } from './shape.js';
import { flush } from './stream.js';
import { bytesOf, type Dtype, Tensor } from './tensor.js';

/** The place of a tensor in a buffer; it serves as a bind group entry's `resource` as it is. */
export interface BufferRange {
  readonly buffer: GPUBuffer;
  /** In bytes. */
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
}

const storages = new WeakMap<Gpu, WeakMap<object, Storage>>();

/** An embedder's object, and one way to bind it. */
export interface Owned {
  /** Who was given it, for errors. */
  readonly op: string;
  readonly object: GPUBuffer | GPUTexture;
  readonly bytes: number;
  readonly label: string;
  readonly entry: Partial<GPUBindGroupLayoutEntry>;
  readonly resource: GPUTextureView | GPUBufferBinding;
}

/** The storage of an embedder's buffer or texture: one for each, so that all launches that use it keep their order. */
export function storageOf(gpu: Gpu, owned: Owned): Storage {
  let known = storages.get(gpu);
  if (!known) storages.set(gpu, (known = new WeakMap()));
  let storage = known.get(owned.object);
  if (!storage) {
    storage = new Storage(owned.bytes, owned.label);
    storage.buffer = owned.object as GPUBuffer; // of a texture: not undefined, or the planner would make one
    storage.external = true;
    known.set(owned.object, storage);
    // If the driver rejects it, its first use reports that.
    storage.probe = probe(gpu, owned);
    renew(gpu, { storage, offset: 0, bytes: storage.bytes }, storage.probe);
  }
  return storage;
}

/** Makes the driver check it at once: binding it shows whether it is this device's, submitting whether it still exists. */
function probe(gpu: Gpu, { op, object, label, entry, resource }: Owned): Outcome {
  const { device } = gpu;
  return gpu.guard(
    () => {
      const layout = device.createBindGroupLayout({ label, entries: [{ binding: 0, visibility: 4, ...entry }] });
      const group = device.createBindGroup({ label, layout, entries: [{ binding: 0, resource }] });
      const encoder = device.createCommandEncoder({ label });
      const pass = encoder.beginComputePass();
      pass.setBindGroup(0, group);
      pass.end();
      device.queue.submit([encoder.finish()]);
    },
    ({ message }) =>
      `${op}: '${label}' is no ${'createView' in object ? 'texture' : 'buffer'} that this device can use now. ${message}`,
  ).outcome;
}

/** Throws a GpuError for a buffer that the CPU has. */
export function checkUnmapped(op: string, buffer: GPUBuffer, label: string): void {
  const { mapState } = buffer;
  if (mapState !== 'unmapped') throw new GpuError(`${op}: '${label}' is ${mapState}. Call unmap() first.`);
}

/**
 * A tensor over an embedder's buffer from byte `offset` on, without a copy. The buffer stays the embedder's: wgrad neither pools
 * nor destroys it, and it must outlive the tensor's use. Work that the embedder submits and the engine's flushes take effect in
 * their order. The buffer needs the usage STORAGE, for `read()` also COPY_SRC, for `write()` COPY_DST; `offset` is a multiple of
 * the device's minStorageBufferOffsetAlignment (256 at most). Elements are as `read()` gives them; u8 takes whole words.
 * Throws a GpuError for another usage, a mapped buffer or one that is too small. If the buffer was destroyed or belongs to another
 * device, reading it or anything computed from it throws.
 * @example
 * const buffer = gpu.device.createBuffer({ size: 16, usage: 0x80 | 0x4 }); // STORAGE | COPY_SRC
 * console.log(await fromBuffer(gpu, buffer, [4]).read()); // [0, 0, 0, 0]
 */
export function fromBuffer<D extends Dtype = 'f32'>(
  gpu: Gpu,
  buffer: GPUBuffer,
  shape: Shape,
  options: { dtype?: D; offset?: number; label?: string; requiresGrad?: boolean } = {},
): Tensor<D> {
  expectGpu('fromBuffer', gpu);
  gpu.check();
  const { dtype = 'f32' as D, offset = 0, label = buffer.label || 'buffer', requiresGrad = false } = options;
  checkOptions('fromBuffer', options, ['dtype', 'offset', 'label', 'requiresGrad']);
  checkDtype('fromBuffer', dtype);
  checkShape('fromBuffer', shape);
  const alignment = gpu.limits.minStorageBufferOffsetAlignment;
  if (!Number.isInteger(offset) || offset < 0 || offset % alignment !== 0) {
    throw new ShapeError(
      `fromBuffer: the offset of '${label}' is ${offset} — expected a multiple of ${alignment} bytes.`,
    );
  }
  if (!(buffer.usage & 0x80)) {
    throw new GpuError(
      `fromBuffer: '${label}' has usage 0x${buffer.usage.toString(16)} — expected STORAGE (0x80) in it. Create it with that usage.`,
    );
  }
  checkUnmapped('fromBuffer', buffer, label);
  const bytes = bytesOf(shape, dtype);
  if (offset + bytes > buffer.size) {
    throw new ShapeError(
      `fromBuffer: ${dtype} ${show(shape)} from byte ${offset} on takes ${bytes} bytes — '${label}' ends at ${buffer.size}.`,
    );
  }
  if (bytes > gpu.limits.maxStorageBufferBindingSize) {
    throw new GpuError(
      `fromBuffer: '${label}' takes ${bytes} bytes, this GPU binds at most ${gpu.limits.maxStorageBufferBindingSize}.`,
    );
  }
  const size = Math.min(buffer.size - (buffer.size % 4), gpu.limits.maxStorageBufferBindingSize);
  const entry = { buffer: { type: 'read-only-storage' } } as const;
  const owned = { op: 'fromBuffer', object: buffer, bytes: buffer.size, label, entry, resource: { buffer, size } };
  const t = new Tensor<D>(gpu, [...shape], dtype, storageOf(gpu, owned));
  t.offset = offset;
  t.requiresGrad = requiresGrad;
  return t;
}

/**
 * The buffer behind a tensor, and the tensor's place in it, to bind or to copy from. First submits what is pending. The buffer
 * stays the engine's (usage STORAGE, COPY_SRC, COPY_DST) and may hold other tensors, too: use that range alone, and never destroy
 * it. The tensor keeps it as long as something refers to the tensor and its scope has not ended; results of a captured step keep
 * theirs for the life of the step. Not inside a captured step. Throws a GpuError for a tensor without contents, and the error of
 * the launch that should have written them, if it is known by now (`await gpu.settled()` first to be sure).
 * @example
 * const { buffer, offset, size } = bufferOf(tensor(gpu, [1, 2])); // a bind group entry's resource
 * console.log(offset, size); // 0 8
 */
export function bufferOf(x: Tensor): BufferRange {
  x.gpu.check();
  flush(x.gpu);
  const { buffer, dead, label } = x.storage;
  if (!buffer || dead) {
    throw new GpuError(
      dead
        ? `bufferOf: '${label}' died with its scope. Return it from the scope to keep it.`
        : `bufferOf: '${label}' was never written by an op.`,
    );
  }
  checkContents(x.gpu, { storage: x.storage, offset: x.offset, bytes: x.bytes });
  return { buffer, offset: x.offset, size: x.bytes };
}
