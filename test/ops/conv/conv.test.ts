import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOf } from '../../../engine/custom.js';
import {
  backward,
  type ConvOptions,
  capture,
  conv,
  noGrad,
  ShapeError,
  scope,
  sum,
  type Tensor,
  tensor,
  uniformStream,
} from '../../../engine/index.js';
import { run } from '../../../engine/stream.js';
import { empty } from '../../../engine/tensor.js';
import { type ConvTile, convShader, convThreads } from '../../../shaders/conv/direct.js';
import {
  type WeightGradientTile,
  weightGradientShader,
  weightGradientThreads,
} from '../../../shaders/conv/direct-weight-gradient.js';
import { sumSlicesGrid, sumSlicesShader } from '../../../shaders/conv/slice-sums.js';
import { checkOp } from '../../check-op.js';
import { closeTo } from '../../close-to.js';
import { lacking, testGpu } from '../../gpu.js';
import * as reference from '../../reference/conv.js';
import { type NdArray, ndArray } from '../../reference/nd-array.js';
import { refuses } from '../../refuses.js';
import { unless } from '../../unless.js';
import { type ConvCase, tapsOf, titleOf, weightShape } from './kernel-checks.js';

const test = suite('conv');
const testHalf = unless(await lacking('shader-f16'), test);

interface Case extends ConvCase {
  bias?: boolean;
}

// Small: value and gradient against differences, captured, poisoned.
const small: Case[] = [
  { x: [1, 1, 1, 1], outputs: 1, k: 1 },
  { x: [1, 1, 1, 1], outputs: 1, k: 3, bias: true },
  { x: [2, 3, 5, 1], outputs: 8, k: 3, bias: true },
  { x: [1, 4, 6, 3], outputs: 5, k: 3 },
  { x: [3, 5, 3, 4], outputs: 4, k: 3, bias: true },
  { x: [1, 7, 5, 5], outputs: 3, k: 1, bias: true },
  { x: [1, 4, 4, 8], outputs: 8, k: 1 },
  { x: [1, 5, 7, 4], outputs: 2, k: 3, stride: 2, bias: true },
  { x: [2, 6, 4, 3], outputs: 4, k: 3, stride: 2 },
  { x: [1, 5, 5, 4], outputs: 4, k: 1, stride: 2 },
  { x: [1, 4, 5, 2], outputs: 3, k: 5, bias: true },
  { x: [1, 3, 4, 3, 4], outputs: 4, k: 3, bias: true },
  { x: [1, 3, 4, 5, 1], outputs: 2, k: 3, stride: 2 },
  // Even kernels: zeros before an axis and beyond it differ, and so do those of the input gradient.
  { x: [1, 1, 1, 1], outputs: 1, k: 2 },
  { x: [2, 4, 5, 3], outputs: 4, k: 2, bias: true },
  { x: [1, 5, 4, 4], outputs: 8, k: 2 },
  { x: [1, 6, 4, 4], outputs: 4, k: 2, stride: 2, bias: true },
  { x: [2, 5, 7, 3], outputs: 5, k: 2, stride: 2 },
  { x: [1, 1, 1, 2], outputs: 3, k: 2, stride: 2 },
  { x: [1, 7, 6, 4], outputs: 3, k: 4, stride: 2, bias: true },
  { x: [1, 5, 6, 2], outputs: 4, k: 4 },
  { x: [1, 5, 6, 4], outputs: 4, k: [2, 3], bias: true },
  { x: [1, 4, 7, 3], outputs: 2, k: [1, 2] },
  { x: [1, 5, 4, 3], outputs: 2, k: [4, 1], stride: 2 },
  { x: [1, 4, 5, 6, 4], outputs: 4, k: 2, stride: 2, bias: true },
  { x: [1, 3, 4, 3, 4], outputs: 4, k: 2, bias: true },
  { x: [1, 3, 2, 5, 1], outputs: 2, k: [1, 2, 3] },
];
const title = (c: Case): string => `${titleOf(c)}${c.bias ? ', bias' : ''}`;

