// The V-Net: its size and names at the protocol's settings, and value and gradient of the whole network with its loss against a
// float64 implementation by plain loops and its central differences.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOf } from '../engine/custom.js';
import { backward, capture, createRandom, ShapeError, scope, tensor, uniformStream } from '../engine/index.js';
import { countParameters, isTransposed, type Segmenter, vnet } from '../model/index.js';
import { supervisedLoss } from '../train/method/losses.js';
import { closeTo } from './close-to.js';
import { testGpu } from './gpu.js';
import { type NdArray, ndArray } from './reference/nd-array.js';
import { supervisedLoss as referenceLoss } from './reference/unet.js';
import { vnet as referenceVnet } from './reference/vnet.js';
import { refuses } from './refuses.js';

const test = suite('vnet');

/** UA-MT's state_dict: the places of convolutions and norms, with kernel, inputs and outputs, in its order. */
const protocol: [name: string, kernel: number, inputs: number, outputs: number, norm?: string][] = [
  ['block_one.conv.0', 3, 1, 16, 'block_one.conv.1'],
  ['block_one_dw.conv.0', 2, 16, 32, 'block_one_dw.conv.1'],
  ['block_two.conv.0', 3, 32, 32, 'block_two.conv.1'],
  ['block_two.conv.3', 3, 32, 32, 'block_two.conv.4'],
  ['block_two_dw.conv.0', 2, 32, 64, 'block_two_dw.conv.1'],
  ['block_three.conv.0', 3, 64, 64, 'block_three.conv.1'],
  ['block_three.conv.3', 3, 64, 64, 'block_three.conv.4'],
  ['block_three.conv.6', 3, 64, 64, 'block_three.conv.7'],
  ['block_three_dw.conv.0', 2, 64, 128, 'block_three_dw.conv.1'],
  ['block_four.conv.0', 3, 128, 128, 'block_four.conv.1'],
  ['block_four.conv.3', 3, 128, 128, 'block_four.conv.4'],
  ['block_four.conv.6', 3, 128, 128, 'block_four.conv.7'],
  ['block_four_dw.conv.0', 2, 128, 256, 'block_four_dw.conv.1'],
  ['block_five.conv.0', 3, 256, 256, 'block_five.conv.1'],
  ['block_five.conv.3', 3, 256, 256, 'block_five.conv.4'],
  ['block_five.conv.6', 3, 256, 256, 'block_five.conv.7'],
  ['block_five_up.conv.0', 2, 256, 128, 'block_five_up.conv.1'],
  ['block_six.conv.0', 3, 128, 128, 'block_six.conv.1'],
  ['block_six.conv.3', 3, 128, 128, 'block_six.conv.4'],
  ['block_six.conv.6', 3, 128, 128, 'block_six.conv.7'],
  ['block_six_up.conv.0', 2, 128, 64, 'block_six_up.conv.1'],
  ['block_seven.conv.0', 3, 64, 64, 'block_seven.conv.1'],
  ['block_seven.conv.3', 3, 64, 64, 'block_seven.conv.4'],
  ['block_seven.conv.6', 3, 64, 64, 'block_seven.conv.7'],
  ['block_seven_up.conv.0', 2, 64, 32, 'block_seven_up.conv.1'],
  ['block_eight.conv.0', 3, 32, 32, 'block_eight.conv.1'],
  ['block_eight.conv.3', 3, 32, 32, 'block_eight.conv.4'],
  ['block_eight_up.conv.0', 2, 32, 16, 'block_eight_up.conv.1'],
  ['block_nine.conv.0', 3, 16, 16, 'block_nine.conv.1'],
  ['out_conv', 1, 16, 2],
];

test("the protocol's V-Net has 9 448 866 parameters, under UA-MT's names", async () => {
  const model = vnet(await testGpu(), { inChannels: 1, classes: 2 });
  assert.is(countParameters(model), 9_448_866);
  const expected = new Map<string, number[]>();
  for (const [name, kernel, inputs, outputs, norm] of protocol) {
    expected.set(`${name}.weight`, [outputs, kernel, kernel, kernel, inputs]).set(`${name}.bias`, [outputs]);
    if (!norm) continue;
    for (const of of ['weight', 'bias', 'running_mean', 'running_var']) expected.set(`${norm}.${of}`, [outputs]);
  }
  assert.equal([...model.state.keys()].sort(), [...expected.keys()].sort());
  for (const [name, t] of model.state) assert.equal([...t.shape], expected.get(name), name);
  const transposed = [...model.state].filter(([, t]) => isTransposed(t)).map(([name]) => name);
  assert.equal(
    transposed,
    ['five', 'six', 'seven', 'eight'].map((n) => `block_${n}_up.conv.0.weight`),
  );
});

