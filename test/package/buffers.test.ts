// Living beside others on one device: tensors over their buffers, their pipelines over ours, whose error is whose, two
// devices at once, and what is left when a device goes. The "embedder" here is a second Gpu over the same GPUDevice: its
// listener stands for the page's own.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty } from '../../engine/custom.js';
import { memoryOf } from '../../engine/debug.js';
import {
  add,
  backward,
  bufferOf,
  capture,
  createSgd,
  crossEntropy,
  fromBuffer,
  fromDevice,
  type Gpu,
  GpuError,
  GpuLostError,
  mul,
  pack,
  ShapeError,
  scope,
  square,
  sum,
  tensor,
} from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { testGpu } from '../gpu.js';
import { patience } from '../patience.js';
import { refuses } from '../refuses.js';

const test = suite('buffers');

const storage = 0x80; // GPUBufferUsage.STORAGE
const copySource = 0x4;
const copyTarget = 0x8;
const all = storage | copySource | copyTarget;

/** The embedder and wgrad on one device of their own, closed afterwards. */
async function shared(work: (gpu: Gpu, host: Gpu) => Promise<void>): Promise<void> {
  const host = await openDevice({ quiet: true });
  try {
    await work(fromDevice(host.device), host);
  } finally {
    host.close();
  }
}

/** A buffer with contents, as an embedder makes it. */
function filled(device: GPUDevice, values: ArrayLike<number>, usage = all, bytes = 4 * values.length): GPUBuffer {
  const buffer = device.createBuffer({ label: 'theirs', size: bytes, usage, mappedAtCreation: true });
  new Float32Array(buffer.getMappedRange()).set(values);
  buffer.unmap();
  return buffer;
}

/** Reads a range the embedder's way. */
async function contents(
  device: GPUDevice,
  { buffer, offset, size }: { buffer: GPUBuffer; offset: number; size: number },
) {
  const staging = device.createBuffer({ size, usage: 0x1 | copyTarget });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, offset, staging, 0, size);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(1);
  return [...new Float32Array(staging.getMappedRange().slice(0))];
}

test("ops compute with the embedder's buffer, in the order in which both submit", () =>
  shared(async (gpu) => {
    const { device } = gpu;
    const theirs = filled(device, [1, 2, 3, 4]);
    const x = fromBuffer(gpu, theirs, [2, 2], { requiresGrad: true });
    const first = sum(square(x));
    assert.is(await first.item(), 30);
    device.queue.writeBuffer(theirs, 0, new Float32Array([5, 6, 7, 8]));
    const loss = sum(square(x));
    assert.equal([...(await backward(loss).get(x)!.read())], [10, 12, 14, 16]);
    assert.is(await loss.item(), 174);
    x.write([1, 0, 0, 0]);
    assert.equal(await contents(device, { buffer: theirs, offset: 0, size: 16 }), [1, 0, 0, 0]);
  }));

test('a captured step reads what the embedder wrote since, and writes in place', () =>
  shared(async (gpu) => {
    const { device } = gpu;
    const weights = filled(device, [1, 2]);
    const input = filled(device, [1, 1]);
    const w = fromBuffer(gpu, weights, [2], { requiresGrad: true, label: 'weights' });
    const x = fromBuffer(gpu, input, [2]);
    const lr = tensor(gpu, 0.5);
    const optimizer = createSgd([w]);
    const step = capture(gpu, () => {
      optimizer.step(backward(sum(mul(w, x))), lr); // the gradient is x
    });
    step();
    device.queue.writeBuffer(input, 0, new Float32Array([4, 8]));
    step();
    assert.equal(await contents(device, { buffer: weights, offset: 0, size: 8 }), [1 - 0.5 - 2, 2 - 0.5 - 4]);
  }));

test('offsets and element types; what lies beside a tensor stays as it is', () =>
  shared(async (gpu) => {
    const { device } = gpu;
    const alignment = gpu.limits.minStorageBufferOffsetAlignment;
    const bytes = new ArrayBuffer(2 * alignment);
    new Uint8Array(bytes).fill(7);
    new Uint8Array(bytes, alignment).set([1, 2, 3, 250, 5]);
    const buffer = device.createBuffer({ size: 2 * alignment, usage: all });
    device.queue.writeBuffer(buffer, 0, bytes);
    const u8 = fromBuffer(gpu, buffer, [5], { dtype: 'u8', offset: alignment });
    assert.equal([...(await u8.read())], [1, 2, 3, 250, 5]);
    const u32 = fromBuffer(gpu, buffer, [2], { dtype: 'u32', offset: alignment });
    assert.equal([...(await u32.read())], [0xfa030201, 0x07070705]);
    fromBuffer(gpu, buffer, [1], { offset: alignment }).write([1.5]);
    assert.equal([...(await fromBuffer(gpu, buffer, [1], { dtype: 'u32' }).read())], [0x07070707]);
    assert.equal([...(await u32.read())], [0x3fc00000, 0x07070705]);
    await gpu.settled();
  }));

