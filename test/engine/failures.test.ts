// An error belongs to its launch. Whoever reads what the launch should have written, or what was computed from it, gets the
// error; everything else runs, and so does what comes later. All tests share one device: each leaves it as good as new.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, flush, run } from '../../engine/custom.js';
import { memoryOf } from '../../engine/debug.js';
import {
  add,
  backward,
  bufferOf,
  capture,
  createSgd,
  fromBuffer,
  type Gpu,
  GpuError,
  mul,
  pack,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { mostPending } from '../../engine/stream.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('failures');

let texts = 0;

/** A text that no driver has seen: what is known of one that failed is thrown when it is recorded. */
const text = (statement: string, type = 'array<f32>', declarations = ''): string => `
  // ${++texts}
  @group(0) @binding(0) var<storage, read> x: ${type};
  @group(0) @binding(1) var<storage, read_write> y: array<f32>;
  ${declarations}
  @compute @workgroup_size(64) fn sample(@builtin(global_invocation_id) id: vec3u) {
    if (id.x < arrayLength(&y)) { ${statement} }
  }`;

function apply(x: Tensor, source: string): Tensor {
  const y = empty(x.gpu, x.shape, 'f32', 'y');
  run(source, { x, y }, { threads: x.size });
  return y;
}

/** Adds x to y in place. */
function addTo(y: Tensor, x: Tensor, source = text('y[id.x] += x[id.x];')): void {
  run(source, { x, y }, { threads: x.size });
}

const noCompile = /^sample: the shader does not compile\.\n {2}line \d+:\d+ unresolved value 'z'/;
const values = async (x: Tensor): Promise<number[]> => [...(await x.read())];

/** The two kinds that only the driver finds: a text that does not compile, and a binding that is too small for its type. */
const faults: Record<string, { source: () => string; says: RegExp }> = {
  'a text that does not compile': { source: () => text('y[id.x] = z[id.x];'), says: noCompile },
  'a binding too small for its type': {
    // The size is an expression that is not read off the text.
    source: () => text('y[id.x] = x[id.x];', 'array<f32, u32(max(100, 1))>'),
    says: /sample[\s\S]*(too small|at least 400 bytes|minimum)/i,
  },
};

for (const [kind, { source, says }] of Object.entries(faults)) {
  test(`${kind}: its reader, and theirs; nobody else`, async () => {
    const gpu = await testGpu();
    const x = tensor(gpu, [1, 2]);
    const before = mul(x, 3);
    const broken = apply(x, source());
    const from = square(add(broken, 1));
    const beside = mul(x, 5);
    const after = add(before, beside);
    await refuses(() => from.read(), GpuError, says);
    await refuses(() => broken.read(), GpuError, says);
    await refuses(() => from.read(), GpuError, says);
    assert.equal(await values(before), [3, 6]);
    assert.equal(await values(beside), [5, 10]);
    assert.equal(await values(after), [8, 16]);
    assert.equal(await values(mul(after, 2)), [16, 32], 'later work works');
    await refuses(() => add(broken, 1).read(), GpuError, says);
    await gpu.settled();
  });

  test(`${kind}: what is upstream of it, in a list of its own`, async () => {
    const gpu = await testGpu();
    const x = tensor(gpu, [1, 2]);
    const up = apply(x, text('y[id.x] = x[id.x] + 7.0;'));
    const broken = apply(up, source());
    assert.equal(await values(up), [8, 9]);
    await refuses(() => broken.read(), GpuError, says);
  });

  test(`${kind}: nothing that lasts is updated from it`, async () => {
    const gpu = await testGpu();
    const [x, w, other] = [tensor(gpu, [1, 2]), tensor(gpu, [10, 20], [2], { label: 'w' }), tensor(gpu, [5, 5])];
    const up = mul(x, 2);
    const broken = apply(up, source());
    addTo(w, broken);
    addTo(other, x); // has nothing to do with it
    assert.equal(await values(other), [6, 7]);
    assert.equal(await values(up), [2, 4]);
    await refuses(() => w.read(), GpuError, /sample: [\s\S]*'w' was not updated: it holds what it held before/);
    assert.equal(await values(w), [10, 20], 'the values still exist');
    addTo(w, x);
    assert.equal(await values(w), [11, 22]);
    await gpu.settled();
  });

  test(`${kind}: a step runs as a whole or not at all`, async () => {
    const gpu = await testGpu();
    const x = tensor(gpu, [1, 2]);
    const w = tensor(gpu, [3, 4], [2], { requiresGrad: true, label: 'w' });
    const [lr, optimizer] = [tensor(gpu, 0.5), createSgd([w])];
    const counter = tensor(gpu, [0]);
    const faulty = source();
    const step = capture(gpu, () => {
      addTo(counter, tensor(gpu, [1]));
      const loss = sum(mul(w, apply(x, faulty)));
      optimizer.step(backward(loss), lr);
      return { loss };
    });
    const good = capture(gpu, () => ({ y: mul(w, 10) }));
    const { loss } = step();
    const { y } = good();
    step(); // nothing is known yet
    await refuses(() => loss.read(), GpuError, says);
    assert.equal(await values(y), [30, 40]);
    assert.equal(await values(counter), [0]);
    assert.equal(await values(w), [3, 4]);
    assert.equal(await values(good().y), [30, 40]);
    if (says === noCompile) {
      await refuses(step, GpuError, says);
      await refuses(() => step.prepare(), GpuError, says);
      await refuses(() => apply(x, faulty), GpuError, says); // at the line that made it
    } else {
      step();
      await refuses(() => loss.read(), GpuError, says);
      await refuses(() => step.findNonFinite(), GpuError, says);
      if (gpu.features.has('timestamp-query')) await refuses(() => step.profile(), GpuError, says);
    }
    await gpu.settled();
  });

  test(`${kind}: settled() tells it to who reads nothing, once`, async () => {
    const gpu = await testGpu();
    const w = tensor(gpu, [1, 2]);
    const faulty = source();
    capture(gpu, () => addTo(w, apply(w, faulty)))();
    await refuses(() => gpu.settled(), GpuError, says);
    await gpu.settled();
    assert.equal(await values(w), [1, 2]);
  });

  test(`${kind}: healthy again once it is written`, async () => {
    const gpu = await testGpu();
    const x = tensor(gpu, [1, 2]);
    const y = empty(gpu, [2], 'f32', 'y');
    run(source(), { x, y }, { threads: 2 });
    await refuses(() => y.read(), GpuError, says);
    await refuses(() => addToAndRead(y, x), GpuError, says); // adding to nothing is nothing
    run(text('y[id.x] = 4.0 * x[id.x];'), { x, y }, { threads: 2 });
    assert.equal(await values(y), [4, 8]);
    const z = apply(x, source());
    await refuses(() => z.read(), GpuError, says);
    z.write([7, 8]);
    assert.equal(await values(z), [7, 8]);
    assert.equal(await values(add(z, 1)), [8, 9]);
  });

  test(`${kind}: on an embedder's device, who hears nothing of it`, async () => {
    const host = await openDevice({ quiet: true });
    try {
      const { fromDevice } = await import('../../engine/index.js');
      const gpu = fromDevice(host.device);
      let uncaptured = 0;
      host.device.addEventListener('uncapturederror', () => uncaptured++);
      const x = tensor(gpu, [1, 2]);
      const [broken, beside] = [apply(x, source()), mul(x, 2)];
      await refuses(() => broken.read(), GpuError, says);
      assert.equal(await values(beside), [2, 4]);
      await host.settled();
      assert.is(uncaptured, 0);
    } finally {
      host.close();
    }
  });
}

const addToAndRead = (y: Tensor, x: Tensor): Promise<number[]> => {
  addTo(y, x);
  return values(y);
};

test('computed before it was known, and written anew: part by part, too', async () => {
  const gpu = await testGpu();
  const [a, b] = [tensor(gpu, [1, 2], [2], { label: 'a' }), tensor(gpu, [3, 4, 5], [3], { label: 'b' })];
  const { flat } = pack([a, b]);
  const x = tensor(gpu, 1, flat.shape);
  const broken = apply(x, text('y[id.x] = z[id.x];'));
  flush(gpu);
  addTo(flat, broken); // a portion of its own: it cannot know
  await refuses(() => a.read(), GpuError, noCompile);
  await refuses(() => b.read(), GpuError, noCompile);
  a.write([6, 7]);
  assert.equal(await values(a), [6, 7]);
  await refuses(() => b.read(), GpuError, noCompile);
  await refuses(() => add(b, 1).read(), GpuError, noCompile);
  b.write([8, 9, 10]);
  assert.equal(await values(b), [8, 9, 10]);
  addTo(flat, x);
  assert.equal(await values(a), [7, 8]);
});

test('sizes and limits are held against the device where the op is called', async () => {
  const gpu = await testGpu();
  const { limits } = gpu;
  const x = tensor(gpu, [1, 2]);
  const most = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
  const big = empty(gpu, [most / 4 + 64], 'f32', 'activation');
  await refuses(
    () => run(text('y[id.x] = x[0];'), { x, y: big }, { threads: 1 }),
    GpuError,
    /^activation: needs a buffer of [\d.]+ MiB, this GPU binds at most [\d.]+ MiB\. Reduce/,
  );
  const at = (source: string, grid: { workgroups: number[] } = { workgroups: [1] }): void =>
    run(source, { x, y: empty(gpu, [2]) }, grid);
  const limit = limits.maxComputeWorkgroupsPerDimension;
  const step = capture(gpu, () => {
    const y = empty(gpu, [most / 4 + 64], 'f32', 'activation');
    run(text('y[id.x] = x[0];'), { x, y }, { threads: 1 });
    return { y };
  });
  const { tooLarge, plannedBytes } = step.info; // it can be planned here
  assert.is(plannedBytes, most + 256);
  await refuses(() => step(), GpuError, new RegExp(`^${tooLarge!.message}$`));
  await refuses(() => step.prepare(), GpuError, /^activation: needs a buffer/);
  for (const workgroups of [[limit + 1], [1, limit + 1], [0], [1.5], [Number.NaN]]) {
    await refuses(() => at(text(''), { workgroups }), GpuError, /^sample: .* workgroups — at most/);
  }
  for (const type of ['array<f32, 3>', 'array<vec4f>', 'array<Four>', 'array<array<f32, N + 1>>']) {
    await refuses(
      () => at(text('', type, 'struct Four { a: vec3<f32>, b: f32 } const N = 2u;')),
      GpuError,
      /^sample: 'x' is \[2\], 8 bytes — the shader's type needs at least (12|16) bytes/,
    );
  }
  const shared = limits.maxComputeWorkgroupStorageSize / 4 + 4;
  await refuses(
    () => at(text('tile[id.x] = 1.0;', 'array<f32>', `const size = ${shared}; var<workgroup> tile: array<f32, size>;`)),
    GpuError,
    /^sample: \d+ bytes of workgroup memory — this GPU has \d+/,
  );
  const wide = text('').replace('@workgroup_size(64)', '@workgroup_size(64, 64)');
  await refuses(() => at(wide), GpuError, /^sample: a workgroup of 64×64×1 threads — this GPU allows \d+/);
  assert.equal(await values(mul(x, 2)), [2, 4]);
  await gpu.settled();
});

test('no memory: the op that asked for it', async () => {
  // Dawn's null backend has a budget of its own; it computes nothing, so only errors are looked at.
  const gpu = await openDevice({ adapter: 'null', quiet: true });
  try {
    const x = tensor(gpu, [1]);
    const blocks: Tensor[] = [];
    const size = 2 ** 23;
    while (blocks.length < 64)
      blocks.push(tensor(gpu, new Float32Array(size), [size], { label: `block ${blocks.length}` }));
    await gpu.settled().catch(() => {});
    const { bytes } = memoryOf(gpu);
    const outcomes = await Promise.allSettled(blocks.map((block) => sum(block).read()));
    const failed = outcomes.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[];
    assert.ok(failed.length > 0 && failed.length < 64, `${failed.length} of 64`);
    for (const { reason } of failed) assert.match(String(reason), /block \d+: out of GPU memory — 32\.0 MiB more than/);
    assert.is(bytes, (64 - failed.length) * 4 * size + 16, 'what was not made is not counted');
    await mul(x, 2).read();
    const lost = outcomes.findIndex(({ status }) => status === 'rejected');
    await refuses(() => mul(blocks[lost]!, 2).read(), GpuError, /out of GPU memory/);
    await x.read();
  } finally {
    gpu.close();
  }
});

test('a destroyed buffer of an embedder: who uses it, and nobody else', async () => {
  const gpu = await testGpu();
  const buffer = gpu.device.createBuffer({ label: 'theirs', size: 16, usage: 0x80 | 0x4 | 0x8 });
  const x = fromBuffer(gpu, buffer, [4]);
  const kept = tensor(gpu, [1, 2, 3, 4]);
  const step = capture(gpu, () => ({ y: add(x, 1) }));
  assert.equal(await values(step().y), [1, 1, 1, 1]);
  buffer.destroy();
  const [broken, beside] = [add(x, kept), mul(kept, 2)];
  await refuses(() => broken.read(), GpuError, /theirs.*destroyed/);
  assert.equal(await values(beside), [2, 4, 6, 8]);
  await refuses(() => step().y.read(), GpuError, /theirs.*destroyed/);
  await refuses(() => x.read(), GpuError, /'theirs' cannot be copied/);
  x.write([1, 2, 3, 4]);
  await refuses(() => x.read(), GpuError, /theirs/);
  assert.equal(await values(kept), [1, 2, 3, 4]);
  await gpu.settled().catch(() => {}); // the write, which nobody read by itself
});

test('bufferOf() gives no buffer whose contents are known to be wrong', async () => {
  const gpu = await testGpu();
  const broken = apply(tensor(gpu, [1]), text('y[id.x] = z[id.x];'));
  flush(gpu);
  await gpu.settled().catch(() => {});
  await refuses(() => bufferOf(broken), GpuError, noCompile);
});

test('the error of somebody else on a device that wgrad opened is told once', async () => {
  const gpu = await testGpu();
  gpu.device.createBuffer({ size: 4, usage: 0x1 | 0x80 }); // MAP_READ goes with COPY_DST only
  await new Promise((done) => setTimeout(done, 20));
  await refuses(() => gpu.settled(), GpuError, /^device: [\s\S]* No launch of wgrad's is at fault/);
  assert.equal(await values(mul(tensor(gpu, [1]), 2)), [2]);
});

test('a loop that never reads is flushed by itself', async () => {
  const gpu = await testGpu();
  const state = tensor(gpu, [0]);
  const one = tensor(gpu, [1]);
  const source = text('y[id.x] += x[id.x];');
  const n = mostPending.launches;
  for (let i = 0; i < n - 1; i++) addTo(state, one, source);
  const submitted = submissions(gpu);
  addTo(state, one, source);
  assert.ok(submitted.end() > 0, 'nothing was submitted');
  assert.is(await state.item(), n);
  const [large, bytes] = [tensor(gpu, 0, [2 ** 20]), 4 * 2 ** 20];
  const outputs: Tensor[] = [];
  const again = submissions(gpu);
  for (let i = 0; i < mostPending.bytes / bytes; i++) outputs.push(mul(large, 2));
  assert.ok(again.end() > 0, `${mostPending.bytes} bytes are pending`);
});

/** Counts what is submitted until `end`. */
function submissions({ device: { queue } }: Gpu): { end: () => number } {
  const { submit } = queue;
  let count = 0;
  queue.submit = (buffers) => {
    count++;
    submit.call(queue, buffers);
  };
  return {
    end: () => {
      queue.submit = submit;
      return count;
    },
  };
}

test.run();
