// Convolutions and transposed convolutions of every kind against float64 loops: values and all gradients.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  type ConvOptions,
  type ConvTransposeOptions,
  conv,
  convTranspose,
  leakyRelu,
  ShapeError,
  scope,
  type Tensor,
  tensor,
  uniformStream,
} from '../../../engine/index.js';
import { checkOp } from '../../check-op.js';
import { closeTo } from '../../close-to.js';
import { lacking, testGpu } from '../../gpu.js';
import { eachProductOf, type Kind } from '../../reference/conv.js';
import { mapArray, type NdArray, ndArray } from '../../reference/nd-array.js';
import { refuses } from '../../refuses.js';
import { unless } from '../../unless.js';

const test = suite('convolutions of every kind');
const testHalf = unless(await lacking('shader-f16'), test);

const uniform = uniformStream(11, 3);
const random = (shape: readonly number[], steps = 2 ** 20): NdArray => {
  const x = ndArray(shape);
  for (let i = 0; i < x.data.length; i++) x.data[i] = Math.round((2 * uniform() - 1) * steps) / steps;
  return x;
};

interface Case {
  readonly x: readonly number[];
  readonly outputs: number;
  readonly kernel: readonly number[];
  readonly options: ConvTransposeOptions;
  /** Sides of the result. */
  readonly sides: readonly number[];
  /** Zeros before each side of the larger image. */
  readonly before?: readonly number[];
}

const kindOf = ({ x, options, before }: Case, stride: number): Kind => {
  const rank = x.length - 2;
  const all = (given: number | readonly number[] | undefined, otherwise: number): readonly number[] =>
    typeof given === 'object' ? given : Array<number>(rank).fill(given ?? otherwise);
  return {
    stride: all(options.stride, stride),
    dilation: all(options.dilation, 1),
    groups: options.groups ?? 1,
    padding: (before ?? all(0, 0)).map((n) => [n, 0]),
  };
};

/** Value and gradients by loops; `makes` says which op. */
function expected(c: Case, makes: 'coarse' | 'fine', [x, weight, bias, dy]: NdArray[]) {
  const shape = [c.x[0]!, ...c.sides, c.outputs];
  const [y, dx, dWeight, dBias] = [shape, c.x, weight!.shape, [c.outputs]].map((s) => ndArray(s)) as [
    NdArray,
    NdArray,
    NdArray,
    NdArray,
  ];
  y.data.forEach((_, i) => {
    y.data[i] = bias!.data[i % c.outputs]!;
    dBias.data[i % c.outputs]! += dy!.data[i]!;
  });
  const [fine, coarse] = makes === 'coarse' ? [c.x, shape] : [shape, c.x];
  eachProductOf(fine, coarse, c.kernel, kindOf(c, makes === 'coarse' ? 1 : 2), makes, (f, w, p) => {
    const [xAt, yAt] = makes === 'coarse' ? [f, p] : [p, f];
    y.data[yAt]! += x!.data[xAt]! * weight!.data[w]!;
    dx.data[xAt]! += dy!.data[yAt]! * weight!.data[w]!;
    dWeight.data[w]! += dy!.data[yAt]! * x!.data[xAt]!;
  });
  return { y, dx, dWeight, dBias };
}

const weightOf = ({ x, outputs, kernel, options: { groups = 1 } }: Case): number[] => [
  outputs,
  ...kernel,
  x.at(-1)! / groups,
];

const ops = {
  coarse: (x: Tensor, w: Tensor, b: Tensor | undefined, o: ConvTransposeOptions) => conv(x, w, b, o as ConvOptions),
  fine: convTranspose,
};

async function check(c: Case, makes: 'coarse' | 'fine', types: ['f32' | 'f16', 'f32' | 'f16'] = ['f32', 'f32']) {
  const gpu = await testGpu();
  const steps = types[0] === 'f16' ? 64 : undefined;
  const data = [c.x, weightOf(c), [c.outputs], [c.x[0]!, ...c.sides, c.outputs]].map((s) => random(s, steps));
  const want = expected(c, makes, data);
  const accuracy = types[0] === 'f16' ? { atol: 2e-3, rtol: 2e-3 } : { atol: 2e-5, rtol: 2e-5 };
  await scope(gpu, async () => {
    const [x, weight, bias, dy] = data.map((a, i) =>
      tensor(gpu, a.data, a.shape, { dtype: i === 0 || i === 3 ? types[0] : types[1], requiresGrad: i < 3 }),
    ) as [Tensor, Tensor, Tensor, Tensor];
    const y = ops[makes](x, weight, bias, c.options);
    assert.equal([...y.shape], want.y.shape);
    const gradients = backward(y, dy);
    closeTo(await y.read(), want.y.data, accuracy, 'y');
    closeTo(await gradients.get(x)!.read(), want.dx.data, accuracy, 'dx');
    closeTo(await gradients.get(weight)!.read(), want.dWeight.data, accuracy, 'dWeight');
    closeTo(await gradients.get(bias)!.read(), want.dBias.data, accuracy, 'dBias');
    assert.is(gradients.get(weight)!.dtype, types[1]);
    assert.is(gradients.get(bias)!.dtype, types[1]);
  });
}