test('the buffer of a tensor can be bound and copied from; a part of a pack is a range', () =>
  shared(async (gpu) => {
    const { device } = gpu;
    const x = tensor(gpu, [1, 2, 3]);
    assert.equal(await contents(device, bufferOf(mul(x, 2))), [2, 4, 6]);
    const [a, b] = [tensor(gpu, [1, 2]), tensor(gpu, [3, 4, 5])];
    pack([a, b]);
    assert.is(bufferOf(a).buffer, bufferOf(b).buffer);
    assert.equal(await contents(device, bufferOf(b)), [3, 4, 5]);
    // The range is a binding as it stands.
    const code = `
      @group(0) @binding(0) var<storage, read> x: array<f32>;
      @group(0) @binding(1) var<storage, read_write> y: array<f32>;
      @compute @workgroup_size(1) fn last() { y[0] = x[arrayLength(&x) - 1]; }`;
    const module = device.createShaderModule({ code });
    const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
    const theirs = filled(device, [0]);
    const group = device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [
        { binding: 0, resource: bufferOf(b) },
        { binding: 1, resource: { buffer: theirs } },
      ],
    });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1);
    pass.end();
    device.queue.submit([encoder.finish()]);
    assert.is(await fromBuffer(gpu, theirs, []).item(), 5);
    await gpu.settled();
  }));

test('a captured step keeps the buffer of what it returns', () =>
  shared(async (gpu) => {
    const x = tensor(gpu, [1]);
    const step = capture(gpu, () => ({ y: add(x, 1) }));
    const range = bufferOf(step().y);
    assert.equal(await contents(gpu.device, range), [2]);
    x.write([41]);
    step();
    assert.equal(await contents(gpu.device, range), [42]);
  }));

test('what fromBuffer refuses at once', () =>
  shared(async (gpu) => {
    const { device } = gpu;
    const make = (usage: number, size = 16, mappedAtCreation = false) =>
      device.createBuffer({ label: 'theirs', usage, size, mappedAtCreation });
    const buffer = make(all);
    await refuses(() => fromBuffer(gpu, make(copySource), [4]), GpuError, /'theirs' has usage 0x4 — expected STORAGE/);
    await refuses(() => fromBuffer(gpu, buffer, [5]), ShapeError, /f32 \[5\] .* takes 20 bytes — 'theirs' ends at 16/);
    await refuses(() => fromBuffer(gpu, buffer, [17], { dtype: 'u8' }), ShapeError, /takes 20 bytes/);
    await refuses(
      () => fromBuffer(gpu, buffer, [1], { offset: 4 }),
      ShapeError,
      /offset .* is 4 — expected a multiple of/,
    );
    await refuses(() => fromBuffer(gpu, buffer, [1], { offset: -256 }), ShapeError, /expected a multiple/);
    await refuses(() => fromBuffer(gpu, buffer, [4], { offset: 256 }), ShapeError, /ends at 16/);
    await refuses(() => fromBuffer(gpu, buffer, [0]), ShapeError, /positive integers/);
    await refuses(() => fromBuffer(gpu, make(all, 16, true), [4]), GpuError, /is mapped. Call unmap\(\) first/);
    await gpu.settled(); // none of this is the device's failure
  }));

test('usages that read() and write() need are asked for when they are called', () =>
  shared(async (gpu) => {
    const { device } = gpu;
    const x = fromBuffer(gpu, device.createBuffer({ label: 'theirs', size: 16, usage: storage }), [4]);
    await refuses(() => x.read(), GpuError, /read: the buffer of 'theirs' .* COPY_SRC/);
    await refuses(() => x.write([1, 2, 3, 4]), GpuError, /write: the buffer of 'theirs' .* COPY_DST/);
    assert.equal([...(await add(x, 1).read())], [1, 1, 1, 1]);
  }));

