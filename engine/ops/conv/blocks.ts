// Convolution with kernel 2 and stride 2 (of even sides) and its transpose, by the kernels of shaders/conv/blocks.ts: each op's forward
// pass is the other's input gradient. They fuse what every convolution fuses.
import {
  type BlockGeometry,
  type BlockKernel,
  blockBiasChunks,
  blockParts,
  blockShader,
  blockThreads,
  blockWeightChunks,
  blockWeightShader,
  blockWeightThreads,
} from '../../../shaders/conv/blocks.js';
import type { Parts } from '../../../shaders/conv/geometry.js';
import { ActivatedGradient, type GradientFlow, type PartialSums, record } from '../../autograd.js';
import { run } from '../../stream.js';
import { empty, type Tensor } from '../../tensor.js';
import { type ActivationOf, activationOf, deferredActivation, setStatistics } from '../fusion.js';
import { typesOf } from './family.js';
import { parameterGradients } from './parameter-gradients.js';
import type { ConvSizes } from './sizes.js';

/** The blocks of a convolution or its transpose that has kernel 2, stride 2 and nothing else, and even sides of the fine image. */
export function blocksOf({ g, rank }: ConvSizes): BlockGeometry | undefined {
  const { batch, coarse, coarseChannels, fine, fineChannels, groups, makes } = g;
  const isOfTwo = (side: number): boolean =>
    g.kernel[side] === 2 &&
    g.stride[side] === 2 &&
    g.dilation[side] === 1 &&
    g.padding[side] === 0 &&
    fine[side] === 2 * coarse[side]!;
  if (rank === 1 || groups > 1 || ![0, 1, 2].slice(3 - rank).every(isOfTwo)) return undefined;
  return { batch, size: coarse, planes: rank === 3 ? 2 : 1, coarse: coarseChannels, fine: fineChannels, makes };
}

/** The op `name` of x, weight and perhaps bias, whose shapes fit the geometry; y has this shape. */
export function blockConv(
  name: string,
  shape: readonly number[],
  [x, weight, bias]: readonly [x: Tensor, weight: Tensor, bias: Tensor | undefined],
  g: BlockGeometry,
  statistics: boolean,
): Tensor {
  const { gpu } = x;
  const types = typesOf(name, x, weight, bias);
  const kernel = g.makes === 'coarse' ? 'gather' : 'scatter';
  const y = empty(gpu, shape, types.dtype, name);
  const deferred = appliesOnLoad(kernel, g) ? deferredActivation(x) : undefined;
  const sums = statistics && gpu.flags.fuse ? partialSums(y, blockParts(kernel, g)) : undefined;
  const fusion = { onLoad: deferred?.activation, statistics: sums !== undefined };
  run(
    blockShader(kernel, g, { ...types, bias: bias !== undefined, fusion }),
    {
      x: deferred?.z ?? x,
      weight,
      y,
      ...(bias && { bias }),
      ...(deferred && { coefficients: deferred.coefficients }),
      ...(sums && { partials: sums.partials }),
    },
    { threads: blockThreads(kernel, g) },
  );
  if (sums) setStatistics(y, sums);

  return record(name, y, bias ? [x, weight, bias] : [x, weight], (dy, [needsX, needsWeight, needsBias], flow) => [
    needsX ? inputGradient(x, weight, dy, g, flow) : undefined,
    ...(needsWeight || needsBias ? weightGradient(x, weight, needsBias ? bias : undefined, dy, g) : []),
  ]);
}

/** As the direct kernels: each element is loaded again for every four output channels, and by scatter for each row of taps. */
const appliesOnLoad = (kernel: BlockKernel, g: BlockGeometry): boolean =>
  (kernel === 'gather' ? g.coarse : g.fine * 2 * g.planes) <= 96;

/** Partial sums of y, of so many parts. */
export const partialSums = (y: Tensor, parts: Parts): PartialSums => ({
  parts,
  partials: empty(y.gpu, [parts.count, 2, y.shape.at(-1)!], 'f32', `${y.label}.partials`),
});

/** What an input gradient binds to take the derivative of the activation `of` as well. */
export const taken = (
  of: ActivationOf | undefined,
  sums: PartialSums | undefined,
  base: Tensor | undefined,
): Record<string, Tensor> => ({
  ...(of && sums && { z: of.z, zCoefficients: of.coefficients, partials: sums.partials, ...of.draws }),
  ...(base && { base }),
});

function inputGradient(
  x: Tensor,
  weight: Tensor,
  dy: Tensor,
  g: BlockGeometry,
  flow: GradientFlow,
): Tensor | ActivatedGradient {
  const { gpu } = x;
  const types = typesOf('conv', x, weight);
  const kernel = g.makes === 'coarse' ? 'scatter' : 'gather';
  const dx = empty(gpu, x.shape, types.dtype, 'dConv');
  const given = flow.activated(0) ? activationOf(x) : undefined;
  // On a CPU, drawing dropout for every pixel takes longer to compile than it saves.
  const of = given?.activation.dropout && gpu.adapter.software ? undefined : given;
  const sums = of && partialSums(dx, blockParts(kernel, g));
  const base = of && flow.take(0);
  const fusion = { gradient: of?.activation, base: base !== undefined };
  run(
    blockShader(kernel, g, { ...types, bias: false, fusion }),
    {
      x: dy,
      weight,
      y: dx,
      ...taken(of, sums, base),
    },
    { threads: blockThreads(kernel, g) },
  );
  return sums ? new ActivatedGradient(dx, sums) : dx;
}

function weightGradient(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  dy: Tensor,
  g: BlockGeometry,
): [Tensor, Tensor | undefined] {
  const { dtype, parameters } = typesOf('conv', x, weight);
  const deferred = deferredActivation(x);
  const source = blockWeightShader(g, { dtype, bias: bias !== undefined, onLoad: deferred?.activation });
  const slices = { slices: blockWeightChunks(g), biasSlices: blockBiasChunks(g) };
  return parameterGradients(weight, bias, parameters, slices, (sums) =>
    run(
      source,
      { x: deferred?.z ?? x, dy, ...sums, ...(deferred && { coefficients: deferred.coefficients }) },
      { threads: blockWeightThreads(g) },
    ),
  );
}