/** Random statistics and scales, so that every number of the state has an effect. */
async function stirred(model: Segmenter): Promise<Map<string, NdArray>> {
  const uniform = uniformStream(3);
  const weights = new Map<string, NdArray>();
  for (const [name, t] of model.state) {
    if (t.shape.length === 1) {
      const least = /running_var$|weight$/.test(name) ? 0.5 : -0.3;
      t.write(Float32Array.from({ length: t.size }, () => least + 0.8 * uniform()));
    }
    weights.set(name, ndArray(t.shape, await t.read()));
  }
  return weights;
}

for (const [features, sides] of [
  [
    [2, 4, 8, 16, 32],
    [16, 16, 16],
  ],
  [
    [3, 5, 4],
    [8, 12],
  ],
] as const) {
  test(`eval mode matches float64 loops: features ${features}, ${sides}`, async () => {
    const gpu = await testGpu();
    await scope(gpu, async () => {
      const rank = sides.length as 2 | 3;
      const model = vnet(gpu, { inChannels: 2, classes: 3, features, seed: 5, rank });
      const weights = await stirred(model);
      const uniform = uniformStream(7);
      const data = Float32Array.from({ length: 2 * sizeOf(sides) * 2 }, () => 2 * uniform() - 1);
      const shape = [2, ...sides, 2];
      const { logits, features: last } = model.forward(tensor(gpu, data, shape));
      assert.equal(last.shape, [2, ...sides, features[0]]);
      const expected = referenceVnet(ndArray(shape, data), weights, features.length as 3 | 5, 'eval');
      closeTo(await logits.read(), expected.data, { atol: 2e-5, rtol: 2e-5 });
    });
  });
}

for (const [features, sides] of [
  [
    [4, 8],
    [4, 2, 6],
  ],
  [
    [3, 2, 5],
    [8, 8],
  ],
] as const) {
  test(`value and gradient of V-Net and loss match float64 loops and their central differences: ${features}, ${sides}`, async () => {
    const gpu = await testGpu();
    const [batch, classes, rank] = [2, 3, sides.length as 2 | 3];
    const model = vnet(gpu, { inChannels: 1, classes, features, dropout: 0, seed: 5, rank });
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
    const weights = new Map<string, NdArray>();
    for (const p of model.parameters) weights.set(p.label, ndArray(p.shape, await p.read()));
    const x = ndArray(image.shape, pixels);
    const reference = () => referenceLoss(referenceVnet(x, weights, features.length as 2 | 3, 'train'), labels);
    closeTo([await loss.item()], [reference()], { rtol: 1e-5 });

    let checked = 0;
    for (const [k, p] of model.parameters.entries()) {
      const got = await gradients[k]!.read();
      const { data } = weights.get(p.label)!;
      for (let draw = 0; draw < 3; draw++) {
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
    assert.is(checked, 3 * model.parameters.length);
  });
}

test('dropout acts in train mode alone, on whole channels, and not on the features', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const model = vnet(gpu, { inChannels: 1, classes: 2, features: [8, 8], dropout: 0.5 });
    const uniform = uniformStream(1);
    const x = tensor(
      gpu,
      Float32Array.from({ length: 2 * 64 }, () => uniform()),
      [2, 4, 4, 4, 1],
    );
    const logits = async (step: number) => {
      const random = createRandom(gpu, 9);
      random.setStep(step);
      const { logits: out, features } = model.forward(x, { mode: 'train', random });
      return { out: await out.read(), features: await features.read() };
    };
    const [first, again, other] = [await logits(0), await logits(0), await logits(1)];
    assert.equal(first.out, again.out);
    assert.not.equal(first.out, other.out);
    // About half of the features are 0 by ReLU; a dropped channel of an item would be so everywhere.
    for (let channel = 0; channel < 16; channel++) {
      const of = [...first.features].filter((_, i) => i % 8 === channel % 8 && Math.floor(i / 512) === channel >> 3);
      assert.ok(
        of.some((v) => v !== 0),
        `channel ${channel}`,
      );
    }
    assert.equal(await model(x).read(), await model(x).read());
    await refuses(() => model(x, { mode: 'train' }), ShapeError, /vnet: train mode .*pass `random`/);
  });
});

test('what it cannot be made of or take is refused', async () => {
  const gpu = await testGpu();
  const sizes = { inChannels: 1, classes: 2 };
  const model = vnet(gpu, { ...sizes, features: [2, 2, 2] });
  await refuses(
    () => model(tensor(gpu, 0, [1, 4, 6, 8, 1])),
    ShapeError,
    /\[N,D,H,W,1\] with sides that are multiples of 4/,
  );
  await refuses(() => model(tensor(gpu, 0, [1, 8, 8, 1])), ShapeError, /expected \[N,D,H,W,1\]/);
  await refuses(() => vnet(gpu, { ...sizes, features: [4] }), ShapeError, /2 to 10 levels/);
  await refuses(() => vnet(gpu, { ...sizes, dropout: 1 }), ShapeError, /rate in \[0, 1\)/);
});

test.run();
