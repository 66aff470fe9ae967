// Records convolutions, 2-D and 3-D, channels last. forward.ts and weight-gradient.ts decide which kernel runs.
import type { Activation } from '../../../shaders/conv/fusion.js';
import type { Parts } from '../../../shaders/conv/geometry.js';
import { type ConvGeometry, paddingOf, type Triple } from '../../../shaders/conv/geometry.js';
import { sumSlicesGrid, sumSlicesShader } from '../../../shaders/conv/slice-sums.js';
import { convStridedGradientShader, convStridedGradientThreads } from '../../../shaders/conv/strided-gradient.js';
import { commonDivisor } from '../../../shaders/norm-sizes.js';
import { checkOptions } from '../../arguments.js';
import { ActivatedGradient, type GradientFlow, gradientLike, type PartialSums, record } from '../../autograd.js';
import type { Gpu } from '../../device.js';
import { ShapeError, sameShape, show, sizeOf } from '../../shape.js';
import { run } from '../../stream.js';
import { empty, type Tensor } from '../../tensor.js';
import { expectTensors } from '../float-type.js';
import { type ActivationOf, activationOf, deferredActivation, setStatistics } from '../fusion.js';
import { imageSizes } from '../image-sizes.js';
import { blockConv } from './blocks.js';
import { typesOf } from './family.js';
import { convKernel, onePass, weightGradientKernel } from './forward.js';
import { granted, loaded } from './wish.js';

/** Options of `conv`. */
export interface ConvOptions {
  /** Distance between outputs, in pixels; 1 if not given. */
  stride?: 1 | 2;
  /** A batch norm follows: its statistics are summed as the output is written. Default false. */
  statistics?: boolean;
}

/**
 * Convolution of x [N, H, W, C] with weight [O, kH, kW, C] and bias [O], or of x [N, D, H, W, C] with weight
 * [O, kD, kH, kW, C]; stride 1 or 2. The output has ⌈H/stride⌉ rows and O channels. The zero padding before each axis is
 * ⌊(k − 1)/2⌋. After it there is as much as the output needs: with stride 1 the same for odd k and one more for even k; none for
 * k = 2, stride 2 and even sizes. Weight and bias may be f32 where x is f16; their gradients are then f32, too.
 */
export function conv(x: Tensor, weight: Tensor, bias?: Tensor, options: ConvOptions = {}): Tensor {
  expectTensors('conv', x, weight, ...(bias === undefined ? [] : [bias]));
  checkOptions('conv', options, ['stride', 'statistics'], {
    padding: 'The padding is ⌊(k − 1)/2⌋ before each axis.',
    dilation: 'There is no dilation.',
    groups: 'There are no groups.',
  });
  const { stride = 1, statistics = false } = options;
  const geometry = geometryOf(x, weight, bias, stride);
  const outputShape = [x.shape[0]!, ...spatial(x).map((n) => Math.ceil(n / stride)), geometry.outputs];
  const blocks = blocksOf(geometry, x.shape.length - 2);
  if (blocks) return blockConv('conv', outputShape, [x, weight, bias], blocks, statistics);
  const types = typesOf('conv', x, weight, bias);
  const { gpu } = x;

  const y = empty(gpu, outputShape, types.dtype, 'conv');
  const waiting = deferredActivation(x, true);
  const { g, along } = flattened(geometry, waiting);
  const wish = { bias: bias !== undefined, onLoad: along(waiting), statistics: statistics && gpu.flags.fuse };
  const kernel = convKernel(gpu, types, g, false, wish);
  const fusion = granted(wish, kernel);
  const deferred = fusion.onLoad && waiting;
  const sums = fusion.statistics ? partialSums(gpu, kernel.parts, g) : undefined;
  const { source, grid } = kernel.launch({ bias: wish.bias, fusion });
  run(
    source,
    {
      x: deferred?.z ?? x,
      weight,
      y,
      ...(bias && { bias }),
      ...(deferred && { coefficients: deferred.coefficients, ...deferred.draws }),
      ...(sums && { partials: sums.partials }),
    },
    grid,
  );
  if (sums) setStatistics(y, sums);

  const inputs = bias ? [x, weight, bias] : [x, weight];
  return record('conv', y, inputs, (dy, [needsX, needsWeight, needsBias = false], flow) => {
    const dx = needsX ? inputGradient(x, weight, dy, geometry, flow) : undefined;
    if (!needsWeight && !needsBias) return [dx];
    return [dx, ...weightGradient(x, weight, needsBias ? bias : undefined, dy, geometry)];
  });
}

