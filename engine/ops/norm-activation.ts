// Batch norm, LeakyReLU and dropout as one op whose output nobody writes if its consumers can compute it on load. The kernels
// are in shaders/norm-activation.ts; with fusing off it is the composition of the three ops.
import type { Activation } from '../../shaders/conv/fusion.js';
import {
  chunkParts,
  normActivationBackward,
  normActivationForward,
  normActivationSums,
  normActivationTotals,
  normCoefficients,
  normRunningCoefficients,
} from '../../shaders/norm-activation.js';
import { chunksOf, quadsOf } from '../../shaders/norm-sizes.js';
import { normStatistics } from '../../shaders/normalization.js';
import { checkOptions } from '../arguments.js';
import { ActivatedGradient, gradientLike, type PartialSums, recordActivation } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { type BatchNormOptions, batchNorm } from './batch-norm.js';
import { dropout } from './dropout.js';
import { deferWrite, setActivation, statisticsOf } from './fusion.js';
import { leakyRelu } from './leaky-relu.js';
import { sizesOf } from './normalization.js';
import { expectRandom, type Random } from './random.js';

/** What follows the norm: LeakyReLU, then dropout. */
export interface NormActivationOptions extends BatchNormOptions {
  /** Of LeakyReLU, in [0, 1]. */
  slope: number;
  /** Rate in [0, 1) and where it draws from; needed only when the rate is above 0. */
  dropout?: { rate: number; random: Random };
}

/**
 * dropout(leakyRelu(batchNorm(z, γ, β))) of z [..., C]; γ, β [C]. Takes one stream of `random` when it is recorded and the
 * rate is above 0. Its gradient does not reach `running`.
 */
export function normActivation(z: Tensor, gamma: Tensor, beta: Tensor, options: NormActivationOptions): Tensor {
  const { running, training, momentum = 0.1, epsilon = 1e-5, slope } = options;
  const rate = options.dropout?.rate ?? 0;
  checkOptions('normActivation', options, ['running', 'training', 'momentum', 'epsilon', 'slope', 'dropout']);
  if (rate > 0) expectRandom('normActivation', options.dropout?.random);
  if (!(slope >= 0 && slope <= 1)) throw new ShapeError(`normActivation: slope must be in [0, 1] — got ${slope}.`);
  if (!(rate >= 0 && rate < 1)) throw new ShapeError(`normActivation: dropout must be in [0, 1) — got ${rate}.`);
  if (!z.gpu.flags.fuse) {
    const plain = { ...(running && { running }), training, momentum, epsilon };
    const y = leakyRelu(batchNorm(z, gamma, beta, plain), slope);
    return rate > 0 ? dropout(y, rate, options.dropout!.random) : y;
  }
  const { gpu } = z;
  const sizes = sizesOf('normActivation', z, { gamma, beta, running }, 1, training);
  const { channels } = sizes;
  const activation: Activation = { slope, dropout: rate };
  const draws: Record<string, Tensor> = {};
  if (rate > 0) {
    const { random } = options.dropout!;
    draws.random = random.state;
    draws.stream = tensor(gpu, [random.next()], [1], { dtype: 'u32', label: 'stream' });
  }
  const quads = quadsOf(sizes);
  const width = channels % 4 === 0 ? 4 : 1;
  const elements = { threads: sizes.rows * quads };
  const chunked = (): PartialSums => ({
    partials: empty(gpu, [chunksOf(sizes), 2, channels], 'f32', 'normActivation.partials'),
    parts: chunkParts(sizes),
  });

  const coefficients = empty(gpu, [4, channels], 'f32', 'normActivation.coefficients');
  if (training) {
    let sums = statisticsOf(z);
    if (!sums) {
      sums = chunked();
      run(normStatistics(sizes), { x: z, partials: sums.partials }, { threads: chunksOf(sizes) * quads });
    }
    const statistics = running && { running_mean: running.mean, running_variance: running.variance };
    run(
      normCoefficients(width, sums.parts, epsilon, running && momentum),
      { partials: sums.partials, gamma, beta, coefficients, ...statistics },
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
  setActivation(a, { z, coefficients, activation, draws });
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
      run(normActivationSums(sizes, activation), args, { threads: chunksOf(sizes) * quads });
    }
    const totals = empty(gpu, [2, channels], 'f32', 'normActivation.totals');
    const [dgamma, dbeta] = [gradientLike(gamma), gradientLike(beta)];
    run(
      normActivationTotals(width, sums.parts.count),
      { partials: sums.partials, coefficients, totals, dgamma, dbeta },
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
