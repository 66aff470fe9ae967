// Images of one to three axes, and options that are one number for all axes or one for each.
import type { Triple } from '../../shaders/image-sizes.js';
import { showValue } from '../arguments.js';
import { ShapeError, show } from '../shape.js';
import type { Tensor } from '../tensor.js';

/** An image's sizes as [depth, height, width]; the axes that it lacks are 1. */
export interface SpatialSizes {
  readonly batch: number;
  readonly size: Triple;
  readonly channels: number;
  /** Axes between batch and channels. */
  readonly rank: number;
}

/** Takes the shape of x apart; throws a ShapeError unless it is [N, L, C], [N, H, W, C] or [N, D, H, W, C]. */
export function spatialSizes(op: string, { shape }: Tensor): SpatialSizes {
  const rank = shape.length - 2;
  if (rank < 1 || rank > 3) {
    throw new ShapeError(`${op}: got ${show(shape)}, expected [N,L,C], [N,H,W,C] or [N,D,H,W,C]. Reshape it first.`);
  }
  return { batch: shape[0]!, channels: shape.at(-1)!, rank, size: triple(shape.slice(1, -1)) };
}

/** Values of the last axes as a triple, with `filler` (default 1) for those that an image lacks. */
export const triple = (values: readonly number[], filler = 1): Triple =>
  [...Array<number>(3 - values.length).fill(filler), ...values] as unknown as Triple;

/** An option that is one value for all axes or a list of one for each, as a list; throws a ShapeError unless `fits` takes each. */
export function forEachAxis<T>(
  op: string,
  name: string,
  value: T | readonly T[],
  rank: number,
  { fits, expected }: { fits: (item: unknown) => boolean; expected: string },
): T[] {
  const list = Array.isArray(value) ? (value as T[]) : Array<T>(rank).fill(value as T);
  if (list.length !== rank || !list.every(fits)) {
    const each = rank === 1 ? 'in a list of one' : `or a list of ${rank}, one for each axis`;
    throw new ShapeError(`${op}: got ${name} ${showValue(value)}, expected ${expected}, ${each}.`);
  }
  return list;
}

/** A positive whole number. */
export const positive = {
  fits: (n: unknown): boolean => Number.isSafeInteger(n) && (n as number) > 0,
  expected: 'a positive whole number',
};
