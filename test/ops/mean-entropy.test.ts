// Entropy of the mean of several predictions, against float64; and that passes share their memory.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { capture, mean, mul, ShapeError, type Tensor, tensor, uniformStream } from '../../engine/index.js';
import { meanEntropy } from '../../engine/method.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { ndArray } from '../reference/nd-array.js';
import { softmaxRows } from '../reference/softmax-rows.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('meanEntropy');
const testHalf = unless(await lacking('shader-f16'), test);

for (const [passes, pixels, classes] of [
  [1, 257, 4],
  [2, 1, 3],
  [3, 70, 5],
  [8, 257, 4],
] as const) {
  for (const dtype of ['f32', 'f16'] as const) {
    (dtype === 'f16' ? testHalf : test)(
      `${passes} passes, ${pixels} pixels, ${classes} classes, ${dtype}`,
      async () => {
        const gpu = await testGpu();
        const uniform = uniformStream(passes, 41);
        const drawn = Array.from({ length: passes }, () =>
          tensor(
            gpu,
            Float32Array.from({ length: pixels * classes }, () => 12 * uniform() - 6),
            [pixels, classes],
            { dtype },
          ),
        );
        const rows = await Promise.all(
          drawn.map(async (x) => softmaxRows(ndArray(x.shape, (await x.read()) as Float32Array))),
        );
        const expected = Array.from({ length: pixels }, (_, i) => {
          let entropy = 0;
          for (let k = 0; k < classes; k++) {
            const p = rows.reduce((sum, row) => sum + row[i]![k]!, 0) / passes;
            entropy -= p * Math.log(p + 1e-6);
          }
          return entropy;
        });
        let next = 0;
        const entropy = meanEntropy(gpu, passes, () => drawn[next++]!);
        assert.equal(entropy.shape, [pixels]);
        closeTo(await entropy.read(), expected, { rtol: 3e-6, atol: 2e-6 });
      },
    );
  }
}

test('eight passes take the memory of two', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [512, 4]);
  const planned = (passes: number) =>
    capture(gpu, (): Tensor => mean(meanEntropy(gpu, passes, () => mul(mul(mul(x, 2), 3), 4)))).info.plannedBytes;
  assert.is(planned(8), planned(2));
});

test('no passes, or passes of different sizes, are refused', async () => {
  const gpu = await testGpu();
  await refuses(() => meanEntropy(gpu, 0, () => tensor(gpu, 0, [3, 2])), ShapeError, /got 0 passes/);
  let size = 2;
  await refuses(
    () => meanEntropy(gpu, 3, () => tensor(gpu, 0, [size++, 2])),
    ShapeError,
    /pass 1 gave \[3,2\], expected \[2,2\]/,
  );
});

test.run();