const title = ({ x, outputs, kernel, options }: Case): string =>
  `[${x}] to ${outputs}, kernel ${kernel.join('×')}, ${JSON.stringify(options)}`;

// Each row is a kernel of its own to compile, so a row tries several things at once.
const convolutions: Case[] = [
  // One side; the tuned families compute the first three.
  { x: [2, 9, 3], outputs: 5, kernel: [3], options: {}, sides: [9], before: [1] },
  { x: [2, 9, 4], outputs: 8, kernel: [1], options: {}, sides: [9] },
  { x: [1, 9, 4], outputs: 4, kernel: [4], options: { stride: 2, padding: [[3, 0]] }, sides: [5], before: [3] },
  { x: [1, 70, 4], outputs: 6, kernel: [5], options: { dilation: 3, padding: [[12, 0]] }, sides: [70], before: [12] },
  { x: [2, 11, 6], outputs: 6, kernel: [9], options: { groups: 3, stride: 2, padding: 4 }, sides: [6], before: [4] },
  { x: [2, 13, 8], outputs: 8, kernel: [7], options: { groups: 8, dilation: 2, padding: 6 }, sides: [13], before: [6] },
  // Two sides: kernels that the tuned families compute, with paddings of their own.
  { x: [2, 7, 9, 4], outputs: 4, kernel: [3, 3], options: { padding: 'valid' }, sides: [5, 7] },
  {
    x: [1, 6, 8, 3],
    outputs: 5,
    kernel: [3, 3],
    options: { stride: 2, padding: 'same' },
    sides: [3, 4],
    before: [0, 0],
  },
  {
    x: [1, 5, 6, 4],
    outputs: 8,
    kernel: [4, 4],
    options: {
      padding: [
        [3, 0],
        [1, 3],
      ],
    },
    sides: [5, 7],
    before: [3, 1],
  },
  { x: [1, 6, 7, 8], outputs: 4, kernel: [2, 2], options: { stride: 2, padding: 1 }, sides: [4, 4], before: [1, 1] },
  // The general kernels.
  {
    x: [2, 9, 8, 4],
    outputs: 8,
    kernel: [3, 2],
    options: { dilation: [1, 3], stride: [2, 1] },
    sides: [5, 8],
    before: [1, 1],
  },
  { x: [1, 10, 11, 3], outputs: 4, kernel: [3, 3], options: { stride: 3, padding: 1 }, sides: [4, 4], before: [1, 1] },
  {
    x: [1, 6, 5, 8],
    outputs: 16,
    kernel: [2, 3],
    options: { groups: 2, stride: 2, padding: 'same' },
    sides: [3, 3],
    before: [0, 1],
  },
  { x: [1, 3, 4, 4], outputs: 4, kernel: [1, 1], options: { padding: 2 }, sides: [7, 8], before: [2, 2] },
  // Depthwise; the last two have several outputs a channel, and a kernel that is too large to unroll.
  { x: [2, 9, 7, 8], outputs: 8, kernel: [3, 3], options: { groups: 8 }, sides: [9, 7], before: [1, 1] },
  { x: [1, 9, 10, 5], outputs: 5, kernel: [3, 3], options: { groups: 5, stride: 2 }, sides: [5, 5], before: [1, 1] },
  {
    x: [1, 11, 9, 4],
    outputs: 4,
    kernel: [3, 5],
    options: { groups: 4, stride: [3, 1], dilation: [2, 1] },
    sides: [4, 9],
    before: [2, 2],
  },
  { x: [1, 5, 6, 3], outputs: 6, kernel: [3, 3], options: { groups: 3 }, sides: [5, 6], before: [1, 1] },
  { x: [1, 20, 3, 4], outputs: 4, kernel: [15, 13], options: { groups: 4 }, sides: [20, 3], before: [7, 6] },
  // Three sides.
  {
    x: [1, 4, 5, 6, 4],
    outputs: 4,
    kernel: [2, 3, 3],
    options: { groups: 4, stride: 2 },
    sides: [2, 3, 3],
    before: [0, 1, 1],
  },
  {
    x: [1, 5, 4, 6, 4],
    outputs: 6,
    kernel: [3, 2, 3],
    options: { dilation: [2, 1, 1], stride: [1, 2, 3], groups: 2 },
    sides: [5, 2, 2],
    before: [2, 0, 1],
  },
  {
    x: [2, 4, 3, 5, 2],
    outputs: 3,
    kernel: [2, 3, 2],
    options: { padding: [[1, 0], 1, [0, 1]] },
    sides: [4, 3, 5],
    before: [1, 1, 0],
  },
];
for (const c of convolutions) test(`conv ${title(c)}`, () => check(c, 'coarse'));

