// The UNet: its size at the protocol's settings, its names, and the gradient of the whole network with its loss against
// central differences of the loss on a few dozen random parameters.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, capture, scope, ShapeError, tensor, uniformStream } from '../engine/index.js';
import { copyState, countParameters, unet } from '../model/index.js';
import { supervisedLoss } from '../train/losses.js';
import { testGpu } from './gpu.js';

const test = suite('model');

test('the protocol UNet has 1 813 764 parameters', async () => {
  const model = unet(await testGpu(), { inChannels: 1, classes: 4, features: [16, 32, 64, 128, 256] });
  assert.is(countParameters(model), 1_813_764);
  const names = [...model.state.keys()];
  assert.ok(names.includes('encoder.in_conv.conv_conv.0.weight'));
  assert.ok(names.includes('encoder.down4.maxpool_conv.1.conv_conv.5.running_var'));
  assert.ok(names.includes('decoder.up1.conv1x1.bias'));
  assert.ok(names.includes('decoder.out_conv.weight'));
});

for (const features of [[4, 8], [3, 5, 7], [8, 16, 16, 24]]) {
  test(`features ${features}: logits have the input's size`, async () => {
    const gpu = await testGpu();
    await scope(gpu, async () => {
      const model = unet(gpu, { inChannels: 2, classes: 3, features });
      const size = 2 ** (features.length - 1) * 2;
      const logits = model(tensor(gpu, 0.5, [2, size, 2 * size, 2]));
      assert.equal(logits.shape, [2, size, 2 * size, 3]);
      assert.ok((await logits.read()).every(Number.isFinite));
    });
  });
}

test('an input that the levels do not divide is refused', async () => {
  const gpu = await testGpu();
  const model = unet(gpu, { inChannels: 1, classes: 4, features: [4, 8, 8] });
  assert.throws(
    () => model(tensor(gpu, 0, [1, 10, 8, 1])),
    (error: Error) => error instanceof ShapeError && /multiples of 4/.test(error.message),
  );
});

test('copyState makes two models equal', async () => {
  const gpu = await testGpu();
  const a = unet(gpu, { inChannels: 1, classes: 2, features: [4, 8], seed: 1 });
  const b = unet(gpu, { inChannels: 1, classes: 2, features: [4, 8], seed: 2 });
  copyState(b, a);
  for (const [name, t] of a.state) assert.equal(await b.state.get(name)!.read(), await t.read());
});

test('the gradient of UNet and loss matches central differences', async () => {
  const gpu = await testGpu();
  const [batch, size, classes] = [2, 8, 3];
  const model = unet(gpu, { inChannels: 1, classes, features: [4, 8], dropout: [0], seed: 5 });
  const uniform = uniformStream(11);
  const pixels = Float32Array.from({ length: batch * size * size }, uniform);
  const image = tensor(gpu, pixels, [batch, size, size, 1]);
  const label = tensor(gpu, Uint8Array.from(pixels, (v) => Math.floor(v * classes)), [batch, size, size], { dtype: 'u8' });
  const step = capture(gpu, () => {
    const { loss } = supervisedLoss(model(image, { mode: 'train' }), label);
    const gradients = backward(loss);
    return { loss, gradients: model.parameters.map((p) => gradients.get(p)!) };
  });
  const analytic = await Promise.all(step().gradients.map(async (g) => Float32Array.from(await g.read())));

  let checked = 0;
  for (const [k, parameter] of model.parameters.entries()) {
    const values = (await parameter.read()) as Float32Array;
    const index = Math.floor(uniform() * values.length);
    const at = async (delta: number): Promise<number> => {
      const moved = values.slice();
      moved[index]! += delta;
      parameter.write(moved);
      return step().loss.item();
    };
    // Richardson's two-step difference: the f32 loss has about 1e-7 of noise, so a wide step with its h² error removed.
    const h = 1e-2;
    const coarse = ((await at(h)) - (await at(-h))) / (2 * h);
    const fine = ((await at(h / 2)) - (await at(-h / 2))) / h;
    parameter.write(values);
    const expected = (4 * fine - coarse) / 3;
    const got = analytic[k]![index]!;
    assert.ok(
      Math.abs(got - expected) <= 2e-4 + 0.02 * Math.abs(expected),
      `${parameter.label}[${index}]: gradient ${got}, differences ${expected}`,
    );
    checked++;
  }
  assert.ok(checked >= 24, `only ${checked} parameters were checked`);
});

test.run();
