// Copies between the CPU and tensors, and between tensors outside of launches.
import { noteChange } from './changes.js';
import { type Gpu, GpuError, type Outcome } from './device.js';
import { copyOut } from './diagnose.js';
import { begin, checkContents, renew } from './fate.js';
import type { Bindable } from './launch.js';
import { makingOf } from './memory.js';
import { flush, refuseInStep } from './stream.js';

/**
 * Copies a storage to the CPU, after what is pending. Rejects with the error of the launch that should have written it, or of one
 * that it was computed from.
 */
export async function download(source: Bindable): Promise<ArrayBuffer> {
  const { gpu, storage, offset, bytes } = source;
  refuseInStep(gpu, 'capture: read() inside a captured step. Return the tensor from the step and read it afterwards.');
  gpu.check();
  flush(gpu);
  const { buffer } = storage;
  if (!buffer || storage.dead) {
    throw new GpuError(
      storage.dead
        ? `read: '${storage.label}' died with its scope. Return it from the scope to keep it.`
        : `read: '${storage.label}' was never written by an op.`,
    );
  }
  if (!(buffer.usage & 0x4)) {
    throw new GpuError(`read: the buffer of '${storage.label}' cannot be copied from. Create it with COPY_SRC.`);
  }
  const { value: mapping, outcome } = gpu.guard(
    () => copyOut(gpu, 'read', buffer, offset, bytes),
    (error) => `read: '${storage.label}' cannot be copied. ${error.message}`,
  );
  const result = await mapping.catch((error: Error) => new GpuError(`read: ${error.message}`));
  await gpu.reported();
  checkContents(gpu, source);
  if (outcome.error) throw outcome.error;
  if (result instanceof Error) throw result;
  return result;
}

/** Copies CPU data into a storage, after what is pending. This ends whatever was wrong with its contents. */
export function upload(target: Bindable, data: ArrayBufferView<ArrayBuffer>): void {
  const { gpu, storage, offset } = target;
  if (storage.dead)
    throw new GpuError(`write: '${storage.label}' died with its scope. Return it from the scope to keep it.`);
  if (!storage.buffer)
    throw new GpuError(`write: '${storage.label}' is the output of an op. Write to tensors made with tensor().`);
  const { buffer } = storage;
  if (!(buffer.usage & 0x8)) {
    throw new GpuError(`write: the buffer of '${storage.label}' cannot be copied to. Create it with COPY_DST.`);
  }
  gpu.check();
  const making = storage.probe?.error ? storage.probe : makingOf(buffer);
  if (making?.error) throw making.error;
  const write = (): void => gpu.device.queue.writeBuffer(buffer, offset, data.buffer, data.byteOffset, data.byteLength);
  noteChange(target, 'write()');
  if (making || storage.external) renew(gpu, target, explained(gpu, write, storage.label, making));
  else {
    write(); // a write within an existing buffer cannot fail
    renew(gpu, target);
  }
}

/** Runs a copy in error scopes; if one of its buffers could not be made, reports that error. */
function explained(gpu: Gpu, work: () => void, label: string, making: Outcome | undefined): Outcome {
  return gpu.guard(work, async ({ message }) => {
    await making?.done;
    return making?.error?.message ?? `write: '${label}' cannot be written. ${message}`;
  }).outcome;
}

/** Copies a browser's picture into a storage that has a buffer, as RGBA bytes in rows of `pitch` bytes, after what is pending. */
export function uploadImage(
  target: Bindable,
  source: GPUCopyExternalImageSource,
  size: [width: number, height: number],
  pitch: number,
): void {
  const { gpu, storage, offset } = target;
  const { device } = gpu;
  const copy = (): void => {
    const usage = 0x1 | 0x2 | 0x10; // COPY_SRC | COPY_DST | RENDER_ATTACHMENT
    const texture = device.createTexture({ label: 'image', size, format: 'rgba8unorm', usage });
    try {
      device.queue.copyExternalImageToTexture({ source }, { texture, premultipliedAlpha: false }, size);
    } catch (error) {
      throw new GpuError(`fromImage: the browser gives no pixels. ${(error as Error).message}`);
    }
    const encoder = device.createCommandEncoder();
    encoder.copyTextureToBuffer({ texture }, { buffer: storage.buffer!, offset, bytesPerRow: pitch }, size);
    device.queue.submit([encoder.finish()]);
    texture.destroy();
  };
  noteChange(target, 'fromImage');
  renew(gpu, target, explained(gpu, copy, storage.label, makingOf(storage.buffer!)));
}

/** Copies whole tensors that have buffers, each to another one of its size, after what is pending. */
export function copyTensors(gpu: Gpu, pairs: readonly { from: Bindable; to: Bindable }[]): void {
  flush(gpu);
  const making = pairs.flatMap(({ from, to }) => [makingOf(from.storage.buffer!), makingOf(to.storage.buffer!)]);
  const copy = (): void => {
    const encoder = gpu.device.createCommandEncoder();
    for (const { from, to } of pairs) {
      encoder.copyBufferToBuffer(from.storage.buffer!, from.offset, to.storage.buffer!, to.offset, from.bytes);
    }
    gpu.device.queue.submit([encoder.finish()]);
  };
  const { outcome } = gpu.guard(copy, async ({ message }) => {
    await Promise.all(making.map((each) => each?.done));
    return making.find((each) => each?.error)?.error?.message ?? `pack: ${message}`;
  });
  begin(
    gpu,
    {
      reads: pairs.map(({ from }) => from),
      writes: [...new Set(pairs.map(({ to }) => to.storage))].map((storage) => ({ storage, fresh: true })),
    },
    outcome,
  );
}