const partialSums = (gpu: Gpu, parts: Parts, { outputs }: ConvGeometry): PartialSums => ({
  parts,
  partials: empty(gpu, [parts.count, 2, outputs], 'f32', 'conv.partials'),
});

/** Where kernel and stride are 2 and the sides even, the convolution of blocks that it is. */
function blocksOf({ batch, input, output, kernel, stride, inputs, outputs }: ConvGeometry, rank: number) {
  const axes = [0, 1, 2].slice(3 - rank);
  if (stride !== 2 || !axes.every((axis) => kernel[axis] === 2 && input[axis]! % 2 === 0)) return undefined;
  const planes = rank === 3 ? 2 : 1;
  return { batch, size: output, planes, coarse: outputs, fine: inputs, makes: 'coarse' } as const;
}

const spatial = (x: Tensor): readonly number[] => x.shape.slice(1, -1);

function geometryOf(x: Tensor, weight: Tensor, bias: Tensor | undefined, stride: number): ConvGeometry {
  const { batch, size: input, channels: inputs, rank } = imageSizes('conv', x);
  const layout = rank === 3 ? '[O, kD, kH, kW, C]' : '[O, kH, kW, C]';
  if (weight.shape.length !== x.shape.length) {
    throw new ShapeError(
      `conv: weight must be ${layout} for x ${show(x.shape)} — got ${show(weight.shape)}. Give it ${rank + 2} axes.`,
    );
  }
  const taps = imageSizes('conv', weight); // [O, …kernel, C] lies as an image does
  if (taps.channels !== inputs) {
    throw new ShapeError(
      `conv: input has ${inputs} channels, weight expects ${taps.channels} — x ${show(x.shape)}, weight ${show(weight.shape)} is ${layout}. Channels come last.`,
    );
  }
  if (stride !== 1 && stride !== 2) {
    throw new ShapeError(`conv: stride must be 1 or 2 — got ${String(stride)}. Use one of these.`);
  }
  const outputs = taps.batch;
  if (bias && !sameShape(bias.shape, [outputs])) {
    throw new ShapeError(
      `conv: bias must be [${outputs}] — got ${show(bias.shape)}. It needs one value per output channel.`,
    );
  }
  const output = input.map((n) => Math.ceil(n / stride)) as unknown as Triple;
  return { batch, input, output, inputs, outputs, kernel: taps.size, padding: paddingOf(taps.size), stride };
}

/**
 * A 1×1 convolution has no neighbours, so all its pixels form one row, in which only the last tile can be ragged. Where a norm has
 * groups, a row takes as many items as divide every group. `along` counts an activation's groups in these rows.
 */
function flattened(
  g: ConvGeometry,
  of: ActivationOf | undefined,
): { g: ConvGeometry; along: (of: ActivationOf | undefined) => Activation | undefined } {
  if (sizeOf(g.kernel) > 1 || g.stride > 1) return { g, along: (of) => of?.activation };
  const items = commonDivisor(of?.activation.groups ?? [g.batch]);
  const pixels = items * sizeOf(g.input);
  const images = (groups: readonly number[]): number[] => groups.map((n) => n / items);
  return {
    g: { ...g, batch: g.batch / items, input: [1, 1, pixels], output: [1, 1, pixels] },
    along: (of) => of && { ...of.activation, ...(of.activation.groups && { groups: images(of.activation.groups) }) },
  };
}

