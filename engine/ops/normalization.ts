// What batch and instance normalisation share: they differ in which rows form a group.
import { chunksOf, type NormSizes, quadsOf } from '../../shaders/norm-sizes.js';
import {
  normBackward,
  normBackwardSums,
  normBackwardTotals,
  normForward,
  normMoments,
  normStatistics,
} from '../../shaders/normalization.js';
import { record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';

/** Running statistics [C], f32, updated in place in training. */
export interface RunningStatistics {
  mean: Tensor;
  variance: Tensor;
}

/**
 * Sizes of x [..., C] in `groups`; throws a ShapeError unless γ, β and the running statistics are f32 [C], and unless there is more
 * than one value a channel where `batch` statistics are taken: of one, the variance is 0 and the output β, whatever x is.
 */
export function sizesOf(
  op: string,
  x: Tensor,
  of: { gamma: Tensor; beta: Tensor; running?: RunningStatistics | undefined },
  groups: number,
  batch: boolean,
): NormSizes {
  const dtype = floatType(op, x);
  const channels = x.shape.at(-1) ?? 0;
  const { gamma, beta, running } = of;
  const each = { gamma, beta, ...(running && { 'running.mean': running.mean, 'running.variance': running.variance }) };
  expectTensors(op, x, ...Object.values(each));
  for (const [name, t] of Object.entries(each)) {
    if (x.shape.length < 2 || t.size !== channels || t.dtype !== 'f32') {
      throw new ShapeError(
        `${op}: x ${show(x.shape)} and ${name} ${t.dtype} ${show(t.shape)} do not match — expected x [..., C] and ${name} f32 [C].`,
      );
    }
  }
  const rows = x.size / channels / groups;
  if (batch && rows === 1) {
    throw new ShapeError(
      `${op}: one value a channel has no variance — got x ${show(x.shape)}, expected more than one in training. Use a larger batch or image, or running statistics.`,
    );
  }
  return { dtype, groups, rows, channels };
}

export function normalize(
  op: string,
  x: Tensor,
  gamma: Tensor,
  beta: Tensor,
  sizes: NormSizes,
  epsilon: number,
  running: (RunningStatistics & { momentum: number }) | undefined,
): Tensor {
  const { groups, channels } = sizes;
  const partials = empty(x.gpu, [groups, chunksOf(sizes), 2, channels], 'f32', `${op}.partials`);
  const moments = empty(x.gpu, [groups, 2, channels], 'f32', `${op}.moments`);
  run(normStatistics(sizes), { x, partials }, { threads: groups * chunksOf(sizes) * quadsOf(sizes) });
  const statistics = running && { running_mean: running.mean, running_variance: running.variance };
  run(
    normMoments(sizes, epsilon, running?.momentum),
    { partials, moments, ...statistics },
    { workgroups: [groups * quadsOf(sizes)] },
  );
  return apply(op, x, gamma, beta, sizes, moments, false);
}

export function apply(
  op: string,
  x: Tensor,
  gamma: Tensor,
  beta: Tensor,
  sizes: NormSizes,
  moments: Tensor,
  constant: boolean,
): Tensor {
  const { gpu } = x;
  const { groups, channels } = sizes;
  const y = empty(gpu, x.shape, x.dtype, op);
  const elements = { threads: groups * sizes.rows * quadsOf(sizes) };
  run(normForward(sizes), { x, moments, gamma, beta, y }, elements);

  return record(op, y, [x, gamma, beta], (dy, [needsX]) => {
    const partials = empty(gpu, [groups, chunksOf(sizes), 2, channels], 'f32', `${op}.partials`);
    const sums = empty(gpu, [groups, 2, channels], 'f32', `${op}.sums`);
    const dgamma = empty(gpu, gamma.shape, 'f32', `d${gamma.label}`);
    const dbeta = empty(gpu, beta.shape, 'f32', `d${beta.label}`);
    run(normBackwardSums(sizes), { x, dy, moments, partials }, { threads: groups * chunksOf(sizes) * quadsOf(sizes) });
    run(normBackwardTotals(sizes), { partials, sums, dgamma, dbeta }, { workgroups: [quadsOf(sizes)] });
    if (!needsX) return [undefined, dgamma, dbeta];
    const dx = empty(gpu, x.shape, x.dtype, `d${op}`);
    const rest: Record<string, Tensor> = constant ? {} : { x, sums };
    run(normBackward(sizes, constant), { dy, moments, gamma, dx, ...rest }, elements);
    return [dx, dgamma, dbeta];
  });
}
