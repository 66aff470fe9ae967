import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  empty,
  exp,
  mul,
  noGrad,
  record,
  ShapeError,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
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
  const held = noGrad(() => mul(x, x));
  assert.is(held.node, undefined);
  assert.equal(await values(backward(sum(mul(held, x))).get(x)), [1, 4]);
  assert.throws(() =>
    noGrad(() => {
      throw new Error('on purpose');
    }),
  );
  assert.ok(mul(x, x).node);
});

test('a seed replaces d(loss) = 1', async () => {
  const x = await parameter(1, 2);
  const seed = tensor(x.gpu, [10, 100]);
  assert.equal(await values(backward(mul(x, x), seed).get(x)), [20, 400]);
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
  await refuses(() => backward(noGrad(() => sum(x))), ShapeError, /depends on no parameter/);
  const wrong = record('wrong', exp(x), [x], () => [empty(x.gpu, [3])]);
  await refuses(() => backward(sum(wrong)), ShapeError, /wrong: gradient 0 has shape \[3\], its input has \[2\]/);
});

test.run();
