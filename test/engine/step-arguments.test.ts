// Arguments of a captured step: what the call gives is what the step reads, whatever was given before; another shape is another
// recording; what costs nothing makes no bind groups.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, run } from '../../engine/custom.js';
import { memoryOf } from '../../engine/debug.js';
import {
  add,
  backward,
  capture,
  type Gpu,
  GpuError,
  mul,
  pack,
  reshape,
  ShapeError,
  scope,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('step arguments');
const gpu = await testGpu();

const values = async (x: Tensor): Promise<number[]> => [...(await x.read())];

/** x += y in place. */
function accumulate(x: Tensor, y: Tensor): void {
  const source = `
    @group(0) @binding(0) var<storage, read_write> x: array<f32>;
    @group(0) @binding(1) var<storage, read> y: array<f32>;
    @compute @workgroup_size(64) fn accumulate(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&x)) { x[id.x] += y[id.x]; }
    }`;
  run(source, { x, y }, { threads: x.size });
}

/** How many bind groups the device makes while `work` runs. */
async function bindGroups({ device }: Gpu, work: () => Promise<unknown>): Promise<number> {
  const make = device.createBindGroup;
  let made = 0;
  device.createBindGroup = (...args) => {
    made++;
    return make.apply(device, args);
  };
  await work().finally(() => {
    device.createBindGroup = make;
  });
  return made;
}

test('any tensor of the shape; the function runs once, and the same tensor costs nothing', async () => {
  let calls = 0;
  const step = capture(gpu, (x, y) => {
    calls++;
    return add(mul(x, 10), y);
  });
  const [a, b] = [tensor(gpu, [1, 2]), tensor(gpu, [3, 4])];
  assert.equal(await values(step(a, b)), [13, 24]);
  assert.equal(await values(step(b, a)), [31, 42]);
  assert.equal(await values(step(a, a)), [11, 22]);
  assert.equal(await values(step(mul(a, 2), b)), [23, 44]);
  assert.is(calls, 1);
  step(a, b);
  const made = await bindGroups(gpu, async () => {
    for (let i = 0; i < 5; i++) {
      a.write([i, i]);
      assert.equal(await values(step(a, b)), [10 * i + 3, 10 * i + 4]);
    }
  });
  assert.is(made, 0);
});

test('numbers and arrays are data: nothing is frozen, nothing is compiled or bound anew', async () => {
  const x = tensor(gpu, [1, 2]);
  const step = capture(gpu, (x, factor, bias) => add(mul(x, factor), bias));
  assert.equal(await values(step(x, 2, [5, 6])), [7, 10]);
  const made = await bindGroups(gpu, async () => {
    for (let i = 0; i < 4; i++) assert.equal(await values(step(x, i, [i, 0])), [2 * i, 2 * i]);
  });
  assert.is(made, 0);
  assert.equal(await values(step(Float64Array.of(3, 4), 0.5, Int16Array.of(1, 2))), [2.5, 4]);
  const before = memoryOf(gpu).bytes;
  for (let i = 0; i < 50; i++) step(new Float32Array(2).fill(i), i, [i, i]);
  assert.is(memoryOf(gpu).bytes, before);
});

test('types follow the typed arrays, shapes the nesting', async () => {
  const seen: string[] = [];
  const step = capture(gpu, (x: Tensor) => {
    seen.push(`${x.dtype} [${x.shape}]`);
    return reshape(mul(tensor(gpu, [1, 2]), 2), [-1]);
  });
  const u8 = [Uint8Array.of(1, 2, 3), Uint8ClampedArray.of(1, 2, 3)];
  for (const x of [...u8, Uint32Array.of(7), Int32Array.of(7), new Float32Array(3), [[1, 2, 3]], [[1], [2]], 5])
    step(x);
  assert.equal(seen, ['u8 [3]', 'u32 [1]', 'i32 [1]', 'f32 [3]', 'f32 [1,3]', 'f32 [2,1]', 'f32 []']);
  await refuses(() => step([[1, 2], [3]]), ShapeError, /nested arrays of 'argument 1' are ragged/);
  for (const wrong of ['x', null, undefined, {}, [true]])
    await refuses(() => step(wrong as never), ShapeError, /argument 1/);
});

test('another shape is another recording, and both stay', async () => {
  const w = tensor(gpu, [2], [1], { requiresGrad: true });
  let calls = 0;
  const step = capture(gpu, (x) => {
    calls++;
    const loss = sum(mul(x, w));
    return { loss, dw: backward(loss).get(w)! };
  });
  const batch = tensor(gpu, [1, 2, 3, 4]);
  const last = tensor(gpu, [5, 6]);
  for (let epoch = 0; epoch < 3; epoch++) {
    assert.equal(await values(step(batch).dw), [10]);
    assert.equal(await values(step(last).dw), [11]);
  }
  assert.is(calls, 2);
  assert.is.not(step(batch).loss, step(last).loss);
  assert.equal(await values(step(batch).loss), [20]);
});

test('the eight recordings that were called last keep their memory; results of others can still be read', async () => {
  let calls = 0;
  const step = capture(gpu, (x) => {
    calls++;
    return mul(add(x, 1), 2);
  });
  const input = (n: number) => new Float32Array(12_000 - 64 * n).fill(1); // smaller and smaller: each fits a buffer of before;
  const first = step(input(0));
  for (let n = 1; n < 8; n++) step(input(n));
  step(input(0));
  assert.is(calls, 8);
  const before = memoryOf(gpu);
  for (let n = 8; n < 20; n++) step(input(n));
  assert.is(calls, 20);
  // Twelve more results of about 45 kB each wait for the collector, and no temporaries.
  assert.ok(memoryOf(gpu).bytes - before.bytes < 12 * 48_000, `${memoryOf(gpu).bytes - before.bytes} bytes more`);
  assert.is((await first.read())[0], 4);
  assert.is((await step(input(0)).read())[0], 4);
  assert.is(calls, 21);
});

test('a result is an argument of the next call', async () => {
  const step = capture(gpu, (h, x) => add(h, x)); // its one launch reads what it will write
  let h = tensor(gpu, [1, 10]);
  for (let i = 1; i <= 4; i++) h = step(h, [1, i]);
  assert.equal(await values(h), [5, 20]);
});

test('what the step updates in place is read as it was before the call; a packed tensor as itself', async () => {
  const [w, v] = [tensor(gpu, [1, 2]), tensor(gpu, [30, 40])];
  const step = capture(gpu, (x) => {
    accumulate(w, tensor(gpu, [100, 100]));
    return add(x, w);
  });
  assert.equal(await values(step(w)), [102, 104]);
  assert.equal(await values(step(w)), [302, 304]);
  pack([v, w]);
  const pair = capture(gpu, (x, y) => add(x, mul(y, 10)));
  assert.equal(await values(pair(v, w)), [2040, 2060]);
  assert.equal(await values(pair(w, v)), [501, 602]);
});

test('the gradient of an argument', async () => {
  const step = capture(gpu, (x) => {
    const loss = sum(mul(x, x));
    return backward(loss).get(x)!;
  });
  const x = tensor(gpu, [1, 2], [2], { requiresGrad: true });
  assert.equal(await values(step(x)), [2, 4]);
  await refuses(() => step(tensor(gpu, [1, 2])), ShapeError, /the loss depends on no parameter/);
});

test('an argument cannot be returned, changed, or used outside of its step', async () => {
  const x = tensor(gpu, [1, 2]);
  const says = /capture: the step returns or changes its argument 1\. Compute a new tensor/;
  await refuses(() => capture(gpu, (a) => ({ a: [reshape(a, [2, 1])], b: mul(a, 2) }))(x), GpuError, says);
  await refuses(() => capture(gpu, (a) => accumulate(a, x))(x), GpuError, says);
  let out: Tensor | undefined;
  const step = capture(gpu, (a) => {
    out = a;
    return mul(a, 2);
  });
  assert.equal(await values(step(x)), [2, 4]);
  await refuses(() => out!.read(), GpuError, /died with its scope/);
  await refuses(() => mul(out!, 2), GpuError, /died with its scope/);
  assert.equal(await values(step(x)), [2, 4]);
  assert.equal(await values(x), [1, 2]);
});

test('wrong arguments', async () => {
  const step = capture(gpu, (x: Tensor, y: Tensor) => add(x, y)) as (...args: unknown[]) => Tensor;
  const x = tensor(gpu, [1, 2]);
  await refuses(() => step(x), GpuError, /capture: got 1 arguments, expected the 2 that its function names/);
  await refuses(() => step(x, x, x), GpuError, /got 3 arguments/);
  const dead: Tensor[] = [];
  scope(gpu, () => void dead.push(tensor(gpu, [1, 2], [2], { label: 'inner' })));
  await refuses(() => step(x, dead[0]), GpuError, /capture: argument 2, 'inner', died with its scope/);
  await refuses(() => step(empty(gpu, [2], 'f32', 'void'), x), GpuError, /argument 1, 'void', was never written/);
  assert.equal(await values(step(x, x)), [2, 4]);
  const outer = capture(gpu, (z) => step(z, x));
  await refuses(() => outer(x), GpuError, /inside a captured step/);
});

test('a function without parameters gets none, whoever calls the step', async () => {
  const x = tensor(gpu, [1, 2]);
  const step = capture(gpu, () => mul(x, 2)) as (...args: unknown[]) => Tensor;
  assert.equal(await values(step(16.7)), [2, 4]); // requestAnimationFrame
  assert.is(step('a', 0, ['a']), step()); // forEach
  const rest = capture(gpu, (...xs: Tensor[]) => xs.reduce((a, b) => add(a, b)));
  await refuses(() => rest(x, x), GpuError, /got 2 arguments, expected the 0/);
});

test('prepare, info, findNonFinite and profile take the arguments of a call', async () => {
  const step = capture(gpu, (x) => mul(mul(x, 2), 3));
  await refuses(() => step.info, GpuError, /got 0 arguments, expected the 1/);
  await refuses(() => step.prepare(), GpuError, /got 0 arguments/);
  assert.is((await step.prepare({ args: [[1, 2]] })).launches, 2);
  assert.is(step.info.externalBytes, 8);
  step(new Float32Array(6));
  assert.is(step.info.externalBytes, 24);
  assert.is(await step.findNonFinite([1, 2]), undefined);
  assert.match((await step.findNonFinite([1, Number.NaN]))!, /launch 0 of 2/);
  if (gpu.features.has('timestamp-query')) assert.is((await step.profile([1, 2])).length, 2);
  assert.equal(await values(step([1, 2])), [6, 12]);
});

test('what is wrong with an argument is wrong with the results, and with nothing else', async () => {
  const broken = empty(gpu, [2]);
  run(
    '@group(0) @binding(0) var<storage, read_write> y: array<f32>;\n@compute @workgroup_size(64) fn broken() { y[0] = nothing; }',
    { y: broken },
    { threads: 1 },
  );
  const w = tensor(gpu, [1, 2]);
  const step = capture(gpu, (x) => {
    accumulate(w, x);
    return mul(x, 2);
  });
  const says = /broken: the shader does not compile/;
  await refuses(() => broken.read(), GpuError, says);
  await refuses(() => step(broken), GpuError, says);
  assert.equal(await values(step(tensor(gpu, [10, 20]))), [20, 40]);
  assert.equal(await values(w), [11, 22]);
});

test('WGRAD_CAPTURE=0 records at every call', async () => {
  let number = 0;
  const step = capture(gpu, (x) => mul(x, ++number));
  try {
    gpu.flags.capture = false;
    assert.equal(await values(step([1, 2])), [1, 2]);
    assert.equal(await values(step([1, 2])), [2, 4]);
  } finally {
    gpu.flags.capture = true;
  }
});

test.run();
