import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { broadcastShapes } from '../../engine/custom.js';
import { backward, type MatmulOptions, matmul, ShapeError, tensor } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { at, fromIndex, type NdArray, ndArray } from '../reference/nd-array.js';
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

/** numpy's product in float64: leading sizes broadcast, vectors get an axis of 1, which is left out of the result. */
function general(a: NdArray, b: NdArray, { transposeA = false, transposeB = false }: MatmulOptions): NdArray {
  const [ofA, ofB] = [
    a.shape.length === 1 ? [1, ...a.shape] : a.shape,
    b.shape.length === 1 ? [...b.shape, 1] : b.shape,
  ];
  const [x, y] = [ndArray(ofA, a.data), ndArray(ofB, b.data)];
  const m = ofA.at(transposeA ? -1 : -2)!;
  const k = ofA.at(transposeA ? -2 : -1)!;
  const n = ofB.at(transposeB ? -2 : -1)!;
  const batch = broadcastShapes('test', ofA.slice(0, -2), ofB.slice(0, -2));
  const full = fromIndex([...batch, m, n], (index) => {
    const lead = index.slice(0, -2);
    const [i, j] = index.slice(-2) as [number, number];
    let sum = 0;
    for (let l = 0; l < k; l++) {
      sum += at(x, [...lead, ...(transposeA ? [l, i] : [i, l])]) * at(y, [...lead, ...(transposeB ? [j, l] : [l, j])]);
    }
    return sum;
  });
  return ndArray([...batch, ...(a.shape.length > 1 ? [m] : []), ...(b.shape.length > 1 ? [n] : [])], full.data);
}

const options = [false, true].flatMap((transposeA) => [false, true].map((transposeB) => ({ transposeA, transposeB })));
for (const { transposeA, transposeB } of options) {
  for (const [leadA, leadB, m, k, n] of [
    [[], [3], 4, 5, 6],
    [[3], [], 4, 5, 6],
    [[2, 1, 3], [4, 1], 5, 7, 3],
    [[1, 2], [2, 2], 8, 4, 12],
    [[], [], 9, 260, 4],
    [[2], [2], 3, 1, 2],
  ] as [number[], number[], number, number, number][]) {
    const a = [...leadA, ...(transposeA ? [k, m] : [m, k])];
    const b = [...leadB, ...(transposeB ? [n, k] : [k, n])];
    test(`[${a}]${transposeA ? ' transposed' : ''} [${b}]${transposeB ? ' transposed' : ''}`, () =>
      checkOp({
        op: (x, y) => matmul(x!, y!, { transposeA, transposeB }),
        reference: (x, y) => general(x!, y!, { transposeA, transposeB }),
        inputs: [{ shape: a }, { shape: b }],
        atol: 1e-4,
        gradAtol: 3e-4,
      }));
  }
}

for (const [a, b, transposeA, transposeB] of [
  [[5], [5], false, false],
  [[5], [5, 3], false, false],
  [[5], [3, 5], false, true],
  [[5], [2, 5, 3], false, false],
  [[3, 5], [5], false, false],
  [[5, 3], [5], true, false],
  [[2, 3, 5], [5], false, false],
] as [number[], number[], boolean, boolean][]) {
  test(`a vector: [${a}] [${b}]`, () =>
    checkOp({
      op: (x, y) => matmul(x!, y!, { transposeA, transposeB }),
      reference: (x, y) => general(x!, y!, { transposeA, transposeB }),
      inputs: [{ shape: a }, { shape: b }],
      atol: 1e-4,
      gradAtol: 3e-4,
    }));
}

testHalf('f16, broadcast and transposed: the gradient of what is repeated is summed in f32', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0.001, [40, 4, 2], { dtype: 'f16', requiresGrad: true });
  const w = tensor(gpu, 1, [2, 4], { dtype: 'f16', requiresGrad: true });
  const y = matmul(w, x, { transposeA: false, transposeB: false });
  const seed = tensor(gpu, 1, y.shape, { dtype: 'f16' });
  const dw = backward(y, seed).get(w)!;
  assert.is(dw.dtype, 'f16');
  const small = (await x.read())[0]!;
  closeTo(await dw.read(), Array(8).fill(40 * 2 * small), { rtol: 5e-4 });
});

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

for (const { transposeA, transposeB } of options) {
  const title = `${transposeA ? 'Aᵀ' : 'A'}${transposeB ? 'Bᵀ' : 'B'}`;
  test(`an infinite number at the end of K stays one: ${title}`, async () => {
    const gpu = await testGpu();
    for (const k of [1, 4, 5, 6, 7]) {
      const ones = Array.from({ length: k }, () => 1);
      const last = ones.map((one, i) => (i === k - 1 ? Number.POSITIVE_INFINITY : one));
      for (const [a, b] of [
        [ones, last],
        [last, ones],
      ]) {
        const x = tensor(gpu, a!, transposeA ? [k, 1] : [1, k]);
        const y = tensor(gpu, b!, transposeB ? [1, k] : [k, 1]);
        assert.equal(
          [...(await matmul(x, y, { transposeA, transposeB }).read())],
          [Number.POSITIVE_INFINITY],
          `K ${k}`,
        );
      }
    }
  });
}

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = (...shape: number[]) => tensor(gpu, 0, shape);
  await refuses(() => matmul(x(2, 3), x(2, 3)), ShapeError, /\[2,3\] and \[2,3\].*\[..., K, N\]/);
  await refuses(() => matmul(x(3), x(4, 2)), ShapeError, /matmul: got \[3\] and \[4,2\]/);
  await refuses(() => matmul(x(), x(1)), ShapeError, /matmul: got \[\] and \[1\]/);
  await refuses(() => matmul(x(2, 3), x(3, 2), { transposeA: true }), ShapeError, /expected \[\.\.\., K, M\]/);
  await refuses(() => matmul(x(3), x(3, 2), { transposeA: true }), ShapeError, /transposeA of \[3\]/);
  await refuses(() => matmul(x(2, 3), x(3, 2), { transposea: true } as object), ShapeError, /transposeA'\?/);
  await refuses(() => matmul(x(2, 2, 3), x(3, 3, 2)), ShapeError, /matmul/);
});

test.run();
