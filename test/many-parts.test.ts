// Partial sums of more than 65 536 parts, as the first level of a volume has: statistics of a norm against float64, around a mean that
// is large against the deviation; and the sums of
// its gradient.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, conv, convTranspose, normActivation, scope, tensor, uniformStream } from '../engine/index.js';
import { statisticsOf } from '../engine/ops/fusion.js';
import { closeTo } from './close-to.js';
import { testGpu } from './gpu.js';

const test = suite('many parts');

for (const [channels, sides, groups] of [
  [4, [16, 64, 64], undefined],
  [4, [16, 64, 64], [1, 1]],
  [3, [8, 64, 65], [2]],
] as const) {
  const items = groups?.length ?? 2;
  test(`${channels} channels, [${items},${sides}]${groups ? `, groups ${groups}` : ''}`, async () => {
    const gpu = await testGpu();
    await scope(gpu, async () => {
      const uniform = uniformStream(3);
      const random = (shape: number[], scale: number, offset = 0, requiresGrad = true) => {
        const size = shape.reduce((a, b) => a * b, 1);
        return tensor(
          gpu,
          Float32Array.from({ length: size }, () => offset + scale * (2 * uniform() - 1)),
          shape,
          { requiresGrad },
        );
      };
      const N = 2;
      const x = random([N, ...sides, 1], 1, 0, false);
      const up = random([channels, 2, 2, 2, 1], 1);
      const bias = random([channels], 1, 1000);
      const [gamma, beta] = [random([channels], 0.5, 1), random([channels], 0.5)];
      const running = { mean: tensor(gpu, 0, [channels]), variance: tensor(gpu, 1, [channels]) };
      const down = random([2, 2, 2, 2, channels], 1);
      const options = { mode: 'train' as const, slope: 1, running, ...(groups && { groups }) };
      const step = () => {
        const z = convTranspose(x, up, bias, { statistics: true });
        const y = conv(normActivation(z, gamma, beta, options), down, undefined, { stride: 2 });
        return { z, y };
      };
      const { z, y } = step();
      assert.ok(statisticsOf(z)!.parts.count > 65536, `${statisticsOf(z)!.parts.count} parts`);
      const dy = random([...y.shape], 1, 0, false);
      const parameters = [gamma, beta];
      const fused = backward(y, dy);
      const gradients = await Promise.all(parameters.map((p) => fused.get(p)!.read()));
      const values = await z.read();

      // Mean and variance of each channel in float64: running statistics are a tenth of them, the last group's last.
      const [mean, variance] = [await running.mean.read(), await running.variance.read()];
      const sizes = groups ?? [N];
      const perItem = values.length / N / channels;
      for (let c = 0; c < channels; c++) {
        let [expectedMean, expectedVariance, first] = [0, 1, 0];
        for (const n of sizes) {
          const rows = n * perItem;
          const at = (row: number): number => values[(first + row) * channels + c]!;
          let [sum, squares] = [0, 0];
          for (let row = 0; row < rows; row++) sum += at(row);
          for (let row = 0; row < rows; row++) squares += (at(row) - sum / rows) ** 2;
          expectedMean = 0.9 * expectedMean + (0.1 * sum) / rows;
          expectedVariance = 0.9 * expectedVariance + (0.1 * squares) / (rows - 1);
          first += rows;
        }
        closeTo([mean[c]!], [expectedMean], { rtol: 1.5e-7, atol: 0 }, `mean ${c}`);
        closeTo([variance[c]!], [expectedVariance], { rtol: 2e-6, atol: 0 }, `variance ${c}`);
      }

      // dγ = r Σ g (z − μ) and dβ = Σ g of each group, where g = da: the slope is 1.
      const [weight, given] = [await down.read(), await dy.read()];
      const [D, H, W] = sides.map((n) => 2 * n) as [number, number, number];
      const g = new Float64Array(values.length);
      for (let p = 0; p < values.length / channels; p++) {
        const [item, d, h, w] = [
          Math.floor(p / (D * H * W)),
          Math.floor(p / (H * W)) % D,
          Math.floor(p / W) % H,
          p % W,
        ];
        const coarse = ((item * sides[0] + (d >> 1)) * sides[1] + (h >> 1)) * sides[2] + (w >> 1);
        const tap = 4 * (d & 1) + 2 * (h & 1) + (w & 1);
        for (let c = 0; c < channels; c++) {
          for (let o = 0; o < 2; o++) {
            g[p * channels + c]! += given[2 * coarse + o]! * weight[(o * 8 + tap) * channels + c]!;
          }
        }
      }
      for (let c = 0; c < channels; c++) {
        let [dBeta, dGamma, first] = [0, 0, 0];
        for (const n of sizes) {
          const rows = n * perItem;
          let [sum, squares] = [0, 0];
          for (let row = first; row < first + rows; row++) sum += values[row * channels + c]!;
          const average = sum / rows;
          for (let row = first; row < first + rows; row++) squares += (values[row * channels + c]! - average) ** 2;
          const r = 1 / Math.sqrt(squares / rows + 1e-5);
          for (let row = first; row < first + rows; row++) {
            dBeta += g[row * channels + c]!;
            dGamma += r * g[row * channels + c]! * (values[row * channels + c]! - average);
          }
          first += rows;
        }
        const size = Math.sqrt(N * perItem);
        closeTo([gradients[0]![c]!], [dGamma], { atol: 2e-4 * size, rtol: 1e-5 }, `dγ ${c}`);
        closeTo([gradients[1]![c]!], [dBeta], { atol: 1e-5 * size, rtol: 1e-5 }, `dβ ${c}`);
      }
    });
  });
}

test.run();
