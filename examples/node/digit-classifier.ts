// A classifier of digits that this file draws itself: seven-segment figures, slanted, moved and blurred at random. Layers with batch norm,
// a loss, AdamW, accuracy on digits that it has not seen, and the state as safetensors.
//
//   npm run example:digits -- [STEPS] [FILE]      writes FILE (digits.safetensors) and reads it back
import { readFileSync, writeFileSync } from 'node:fs';
import {
  argmax,
  backward,
  capture,
  createAdamW,
  crossEntropy,
  type Gpu,
  maxPool,
  relu,
  reshape,
  type Tensor,
  tensor,
  uniformStream,
} from 'wgrad';
import {
  batchNormLayer,
  convLayer,
  type ForwardOptions,
  heNormal,
  linearLayer,
  loadState,
  moduleOf,
  Parameters,
  saveState,
} from 'wgrad/model';
import { openDevice } from 'wgrad/node';

const [steps = '120', file = 'digits.safetensors'] = process.argv.slice(2);
const [side, items] = [16, 32];

// The seven segments as lines (x, y, x, y) in [−1, 1]², and those of each digit.
type Line = readonly [number, number, number, number];
const row = (y: number): Line => [-0.5, y, 0.5, y];
const column = (x: number, y: number): Line => [x, y, x, y + 0.9];
const lines = [row(-0.9), column(0.5, -0.9), column(0.5, 0), row(0.9), column(-0.5, 0), column(-0.5, -0.9), row(0)];
const segments = ['012345', '12', '01346', '01236', '1256', '02356', '023456', '012', '0123456', '012356'];

/** Distance of a point to a line of the figure. */
function distance(x: number, y: number, [x0, y0, x1, y1]: Line): number {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const t = Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)));
  return Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
}

/** So many images [N, side, side, 1] of random digits, and the digits. */
function draw(random: () => number, n: number): { images: Float32Array; digits: Uint8Array } {
  const images = new Float32Array(n * side * side);
  const digits = Uint8Array.from({ length: n }, () => Math.floor(10 * random()));
  digits.forEach((digit, i) => {
    const between = (low: number, high: number): number => low + (high - low) * random();
    const [angle, scale, slant] = [between(-0.25, 0.25), between(0.6, 0.9), between(-0.3, 0.3)];
    const [left, top, thickness] = [between(-0.25, 0.25), between(-0.15, 0.15), between(0.12, 0.25)];
    for (let pixel = 0; pixel < side * side; pixel++) {
      const u = ((pixel % side) * 2) / (side - 1) - 1 - left;
      const v = (Math.floor(pixel / side) * 2) / (side - 1) - 1 - top;
      const y = (Math.cos(angle) * v + Math.sin(angle) * u) / scale;
      const x = (Math.cos(angle) * u - Math.sin(angle) * v) / scale + slant * y;
      const nearest = Math.min(...Array.from(segments[digit]!, (s) => distance(x, y, lines[Number(s)]!)));
      images[i * side * side + pixel] = Math.exp(-((nearest / thickness) ** 2)) + 0.3 * (random() - 0.5);
    }
  });
  return { images, digits };
}

/** Logits [N, 10] of images [N, side, side, 1]. */
function classifier(gpu: Gpu, seed: number) {
  const parameters = new Parameters(gpu, seed);
  const convs = [8, 16].map((outputs, i) => {
    const conv = convLayer(parameters.in(`conv${i}`), i ? 8 : 1, outputs, 3, { init: heNormal });
    const norm = batchNormLayer(parameters.in(`norm${i}`), outputs);
    return (x: Tensor, how: ForwardOptions): Tensor => maxPool(relu(norm(conv(x), how)));
  });
  const features = (side / 4) ** 2 * 16;
  const head = linearLayer(parameters.in('head'), features, 10);
  const forward = (x: Tensor, how: ForwardOptions = {}): Tensor =>
    head(
      reshape(
        convs.reduce((y, layer) => layer(y, how), x),
        [x.shape[0]!, features],
      ),
    );
  return Object.assign(forward, moduleOf(parameters));
}

const gpu = await openDevice();
const model = classifier(gpu, 1);
const optimizer = createAdamW(model.parameters, { learningRate: 0.01 });
const image = tensor(gpu, 0, [items, side, side, 1]);
const digit = tensor(gpu, 0, [items], { dtype: 'u8' });
const step = capture(gpu, () => {
  const loss = crossEntropy(model(image, { mode: 'train' }), digit, { labelSmoothing: 0.05 });
  optimizer.step(backward(loss));
  return { loss };
});

const [random, unseen] = [uniformStream(5), draw(uniformStream(99), 256)];
async function accuracy(network: typeof model): Promise<number> {
  const guesses = await argmax(network(tensor(gpu, unseen.images, [256, side, side, 1]))).read();
  return unseen.digits.filter((digit, i) => digit === guesses[i]).length / 256;
}

for (let i = 0; i < Number(steps); i++) {
  const { images, digits } = draw(random, items);
  image.write(images);
  digit.write(digits);
  const { loss } = step();
  if (i % 20 === 0) console.log(`step ${i}  loss ${(await loss.item()).toFixed(3)}`);
}
console.log(`accuracy on unseen digits: ${(await accuracy(model)).toFixed(3)}`);
writeFileSync(file, await saveState(model));
const other = classifier(gpu, 2);
loadState(other, readFileSync(file));
console.log(`another network with the saved state: ${(await accuracy(other)).toFixed(3)}`);
gpu.close();
