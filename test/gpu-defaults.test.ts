// What a real GPU gets by default (tiled kernels, what they fuse on load, their weight layouts) run here, on a CPU driver: a training
// step of a small U as a GPU is given it, against the composition of plain ops that a CPU driver is given.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  capture,
  concat,
  conv,
  createRandom,
  createSgd,
  crossEntropy,
  maxPool,
  normActivation,
  pack,
  scope,
  type Tensor,
  tensor,
  uniformStream,
  upsample,
} from '../engine/index.js';
import { testGpu } from './gpu.js';

const test = suite('defaults of a GPU');

/** Loss, gradients and parameters after a step, by the defaults for `software` or not; and the kernels that were compiled for it. */
async function trainingStep(image: readonly number[], software: boolean, fuse: boolean) {
  const gpu = await testGpu();
  const [before, switches] = [gpu.adapter.software, { ...gpu.flags }];
  const { device } = gpu;
  const kernels: string[] = [];
  const make = device.createShaderModule;
  device.createShaderModule = (descriptor) => {
    kernels.push(/fn (\w+)\(@builtin/.exec(descriptor.code)?.[1] ?? '');
    return make.call(device, descriptor);
  };
  Object.assign(gpu.adapter, { software });
  Object.assign(gpu.flags, { fuse, tune: false, poison: true });
  try {
    return await scope(gpu, async () => {
      const uniform = uniformStream(3);
      const draw = (shape: readonly number[], low: number, high: number, requiresGrad = true) => {
        const size = shape.reduce((a, b) => a * b, 1);
        const values = Float32Array.from({ length: size }, () => low + (high - low) * uniform());
        return tensor(gpu, values, [...shape], { requiresGrad });
      };
      const parameters: Tensor[] = [];
      const kept = (t: Tensor): Tensor => {
        parameters.push(t);
        return t;
      };
      const spatial = image.slice(1, -1);
      const kernel = spatial.map(() => 3);
      const layer = (inputs: number, outputs: number) => {
        const bound = 1 / Math.sqrt(inputs * 3 ** spatial.length);
        const [weight, bias] = [
          kept(draw([outputs, ...kernel, inputs], -bound, bound)),
          kept(draw([outputs], -bound, bound)),
        ];
        const [gamma, beta] = [kept(draw([outputs], 0.5, 1.5)), kept(draw([outputs], -0.5, 0.5))];
        const options = { mode: 'train' as const, slope: 0.01, dropout: { rate: 0.2, random } };
        return (x: Tensor) => normActivation(conv(x, weight, bias), gamma, beta, options);
      };
      const random = createRandom(gpu, 7);
      const x = draw(image, 0, 1, false);
      const labels = Array.from({ length: x.size }, () => Math.floor(3 * uniform()));
      const y = tensor(gpu, labels, image.slice(0, -1), { dtype: 'u8' });
      const [down, deep, up] = [layer(1, 8), layer(8, 16), layer(24, 8)];
      const last = kept(draw([3, ...spatial.map(() => 1), 8], -0.3, 0.3));
      pack(parameters);
      const optimizer = createSgd(parameters, { momentum: 0.9 });
      const lr = tensor(gpu, 0.1);
      const step = capture(gpu, () => {
        const wide = down(x);
        const below = spatial.length === 2 ? upsample(deep(maxPool(wide))) : deep(wide); // pooling has two axes
        const loss = crossEntropy(conv(up(concat([wide, below], -1)), last), y);
        const gradients = backward(loss);
        const dx = parameters.map((p) => gradients.get(p)!);
        optimizer.step(gradients, lr);
        return { loss, dx };
      });
      const { loss, dx } = step();
      const read = async (t: Tensor) => (await t.read()) as Float32Array;
      return {
        loss: await loss.item(),
        gradients: await Promise.all(dx.map(read)),
        parameters: await Promise.all(parameters.map(read)),
        kernels,
      };
    });
  } finally {
    Object.assign(gpu.adapter, { software: before });
    Object.assign(gpu.flags, switches);
    device.createShaderModule = make;
  }
}

for (const image of [
  [2, 16, 16, 1],
  [1, 4, 8, 8, 1],
]) {
  test(`a training step of [${image}]: as the composition on a CPU driver`, async () => {
    const gpu = await trainingStep(image, false, true);
    const plain = await trainingStep(image, true, false);
    assert.ok(
      gpu.kernels.some((name) => /conv_tiled/.test(name)),
      `no tiled kernel among ${gpu.kernels}`,
    );
    assert.not.ok(
      plain.kernels.some((name) => /conv_tiled/.test(name)),
      `a tiled kernel among ${plain.kernels}`,
    );
    // A sum of n terms in another order moves by some roundings of its largest partial sum. A bias before a norm has the gradient
    // zero: all of it is rounding, of terms as large as those of its neighbours. So the measure is the largest gradient of all.
    const largest = Math.max(...plain.gradients.map((g) => g.reduce((most, v) => Math.max(most, Math.abs(v)), 0)));
    assert.ok(largest > 1e-3 && plain.gradients.every((g) => g.every(Number.isFinite)));
    assert.ok(Math.abs(gpu.loss - plain.loss) <= 2e-6 * plain.loss, `loss ${gpu.loss}, ${plain.loss}`);
    for (const kind of ['gradients', 'parameters'] as const) {
      gpu[kind].forEach((values, i) => {
        values.forEach((v, k) => {
          const difference = Math.abs(v - plain[kind][i]![k]!);
          assert.ok(difference <= 2e-5 * largest, `${kind} ${i}, element ${k} differ by ${difference} of ${largest}`);
        });
      });
    }
  });
}

test.run();
