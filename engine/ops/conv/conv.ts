// Records convolutions by the tuned families of kernels, 1-D to 3-D, channels last. forward.ts decides which kernel runs.
import type { Activation } from '../../../shaders/conv/fusion.js';
import type { ConvGeometry } from '../../../shaders/conv/geometry.js';
import { convStridedGradientShader, convStridedGradientThreads } from '../../../shaders/conv/strided-gradient.js';
import { commonDivisor } from '../../../shaders/norm-sizes.js';
import { ActivatedGradient, type GradientFlow, record } from '../../autograd.js';
import { sizeOf } from '../../shape.js';
import { run } from '../../stream.js';
import { empty, type Tensor } from '../../tensor.js';
import { type ActivationOf, activationOf, deferredActivation, setStatistics } from '../fusion.js';
import { blockConv, blocksOf, partialSums, taken } from './blocks.js';
import { typesOf } from './family.js';
import { convKernel, weightGradientKernel } from './forward.js';
import { parameterGradients } from './parameter-gradients.js';
import type { ConvSizes } from './sizes.js';
import { granted, loaded } from './wish.js';

/** A convolution by the tuned families of kernels, or by those of blocks; undefined where they do not compute it. */
export function tunedConv(
  [x, weight, bias]: readonly [x: Tensor, weight: Tensor, bias: Tensor | undefined],
  sizes: ConvSizes,
  statistics = false,
): Tensor | undefined {
  const blocks = blocksOf(sizes);
  if (blocks) return blockConv('conv', sizes.shape, [x, weight, bias], blocks, statistics);
  const geometry = plainGeometry(sizes);
  if (!geometry) return undefined;
  const types = typesOf('conv', x, weight, bias);
  const { gpu } = x;

  const y = empty(gpu, sizes.shape, types.dtype, 'conv');
  const waiting = deferredActivation(x, true);
  const { g, along } = flattened(geometry, waiting);
  const wish = { bias: bias !== undefined, onLoad: along(waiting), statistics: statistics && gpu.flags.fuse };
  const kernel = convKernel(gpu, types, g, false, wish);
  const fusion = granted(wish, kernel);
  const deferred = fusion.onLoad && waiting;
  const sums = fusion.statistics ? partialSums(y, kernel.parts) : undefined;
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

/** The geometry of a convolution that the tuned families compute: one group, no dilation, stride 1 or 2, some image under every tap. */
function plainGeometry({ g, after, rank }: ConvSizes): ConvGeometry | undefined {
  const { batch, coarse, fine, fineChannels, coarseChannels, kernel, padding } = g;
  const [, , stride] = g.stride;
  const isPlain = (side: number): boolean =>
    g.stride[side] === stride &&
    g.dilation[side] === 1 &&
    padding[side]! < kernel[side]! &&
    after[side]! < kernel[side]!;
  if (g.groups > 1 || (stride !== 1 && stride !== 2) || ![0, 1, 2].slice(3 - rank).every(isPlain)) return undefined;
  const channels = { inputs: fineChannels, outputs: coarseChannels };
  return { batch, input: fine, output: coarse, ...channels, kernel, padding, stride };
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
function turned({ input, output, inputs, outputs, kernel, padding, ...others }: ConvGeometry): ConvGeometry {
  const last = (axis: 0 | 1 | 2): number => kernel[axis] - 1 - padding[axis];
  const sizes = { input: output, output: input, inputs: outputs, outputs: inputs };
  return { ...others, ...sizes, kernel, padding: [last(0), last(1), last(2)] };
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
  const sums = of && partialSums(dx, kernel.parts);
  const { source, grid } = kernel.launch({ bias: false, fusion: granted(wish, kernel) });
  run(
    source,
    {
      x: dy,
      weight,
      y: dx,
      ...taken(of, sums, base),
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
  const types = typesOf('conv', x, weight);
  const waiting = deferredActivation(x, true);
  const wish = { bias: bias !== undefined, onLoad: waiting?.activation };
  const kernel = weightGradientKernel(x.gpu, types, g, wish);
  const onLoad = loaded(wish, kernel);
  const deferred = onLoad && waiting;
  const { source, grid } = kernel.launch({ bias: wish.bias, onLoad });
  const from = { x: deferred?.z ?? x, dy, ...(deferred && { coefficients: deferred.coefficients, ...deferred.draws }) };
  return parameterGradients(weight, bias, types.parameters, kernel, (sums) => run(source, { ...from, ...sums }, grid));
}
