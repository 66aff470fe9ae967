// What a captured step freezes, and what it refuses: each rule of the design is an error or shown here.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, run } from '../../engine/custom.js';
import { memoryOf } from '../../engine/debug.js';
import {
  add,
  backward,
  capture,
  GpuError,
  mul,
  ShapeError,
  scope,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('capture');

const values = async (x: Tensor): Promise<number[]> => [...(await x.read())];

/** x += 1 in place. */
function increment(x: Tensor): void {
  const source = `
    @group(0) @binding(0) var<storage, read_write> x: array<f32>;
    @compute @workgroup_size(64) fn increment(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&x)) { x[id.x] += 1.0; }
    }`;
  run(source, { x }, { threads: x.size });
}

test('replays with what the inputs hold now', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, () => add(mul(x, x), 1));
  assert.equal(await values(step()), [2, 5]);
  x.write([3, 4]);
  assert.equal(await values(step()), [10, 17]);
  assert.equal(await values(step()), [10, 17]);
});

test('state updated in place goes on', async () => {
  const state = tensor(await testGpu(), [0, 10]);
  const step = capture(state.gpu, () => {
    increment(state);
    return mul(state, 2);
  });
  for (let i = 1; i <= 5; i++) assert.equal(await values(step()), [2 * i, 20 + 2 * i]);
  assert.equal(await values(state), [5, 15]);
});

test('JavaScript numbers are frozen, 1-element tensors are not', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  const factor = tensor(gpu, 2);
  let number = 2;
  const step = capture(gpu, () => ({ byNumber: mul(x, number), byTensor: mul(x, factor) }));
  step();
  number = 5;
  factor.write(5);
  const { byNumber, byTensor } = step();
  assert.equal(await values(byNumber), [2, 4]);
  assert.equal(await values(byTensor), [5, 10]);
});

test('branches are frozen; the function runs once', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  let calls = 0;
  const step = capture(x.gpu, () => (calls++ === 0 ? mul(x, 2) : mul(x, 100)));
  for (let i = 0; i < 3; i++) assert.equal(await values(step()), [2, 4]);
  assert.is(calls, 1);
});

test('returned tensors are the same ones, overwritten by the next call', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, () => ({ y: mul(x, 2) }));
  const first = step();
  x.write([10, 20]);
  const second = step();
  assert.is(first.y, second.y);
  assert.equal(await values(first.y), [20, 40]);
});

test('read() inside', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const says = /capture: read\(\) inside a captured step/;
  for (const read of [(y: Tensor) => y.read(), (y: Tensor) => sum(y).item()]) {
    let reading: Promise<unknown> | undefined;
    const step = capture(x.gpu, () => {
      const y = mul(x, 2);
      reading = read(y); // nobody awaits it: that must not end the process
      return y;
    });
    await refuses(step, GpuError, says);
    await new Promise((done) => setTimeout(done, 0));
    await refuses(() => reading, GpuError, says);
  }
  assert.equal(await values(mul(x, 2)), [2, 4]);
});

test('a recording that throws frees what it made, wherever it throws', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2], [2], { requiresGrad: true });
  const broken = `
    @group(0) @binding(0) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(64) fn broken() { y[0] = nothing; }`;
  const work = (until: number) => () => {
    let place = 0;
    const here = (): void => {
      if (place++ === until) throw new RangeError(`place ${until}`);
    };
    here();
    const constant = tensor(gpu, new Float32Array(4000)); // a buffer of the step's own
    here();
    const y = scope(gpu, () => {
      const inner = tensor(gpu, new Float32Array(5000));
      here();
      return add(mul(x, 2), sum(inner));
    });
    here();
    const loss = add(sum(y), sum(constant));
    backward(loss);
    here();
    return { loss, late: tensor(gpu, new Float32Array(6000)) };
  };
  await values(x);
  const before = memoryOf(gpu);
  for (let until = 0; until < 5; until++) {
    const step = capture(gpu, work(until));
    await refuses(step, RangeError, /place/);
    await refuses(() => step.prepare(), RangeError, /place/);
    await refuses(() => step.info, RangeError, /place/);
    assert.equal(memoryOf(gpu).bytes, before.bytes, `place ${until}`);
    assert.equal(memoryOf(gpu).freeBytes, before.freeBytes, `place ${until}`);
  }
  let lost: Tensor | undefined;
  await refuses(
    capture(gpu, () => {
      lost = mul(tensor(gpu, new Float32Array(7000)), 2);
      lost.write([1]);
    }),
    GpuError,
    /write\(\) inside/,
  );
  assert.equal(memoryOf(gpu).bytes, before.bytes);
  await refuses(() => lost!.read(), GpuError, /died with its scope/);
  for (const call of [() => capture(gpu, work(9))(), () => void run(broken, { y: empty(gpu, [1]) }, { threads: 1 })])
    call();
  assert.equal(await values(mul(x, 3)), [3, 6]);
  assert.is(await capture(gpu, work(9))().loss.item(), 12 - 6);
});

