// A pair of images that a convolution or its transpose relates (general.ts has the formula), and where its taps lie.
import type { Float } from '../wgsl.js';
import { product, type Triple } from './geometry.js';

/** Sizes of a pair of images; triples are [depth, height, width]. */
export interface PairGeometry {
  readonly batch: number;
  readonly coarse: Triple;
  readonly fine: Triple;
  /** Channels of each image, those of all groups. */
  readonly coarseChannels: number;
  readonly fineChannels: number;
  readonly groups: number;
  readonly kernel: Triple;
  readonly stride: Triple;
  readonly dilation: Triple;
  /** Zeros before the fine image. */
  readonly padding: Triple;
  /** The image that the op makes: the weights have its channels first. */
  readonly makes: 'coarse' | 'fine';
}

/** down writes the coarse image, up the fine one. */
export type Direction = 'down' | 'up';

/** Element types of images and of weight and bias, and whether there is a bias. */
export interface PairOptions {
  readonly dtype: Float;
  readonly parameters: Float;
  readonly bias: boolean;
}

interface Side {
  readonly size: Triple;
  readonly channels: number;
}

/** The images that a direction reads and writes. */
export function sidesOf(g: PairGeometry, direction: Direction): { from: Side; to: Side } {
  const coarse = { size: g.coarse, channels: g.coarseChannels };
  const fine = { size: g.fine, channels: g.fineChannels };
  return direction === 'down' ? { from: fine, to: coarse } : { from: coarse, to: fine };
}

/** Elements of an image. */
export const elementsOf = ({ batch }: PairGeometry, { size, channels }: Side): number =>
  batch * product(size) * channels;

/** Expression: the fine pixel of a tap along an axis; down, from coarse pixel `at`. */
export const fineAt = ({ stride, dilation, padding }: PairGeometry, axis: number, at: string, tap: string): string =>
  `${at} * ${stride[axis]!} + ${tap} * ${dilation[axis]!} - ${padding[axis]!}`;

/** Statements that define `name`, the pixel to read along an axis for a tap of pixel `at`. Up skips taps between coarse pixels. */
export function readAt(
  g: PairGeometry,
  direction: Direction,
  axis: number,
  at: string,
  tap: string,
  name: string,
): string {
  if (direction === 'down') return `let ${name} = ${fineAt(g, axis, at, tap)};`;
  const [stride, place] = [g.stride[axis]!, `${at} + ${g.padding[axis]!} - ${tap} * ${g.dilation[axis]!}`];
  if (stride === 1) return `let ${name} = ${place};`;
  return `let ${name}Fine = ${place}; if (${name}Fine % ${stride} != 0) { continue; } let ${name} = ${name}Fine / ${stride};`;
}

const small: PairGeometry = {
  ...{ batch: 2, coarse: [1, 3, 4], fine: [1, 6, 7], coarseChannels: 8, fineChannels: 16, groups: 2 },
  ...{ kernel: [1, 3, 5], stride: [1, 2, 2], dilation: [1, 1, 1], padding: [0, 1, 1], makes: 'coarse' },
};
/** Sizes for kernels' `variants`: two and three axes, channels that are and are not multiples of four, both ops. */
export const pairGeometries: readonly PairGeometry[] = [
  small,
  { ...small, makes: 'fine', coarseChannels: 6, dilation: [1, 2, 1] },
  { ...small, fineChannels: 6, groups: 1, stride: [1, 1, 3] },
  { ...small, coarse: [2, 3, 4], fine: [5, 6, 7], kernel: [3, 1, 2], stride: [2, 1, 1], makes: 'fine', groups: 1 },
];
