import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ActivatedGradient, recordActivation } from '../../engine/autograd.js';
import { empty, record } from '../../engine/custom.js';
import { add, backward, exp, GpuError, mul, noGrad, ShapeError, sum, type Tensor, tensor } from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('autograd');

const parameter = async (...data: number[]): Promise<Tensor> =>
  tensor(await testGpu(), data, [data.length], { requiresGrad: true });
const values = async (x: Tensor | undefined): Promise<number[]> => [...(await x!.read())];

test('a tensor used in several places gathers its gradients', async () => {
  const x = await parameter(1, 2, 3);
  const y = mul(x, x); // 2x
  y.requiresGrad = true; // a result keeps its gradient only when it is marked
  const loss = sum(add(add(mul(y, y), y), x)); // x⁴ + x² + x
  const gradients = backward(loss);
  assert.equal(await values(gradients.get(x)), [4 + 2 + 1, 32 + 4 + 1, 108 + 6 + 1]);
  assert.equal(await values(gradients.get(y)), [3, 9, 19]);
});

test('a deep chain', async () => {
  const x = await parameter(1);
  let y = x;
  for (let i = 0; i < 3000; i++) y = add(y, x);
  assert.equal(await values(backward(sum(y)).get(x)), [3001]);
});

test('only what leads to a parameter has a gradient', async () => {
  const x = await parameter(1, 2);
  const data = tensor(x.gpu, [3, 4]);
  const unused = await parameter(1);
  const gradients = backward(sum(mul(x, data)));
  assert.equal(await values(gradients.get(x)), [3, 4]);
  assert.is(gradients.get(data), undefined);
  assert.is(gradients.get(unused), undefined);
});

test('noGrad leaves no trace, also when it throws', async () => {
  const x = await parameter(1, 2);
  const held = noGrad(x.gpu, () => mul(x, x));
  assert.is(held.node, undefined);
  assert.equal(await values(backward(sum(mul(held, x))).get(x)), [1, 4]);
  assert.throws(() =>
    noGrad(x.gpu, () => {
      throw new Error('on purpose');
    }),
  );
  assert.ok(mul(x, x).node);
});

test('noGrad refuses work that waits, and does not stay on', async () => {
  const x = await parameter(1, 2);
  await refuses(
    () =>
      noGrad(x.gpu, async () => {
        await x.read();
        throw new Error('unheard');
      }),
    GpuError,
    /noGrad: the work is asynchronous — expected a function that does not wait\. Record inside/,
  );
  assert.ok(mul(x, x).node);
});

test('noGrad holds for its own device alone', async () => {
  const x = await parameter(1, 2);
  const other = await openDevice({ quiet: true });
  try {
    noGrad(other, () => assert.ok(mul(x, x).node));
    noGrad(x.gpu, () => assert.ok(mul(tensor(other, 2, [1], { requiresGrad: true }), 3).node));
  } finally {
    other.close();
  }
});

test('a seed replaces d(loss) = 1', async () => {
  const x = await parameter(1, 2);
  const seed = tensor(x.gpu, [10, 100]);
  assert.equal(await values(backward(mul(x, x), seed).get(x)), [20, 400]);
});

test('a seed of another shape or type is refused', async () => {
  const x = await parameter(1, 2);
  const y = mul(x, x);
  for (const seed of [tensor(x.gpu, [1, 2, 3]), tensor(x.gpu, 1), tensor(x.gpu, [1, 2], [2, 1])]) {
    await refuses(() => backward(y, seed), ShapeError, /backward: the seed is .* — got f32 \[.*\], expected f32 \[2\]/);
  }
  await refuses(
    () => backward(y, tensor(x.gpu, [1, 2], [2], { dtype: 'u32' })),
    ShapeError,
    /got u32 \[2\], expected f32 \[2\]/,
  );
});

test('a gradient with the derivative taken reaches only the op of its activation', async () => {
  const x = await parameter(1, 2);
  const sums = {
    partials: tensor(x.gpu, 0, [1, 2, 2]),
    parts: { count: 1, pixelsOf: '1u', run: { pixels: 1, parts: 1 } },
  };
  const activated = (y: Tensor) =>
    record('spy', exp(y), [y], (dy, _, flow) => {
      offered.push(flow.activated(0));
      return [new ActivatedGradient(dy, sums)];
    });
  const offered: boolean[] = [];
  // An op that does not take one.
  await refuses(
    () => backward(sum(activated(mul(x, x)))),
    GpuError,
    /spy: gradient 0 has its activation's derivative taken/,
  );
  const own = (y: Tensor) =>
    recordActivation('own', mul(y, 2), [y], (dy) => [dy instanceof ActivatedGradient ? dy.g : mul(dy, 0)]);
  // One that takes it and has another user, whose gradient comes first.
  const shared = own(x);
  await refuses(() => backward(sum(add(activated(shared), exp(shared)))), GpuError, /not the whole gradient/);
  // One whose gradient the user asked for.
  const asked = own(x);
  asked.requiresGrad = true;
  await refuses(() => backward(sum(activated(asked))), GpuError, /not the whole gradient/);
  assert.equal(offered, [false, true, false]);
  assert.equal(await values(backward(sum(activated(own(x)))).get(x)), [1, 1]);
});

test('needs says which gradients are wanted', async () => {
  const x = await parameter(1);
  const data = tensor(x.gpu, [2]);
  let asked: boolean[] | undefined;
  const y = record('spy', add(x, data), [x, data], (dy, needs) => {
    asked = needs;
    return [dy, dy];
  });
  assert.is(y.node!.inputs[0], x);
  const gradients = backward(sum(y));
  assert.equal(asked, [true, false]);
  assert.is(gradients.get(data), undefined);
});

test('faults are refused', async () => {
  const x = await parameter(1, 2);
  await refuses(() => backward(exp(x)), ShapeError, /loss must be one number — got \[2\]/);
  await refuses(() => backward(tensor(x.gpu, 1)), ShapeError, /depends on no parameter/);
  await refuses(() => backward(noGrad(x.gpu, () => sum(x))), ShapeError, /depends on no parameter/);
  const wrong = record('wrong', exp(x), [x], () => [empty(x.gpu, [3])]);
  await refuses(() => backward(sum(wrong)), ShapeError, /wrong: gradient 0 has shape \[3\], its input has \[2\]/);
});

test.run();
