// Pooling with any window: the options that `maxPool` and `averagePool` share, and the launches for windows that are not two by two.
import { product, type Triple } from '../../shaders/image-sizes.js';
import { type WindowSizes, windowAverage, windowChoice, windowGradient, windowMax } from '../../shaders/window-pool.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { forEachAxis, positive, spatialSizes, triple } from './image-axes.js';
import { ofRank } from './image-sizes.js';

/** Options of `maxPool`. Sizes are one number for every axis, or a list of one for each. */
export interface PoolOptions {
  /** Pixels of a window along each axis; default 2. */
  readonly window?: number | readonly number[];
  /** Pixels from one window to the next; default: the window, so that windows touch. */
  readonly stride?: number | readonly number[];
  /**
   * Pixels around the image that windows may cover, but that no maximum or mean is of; or a list of [before, after] for each axis.
   * Default 0. Every window must keep a pixel of the image.
   */
  readonly padding?: number | readonly (number | readonly [number, number])[];
  /** Pixels from one pixel of a window to the next; default 1. */
  readonly dilation?: number | readonly number[];
  /** Whether a last window may reach beyond the end, as long as it begins before it; default false: such pixels are left out. */
  readonly ceil?: boolean;
}

/** Options of `averagePool`. */
export interface AveragePoolOptions extends PoolOptions {
  /**
   * Whether padding counts in the mean, as zeros. Default false, as in TensorFlow and ONNX; PyTorch's `count_include_pad` is true where
   * it is not given. Pixels that `ceil` adds never count.
   */
  readonly countPadding?: boolean;
}

const padding = {
  fits: (pad: unknown): boolean => {
    const sides: unknown[] = Array.isArray(pad) ? pad : [pad, pad];
    return sides.length === 2 && sides.every((n) => Number.isSafeInteger(n) && (n as number) >= 0);
  },
  expected: 'a whole number of at least 0 or [before, after]',
};

/** The windows that checked options describe. Throws a ShapeError for options that do not fit x, and for windows without a pixel. */
function windowsOf(op: string, x: Tensor, options: AveragePoolOptions): { sizes: WindowSizes; rank: number } {
  const { batch, channels, rank, size: input } = spatialSizes(op, x);
  const { window = 2, ceil = false, countPadding = false } = options;
  const option = (name: string, value: number | readonly number[]): Triple =>
    triple(forEachAxis<number>(op, name, value, rank, positive));
  const [windows, dilation] = [option('window', window), option('dilation', options.dilation ?? 1)];
  const stride = option('stride', options.stride ?? window);
  type Sides = number | readonly [number, number];
  const sides = forEachAxis<Sides>(op, 'padding', options.padding ?? 0, rank, padding);
  const pads = sides.map((side) => (typeof side === 'number' ? [side, side] : side));
  const before = triple(
    pads.map(([first]) => first!),
    0,
  );
  const after = triple(
    pads.map(([, last]) => last!),
    0,
  );
  for (const [name, value] of Object.entries({ ceil, countPadding })) {
    if (typeof value !== 'boolean') throw new ShapeError(`${op}: got ${name} ${showValue(value)}, expected a boolean.`);
  }

  const output = input.map((n, k) => {
    const [from, to, step] = [before[k]!, after[k]!, stride[k]!];
    const windowOf = `a window of ${windows[k]}${dilation[k]! > 1 ? `, dilation ${dilation[k]}` : ''}`;
    const spare = (n + from + to - (windows[k]! - 1) * dilation[k]! - 1) / step;
    let count = Math.floor(ceil ? Math.ceil(spare) : spare) + 1;
    if (ceil && (count - 1) * step >= n + from) count--;
    const axis = k - 2 + rank; // of x
    if (count < 1) {
      throw new ShapeError(
        `${op}: ${windowOf} along axis ${axis} of ${show(x.shape)} with padding ${show([from, to])} — expected at most the padded side.`,
      );
    }
    for (let o = 0; o < count; o++) {
      const begin = Math.ceil(Math.max(0, from - o * step) / dilation[k]!);
      if (begin >= windows[k]! || o * step + begin * dilation[k]! >= from + n) {
        throw new ShapeError(
          `${op}: ${windowOf} along axis ${axis} of ${show(x.shape)} lies in the padding ${show([from, to])} alone — expected a pixel of the image in every window. Pad less.`,
        );
      }
    }
    return count;
  }) as unknown as Triple;
  const sizes = { dtype: floatType(op, x), batch, channels, input, output, window: windows, stride, dilation };
  return { rank, sizes: { ...sizes, before, after, counted: countPadding } };
}

/** Whether these are the windows of two along each axis that a pool without options has. */
const areTwos = ({ window, stride, dilation, before, after, input, output }: WindowSizes, rank: number): boolean =>
  rank > 1 &&
  product(dilation) === 1 &&
  ofRank(rank, window).every((n) => n === 2) &&
  ofRank(rank, stride).every((n) => n === 2) &&
  [...before, ...after].every((n) => n === 0) &&
  ofRank(rank, output).every((n, k) => n === Math.floor(ofRank(rank, input)[k]! / 2));

/** Pools x by windows as the options tell; undefined where they are the windows of a pool without options. */
export function windowPool(
  kind: 'max' | 'average',
  x: Tensor,
  options: AveragePoolOptions | undefined,
): Tensor | undefined {
  const op = `${kind}Pool`;
  const known = ['window', 'stride', 'padding', 'dilation', 'ceil', ...(kind === 'average' ? ['countPadding'] : [])];
  checkOptions(op, options, known, {
    size: "It is called 'window'.",
    kernel: "It is called 'window'.",
    strides: "It is called 'stride'.",
    ceilMode: "It is called 'ceil'.",
    countIncludePad: "It is called 'countPadding'.",
  });
  if (!options) return undefined;
  const { sizes, rank } = windowsOf(op, x, options);
  if (areTwos(sizes, rank)) return undefined;
  const lanes = sizes.channels % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, [sizes.batch, ...ofRank(rank, sizes.output), sizes.channels], x.dtype, op);
  run(kind === 'max' ? windowMax(sizes) : windowAverage(sizes), { x, y }, { threads: y.size / lanes });
  return record(op, y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, `d${op}`);
    const threads = { threads: x.size / lanes };
    if (kind === 'average') run(windowGradient(sizes, kind), { dy, dx }, threads);
    else {
      const choice = empty(x.gpu, y.shape, 'u32', 'choice');
      run(windowChoice(sizes), { x, choice }, { threads: y.size / lanes });
      run(windowGradient(sizes, kind), { dy, dx, choice }, threads);
    }
    return [dx];
  });
}
