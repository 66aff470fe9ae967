import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, type CumsumOptions, cumsum, ShapeError, sum, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('cumsum');
const testHalf = unless(await lacking('shader-f16'), test);

function runningSums(x: NdArray, axis: number, { exclusive = false, reverse = false }: CumsumOptions): NdArray {
  const count = x.shape[axis]!;
  const inner = x.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const y = ndArray(x.shape);
  for (let line = 0; line < x.data.length / count; line++) {
    const at = (r: number): number => Math.floor(line / inner) * count * inner + r * inner + (line % inner);
    let sum = 0;
    for (let step = 0; step < count; step++) {
      const r = reverse ? count - 1 - step : step;
      y.data[at(r)] = exclusive ? sum : sum + x.data[at(r)]!;
      sum += x.data[at(r)]!;
    }
  }
  return y;
}

for (const [shape, axis] of [
  [[1], 0],
  [[2, 7, 3], 1],
  [[3, 5], 0],
  [[2, 9], -1],
  [[300], 0],
  [[2, 1000, 2], 1],
] as [number[], number][]) {
  for (const exclusive of [false, true]) {
    for (const reverse of [false, true]) {
      test(`[${shape}] along ${axis}${exclusive ? ', exclusive' : ''}${reverse ? ', reverse' : ''}`, () =>
        checkOp({
          op: (x) => cumsum(x!, axis, { exclusive, reverse }),
          reference: (x) => runningSums(x!, axis < 0 ? axis + shape.length : axis, { exclusive, reverse }),
          inputs: [{ shape }],
          atol: 1e-4,
          gradAtol: 3e-4,
        }));
    }
  }
}

test('a hundred thousand ones', async () => {
  const y = await cumsum(tensor(await testGpu(), 1, [100_000]), 0).read();
  assert.ok(y.every((v, i) => v === i + 1));
});

testHalf('f16 is summed in f32', async () => {
  const x = tensor(await testGpu(), 1, [3000], { dtype: 'f16', requiresGrad: true });
  const y = cumsum(x, 0);
  assert.is(y.dtype, 'f16');
  assert.is((await y.read())[2999], 3000);
  assert.is(
    (
      await backward(sum(cumsum(x, 0, { reverse: true })))
        .get(x)!
        .read()
    )[9],
    10,
  );
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  await refuses(() => cumsum(tensor(gpu, [1]), 1), ShapeError, /cumsum: axes/);
  await refuses(() => cumsum(tensor(gpu, [1]), undefined as unknown as number), ShapeError, /cumsum: the axis/);
  await refuses(() => cumsum(tensor(gpu, [1], [1], { dtype: 'i32' }), 0), ShapeError, /cumsum.*i32/);
});

test.run();
