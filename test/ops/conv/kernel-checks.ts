// What every family of convolution kernels has to pass, launched directly: against plain loops, and fused against the composition
// of plain ops. Test files bring the cases and the generators.

import { sizeOf } from '../../../engine/custom.js';
import {
  backward,
  batchNorm,
  createRandom,
  dropout,
  type Gpu,
  leakyRelu,
  scope,
  type Tensor,
  tensor,
  uniformStream,
} from '../../../engine/index.js';
import { run } from '../../../engine/stream.js';
import { empty } from '../../../engine/tensor.js';
import type { Activation, ConvFusion } from '../../../shaders/conv/fusion.js';
import type { Parts } from '../../../shaders/conv/geometry.js';
import {
  type ConvGeometry,
  paddingOf,
  partStarts,
  type Triple,
  type WeightOrder,
} from '../../../shaders/conv/geometry.js';
import { sumSlicesGrid, sumSlicesShader } from '../../../shaders/conv/slice-sums.js';
import { dropoutMaskShader } from '../../../shaders/dropout.js';
import { normCoefficients } from '../../../shaders/norm-parts.js';
import { startsOf } from '../../../shaders/norm-sizes.js';
import type { Float } from '../../../shaders/wgsl.js';
import { closeTo } from '../../close-to.js';
import { testGpu } from '../../gpu.js';
import * as reference from '../../reference/conv.js';
import { type NdArray, ndArray } from '../../reference/nd-array.js';

export interface ConvCase {
  /** [N, H, W, C] or [N, D, H, W, C]. */
  readonly x: readonly number[];
  readonly outputs: number;
  /** Of all axes, or of each. */
  readonly k: number | readonly number[];
  readonly stride?: 1 | 2;
  /** Zeros before depth, height and width, where they are not those of `conv`. */
  readonly padding?: Triple;
  /** Images of each group of the norm that rides along. */
  readonly groups?: readonly number[];
  /** Whether dropout comes from a mask. */
  readonly masked?: boolean;
}

/** These cases, and those with dropout once more with a mask. */
export const withMasks = <Case extends ConvCase & { readonly rate?: number }>(cases: readonly Case[]): Case[] =>
  cases.flatMap((c) => (c.rate ? [c, { ...c, masked: true }] : [c]));

/** A generator of forward kernels, with its tile chosen. */
export interface ForwardKernel {
  readonly order: WeightOrder;
  readonly workgroups: Triple;
  readonly parts: Parts;
  shader(dtype: Float, options: { bias: boolean; parameters?: Float; fusion?: ConvFusion }): string;
}

/** A generator of the weight gradient's first pass, with its tile chosen. */
export interface WeightGradientKernel {
  readonly slices: number;
  readonly workgroups: Triple;
  shader(dtype: Float, options: { bias: boolean; onLoad?: Activation | undefined }): string;
}

/** Sizes of the kernel, one for each spatial axis. */
export const tapsOf = ({ x, k }: Pick<ConvCase, 'x' | 'k'>): readonly number[] =>
  typeof k === 'number' ? x.slice(1, -1).map(() => k) : k;

export const titleOf = (c: ConvCase): string =>
  `[${c.x}] → ${c.outputs}, ${tapsOf(c).join('×')}, stride ${c.stride ?? 1}${c.padding ? `, padding ${c.padding}` : ''}${c.groups ? `, groups ${c.groups}` : ''}${c.masked ? ', masked' : ''}`;

export function geometryOf({ x, outputs, k, stride = 1, padding }: ConvCase): ConvGeometry {
  const triple = (sizes: readonly number[]): Triple =>
    (sizes.length === 3 ? sizes : [1, ...sizes]) as unknown as Triple;
  const [input, kernel] = [triple(x.slice(1, -1)), triple(tapsOf({ x, k }))];
  const output = triple(input.map((n) => Math.ceil(n / stride)));
  const sizes = { batch: x[0]!, input, output, inputs: x.at(-1)!, outputs, kernel, stride };
  return { ...sizes, padding: padding ?? paddingOf(kernel) };
}
export const weightShape = (c: Pick<ConvCase, 'x' | 'outputs' | 'k'>): number[] => [
  c.outputs,
  ...tapsOf(c),
  c.x.at(-1)!,
];

const uniform = uniformStream(9, 5);
/** Numbers in [−1, 1) that f16 holds as they are. */
export const random = (shape: readonly number[]): NdArray => {
  const x = ndArray([...shape]);
  for (let i = 0; i < x.data.length; i++) x.data[i] = Math.floor(512 * uniform() - 256) / 256;
  return x;
};
const toGpu = (gpu: Gpu, { data, shape }: NdArray, dtype: Float = 'f32'): Tensor => tensor(gpu, data, shape, { dtype });

