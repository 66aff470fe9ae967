// The kernels of the training step, one case each: what it computes, the bytes it must move (inputs read once, outputs written
// once) and the operations it must do. Ops are called as a user calls them; each pass is a captured step of its own.
import {
  backward,
  batchNorm,
  capture,
  concat,
  conv,
  createRandom,
  createSgd,
  crossEntropy,
  diceLoss,
  dropout,
  ema,
  type Gpu,
  leakyRelu,
  maxPool,
  normActivation,
  randomUniform,
  type Step,
  type Tensor,
  tensor,
  uniformStream,
  upsample,
} from '../engine/index.js';
import { createPrototypes, maskedConsistency, prototypeDistance, updatePrototypes } from '../engine/method.js';
import { countParameters, unet } from '../model/index.js';

export interface KernelCase {
  readonly name: string;
  readonly bytes: number;
  readonly flops: number;
  /** Makes the inputs and the step; called within a scope. */
  prepare(gpu: Gpu): Step<unknown>;
}

export interface KernelSizes {
  readonly size: number;
  readonly features: readonly number[];
  readonly batch: number;
  readonly classes: number;
}

interface ConvShape {
  readonly size: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly k: 1 | 3;
}

/** Every distinct convolution of the UNet (model/unet.ts), encoder first. */
export function unetConvolutions({ size, features, classes }: KernelSizes): ConvShape[] {
  const at = (level: number): number => size / 2 ** level;
  const block = (level: number, inputs: number): ConvShape[] => [
    { size: at(level), inputs, outputs: features[level]!, k: 3 },
    { size: at(level), inputs: features[level]!, outputs: features[level]!, k: 3 },
  ];
  const down = features.flatMap((_, level) => block(level, level ? features[level - 1]! : 1));
  const up = features
    .slice(1)
    .flatMap((_, level) => [
      { size: at(level + 1), inputs: features[level + 1]!, outputs: features[level]!, k: 1 as const },
      ...block(level, 2 * features[level]!),
    ]);
  const all: ConvShape[] = [...down, ...up, { size, inputs: features[0]!, outputs: classes, k: 3 }];
  return [...new Map(all.map((shape) => [JSON.stringify(shape), shape])).values()];
}

/** Numbers in [−1, 1), made on the device: a hundred megabytes from JavaScript take seconds. */
const random = (gpu: Gpu, shape: readonly number[], seed: number): Tensor =>
  randomUniform(gpu, shape, { random: createRandom(gpu, seed), low: -1, high: 1 });

const bytesOf = (...elements: number[]): number => 4 * elements.reduce((a, b) => a + b, 0);

function convCases({ size, inputs, outputs, k }: ConvShape, batch: number): KernelCase[] {
  const pixels = batch * size * size;
  const title = `conv ${k}×${k} ${inputs}→${outputs} @${size}²`;
  const bytes = bytesOf(pixels * inputs, pixels * outputs, outputs * k * k * inputs);
  const flops = 2 * pixels * inputs * outputs * k * k;
  const tensors = (gpu: Gpu) => ({
    x: random(gpu, [batch, size, size, inputs], 1),
    weight: random(gpu, [outputs, k, k, inputs], 2),
    dy: random(gpu, [batch, size, size, outputs], 3),
  });
  const gradient = (gpu: Gpu, of: 'x' | 'weight'): Step<unknown> => {
    const { x, weight, dy } = tensors(gpu);
    const wanted = of === 'x' ? x : weight;
    wanted.requiresGrad = true;
    const y = conv(x, weight);
    return capture(gpu, () => backward(y, dy).get(wanted));
  };
  return [
    {
      ...{ name: `${title}, forward`, bytes, flops },
      prepare: (gpu) => {
        const { x, weight } = tensors(gpu);
        return capture(gpu, () => conv(x, weight));
      },
    },
    // The first layer's input is the image: it has no gradient.
    ...(inputs === 1
      ? []
      : [
          {
            ...{ name: `${title}, input gradient`, bytes, flops },
            prepare: (gpu: Gpu) => gradient(gpu, 'x'),
          },
        ]),
    { ...{ name: `${title}, weight gradient`, bytes, flops }, prepare: (gpu) => gradient(gpu, 'weight') },
  ];
}

interface Passes {
  readonly name: string;
  /** Shapes of the inputs; the gradients of all are taken. */
  readonly inputs: readonly (readonly number[])[];
  /** Makes what the op needs beside its inputs; the op itself is called in the captured step. */
  op(gpu: Gpu): (inputs: readonly Tensor[]) => Tensor;
  readonly forward: { readonly bytes: number; readonly flops: number };
  readonly backward: { readonly bytes: number; readonly flops: number };
}

