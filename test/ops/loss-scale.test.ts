import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  capture,
  createLossScale,
  createSgd,
  mul,
  pack,
  ShapeError,
  sum,
  tensor,
} from '../../engine/index.js';
import { closeTo } from '../close-to.js';
import { testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';

const test = suite('lossScale');

for (const packed of [false, true]) {
  test(`an overflow leaves the step out and halves the scale; good steps double it${packed ? ' (packed)' : ''}`, async () => {
    const gpu = await testGpu();
    const p = tensor(gpu, [1, 2, 3], [3], { requiresGrad: true });
    const q = tensor(gpu, [4], [1], { requiresGrad: true });
    if (packed) pack([p, q]);
    const c = tensor(gpu, [0.5, 1, -1]);
    const lr = tensor(gpu, 0.1);
    const scaling = createLossScale(gpu, { initial: 1024, interval: 2 });
    const optimizer = createSgd([p, q]);
    const step = capture(gpu, () => {
      const gradients = backward(sum(mul(mul(p, c), q)), scaling.scale);
      optimizer.step(gradients, lr, { unscale: scaling.unscale(gradients, [p, q]) });
    });
    const scales: number[] = [];
    const expected = { p: [1, 2, 3], q: 4 };
    for (const [i, bad] of [false, true, false, false, false].entries()) {
      c.write(bad ? [Number.POSITIVE_INFINITY, 1, 1] : [0.5, 1, -1]);
      step();
      if (!bad) {
        const dq = 0.5 * expected.p[0]! + expected.p[1]! - expected.p[2]!;
        expected.p = expected.p.map((v, k) => v - 0.1 * [0.5, 1, -1][k]! * expected.q);
        expected.q -= 0.1 * dq;
      }
      closeTo(await p.read(), expected.p, { rtol: 1e-6, atol: 1e-7 }, `step ${i}`);
      closeTo(await q.read(), [expected.q], { rtol: 1e-6 }, `step ${i}`);
      scales.push(await scaling.scale.item());
    }
    assert.equal(scales, [1024, 512, 512, 1024, 1024]);
    assert.is(await scaling.state[1]!.item(), 1);
  });
}

test('what is no scale is refused', async () => {
  const gpu = await testGpu();
  await refuses(() => createLossScale(gpu, { initial: 3 }), ShapeError, /power of two/);
  await refuses(() => createLossScale(gpu, { interval: 0 }), ShapeError, /at least 1/);
});

test.run();