/** Errors of sums of `terms` products of numbers below 1. */
const tolerance = (terms: number, dtype: Float = 'f32'): { atol: number; rtol: number } =>
  dtype === 'f16' ? { atol: 1e-3, rtol: 1e-3 } : { atol: 2e-6 * terms ** 0.5, rtol: 1e-5 };

/** Weights [O, tap, C] whose backwards reading ([C, last tap − tap, O] of the other convolution) is `weight`. */
export function readBackwards({ data, shape }: NdArray): NdArray {
  const [outputs, inputs] = [shape[0]!, shape.at(-1)!];
  const taps = data.length / outputs / inputs;
  const turned = ndArray([inputs, ...shape.slice(1, -1), outputs]);
  for (let o = 0; o < outputs; o++)
    for (let t = 0; t < taps; t++)
      for (let c = 0; c < inputs; c++)
        turned.data[(c * taps + taps - 1 - t) * outputs + o] = data[(o * taps + t) * inputs + c]!;
  return turned;
}

/** The weights as a kernel of this order reads them. */
function inOrder(gpu: Gpu, weight: NdArray, order: WeightOrder, dtype: Float): Tensor {
  if (order === 'gradient') return toGpu(gpu, readBackwards(weight), dtype);
  return toGpu(gpu, weight, dtype);
}

/** y = x ∗ weight against plain loops. */
export async function checkForward(
  c: ConvCase,
  kernel: ForwardKernel,
  dtype: Float = 'f32',
  parameters: Float = dtype,
): Promise<void> {
  const gpu = await testGpu();
  const g = geometryOf(c);
  const [input, filter, b] = [random(c.x), random(weightShape(c)), random([c.outputs])];
  const bias = kernel.order !== 'gradient';
  const expected = reference.conv(input, filter, bias ? b : undefined, g.stride, g.padding);
  await scope(gpu, async () => {
    const y = empty(gpu, expected.shape, dtype);
    const weight = inOrder(gpu, filter, kernel.order, parameters);
    const args = { x: toGpu(gpu, input, dtype), weight, y, ...(bias && { bias: toGpu(gpu, b, parameters) }) };
    run(kernel.shader(dtype, { bias, parameters }), args, { workgroups: kernel.workgroups });
    closeTo(await y.read(), expected.data, tolerance(sizeOf(g.kernel) * g.inputs, dtype));
  });
}

const slope = 0.01;

/** The norm of `z` in training mode, of groups of images: coefficients [groups, 4, C], and γ and β. */
function normOf(z: NdArray, groups: readonly number[] = [z.shape[0]!]) {
  const channels = z.shape.at(-1)!;
  const [gamma, beta, coefficients] = [random([channels]), random([channels]), ndArray([groups.length, 4, channels])];
  gamma.data.forEach((_, c) => {
    gamma.data[c]! += 1.5;
  });
  const pixels = z.data.length / channels / z.shape[0]!;
  startsOf(groups).forEach((first, g) => {
    if (g === groups.length) return;
    const rows = groups[g]! * pixels;
    for (let c = 0; c < channels; c++) {
      const column = Array.from({ length: rows }, (_, i) => z.data[(first * pixels + i) * channels + c]!);
      const mean = column.reduce((sum, v) => sum + v, 0) / rows;
      const r = 1 / Math.sqrt(column.reduce((sum, v) => sum + (v - mean) ** 2, 0) / rows + 1e-5);
      [mean, gamma.data[c]! * r, beta.data[c]!, r].forEach((v, row) => {
        coefficients.data[(g * 4 + row) * channels + c] = v;
      });
    }
  });
  return { gamma, beta, coefficients };
}

const activationOf = (dropout: number, { groups, masked }: ConvCase): Activation => ({
  ...{ slope, dropout },
  ...(masked && { masked }),
  ...(groups && { groups }),
});
/** The first part of each group, and the number of all. */
const startsIn = (parts: Parts, groups: readonly number[], output: Triple): readonly number[] =>
  partStarts(
    parts,
    groups.map((n) => n * sizeOf(output)),
  )!;

const asArray = async (t: Tensor): Promise<NdArray> => ndArray([...t.shape], Float64Array.from(await t.read()));