test('an asynchronous scope that a recording leaves open takes no other along', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  let ended: Promise<unknown> | undefined;
  const kept = await scope(gpu, async () => {
    const y = mul(x, 2);
    const step = capture(gpu, () => {
      ended = scope(gpu, async () => {
        await Promise.resolve();
        return 1;
      });
      return mul(x, 3);
    });
    assert.equal(await values(step()), [3, 6]);
    await ended;
    return add(y, 1);
  });
  assert.equal(await values(kept), [3, 5]);
});

test('write() inside', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, () => {
    x.write([3, 4]);
    return mul(x, 2);
  });
  await refuses(step, GpuError, /capture: write\(\) inside a captured step/);
  assert.equal(await values(x), [1, 2]);
});

test('an input written with another size', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, () => mul(x, 2));
  step();
  await refuses(() => x.write([1, 2, 3]), ShapeError, /has 2 elements \[2\] — got 3/);
  assert.equal(await values(step()), [2, 4]);
});

test('a step inside a step', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const inner = capture(x.gpu, () => mul(x, 2));
  const outer = capture(x.gpu, () => add(inner(), 1));
  await refuses(outer, GpuError, /inside a captured step/);
  inner();
  await refuses(outer, GpuError, /inside a captured step/);
  assert.equal(await values(inner()), [2, 4]);
});

test('a step that records nothing', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  await refuses(
    capture(x.gpu, () => x),
    GpuError,
    /records nothing. Call at least one op/,
  );
});

test('an asynchronous step', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, async () => mul(x, 2));
  await refuses(step, GpuError, /the step is asynchronous/);
});

test('one tensor bound twice where one binding writes', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const source = `
    @group(0) @binding(0) var<storage, read> a: array<f32>;
    @group(0) @binding(1) var<storage, read_write> b: array<f32>;
    @compute @workgroup_size(64) fn twice(@builtin(global_invocation_id) id: vec3u) { b[id.x] = a[id.x]; }`;
  const step = capture(x.gpu, () => run(source, { a: x, b: x }, { threads: 2 }));
  await refuses(step, GpuError, /twice: one tensor is bound twice, as 'a' and 'b'/);
});

test('a tensor that dies with its scope', async () => {
  const gpu = await testGpu();
  const step = scope(gpu, () => {
    const inside = tensor(gpu, [1, 2], [2], { label: 'weights' });
    const made = capture(gpu, () => mul(inside, 2));
    made();
    return made;
  });
  await refuses(step, GpuError, /capture: 'weights' died with its scope; the step still uses it/);
});

test('an error in the step is passed on, and the next step works', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, () => {
    scope(x.gpu, () => mul(x, 2));
    throw new RangeError('on purpose');
  });
  await refuses(step, RangeError, /on purpose/);
  await refuses(step, RangeError, /on purpose/);
  assert.equal(await values(capture(x.gpu, () => mul(x, 3))()), [3, 6]);
  assert.equal(await values(mul(x, 4)), [4, 8]);
});

test('what was pending before runs before; what comes after sees the results', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const before = mul(x, 2);
  const step = capture(x.gpu, () => add(before, 1));
  const y = step();
  const after = mul(y, 10);
  assert.equal(await values(after), [30, 50]);
  const pending = mul(step(), 100);
  x.write([0, 0]);
  assert.equal(await values(pending), [300, 500]);
});

test('tensors made inside are constants', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, () => scope(x.gpu, () => mul(x, tensor(x.gpu, [10, 100]))));
  for (let i = 0; i < 3; i++) assert.equal(await values(step()), [10, 200]);
});

test('scopes inside: what ends early shares memory, results are right', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  const step = capture(x.gpu, () => {
    const parts = [1, 2, 3, 4].map((k) => scope(x.gpu, () => sum(mul(add(x, k), add(x, k)))));
    return parts.reduce((a, b) => add(a, b));
  });
  const expected = [1, 2, 3, 4].reduce((total, k) => total + (1 + k) ** 2 + (2 + k) ** 2, 0);
  for (let i = 0; i < 3; i++) assert.equal(await values(step()), [expected]);
  assert.ok(step.info.plannedBytes < step.info.unsharedBytes);
});