for (const c of small) {
  const { x, outputs, stride = 1, bias } = c;
  test(title(c), () =>
    checkOp({
      op: (input, weight, b) => conv(input!, weight!, b, { stride }),
      reference: (input, weight, b) => reference.conv(input!, weight!, b, stride),
      inputs: [{ shape: [...x] }, { shape: weightShape(c) }, ...(bias ? [{ shape: [outputs] }] : [])],
      atol: 1e-4,
    }),
  );
}

const uniform = uniformStream(5, 5);
const random = (shape: number[]): NdArray => {
  const x = ndArray(shape);
  for (let i = 0; i < x.data.length; i++) x.data[i] = Math.fround(2 * uniform() - 1);
  return x;
};

/** Errors of sums of `terms` products of numbers below 1. */
const tolerance = (terms: number): { atol: number; rtol: number } => ({ atol: 2e-7 * terms ** 0.5 * 10, rtol: 1e-5 });

// Larger: every element of value and gradients against the loops; sizes that do and do not fit the tiles.
const large: Case[] = [
  { x: [1, 3, 257, 8], outputs: 8, k: 3, bias: true },
  { x: [3, 16, 16, 16], outputs: 16, k: 3, bias: true },
  { x: [2, 13, 11, 16], outputs: 24, k: 3, bias: true },
  { x: [2, 12, 12, 32], outputs: 16, k: 1, bias: true },
  { x: [2, 6, 6, 64], outputs: 32, k: 3 },
  { x: [1, 24, 24, 16], outputs: 4, k: 3, bias: true },
  { x: [1, 33, 31, 1], outputs: 16, k: 3, bias: true },
  { x: [2, 17, 17, 8], outputs: 12, k: 3, stride: 2, bias: true },
  { x: [2, 9, 9, 12], outputs: 20, k: 3 },
  { x: [1, 5, 6, 7, 8], outputs: 8, k: 3, bias: true },
  { x: [1, 257, 3, 5], outputs: 6, k: 3, bias: true },
  { x: [1, 33, 30, 16], outputs: 16, k: 2, stride: 2, bias: true },
  { x: [2, 17, 16, 8], outputs: 12, k: 2, bias: true },
  { x: [1, 18, 13, 8], outputs: 4, k: 4, stride: 2 },
  { x: [1, 6, 8, 9, 16], outputs: 32, k: 2, stride: 2, bias: true },
];

for (const c of large) {
  const { x, outputs, stride = 1, bias } = c;
  const taps = sizeOf(tapsOf(c));
  test(`${title(c)}: all elements`, async () => {
    const gpu = await testGpu();
    const [input, weight, b] = [random([...x]), random(weightShape(c)), random([outputs])];
    const y = reference.conv(input, weight, bias ? b : undefined, stride);
    const dy = random(y.shape);
    const expected = reference.convGradients(input, weight, dy, stride);
    const pixels = dy.data.length / outputs;
    await scope(gpu, async () => {
      const parameter = (a: NdArray): Tensor => tensor(gpu, a.data, a.shape, { requiresGrad: true });
      const [tx, tw, tb] = [parameter(input), parameter(weight), parameter(b)];
      const ty = conv(tx, tw, bias ? tb : undefined, { stride });
      const gradients = backward(ty, tensor(gpu, dy.data, dy.shape));
      closeTo(await ty.read(), y.data, tolerance(taps * x.at(-1)!), 'y');
      closeTo(await gradients.get(tx)!.read(), expected.dx.data, tolerance(taps * outputs), 'dx');
      closeTo(await gradients.get(tw)!.read(), expected.dWeight.data, tolerance(pixels), 'dWeight');
      if (bias) closeTo(await gradients.get(tb)!.read(), expected.dBias.data, tolerance(pixels), 'dBias');
    });
  });
}

