// The recording. Ops append launches over storages that may not have a buffer yet; `flush` plans, encodes and submits
// them: the only encoder and the only submit of the engine. A scope owns what is created in it.

import { checkFiniteShader } from '../shaders/check-finite.js';
import { type Gpu, GpuError } from './device.js';
import { type Binding, compileAll, type Kernel, kernel, pipelineOf } from './kernel.js';
import { acquire, type Plan, plan, release, type Storage } from './memory.js';
import type { LaunchTime } from './profile.js';

/** What a launch binds: a tensor is a shape over a storage. */
export interface Bindable {
  readonly gpu: Gpu;
  readonly storage: Storage;
  /** Where it begins in its storage, and how long it is: tensors that were packed share a storage. */
  readonly offset: number;
  readonly bytes: number;
  readonly shape: readonly number[];
  readonly dtype: string;
}

export interface Launch {
  readonly kernel: Kernel;
  /** In the order of `kernel.bindings`. */
  readonly args: readonly Bindable[];
  readonly workgroups: readonly [number, number, number];
  bindGroup: GPUBindGroup | undefined;
  /** Where the op was called (WGRAD_SYNC=1). */
  readonly stack: string | undefined;
}

/** What was created since `open`; it dies with the scope unless it is returned. */
export interface Scope {
  readonly created: Set<Storage>;
}

interface Stream {
  pending: Launch[];
  scopes: Scope[];
  /** Storages whose contents wait for a reader. */
  deferred: Set<Storage>;
  /** Storages whose first contents are being recorded: nobody waits for older ones. */
  computing: Set<Storage>;
  /** Buffers of dead storages that pending launches may still use. */
  retiring: GPUBuffer[];
  capturing: boolean;
  /** Told of every kernel that is recorded. */
  onKernel: ((k: Kernel) => void) | undefined;
}

const streams = new WeakMap<Gpu, Stream>();

function streamOf(gpu: Gpu): Stream {
  let stream = streams.get(gpu);
  if (!stream) {
    streams.set(
      gpu,
      (stream = {
        pending: [],
        scopes: [],
        deferred: new Set(),
        computing: new Set(),
        retiring: [],
        capturing: false,
        onKernel: undefined,
      }),
    );
  }
  return stream;
}

/** A grid: one invocation per thread (folded into y beyond 65 535 workgroups), or workgroups as given. */
export type Grid = { threads: number } | { workgroups: readonly number[] };

const maxWorkgroups = 65535;

/**
 * Records one launch of a shader. `args` binds tensors by the names of the shader's `var<storage>` declarations; none
 * may be bound twice if one of the bindings writes. Throws a GpuError that lists both sides when they differ.
 */
export function run(source: string, args: Record<string, Bindable>, grid: Grid): void {
  const first = Object.values(args)[0];
  if (!first) throw new GpuError('run: a launch needs at least one tensor.');
  const { gpu } = first;
  gpu.check();
  const k = kernel(gpu, source);
  streamOf(gpu).onKernel?.(k);
  const names = k.bindings.map(({ name }) => name);
  const got = Object.keys(args);
  if (names.length !== got.length || names.some((name) => !args[name])) {
    throw new GpuError(`${k.label}: the shader binds (${names.join(', ')}); the op passed (${got.join(', ')}).`);
  }
  const ordered = names.map((name) => args[name]!);
  checkArgs(k, ordered);
  ordered.forEach(({ storage }, i) => {
    materialize(storage);
    if (k.bindings[i]!.writes) beforeWrite(gpu, storage);
  });
  streamOf(gpu).pending.push({
    kernel: k,
    args: ordered,
    workgroups: workgroupsOf(k, grid),
    bindGroup: undefined,
    stack: gpu.flags.sync ? new Error('recorded').stack : undefined,
  });
}

/**
 * Leaves the contents of a storage to its first reader. Until then another op may compute them on the way (fusion); whatever
 * binds the storage to a launch, or reads it, has `compute` record the launch that writes all of it. `reads` are what it is
 * computed from: before any of them is overwritten, it is computed. Where one of them is itself deferred, its first contents
 * are what is read, so recording those does not count as overwriting.
 */
