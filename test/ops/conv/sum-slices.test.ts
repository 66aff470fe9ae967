// The second pass of a weight gradient against sums in float64, for numbers of slices around those where the kernel changes.

import { suite } from 'uvu';
import { empty } from '../../../engine/custom.js';
import { backward, conv, scope, tensor } from '../../../engine/index.js';
import { run } from '../../../engine/stream.js';
import { sumSlicesGrid, sumSlicesShader } from '../../../shaders/conv/slice-sums.js';
import { closeTo } from '../../close-to.js';
import { lacking, testGpu } from '../../gpu.js';
import { unless } from '../../unless.js';

const test = suite('sum slices');
const half = unless(await lacking('shader-f16'), test);

/** Numbers in [−1, 1), the same every time. */
const numbers = (count: number): number[] =>
  Array.from({ length: count }, (_, i) => ((i * 40503) % 65521) / 32760.5 - 1);

const sums = (values: ArrayLike<number>, slices: number): number[] => {
  const size = values.length / slices;
  return Array.from({ length: size }, (_, i) => {
    let sum = 0;
    for (let slice = 0; slice < slices; slice++) sum += values[slice * size + i]!;
    return sum;
  });
};

for (const [slices, weights, biases, biasSlices] of [
  [1, 33, 1, 1],
  [7, 63, 2, 7],
  [17, 65, 5, 34],
  [64, 31, 3, 64],
  [67, 257, 4, 134],
  [128, 1, 1, 256],
  [515, 70, 33, 515],
] as const) {
  test(`sums of ${slices} slices of ${weights} weights and ${biasSlices} of ${biases} biases`, async () => {
    const gpu = await testGpu();
    const [weight, bias] = [numbers(slices * weights), numbers(biasSlices * biases)];
    await scope(gpu, async () => {
      for (const [hasBias, software] of [
        [true, false],
        [false, false],
        [true, true],
      ] as const) {
        const [dWeight, dBias] = [empty(gpu, [weights]), empty(gpu, [biases])];
        const summing = { dtype: 'f32', bias: hasBias, slices, software } as const;
        const args = {
          partialWeight: tensor(gpu, weight, [slices, weights]),
          dWeight,
          ...(hasBias && { partialBias: tensor(gpu, bias, [biasSlices, biases]), dBias }),
        };
        run(sumSlicesShader(summing), args, sumSlicesGrid(summing, weights + (hasBias ? biases : 0)));
        const accuracy = { atol: 1e-6 * Math.sqrt(biasSlices), rtol: 1e-6 };
        closeTo(await dWeight.read(), sums(weight, slices), accuracy, 'dWeight');
        if (hasBias) closeTo(await dBias.read(), sums(bias, biasSlices), accuracy, 'dBias');
      }
    });
  });
}

half('the gradient of an odd number of f16 weights: a binding of f16 is a multiple of 4 bytes', async () => {
  const gpu = await testGpu();
  const values = Array.from({ length: 4 * 96 * 96 }, (_, i) => ((i * 40503) % 1021) / 1021 - 0.5);
  const gradients = async (dtype: 'f32' | 'f16'): Promise<number[][]> => {
    const x = tensor(gpu, values, [4, 96, 96, 1], { dtype });
    const weight = tensor(gpu, values.slice(0, 9), [1, 3, 3, 1], { dtype, requiresGrad: true });
    const bias = tensor(gpu, [0.5], [1], { dtype, requiresGrad: true });
    const all = backward(conv(x, weight, bias), x);
    return [[...(await all.get(weight)!.read())], [...(await all.get(bias)!.read())]];
  };
  const [exact, halves] = [await gradients('f32'), await gradients('f16')];
  const most = Math.max(...exact[0]!.map(Math.abs));
  for (const i of [0, 1]) closeTo(halves[i]!, exact[i]!, { atol: 2 ** -10 * most, rtol: 0 }, i ? 'dBias' : 'dWeight');
});

test.run();