// Every way to cut the work gives the same sums, whichever of them this adapter would choose.
const geometry = {
  batch: 2,
  input: [1, 7, 10],
  output: [1, 7, 10],
  inputs: 8,
  outputs: 8,
  kernel: [1, 3, 3],
  padding: [0, 1, 1],
  stride: 1,
} as const;
const tiles: ConvTile[] = [true, false].flatMap((quad) => [
  { rows: 1, columns: 4, channels: 1, quad, workgroup: 64 },
  { rows: 2, columns: 3, channels: 2, quad, workgroup: 16 },
  { rows: 3, columns: 2, channels: 4, quad, workgroup: 4 },
]);
const gradientTiles: WeightGradientTile[] = [true, false].flatMap((quad) => [
  { inputs: 1, outputs: 4, allRows: true, unroll: 2, quad, slices: 1, workgroup: 64 },
  { inputs: 2, outputs: 8, allRows: false, unroll: 3, quad, slices: 4, workgroup: 16 },
  { inputs: 4, outputs: 4, allRows: false, unroll: 2, quad, slices: 14, workgroup: 4 },
]);

test('every tile of the forward kernel', async () => {
  const gpu = await testGpu();
  const [input, weight, b] = [random([2, 7, 10, 8]), random([8, 3, 3, 8]), random([8])];
  const expected = reference.conv(input, weight, b, 1);
  await scope(gpu, async () => {
    const x = tensor(gpu, input.data, input.shape);
    const filter = tensor(gpu, weight.data, weight.shape);
    const bias = tensor(gpu, b.data, b.shape);
    for (const tile of tiles.filter(({ quad }) => !quad || gpu.features.has('subgroups'))) {
      const y = empty(gpu, expected.shape);
      const source = convShader('f32', geometry, { tile, weights: 'outputs-first', bias: true });
      run(source, { x, weight: filter, y, bias }, { threads: convThreads(geometry, tile) });
      closeTo(await y.read(), expected.data, tolerance(72), JSON.stringify(tile));
    }
  });
});

test('every tile of the weight gradient', async () => {
  const gpu = await testGpu();
  const [input, out] = [random([2, 7, 10, 8]), random([2, 7, 10, 8])];
  const expected = reference.convGradients(input, ndArray([8, 3, 3, 8]), out, 1);
  await scope(gpu, async () => {
    const x = tensor(gpu, input.data, input.shape);
    const dy = tensor(gpu, out.data, out.shape);
    for (const tile of gradientTiles.filter(({ quad }) => !quad || gpu.features.has('subgroups'))) {
      const { slices } = tile;
      const partialWeight = empty(gpu, [slices, 8, 3, 3, 8]);
      const partialBias = empty(gpu, [slices, 8]);
      const threads = weightGradientThreads(geometry, tile) * slices;
      const source = weightGradientShader('f32', geometry, { tile, bias: true });
      run(source, { x, dy, dWeight: partialWeight, dBias: partialBias }, { threads });
      const dWeight = empty(gpu, [8, 3, 3, 8]);
      const dBias = empty(gpu, [8]);
      const summing = { dtype: 'f32', bias: true, slices, software: false } as const;
      const sums = { partialWeight, dWeight, partialBias, dBias };
      run(sumSlicesShader(summing), sums, sumSlicesGrid(summing, 584));
      closeTo(await dWeight.read(), expected.dWeight.data, tolerance(140), `dWeight ${JSON.stringify(tile)}`);
      closeTo(await dBias.read(), expected.dBias.data, tolerance(140), `dBias ${JSON.stringify(tile)}`);
    }
  });
});

test('the same numbers give the same bits', async () => {
  const gpu = await testGpu();
  const [input, weight, out] = [random([2, 40, 24, 8]), random([8, 3, 3, 8]), random([2, 40, 24, 8])];
  const once = (): Promise<[Buffer, Buffer]> =>
    scope(gpu, async () => {
      const x = tensor(gpu, input.data, input.shape, { requiresGrad: true });
      const w = tensor(gpu, weight.data, weight.shape, { requiresGrad: true });
      const gradients = backward(conv(x, w), tensor(gpu, out.data, out.shape));
      const bits = async (t: Tensor): Promise<Buffer> => Buffer.from((await gradients.get(t)!.read()).buffer);
      return [await bits(x), await bits(w)] as [Buffer, Buffer];
    });
  const [first, second] = [await once(), await once()];
  assert.ok(first[0].equals(second[0]), 'dx');
  assert.ok(first[1].equals(second[1]), 'dWeight');
});

