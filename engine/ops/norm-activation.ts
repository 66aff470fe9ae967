// Batch norm, LeakyReLU and dropout as one op with a deferred output: it is never written if all consumers compute it on load. The
// kernels are in shaders/norm-activation.ts and norm-parts.ts. With fusion off it is the composition of the three ops.
import type { Activation } from '../../shaders/conv/fusion.js';
import { partStarts } from '../../shaders/conv/geometry.js';
import { dropoutMaskShader } from '../../shaders/dropout.js';
import {
  chunkParts,
  normActivationBackward,
  normActivationForward,
  normActivationSums,
} from '../../shaders/norm-activation.js';
import {
  type Adding,
  mostGroups,
  mostParts,
  normActivationTotals,
  normCoefficients,
  normRunningCoefficients,
  normSlicedMoments,
  normSlicedSums,
  slicedRows,
  slices,
} from '../../shaders/norm-parts.js';
import { blocksOf, chunksOf, quadsOf } from '../../shaders/norm-sizes.js';
import { normStatistics } from '../../shaders/normalization.js';
import { checkOptions } from '../arguments.js';
import { ActivatedGradient, gradientLike, type PartialSums, recordActivation } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { defer, run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { addActivations } from './add-activations.js';
import { type BatchNormOptions, batchNorm } from './batch-norm.js';
import { dropout } from './dropout.js';
import { deferWrite, setActivation, statisticsOf } from './fusion.js';
import { leakyRelu } from './leaky-relu.js';
import { groupsOf, isTraining, sizesOf } from './normalization.js';
import { expectRandom, type Random } from './random.js';

/** Options of `normActivation`: those of the norm, of LeakyReLU and of dropout. */
export interface NormActivationOptions extends BatchNormOptions {
  /** Slope of LeakyReLU, in [0, 1]. */
  slope: number;
  /** Rate in [0, 1) and where it draws from; needed only when the rate is above 0. */
  dropout?: { rate: number; random: Random };
}

/** What kernels bind for dropout: the mask, which the launch before its first reader draws, or what they draw from. */
function drawsOf(z: Tensor, rate: number, random: Random, masked: boolean): Record<string, Tensor> {
  const { gpu } = z;
  const stream = tensor(gpu, [random.next()], [1], { dtype: 'u32', label: 'stream' });
  const from = { random: random.state, stream };
  if (!masked) return from;
  const mask = empty(gpu, [Math.ceil(z.size / 32)], 'u32', 'normActivation.mask');
  const reads = Object.values(from).map(({ storage }) => storage);
  defer(gpu, mask.storage, reads, () =>
    run(dropoutMaskShader, { ...from, mask, numbers: [rate] }, { threads: mask.size }),
  );
  return { mask };
}

/**
 * dropout(leakyRelu(batchNorm(z, γ, β))) of z [..., C]; γ, β [C]. Takes one stream of `random` when it is recorded and the
 * rate is above 0. Its gradient does not reach `running`.
 * @example
 * const [gamma, beta] = [tensor(gpu, [1, 1]), tensor(gpu, [0, 0])];
 * console.log(await normActivation(tensor(gpu, [[1, 10], [3, 30]]), gamma, beta, { mode: 'train', slope: 0.1 }).read()); // [-0.1, -0.1, 1, 1]
 */
export function normActivation(z: Tensor, gamma: Tensor, beta: Tensor, options: NormActivationOptions): Tensor {
  if (!options)
    throw new ShapeError(
      "normActivation: there are no options — expected { mode: 'train' } or { mode: 'eval' } at least.",
    );
  const { running, mode, momentum = 0.1, epsilon = 1e-5, slope } = options;
  const rate = options.dropout?.rate ?? 0;
  const known = ['running', 'mode', 'momentum', 'epsilon', 'groups', 'track', 'slope', 'dropout'];
  checkOptions('normActivation', options, known);
  const training = isTraining('normActivation', mode);
  if (rate > 0) expectRandom('normActivation', options.dropout?.random);
  if (!(slope >= 0 && slope <= 1)) throw new ShapeError(`normActivation: slope must be in [0, 1] — got ${slope}.`);
  if (!(rate >= 0 && rate < 1)) throw new ShapeError(`normActivation: dropout must be in [0, 1) — got ${rate}.`);
  const { groups, track } = groupsOf('normActivation', z, options);
  if (!z.gpu.flags.fuse || groups.length > mostGroups) {
    const plain = { ...(running && { running }), mode, momentum, epsilon, groups, track };
    const y = leakyRelu(batchNorm(z, gamma, beta, plain), slope);
    return rate > 0 ? dropout(y, rate, options.dropout!.random) : y;
  }
  const { gpu } = z;
  const apart = training ? groups : [z.shape[0]!];
  const sizes = sizesOf('normActivation', z, { gamma, beta, running }, apart, training);
  const { channels } = sizes;
  // Kernels of a GPU read dropout from a mask: several need it, and drawing is most of what they would do. On a CPU they draw it again.
  const masked = rate > 0 && !gpu.adapter.software;
  const activation: Activation = {
    ...{ slope, dropout: rate },
    ...(masked && { masked }),
    ...(apart.length > 1 && { groups: apart }),
  };
  const draws = rate > 0 ? drawsOf(z, rate, options.dropout!.random, masked) : {};
  const quads = quadsOf(sizes);
  const width = channels % 4 === 0 ? 4 : 1;
  const elements = { threads: blocksOf(sizes) * sizes.rows * quads };
  const chunks = blocksOf(sizes) * chunksOf(sizes);
  const chunked = (): PartialSums => ({
    partials: empty(gpu, [chunks, 2, channels], 'f32', 'normActivation.partials'),
    parts: chunkParts(sizes),
  });
  /** How partial sums are added up by group; undefined where a part spans two groups. */
  const addingOf = ({ parts }: PartialSums): { adding: Adding; bound: Record<string, number[]> } | undefined => {
    const starts = partStarts(
      parts,
      sizes.groups.map((blocks) => blocks * sizes.rows),
    );
    if (!starts) return undefined;
    const most = Math.max(...apart.map((_, g) => starts[g + 1]! - starts[g]!));
    return {
      adding: { width, groups: apart.length, parts: most, software: gpu.adapter.software },
      bound: apart.length > 1 ? { starts } : {},
    };
  };

  /** The same of so few parts that one launch adds them up: where there are more, `slice` is the launch that combines them. */
  const fewer = (sums: PartialSums, slice: (of: Adding) => string, counted?: Tensor) => {
    const { adding, bound } = addingOf(sums)!; // an op that gave sums knows the activation, so its parts respect the groups
    const { partials, parts } = sums;
    if (parts.count <= mostParts) return { adding, bound, partials, isSliced: false };
    const rows = apart.length * slices;
    const sliced = empty(
      gpu,
      [slicedRows(apart.length, counted !== undefined), channels],
      'f32',
      'normActivation.sliced',
    );
    run(slice(adding), { partials, sliced, ...(counted && { counts: counted }), ...bound }, { threads: rows * quads });
    const starts = apart.map((_, g) => g * slices);
    const of: typeof bound = apart.length > 1 ? { starts: [...starts, rows] } : {};
    return { adding: { ...adding, parts: slices }, bound: of, partials: sliced, isSliced: true };
  };

  const coefficients = empty(gpu, [apart.length, 4, channels], 'f32', 'normActivation.coefficients');
  if (training) {
    const known = statisticsOf(z);
    const sums = known && addingOf(known) ? known : chunked();
    if (sums !== known) run(normStatistics(sizes), { x: z, partials: sums.partials }, { threads: chunks * quads });
    const follows = track.length ? running : undefined;
    const statistics = follows && { running_mean: follows.mean, running_variance: follows.variance };
    const counted = empty(gpu, [apart.length * slices], 'f32', 'normActivation.counts');
    const slice = (of: Adding): string => normSlicedMoments(of, sums.parts.pixelsOf);
    const { adding, bound, isSliced, partials } = fewer(sums, slice, counted);
    run(
      normCoefficients(adding, isSliced ? undefined : sums.parts.pixelsOf, epsilon, follows && momentum, track),
      { partials, gamma, beta, coefficients, ...statistics, ...bound, ...(isSliced && { counted }) },
      { workgroups: [quads] },
    );
  } else {
    if (!running) throw new ShapeError('normActivation: eval mode needs running statistics. Pass `running`.');
    const statistics = { running_mean: running.mean, running_variance: running.variance };
    run(
      normRunningCoefficients(channels, epsilon),
      { ...statistics, gamma, beta, coefficients },
      { threads: channels },
    );
  }

  const a = empty(gpu, z.shape, z.dtype, 'normActivation');
  setActivation(a, { z, coefficients, activation, draws, add: addActivations });
  deferWrite(a, [z, coefficients, ...Object.values(draws)], (slot) =>
    run(normActivationForward(sizes, activation, slot), { z, coefficients, a: slot.source, ...draws }, elements),
  );

  return recordActivation('normActivation', a, [z, gamma, beta], (gradient, [needsZ]) => {
    const taken = gradient instanceof ActivatedGradient;
    const dy = taken ? gradient.g : gradient;
    let sums = taken ? gradient.sums : undefined;
    const from = taken ? 'g' : 'da';
    if (!sums) {
      sums = chunked();
      const args = { z, coefficients, da: dy, partials: sums.partials, ...draws };
      run(normActivationSums(sizes, activation), args, { threads: chunks * quads });
    }
    const { adding, bound, partials } = fewer(sums, normSlicedSums);
    const totals = empty(gpu, [apart.length, 2, channels], 'f32', 'normActivation.totals');
    const [dgamma, dbeta] = [gradientLike(gamma), gradientLike(beta)];
    run(
      normActivationTotals(adding),
      { partials, coefficients, totals, dgamma, dbeta, ...bound },
      { workgroups: [quads] },
    );
    if (!needsZ) return [undefined, dgamma, dbeta];
    const dz = empty(gpu, z.shape, z.dtype, 'dNormActivation');
    const args: Record<string, Tensor> = { dy, coefficients, dz };
    if (from === 'da' || training) args.z = z;
    if (training) args.totals = totals;
    if (from === 'da') Object.assign(args, draws);
    run(normActivationBackward(sizes, activation, { from, constant: !training }), args, elements);
    return [dz, dgamma, dbeta];
  });
}
