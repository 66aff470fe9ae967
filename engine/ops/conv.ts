// Convolution, 2-D and 3-D, channels last. Which variant of a kernel runs is decided here by a cost model of the adapter; the
// kernels are in shaders/conv.ts.
import {
  type ConvGeometry,
  type ConvTile,
  convParts,
  convShader,
  convStridedGradientShader,
  convStridedGradientThreads,
  convThreads,
  sumSlicesShader,
  transposeWeightShader,
  type WeightGradientTile,
  weightGradientShader,
  weightGradientThreads,
} from '../../shaders/conv.js';
import type { Parts } from '../../shaders/conv-fusion.js';
import type { Float } from '../../shaders/wgsl.js';
import { gradientLike, record } from '../autograd.js';
import type { Gpu } from '../device.js';
import { flags } from '../flags.js';
import { ShapeError, sameShape, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type GradientFlow, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { activationOf, activationToLoad, setGradientSums, setStatistics } from './fusion.js';

export interface ConvOptions {
  stride?: 1 | 2;
  /** A batch norm follows: its statistics are summed as the output is written. */
  statistics?: boolean;
}

/**
 * Convolution of x [N, H, W, C] with weight [O, kH, kW, C] and bias [O], or of x [N, D, H, W, C] with weight
 * [O, kD, kH, kW, C]; odd kernels, padding (k − 1)/2, stride 1 or 2. The output has ⌈H/stride⌉ rows and O channels. Weight and
 * bias may be f32 where x is f16; their gradients then are, too.
 */
export function conv(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  { stride = 1, statistics = false }: ConvOptions = {},
): Tensor {
  const geometry = geometryOf(x, weight, bias, stride);
  const { dtype, parameters } = typesOf(x, weight, bias);
  const { gpu } = x;
  const outputShape = [x.shape[0]!, ...spatial(x).map((n) => Math.ceil(n / stride)), geometry.outputs];

  const y = empty(gpu, outputShape, dtype, 'conv');
  const g = flattened(geometry);
  const tile = chooseTile(gpu, g);
  let prepared = weight;
  if (!gpu.adapter.software) {
    // Neighbouring threads of a GPU should read neighbouring weights; on a CPU that gains nothing and costs a launch.
    prepared = empty(gpu, weight.shape, parameters, 'convWeight');
    run(transposeWeightShader(parameters, g), { weight, prepared }, { threads: weight.size });
  }
  const weights = prepared === weight ? 'outputs-first' : 'outputs-last';
  const onLoad = isCheapToLoad(geometry) ? activationToLoad(x) : undefined;
  const sums = statistics &&
    flags.fuse && { parts: convParts(g, tile), partials: partialsOf(gpu, convParts(g, tile), g) };
  const fusion = { load: onLoad?.activation, statistics: Boolean(sums) };
  run(
    convShader(dtype, g, { tile, weights, bias: bias !== undefined, fusion, parameters }),
    {
      x: onLoad?.z ?? x,
      weight: prepared,
      y,
      ...(bias && { bias }),
      ...(onLoad && { coefficients: onLoad.coefficients }),
      ...(sums && { partials: sums.partials }),
    },
    { threads: convThreads(g, tile) },
  );
  if (sums) setStatistics(y, sums);

  const inputs = bias ? [x, weight, bias] : [x, weight];
  return record('conv', y, inputs, (dy, [needsX, needsWeight, needsBias = false], flow) => {
    const dx = needsX ? inputGradient(x, weight, dy, geometry, flow) : undefined;
    if (!needsWeight && !needsBias) return [dx];
    return [dx, ...weightGradient(x, weight, needsBias ? bias : undefined, dy, geometry)];
  });
}

/** Storage of activations and of parameters: both the same, or f16 activations with f32 masters. */
function typesOf(x: Tensor, weight: Tensor, bias?: Tensor): { dtype: Float; parameters: Float } {
  const parameters = floatType('conv', ...(bias ? [weight, bias] : [weight]));
  const dtype = parameters === 'f32' && x.dtype === 'f16' ? 'f16' : floatType('conv', x, weight);
  return { dtype, parameters };
}

/**
 * Whether computing an activation as it is loaded beats writing and reading it once. Every element is loaded anew for each row of
 * taps and each handful of output channels; measured even at about 32 channels of a 3×3 kernel (both CPU drivers, 2026-11).
 */
const isCheapToLoad = ({ outputs, kernel }: ConvGeometry): boolean => outputs * kernel[0] * kernel[1] <= 96;

const partialsOf = (gpu: Gpu, { count }: Parts, { outputs }: ConvGeometry): Tensor =>
  empty(gpu, [count, 2, outputs], 'f32', 'conv.partials');

const spatial = (x: Tensor): readonly number[] => x.shape.slice(1, -1);

function geometryOf(x: Tensor, weight: Tensor, bias: Tensor | undefined, stride: number): ConvGeometry {
  const rank = x.shape.length;
  const layout = rank === 5 ? '[O, kD, kH, kW, C]' : '[O, kH, kW, C]';
  if (rank !== 4 && rank !== 5) {
    throw new ShapeError(`conv: x must be [N, H, W, C] or [N, D, H, W, C] — got ${show(x.shape)}. Reshape it first.`);
  }
  if (weight.shape.length !== rank) {
    throw new ShapeError(
      `conv: weight must be ${layout} for x ${show(x.shape)} — got ${show(weight.shape)}. Give it ${rank} axes.`,
    );
  }
  const [outputs, ...rest] = weight.shape as number[];
  const kernel = rest.slice(0, -1);
  const inputs = x.shape.at(-1)!;
  if (rest.at(-1) !== inputs) {
    throw new ShapeError(
      `conv: input has ${inputs} channels, weight expects ${rest.at(-1)} — x ${show(x.shape)}, weight ${show(weight.shape)} is ${layout}. Channels come last.`,
    );
  }
  if (kernel.some((k) => k % 2 === 0)) {
    throw new ShapeError(
      `conv: kernel sizes must be odd — got ${show(weight.shape)}, expected ${layout}. Use an odd kernel.`,
    );
  }
  if (stride !== 1 && stride !== 2) {
    throw new ShapeError(`conv: stride must be 1 or 2 — got ${String(stride)}. Use one of these.`);
  }
  if (bias && !sameShape(bias.shape, [outputs!])) {
    throw new ShapeError(
      `conv: bias must be [${outputs}] — got ${show(bias.shape)}. It needs one value per output channel.`,
    );
  }
  const triple = (xs: readonly number[]): [number, number, number] =>
    rank === 5 ? [xs[0]!, xs[1]!, xs[2]!] : [1, xs[0]!, xs[1]!];
  const input = triple(spatial(x));
  return {
    batch: x.shape[0]!,
    input,
    output: triple(spatial(x).map((n) => Math.ceil(n / stride))),
    inputs,
    outputs: outputs!,
    kernel: triple(kernel),
    stride,
  };
}

/** A 1×1 convolution has no neighbours: all its pixels are one row, which tiles without remainder. */
function flattened(g: ConvGeometry): ConvGeometry {
  if (sizeOf(g.kernel) > 1 || g.stride > 1) return g;
  const pixels = g.batch * sizeOf(g.input);
  return { ...g, batch: 1, input: [1, 1, pixels], output: [1, 1, pixels] };
}

function inputGradient(x: Tensor, weight: Tensor, dy: Tensor, geometry: ConvGeometry, flow: GradientFlow): Tensor {
  const { dtype, parameters } = typesOf(x, weight);
  const dx = empty(x.gpu, x.shape, dtype, 'dConv');
  if (geometry.stride === 2) {
    run(
      convStridedGradientShader(dtype, geometry, parameters),
      { dy, weight, dx },
      { threads: convStridedGradientThreads(geometry) },
    );
  } else {
    const g = flattened({ ...geometry, inputs: geometry.outputs, outputs: geometry.inputs });
    const tile = chooseTile(x.gpu, g);
    // The last gradient that x gets, and x is an activation: its derivative and its norm's sums are taken on the way out.
    const activation = flow.last(0) ? activationOf(x) : undefined;
    // Dropout is drawn per pixel of the tile: on a CPU that takes longer to compile than it saves.
    const of = activation?.activation.dropout && x.gpu.adapter.software ? undefined : activation;
    const base = of && flow.take(0);
    const parts = convParts(g, tile);
    const partials = of && partialsOf(x.gpu, parts, g);
    const fusion = of ? { gradient: of.activation, base: base !== undefined } : {};
    run(
      convShader(dtype, g, {
        tile,
        weights: 'gradient',
        bias: false,
        fusion,
        parameters,
        name: 'conv_input_gradient',
      }),
      {
        x: dy,
        weight,
        y: dx,
        ...(of && partials && { z: of.z, zCoefficients: of.coefficients, partials, ...of.draws }),
        ...(base && { base }),
      },
      { threads: convThreads(g, tile) },
    );
    if (partials) setGradientSums(dx, { partials, parts });
  }
  return dx;
}

function weightGradient(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  dy: Tensor,
  g: ConvGeometry,
): [Tensor, Tensor | undefined] {
  const { gpu } = x;
  const { dtype, parameters } = typesOf(x, weight);
  const tile = chooseWeightGradientTile(gpu, g);
  const like = (parameter: Tensor, label: string): Tensor =>
    parameters === 'f32' ? gradientLike(parameter) : empty(gpu, parameter.shape, parameters, label);
  const dWeight = like(weight, 'dWeight');
  const dBias = bias && like(bias, 'dBias');
  const onLoad = activationToLoad(x);
  const source = weightGradientShader(dtype, g, { tile, bias: bias !== undefined, load: onLoad?.activation });
  const from = { x: onLoad?.z ?? x, dy, ...(onLoad && { coefficients: onLoad.coefficients }) };
  const grid = { threads: weightGradientThreads(g, tile) * tile.slices };
  if (tile.slices === 1 && parameters === 'f32') {
    run(source, { ...from, dWeight, ...(dBias && { dBias }) }, grid);
    return [dWeight, dBias];
  }
  const partialWeight = empty(gpu, [tile.slices, ...weight.shape], 'f32', 'partialWeight');
  const partialBias = bias && empty(gpu, [tile.slices, ...bias.shape], 'f32', 'partialBias');
  run(source, { ...from, dWeight: partialWeight, ...(partialBias && { dBias: partialBias }) }, grid);
  run(
    sumSlicesShader(parameters, { bias: bias !== undefined }),
    { partialWeight, dWeight, ...(partialBias && dBias && { partialBias, dBias }) },
    { threads: weight.size + (bias?.size ?? 0) },
  );
  return [dWeight, dBias];
}

/** The largest of `sizes` that divides n. */
const divisor = <T extends number>(n: number, sizes: readonly T[]): T => sizes.find((size) => n % size === 0)!;

/**
 * The forward kernel's tile. On CPU drivers the cheapest by a model of one turn of the inner loop, in units of one load:
 * a vec4 load 3, quadBroadcast 0.1, a multiply-add 0.035 (SwiftShader: 20, 52, 2.5, 0.7 ns; lavapipe: 10, 34, 0.6, 0.35; two
 * cores, 2026-11). lavapipe runs out of registers beyond 32 accumulators, and compiles them slowly. A GPU hides loads behind
 * other threads, so there small tiles keep it full.
 */
function chooseTile({ adapter, features }: Gpu, g: ConvGeometry): ConvTile {
  if (!adapter.software) {
    const columns = g.output[2] < 4 ? 2 : 4;
    const rows = g.output[1] % 2 === 0 ? 2 : 1;
    return { rows, columns, channels: divisor(g.outputs, [4, 2, 1]), quad: false, workgroup: 64 };
  }
  const most = adapter.driver === 'SwiftShader' ? 64 : 32;
  const step = g.inputs % 4 === 0 ? 4 : 1;
  let best: ConvTile | undefined;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const quad of features.has('subgroups') && step === 4 ? [true, false] : [false]) {
    for (const channels of [4, 2, 1] as const) {
      if (g.outputs % channels) continue;
      for (const rows of [1, 2, 3, 4]) {
        for (const columns of [1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16]) {
          if (rows * columns * channels > most || rows * columns > 32) continue;
          const tile: ConvTile = { rows, columns, channels, quad, workgroup: 16 };
          const cost = convThreads(g, tile) * turnCost(g, tile, step);
          if (cost < bestCost) {
            bestCost = cost;
            best = tile;
          }
        }
      }
    }
  }
  return best!;
}