test('no gradient is computed for an input that wants none', async () => {
  const gpu = await testGpu();
  await scope(gpu, async () => {
    const x = tensor(gpu, random([1, 4, 4, 4]).data, [1, 4, 4, 4]);
    const weight = tensor(gpu, random([4, 3, 3, 4]).data, [4, 3, 3, 4], { requiresGrad: true });
    const launches = () => capture(gpu, () => backward(sum(conv(x, weight))).get(weight)!).info.launches;
    const without = launches();
    x.requiresGrad = true;
    assert.ok(without < launches(), 'the input gradient is a launch of its own');
    x.requiresGrad = false;
    assert.is(backward(sum(conv(x, weight))).get(x), undefined);
    assert.is(noGrad(gpu, () => conv(x, weight)).node, undefined);
  });
});

for (const [parameters, stride] of [
  ['f16', 1],
  ['f32', 1],
  ['f32', 2],
] as const) {
  testHalf(`f16 in and out, summed in f32, weights ${parameters}, stride ${stride}`, async () => {
    const gpu = await testGpu();
    const half = (a: NdArray): NdArray =>
      ndArray(
        a.shape,
        a.data.map((v) => Math.round(v * 64) / 64),
      );
    const [input, weight, out] = [
      random([2, 9, 12, 8]),
      random([8, 3, 3, 8]),
      random([2, ...(stride === 1 ? [9, 12] : [5, 6]), 8]),
    ].map(half) as [NdArray, NdArray, NdArray];
    const y = reference.conv(input, weight, undefined, stride);
    const expected = reference.convGradients(input, weight, out, stride);
    await scope(gpu, async () => {
      const half = (a: NdArray): Tensor => tensor(gpu, a.data, a.shape, { dtype: 'f16', requiresGrad: true });
      const x = half(input);
      const w = tensor(gpu, weight.data, weight.shape, { dtype: parameters, requiresGrad: true });
      const ty = conv(x, w, undefined, { stride });
      const gradients = backward(ty, tensor(gpu, out.data, out.shape, { dtype: 'f16' }));
      const accuracy = { atol: 1e-3, rtol: 1e-3 };
      closeTo(await ty.read(), y.data, accuracy, 'y');
      closeTo(await gradients.get(x)!.read(), expected.dx.data, accuracy, 'dx');
      assert.is(gradients.get(w)!.dtype, parameters);
      closeTo(await gradients.get(w)!.read(), expected.dWeight.data, accuracy, 'dWeight');
    });
  });
}

test('shapes and options that do not fit', async () => {
  const gpu = await testGpu();
  const zeros = (...shape: number[]): Tensor => tensor(gpu, 0, shape);
  const [x, weight] = [zeros(1, 4, 4, 2), zeros(3, 3, 3, 2)];
  await refuses(() => conv(zeros(4, 1), zeros(1, 1)), ShapeError, /got \[4,1\], expected \[N,W,C\], \[N,H,W,C\] or/);
  await refuses(() => conv(x, zeros(1, 3, 3, 1)), ShapeError, /2 channels, weight expects 1/);
  await refuses(() => conv(x, zeros(3, 3, 2)), ShapeError, /weight must be \[O, kH, kW, C\]/);
  await refuses(() => conv(x, weight, zeros(2)), ShapeError, /bias must be \[3\]/);
  const given = (options: ConvOptions) => () => conv(x, weight, undefined, options);
  await refuses(given({ stride: 0 }), ShapeError, /stride is 0 — expected a whole number from 1 on/);
  await refuses(given({ stride: [1] }), ShapeError, /stride is \[1\] — .* a list of 2/);
  await refuses(given({ padding: [1, [0, -1]] }), ShapeError, /padding is \[1, \[0, -1\]\] — expected 'same', 'valid'/);
  await refuses(given({ padding: 'SAME' as 'same' }), ShapeError, /padding is 'SAME'/);
  await refuses(
    () => conv(zeros(1, 2, 4, 2), weight, undefined, { padding: 'valid' }),
    ShapeError,
    /x \[1,2,4,2\] gives sides \[0,2\], expected at least 1/,
  );
});

test.run();