export function defer(gpu: Gpu, storage: Storage, reads: readonly Storage[], compute: () => void): void {
  const { deferred, computing } = streamOf(gpu);
  deferred.add(storage);
  storage.deferred = {
    reads,
    materialize: () => {
      deferred.delete(storage);
      storage.deferred = undefined;
      computing.add(storage);
      try {
        compute();
      } finally {
        computing.delete(storage);
      }
    },
  };
}

/** Records what computes a deferred storage; does nothing for others. */
export const materialize = (storage: Storage): void => storage.deferred?.materialize();

/** Records what waits to read the contents that are about to be overwritten. */
function beforeWrite(gpu: Gpu, storage: Storage): void {
  const { deferred, computing } = streamOf(gpu);
  if (computing.has(storage)) return;
  for (const waiting of [...deferred]) {
    if (!waiting.dead && waiting.deferred?.reads.includes(storage)) waiting.deferred.materialize();
  }
}

const overlap = (a: Bindable, b: Bindable): boolean => a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;

function checkArgs({ label, bindings }: Kernel, args: readonly Bindable[]): void {
  const seen = new Map<Storage, { binding: Binding; tensor: Bindable }[]>();
  args.forEach((tensor, i) => {
    const binding = bindings[i]!;
    if (tensor.gpu !== args[0]!.gpu) {
      throw new GpuError(
        `${label}: '${binding.name}' is on another device than '${bindings[0]!.name}'. Copy it over first.`,
      );
    }
    if (tensor.storage.dead) {
      throw new GpuError(`${label}: '${binding.name}' died with its scope. Return it from the scope to keep it.`);
    }
    const sharing = seen.get(tensor.storage) ?? [];
    // Packed tensors may be written side by side; one buffer read and written in one launch is not allowed at all.
    const other = sharing.find(
      ({ binding: b, tensor: t }) => b.writes !== binding.writes || (b.writes && overlap(t, tensor)),
    );
    if (other) {
      throw new GpuError(
        `${label}: one tensor is bound twice, as '${other.binding.name}' and '${binding.name}'. Bind it once, read_write for in place.`,
      );
    }
    seen.set(tensor.storage, [...sharing, { binding, tensor }]);
  });
}

function workgroupsOf(k: Kernel, grid: Grid): [number, number, number] {
  if ('threads' in grid) {
    const groups = Math.ceil(grid.threads / k.workgroupSize);
    const x = Math.min(groups, maxWorkgroups);
    return [x, Math.ceil(groups / x), 1];
  }
  const [x = 1, y = 1, z = 1] = grid.workgroups;
  if (Math.max(x, y, z) > maxWorkgroups) {
    throw new GpuError(`${k.label}: ${x}×${y}×${z} workgroups — at most ${maxWorkgroups} in one direction.`);
  }
  return [x, y, z];
}

/** Registers a new storage with the innermost open scope; false when there is none. */
export function enroll(gpu: Gpu, storage: Storage): boolean {
  const scope = streamOf(gpu).scopes.at(-1);
  scope?.created.add(storage);
  return scope !== undefined;
}

export const isCapturing = (gpu: Gpu): boolean => streamOf(gpu).capturing;

export function openScope(gpu: Gpu): Scope {
  const scope: Scope = { created: new Set() };
  streamOf(gpu).scopes.push(scope);
  return scope;
}

/** Ends a scope: what it created dies, except `kept`, which moves to the enclosing scope. Returns what had none to move to. */
export function closeScope(gpu: Gpu, scope: Scope, kept: ReadonlySet<Storage>): Storage[] {
  const stream = streamOf(gpu);
  for (const storage of kept) materialize(storage); // it may read what dies now
  const index = stream.scopes.indexOf(scope);
  stream.scopes.splice(index, 1);
  const outer = stream.scopes[index - 1];
  const orphans: Storage[] = [];
  for (const storage of scope.created) {
    if (kept.has(storage)) {
      if (outer) outer.created.add(storage);
      else orphans.push(storage);
    } else if (stream.capturing && storage.buffer) {
      outer!.created.add(storage); // a constant of the recording
    } else {
      storage.dead = true;
      stream.deferred.delete(storage);
      if (storage.buffer) stream.retiring.push(storage.buffer);
    }
  }
  if (!stream.capturing && !stream.pending.length) flush(gpu);
  return orphans;
}

