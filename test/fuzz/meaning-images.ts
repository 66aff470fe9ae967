// What ops on images [N, …, C] mean: convolutions of every kind, pooling, resampling, crops.
import type { Crop } from '../../engine/index.js';
import { eachProductOf, type Kind } from '../reference/conv.js';
import * as crops from '../reference/crop.js';
import { ndArray } from '../reference/nd-array.js';
import { resizeWeights, type Windows, windowsOf } from '../reference/resampling.js';
import type { Real, Tape } from './reference.js';
import {
  must,
  type Products,
  products,
  remembered,
  repeated,
  type Shape,
  same,
  sizeOf,
  stridesOf,
  table,
} from './shapes.js';

type Sides = number | readonly number[];
type Pair = readonly [number, number];
type Padding = number | string | readonly (number | Pair)[];

const each = (given: Sides | undefined, otherwise: number, rank: number): readonly number[] =>
  typeof given === 'object' ? given : Array<number>(rank).fill(given ?? otherwise);
const pairs = (given: number | readonly (number | Pair)[], rank: number): readonly Pair[] =>
  (typeof given === 'number' ? Array<number>(rank).fill(given) : given).map((p) =>
    typeof p === 'number' ? [p, p] : p,
  );

export interface ConvOptions {
  readonly stride?: Sides;
  readonly padding?: Padding;
  readonly outputPadding?: Sides;
  readonly dilation?: Sides;
  readonly groups?: number;
}

/** Sides of the result of a convolution of sides `n`, and zeros around x. */
function convKind(n: Shape, kernel: Shape, options: ConvOptions): { kind: Kind; sides: number[] } {
  const rank = n.length;
  const [stride, dilation] = [each(options.stride, 1, rank), each(options.dilation, 1, rank)];
  const extents = kernel.map((k, i) => dilation[i]! * (k - 1) + 1);
  const { padding, groups = 1 } = options;
  if (padding !== undefined && padding !== 'same') {
    const given = pairs(padding === 'valid' ? 0 : (padding as number), rank);
    const sides = n.map((m, i) => Math.floor((m + given[i]![0] + given[i]![1] - extents[i]!) / stride[i]!) + 1);
    return { kind: { stride, dilation, groups, padding: given }, sides };
  }
  const sides = n.map((m, i) => Math.ceil(m / stride[i]!));
  const before = extents.map((extent, i) => {
    const all = Math.max(0, (sides[i]! - 1) * stride[i]! + extent - n[i]!);
    return Math.floor((padding === 'same' ? all : extent - 1) / 2);
  });
  return { kind: { stride, dilation, groups, padding: before.map((p) => [p, 0] as const) }, sides };
}

/** The same of a transposed convolution. */
function transposedKind(n: Shape, kernel: Shape, options: ConvOptions): { kind: Kind; sides: number[] } {
  const rank = n.length;
  const [stride, dilation] = [each(options.stride, 2, rank), each(options.dilation, 1, rank)];
  const more = each(options.outputPadding, 0, rank);
  const extents = kernel.map((k, i) => dilation[i]! * (k - 1) + 1);
  const { padding, groups = 1 } = options;
  if (padding === 'same') {
    must(
      more.every((m) => m === 0),
      'outputPadding',
    );
    const before = extents.map((extent, i) => Math.floor(Math.max(0, extent - stride[i]!) / 2));
    const sides = n.map((m, i) => m * stride[i]!);
    return { kind: { stride, dilation, groups, padding: before.map((p) => [p, 0] as const) }, sides };
  }
  must(
    more.every((m, i) => m < Math.max(stride[i]!, dilation[i]!)),
    'outputPadding',
  );
  const given = pairs(padding === undefined || padding === 'valid' ? 0 : (padding as number), rank);
  const sides = n.map((m, i) => (m - 1) * stride[i]! + extents[i]! + more[i]! - given[i]![0] - given[i]![1]);
  return { kind: { stride, dilation, groups, padding: given }, sides };
}

