// Numbers given to ops are data: any value works, all share one kernel, and a captured step keeps its own. And the kernels that a
// Gpu remembers are bounded.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../../engine/custom.js';
import { memoryOf } from '../../engine/debug.js';
import {
  add,
  backward,
  capture,
  clamp,
  createRandom,
  div,
  dropout,
  type Gpu,
  gaussianNoise,
  leakyRelu,
  mean,
  mul,
  ShapeError,
  scope,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { kernel, kernelCount, mostKernels } from '../../engine/kernel.js';
import { openDevice } from '../../engine/node.js';
import { fromHalf, toHalf } from '../../engine/tensor.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('numbers');
const testHalf = unless(await lacking('shader-f16'), test);
const f32 = Math.fround;

/** How many kernels `work` adds to those of a device of its own. */
async function kernelsOf(work: (gpu: Gpu) => Promise<void>): Promise<number> {
  const gpu = await openDevice({ quiet: true });
  try {
    await work(gpu);
    return kernelCount(gpu);
  } finally {
    gpu.close();
  }
}

test('forty numbers cost as many kernels as one', async () => {
  const random = (gpu: Gpu) => createRandom(gpu, 1);
  const each: [string, number, (x: Tensor, n: number) => Tensor][] = [
    ['operands', 4, (x, n) => div(mul(sub(add(x, n), n), n), n)],
    ['clamp', 1, (x, n) => clamp(x, -n, n)],
    ['leakyRelu', 1, (x, n) => leakyRelu(x, n)],
    ['gaussianNoise', 1, (x, n) => gaussianNoise(x, { std: n, clip: 2 * n, random: random(x.gpu) })],
    ['dropout', 1, (x, n) => dropout(x, n / 2, random(x.gpu))],
  ];
  for (const [name, expected, op] of each) {
    const count = await kernelsOf(async (gpu) => {
      const x = tensor(gpu, [1, 2, 3, 4, 5]);
      for (let i = 0; i < 40; i++) await op(x, 0.97 ** i).read();
    });
    assert.is(count, expected, name);
  }
});

test('what they give is what arithmetic in f32 gives, infinite and NaN too', async () => {
  const gpu = await testGpu();
  const numbers = [
    0.1,
    -3,
    0,
    -0,
    1e39,
    -1e39,
    Number.MAX_VALUE,
    -Number.MAX_VALUE,
    Infinity,
    -Infinity,
    NaN,
    1e30,
    2 ** 24 + 1,
  ];
  const xs = [1, -2.5, 0, -0, 3e38, Infinity, -Infinity, NaN];
  const x = tensor(gpu, xs);
  for (const n of numbers) {
    const b = f32(n);
    const results = scope(gpu, () => ({
      add: add(x, n),
      sub: sub(n, x),
      mul: mul(x, n),
      div: div(x, n),
      'div by x': div(n, x),
    }));
    const expected: Record<keyof typeof results, (a: number) => number> = {
      add: (a) => a + b,
      sub: (a) => b - a,
      mul: (a) => a * b,
      div: (a) => a / b,
      'div by x': (a) => b / a,
    };
    for (const [name, y] of Object.entries(results)) {
      const values = xs.map((a) => f32(expected[name as keyof typeof results](f32(a))));
      closeTo(await y.read(), values, { rtol: 3e-7, atol: 2 ** -126 }, `${name} with ${n}`);
    }
  }
});

test('division by 0 is IEEE’s, whether 0 is a number or a tensor', async () => {
  const gpu = await testGpu();
  for (const size of [7, 8]) {
    const xs = Array.from({ length: size }, (_, i) => [3, -3, 0, Infinity, NaN][i % 5]!);
    const x = tensor(gpu, xs);
    for (const zero of [0, tensor(gpu, 0, [1]), tensor(gpu, 0, [size])]) {
      closeTo(
        await div(x, zero).read(),
        xs.map((v) => v / 0),
      );
    }
    closeTo(
      await div(x, -0).read(),
      xs.map((v) => v / -0),
    );
  }
});

test('an attention mask, and clamp with one open end', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [-2, 0.5, 3, Infinity, -Infinity], [5], { requiresGrad: true });
  closeTo(await clamp(x, 0, Infinity).read(), [0, 0.5, 3, Infinity, 0]);
  closeTo(await clamp(x, -Number.MAX_VALUE, 1).read(), [-2, 0.5, 1, 1, -Infinity]);
  closeTo(
    await backward(sum(clamp(x, 0, Infinity)))
      .get(x)!
      .read(),
    [0, 1, 1, 1, 0],
  );
  closeTo(await add(x, -Number.MAX_VALUE).read(), [-Infinity, -Infinity, -Infinity, NaN, -Infinity]);
  await refuses(() => clamp(x, Number.NaN, 1), ShapeError, /clamp.*NaN/);
  await refuses(() => add(x, undefined as unknown as number), ShapeError, /add: b is undefined.*a tensor or a number/);
  await refuses(() => mul('2' as unknown as number, x), ShapeError, /mul: a is 2/);
});