/** The two passes of an op, each a case. */
function passCases({ name, inputs, op, ...work }: Passes): KernelCase[] {
  const make = (gpu: Gpu): Tensor[] => inputs.map((shape, i) => random(gpu, shape, i + 1));
  return [
    {
      ...{ name: `${name}, forward`, ...work.forward },
      prepare: (gpu) => {
        const tensors = make(gpu);
        const compute = op(gpu);
        return capture(gpu, () => compute(tensors));
      },
    },
    {
      ...{ name: `${name}, backward`, ...work.backward },
      prepare: (gpu) => {
        const tensors = make(gpu);
        for (const t of tensors) t.requiresGrad = true;
        const y = op(gpu)(tensors);
        const dy = random(gpu, y.shape, 9);
        return capture(gpu, () => {
          const gradients = backward(y, dy);
          return tensors.map((t) => gradients.get(t));
        });
      },
    },
  ];
}

/** What stands between the convolutions, at the network's full resolution. */
function layerCases({ size, features, batch }: KernelSizes): KernelCase[] {
  const channels = features[0]!;
  const shape = [batch, size, size, channels];
  const n = batch * size * size * channels;
  const where = `[${shape}]`;
  const running = (gpu: Gpu) => ({ mean: tensor(gpu, 0, [channels]), variance: tensor(gpu, 1, [channels]) });
  const perChannel = [channels];
  return [
    // Batch statistics need x before y can be written: x twice; its gradient needs x and dy twice.
    ...passCases({
      name: `batch norm ${where}`,
      inputs: [shape, perChannel, perChannel],
      op: (gpu) => {
        const options = { running: running(gpu), mode: 'train' as const };
        return ([x, gamma, beta]) => batchNorm(x!, gamma!, beta!, options);
      },
      forward: { bytes: bytesOf(3 * n), flops: 5 * n },
      backward: { bytes: bytesOf(5 * n), flops: 8 * n },
    }),
    ...passCases({
      name: `norm + leaky relu + dropout ${where}`,
      inputs: [shape, perChannel, perChannel],
      op: (gpu) => {
        const options = {
          ...{ running: running(gpu), mode: 'train' as const, slope: 0.01 },
          dropout: { rate: 0.05, random: createRandom(gpu, 1) },
        };
        return ([x, gamma, beta]) => normActivation(x!, gamma!, beta!, options);
      },
      forward: { bytes: bytesOf(3 * n), flops: 7 * n },
      backward: { bytes: bytesOf(5 * n), flops: 10 * n },
    }),
    ...passCases({
      name: `leaky relu ${where}`,
      inputs: [shape],
      op:
        () =>
        ([x]) =>
          leakyRelu(x!, 0.01),
      forward: { bytes: bytesOf(2 * n), flops: n },
      backward: { bytes: bytesOf(3 * n), flops: n },
    }),
    ...passCases({
      name: `dropout ${where}`,
      inputs: [shape],
      op: (gpu) => {
        const draws = createRandom(gpu, 1);
        return ([x]) => dropout(x!, 0.1, draws);
      },
      forward: { bytes: bytesOf(2 * n), flops: n },
      backward: { bytes: bytesOf(2 * n), flops: n },
    }),
    ...passCases({
      name: `max pool ${where}`,
      inputs: [shape],
      op:
        () =>
        ([x]) =>
          maxPool(x!),
      forward: { bytes: bytesOf(n, n / 4), flops: (3 * n) / 4 },
      backward: { bytes: bytesOf(n, n / 4, n), flops: n },
    }),
    ...passCases({
      name: `upsample → ${where}`,
      inputs: [[batch, size / 2, size / 2, channels]],
      op:
        () =>
        ([x]) =>
          upsample(x!),
      forward: { bytes: bytesOf(n / 4, n), flops: 6 * n },
      backward: { bytes: bytesOf(n, n / 4), flops: 6 * n },
    }),
    ...passCases({
      name: `concat 2 × ${where}`,
      inputs: [shape, shape],
      op:
        () =>
        ([a, b]) =>
          concat([a!, b!], -1),
      forward: { bytes: bytesOf(4 * n), flops: 0 },
      backward: { bytes: bytesOf(4 * n), flops: 0 },
    }),
  ];
}

