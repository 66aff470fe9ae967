// wgrad and TensorFlow.js side by side on one GPUDevice: the same network, the same weights and the same batch, trained by both. The
// losses must agree, and both times are printed. Beside wgrad it needs @tensorflow/tfjs and @tensorflow/tfjs-backend-webgpu.
//
//   npm run example:tfjs -- [STEPS] [SIDE]
import type * as Tf from '@tensorflow/tfjs';
import {
  backward,
  capture,
  conv,
  createSgd,
  crossEntropy,
  type Gpu,
  matmul,
  maxPool,
  relu,
  reshape,
  tensor,
  uniformStream,
} from 'wgrad';
import { openDevice } from 'wgrad/node';

const [steps, side] = [process.argv[2] ?? 10, process.argv[3] ?? 16].map(Number) as [number, number];
const [items, channels, classes, learningRate] = [16, 8, 10, 0.05];
const features = (side / 2) ** 2 * channels;
const random = uniformStream(7);
const between = (bound: number, n: number) => Float32Array.from({ length: n }, () => bound * (2 * random() - 1));

// One set of numbers for both. tfjs keeps kernels as [kH, kW, I, O], wgrad as [O, kH, kW, I]; here I is 1.
const images = between(1, items * side * side);
const labels = Uint8Array.from({ length: items }, () => Math.floor(classes * random()));
const kernel = between(0.5, 9 * channels);
const head = between(Math.sqrt(3 / features), features * classes);
const kernelOfWgrad = kernel.map((_, i) => kernel[(i % 9) * channels + Math.floor(i / 9)]!);

/** A training step, by number or all at once, that resolves with its loss. */
type Step = () => Promise<number>;

function wgradStep(gpu: Gpu): Step {
  const x = tensor(gpu, images, [items, side, side, 1]);
  const y = tensor(gpu, labels, [items], { dtype: 'u8' });
  const weight = tensor(gpu, kernelOfWgrad, [channels, 3, 3, 1], { requiresGrad: true });
  const matrix = tensor(gpu, head, [features, classes], { requiresGrad: true });
  const optimizer = createSgd([weight, matrix], { learningRate });
  const step = capture(gpu, () => {
    const logits = matmul(reshape(maxPool(relu(conv(x, weight))), [items, features]), matrix);
    const loss = crossEntropy(logits, y);
    optimizer.step(backward(loss));
    return { loss };
  });
  return () => step().loss.item();
}

function tfjsStep(tf: typeof Tf): Step {
  const x = tf.tensor4d(images, [items, side, side, 1]);
  const y = tf.oneHot(tf.tensor1d(Array.from(labels), 'int32'), classes);
  const weight = tf.variable(tf.tensor4d(kernel, [3, 3, 1, channels]));
  const matrix = tf.variable(tf.tensor2d(head, [features, classes]));
  const optimizer = tf.train.sgd(learningRate);
  return async () => {
    const loss = optimizer.minimize(() => {
      const pooled = tf.maxPool(tf.relu(tf.conv2d(x, weight, 1, 'same')), 2, 2, 'valid');
      const logits = tf.matMul(tf.reshape(pooled, [items, features]), matrix);
      return tf.losses.softmaxCrossEntropy(y, logits) as Tf.Scalar;
    }, true)!;
    const [value] = await loss.data();
    loss.dispose();
    return value!;
  };
}

/** TensorFlow.js on a device that is there already. Under Node it misses the constants that browsers have. */
async function tfjsOn(device: GPUDevice): Promise<typeof Tf> {
  const { globals } = (await import('webgpu')) as unknown as { globals: object };
  Object.assign(globalThis, globals);
  const gpu = { getPreferredCanvasFormat: () => 'bgra8unorm', wgslLanguageFeatures: new Set() };
  Object.defineProperty(globalThis, 'navigator', { value: { gpu, userAgent: 'Node' }, configurable: true });
  const tf = await import('@tensorflow/tfjs');
  const { WebGPUBackend } = await import('@tensorflow/tfjs-backend-webgpu');
  tf.removeBackend('webgpu');
  tf.registerBackend('webgpu', () => new WebGPUBackend(device));
  await tf.setBackend('webgpu');
  return tf;
}

const gpu = await openDevice();
const contenders = { wgrad: wgradStep(gpu), tfjs: tfjsStep(await tfjsOn(gpu.device)) };
const names = Object.keys(contenders) as (keyof typeof contenders)[];
const spent = { wgrad: [] as number[], tfjs: [] as number[] };
for (let i = 0; i < steps; i++) {
  const losses: number[] = [];
  for (const name of names) {
    const start = performance.now(); // they take turns
    losses.push(await contenders[name]());
    spent[name].push(performance.now() - start);
  }
  console.log(`step ${i}  ${names.map((name, k) => `${name} ${losses[k]!.toFixed(6)}`).join('  ')}`);
}
for (const name of names) {
  const [first, ...others] = spent[name]; // the first call compiles
  const middle = others.sort((a, b) => a - b)[others.length >> 1] ?? Number.NaN;
  console.log(`${name}: ${middle.toFixed(1)} ms a step, ${first!.toFixed(0)} ms the first`);
}
gpu.close();
process.exit(); // tfjs keeps timers
