// The sizes of a normalisation, and how its sums are cut into chunks.
import type { Float } from './wgsl.js';

export interface NormSizes {
  readonly dtype: Float;
  readonly groups: number;
  /** Rows (pixels) of one group. */
  readonly rows: number;
  readonly channels: number;
}

export const wide = ({ channels }: NormSizes): boolean => channels % 4 === 0;

/** Channel quads (or channels) of a row. */
export const quadsOf = (sizes: NormSizes): number => (wide(sizes) ? sizes.channels / 4 : sizes.channels);

/** Partial sums per group: enough to fill a GPU, few enough that the second pass is short. */
export const chunksOf = ({ rows }: NormSizes): number => Math.min(1024, Math.ceil(rows / 64));