/** The input gradient of stride 1 as a convolution: dy takes the place of x, and the weights are read backwards. */
function turned({ inputs, outputs, kernel, padding, ...sizes }: ConvGeometry): ConvGeometry {
  const last = (axis: 0 | 1 | 2): number => kernel[axis] - 1 - padding[axis];
  return { ...sizes, inputs: outputs, outputs: inputs, kernel, padding: [last(0), last(1), last(2)] };
}

function inputGradient(
  x: Tensor,
  weight: Tensor,
  dy: Tensor,
  geometry: ConvGeometry,
  flow: GradientFlow,
): Tensor | ActivatedGradient {
  const types = typesOf('conv', x, weight);
  const { gpu } = x;
  const dx = empty(gpu, x.shape, types.dtype, 'dConv');
  if (geometry.stride === 2) {
    const source = convStridedGradientShader(types.dtype, geometry, types.parameters);
    run(source, { dy, weight, dx }, { threads: convStridedGradientThreads(geometry) });
    return dx;
  }
  // Where this is the last gradient that x gets and x is an activation, the kernel takes the derivative and its norm's sums, too.
  const activation = flow.activated(0) ? activationOf(x) : undefined;
  const { g, along } = flattened(turned(geometry), activation);
  // On a CPU, drawing dropout for every pixel of a tile takes longer to compile than it saves.
  const of = activation?.activation.dropout && gpu.adapter.software ? undefined : activation;
  const base = of && flow.take(0);
  const wish = { bias: false, gradient: along(of), base: base !== undefined };
  const kernel = convKernel(gpu, types, g, true, wish);
  const sums = of && partialSums(gpu, kernel.parts, g);
  const { source, grid } = kernel.launch({ bias: false, fusion: granted(wish, kernel) });
  run(
    source,
    {
      x: dy,
      weight,
      y: dx,
      ...(of && sums && { z: of.z, zCoefficients: of.coefficients, partials: sums.partials, ...of.draws }),
      ...(base && { base }),
    },
    grid,
  );
  return sums ? new ActivatedGradient(dx, sums) : dx;
}

function weightGradient(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  dy: Tensor,
  g: ConvGeometry,
): [Tensor, Tensor | undefined] {
  const { gpu } = x;
  const types = typesOf('conv', x, weight);
  const { parameters } = types;
  const waiting = deferredActivation(x, true);
  const wish = { bias: bias !== undefined, onLoad: waiting?.activation };
  const kernel = weightGradientKernel(gpu, types, g, wish);
  const { slices } = kernel;
  const like = (parameter: Tensor, label: string): Tensor =>
    parameters === 'f32' ? gradientLike(parameter) : empty(gpu, parameter.shape, parameters, label);
  const dWeight = like(weight, 'dWeight');
  const dBias = bias && like(bias, 'dBias');
  const onLoad = loaded(wish, kernel);
  const deferred = onLoad && waiting;
  const { source, grid } = kernel.launch({ bias: wish.bias, onLoad });
  const from = { x: deferred?.z ?? x, dy, ...(deferred && { coefficients: deferred.coefficients, ...deferred.draws }) };
  if (onePass(kernel, types)) {
    run(source, { ...from, dWeight, ...(dBias && { dBias }) }, grid);
    return [dWeight, dBias];
  }
  const partialWeight = empty(gpu, [slices, ...weight.shape], 'f32', 'partialWeight');
  const partialBias = bias && empty(gpu, [slices, ...bias.shape], 'f32', 'partialBias');
  run(source, { ...from, dWeight: partialWeight, ...(partialBias && { dBias: partialBias }) }, grid);
  const summing = { dtype: parameters, bias: bias !== undefined, slices, software: gpu.adapter.software };
  run(
    sumSlicesShader(summing),
    { partialWeight, dWeight, ...(partialBias && dBias && { partialBias, dBias }) },
    sumSlicesGrid(summing, weight.size + (bias?.size ?? 0)),
  );
  return [dWeight, dBias];
}