test('a destroyed buffer is named: before, and after it became a tensor', async () => {
  await shared(async (gpu, host) => {
    const buffer = filled(gpu.device, [1]);
    buffer.destroy();
    await refuses(
      () => add(fromBuffer(gpu, buffer, [1]), 1).read(),
      GpuError,
      /fromBuffer: 'theirs' is no buffer .*destroyed/,
    );
    await host.settled(); // wgrad's error did not reach the embedder
  });
  await shared(async (gpu, host) => {
    const buffer = filled(gpu.device, [1]);
    const x = fromBuffer(gpu, buffer, [1]);
    assert.is(await add(x, 1).item(), 2);
    buffer.destroy();
    await refuses(() => add(x, 1).read(), GpuError, /Buffer "theirs"\] used in submit while destroyed/);
    await host.settled(); // wgrad's error did not reach the embedder
  });
});

test('a buffer of another device is refused by name', () =>
  shared(async (gpu, host) => {
    const other = await testGpu();
    const buffer = filled(other.device, [1]);
    await refuses(() => add(fromBuffer(gpu, buffer, [1]), 1).read(), GpuError, /fromBuffer: 'theirs' is no buffer/);
    await host.settled();
    assert.is(await fromBuffer(other, buffer, [1]).item(), 1, 'the other device is none the worse');
  }));

test('two tensors over one buffer: read and written in one launch is an error of ours', () =>
  shared(async (gpu) => {
    const buffer = filled(gpu.device, [1, 2], all, 512);
    const [p, q] = [
      fromBuffer(gpu, buffer, [2], { requiresGrad: true }),
      fromBuffer(gpu, buffer, [2], { offset: 256 }),
    ];
    assert.equal([...(await add(p, q).read())], [1, 2]);
    const gradients = backward(sum(p));
    await refuses(() => createSgd([p]).step(gradients, fromBuffer(gpu, buffer, [])), GpuError, /bound twice/);
  }));

test('an embedded buffer is never pooled: not by pack, not by a scope, not by close', () =>
  shared(async (gpu) => {
    const buffer = filled(gpu.device, [1, 2]);
    await refuses(() => pack([fromBuffer(gpu, buffer, [2])]), ShapeError, /expected f32 made with tensor\(\)/);
    const x = scope(gpu, () => {
      const inner = fromBuffer(gpu, buffer, [2]);
      return { y: add(inner, 1), inner: [inner].length };
    });
    assert.equal([...(await x.y.read())], [2, 3]);
    for (let i = 0; i < 4; i++) await add(tensor(gpu, [7, 7]), 1).read();
    gpu.close();
    assert.equal(await contents(gpu.device, { buffer, offset: 0, size: 8 }), [1, 2]);
  }));

test('what bufferOf refuses', () =>
  shared(async (gpu) => {
    let dead = tensor(gpu, [1]);
    scope(gpu, () => {
      dead = tensor(gpu, [1], [1], { label: 'inner' });
    });
    await refuses(() => bufferOf(dead), GpuError, /bufferOf: 'inner' died with its scope/);
    await refuses(() => bufferOf(empty(gpu, [1], 'f32', 'blank')), GpuError, /'blank' was never written/);
    const x = tensor(gpu, [1]);
    await refuses(() => capture(gpu, () => bufferOf(add(x, 1)))(), GpuError, /inside a captured step/);
  }));