/** dropout(leakyRelu(batchNorm(z))) by the plain ops, with the draws of stream 0. */
async function composed(gpu: Gpu, z: NdArray, norm: ReturnType<typeof normOf>, rate: number, { groups }: ConvCase) {
  const options = { mode: 'train' as const, groups };
  const normed = batchNorm(toGpu(gpu, z), toGpu(gpu, norm.gamma), toGpu(gpu, norm.beta), options);
  const y = leakyRelu(normed, slope);
  return asArray(rate > 0 ? dropout(y, rate, createRandom(gpu, 3)) : y);
}
/** What dropout of a tensor of this shape binds. */
function draws(gpu: Gpu, rate: number, { masked }: ConvCase, shape: readonly number[]): Record<string, Tensor> {
  if (!rate) return {};
  const from = { random: createRandom(gpu, 3).state, stream: tensor(gpu, [0], [1], { dtype: 'u32' }) };
  if (!masked) return from;
  const mask = empty(gpu, [Math.ceil(sizeOf(shape) / 32)], 'u32');
  run(dropoutMaskShader, { ...from, mask, numbers: [rate] }, { threads: mask.size });
  return { mask };
}

/** An activation applied on load, and the statistics of the output, against norm, LeakyReLU, dropout and the plain loops. */
export async function checkLoadAndStatistics(c: ConvCase, kernel: ForwardKernel, rate: number): Promise<void> {
  const gpu = await testGpu();
  const g = geometryOf(c);
  const { outputs } = c;
  const { order, parts } = kernel;
  const [z, filter, b] = [random(c.x), random(weightShape(c)), random([outputs])];
  const norm = normOf(z, c.groups);
  const groups = c.groups ?? [g.batch];
  await scope(gpu, async () => {
    const expected = reference.conv(await composed(gpu, z, norm, rate, c), filter, b, g.stride, g.padding);
    const y = empty(gpu, expected.shape);
    const partials = empty(gpu, [parts.count, 2, outputs]);
    const source = kernel.shader('f32', { bias: true, fusion: { onLoad: activationOf(rate, c), statistics: true } });
    const args = {
      x: toGpu(gpu, z),
      weight: inOrder(gpu, filter, order, 'f32'),
      bias: toGpu(gpu, b),
      coefficients: toGpu(gpu, norm.coefficients),
      y,
      partials,
      ...draws(gpu, rate, c, c.x),
    };
    run(source, args, { workgroups: kernel.workgroups });
    const accuracy = { atol: 2e-5, rtol: 2e-5 };
    closeTo(await y.read(), expected.data, accuracy, 'y');
    const coefficients = empty(gpu, [groups.length, 4, outputs]);
    const [gamma, beta] = [tensor(gpu, 1, [outputs]), tensor(gpu, 0, [outputs])];
    const width = outputs % 4 === 0 ? 4 : 1;
    const adding = { width, groups: groups.length, parts: parts.count, software: false } as const;
    const statistics = normCoefficients(adding, parts.pixelsOf, 1e-5, undefined);
    const starts = c.groups && { starts: startsIn(parts, groups, g.output) };
    run(statistics, { partials, gamma, beta, coefficients, ...starts }, { workgroups: [outputs / width] });
    const own = normOf(expected, groups).coefficients.data;
    const read = await coefficients.read();
    groups.forEach((_, group) => {
      for (const [row, what] of [[0, 'mean'] as const, [3, '1/σ'] as const]) {
        const [from, to] = [(group * 4 + row) * outputs, (group * 4 + row + 1) * outputs];
        closeTo(read.subarray(from, to), own.subarray(from, to), accuracy, `${what}, group ${group}`);
      }
    });
  });
}

