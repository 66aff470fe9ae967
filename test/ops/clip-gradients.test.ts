import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  capture,
  clipGradients,
  createAdamW,
  createSgd,
  type Gpu,
  mul,
  pack,
  ShapeError,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('clipGradients');

const sizes = [1, 257, 64, 5000, 3, 7];
const values = sizes.map((size, i) =>
  Array.from({ length: size }, (_, k) => Math.fround(Math.sin(k * (i + 1)) * (i + 1))),
);
/** The gradient of Σ ½x² is x itself. */
const parametersOf = (gpu: Gpu): Tensor[] =>
  values.map((list, i) => tensor(gpu, list, [list.length], { requiresGrad: true, label: `p${i}` }));
const lossOf = (parameters: readonly Tensor[]): Tensor =>
  parameters.map((p) => sum(mul(square(p), 0.5))).reduce((a, b) => add(a, b));
const norm = Math.sqrt(values.flat().reduce((a, v) => a + v * v, 0));

for (const packed of [false, true]) {
  for (const maxNorm of [1e-3, 5, 1e4]) {
    test(`${packed ? 'packed' : 'separate'}, at most ${maxNorm}`, async () => {
      const gpu = await testGpu();
      const parameters = parametersOf(gpu);
      if (packed) pack(parameters);
      const step = capture(gpu, () => {
        const clipped = clipGradients(backward(lossOf(parameters)), parameters, maxNorm);
        return { norm: clipped.norm, list: parameters.map((p) => clipped.gradients.get(p)!) };
      });
      for (let call = 0; call < 2; call++) {
        const { norm: got, list } = step();
        closeTo(await got.read(), [norm], { rtol: 2e-6 });
        const factor = Math.min(1, maxNorm / norm);
        for (const [i, g] of list.entries()) {
          closeTo(
            await g.read(),
            values[i]!.map((v) => v * factor),
            { rtol: 3e-6 },
            `gradient ${i}`,
          );
        }
      }
    });
  }
}

test('the optimizer takes them; a scale is taken out of the norm, and a guard of the norm keeps parameters', async () => {
  const gpu = await testGpu();
  const runs = await Promise.all(
    [1, 1024].map(async (scale) => {
      const parameters = parametersOf(gpu);
      const optimizer = createAdamW(parameters);
      const [seed, unscale] = [tensor(gpu, scale), tensor(gpu, 1 / scale)];
      const { gradients, norm: got } = clipGradients(backward(lossOf(parameters), seed), parameters, 2, { unscale });
      closeTo(await got.read(), [norm], { rtol: 2e-6 });
      optimizer.step(gradients, 0.1, { unscale });
      return Promise.all([...parameters, ...optimizer.state].map((t) => t.read()));
    }),
  );
  assert.equal(runs[0], runs[1]); // powers of two change nothing
  const p = tensor(gpu, [1, Number.NaN], [2], { requiresGrad: true });
  const q = tensor(gpu, [5], [1], { requiresGrad: true });
  const { gradients, norm: bad } = clipGradients(backward(lossOf([p, q])), [p, q], 1);
  createSgd([q]).step(gradients, 0.1, { guard: bad });
  closeTo(await q.read(), [5]);
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const [p, other] = [tensor(gpu, 1, [2], { requiresGrad: true }), tensor(gpu, 1, [2], { label: 'other' })];
  const gradients = backward(sum(p));
  await refuses(() => clipGradients(gradients, [p], 0), ShapeError, /clipGradients: maxNorm is 0/);
  await refuses(() => clipGradients(gradients, [p, other], 1), ShapeError, /parameter 'other' has no gradient/);
  await refuses(() => clipGradients(gradients, [], 1), ShapeError, /got parameters \[\]/);
  await refuses(() => clipGradients([p] as never, [p], 1), ShapeError, /expected what backward\(loss\) gives/);
});

test.run();