const transposed: Case[] = [
  { x: [1, 1, 1, 4], outputs: 4, kernel: [1, 1], options: { stride: 3 }, sides: [1, 1] },
  { x: [2, 5, 3], outputs: 4, kernel: [4], options: { padding: 1 }, sides: [10], before: [1] },
  { x: [2, 5, 4], outputs: 4, kernel: [3], options: { stride: 1, padding: 'same' }, sides: [5], before: [1] },
  { x: [1, 3, 4, 8], outputs: 4, kernel: [4, 4], options: { padding: 1 }, sides: [6, 8], before: [1, 1] },
  { x: [1, 3, 4, 4], outputs: 5, kernel: [3, 2], options: { stride: [3, 1], dilation: [2, 3] }, sides: [11, 7] },
  { x: [1, 3, 2, 3], outputs: 6, kernel: [2, 2], options: { stride: 3, outputPadding: [0, 2] }, sides: [8, 7] },
  { x: [1, 4, 3, 4], outputs: 4, kernel: [1, 1], options: { padding: 'same' }, sides: [8, 6] },
  {
    x: [1, 4, 5, 8],
    outputs: 16,
    kernel: [3, 3],
    options: {
      groups: 2,
      padding: [
        [0, 1],
        [2, 0],
      ],
    },
    sides: [8, 9],
    before: [0, 2],
  },
  { x: [1, 4, 5, 8], outputs: 8, kernel: [2, 2], options: { groups: 8 }, sides: [8, 10] },
  {
    x: [1, 2, 3, 4, 4],
    outputs: 3,
    kernel: [3, 3, 3],
    options: { padding: 1, outputPadding: 1 },
    sides: [4, 6, 8],
    before: [1, 1, 1],
  },
  { x: [2, 2, 3, 2, 5], outputs: 5, kernel: [3, 2, 4], options: { groups: 5, stride: [1, 2, 3] }, sides: [4, 6, 7] },
];
for (const c of transposed) test(`convTranspose ${title(c)}`, () => check(c, 'fine'));

// Captured, replayed, in buffers that begin as NaN; gradients by differences.
test('captured and poisoned: grouped, depthwise and transposed in one', () =>
  checkOp({
    op: (x, weight, depthwise, up) => {
      const y = conv(x!, weight!, undefined, { groups: 2, dilation: 2 });
      return convTranspose(conv(y, depthwise!, undefined, { groups: 4, stride: 2 }), up!, undefined, {
        stride: 3,
      });
    },
    reference: (x, weight, depthwise, up) => {
      const kind = { stride: [1, 1], dilation: [1, 1], groups: 1 };
      const along = (from: NdArray, w: NdArray, shape: number[], kind: Kind, makes: 'coarse' | 'fine'): NdArray => {
        const y = ndArray(shape);
        const [fine, coarse] = makes === 'coarse' ? [from.shape, shape] : [shape, from.shape];
        eachProductOf(fine, coarse, w.shape.slice(1, -1), kind, makes, (f, k, p) => {
          const [source, at] = makes === 'coarse' ? [f, p] : [p, f];
          y.data[at]! += from.data[source]! * w.data[k]!;
        });
        return y;
      };
      const [two, one, none] = ([2, 1, 0] as const).map(
        (n) =>
          [
            [n, n],
            [n, n],
          ] as const,
      );
      const first = along(x!, weight!, [1, 5, 4, 4], { ...kind, dilation: [2, 2], groups: 2, padding: two! }, 'coarse');
      const second = along(
        first,
        depthwise!,
        [1, 3, 2, 4],
        { ...kind, stride: [2, 2], groups: 4, padding: one! },
        'coarse',
      );
      return along(second, up!, [1, 8, 5, 2], { ...kind, stride: [3, 3], padding: none! }, 'fine');
    },
    inputs: [{ shape: [1, 5, 4, 4] }, { shape: [4, 3, 3, 2] }, { shape: [4, 3, 3, 1] }, { shape: [2, 2, 2, 4] }],
    atol: 1e-3,
    rtol: 1e-4,
    gradAtol: 5e-3,
  }));

