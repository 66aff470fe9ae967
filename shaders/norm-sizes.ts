// The sizes of a normalisation, and the division of its rows. Rows lie in blocks of equal length. One or more consecutive blocks form
// a group, which is normalised by its own statistics. Sums over a block are made in chunks. A single group is one block, however many
// items it has.
import { type Float, u32 } from './wgsl.js';

export interface NormSizes {
  readonly dtype: Float;
  /** The blocks of each group, one group after another. */
  readonly groups: readonly number[];
  /** Rows (pixels) of one block. */
  readonly rows: number;
  readonly channels: number;
}

export const wide = ({ channels }: NormSizes): boolean => channels % 4 === 0;

/** Channel quads (or channels) of a row. */
export const quadsOf = (sizes: NormSizes): number => (wide(sizes) ? sizes.channels / 4 : sizes.channels);

/** Blocks of all groups. */
export const blocksOf = ({ groups }: NormSizes): number => groups.reduce((sum, blocks) => sum + blocks, 0);

/** Partial sums per block: enough threads to fill a GPU, at least 64 rows each, few enough that the second pass is short. */
export const chunksOf = (sizes: NormSizes): number => {
  const forThreads = Math.ceil(32768 / (blocksOf(sizes) * quadsOf(sizes)));
  return Math.min(Math.max(1024, Math.min(8192, forThreads)), Math.ceil(sizes.rows / 64));
};

/** The largest number that divides all of these. */
export const commonDivisor = (numbers: readonly number[]): number => {
  const ofTwo = (a: number, b: number): number => (b === 0 ? a : ofTwo(b, a % b));
  return numbers.reduce(ofTwo);
};

/** The start of each group, given the groups' sizes, and the end of the last one. */
export function startsOf(groups: readonly number[]): number[] {
  const starts = [0];
  for (const n of groups) starts.push(starts.at(-1)! + n);
  return starts;
}

/** Expression, u32: the group of the integer `at`, where group i takes `groups[i]` · `each` consecutive integers. */
export const groupAt = (at: string, groups: readonly number[], each = 1): string =>
  `(${
    startsOf(groups)
      .slice(1, -1)
      .map((start) => `u32(${at} >= ${start * each})`)
      .join(' + ') || '0u'
  })`;

/** Expression: that of `values` for the group `group`, a u32. */
export const ofGroup = (group: string, values: readonly string[]): string =>
  values.reduce((others, value, g) =>
    value === values[g - 1] ? others : `select(${others}, ${value}, ${group} >= ${u32(g)})`,
  );
