// What a gradient is computed from must be what its op saw: a change in between is an error, recorded or eager.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  capture,
  conv,
  createRandom,
  createSgd,
  dropout,
  ema,
  type Gpu,
  GpuError,
  leakyRelu,
  matmul,
  mul,
  normActivation,
  pack,
  reshape,
  scope,
  square,
  sum,
  type Tensor,
  tensor,
  upsample,
} from '../../engine/index.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('changes');

const parameter = (gpu: Gpu, data: number[], shape = [data.length], label = 'w'): Tensor =>
  tensor(gpu, data, shape, { requiresGrad: true, label });
const inScope = async (work: (gpu: Gpu) => Promise<void>): Promise<void> => {
  const gpu = await testGpu();
  await scope(gpu, () => work(gpu));
};

test('write() between forward and backward', () =>
  inScope(async (gpu) => {
    const [x, w] = [tensor(gpu, [1, 2], [2], { label: 'x' }), parameter(gpu, [3, 4])];
    const loss = sum(mul(x, w));
    x.write([5, 6]);
    await refuses(
      () => backward(loss),
      GpuError,
      /backward: 'x' was changed by write\(\) after mul had used it — .* Call backward before that/,
    );
    closeTo(
      await backward(sum(mul(x, w)))
        .get(w)!
        .read(),
      [5, 6],
    );
  }));

test('what no gradient reads may change, and so may gradients themselves', () =>
  inScope(async (gpu) => {
    const [x, w] = [tensor(gpu, [1, 2]), parameter(gpu, [3, 4])];
    const loss = sum(add(x, w));
    x.write([5, 6]);
    w.write([7, 8]);
    const first = backward(loss).get(w)!;
    closeTo(await first.read(), [1, 1]);
    closeTo(await backward(loss).get(w)!.read(), [1, 1]);
  }));

for (const packed of [false, true]) {
  test(`an optimizer's step between forward and backward${packed ? ', packed' : ''}`, () =>
    inScope(async (gpu) => {
      const parameters = [parameter(gpu, [1, 2]), parameter(gpu, [3, 4], [2], 'v')];
      if (packed) pack(parameters);
      const sgd = createSgd(parameters, { momentum: 0, weightDecay: 0 });
      const lr = tensor(gpu, 0.5);
      const lossOf = () => sum(mul(parameters[0]!, parameters[1]!));
      const [loss, other] = [lossOf(), lossOf()];
      sgd.step(backward(loss), lr);
      await refuses(() => backward(other), GpuError, /was changed by sgd after mul had used it/);
      closeTo(await parameters[0]!.read(), [-0.5, 0]);
      closeTo(await backward(lossOf()).get(parameters[0]!)!.read(), [2.5, 3]);
    }));
}

test('a packed tensor that is written leaves its neighbours as they are', () =>
  inScope(async (gpu) => {
    const [w, v] = [parameter(gpu, [1, 2]), parameter(gpu, [3, 4], [2], 'v')];
    pack([w, v]);
    const loss = sum(square(w));
    v.write([9, 9]);
    closeTo(await backward(loss).get(w)!.read(), [2, 4]);
    const after = sum(square(v));
    v.write([1, 1]);
    await refuses(() => backward(after), GpuError, /changed by write\(\) after square/);
  }));

test('a seed may come later', () =>
  inScope(async (gpu) => {
    const [w, seed] = [parameter(gpu, [1, 2]), tensor(gpu, [0, 0])];
    const y = square(w);
    seed.write([3, 4]);
    closeTo(await backward(y, seed).get(w)!.read(), [6, 16]);
  }));

test('a view is what it is a view of', () =>
  inScope(async (gpu) => {
    const [x, w] = [tensor(gpu, [1, 2, 3, 4]), parameter(gpu, [1, 1, 1, 1], [2, 2])];
    const loss = sum(matmul(reshape(x, [2, 2]), w));
    x.write([0, 0, 0, 0]);
    await refuses(() => backward(loss), GpuError, /changed by write\(\) after matmul/);
  }));

test('a moving average, and a captured step, between forward and backward', () =>
  inScope(async (gpu) => {
    const [w, v] = [parameter(gpu, [1, 2]), parameter(gpu, [3, 4])];
    const half = tensor(gpu, 0.5);
    const loss = sum(square(w));
    ema([w], [v], half);
    await refuses(() => backward(loss), GpuError, /changed by ema after square/);
    const step = capture(gpu, () => ema([w], [v], half));
    step();
    const again = sum(square(w));
    step();
    await refuses(() => backward(again), GpuError, /changed by a captured step after square/);
  }));

test('a random whose step changed', () =>
  inScope(async (gpu) => {
    const random = createRandom(gpu, 1);
    const w = parameter(gpu, [1, 2, 3, 4]);
    const loss = sum(dropout(w, 0.5, random));
    random.setStep(1);
    await refuses(() => backward(loss), GpuError, /changed by write\(\) after dropout/);
  }));

test('while a step is recorded', () =>
  inScope(async (gpu) => {
    const w = parameter(gpu, [1, 2]);
    const lr = tensor(gpu, 0.5);
    const sgd = createSgd([w], { momentum: 0, weightDecay: 0 });
    const step = capture(gpu, () => {
      const [loss, late] = [sum(square(w)), sum(square(w))];
      sgd.step(backward(loss), lr);
      return backward(late).get(w);
    });
    await refuses(() => step(), GpuError, /changed by sgd after square/);
    const right = capture(gpu, () => sgd.step(backward(sum(square(w))), lr));
    right();
    right();
    closeTo(await w.read(), [0, 0]);
  }));

test('a result that is overwritten: its statistics and its activation are those of the new numbers', () =>
  inScope(async (gpu) => {
    const x = tensor(gpu, [1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 2, 4]);
    const w = tensor(gpu, [1, 0, 0, 0], [1, 1, 1, 4]);
    const z = conv(x, w, undefined, { statistics: true });
    closeTo(await z.read(), [1, 5]);
    z.write([10, 30]);
    const [gamma, beta] = [tensor(gpu, 1, [1]), tensor(gpu, 0, [1])];
    closeTo(await normActivation(z, gamma, beta, { mode: 'train', slope: 1 }).read(), [-1, 1], { atol: 1e-5 });

    const v = parameter(gpu, [1, 1, 1, 1], [1, 1, 1, 4]);
    const from = parameter(gpu, [-1, 2, -3, 4], [1, 1, 1, 4], 'from');
    const up = upsample(from); // deferred: it has its contents from here on
    const a = leakyRelu(up, 0.5);
    await a.read();
    up.write(Array<number>(16).fill(1));
    const y = sum(conv(a, v));
    await refuses(() => backward(y), GpuError, /changed by write\(\) after leakyRelu/);
    assert.is(a.storage.deferred, undefined);
  }));

test.run();
