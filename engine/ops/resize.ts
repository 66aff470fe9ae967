// Resizing to any size, in 1-D to 3-D. Which inputs an output reads is computed here, in float64, and given to the kernel as data.
import type { Triple } from '../../shaders/image-sizes.js';
import { resizeShader } from '../../shaders/resize.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';
import { forEachAxis, positive, spatialSizes, triple } from './image-axes.js';
import { ofRank } from './image-sizes.js';

/** Options of `resize`. */
export interface ResizeOptions {
  /**
   * 'linear' (the default): between the two neighbours of a position along each axis. 'cubic': of four neighbours (Keys 1981, with
   * a = −0.75, as PyTorch). 'nearest': the nearest pixel, of two the later one.
   */
  readonly mode?: 'linear' | 'cubic' | 'nearest';
  /** Where output i of m lies among n inputs: (i + ½) · n/m − ½ (false, the default), or i · (n − 1)/(m − 1), corners on corners. */
  readonly alignCorners?: boolean;
}

/** What an output of an axis reads: the weights of the inputs from `first` on. None of the first and last is 0. */
interface Row {
  readonly first: number;
  readonly weights: readonly number[];
}

const modes = ['linear', 'cubic', 'nearest'];

/** Weights of the inputs around a position: of ⌊position⌋ + `from` and those after it, at a fraction f behind ⌊position⌋. */
function weightsAt(mode: string, f: number): { from: number; weights: number[] } {
  if (mode === 'linear') return { from: 0, weights: [1 - f, f] };
  const a = -0.75;
  const near = (t: number): number => ((a + 2) * t - (a + 3)) * t * t + 1;
  const far = (t: number): number => ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return { from: -1, weights: [far(1 + f), near(f), near(1 - f), far(2 - f)] };
}

/** The row of an output at a position; what lies outside of the n inputs is the nearest of them. */
function rowAt(mode: string, position: number, n: number): Row {
  const inside = (place: number): number => Math.min(Math.max(place, 0), n - 1);
  if (mode === 'nearest') return { first: inside(Math.floor(position + 0.5)), weights: [1] };
  const low = Math.floor(position);
  const { from, weights } = weightsAt(mode, position - low);
  const used = weights.map((_, t) => t).filter((t) => weights[t] !== 0);
  const first = inside(low + from + used[0]!);
  const row = Array<number>(inside(low + from + used.at(-1)!) - first + 1).fill(0);
  for (const t of used) row[inside(low + from + t) - first]! += weights[t]!;
  return { first, weights: row };
}

/** The rows of an axis of n inputs and m outputs; `scale`, if given, is what the sizes were multiplied by. */
function rowsOf(n: number, m: number, scale: number | undefined, mode: string, alignCorners: boolean): Row[] {
  return Array.from({ length: m }, (_, i) => {
    const aligned = m > 1 ? (i * (n - 1)) / (m - 1) : 0;
    const centred = scale === undefined ? ((2 * i + 1) * n - m) / (2 * m) : (i + 0.5) / scale - 0.5;
    return rowAt(mode, alignCorners ? aligned : centred, n);
  });
}

/** The rows of the gradient: which outputs each of n inputs goes to, and how much of it. */
function transposed(rows: readonly Row[], n: number): Row[] {
  const found = Array.from({ length: n }, () => ({ first: 0, weights: [] as number[] }));
  rows.forEach(({ first, weights }, output) => {
    weights.forEach((weight, k) => {
      const row = found[first + k]!;
      if (!row.weights.length) row.first = output;
      while (row.weights.length < output - row.first) row.weights.push(0);
      row.weights.push(weight);
    });
  });
  return found;
}

/** Whether every output is the input in its place. */
const isIdentity = (rows: readonly Row[], n: number): boolean =>
  rows.length === n && rows.every(({ first, weights }, i) => first === i && weights.length === 1 && weights[0] === 1);

/** Rows as the kernel reads them: [first, end, weights, and zeros up to `room` weights]. */
const tableOf = (rows: readonly Row[], room: number): number[] =>
  rows.flatMap(({ first, weights }) => [
    first,
    first + weights.length,
    ...weights,
    ...Array<number>(room - weights.length).fill(0),
  ]);