function convolved(
  tape: Tape,
  x: Real,
  weight: Real,
  bias: Real | undefined,
  options: ConvOptions,
  makes: 'coarse' | 'fine',
): Real {
  const { groups = 1 } = options;
  must(!x.integer && !weight.integer && x.shape.length === weight.shape.length && x.shape.length >= 3, 'conv');
  must(x.shape.at(-1) === weight.shape.at(-1)! * groups && weight.shape[0]! % groups === 0, 'channels');
  const name = `${makes} ${x.shape} ${weight.shape} ${JSON.stringify(options)}`;
  const terms = remembered(name, (): Products => {
    const kernel = weight.shape.slice(1, -1);
    const { kind, sides } = (makes === 'coarse' ? convKind : transposedKind)(x.shape.slice(1, -1), kernel, options);
    must(
      sides.every((n) => n > 0),
      'pixels',
    );
    const shape = [x.shape[0]!, ...sides, weight.shape[0]!];
    const [fine, coarse] = makes === 'coarse' ? [x.shape, shape] : [shape, x.shape];
    return products(shape, (add) => {
      eachProductOf(fine, coarse, kernel, kind, makes, (f, w, c) => {
        if (makes === 'coarse') add(f, w, c);
        else add(c, w, f);
      });
    });
  });
  const y = tape.bilinear(x, weight, terms, x.half);
  if (!bias) return y;
  must(bias.data.length === y.shape.at(-1), 'bias');
  // Where the output is f16 and the bias f32, the sum is f16 still.
  const sizes = (u: number, v: number): number => Math.abs(u) + Math.abs(v);
  const maps = [repeated(y.shape, y.shape), repeated(bias.shape, y.shape)] as const;
  return tape.zip(y, bias, y.shape, maps, (u, v) => u + v, sizes, [() => 1, () => 1]);
}

export interface PoolOptions {
  readonly window?: Sides;
  readonly stride?: Sides;
  readonly padding?: number | readonly (number | Pair)[];
  readonly dilation?: Sides;
  readonly ceil?: boolean;
  readonly countPadding?: boolean;
}

function pooled(tape: Tape, x: Real, kind: 'max' | 'average', options: PoolOptions): Real {
  const rank = x.shape.length - 2;
  must(!x.integer && rank >= 1 && rank <= 3, 'image');
  const { window = 2, stride = window, padding = 0, dilation, ceil = false, countPadding = false } = options;
  const of: Windows = {
    window: each(window, 2, rank),
    stride: each(stride, 2, rank),
    padding: pairs(padding, rank),
    dilation: each(dilation, 1, rank),
    ceil,
    countPadding,
  };
  const { shape, windows } = windowsOf(x.shape, of);
  must(windows.length > 0 && windows.every(({ members }) => members.length > 0), 'windows');
  if (kind === 'max')
    return tape.best(
      x,
      shape,
      windows.map(({ members }) => members),
      'first',
    );
  const weights = windows.map(({ members, count }) => 1 / (countPadding ? count : members.length));
  const terms = products(shape, (add) => {
    windows.forEach(({ members }, to) => {
      for (const i of members) add(i, to, to);
    });
  });
  return tape.linear(x, terms, Float64Array.from(weights));
}

/** y by weights [output][input] for each side. */
function resampled(tape: Tape, x: Real, weights: readonly (readonly Float64Array[])[]): Real {
  const shape = [x.shape[0]!, ...weights.map(({ length }) => length), x.shape.at(-1)!];
  const strides = stridesOf(x.shape);
  const factors: number[] = [];
  const terms = products(shape, (add) => {
    let to = -1;
    table(shape, (index) => {
      to++;
      const walk = (side: number, at: number, weight: number): void => {
        if (side === weights.length) {
          add(at, factors.length, to);
          factors.push(weight);
          return;
        }
        weights[side]![index[side + 1]!]!.forEach((w, i) => {
          if (w) walk(side + 1, at + i * strides[side + 1]!, weight * w);
        });
      };
      walk(0, index[0]! * strides[0]! + index.at(-1)!, 1);
      return 0;
    });
  });
  return tape.linear(x, terms, Float64Array.from(factors));
}