/** The losses, on logits and features of the whole batch; labels and masks are bytes. */
function lossCases({ size, batch, classes }: KernelSizes): KernelCase[] {
  const pixels = batch * size * size;
  const shape = [batch, size, size, classes];
  const n = pixels * classes;
  const width = 32; // of the projection head
  const where = `[${shape}]`;
  const labels = (gpu: Gpu): Tensor => {
    const uniform = uniformStream(23);
    const values = Uint8Array.from({ length: pixels }, () => Math.floor(uniform() * classes));
    return tensor(gpu, values, shape.slice(0, 3), { dtype: 'u8' });
  };
  const threshold = (gpu: Gpu): Tensor => tensor(gpu, 0.4, []);
  // Every class has been seen, so every pixel counts.
  const prototypes = (gpu: Gpu) => {
    const made = createPrototypes(gpu, classes, width);
    made.vectors.write(Float32Array.from({ length: classes * width }, (_, i) => Math.sin(i)));
    made.counts.write(new Float32Array(classes).fill(1));
    return made;
  };
  const softmax = 5 * n;
  return [
    ...passCases({
      name: `cross entropy ${where}`,
      inputs: [shape],
      op: (gpu) => {
        const classOf = labels(gpu);
        return ([x]) => crossEntropy(x!, classOf);
      },
      forward: { bytes: bytesOf(n) + pixels, flops: softmax },
      backward: { bytes: bytesOf(2 * n) + pixels, flops: softmax },
    }),
    ...passCases({
      name: `dice loss ${where}`,
      inputs: [shape],
      op: (gpu) => {
        const classOf = labels(gpu);
        return ([x]) => diceLoss(x!, classOf);
      },
      forward: { bytes: bytesOf(n) + pixels, flops: softmax + 4 * n },
      backward: { bytes: bytesOf(2 * n) + pixels, flops: softmax + 6 * n },
    }),
    ...passCases({
      name: `masked consistency ${where}`,
      inputs: [shape],
      op: (gpu) => {
        const teacher = random(gpu, shape, 5);
        const options = { kind: 'mse', confidence: 'student', threshold: threshold(gpu) } as const;
        return ([x]) => maskedConsistency(x!, teacher, options).loss;
      },
      forward: { bytes: bytesOf(2 * n) + pixels, flops: 2 * softmax + 3 * n },
      backward: { bytes: bytesOf(3 * n) + pixels, flops: 2 * softmax + 6 * n },
    }),
    ...passCases({
      name: `prototype distance [${batch},${size},${size},${width}]`,
      inputs: [[batch, size, size, width]],
      op: (gpu) => {
        const mask = tensor(gpu, 1, shape.slice(0, 3), { dtype: 'u8' });
        const [fixed, classOf] = [prototypes(gpu), labels(gpu)];
        return ([z]) => prototypeDistance(z!, fixed, classOf, mask, { kind: 'pull' });
      },
      forward: { bytes: bytesOf(pixels * width) + 2 * pixels, flops: 2 * pixels * width * (classes + 1) },
      backward: { bytes: bytesOf(2 * pixels * width) + 2 * pixels, flops: 2 * pixels * width * (classes + 3) },
    }),
    {
      name: `prototype update [${batch},${size},${size},${width}]`,
      bytes: bytesOf(pixels * width, n) + pixels,
      flops: softmax + 2 * pixels * width,
      prepare: (gpu) => {
        const [features, teacherLogits] = [random(gpu, [batch, size, size, width], 1), random(gpu, shape, 2)];
        const [moved, classOf, one, least] = [prototypes(gpu), labels(gpu), tensor(gpu, 1, []), threshold(gpu)];
        return capture(gpu, () =>
          updatePrototypes(moved, {
            ...{ features, teacherLogits, labels: classOf, labeledPixels: pixels / 2, momentum: 0.99 },
            ...{ threshold: least, unlabeledWeight: one },
          }),
        );
      },
    },
  ];
}

/** One update of as many numbers as the network has parameters. */
function optimizerCases({ features, classes }: KernelSizes, count: number): KernelCase[] {
  const title = `${count} parameters (${features.join('-')}, ${classes} classes)`;
  return [
    {
      ...{ name: `sgd, ${title}`, bytes: bytesOf(5 * count), flops: 6 * count },
      prepare: (gpu) => {
        const parameter = random(gpu, [count], 1);
        parameter.requiresGrad = true;
        const lr = tensor(gpu, 1e-4, []);
        const optimizer = createSgd([parameter], { momentum: 0.9, weightDecay: 1e-4 });
        const gradients = backward(leakyRelu(parameter, 0.01), random(gpu, [count], 2));
        return capture(gpu, () => optimizer.step(gradients, lr));
      },
    },
    {
      ...{ name: `ema, ${title}`, bytes: bytesOf(3 * count), flops: 3 * count },
      prepare: (gpu) => {
        const [teacher, student, decay] = [random(gpu, [count], 1), random(gpu, [count], 2), tensor(gpu, 0.99, [])];
        return capture(gpu, () => ema([teacher], [student], decay));
      },
    },
  ];
}

/** All cases of a network's sizes. */
export function kernelCases(gpu: Gpu, sizes: KernelSizes): KernelCase[] {
  const count = countParameters(unet(gpu, { inChannels: 1, ...sizes, dropout: [0] }));
  return [
    ...unetConvolutions(sizes).flatMap((shape) => convCases(shape, sizes.batch)),
    ...layerCases(sizes),
    ...lossCases(sizes),
    ...optimizerCases(sizes, count),
  ];
}
