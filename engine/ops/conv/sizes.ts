// The sizes of a convolution from its tensors and options: what every family of kernels starts from.

import type { Triple } from '../../../shaders/conv/geometry.js';
import type { PairGeometry } from '../../../shaders/conv/pair.js';
import { showValue } from '../../arguments.js';
import { ShapeError, sameShape, show } from '../../shape.js';
import type { Tensor } from '../../tensor.js';
import { expectTensors } from '../float-type.js';
import { triple } from '../image-axes.js';

/** Zeros around an image: of all sides, by their rule, or for each side a number or a pair [before, after]. */
export type Padding = number | 'same' | 'valid' | readonly (number | readonly [number, number])[];

/** Pixels before and after one side. */
export type Pair = readonly [before: number, after: number];

/** The sizes of an op. */
export interface ConvSizes {
  readonly g: PairGeometry;
  /** Zeros after the fine image. */
  readonly after: Triple;
  /** Of the result. */
  readonly shape: readonly number[];
  readonly rank: 1 | 2 | 3;
}

const isWhole = (n: unknown, least: number): boolean => Number.isInteger(n) && (n as number) >= least;

/** Checks an option that is one value for all sides or a list of one for each. */
function perSide<T>(
  op: string,
  name: string,
  rank: number,
  given: unknown,
  what: string,
  fits: (side: unknown) => boolean,
): T[] {
  const sides: unknown[] = Array.isArray(given) ? given : Array(rank).fill(given);
  if (sides.length === rank && sides.every(fits)) return sides as T[];
  throw new ShapeError(`${op}: ${name} is ${showValue(given)} — expected ${what}, or a list of ${rank} for the sides.`);
}

/** Reads whole numbers of at least `least`. */
export const numbersOf = (op: string, name: string, rank: number, given: unknown, least: number): number[] =>
  perSide(op, name, rank, given, `a whole number from ${least} on`, (n) => isWhole(n, least));

/** Reads a padding in numbers. */
export const pairsOf = (op: string, rank: number, given: unknown): Pair[] =>
  perSide<number | Pair>(
    ...([op, 'padding', rank, given === 'valid' ? 0 : given, "'same', 'valid', a number, [before, after]"] as const),
    (side) => (!Array.isArray(side) || side.length === 2) && [side].flat().every((n) => isWhole(n, 0)),
  ).map((side) => (typeof side === 'number' ? [side, side] : side));

/** The first or second numbers of pairs. */
export const ends = (pairs: readonly Pair[], end: 0 | 1): Triple =>
  triple(
    pairs.map((pair) => pair[end]),
    0,
  );

/** What tensors and groups tell, checked: sides of image and kernel, channels of both images, and the rank. */
export function sidesOf(op: string, x: Tensor, weight: Tensor, bias: Tensor | undefined, groups: number) {
  expectTensors(op, x, weight, ...(bias === undefined ? [] : [bias]));
  const rank = x.shape.length - 2;
  if (rank < 1 || rank > 3) {
    throw new ShapeError(`${op}: got ${show(x.shape)}, expected [N,W,C], [N,H,W,C] or [N,D,H,W,C]. Reshape it first.`);
  }
  const layout = `[O, ${['kD', 'kH', 'kW'].slice(3 - rank).join(', ')}, C]`;
  if (weight.shape.length !== x.shape.length) {
    throw new ShapeError(
      `${op}: weight must be ${layout} for x ${show(x.shape)} — got ${show(weight.shape)}. Give it ${rank + 2} axes.`,
    );
  }
  const [inputs, outputs] = [x.shape.at(-1)!, weight.shape[0]!];
  const expected = weight.shape.at(-1)! * groups;
  if (expected !== inputs) {
    throw new ShapeError(
      `${op}: input has ${inputs} channels, weight expects ${expected} — x ${show(x.shape)}, weight ${show(weight.shape)} is ${layout}. Channels come last.`,
    );
  }
  if (bias && !sameShape(bias.shape, [outputs])) {
    throw new ShapeError(
      `${op}: bias must be [${outputs}] — got ${show(bias.shape)}. It needs one value per output channel.`,
    );
  }
  return {
    ...{ inputs, outputs, rank: rank as 1 | 2 | 3 },
    size: x.shape.slice(1, -1),
    kernel: weight.shape.slice(1, -1),
  };
}

/** Throws a ShapeError where the result has no pixels. */
export function expectPixels(op: string, x: Tensor, result: readonly number[]): void {
  if (result.every((n) => n > 0)) return;
  throw new ShapeError(
    `${op}: x ${show(x.shape)} gives sides ${show(result)}, expected at least 1. Use a larger image or a smaller kernel.`,
  );
}

/** The sizes of a convolution. `dilation` and `groups` are checked. */
export function convSizes(
  op: string,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  { stride, padding }: { readonly stride?: unknown; readonly padding?: Padding },
  dilations?: readonly number[],
  groups = 1,
): ConvSizes {
  const { inputs, outputs, rank, size, kernel } = sidesOf(op, x, weight, bias, groups);
  const strides = numbersOf(op, 'stride', rank, stride ?? 1, 1);
  const dilation = dilations ?? kernel.map(() => 1);
  const extents = kernel.map((k, side) => dilation[side]! * (k - 1) + 1);
  const given = padding === undefined || padding === 'same' ? undefined : pairsOf(op, rank, padding);
  const result = size.map((n, side) => {
    const [before, after] = given?.[side] ?? [0, extents[side]! - 1];
    return Math.floor((n + before + after - extents[side]!) / strides[side]!) + 1;
  });
  expectPixels(op, x, result);
  const pairs =
    given ??
    size.map((n, side): Pair => {
      const all = Math.max(0, (result[side]! - 1) * strides[side]! + extents[side]! - n);
      const before = Math.floor((padding ? all : extents[side]! - 1) / 2);
      return [before, Math.max(0, all - before)];
    });
  return {
    g: {
      ...{ batch: x.shape[0]!, coarseChannels: outputs, fineChannels: inputs, groups, makes: 'coarse' },
      ...{ coarse: triple(result), fine: triple(size), kernel: triple(kernel), stride: triple(strides) },
      dilation: triple(dilation),
      padding: ends(pairs, 0),
    },
    after: ends(pairs, 1),
    shape: [x.shape[0]!, ...result, outputs],
    rank,
  };
}
