// Mistakes that are easy to make, above all in JavaScript: each is refused at the call, by a sentence that names what was given
// and what to do instead. What TypeScript would object to is written through `js`.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, run } from '../../engine/custom.js';
import { memoryOf } from '../../engine/debug.js';
import {
  add,
  backward,
  batchNorm,
  capture,
  cast,
  concat,
  conv,
  createAdamW,
  createRandom,
  createSgd,
  crossEntropy,
  diceLoss,
  dropout,
  ema,
  GpuError,
  gaussianNoise,
  instanceNorm,
  max,
  maxPool,
  mean,
  mul,
  normActivation,
  pack,
  relu,
  reshape,
  ShapeError,
  scope,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { lowConfidenceMask, meanTeacherLoss } from '../../engine/method.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('mistakes');
const gpu = await testGpu();

// biome-ignore lint/suspicious/noExplicitAny: what JavaScript lets through
type Loose = (...args: any[]) => any;
const js = <T>(f: T): Loose => f as Loose;
const shape = (work: () => unknown, message: RegExp): Promise<void> => refuses(work, ShapeError, message);

test('values that a dtype cannot hold: named with their place, in tensor() and write()', async () => {
  const bad: ['u8' | 'u32' | 'i32', number, RegExp][] = [
    ['u8', 256, /value 1 of 'y' is 256 — expected a whole number from 0 to 255 for u8/],
    ['u8', -1, /value 1 of 'y' is -1/],
    ['u8', 1.5, /value 1 of 'y' is 1\.5/],
    ['u8', Number.NaN, /value 1 of 'y' is NaN/],
    ['u32', -1, /value 1 of 'y' is -1 — expected a whole number from 0 to 4294967295 for u32/],
    ['u32', 2 ** 32, /is 4294967296/],
    ['i32', 2 ** 31, /is 2147483648 — expected a whole number from -2147483648 to 2147483647 for i32/],
    ['i32', 0.5, /is 0\.5/],
    ['i32', Number.POSITIVE_INFINITY, /is Infinity/],
  ];
  for (const [dtype, value, message] of bad) {
    await shape(() => tensor(gpu, [0, value], [2], { dtype, label: 'y' }), message);
    const y = tensor(gpu, [7, 8], [2], { dtype, label: 'y' });
    await shape(() => y.write([0, value]), message);
    await shape(() => y.write(Float64Array.of(0, value)), message);
    assert.equal(Array.from(await y.read()), [7, 8]); // nothing was written
  }
  await shape(() => tensor(gpu, 300, [4], { dtype: 'u8' }), /value 0 of 'tensor' is 300/);
  await shape(() => tensor(gpu, Int8Array.of(1, -1), [2], { dtype: 'u8' }), /value 1 of 'tensor' is -1/);
});

test('what the dtypes do hold, at their ends', async () => {
  for (const [dtype, values] of [
    ['u8', [0, 255]],
    ['u32', [0, 4294967295]],
    ['i32', [-2147483648, 2147483647]],
    ['f32', [-Infinity, Number.NaN]],
  ] as const) {
    assert.equal(Array.from(await tensor(gpu, values, [2], { dtype }).read()), Array.from(values));
  }
  assert.equal(Array.from(await tensor(gpu, 1e39).read()), [Infinity]);
  const half = tensor(gpu, [1e6, -1e6], [2], { dtype: 'f16' });
  assert.equal(Array.from(await half.read()), [Infinity, -Infinity]);
});

test('what is no number', async () => {
  await shape(() => js(tensor)(gpu, ['a', 2]), /value 0 of 'tensor' is 'a' — expected a number/);
  await shape(() => js(tensor)(gpu, [1, undefined]), /value 1 of 'tensor' is undefined/);
  await shape(() => js(tensor)(gpu, [true, false]), /value 0 of 'tensor' is true — expected a number. Write 1 and 0/);
  await shape(() => js(tensor)(gpu, [1n]), /value 0 of 'tensor' is 1n/);
  await shape(() => js(tensor)(gpu, new Array(2)), /value 0 of 'tensor' is undefined/);
  await shape(() => js(tensor)(gpu, undefined), /the data of 'tensor' is undefined — expected a number/);
  await shape(() => js(tensor)(gpu, '12'), /the data of 'tensor' is '12'/);
  await shape(() => js(tensor)(gpu, tensor(gpu, 1)), /the data of 'tensor' is a tensor f32 \[\]/);
  const x = tensor(gpu, [1, 2]);
  await shape(() => js(x.write.bind(x))(['1', 2]), /write: value 0 of 'tensor' is '1'/);
  await shape(() => tensor(gpu, ['x'.repeat(500)] as never), /is 'x{40,60}…/);
});

test('nested arrays give the shape; ragged ones are refused', async () => {
  const x = tensor(gpu, [
    [1, 2, 3],
    [4, 5, 6],
  ]);
  assert.equal(x.shape, [2, 3]);
  assert.equal(Array.from(await x.read()), [1, 2, 3, 4, 5, 6]);
  assert.equal(tensor(gpu, [[[1], [2]]]).shape, [1, 2, 1]);
  assert.equal(tensor(gpu, [Float32Array.of(1, 2), Float32Array.of(3, 4)]).shape, [2, 2]);
  assert.equal(tensor(gpu, [[1, 2, 3, 4]], [2, 2]).shape, [2, 2]);
  x.write([
    [6, 5, 4],
    [3, 2, 1],
  ]);
  assert.equal(Array.from(await x.read()), [6, 5, 4, 3, 2, 1]);
  await shape(() => tensor(gpu, [[1, 2], [3]]), /ragged — got 1 elements at data\[1\], expected 2 elements/);
  await shape(() => js(tensor)(gpu, [[1, 2], 3]), /ragged — got 3 at data\[1\], expected 2 elements/);
  await shape(() => js(tensor)(gpu, [[1], [[2]]]), /ragged|is \[2\]/);
  await shape(() => tensor(gpu, [[1, 2]], [3]), /\[3\] has 3 elements — got 2 values/);
});

test('unknown dtypes leave the accounting as it was', async () => {
  const before = memoryOf(gpu).bytes;
  await shape(
    () => js(tensor)(gpu, 0, [2], { dtype: 'float32' }),
    /unknown dtype 'float32' — expected f32, f16, u32, i32, u8. Did you mean 'f32'\?/,
  );
  await shape(() => js(tensor)(gpu, 0, [2], { dtype: 'f64' }), /unknown dtype 'f64'/);
  await shape(() => js(empty)(gpu, [2], 'int8'), /unknown dtype 'int8'/);
  assert.is(memoryOf(gpu).bytes, before);
});

test('unknown options are named, and what was meant', async () => {
  const x = tensor(gpu, 1, [1, 4, 4, 2]);
  const w = tensor(gpu, 1, [2, 3, 3, 2], { requiresGrad: true });
  await shape(
    () => js(tensor)(gpu, 0, [2], { requireGrad: true }),
    /unknown option 'requireGrad' — expected an object of dtype, label, requiresGrad. Did you mean 'requiresGrad'\?/,
  );
  await shape(
    () => js(conv)(x, w, undefined, { strides: 2 }),
    /conv: unknown option 'strides'.*Did you mean 'stride'\?/,
  );
  await shape(() => js(createSgd)([w], { lr: 0.1 }), /sgd: unknown option 'lr'.*'learningRate'/);
  await shape(() => js(createAdamW)([w], { betas: [0.9, 0.99] }), /adamw: unknown option 'betas'.*beta1 and beta2/);
  await shape(
    () => js(crossEntropy)(x, x, { ignore_index: 1 }),
    /crossEntropy: unknown option 'ignore_index'.*Did you mean 'ignoreIndex'\?/,
  );
  await shape(() => js(diceLoss)(x, x, { eps: 1 }), /diceLoss: unknown option 'eps'.*Did you mean 'epsilon'\?/);
  for (const reduction of [sum, mean, max]) {
    await shape(() => js(reduction)(x, 0, { keepdim: true }), /unknown option 'keepdim'.*Did you mean 'keepDims'\?/);
    await shape(() => js(reduction)(x, 0, true), /got options true, expected an object of keepDims/);
  }
  await shape(
    () => js(cast)(x, 'float16'),
    /^cast: unknown dtype 'float16' — expected f32, f16, .*Did you mean 'f16'\?/,
  );
  const mask = { confidence: 'higher', threshold: x, inverted: true };
  await shape(() => js(lowConfidenceMask)(x, x, mask), /unknown option 'inverted'.*Did you mean 'invert'\?/);
  await shape(
    () => js(meanTeacherLoss)(x, { labels: x, labeledPixels: 1, ignoreindex: 0 }),
    /Did you mean 'ignoreIndex'\?/,
  );
  await shape(() => js(maxPool)(x, 3), /maxPool: got options 3, expected an object of window, stride, padding/);
  await shape(() => js(tensor)(gpu, [1, 2], { dtype: 'u8' }), /the shape is \{ dtype \} — expected an array of sizes/);
});

test('a forgotten Gpu', async () => {
  await refuses(() => js(tensor)([1, 2]), GpuError, /tensor: the first argument is \[1, 2\] — expected the Gpu/);
  await refuses(() => js(capture)(() => 1), GpuError, /capture: the first argument is a function — expected the Gpu/);
  await refuses(() => js(capture)(gpu, 5), GpuError, /capture: the step is 5 — expected a function/);
  await refuses(() => js(scope)(() => 1), GpuError, /scope: the first argument is a function/);
  await refuses(() => js(empty)([2]), GpuError, /empty: the first argument is \[2\]/);
  await refuses(() => js(createRandom)(7), GpuError, /createRandom: the first argument is 7/);
});

test('the optimizer: it has a learning rate, its gradients are what backward gives', async () => {
  const w = tensor(gpu, [1, 2], [2], { requiresGrad: true, label: 'w' });
  const lr = tensor(gpu, 0.1);
  for (const [name, make] of Object.entries({ sgd: createSgd, adamw: createAdamW })) {
    const optimizer = make([w]);
    const gradients = backward(sum(w));
    const step = js(optimizer.step.bind(optimizer));
    const says = (work: () => unknown, text: string): Promise<void> => shape(work, new RegExp(`${name}: ${text}`));
    await says(() => step(gradients), 'there is no learning rate — expected step\\(gradients, lr\\)');
    await says(() => step(gradients, '0.1'), "lr is '0.1' — expected a tensor");
    await says(() => step(lr, gradients), 'got gradients a tensor f32 \\[\\] — expected what backward\\(loss\\) gives');
    await says(() => step(gradients, w), 'lr is f32 \\[2\\], expected one f32 number');
    await says(() => step(gradients, lr, { gaurd: w }), "unknown option 'gaurd'.*Did you mean 'guard'");
    await says(() => make([]), 'got no parameters — expected an array of at least one tensor');
    await says(() => js(make)(w), 'got parameters a tensor f32 \\[2\\] — expected an array');
    await says(() => js(make)([w, undefined]), 'parameter 1 is undefined');
  }
});

test('inputs that are no tensors, and what ops draw from', async () => {
  const [a, b] = [tensor(gpu, [1]), tensor(gpu, [2])];
  await shape(() => js(relu)(5), /elu: the input is 5 — expected a tensor/);
  await shape(
    () => js(concat)(a, b),
    /concat: the inputs are a tensor f32 \[1\] — expected an array of tensors. Write concat\(\[a, b\], axis\)/,
  );
  await shape(() => js(concat)([a, 3], 0), /concat: input 1 is 3/);
  await shape(() => js(concat)([a, b]), /concat: the axis is undefined/);
  await shape(
    () => js(dropout)(a, 0.5),
    /dropout: draws from undefined — expected what createRandom\(gpu, seed\) gives/,
  );
  await shape(() => js(gaussianNoise)(a, { std: 1 }), /gaussianNoise: draws from undefined/);
  await shape(() => js(maxPool)(), /maxPool: the input is undefined/);
});

test('seeds and steps are whole numbers of 32 bits', async () => {
  for (const seed of [Number.NaN, -1, 0.5, 2 ** 32, Number.POSITIVE_INFINITY]) {
    await shape(
      () => createRandom(gpu, seed),
      new RegExp(`createRandom: the seed is ${seed} — expected a whole number`),
    );
    await shape(() => createRandom(gpu, 1).setStep(seed), /setStep: the step is/);
  }
  await shape(() => js(createRandom)(gpu, '7'), /the seed is '7'/);
  createRandom(gpu, 2 ** 32 - 1).setStep(2 ** 32 - 1);
});

test('norms: sizes and dtypes of γ, β and running statistics; one value a channel', async () => {
  const x = tensor(gpu, 1, [2, 3, 3, 4]);
  const of = (n: number, dtype: 'f32' | 'u32' = 'f32') => tensor(gpu, 1, [n], { dtype });
  const training = { mode: 'train' } as const;
  for (const norm of [
    batchNorm,
    (...[z, g, b, o]: Parameters<typeof batchNorm>) => normActivation(z, g, b, { ...o, slope: 0.1 }),
  ]) {
    await shape(
      () => norm(x, of(3), of(4), training),
      /gamma f32 \[3\] do not match — expected x \[\.\.\., C\] and gamma f32 \[C\]/,
    );
    await shape(() => norm(x, of(4), of(5), training), /beta f32 \[5\]/);
    await shape(() => norm(x, of(4, 'u32'), of(4), training), /gamma u32 \[4\]/);
    const running = { mean: of(4), variance: of(2) };
    await shape(() => norm(x, of(4), of(4), { mode: 'eval', running }), /running.variance f32 \[2\]/);
    await shape(
      () => norm(x, of(4), of(4), { mode: 'train', running: { mean: of(4, 'u32'), variance: of(4) } }),
      /running.mean u32/,
    );
    const pixel = tensor(gpu, 1, [1, 1, 1, 4]);
    await shape(() => norm(pixel, of(4), of(4), training), /one value a channel has no variance — got x \[1,1,1,4\]/);
    norm(pixel, of(4), of(4), { mode: 'eval', running: { mean: of(4), variance: of(4) } });
    await shape(() => js(norm)(x, of(4), of(4), { mode: 'train', eps: 1 }), /unknown option 'eps'/);
  }
  await shape(() => instanceNorm(tensor(gpu, 1, [2, 1, 1, 4]), of(4), of(4)), /instanceNorm: one value a channel/);
  await shape(() => instanceNorm(x, of(4), of(2)), /instanceNorm: .*beta f32 \[2\]/);
});

/** A weight, an input, and the gradient of what `op` makes of them after `change`. */
async function changed(
  change: (w: Tensor, x: Tensor) => void,
  op: (x: Tensor, w: Tensor) => Tensor = mul,
): Promise<void> {
  const w = tensor(gpu, [2, 3], [2], { requiresGrad: true, label: 'w' });
  const x = tensor(gpu, [5, 7], [2], { label: 'x' });
  const loss = sum(op(x, w));
  change(w, x);
  await backward(loss).get(w)!.read();
}

test('what backward reads and was written since: named, with the op and what changed it', async () => {
  const said = (what: string, by: string, op = 'mul') =>
    new RegExp(`backward: '${what}' was changed by ${by} after ${op} had used it`);
  await refuses(() => changed((_, x) => x.write([1, 1])), GpuError, said('x', 'write\\(\\)'));
  await changed((w) => w.write([1, 1])); // d(x·w)/dw reads x alone
  await changed((_, x) => x.write([1, 1]), add); // a sum's gradient reads neither
  await changed(
    (_, x) => x.write([1, 1]),
    (a, b) => reshape(add(reshape(a, [2, 1]), reshape(b, [2, 1])), [2]),
  );
  await refuses(
    () =>
      changed(
        (w) => w.write([1, 1]),
        (_, w) => square(w),
      ),
    GpuError,
    said('w', 'write\\(\\)', 'square'),
  );
  await refuses(
    () =>
      changed(
        (w) => w.write([1, 1]),
        (_, w) => square(reshape(w, [2, 1])),
      ),
    GpuError,
    said('w', 'write\\(\\)', 'square'),
  );
});

test('a step or an average between forward and backward, of plain and of packed parameters', async () => {
  for (const make of [createSgd, createAdamW]) {
    for (const packed of [false, true]) {
      const parameters = [1, 2].map((v) => tensor(gpu, v, [3], { requiresGrad: true }));
      if (packed) pack(parameters);
      const optimizer = make(parameters);
      const [a, b] = parameters as [Tensor, Tensor];
      const lr = tensor(gpu, 0.1);
      const loss = () => sum(mul(a, b));
      const [first, second] = [loss(), loss()];
      optimizer.step(backward(first), lr);
      await refuses(
        () => backward(second),
        GpuError,
        /was changed by (sgd|adamw) after mul had used it.*Call backward before/,
      );
      optimizer.step(backward(loss()), lr); // anew: fine
      const third = loss();
      ema(parameters, [tensor(gpu, 0, [3]), tensor(gpu, 0, [3])], tensor(gpu, 0.5));
      await refuses(() => backward(third), GpuError, /was changed by ema after mul had used it/);
      const fourth = loss();
      a.write([1, 1, 1]);
      await refuses(() => backward(fourth), GpuError, /was changed by write/);
      const other = sum(square(b)); // beside a in the pack, and not written
      a.write([2, 2, 2]);
      backward(other);
    }
  }
});

test('randomness whose step changed; recorded steps; the teacher', async () => {
  const random = createRandom(gpu, 3);
  const w = tensor(gpu, 1, [8], { requiresGrad: true, label: 'w' });
  const lost = sum(dropout(w, 0.5, random));
  random.setStep(1);
  await refuses(() => backward(lost), GpuError, /'random' was changed by write\(\) after dropout had used it/);
  const [lr, optimizer] = [tensor(gpu, 0.1), createSgd([w])];
  const wrong = capture(gpu, () => {
    const loss = sum(square(w));
    const again = sum(square(w));
    optimizer.step(backward(loss), lr);
    return backward(again).get(w);
  });
  await refuses(() => wrong(), GpuError, /'w' was changed by sgd after square had used it/);
  const step = capture(gpu, () => {
    const loss = sum(square(dropout(w, 0.5, random)));
    optimizer.step(backward(loss), lr);
    return loss;
  });
  for (let i = 0; i < 3; i++) {
    random.setStep(i);
    assert.ok(Number.isFinite(await step().item()));
  }
});

test('a seed may be written at any time, and gradients may be computed twice', async () => {
  const w = tensor(gpu, [2, 3], [2], { requiresGrad: true });
  const seed = tensor(gpu, [1, 1]);
  const y = square(w);
  seed.write([10, 100]);
  assert.equal(Array.from(await backward(y, seed).get(w)!.read()), [40, 600]);
  seed.write([1, 2]);
  assert.equal(Array.from(await backward(y, seed).get(w)!.read()), [4, 12]);
});

test('what nothing has written is no input', async () => {
  const x = empty(gpu, [2], 'f32', 'nothing');
  await refuses(() => add(x, 1), GpuError, /'nothing' \[2\], which nothing has written/);
  await refuses(() => x.read(), GpuError, /'nothing' was never written/);
});

test('a binding takes the elements of its shader alone', async () => {
  const copy = (type: string) => `
    alias Element = ${type};
    @group(0) @binding(0) var<storage, read> x: array<Element>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(1) fn copy_one() { y[0] = f32(x[0]${type.startsWith('vec') ? '.x' : ''}); }`;
  const y = empty(gpu, [1]);
  for (const [type, fits] of [
    ['f32', ['f32']],
    ['vec4f', ['f32']],
    ['vec2<u32>', ['u32', 'u8']],
    ['u32', ['u32', 'u8']],
    ['i32', ['i32']],
    ['vec4i', ['i32']],
  ] as const) {
    for (const dtype of ['f32', 'f16', 'u32', 'i32', 'u8'] as const) {
      const x = tensor(gpu, 3, [16], { dtype });
      const launch = (): void => run(copy(type), { x, y }, { threads: 1 });
      if (!(fits as readonly string[]).includes(dtype)) {
        await refuses(launch, GpuError, new RegExp(`copy_one: 'x' is ${dtype} \\[16\\] — the shader reads [fui]32`));
        continue;
      }
      launch();
      if (dtype !== 'u8') assert.is(await y.item(), 3);
    }
  }
});

test.run();