/** An input gradient with the derivative of an activation and its norm's sums, against the plain ops' gradients. */
export async function checkActivationGradient(
  c: ConvCase,
  kernel: ForwardKernel,
  rate: number,
  base = false,
): Promise<void> {
  const gpu = await testGpu();
  const g = geometryOf(c);
  const { outputs } = c;
  const [out, filter] = [random(c.x), random(weightShape(c))];
  const da = reference.conv(out, filter, undefined, g.stride, g.padding);
  const [z, before] = [random(da.shape), random(da.shape)];
  if (base) for (let i = 0; i < da.data.length; i++) da.data[i]! += before.data[i]!;
  const groups = c.groups ?? [g.batch];
  const { coefficients } = normOf(z, groups);
  const groupAt = (i: number): number => {
    const image = Math.floor(i / (z.data.length / g.batch));
    return startsOf(groups).findLastIndex((first) => first <= image);
  };
  const at = (row: number, i: number): number => coefficients.data[(groupAt(i) * 4 + row) * outputs + (i % outputs)]!;
  const normed = ndArray(
    [...z.shape],
    z.data.map((v, i) => (v - at(0, i)) * at(1, i) + at(2, i)),
  );
  await scope(gpu, async () => {
    const n = tensor(gpu, normed.data, normed.shape, { requiresGrad: true });
    const activation = leakyRelu(n, slope);
    const a = rate > 0 ? dropout(activation, rate, createRandom(gpu, 3)) : activation;
    const expected = await backward(a, toGpu(gpu, da)).get(n)!.read();
    const sums = new Float64Array(groups.length * 2 * outputs);
    expected.forEach((v, i) => {
      const first = groupAt(i) * 2 * outputs + (i % outputs);
      sums[first]! += v;
      sums[first + outputs]! += v * (z.data[i]! - at(0, i));
    });
    const { count } = kernel.parts;
    const y = empty(gpu, da.shape);
    const partials = empty(gpu, [count, 2, outputs]);
    const source = kernel.shader('f32', { bias: false, fusion: { gradient: activationOf(rate, c), base } });
    const args = {
      x: toGpu(gpu, out),
      weight: inOrder(gpu, filter, kernel.order, 'f32'),
      y,
      partials,
      z: toGpu(gpu, z),
      zCoefficients: toGpu(gpu, coefficients),
      ...draws(gpu, rate, c, da.shape),
      ...(base && { base: toGpu(gpu, before) }),
    };
    run(source, args, { workgroups: kernel.workgroups });
    closeTo(await y.read(), expected, { atol: 2e-5, rtol: 2e-5 }, 'g');
    const starts = startsIn(kernel.parts, groups, g.output);
    const total = new Float64Array(groups.length * 2 * outputs);
    (await partials.read()).forEach((v, i) => {
      const part = Math.floor(i / (2 * outputs));
      const group = starts.findLastIndex((first) => first <= part);
      total[group * 2 * outputs + (i % (2 * outputs))]! += v;
    });
    closeTo(total, sums, { atol: 1e-4, rtol: 2e-5 }, 'sums');
  });
}

/** Both passes of a weight gradient; with a `rate`, x still lacks norm, LeakyReLU and dropout of that rate. */
export async function checkWeightGradient(
  c: ConvCase,
  kernel: WeightGradientKernel,
  dtype: Float = 'f32',
  rate?: number,
): Promise<void> {
  const gpu = await testGpu();
  const g = geometryOf(c);
  const { outputs } = c;
  const weight = ndArray(weightShape(c));
  const [z, dy] = [random(c.x), random([g.batch, ...g.output.slice(c.x.length === 5 ? 0 : 1), outputs])];
  const onLoad = rate === undefined ? undefined : activationOf(rate, c);
  await scope(gpu, async () => {
    const tz = toGpu(gpu, z, dtype);
    let a = z;
    const more: Record<string, Tensor> = {};
    if (onLoad) {
      const norm = normOf(z, c.groups);
      a = await composed(gpu, z, norm, onLoad.dropout, c);
      more.coefficients = toGpu(gpu, norm.coefficients);
      Object.assign(more, draws(gpu, onLoad.dropout, c, c.x));
    }
    const expected = reference.convGradients(a, weight, dy, g.stride, g.padding);
    const { slices } = kernel;
    const partialWeight = empty(gpu, [slices, ...weight.shape]);
    const partialBias = empty(gpu, [slices, outputs]);
    const source = kernel.shader(dtype, { bias: true, onLoad });
    const args = { x: tz, dy: toGpu(gpu, dy, dtype), dWeight: partialWeight, dBias: partialBias, ...more };
    run(source, args, { workgroups: kernel.workgroups });
    const [dWeight, dBias] = [empty(gpu, weight.shape), empty(gpu, [outputs])];
    const sums = { partialWeight, dWeight, partialBias, dBias };
    const summing = { dtype: 'f32', bias: true, slices, software: false } as const;
    run(sumSlicesShader(summing), sums, sumSlicesGrid(summing, sizeOf(weight.shape) + outputs));
    const accuracy = { atol: 4e-6 * (g.batch * sizeOf(g.output)) ** 0.5 * (onLoad ? 3 : 1), rtol: 1e-5 };
    closeTo(await dWeight.read(), expected.dWeight.data, accuracy, 'dWeight');
    closeTo(await dBias.read(), expected.dBias.data, accuracy, 'dBias');
  });
}
