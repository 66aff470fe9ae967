// The sizes of an image op: what [N, H, W, C] and [N, D, H, W, C] have in common.
import type { Triple } from '../../shaders/image-sizes.js';
import { ShapeError, show } from '../shape.js';
import type { Tensor } from '../tensor.js';

/** An image's sizes as [depth, height, width], depth 1 in 2-D. */
export interface Image {
  readonly batch: number;
  readonly size: Triple;
  readonly channels: number;
  readonly rank: 2 | 3;
}

/** Takes an image's shape apart; throws a ShapeError unless x is [N, H, W, C] or [N, D, H, W, C]. */
export function imageSizes(op: string, { shape }: Tensor): Image {
  const [batch = 0, ...rest] = shape;
  const channels = rest.pop() ?? 0;
  if (rest.length !== 2 && rest.length !== 3) {
    throw new ShapeError(`${op}: got ${show(shape)}, expected [N,H,W,C] or [N,D,H,W,C]. Reshape it first.`);
  }
  return { batch, channels, rank: rest.length, size: (rest.length === 2 ? [1, ...rest] : rest) as unknown as Triple };
}

/** The sizes of a triple in an image of this rank: without the depth in 2-D, the last in 1-D. */
export const ofRank = (rank: number, triple: Triple): number[] => triple.slice(3 - rank);

/** The same number along each axis of an image of this rank; in 2-D the depth is 1. */
export const alongAxes = (rank: 2 | 3, n: number): Triple => [rank === 3 ? n : 1, n, n];

/** Sizes of a pooling by windows of two along each axis; throws a ShapeError for an image with a side below 2. */
export function pooledSizes(op: string, x: Tensor): Image & { readonly window: Triple; readonly output: Triple } {
  const image = imageSizes(op, x);
  const window = alongAxes(image.rank, 2);
  const output = image.size.map((n, axis) => Math.floor(n / window[axis]!)) as unknown as Triple;
  if (output.includes(0)) {
    throw new ShapeError(`${op}: got ${show(x.shape)}, expected sides of at least 2. Pool a larger image.`);
  }
  return { ...image, window, output };
}