const usesOf = (launches: readonly Launch[]): Storage[][] => launches.map(({ args }) => args.map((arg) => arg.storage));

/** Gives every storage of a planned list a buffer and every launch its bind group; returns the buffers, one a slot. */
export function place(gpu: Gpu, launches: readonly Launch[], planned: Plan): GPUBuffer[] {
  const buffers = planned.slots.map((slot) => {
    const buffer = acquire(gpu, slot.bytes, slot.storages[0]!.label);
    if (gpu.flags.poison) gpu.device.queue.writeBuffer(buffer, 0, new Uint32Array(buffer.size / 4).fill(0x7fc00000));
    for (const storage of slot.storages) storage.buffer = buffer;
    return buffer;
  });
  for (const launch of launches) {
    const { kernel: k } = launch;
    launch.bindGroup = gpu.guard(
      () =>
        gpu.device.createBindGroup({
          label: k.label,
          layout: k.layout,
          entries: k.bindings.map(({ slot }, i) => ({
            binding: slot,
            resource: {
              buffer: launch.args[i]!.storage.buffer!,
              offset: launch.args[i]!.offset,
              size: launch.args[i]!.bytes,
            },
          })),
        }),
      (error) => `${k.label}: ${error.message}`,
    );
  }
  return buffers;
}

const watched = new WeakMap<Storage, (bytes: ArrayBuffer) => string | undefined>();

/** Has `judge` look at the contents of a tensor with a buffer of its own whenever a launch has written them; a sentence of its is an error. */
export function watch({ storage }: Bindable, judge: (bytes: ArrayBuffer) => string | undefined): void {
  watched.set(storage, judge);
}

function judgeWatched(gpu: Gpu, launches: readonly Launch[]): void {
  const written = launches.flatMap(({ kernel: k, args }) => args.filter((_, i) => k.bindings[i]!.writes));
  for (const storage of new Set(written.map((arg) => arg.storage))) {
    const judge = watched.get(storage);
    if (!judge) continue;
    const staging = gpu.device.createBuffer({ label: storage.label, size: storage.bytes, usage: 0x1 | 0x8 });
    const encoder = gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(storage.buffer!, 0, staging, 0, storage.bytes);
    gpu.device.queue.submit([encoder.finish()]);
    const judged = mapped(gpu, staging, storage.bytes).then((bytes) => {
      const sentence = judge(bytes);
      if (sentence) gpu.fail(new GpuError(sentence));
    });
    gpu.track(judged);
  }
}

/** Encodes launches into one compute pass and submits it. */
export function submit(gpu: Gpu, launches: readonly Launch[]): void {
  submitAll(gpu, launches);
  if (gpu.flags.checkLabels) judgeWatched(gpu, launches);
}

function submitAll(gpu: Gpu, launches: readonly Launch[]): void {
  gpu.check();
  if (gpu.flags.checkNan) {
    gpu.track(
      findNonFinite(gpu, launches).then((found) => {
        if (found) gpu.fail(new GpuError(found));
      }),
    );
  } else if (gpu.flags.sync) {
    for (const launch of launches) {
      gpu.guard(
        () => encode(gpu, [launch]),
        (error) => `${launch.kernel.label}: ${error.message}\n${launch.stack ?? ''}`,
      );
    }
  } else {
    encode(gpu, launches);
  }
}

function dispatch(gpu: Gpu, pass: GPUComputePassEncoder, { kernel: k, bindGroup, workgroups }: Launch): void {
  pass.setPipeline(k.pipeline ?? pipelineOf(gpu, k));
  pass.setBindGroup(0, bindGroup!);
  pass.dispatchWorkgroups(workgroups[0], workgroups[1], workgroups[2]);
}

