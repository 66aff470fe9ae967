// A network that is a picture: from a pixel's place to its colour (Fourier features, then a small perceptron; Tancik et al.
// 2020). Nothing here is about segmentation: matmul, add, relu, a loss, an optimizer, and a step that is captured once.
//
//   npm run example:node -- [FOLDER] [ITERATIONS] [SIZE]      writes before.png, after.png and target.png
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encode } from 'fast-png';
import {
  add,
  backward,
  capture,
  createAdamW,
  matmul,
  mean,
  normalStream,
  relu,
  square,
  sub,
  tensor,
  uniformStream,
} from 'wgrad';
import { openDevice } from 'wgrad/node';

const [folder = 'runs/coordinate-network', iterations = '200', edge = '32'] = process.argv.slice(2);
const size = Number(edge);
const gpu = await openDevice();

// What is to be learned: rings, stripes and a disc, RGB in [0, 1], at places (u, v) in [-1, 1].
const places = Array.from({ length: size * size }, (_, i) => [
  (2 * (i % size)) / (size - 1) - 1,
  (2 * Math.floor(i / size)) / (size - 1) - 1,
]);
const colours = places.flatMap(([u = 0, v = 0]) => {
  const radius = Math.hypot(u, v);
  const disc = Math.hypot(u - 0.3, v + 0.3) < 0.35 ? 1 : 0;
  return [0.5 + 0.5 * Math.cos(12 * radius), 0.5 + 0.5 * Math.sin(7 * u + 3 * v), disc];
});

// sin and cos of random projections of the place: without them a perceptron learns a blur.
const normal = normalStream(uniformStream(1));
const frequencies = Array.from({ length: 32 }, () => [4 * normal(), 4 * normal()]);
const features = places.flatMap(([u = 0, v = 0]) =>
  frequencies.flatMap(([a = 0, b = 0]) => [Math.sin(a * u + b * v), Math.cos(a * u + b * v)]),
);

const input = tensor(gpu, features, [size * size, 64]);
const target = tensor(gpu, colours, [size * size, 3]);
const layers = [64, 64, 64].map((inputs, layer) => {
  const outputs = layer === 2 ? 3 : 64;
  const weights = Array.from({ length: inputs * outputs }, () => normal() * Math.sqrt(2 / inputs));
  return {
    weight: tensor(gpu, weights, [inputs, outputs], { label: `weight${layer}`, requiresGrad: true }),
    bias: tensor(gpu, layer === 2 ? 0.5 : 0, [outputs], { label: `bias${layer}`, requiresGrad: true }),
  };
});
const network = () => layers.reduce((x, { weight, bias }, i) => add(matmul(i ? relu(x) : x, weight), bias), input); // [size², 3]
const lr = tensor(gpu, 5e-3);
const optimizer = createAdamW(layers.flatMap(({ weight, bias }) => [weight, bias]));
const step = capture(gpu, () => {
  const loss = mean(square(sub(network(), target)));
  optimizer.step(backward(loss), lr);
  return { loss };
});

mkdirSync(folder, { recursive: true });
const draw = (name: string, rgb: ArrayLike<number>) => {
  const data = Uint8ClampedArray.from(rgb, (value) => 255 * value);
  writeFileSync(join(folder, name), encode({ width: size, height: size, channels: 3, data }));
};
draw('target.png', colours);
draw('before.png', await network().read());
for (let i = 0; i < Number(iterations); i++) {
  lr.write(5e-3 * (1 - i / Number(iterations)));
  const { loss } = step();
  if (i % 20 === 0 || i === Number(iterations) - 1) console.log(`step ${i}  loss ${(await loss.item()).toFixed(5)}`);
}
draw('after.png', await network().read());
console.log(`${folder}: before.png, after.png, target.png`);
gpu.close(); // so that the process ends