test('the gradients of div, square and sqrt stay in range as long as they are', async () => {
  const gpu = await testGpu();
  const cases: [number, number, number][] = [
    [1e-30, 1e-30, 1],
    [1e30, 1e30, 1],
    [1, 1e20, 1e20],
    [1e30, 1e25, 1e-5],
    [1e-30, 1e-20, 1e-5],
    [1e-36, 1e-30, 1e10],
    [1e20, 1e-10, 1e-35],
    [3, -7, 0.5],
    [0, 2, 1],
    [2, 3, 0],
  ];
  const column = (k: number) =>
    tensor(
      gpu,
      cases.map((row) => row[k]!),
      [cases.length],
      { requiresGrad: true },
    );
  const [a, b, dy] = [column(0), column(1), column(2)];
  const gradients = backward(div(a, b), dy);
  const exact = (f: (a: number, b: number, dy: number) => number) =>
    cases.map((row) => f32(f(...(row.map(f32) as typeof row))));
  closeTo(
    await gradients.get(b)!.read(),
    exact((p, q, d) => (-d * p) / (q * q)),
    { rtol: 1e-6, atol: 0 },
    'divisor',
  );
  closeTo(
    await gradients.get(a)!.read(),
    exact((_, q, d) => d / q),
    { rtol: 1e-6, atol: 0 },
    'dividend',
  );
  const x = tensor(gpu, [0.1], [1], { requiresGrad: true });
  closeTo(
    await backward(square(x), tensor(gpu, [2e38]))
      .get(x)!
      .read(),
    [4e37],
    { rtol: 1e-6 },
    'square',
  );
});

testHalf('f16 tensors stay f16; the number is rounded once, in the sum', async () => {
  const gpu = await testGpu();
  const xs = [1, 0.333, 1000];
  const x = tensor(gpu, xs, [3], { dtype: 'f16' });
  const half = (v: number) => fromHalf(toHalf(v));
  const y = add(x, 0.1);
  assert.is(y.dtype, 'f16');
  closeTo(
    await y.read(),
    xs.map((v) => half(half(v) + f32(0.1))),
  );
  closeTo(await mul(x, 1e39).read(), [Infinity, Infinity, Infinity]);
});

test('a captured step keeps its numbers, whatever runs between its calls', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2, 3, 4]);
  const first = capture(gpu, () => clamp(mul(add(x, 10), 3), 34, 40));
  const second = capture(gpu, () => mul(add(x, 20), -1));
  for (let call = 0; call < 3; call++) {
    const [p, q] = [first(), second()];
    const others = await Promise.all([5, 6, 7].map((n) => add(x, n + call).read()));
    closeTo(
      others[2]!,
      [8, 9, 10, 11].map((v) => v + call),
    );
    closeTo(await p.read(), [34, 36, 39, 40]);
    closeTo(await q.read(), [-21, -22, -23, -24]);
  }
});

test('many eager numbers: the last is right, memory does not grow', async () => {
  const gpu = await openDevice({ quiet: true });
  try {
    const x = tensor(gpu, [1, 2, 3]);
    let bytes = 0;
    for (let i = 0; i < 300; i++) {
      const y = scope(gpu, () => add(square(x), i));
      if (i % 50 === 49) {
        closeTo(await y.read(), [1 + i, 4 + i, 9 + i]);
        if (i === 99) bytes = memoryOf(gpu).bytes;
        if (i > 99) assert.ok(memoryOf(gpu).bytes <= 2 * bytes, `${memoryOf(gpu).bytes} bytes after ${bytes}`);
      }
    }
    // A thousand and more in one submit lie side by side.
    const ys = Array.from({ length: 1200 }, (_, i) => add(x, i / 8));
    for (const i of [0, 1, 600, 1199]) closeTo(await ys[i]!.read(), [1 + i / 8, 2 + i / 8, 3 + i / 8]);
    assert.is(kernelCount(gpu), 2);
  } finally {
    gpu.close();
  }
});

test('mean divides by the count, and its gradient too, at any count', async () => {
  const gpu = await testGpu();
  for (const n of [1, 3, 70, 2100]) {
    const x = tensor(
      gpu,
      Float32Array.from({ length: n }, (_, i) => i),
      [n],
      { requiresGrad: true },
    );
    const y = mean(x);
    closeTo(await y.read(), [(n - 1) / 2], { rtol: 1e-6 });
    closeTo(await backward(y).get(x)!.read(), new Array(n).fill(1 / n), { rtol: 1e-6 });
  }
});

const plus = (n: number): string => `
  @group(0) @binding(0) var<storage, read> x: array<f32>;
  @group(0) @binding(1) var<storage, read_write> y: array<f32>;
  @compute @workgroup_size(64) fn plus_${n}(@builtin(global_invocation_id) id: vec3u) {
    if (id.x < arrayLength(&x)) { y[id.x] = x[id.x] + ${n}.0; }
  }`;

test('kernels are forgotten, the least recently used first; who holds one keeps it', async () => {
  const gpu = await openDevice({ quiet: true });
  try {
    const x = tensor(gpu, [1, 2]);
    const apply = (n: number): Tensor => {
      const y = tensor(gpu, 0, [2]);
      run(plus(n), { x, y }, { threads: 2 });
      return y;
    };
    const step = capture(gpu, () => {
      const y = tensor(gpu, 0, [2]);
      run(plus(1), { x, y }, { threads: 2 });
      return y;
    });
    closeTo(await step().read(), [2, 3]);
    const kept = kernel(gpu, plus(2));
    const before = kernel(gpu, plus(3));
    const pending = apply(3);
    for (let n = 10; n < 10 + 3 * mostKernels; n++) {
      kernel(gpu, plus(n));
      if (n % 100 === 0) assert.is(kernel(gpu, plus(2)), kept, 'a kernel in use was forgotten');
      assert.ok(kernelCount(gpu) <= mostKernels, `${kernelCount(gpu)} kernels`);
    }
    assert.is(kernelCount(gpu), mostKernels);
    closeTo(await pending.read(), [4, 5]);
    closeTo(await step().read(), [2, 3]);
    assert.is.not(kernel(gpu, plus(3)), before, 'it was not forgotten');
    closeTo(await apply(3).read(), [4, 5]);
  } finally {
    gpu.close();
  }
});

test.run();