function turnCost(g: ConvGeometry, { rows, columns, channels, quad }: ConvTile, step: 1 | 4): number {
  const kernelWidth = g.kernel[2];
  const vectorLoad = step === 4 ? 3 : 1;
  const values = rows * ((columns - 1) * g.stride + kernelWidth);
  const weights = kernelWidth * channels * vectorLoad;
  return (
    values * (quad ? 1 + step * 0.1 : vectorLoad) + weights + step * kernelWidth * rows * columns * channels * 0.035
  );
}

/**
 * The weight gradient's tile, from the same measurements; slices are as few as keep the adapter busy, since every slice is
 * written and read again.
 */
function chooseWeightGradientTile(gpu: Gpu, g: ConvGeometry): WeightGradientTile {
  const { software } = gpu.adapter;
  const quad = software && gpu.features.has('subgroups') && g.outputs % 4 === 0 && g.inputs > 1;
  const inputs = divisor(g.inputs, [4, 2, 1]);
  const outputs = divisor(g.outputs, software ? [8, 4, 5, 3, 2, 1] : [4, 5, 3, 2, 1]);
  const allRows = inputs * outputs * sizeOf(g.kernel) <= 72 && g.kernel[0] === 1;
  const unroll = g.output[2] % 2 !== 0 && g.output[2] % 3 === 0 ? 3 : 2;
  const tile = { inputs, outputs, allRows, unroll, quad, slices: 1, workgroup: software ? 16 : 64 };
  const pixels = g.batch * sizeOf(g.output);
  const rows = g.batch * g.output[0] * g.output[1];
  const wanted = Math.ceil((software ? 512 : 65536) / weightGradientThreads(g, tile));
  const worthIt = Math.ceil(pixels / (software ? 256 : 64));
  const sliceRows = Math.ceil(rows / Math.min(wanted, worthIt, rows));
  return { ...tile, slices: Math.ceil(rows / sliceRows) };
}