/**
 * An image of another size: x [N, L, C], [N, H, W, C] or [N, D, H, W, C] → the sizes `to` of its axes between, or sides ⌊n · scale⌋ for
 * `{ scale }`, one number or one for each axis. Coordinates are PyTorch's (`interpolate`; 'nearest' is its 'nearest-exact'), where a
 * scale, not the ratio of the sizes, tells the distance of pixels, too. There is no filter against aliasing. A weight is the float64
 * formula's, rounded to f32, and an input of weight 0 does not show. `upsample` has a part of this, and writes into a concatenation.
 * @example
 * console.log(resize(tensor(gpu, 1, [1, 4, 6, 3]), [6, 9]).shape); // [1, 6, 9, 3]
 */
export function resize(
  x: Tensor,
  to: readonly number[] | { readonly scale: number | readonly number[] },
  options: ResizeOptions = {},
): Tensor {
  expectTensors('resize', x);
  checkOptions('resize', options, ['mode', 'alignCorners'], {
    scale: 'Write resize(x, { scale }).',
    size: 'Write resize(x, [height, width]).',
    antialias: 'There is no filter. Use averagePool before, or a size not much smaller.',
  });
  const { mode = 'linear', alignCorners = false } = options;
  if (!modes.includes(mode)) {
    throw new ShapeError(`resize: got mode ${showValue(mode)}, expected 'linear', 'cubic' or 'nearest'.`);
  }
  if (typeof alignCorners !== 'boolean') {
    throw new ShapeError(`resize: got alignCorners ${showValue(alignCorners)}, expected a boolean.`);
  }
  const { batch, channels, rank, size: input } = spatialSizes('resize', x);
  const isScaled = typeof to === 'object' && to !== null && 'scale' in to;
  if (!isScaled && !Array.isArray(to)) {
    throw new ShapeError(`resize: got size ${showValue(to)}, expected a list of ${rank} sizes or { scale }.`);
  }
  if (isScaled) checkOptions('resize', to, ['scale'], { mode: 'Options come after it.' });
  const scales = isScaled
    ? forEachAxis<number>('resize', 'scale', to.scale, rank, {
        fits: (s) => typeof s === 'number' && s > 0 && s < Infinity,
        expected: 'a positive number',
      })
    : undefined;
  const sides = scales
    ? scales.map((scale, k) => Math.floor(ofRank(rank, input)[k]! * scale))
    : forEachAxis<number>('resize', 'size', to as number[], rank, positive);
  if (sides.includes(0)) {
    throw new ShapeError(`resize: got ${show(x.shape)} and scale ${showValue(scales)}, expected sides of at least 1.`);
  }
  const output = triple(sides);
  const steps = scales && triple(scales);
  const rows = output.map((m, k) => rowsOf(input[k]!, m, steps?.[k], mode, alignCorners));
  const stays = rows.map((of, k) => isIdentity(of, input[k]!));
  if (stays.every(Boolean)) stays[2] = false; // the kernel then copies
  const dtype = floatType('resize', x);

  const launch = (
    source: Tensor,
    from: Triple,
    shape: readonly number[],
    size: Triple,
    of: readonly Row[][],
  ): Tensor => {
    const y = empty(x.gpu, shape, dtype, 'resize');
    const room = of.map((axis, k) =>
      stays[k] ? 0 : axis.reduce((most, { weights }) => Math.max(most, weights.length), 0),
    ) as unknown as Triple;
    const table = of.flatMap((axis, k) => (stays[k] ? [] : tableOf(axis, room[k]!)));
    const shader = resizeShader({ dtype, batch, channels, input: from, output: size, room });
    run(shader, { x: source, y, table }, { threads: y.size / (channels % 4 === 0 ? 4 : 1) });
    return y;
  };
  const y = launch(x, input, [batch, ...sides, channels], output, rows);
  return record('resize', y, [x], (dy) => [
    launch(
      dy,
      output,
      x.shape,
      input,
      rows.map((of, k) => transposed(of, input[k]!)),
    ),
  ]);
}
