import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  add,
  assign,
  backward,
  capture,
  type Dtype,
  GpuError,
  mul,
  pack,
  ShapeError,
  square,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { lacking, testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('assign');
const gpu = await testGpu();
const testHalf = unless(await lacking('shader-f16'), test);

const values = async (x: Tensor): Promise<number[]> => [...(await x.read())];

const copies = async (dtype: Dtype): Promise<void> => {
  for (const size of [1, 3, 4, 6, 257, 1024]) {
    const numbers = Array.from({ length: size }, (_, i) => (i * 37) % 251);
    const [x, y] = [tensor(gpu, 7, [size], { dtype }), tensor(gpu, numbers, [size], { dtype })];
    assign(x, y);
    y.write(new Array(size).fill(1)); // a copy, not an alias
    assert.equal(await values(x), numbers, `${dtype} ${size}`);
  }
};

for (const dtype of ['f32', 'u32', 'i32', 'u8'] as const) test(`copies ${dtype}`, () => copies(dtype));
testHalf('copies f16', () => copies('f16'));

test('NaN, infinities, negative zero and the smallest numbers stay', async () => {
  const numbers = Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, -Infinity, -0, 1e-42, 1);
  const x = tensor(gpu, 0, [6]);
  assign(x, tensor(gpu, numbers));
  assert.equal(new Uint32Array((await x.read()).buffer), new Uint32Array(numbers.buffer));
});

test('in a step, at every call', async () => {
  const [x, previous] = [tensor(gpu, [1, 2]), tensor(gpu, [0, 0])];
  const step = capture(gpu, () => {
    const change = add(x, mul(previous, -1));
    assign(previous, x);
    return change;
  });
  assert.equal(await values(step()), [1, 2]);
  x.write([5, 5]);
  assert.equal(await values(step()), [4, 3]);
  assert.equal(await values(previous), [5, 5]);
});

test('within a pack, and onto itself', async () => {
  const [a, b] = [tensor(gpu, [1, 2]), tensor(gpu, [3, 4])];
  pack([a, b]);
  assign(a, b);
  assign(b, b);
  assert.equal([...(await values(a)), ...(await values(b))], [3, 4, 3, 4]);
});

test('counts as a write: a gradient of the values before is refused', async () => {
  const x = tensor(gpu, [1, 2], [2], { requiresGrad: true });
  const loss = sum(square(x));
  assign(x, tensor(gpu, [5, 6]));
  await refuses(() => backward(loss), GpuError, /'tensor' was changed by assign after square had used it/);
  assert.equal(await values(backward(sum(square(x))).get(x)!), [10, 12]);
});

test('another shape or type', async () => {
  const x = tensor(gpu, [1, 2], [2], { label: 'weight' });
  await refuses(
    () => assign(x, tensor(gpu, [1, 2], [2, 1])),
    ShapeError,
    /assign: 'weight' is f32 \[2\], the values are f32 \[2,1\]/,
  );
  await refuses(() => assign(x, tensor(gpu, [1, 2], [2], { dtype: 'i32' })), ShapeError, /the values are i32/);
  await refuses(() => assign(x, 3 as never), ShapeError, /assign: input 1 is 3/);
});

test.run();
