import { suite } from 'uvu';
import { matmul, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { lacking, testGpu } from '../gpu.js';
import { type NdArray, ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('matmul');
const testHalf = unless(await lacking('shader-f16'), test);

function reference(a: NdArray, b: NdArray): NdArray {
  const [k, n] = b.shape.slice(-2) as [number, number];
  const m = a.shape.at(-2)!;
  const y = ndArray([...a.shape.slice(0, -1), n]);
  const stride = b.shape.length > 2 ? k * n : 0;
  for (let i = 0; i < y.data.length / n; i++) {
    const plane = Math.floor(i / m) * stride;
    for (let j = 0; j < n; j++) {
      for (let l = 0; l < k; l++) y.data[i * n + j]! += a.data[i * k + l]! * b.data[plane + l * n + j]!;
    }
  }
  return y;
}

const cases: [number[], number[]][] = [
  [
    [1, 1],
    [1, 1],
  ],
  [
    [1, 257],
    [257, 1],
  ],
  [
    [4, 8],
    [8, 4],
  ],
  [
    [33, 17],
    [17, 35],
  ],
  [
    [36, 16],
    [16, 40],
  ],
  [
    [3, 5],
    [5, 64],
  ],
  [
    [64, 6],
    [6, 2],
  ],
  [
    [2, 3, 7, 5],
    [5, 9],
  ],
  [
    [2, 30, 30, 8],
    [8, 12],
  ],
  [
    [2, 700, 3],
    [3, 5],
  ],
  [
    [3, 5, 6],
    [3, 6, 7],
  ],
  [
    [2, 2, 4, 600],
    [2, 2, 600, 8],
  ],
];
for (const [a, b] of cases) {
  test(`[${a}] [${b}]`, () =>
    checkOp({
      op: (x, y) => matmul(x!, y!),
      reference: (x, y) => reference(x!, y!),
      inputs: [{ shape: a }, { shape: b }],
      atol: 1e-4,
      gradAtol: 3e-4,
    }));
}

for (const [m, k, n] of [
  [33, 20, 17],
  [8, 16, 12],
]) {
  testHalf(`f16 [${m},${k}] [${k},${n}]`, () =>
    checkOp({
      op: (x, y) => matmul(x!, y!),
      reference: (x, y) => reference(x!, y!),
      inputs: [
        { shape: [m!, k!], dtype: 'f16' },
        { shape: [k!, n!], dtype: 'f16' },
      ],
      atol: 2e-2,
      rtol: 2e-3,
    }),
  );
}

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = (...shape: number[]) => tensor(gpu, 0, shape);
  await refuses(() => matmul(x(2, 3), x(2, 3)), ShapeError, /\[2,3\] and \[2,3\].*\[K, N\]/);
  await refuses(() => matmul(x(3), x(3, 2)), ShapeError, /matmul/);
  await refuses(() => matmul(x(2, 2, 3), x(3, 3, 2)), ShapeError, /matmul/);
});

test.run();