test("an embedder's error is the embedder's, and ours is ours", () =>
  shared(async (gpu, host) => {
    gpu.device.createBuffer({ size: 4, usage: 0x1 | storage }); // MAP_READ goes with COPY_DST only
    assert.equal([...(await add(tensor(gpu, [1]), 1).read())], [2]);
    let heard: Error | undefined;
    for (
      const end = Date.now() + patience;
      !heard && Date.now() < end;
      await new Promise((done) => setTimeout(done, 20))
    )
      heard = await host.settled().then(
        () => undefined,
        (error: Error) => error,
      );
    assert.match(heard?.message ?? 'nothing', /No launch of wgrad's is at fault/); // else this test shows nothing
    assert.equal([...(await add(tensor(gpu, [1]), 1).read())], [2]);
    await gpu.settled();
  }));

test('one device is one Gpu, however often it is wrapped, until the last has closed it', async () => {
  const host = await openDevice({ quiet: true });
  try {
    const [a, b] = [fromDevice(host.device), fromDevice(host.device)];
    assert.is(a, b);
    assert.is.not(a, host);
    const sum_ = add(tensor(a, [1, 2]), tensor(b, [3, 4]));
    a.close();
    assert.equal([...(await sum_.read())], [4, 6]);
    await refuses(
      () => add(sum_, tensor(host, [1, 2])),
      GpuError,
      /is of another Gpu than .*, over the same device\. Use one Gpu for both/,
    );
    b.close();
    await refuses(() => sum_.read(), GpuError, /was closed/);
    const next = fromDevice(host.device);
    assert.is.not(next, a);
    assert.equal([...(await mul(tensor(next, [1]), 2).read())], [2]);
    next.close();
  } finally {
    host.close();
  }
});

test('two devices, both directions', async () => {
  const [a, b] = [await openDevice({ quiet: true }), await openDevice({ quiet: true })];
  try {
    for (const [one, two] of [
      [a, b],
      [b, a],
    ] as const) {
      const x = tensor(one, [1, 2], [1, 2], { requiresGrad: true, label: 'x' });
      const y = tensor(two, [3, 4], [1, 2], { requiresGrad: true, label: 'y' });
      await refuses(() => add(x, y), GpuError, /on another device/);
      await refuses(() => crossEntropy(x, tensor(two, [1], [1], { dtype: 'u8' })), GpuError, /on another device/);
      await refuses(() => pack([x, y]), GpuError, /'y' is on another device than 'x'/);
      const gradients = backward(sum(square(x)));
      await refuses(() => createSgd([x]).step(gradients, tensor(two, 0.1)), GpuError, /on another device/);
      await refuses(() => createSgd([y]).step(gradients, tensor(two, 0.1)), ShapeError, /'y' has no gradient/);
      await refuses(() => capture(one, () => add(y, 1))(), GpuError, /records nothing.*on tensors of its device/);
      assert.equal([...(await mul(x, 3).read())], [3, 6]);
      assert.equal([...(await mul(y, 3).read())], [9, 12]);
    }
    a.close();
    assert.equal([...(await mul(tensor(b, [1]), 5).read())], [5], 'closing one leaves the other');
  } finally {
    b.close();
  }
});

test("close() frees what wgrad made on an embedder's device, and leaves the device", () =>
  shared(async (gpu) => {
    const x = tensor(gpu, [1, 2]);
    const y = add(x, 1);
    await y.read();
    const { buffer } = bufferOf(y);
    const theirs = filled(gpu.device, [9]);
    assert.ok(memoryOf(gpu).bytes > 0);
    gpu.close();
    gpu.close();
    assert.equal(memoryOf(gpu), { bytes: 0, peak: memoryOf(gpu).peak, freeBytes: 0 });
    await refuses(() => add(x, 1), GpuError, /was closed/);
    await refuses(() => x.read(), GpuError, /was closed/);
    const { device } = gpu;
    device.pushErrorScope('validation');
    await contents(device, { buffer, offset: 0, size: 8 }).catch(() => {});
    assert.match((await device.popErrorScope())?.message ?? 'no error', /destroyed/);
    assert.equal(await contents(device, { buffer: theirs, offset: 0, size: 4 }), [9]);
  }));

for (const whose of ['ours', "the embedder's"]) {
  test(`a lost device (${whose}): one error at every pending and later call, and another one opens`, async () => {
    const host = await openDevice({ quiet: true });
    const gpu = whose === 'ours' ? host : fromDevice(host.device);
    const x = tensor(gpu, [1, 2]);
    const step = capture(gpu, () => ({ y: mul(x, 2) }));
    await step().y.read();
    const other = capture(gpu, () => ({ y: mul(x, 3.25) }));
    const pending = [x.read(), add(x, 1).read(), other.prepare(), step.findNonFinite()];
    host.device.destroy();
    const outcomes = await Promise.allSettled(pending);
    outcomes.forEach((outcome, i) => {
      assert.is(outcome.status, 'rejected', `pending call ${i} ended well`);
      assert.instance((outcome as PromiseRejectedResult).reason, GpuLostError, `pending call ${i}`);
    });
    const later: Record<string, () => unknown> = {
      op: () => add(x, 1),
      read: () => x.read(),
      write: () => x.write([3, 4]),
      tensor: () => tensor(gpu, [1]),
      step: () => step(),
      capture: () => capture(gpu, () => ({ y: mul(x, 4) }))(),
      prepare: () => other.prepare(),
      info: () => other.info,
      settled: () => gpu.settled(),
      bufferOf: () => bufferOf(x),
    };
    for (const [name, call] of Object.entries(later)) {
      await refuses(call, GpuLostError, /the GPU was lost .*open it again/).catch((error: Error) => {
        throw new Error(`${name}: ${error.message}`);
      });
    }
    gpu.close();
    const next = await openDevice({ quiet: true });
    assert.equal([...(await mul(tensor(next, [1, 2]), 2).read())], [2, 4]);
    next.close();
  });
}

test.run();