test('info costs no memory; prepare() compiles and runs nothing', async () => {
  const gpu = await testGpu();
  const state = tensor(gpu, new Float32Array(1000));
  const before = memoryOf(gpu).bytes;
  const step = capture(gpu, () => {
    increment(state);
    return mul(mul(mul(state, 2), 2), 2);
  });
  const { launches, buffers, plannedBytes, unsharedBytes, externalBytes } = step.info;
  assert.is(memoryOf(gpu).bytes, before);
  assert.equal(
    { launches, buffers, plannedBytes, unsharedBytes, externalBytes },
    {
      launches: 4,
      buffers: 2,
      plannedBytes: 8000,
      unsharedBytes: 12000,
      externalBytes: 4000,
    },
  );
  await step.prepare();
  assert.is((await state.read())[0], 0);
  step();
  assert.is((await state.read())[0], 1);
});

test('prepare() tells how many kernels are compiled, to the last one, and once more when nothing is left', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, new Float32Array(64), [8, 8]);
  const step = capture(gpu, () => [sum(x, 0), sum(x, 1), mul(x, 3), mul(mul(x, x), 4)].map((y) => mul(y, y)));
  const heard: [number, number][] = [];
  const { launches } = await step.prepare({ onProgress: (...counts) => void heard.push(counts) });
  const total = heard[0]![1];
  assert.ok(total > 1 && total < launches, `${total} kernels of ${launches} launches`);
  assert.ok(heard.every(([, of]) => of === total));
  const counts = heard.map(([done]) => done);
  assert.equal(
    counts,
    [...counts].sort((a, b) => a - b),
  );
  assert.is(counts.at(-1), total);
  if (gpu.adapter.driver !== 'lavapipe') {
    const again: number[] = [];
    await step.prepare({ onProgress: (done) => void again.push(done) });
    assert.equal(again, [total]);
  }
  await refuses(() => step.prepare({ onprogress: () => {} } as never), ShapeError, /onProgress/);
});

test('a captured step computes what eager code does, bit for bit', async () => {
  const gpu = await testGpu();
  const x = tensor(
    gpu,
    Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i)),
    [1000],
    { requiresGrad: true },
  );
  const work = () => {
    const loss = sum(mul(mul(x, x), add(x, 1)));
    return { loss, dx: backward(loss).get(x)! };
  };
  const eager = work();
  const captured = capture(gpu, work)();
  assert.equal(await values(captured.loss), await values(eager.loss));
  assert.equal(await values(captured.dx), await values(eager.dx));
});

test('memory is flat over 1000 replays', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, new Float32Array(5000).fill(0.5), [5000], { requiresGrad: true });
  const step = capture(gpu, () => {
    const loss = sum(mul(mul(x, x), add(x, 1)));
    return { loss, dx: backward(loss).get(x)! };
  });
  await step().loss.item();
  const before = memoryOf(gpu);
  for (let i = 0; i < 1000; i++) {
    const v = i % 10; // sums stay exact
    x.write(new Float32Array(5000).fill(v));
    const { loss } = step();
    if (i % 99 === 0) assert.is(await loss.item(), 5000 * v * v * (v + 1), `replay ${i}`);
  }
  assert.is(memoryOf(gpu).bytes, before.bytes);
  assert.is(memoryOf(gpu).peak, before.peak);
});

test('WGRAD_CAPTURE=0 records at every call', async () => {
  const x = tensor(await testGpu(), [1, 2]);
  let number = 0;
  const step = capture(x.gpu, () => mul(x, ++number));
  try {
    x.gpu.flags.capture = false;
    assert.equal(await values(step()), [1, 2]);
    assert.equal(await values(step()), [2, 4]);
  } finally {
    x.gpu.flags.capture = true;
  }
});

test('an output that only another step reads', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  const first = capture(gpu, () => mul(x, 2));
  const y = first();
  const second = capture(gpu, () => add(y, 1));
  assert.equal(await values(second()), [3, 5]);
  x.write([5, 6]);
  first();
  assert.equal(await values(second()), [11, 13]);
});

test('a temporary that nothing writes', async () => {
  const gpu = await testGpu();
  await refuses(() => empty(gpu, [2], 'f32', 'nothing').read(), GpuError, /'nothing' was never written/);
});

test.run();
