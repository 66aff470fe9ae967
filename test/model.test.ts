// The UNet: its size at the protocol's settings, its names, and value and gradient of the whole network with its loss
// against a float64 implementation by plain loops and its central differences.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOf } from '../engine/custom.js';
import { backward, capture, ShapeError, scope, tensor, uniformStream } from '../engine/index.js';
import { copyState, countParameters, unet } from '../model/index.js';
import { supervisedLoss } from '../train/method/losses.js';
import { closeTo } from './close-to.js';
import { testGpu } from './gpu.js';
import { type NdArray, ndArray } from './reference/nd-array.js';
import { supervisedLoss as referenceLoss, unet as referenceUnet } from './reference/unet.js';

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

test('the protocol UNet with a third axis: every kernel is a cube, names are the same', async () => {
  const gpu = await testGpu();
  const [flat, solid] = ([2, 3] as const).map((rank) =>
    unet(gpu, { inChannels: 1, classes: 4, features: [4, 8], rank }),
  );
  assert.equal([...solid!.state.keys()], [...flat!.state.keys()]);
  for (const [name, t] of flat!.state) {
    const { shape } = solid!.state.get(name)!;
    assert.equal(shape, t.shape.length === 4 ? [t.shape[0], t.shape[1], ...t.shape.slice(1)] : t.shape, name);
  }
});

for (const features of [
  [4, 8],
  [3, 5, 7],
  [8, 16, 16, 24],
]) {
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
  assert.throws(
    () => model(tensor(gpu, 0, [1, 4, 8, 8, 1])),
    (error: Error) => error instanceof ShapeError && /expected \[N,H,W,1\]/.test(error.message),
  );
});

test('copyState makes two models equal', async () => {
  const gpu = await testGpu();
  const a = unet(gpu, { inChannels: 1, classes: 2, features: [4, 8], seed: 1 });
  const b = unet(gpu, { inChannels: 1, classes: 2, features: [4, 8], seed: 2 });
  copyState(b, a);
  for (const [name, t] of a.state) assert.equal(await b.state.get(name)!.read(), await t.read());
});

for (const sides of [
  [8, 8],
  [2, 4, 6],
]) {
  test(`value and gradient of UNet and loss match float64 loops and their central differences: ${sides}`, async () => {
    const gpu = await testGpu();
    const [batch, classes] = [2, 3];
    const rank = sides.length === 3 ? 3 : 2;
    const features = [4, 8];
    const model = unet(gpu, { inChannels: 1, classes, features, dropout: [0], seed: 5, rank });
    const uniform = uniformStream(11);
    const pixels = Float32Array.from({ length: batch * sizeOf(sides) }, uniform);
    const labels = Uint8Array.from(pixels, (v) => Math.floor(v * classes));
    const image = tensor(gpu, pixels, [batch, ...sides, 1]);
    const label = tensor(gpu, labels, [batch, ...sides], { dtype: 'u8' });
    const step = capture(gpu, () => {
      const { loss } = supervisedLoss(model(image, { mode: 'train' }), label);
      const gradients = backward(loss);
      return { loss, gradients: model.parameters.map((p) => gradients.get(p)!) };
    });
    const { loss, gradients } = step();
    const ours = await loss.item();

    const weights = new Map<string, NdArray>();
    for (const p of model.parameters) weights.set(p.label, ndArray(p.shape, await p.read()));
    const x = ndArray(image.shape, pixels);
    const reference = () => referenceLoss(referenceUnet(x, weights, features.length), labels);
    closeTo([ours], [reference()], { rtol: 1e-5 });

    let checked = 0;
    for (const [k, p] of model.parameters.entries()) {
      const got = await gradients[k]!.read();
      const { data } = weights.get(p.label)!;
      for (let draw = 0; draw < 2; draw++) {
        const index = Math.floor(uniform() * data.length);
        const value = data[index]!;
        const h = 1e-6;
        data[index] = value + h;
        const above = reference();
        data[index] = value - h;
        const below = reference();
        data[index] = value;
        const expected = (above - below) / (2 * h);
        const message = `${p.label}[${index}]: gradient ${got[index]}, differences ${expected}`;
        assert.ok(Math.abs(got[index]! - expected) <= 2e-5 + 1e-3 * Math.abs(expected), message);
        checked++;
      }
    }
    assert.ok(checked >= 48, `only ${checked} derivatives were checked`);
  });
}

test.run();