function encode(gpu: Gpu, launches: readonly Launch[]): void {
  gpu.enqueue(() => {
    const encoder = gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const launch of launches) dispatch(gpu, pass, launch);
    pass.end();
    gpu.device.queue.submit([encoder.finish()]);
  });
}

/** Plans and submits what is pending. Storages of open scopes keep their buffers; those of ended scopes share. */
export function flush(gpu: Gpu): void {
  const stream = streamOf(gpu);
  if (stream.capturing) throw new GpuError('flush: inside a captured step. Return the tensor and read it afterwards.');
  for (const storage of [...stream.deferred]) materialize(storage);
  const launches = stream.pending;
  stream.pending = [];
  if (launches.length) {
    const planned = plan(usesOf(launches), (storage) => !storage.dead, gpu.flags.pool);
    const buffers = place(gpu, launches, planned);
    submit(gpu, launches);
    planned.slots.forEach((slot, i) => {
      for (const storage of slot.storages) if (storage.dead) storage.buffer = undefined;
      if (!slot.kept) release(gpu, buffers[i]!);
    });
  }
  for (const buffer of stream.retiring.splice(0)) release(gpu, buffer);
}

/** A recorded list and its plan: what a captured step keeps. */
export interface Recording {
  readonly launches: readonly Launch[];
  readonly plan: Plan;
  /** Tensors with data that were made while recording. */
  readonly constants: readonly Storage[];
}

/**
 * Runs `step` with a recording of its own and plans it. `keptBy` names the storages that its result needs; `onKernel` is told
 * of every kernel at once. Nothing is allocated or submitted; throws if the step records nothing, captures, reads or is
 * asynchronous.
 */
export function recordList<T>(
  gpu: Gpu,
  step: () => T,
  keptBy: (result: T) => ReadonlySet<Storage>,
  onKernel?: (k: Kernel) => void,
): { result: T; recording: Recording } {
  const stream = streamOf(gpu);
  if (stream.capturing)
    throw new GpuError('capture: inside a captured step. Steps do not nest; call one function from one step.');
  flush(gpu);
  const scope = openScope(gpu);
  stream.capturing = true;
  stream.onKernel = onKernel;
  try {
    const result = step();
    if (result instanceof Promise) {
      throw new GpuError(
        'capture: the step is asynchronous. Record synchronously and read the returned tensors afterwards.',
      );
    }
    const kept = keptBy(result);
    for (const storage of kept) materialize(storage);
    const launches = stream.pending;
    if (!launches.length)
      throw new GpuError('capture: the step records nothing. Call at least one op in it, on tensors of its device.');
    const planned = plan(usesOf(launches), (storage) => kept.has(storage), gpu.flags.pool);
    const constants = [...scope.created].filter((storage) => storage.buffer);
    // What the step does not return shares its buffer with others: reading it afterwards would give someone else's values.
    for (const storage of scope.created) if (!storage.buffer && !kept.has(storage)) storage.dead = true;
    return { result, recording: { launches, plan: planned, constants } };
  } finally {
    stream.capturing = false;
    stream.onKernel = undefined;
    stream.pending = [];
    stream.deferred.clear(); // nobody read them
    stream.scopes.splice(stream.scopes.indexOf(scope), 1); // the recording owns what was created
  }
}

/** Compiles every kernel of a recording side by side. */
export const compileRecording = (gpu: Gpu, { launches }: Recording): Promise<void> =>
  compileAll(
    gpu,
    launches.map(({ kernel: k }) => k),
  );

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
  const staging = device.createBuffer({ label: 'check_finite', size: bytes, usage: 0x1 | 0x8 });
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
  encoder.copyBufferToBuffer(found, 0, staging, 0, bytes);
  device.queue.submit([encoder.finish()]);
  const result = await mapped(gpu, staging, bytes);
  found.destroy();
  const marks = new Uint32Array(result);
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

/** The bytes of a buffer that was made for mapping; destroys it. A lost device rejects with its own error. */
export async function mapped(gpu: Gpu, staging: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
  try {
    await staging.mapAsync(1, 0, bytes); // GPUMapMode.READ
    return staging.getMappedRange(0, bytes).slice(0);
  } catch (error) {
    await gpu.settled();
    throw new GpuError(`read: ${(error as Error).message}`);
  } finally {
    staging.destroy();
  }
}

