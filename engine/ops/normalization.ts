// Shared by batch and instance normalisation, which differ only in the rows that form a group.
import { blocksOf, chunksOf, commonDivisor, type NormSizes, quadsOf } from '../../shaders/norm-sizes.js';
import {
  momentsWorkgroups,
  normBackward,
  normBackwardSums,
  normBackwardTotals,
  normForward,
  normMoments,
  normStatistics,
} from '../../shaders/normalization.js';
import { showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';

/** 'train': by the statistics of the batch, and dropout is on. 'eval': by running statistics, and it is off. */
export type Mode = 'train' | 'eval';

/** Whether a norm is in train mode; throws a ShapeError for another word. */
export function isTraining(op: string, mode: Mode): boolean {
  if (mode === 'train' || mode === 'eval') return mode === 'train';
  throw new ShapeError(`${op}: mode is ${showValue(mode)} — expected 'train' or 'eval'.`);
}

/** Running statistics [C], f32, updated in place in training. */
export interface RunningStatistics {
  mean: Tensor;
  variance: Tensor;
}

/** Running statistics and how they follow: they move towards the groups `track`, in order, each time by `momentum`. */
export interface Following extends RunningStatistics {
  readonly momentum: number;
  readonly track: readonly number[];
}

/** The options of a batch norm about groups. */
interface Grouping {
  readonly groups?: readonly number[] | undefined;
  readonly track?: readonly number[] | undefined;
}

const whole = (n: unknown, from: number, below: number): boolean =>
  Number.isInteger(n) && (n as number) >= from && (n as number) < below;

/**
 * The number of items in each group of x [N, ..., C] (one group of N if not given), and the groups that running statistics follow
 * (all if not given). Throws a ShapeError unless the groups are whole numbers of at least 1 that add up to N, and `track` are indices
 * of groups.
 */
export function groupsOf(op: string, x: Tensor, grouping: Grouping): { groups: readonly number[]; track: number[] } {
  expectTensors(op, x);
  const items = x.shape[0] ?? 0;
  const { groups = [items], track } = grouping;
  if (!Array.isArray(groups) || !groups.every((n) => whole(n, 1, Number.POSITIVE_INFINITY))) {
    throw new ShapeError(
      `${op}: groups are numbers of items — got ${showValue(groups)}, expected whole numbers of at least 1. Leave empty groups out.`,
    );
  }
  const sum = groups.reduce((total, n) => total + n, 0);
  if (grouping.groups && sum !== items) {
    throw new ShapeError(
      `${op}: the groups do not add up — got ${show(groups)}, ${sum} items, expected the ${items} of x ${show(x.shape)}. Put every item into one group.`,
    );
  }
  const known = groups.map((_, g) => g);
  if (track === undefined) return { groups: [...groups], track: known };
  if (!Array.isArray(track) || !track.every((g, i) => whole(g, 0, groups.length) && track.indexOf(g) === i)) {
    throw new ShapeError(
      `${op}: track names groups — got ${showValue(track)}, expected indices below ${groups.length}, each once. Leave it out for all groups.`,
    );
  }
  return { groups: [...groups], track: known.filter((g) => track.includes(g)) };
}

/**
 * Sizes of x [N, ..., C] in groups of these numbers of items. Throws a ShapeError unless γ, β and the running statistics are f32 [C],
 * and, where `batch` statistics are taken, unless each group has more than one value in a channel: with one value the variance is 0
 * and the output is β, whatever x is.
 */
export function sizesOf(
  op: string,
  x: Tensor,
  of: { gamma: Tensor; beta: Tensor; running?: RunningStatistics | undefined },
  groups: readonly number[],
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
  const together = commonDivisor(groups);
  const blocks = groups.map((n) => n / together);
  const rows = (x.size / channels / x.shape[0]!) * together;
  if (batch && rows === 1 && blocks.includes(1)) {
    const where = groups.length > 1 ? ` in groups of ${show(groups)}` : '';
    throw new ShapeError(
      `${op}: one value a channel has no variance — got x ${show(x.shape)}${where}, expected more than one in training. Use a larger batch or image, or running statistics.`,
    );
  }
  return { dtype, groups: blocks, rows, channels };
}

export function normalize(
  op: string,
  x: Tensor,
  gamma: Tensor,
  beta: Tensor,
  sizes: NormSizes,
  epsilon: number,
  running: Following | undefined,
): Tensor {
  const { groups, channels } = sizes;
  const chunks = blocksOf(sizes) * chunksOf(sizes);
  const partials = empty(x.gpu, [chunks, 2, channels], 'f32', `${op}.partials`);
  const moments = empty(x.gpu, [groups.length, 2, channels], 'f32', `${op}.moments`);
  run(normStatistics(sizes), { x, partials }, { threads: chunks * quadsOf(sizes) });
  const statistics = running && { running_mean: running.mean, running_variance: running.variance };
  run(
    normMoments(sizes, epsilon, running?.momentum, running?.track),
    { partials, moments, ...statistics },
    { workgroups: [momentsWorkgroups(sizes, running?.momentum)] },
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
  const elements = { threads: blocksOf(sizes) * sizes.rows * quadsOf(sizes) };
  const chunks = blocksOf(sizes) * chunksOf(sizes);
  run(normForward(sizes), { x, moments, gamma, beta, y }, elements);

  return record(op, y, [x, gamma, beta], (dy, [needsX]) => {
    const partials = empty(gpu, [chunks, 2, channels], 'f32', `${op}.partials`);
    const sums = empty(gpu, [groups.length, 2, channels], 'f32', `${op}.sums`);
    const dgamma = empty(gpu, gamma.shape, 'f32', `d${gamma.label}`);
    const dbeta = empty(gpu, beta.shape, 'f32', `d${beta.label}`);
    run(normBackwardSums(sizes), { x, dy, moments, partials }, { threads: chunks * quadsOf(sizes) });
    run(normBackwardTotals(sizes), { partials, sums, dgamma, dbeta }, { workgroups: [quadsOf(sizes)] });
    if (!needsX) return [undefined, dgamma, dbeta];
    const dx = empty(gpu, x.shape, x.dtype, `d${op}`);
    const rest: Record<string, Tensor> = constant ? {} : { x, sums };
    run(normBackward(sizes, constant), { dy, moments, gamma, dx, ...rest }, elements);
    return [dx, dgamma, dbeta];
  });
}
