// Scopes: what is returned lives, the rest dies; memory stays flat.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { memoryOf, trim } from '../../engine/debug.js';
import { add, exp, GpuError, mul, scope, sum, type Tensor, tensor } from '../../engine/index.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('scope');

test('what is returned lives, at any depth', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  const kept = scope(gpu, () => {
    const y = mul(x, 2);
    return { y, list: [add(y, 1)], map: new Map([['z', mul(y, y)]]), made: tensor(gpu, [7]) };
  });
  assert.equal([...(await kept.y.read())], [2, 4]);
  assert.equal([...(await kept.list[0]!.read())], [3, 5]);
  assert.equal([...(await kept.map.get('z')!.read())], [4, 16]);
  assert.equal([...(await kept.made.read())], [7]);
});

test('what is not returned dies', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  let lost!: Tensor;
  let made!: Tensor;
  scope(gpu, () => {
    lost = mul(x, 2);
    made = tensor(gpu, [1], [1], { label: 'made' });
  });
  await refuses(() => lost.read(), GpuError, /read: 'mul' died with its scope. Return it/);
  await refuses(() => mul(lost, 2), GpuError, /died with its scope/);
  await refuses(() => made.write([2]), GpuError, /'made' died with its scope/);
  assert.equal([...(await x.read())], [1, 2]);
});

test('results recorded in a scope do not need its temporaries alive', async () => {
  const gpu = await testGpu();
  const x = tensor(
    gpu,
    Float32Array.from({ length: 1000 }, (_, i) => i / 1000),
  );
  const outside = mul(x, 3);
  const y = scope(gpu, () => sum(mul(add(x, 1), add(x, 1))));
  const later = mul(outside, 2);
  const expected = Array.from({ length: 1000 }, (_, i) => (1 + i / 1000) ** 2).reduce((a, b) => a + b);
  assert.ok(Math.abs((await y.item()) - expected) < 1e-2);
  assert.ok(Math.abs((await later.read())[999]! - 6 * 0.999) < 1e-5);
});

test('an inner result lives until the outer scope ends', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  let inner!: Tensor;
  const outer = scope(gpu, () => {
    inner = scope(gpu, () => mul(x, 2));
    return add(inner, 1);
  });
  assert.equal([...(await outer.read())], [3, 5]);
  await refuses(() => inner.read(), GpuError, /died with its scope/);
});

test('an asynchronous scope ends when its promise settles', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  let lost!: Tensor;
  const kept = await scope(gpu, async () => {
    lost = mul(x, 2);
    assert.equal([...(await lost.read())], [2, 4]);
    return mul(lost, 2);
  });
  assert.equal([...(await kept.read())], [4, 8]);
  await refuses(() => lost.read(), GpuError, /died with its scope/);
});

test('asynchronous scopes that overlap: an error that says so', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  const wait = (turns: number) => new Promise((done) => setTimeout(done, 20 * turns));
  const first = scope(gpu, async () => {
    await wait(1);
    return mul(x, 2);
  });
  const second = scope(gpu, async () => {
    await wait(3);
    return mul(x, 3);
  });
  await refuses(
    () => first,
    GpuError,
    /scope: it ended before a scope that began after it: two asynchronous scopes overlap/,
  );
  assert.equal([...(await (await second).read())], [3, 6]);
  const nested = scope(gpu, async () => {
    const inner = await scope(gpu, async () => {
      await wait(1);
      return mul(x, 4);
    });
    return add(inner, 1);
  });
  assert.equal([...(await (await nested).read())], [5, 9]);
});

test('trim() gives back what nobody uses', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, new Float32Array(100_000));
  await scope(gpu, async () => void (await exp(mul(x, 2)).read()));
  const before = memoryOf(gpu);
  assert.ok(before.freeBytes >= 400_000, `${before.freeBytes} bytes are free`);
  trim(gpu);
  const after = memoryOf(gpu);
  assert.equal([after.freeBytes, after.bytes], [0, before.bytes - before.freeBytes]);
  assert.is((await add(x, 1).read())[0], 1);
});

test('an error ends the scope, synchronous or not', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  let lost!: Tensor;
  const work = (): never => {
    lost = mul(x, 2);
    throw new RangeError('on purpose');
  };
  await refuses(() => scope(gpu, work), RangeError, /on purpose/);
  await refuses(() => lost.read(), GpuError, /died with its scope/);
  await refuses(() => scope(gpu, async () => work()), RangeError, /on purpose/);
  await refuses(() => lost.read(), GpuError, /died with its scope/);
  assert.equal([...(await scope(gpu, () => mul(x, 2)).read())], [2, 4]);
});

test('memory is flat over 200 scopes', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, new Float32Array(10_000).fill(1));
  const once = () => scope(gpu, async () => sum(exp(mul(add(x, 1), 2))).item());
  for (let i = 0; i < 5; i++) await once();
  const before = memoryOf(gpu);
  for (let i = 0; i < 200; i++) await once();
  assert.is(memoryOf(gpu).bytes, before.bytes);
  assert.is(memoryOf(gpu).peak, before.peak);
});

test.run();
