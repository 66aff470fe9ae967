// Two runs with one seed are equal bit for bit: every reduction has a fixed order, randomness has no state.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  capture,
  createRandom,
  dropout,
  gaussianNoise,
  logSoftmax,
  matmul,
  mean,
  mul,
  relu,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { testGpu } from '../gpu.js';

const test = suite('determinism');

/** Five steps of a two-layer network by gradient descent on the CPU's copy of the weights; returns every bit. */
async function train(seed: number): Promise<Buffer> {
  const gpu = await testGpu();
  const uniform = uniformStream(seed);
  const draw = (...shape: number[]): Tensor => {
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => uniform() - 0.5);
    return tensor(gpu, data, shape, { requiresGrad: true });
  };
  const image = draw(2000, 6);
  const target = draw(2000, 5);
  const parameters = [draw(6, 24), draw(24), draw(24, 5)] as const;
  const random = createRandom(gpu, seed);
  const step = capture(gpu, () => {
    const noisy = gaussianNoise(image, { std: 0.1, clip: 0.2, random });
    const hidden = dropout(relu(add(matmul(noisy, parameters[0]), parameters[1])), 0.3, random);
    const loss = mean(mul(logSoftmax(matmul(hidden, parameters[2])), target));
    const gradients = backward(loss);
    return { loss, gradients: parameters.map((p) => gradients.get(p)!) };
  });
  const bits: Buffer[] = [];
  for (let i = 0; i < 5; i++) {
    random.setStep(i);
    const { loss, gradients } = step();
    bits.push(Buffer.from((await loss.read()).buffer));
    for (const [k, p] of parameters.entries()) {
      const [value, slope] = [await p.read(), await gradients[k]!.read()];
      p.write(Float32Array.from(value, (v, j) => v - 0.1 * slope[j]!));
    }
  }
  for (const p of parameters) bits.push(Buffer.from((await p.read()).buffer));
  return Buffer.concat(bits);
}

test('one seed, the same bits; another seed, others', async () => {
  const first = await train(1);
  assert.ok(first.equals(await train(1)));
  const other = await train(2);
  assert.is(other.length, first.length);
  assert.not(first.equals(other));
  assert.ok(new Float32Array(new Uint8Array(first).buffer).every(Number.isFinite));
});

test.run();
