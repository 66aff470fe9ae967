// Means are the correctly rounded quotient of the f32 sum and the count. A product with a rounded 1/n is not: 49 · (1/49) ≠ 1. Sums here
// are whole numbers, so every digit is known.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  averagePool,
  backward,
  binaryCrossEntropy,
  crossEntropy,
  groupNorm,
  huberLoss,
  layerNorm,
  mean,
  meanSquaredError,
  mul,
  scope,
  sum,
  type Tensor,
  tensor,
  variance,
} from '../../engine/index.js';
import { meanEntropy } from '../../engine/method.js';
import { testGpu } from '../gpu.js';

const test = suite('means');

const counts = [3, 5, 7, 10, 49, 1000, 2500];
const f32 = Math.fround;
const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** n whole numbers, 20 ± 9 at most, whose sum is n · 20 + rest. */
function numbers(n: number, rest: number): number[] {
  const data = Array.from({ length: n }, (_, i) => 20 + ((i % 9) + 1) * (2 * i < n - 1 ? 1 : 0));
  for (let i = 0; 2 * i < n - 1; i++) data[n - 1 - i] = 40 - data[i]!;
  data[Math.floor(n / 2)]! += rest;
  return data;
}

/** Asserts the value of y and the gradient of x, to the last bit. */
async function exactly(
  data: readonly number[],
  shape: readonly number[],
  op: (x: Tensor) => Tensor,
  value: readonly number[],
  gradient?: readonly number[],
): Promise<void> {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const x = tensor(gpu, Float32Array.from(data), shape, { requiresGrad: true });
    const y = op(x);
    const dx = gradient && backward(sum(y)).get(x)!;
    assert.equal(Array.from(await y.read()), value.map(f32), 'value');
    if (dx) assert.equal(Array.from(await dx.read()), gradient.map(f32), 'gradient');
  });
}

for (const n of counts) {
  for (const rest of [0, 1, -3]) {
    const data = numbers(n, rest);
    const what = `of ${n}, ${rest ? 'a fraction' : 'a whole number'}`;
    const all = total(data);

    test(`mean ${what}, over all, and over rows and columns of many`, async () => {
      const repeated = (k: number, value: number): number[] => new Array<number>(k).fill(value);
      await exactly(data, [n], (x) => mul(mean(x), 7), [7 * f32(all / n)], repeated(n, 7 / n));
      const rows = [...data, ...data.map((v) => -v)];
      await exactly(rows, [2, n], (x) => mean(x, 1), [all / n, -all / n], repeated(2 * n, 1 / n));
      const wide = 36;
      const columns = data.flatMap((v) => repeated(wide, v));
      await exactly(columns, [n, wide], (x) => mean(x, 0), repeated(wide, all / n), repeated(n * wide, 1 / n));
      const apart = [...rows.slice(0, n), ...rows];
      await exactly(apart.slice(n), [2, 1, n], (x) => mean(x, [0, 2]), [0], repeated(2 * n, 1 / (2 * n)));
    });

    if (!rest) {
      test(`variance ${what}`, async () => {
        const around = data.map((v) => v - 20);
        const squares = total(around.map((v) => v * v));
        await exactly(
          data,
          [n],
          variance,
          [squares / (n - 1)],
          around.map((v) => (2 * v) / (n - 1)),
        );
        await exactly(
          data,
          [n],
          (x) => variance(x, 0, { correction: 0 }),
          [squares / n],
          around.map((v) => (2 * v) / n),
        );
      });
    } // else the squares are no whole numbers

    test(`losses ${what}`, async () => {
      const gpu = await testGpu();
      const zeros = tensor(gpu, new Float32Array(n));
      const squares = total(data.map((v) => v * v));
      const slopes = data.map((v) => (2 * v) / n);
      await exactly(data, [n], (x) => meanSquaredError(x, zeros), [squares / n], slopes);
      await exactly(
        data,
        [n],
        (x) => huberLoss(x, zeros, { delta: 2000 }),
        [squares / 2 / n],
        data.map((v) => v / n),
      );
      const large = data.map((v) => 4096 + v); // log(1 + e^−x) is nothing here
      await exactly(
        large,
        [n],
        (x) => binaryCrossEntropy(x, zeros),
        [total(large) / n],
        large.map(() => 1 / n),
      );
      const logits = large.flatMap((v) => [0, v]);
      await exactly(logits, [n, 2], (x) => crossEntropy(x, tensor(gpu, new Uint8Array(n), [n], { dtype: 'u8' })), [
        total(large) / n,
      ]);
    });

    if (n <= 49) {
      test(`averages of windows ${what}`, async () => {
        for (const channels of [1, 4]) {
          const columns = data.flatMap((v) => new Array<number>(channels).fill(v));
          const window = { window: n, stride: n };
          const y = new Array<number>(channels).fill(all / n);
          const dx = columns.map(() => 1 / n);
          await exactly(columns, [1, n, channels], (x) => averagePool(x, window), y, dx);
          // One pixel of padding that does not count: the number is counted in the kernel.
          const wider = { window: n + 1, stride: n + 1, padding: [[1, 0]] as [[number, number]] };
          await exactly(columns, [1, n, channels], (x) => averagePool(x, wider), y, dx);
        }
      });
    }
  }

  test(`norms of ${n}: what equals the mean comes out as the shift`, async () => {
    const gpu = await testGpu();
    const data = numbers(n, 0);
    const middle = data.flatMap((v, i) => (v === 20 ? [i] : []));
    await scope(gpu, async () => {
      const [gamma, beta] = [tensor(gpu, new Float32Array(n).fill(3)), tensor(gpu, new Float32Array(n).fill(-5))];
      const y = await layerNorm(tensor(gpu, data, [1, n]), gamma, beta).read();
      const z = await groupNorm(tensor(gpu, data, [1, 1, n]), 1, gamma, beta).read();
      for (const i of middle) assert.equal([y[i], z[i]], [-5, -5]);
    });
  });

  if (n <= 49) {
    test(`the entropy of the mean of ${n} sure predictions is that of one`, async () => {
      const gpu = await testGpu();
      const sure = (): Tensor => tensor(gpu, [[200, 0, 0]]);
      const of = (passes: number): Promise<ArrayLike<number>> =>
        scope(gpu, () => meanEntropy(gpu, passes, sure).read());
      assert.equal(await of(n), await of(1));
    });
  }
}

test.run();
