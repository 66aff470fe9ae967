// Diagnosis of launches: how long each takes, which is the first to write a NaN or an infinity, and checks of watched tensors.
import { checkFiniteShader } from '../shaders/check-finite.js';
import { type Gpu, GpuError } from './device.js';
import { kernel, pipelineOf } from './kernel.js';
import { type Bindable, dispatch, type Launch, watched, writtenBy } from './launch.js';
import type { Storage } from './memory.js';
import type { LaunchTime } from './profile.js';

/**
 * Runs launches one by one and checks what each wrote. Resolves with a sentence naming the first op whose output holds a
 * NaN or an infinity, or undefined.
 */
export async function findNonFinite(gpu: Gpu, launches: readonly Launch[]): Promise<string | undefined> {
  const stride = 256; // minStorageBufferOffsetAlignment
  const device = gpu.device;
  const outputs = launches.flatMap((launch, index) =>
    launch.kernel.bindings.flatMap((binding, i) => {
      const tensor = launch.args[i]!;
      return binding.writes && /^f(16|32)$/.test(tensor.dtype) ? [{ launch, index, name: binding.name, tensor }] : [];
    }),
  );
  const bytes = Math.max(1, outputs.length) * stride;
  const found = device.createBuffer({ label: 'check_finite', size: bytes, usage: 0x80 | 0x4 });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  let next = 0;
  launches.forEach((launch, index) => {
    dispatch(gpu, pass, launch);
    for (; outputs[next]?.index === index; next++) {
      const { tensor } = outputs[next]!;
      const check = kernel(gpu, checkFiniteShader(tensor.dtype as 'f32' | 'f16'));
      pass.setPipeline(pipelineOf(gpu, check));
      pass.setBindGroup(
        0,
        device.createBindGroup({
          layout: check.layout,
          entries: [
            { binding: 0, resource: { buffer: tensor.storage.buffer!, offset: tensor.offset, size: tensor.bytes } },
            { binding: 1, resource: { buffer: found, offset: next * stride, size: 4 } },
          ],
        }),
      );
      pass.dispatchWorkgroups(Math.min(64, Math.ceil(tensor.bytes / 4 / check.workgroupSize)));
    }
  });
  pass.end();
  const marks = new Uint32Array(await copyOut(gpu, 'check_finite', found, 0, bytes, encoder));
  found.destroy();
  const bad = outputs.find((_, i) => marks[(i * stride) / 4]);
  if (!bad) return undefined;
  const inputs = bad.launch.args
    .filter((_, i) => !bad.launch.kernel.bindings[i]!.writes)
    .map((a) => `${a.storage.label} [${a.shape}]`);
  return (
    `${bad.launch.kernel.label}: launch ${bad.index} of ${launches.length} wrote a NaN or an infinity to '${bad.name}' ` +
    `[${bad.tensor.shape}]. Its inputs: ${inputs.join(', ') || 'none'}.`
  );
}

/** Submits `encoder` and copies bytes of a buffer to the CPU, as they are when it has run. */
export async function copyOut(
  gpu: Gpu,
  label: string,
  buffer: GPUBuffer,
  offset: number,
  bytes: number,
  encoder = gpu.device.createCommandEncoder(),
): Promise<ArrayBuffer> {
  const staging = gpu.device.createBuffer({ label, size: bytes, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
  encoder.copyBufferToBuffer(buffer, offset, staging, 0, bytes);
  gpu.device.queue.submit([encoder.finish()]);
  try {
    await gpu.wait(staging.mapAsync(1, 0, bytes)); // GPUMapMode.READ
    return staging.getMappedRange(0, bytes).slice(0);
  } finally {
    staging.destroy();
  }
}

/** Times every launch by timestamps, each in its own pass. Needs the feature `timestamp-query`. */
export async function timeLaunches(gpu: Gpu, launches: readonly Launch[]): Promise<LaunchTime[]> {
  if (!gpu.features.has('timestamp-query')) throw new GpuError('profile: this adapter has no timestamps.');
  const times: LaunchTime[] = [];
  const most = 2048; // a query set holds 4096 timestamps
  for (let from = 0; from < launches.length; from += most) {
    const chunk = launches.slice(from, from + most);
    times.push(...(await watched(gpu, chunk, () => timeChunk(gpu, chunk))));
  }
  return times;
}

async function timeChunk(gpu: Gpu, chunk: readonly Launch[]): Promise<LaunchTime[]> {
  const { device } = gpu;
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 * chunk.length });
  const resolved = device.createBuffer({ size: 16 * chunk.length, usage: 0x200 | 0x4 }); // QUERY_RESOLVE | COPY_SRC
  const encoder = device.createCommandEncoder();
  chunk.forEach((launch, i) => {
    const pass = encoder.beginComputePass({
      timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
    });
    dispatch(gpu, pass, launch);
    pass.end();
  });
  encoder.resolveQuerySet(querySet, 0, 2 * chunk.length, resolved, 0);
  const ticks = new BigUint64Array(await copyOut(gpu, 'profile', resolved, 0, resolved.size, encoder));
  resolved.destroy();
  querySet.destroy();
  return chunk.map((launch, i) => ({
    label: launch.kernel.label,
    ms: Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1e6,
    bytes: launch.args.reduce((sum, arg) => sum + arg.bytes, 0),
    shapes: launch.args.map((arg) => `[${arg.shape}]`).join(' '),
  }));
}

const judges = new WeakMap<Storage, (bytes: ArrayBuffer) => string | undefined>();

/** Calls `judge` with the contents of a tensor, which must have its own buffer, when a launch has written them. Its sentence is an error. */
export function watch({ storage }: Bindable, judge: (bytes: ArrayBuffer) => string | undefined): void {
  judges.set(storage, judge);
}

/** The first sentence that a judge returns for the watched tensors that these launches wrote. */
export async function judgeWatched(gpu: Gpu, launches: readonly Launch[]): Promise<string | undefined> {
  const written = launches.flatMap(writtenBy);
  const judged = [...new Set(written.map((arg) => arg.storage))].map(async (storage) => {
    const judge = judges.get(storage);
    if (!judge) return undefined;
    return judge(await copyOut(gpu, storage.label, storage.buffer!, 0, storage.bytes));
  });
  return (await Promise.all(judged)).find((sentence) => sentence);
}
