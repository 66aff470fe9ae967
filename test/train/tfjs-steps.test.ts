// Ten training steps of a small UNet against the same steps in tfjs (an independent engine with its own autograd), from
// the same weights: losses must agree to 1e-4 relative. tfjs runs on its plain JavaScript backend.
import * as tf from '@tensorflow/tfjs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, capture, createSgd, tensor, uniformStream } from '../../engine/index.js';
import { unet } from '../../model/index.js';
import { supervisedLoss } from '../../train/method/losses.js';
import { testGpu } from '../gpu.js';

const test = suite('tfjs steps');
const [batch, size, classes] = [2, 16, 4];
const features = [4, 8, 12];
const lr = 0.05;
const momentum = 0.9;
const weightDecay = 1e-3;

/** Images, and labels that depend on them, so that there is something to learn. */
function data(step: number): { image: Float32Array; label: Uint8Array } {
  const uniform = uniformStream(7, step);
  const image = Float32Array.from({ length: batch * size * size }, uniform);
  return { image, label: Uint8Array.from(image, (v) => Math.min(classes - 1, Math.floor(v * classes))) };
}

type Weights = Map<string, tf.Variable>;

/** Our layout [O, kH, kW, I] to tfjs' [kH, kW, I, O]. */
const fromOurs = (values: Float32Array, shape: readonly number[]): tf.Tensor => {
  const t = tf.tensor(values, [...shape]);
  return shape.length === 4 ? t.transpose([1, 2, 3, 0]) : t;
};

function forward(w: Weights, x: tf.Tensor4D): tf.Tensor4D {
  const get = (name: string) => w.get(name)!;
  const conv = (x: tf.Tensor4D, name: string) =>
    tf.add(
      tf.conv2d(x, get(`${name}.weight`) as unknown as tf.Tensor4D, 1, 'same'),
      get(`${name}.bias`),
    ) as tf.Tensor4D;
  const norm = (x: tf.Tensor4D, name: string) => {
    const { mean, variance } = tf.moments(x, [0, 1, 2]);
    const scaled = x.sub(mean).div(variance.add(1e-5).sqrt());
    return scaled.mul(get(`${name}.weight`)).add(get(`${name}.bias`)) as tf.Tensor4D;
  };
  const block = (x: tf.Tensor4D, name: string) => {
    const y = tf.leakyRelu(norm(conv(x, `${name}.conv_conv.0`), `${name}.conv_conv.1`), 0.01) as tf.Tensor4D;
    return tf.leakyRelu(norm(conv(y, `${name}.conv_conv.4`), `${name}.conv_conv.5`), 0.01) as tf.Tensor4D;
  };
  const skips = [block(x, 'encoder.in_conv')];
  for (let level = 1; level < features.length; level++) {
    skips.push(block(tf.maxPool(skips.at(-1)!, 2, 2, 'valid'), `encoder.down${level}.maxpool_conv.1`));
  }
  let y = skips.pop()!;
  for (let i = 1; skips.length; i++) {
    const reduced = conv(y, `decoder.up${i}.conv1x1`);
    const [, h, width] = reduced.shape;
    const up = tf.image.resizeBilinear(reduced, [2 * h, 2 * width], true);
    y = block(tf.concat([skips.pop()!, up], 3), `decoder.up${i}.conv`);
  }
  return conv(y, 'decoder.out_conv');
}

function lossOf(logits: tf.Tensor, label: tf.Tensor1D): tf.Scalar {
  const flat = logits.reshape([-1, classes]);
  const y = tf.oneHot(label, classes).toFloat();
  const ce = tf.neg(tf.mean(tf.sum(y.mul(tf.logSoftmax(flat)), 1)));
  const p = tf.softmax(flat);
  const overlap = p.mul(y).sum(0).mul(2).add(1e-5);
  const total = p.square().sum(0).add(y.square().sum(0)).add(1e-5);
  return ce.add(tf.scalar(1).sub(overlap.div(total).mean())).mul(0.5) as tf.Scalar;
}

test('losses of ten steps agree to 1e-4', async () => {
  await tf.setBackend('cpu');
  const gpu = await testGpu();
  const model = unet(gpu, { inChannels: 1, classes, features, dropout: [0], seed: 3 });
  const weights: Weights = new Map();
  const velocity = new Map<string, tf.Tensor>();
  for (const [name, t] of model.state) {
    if (!t.requiresGrad) continue;
    weights.set(name, tf.variable(fromOurs((await t.read()) as Float32Array, t.shape), true));
  }

  const image = tensor(gpu, 0, [batch, size, size, 1]);
  const label = tensor(gpu, 0, [batch, size, size], { dtype: 'u8' });
  const rate = tensor(gpu, lr);
  const optimizer = createSgd(model.parameters, { momentum, weightDecay });
  const step = capture(gpu, () => {
    const { loss } = supervisedLoss(model(image, { mode: 'train' }), label);
    optimizer.step(backward(loss), rate);
    return loss;
  });

  const losses: [ours: number, theirs: number][] = [];
  for (let i = 0; i < 10; i++) {
    const { image: pixels, label: classesOf } = data(i % 3);
    image.write(pixels);
    label.write(classesOf);
    const ours = await step().item();

    const x = tf.tensor4d(pixels, [batch, size, size, 1]);
    const y = tf.tensor1d(Int32Array.from(classesOf), 'int32');
    const { value, grads } = tf.variableGrads(() => lossOf(forward(weights, x), y), [...weights.values()]);
    for (const [name, variable] of weights) {
      const gradient = tf.add(grads[variable.name]!, variable.mul(weightDecay));
      const before = velocity.get(name);
      velocity.set(name, before ? before.mul(momentum).add(gradient) : gradient);
      variable.assign(variable.sub(velocity.get(name)!.mul(lr)));
    }
    losses.push([ours, value.dataSync()[0]!]);
  }
  for (const [ours, theirs] of losses) {
    assert.ok(Math.abs(ours - theirs) <= 1e-4 * Math.abs(theirs), `losses differ: ${JSON.stringify(losses)}`);
  }
  assert.ok(losses[9]![0] < 0.95 * losses[0]![0], `the loss does not fall: ${JSON.stringify(losses)}`);
});

test.run();