/** Copies a storage to the CPU, after what is pending. */
export async function download({ gpu, storage, offset, bytes }: Bindable): Promise<ArrayBuffer> {
  if (streamOf(gpu).capturing) {
    throw new GpuError(
      'capture: read() inside a captured step. Return the tensor from the step and read it afterwards.',
    );
  }
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
  const staging = gpu.guard(
    () => gpu.device.createBuffer({ label: 'read', size: bytes, usage: 0x1 | 0x8 }), // MAP_READ | COPY_DST
    (error) => `read: ${error.message}`,
  );
  gpu.enqueue(() => {
    const encoder = gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, offset, staging, 0, bytes);
    gpu.device.queue.submit([encoder.finish()]);
  });
  const result = await mapped(gpu, staging, bytes);
  await gpu.settled();
  return result;
}

/** Copies CPU data into a storage, after what is pending. */
export function upload({ gpu, storage, offset }: Bindable, data: ArrayBufferView<ArrayBuffer>): void {
  if (storage.dead)
    throw new GpuError(`write: '${storage.label}' died with its scope. Return it from the scope to keep it.`);
  if (!storage.buffer)
    throw new GpuError(`write: '${storage.label}' is the output of an op. Write to tensors made with tensor().`);
  const { buffer } = storage;
  if (!(buffer.usage & 0x8)) {
    throw new GpuError(`write: the buffer of '${storage.label}' cannot be copied to. Create it with COPY_DST.`);
  }
  gpu.check();
  gpu.enqueue(() => gpu.device.queue.writeBuffer(buffer, offset, data.buffer, data.byteOffset, data.byteLength));
}

/** Copies whole tensors that have buffers, each to another one of its size, after what is pending. */
export function copyTensors(gpu: Gpu, pairs: readonly { from: Bindable; to: Bindable }[]): void {
  flush(gpu);
  gpu.enqueue(() => {
    const encoder = gpu.device.createCommandEncoder();
    for (const { from, to } of pairs) {
      encoder.copyBufferToBuffer(from.storage.buffer!, from.offset, to.storage.buffer!, to.offset, from.bytes);
    }
    gpu.device.queue.submit([encoder.finish()]);
  });
}

/** Times every launch by timestamps, each in a pass of its own. Needs the feature `timestamp-query`. */
export async function timeLaunches(gpu: Gpu, launches: readonly Launch[]): Promise<LaunchTime[]> {
  if (!gpu.features.has('timestamp-query')) throw new GpuError('profile: this adapter has no timestamps.');
  const { device } = gpu;
  const times: LaunchTime[] = [];
  const most = 2048; // a query set holds 4096 timestamps
  for (let from = 0; from < launches.length; from += most) {
    const part = launches.slice(from, from + most);
    const querySet = device.createQuerySet({ type: 'timestamp', count: 2 * part.length });
    const resolved = device.createBuffer({ size: 16 * part.length, usage: 0x200 | 0x4 }); // QUERY_RESOLVE | COPY_SRC
    const staging = device.createBuffer({ size: 16 * part.length, usage: 0x1 | 0x8 });
    const encoder = device.createCommandEncoder();
    part.forEach((launch, i) => {
      const pass = encoder.beginComputePass({
        timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
      });
      dispatch(gpu, pass, launch);
      pass.end();
    });
    encoder.resolveQuerySet(querySet, 0, 2 * part.length, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16 * part.length);
    device.queue.submit([encoder.finish()]);
    const ticks = new BigUint64Array(await mapped(gpu, staging, 16 * part.length));
    resolved.destroy();
    querySet.destroy();
    part.forEach((launch, i) => {
      times.push({
        label: launch.kernel.label,
        ms: Number(ticks[2 * i + 1]! - ticks[2 * i]!) / 1e6,
        bytes: launch.args.reduce((sum, arg) => sum + arg.bytes, 0),
        shapes: launch.args.map((arg) => `[${arg.shape}]`).join(' '),
      });
    });
  }
  return times;
}
