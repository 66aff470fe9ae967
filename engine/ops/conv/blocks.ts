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
import { sumSlicesGrid, sumSlicesShader } from '../../../shaders/conv/slice-sums.js';
import { checkOptions } from '../../arguments.js';
import { ActivatedGradient, type GradientFlow, gradientLike, type PartialSums, record } from '../../autograd.js';
import { ShapeError, sameShape, show } from '../../shape.js';
import { run } from '../../stream.js';
import { empty, type Tensor } from '../../tensor.js';
import { activationOf, deferredActivation, setStatistics } from '../fusion.js';
import { imageSizes, ofRank } from '../image-sizes.js';
import { typesOf } from './family.js';

/**
 * Transposed convolution with kernel 2 and stride 2, which doubles the size: x [N, H, W, I], weight [O, 2, 2, I], bias [O] →
 * [N, 2H, 2W, O]; in 3-D x [N, D, H, W, I], weight [O, 2, 2, 2, I]. Weight and bias may be f32 where x is f16; their gradients then
 * are, too. `statistics`: a batch norm follows, whose statistics are summed as the output is written.
 */
export function convTranspose(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: { statistics?: boolean } = {},
): Tensor {
  checkOptions('convTranspose', options, ['statistics'], {
    stride: 'The stride is 2.',
    padding: 'There is no padding.',
  });
  const { batch, size, channels: inputs, rank } = imageSizes('convTranspose', x);
  const outputs = weight.shape[0] ?? 0;
  const expected = [outputs, ...Array<number>(rank).fill(2), inputs];
  if (!sameShape(weight.shape, expected) || (bias && !sameShape(bias.shape, [outputs]))) {
    throw new ShapeError(
      `convTranspose: x ${show(x.shape)}, weight ${show(weight.shape)} and bias ${bias ? show(bias.shape) : 'none'} do not match — expected weight [O,${'2,'.repeat(rank)}${inputs}] and bias [O].`,
    );
  }
  const shape = [batch, ...ofRank(rank, size).map((n) => 2 * n), outputs];
  const channels = { coarse: inputs, fine: outputs, makes: 'fine' } as const;
  const g: BlockGeometry = { batch, size, planes: rank === 2 ? 1 : 2, ...channels };
  return blockConv('convTranspose', shape, [x, weight, bias], g, options.statistics ?? false);
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
  const sums = statistics && gpu.flags.fuse ? partialSums(kernel, g, y) : undefined;
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

function partialSums(kernel: BlockKernel, g: BlockGeometry, of: Tensor): PartialSums {
  const parts = blockParts(kernel, g);
  return { parts, partials: empty(of.gpu, [parts.count, 2, of.shape.at(-1)!], 'f32', `${of.label}.partials`) };
}

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
  const sums = of && partialSums(kernel, g, dx);
  const base = of && flow.take(0);
  const fusion = { gradient: of?.activation, base: base !== undefined };
  run(
    blockShader(kernel, g, { ...types, bias: false, fusion }),
    {
      x: dy,
      weight,
      y: dx,
      ...(of && sums && { z: of.z, zCoefficients: of.coefficients, partials: sums.partials, ...of.draws }),
      ...(base && { base }),
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
  const { gpu } = x;
  const { dtype, parameters } = typesOf('conv', x, weight);
  const like = (parameter: Tensor, label: string): Tensor =>
    parameters === 'f32' ? gradientLike(parameter) : empty(gpu, parameter.shape, parameters, label);
  const dWeight = like(weight, 'dWeight');
  const dBias = bias && like(bias, 'dBias');
  const partialWeight = empty(gpu, [blockWeightChunks(g), ...weight.shape], 'f32', 'partialWeight');
  const partialBias = bias && empty(gpu, [blockBiasChunks(g), ...bias.shape], 'f32', 'partialBias');
  const deferred = deferredActivation(x);
  run(
    blockWeightShader(g, { dtype, bias: bias !== undefined, onLoad: deferred?.activation }),
    {
      x: deferred?.z ?? x,
      dy,
      dWeight: partialWeight,
      ...(partialBias && { dBias: partialBias }),
      ...(deferred && { coefficients: deferred.coefficients }),
    },
    { threads: blockWeightThreads(g) },
  );
  const { software } = gpu.adapter;
  const slices = { slices: blockWeightChunks(g), biasSlices: blockBiasChunks(g) };
  const summing = { dtype: parameters, bias: bias !== undefined, ...slices, software };
  run(
    sumSlicesShader(summing),
    { partialWeight, dWeight, ...(partialBias && dBias && { partialBias, dBias }) },
    sumSlicesGrid(summing, weight.size + (bias?.size ?? 0)),
  );
  return [dWeight, dBias];
}
