// Learning rates of optimizers: tensors, numbers, `learningRate`, schedules; and AdamW with loss scaling.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  capture,
  cosineSchedule,
  createAdamW,
  createSgd,
  GpuError,
  polynomialSchedule,
  ShapeError,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('learning rate');

const makers = {
  sgd: (p: Tensor[], learningRate?: number) => createSgd(p, learningRate === undefined ? {} : { learningRate }),
  adamw: (p: Tensor[], learningRate?: number) => createAdamW(p, learningRate === undefined ? {} : { learningRate }),
};

for (const [name, make] of Object.entries(makers)) {
  test(`${name}: a tensor, a number and learningRate do the same`, async () => {
    const gpu = await testGpu();
    const rates = [0.1, 0.03, 0.2];
    const parameter = (): Tensor => tensor(gpu, [1, -2, 3], [3], { requiresGrad: true });
    const lossOf = (p: Tensor): Tensor => sum(square(p));
    const [a, b, c, d] = [parameter(), parameter(), parameter(), parameter()];
    const [first, second, third, fourth] = [make([a]), make([b]), make([c]), make([d], 0.1)];
    assert.ok(Number.isNaN(third.learningRate));
    assert.is(fourth.learningRate, 0.1);
    const lr = tensor(gpu, 0);
    const step = capture(gpu, () => fourth.step(backward(lossOf(d))));
    for (const rate of rates) {
      lr.write(rate);
      first.step(backward(lossOf(a)), lr);
      second.step(backward(lossOf(b)), rate);
      third.learningRate = rate;
      third.step(backward(lossOf(c)));
      fourth.learningRate = rate;
      step();
    }
    const want = [...(await a.read())];
    assert.not.equal(want, [1, -2, 3]);
    for (const p of [b, c, d]) assert.equal([...(await p.read())], want);
  });

  test(`${name}: a rate that a step would freeze, or none, is refused`, async () => {
    const gpu = await testGpu();
    const p = tensor(gpu, [1], [1], { requiresGrad: true });
    const optimizer = make([p]);
    const gradients = backward(sum(p));
    await refuses(
      () => optimizer.step(gradients),
      ShapeError,
      new RegExp(`${name}: there is no learning rate.*learningRate`),
    );
    const frozen = capture(gpu, () => optimizer.step(backward(sum(p)), 0.1));
    await refuses(() => frozen(), ShapeError, /lr is the number 0.1 inside a captured step.*optimizer.learningRate/);
    const setting = capture(gpu, () => {
      optimizer.learningRate = 0.1;
    });
    await refuses(() => setting(), GpuError, /learningRate was set inside a captured step/);
    await refuses(() => optimizer.step(gradients, Number.NaN), ShapeError, /the learning rate is NaN/);
    await refuses(() => make([p], Number.POSITIVE_INFINITY), ShapeError, /the learning rate is Infinity/);
    await refuses(() => optimizer.step(gradients, 'fast' as never), ShapeError, /lr is 'fast'/);
    closeTo(await p.read(), [1]);
  });
}

test('adamw with loss scaling: the same steps bit for bit, and none where the factor is 0', async () => {
  const gpu = await testGpu();
  const results = await Promise.all(
    [1, 4096].map(async (scale) => {
      const p = tensor(gpu, [1, -2, 0.3, 4], [4], { requiresGrad: true });
      const teacher = tensor(gpu, 0, [4]);
      const optimizer = createAdamW([p], { learningRate: 0.1 });
      const [seed, unscale, decay] = [tensor(gpu, scale), tensor(gpu, 1 / scale), tensor(gpu, 0.5)];
      const step = capture(gpu, () => {
        const average = { tensors: [teacher], decay };
        optimizer.step(backward(sum(square(p)), seed), undefined, { unscale, average });
      });
      for (let i = 0; i < 3; i++) {
        unscale.write(0); // an overflow
        step();
        unscale.write(1 / scale);
        step();
      }
      return Promise.all([p, teacher, ...optimizer.state].map(async (t) => [...(await t.read())]));
    }),
  );
  assert.equal(results[0], results[1]);
  const plain = tensor(gpu, [1, -2, 0.3, 4], [4], { requiresGrad: true });
  const optimizer = createAdamW([plain], { learningRate: 0.1 });
  for (let i = 0; i < 3; i++) optimizer.step(backward(sum(square(plain))));
  assert.equal([...(await plain.read())], results[0]![0]);
});

test('groups of parameters: two optimizers take the same gradients', async () => {
  const gpu = await testGpu();
  const [weight, bias] = [1, 1].map((v) => tensor(gpu, v, [1], { requiresGrad: true })) as [Tensor, Tensor];
  const decayed = createAdamW([weight], { weightDecay: 0.5, learningRate: 0.1 });
  const kept = createAdamW([bias], { weightDecay: 0, learningRate: 0.1 });
  const gradients = backward(add(sum(square(weight)), sum(square(bias))));
  decayed.step(gradients);
  kept.step(gradients);
  closeTo([await weight.item(), await bias.item()], [0.95 - 0.1, 0.9], { rtol: 1e-5 });
});

test('schedules', async () => {
  const poly = { steps: 10, initial: 2 };
  assert.is(polynomialSchedule(0, poly), 2);
  closeTo([polynomialSchedule(5, poly)], [2 * 0.5 ** 0.9], { rtol: 1e-15 });
  closeTo([polynomialSchedule(5, { ...poly, power: 1, final: 1 })], [1.5]);
  assert.is(polynomialSchedule(10, poly), 0);
  assert.is(polynomialSchedule(99, { ...poly, final: 0.5 }), 0.5);
  const cosine = { steps: 10, initial: 4, warmUp: 2, final: 1 };
  closeTo(
    [0, 1, 2, 6, 10, 11].map((step) => cosineSchedule(step, cosine)),
    [2, 4, 4, 2.5, 1, 1],
    { rtol: 1e-15 },
  );
  await refuses(() => cosineSchedule(0, { ...cosine, warmup: 3 } as never), ShapeError, /'warmup'.*'warmUp'/);
  await refuses(() => polynomialSchedule(-1, poly), ShapeError, /step is -1/);
});

test.run();