type Mode = 'linear' | 'cubic' | 'nearest';

function upsample(tape: Tape, x: Real, { factor = 2, mode = 'linear' as Mode } = {}): Real {
  must(!x.integer && [4, 5].includes(x.shape.length), 'image');
  const weights = x.shape.slice(1, -1).map((n) => resizeWeights(n, factor * n, factor, mode, mode === 'linear'));
  return resampled(tape, x, weights);
}

function resize(
  tape: Tape,
  x: Real,
  to: readonly number[] | { scale: Sides },
  { mode = 'linear' as Mode, alignCorners = false } = {},
): Real {
  const sides = x.shape.slice(1, -1);
  must(!x.integer && sides.length >= 1 && sides.length <= 3, 'image');
  const scales = 'scale' in to ? each(to.scale, 1, sides.length) : undefined;
  const outputs = scales ? sides.map((n, i) => Math.floor(n * scales[i]!)) : (to as readonly number[]);
  must(outputs.length === sides.length && outputs.every((n) => n > 0), 'sides');
  return resampled(
    tape,
    x,
    sides.map((n, i) => resizeWeights(n, outputs[i]!, scales?.[i], mode, alignCorners)),
  );
}

/** The rows of a table that `cropTable` made. */
function cropsOf({ data, shape }: Real, solid: boolean): Crop[] {
  return Array.from({ length: shape[0]! }, (_, row) => {
    const [start, d, h, w, z, y, x, turn] = data.subarray(8 * row, 8 * row + 8) as unknown as [number, ...number[]];
    return solid
      ? { start, sides: [d!, h!, w!], first: [z!, y!, x!], turn: turn! }
      : { start, sides: [h!, w!], first: [y!, x!], turn: turn! };
  });
}

export const images = {
  conv: (tape: Tape, x: Real, weight: Real, bias?: Real, options: ConvOptions = {}) =>
    convolved(tape, x, weight, bias, options, 'coarse'),
  convTranspose: (tape: Tape, x: Real, weight: Real, bias?: Real, options: ConvOptions = {}) =>
    convolved(tape, x, weight, bias, options, 'fine'),
  maxPool: (tape: Tape, x: Real, options: PoolOptions = {}) => pooled(tape, x, 'max', options),
  averagePool: (tape: Tape, x: Real, options: PoolOptions = {}) => pooled(tape, x, 'average', options),
  upsample,
  resize,
  crop: (tape: Tape, x: Real, at: Real, sides: Shape) => {
    must(x.shape.length === 2 && at.integer === 'i32' && sizeOf(sides) > 0, 'crop');
    const y = crops.crop(ndArray(x.shape, x.data), cropsOf(at, sides.length === 3), sides);
    return tape.plain(y.data, y.shape, x);
  },
  addCrops: (tape: Tape, sums: Real, y: Real, at: Real) => {
    must(same([at.shape[0]!, sums.shape.at(-1)!], [y.shape[0]!, y.shape.at(-1)!]), 'addCrops');
    const added = (x: Real, from: Float64Array) =>
      crops.addCrops(ndArray(x.shape, from), ndArray(y.shape, y.data), cropsOf(at, y.shape.length === 5)).data;
    const sizes = crops.addCrops(
      ndArray(sums.shape, sums.data.map(Math.abs)),
      ndArray(y.shape, y.data.map(Math.abs)),
      cropsOf(at, y.shape.length === 5),
    );
    sums.data.set(added(sums, sums.data));
    tape.settle(sums.data, false, sizes.data);
    return sums;
  },
};