for (const [name, types] of [
  ['f16', ['f16', 'f16']],
  ['f16 with f32 weights', ['f16', 'f32']],
] as const) {
  for (const [c, makes] of [
    [convolutions.find(({ options }) => options.groups === 8 && options.stride === undefined)!, 'coarse'],
    [convolutions.find(({ options }) => options.groups === 2)!, 'coarse'],
    [transposed.find(({ options }) => options.groups === 2)!, 'fine'],
  ] as const) {
    testHalf(`${name}: ${title(c)}`, () => check(c, makes, [...types]));
  }
}

test('a deferred activation is computed first, and its gradient is right', () =>
  checkOp({
    op: (x, weight) => conv(leakyRelu(x!, 0.2), weight!, undefined, { groups: 4 }),
    reference: (x, weight) => {
      const a = mapArray(x!, (v) => (v > 0 ? v : 0.2 * v));
      const y = ndArray(x!.shape);
      const kind = {
        stride: [1, 1],
        dilation: [1, 1],
        groups: 4,
        padding: [
          [1, 1],
          [1, 1],
        ] as const,
      };
      eachProductOf(a.shape, y.shape, [3, 3], kind, 'coarse', (f, k, p) => {
        y.data[p]! += a.data[f]! * weight!.data[k]!;
      });
      return y;
    },
    inputs: [{ shape: [1, 5, 4, 4], avoid: 0 }, { shape: [4, 3, 3, 1] }],
    atol: 1e-4,
  }));

test('a NaN or an infinity shows where its pixels are read, and nowhere else', async () => {
  const gpu = await testGpu();
  for (const [groups, kernel] of [
    [4, 1],
    [2, 2],
  ] as const) {
    const x = tensor(gpu, 1, [1, 9, 9, 4]);
    const data = new Float32Array(9 * 9 * 4).fill(1);
    data[(4 * 9 + 4) * 4] = Number.NaN;
    data[0] = Number.POSITIVE_INFINITY;
    x.write(data);
    const y = await conv(x, tensor(gpu, 1, [4, 3, 3, kernel]), undefined, { groups }).read();
    const at = (row: number, column: number, channel: number): number => y[(row * 9 + column) * 4 + channel]!;
    const others = 4 / groups; // outputs that read channel 0
    for (let row = 0; row < 9; row++)
      for (let column = 0; column < 9; column++)
        for (let channel = 0; channel < 4; channel++) {
          const reads = channel < others;
          const isNan = reads && Math.abs(row - 4) < 2 && Math.abs(column - 4) < 2;
          const isInfinite = reads && row < 2 && column < 2;
          const value = at(row, column, channel);
          const want = isNan
            ? Number.isNaN(value)
            : isInfinite
              ? value === Number.POSITIVE_INFINITY
              : Number.isFinite(value);
          assert.ok(want, `${groups} groups: ${value} at ${row}, ${column}, ${channel}`);
        }
  }
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const [x, weight] = [tensor(gpu, 0, [1, 4, 4, 4]), tensor(gpu, 0, [6, 3, 3, 2])];
  const given = (options: ConvOptions) => () => conv(x, weight, undefined, options);
  await refuses(given({}), ShapeError, /conv: input has 4 channels, weight expects 2/);
  await refuses(() => conv(x, tensor(gpu, 0, [4])), ShapeError, /weight must be/);
  await refuses(given({ groups: 4 }), ShapeError, /groups is 4 — expected a whole number that divides the 6 outputs/);
  await refuses(given({ groups: 3 }), ShapeError, /4 channels, weight expects 6/);
  await refuses(given({ groups: 2, dilation: 0 }), ShapeError, /dilation is 0 — expected a whole number from 1 on/);
  await refuses(given({ groups: 2, dilation: 2, padding: 'valid' }), ShapeError, /gives sides \[0,0\]/);
  await refuses(given({ group: 2 } as ConvOptions), ShapeError, /unknown option 'group'.*'groups'/);
});

test.run();
