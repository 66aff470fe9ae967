// What people who come from other engines write first. Each is refused at the call, and the message says what to write; none of it
// passes with wrong numbers. Most is JavaScript that TypeScript would object to.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  batchNorm,
  createSgd,
  crossEntropy,
  detach,
  GpuError,
  leakyRelu,
  logSoftmax,
  mul,
  noGrad,
  reshape,
  ShapeError,
  softmax,
  square,
  sum,
  tensor,
} from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { unet, vnet } from '../../model/index.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('first mistakes');
const gpu = await testGpu();

// biome-ignore lint/suspicious/noExplicitAny: what JavaScript lets through
const js = (f: unknown): ((...args: any[]) => any) => f as never;
const shape = (work: () => unknown, message: RegExp): Promise<void> => refuses(work, ShapeError, message);
const weight = () => tensor(gpu, [1, 2], [2], { requiresGrad: true, label: 'w' });

test('a loss that is computed from a gradient is refused, however far away; detach makes it a constant', async () => {
  const w = weight();
  const loss = sum(square(w));
  const gradient = backward(loss).get(w)!;
  const says = /^backward: the loss is computed from a gradient, .* use detach\(gradient\)\.$/;
  await shape(() => backward(sum(square(gradient))), says);
  const penalty = sum(square(mul(reshape(gradient, [2, 1]), 3)));
  await shape(() => backward(add(loss, penalty)), says);
  await shape(() => backward(sum(gradient)), says);
  const gradients = backward(sum(mul(w, detach(gradient))));
  assert.equal(Array.from(await gradients.get(w)!.read()), [2, 4]);
  noGrad(gpu, () => sum(square(gradient)));
  assert.is(await sum(square(gradient)).item(), 20); // to look at one is no mistake
});

test('a seed stays a constant, even where it is returned as a gradient', async () => {
  const w = weight();
  const seed = tensor(gpu, [3, 4]);
  backward(add(w, 0), seed);
  assert.equal(
    Array.from(
      await backward(sum(mul(w, seed)))
        .get(w)!
        .read(),
    ),
    [3, 4],
  );
});

test('backward of nothing, or of a number; noGrad without a Gpu', async () => {
  await shape(() => js(backward)(), /^backward: the loss is undefined — expected the tensor that an op gave\./);
  await shape(() => js(backward)(0.5), /^backward: the loss is 0\.5 — /);
  await refuses(() => js(noGrad)(() => 1), GpuError, /^noGrad: the first argument is a function — expected the Gpu/);
});

test('axes and shapes that are something else', async () => {
  const x = weight();
  await shape(() => js(sum)(x, { axis: 0 }), /^sum: the axes are no number and no array\. Write sum\(x, axis\)\./);
  await shape(() => js(reshape)(x, 2), /^reshape: the shape is 2 — expected an array of sizes\./);
  for (const op of [softmax, logSoftmax]) {
    await shape(() => js(op)(tensor(gpu, 0, [2, 3]), 0), /oftmax: got 0 after x: it goes over the last axis/);
    js(op)(tensor(gpu, 0, [2, 3]), -1);
  }
});

test('options in place of numbers, and the other way round', async () => {
  await shape(
    () => js(leakyRelu)(weight(), { slope: 0.1 }),
    /^leakyRelu: the slope is \{ slope \} — expected a number/,
  );
  const [x, one, zero] = [tensor(gpu, 0, [2, 3]), tensor(gpu, 1, [3]), tensor(gpu, 0, [3])];
  await shape(() => js(batchNorm)(x, one, zero), /^batchNorm: there are no options — expected \{ mode: 'train' \}/);
  await shape(
    () => js(openDevice)('swiftshader'),
    /^openDevice: got options 'swiftshader', expected an object of adapter/,
  );
  for (const [name, make] of Object.entries({ unet, vnet })) {
    const message = new RegExp(`^${name}: got inChannels undefined and classes 4, expected a number of each`);
    await shape(() => js(make)(gpu, { inchannels: 1, classes: 4 }), message);
  }
});

test('what is meant is said: channels last, requiresGrad', async () => {
  const logits = tensor(gpu, 0, [1, 4, 8, 8]);
  const labels = tensor(gpu, 0, [1, 8, 8], { dtype: 'u8' });
  await shape(() => crossEntropy(logits, labels), /Classes are the last axis of logits\.$/);
  const forgotten = tensor(gpu, [1, 2], [2], { label: 'forgotten' });
  const optimizer = createSgd([forgotten], { learningRate: 0.1 });
  await shape(
    () => optimizer.step(backward(sum(mul(forgotten, weight())))),
    /'forgotten' has no gradient\. Set its requiresGrad/,
  );
});

test.run();
