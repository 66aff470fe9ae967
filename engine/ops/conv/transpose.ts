// Transposed convolutions: those with kernel 2 and stride 2 by the kernels of shaders/conv/blocks.ts, which fuse what convolutions fuse.
import { checkOptions, showValue } from '../../arguments.js';
import { ShapeError } from '../../shape.js';
import type { Tensor } from '../../tensor.js';
import { expectTensors } from '../float-type.js';
import { triple } from '../image-axes.js';
import { blockConv, blocksOf } from './blocks.js';
import { groupsOf, pairConv } from './general.js';
import { type ConvSizes, ends, expectPixels, numbersOf, type Padding, type Pair, pairsOf, sidesOf } from './sizes.js';

/** Options of `convTranspose`. A list has an entry for each side of the image, the first side first. */
export interface ConvTransposeOptions {
  /** Pixels of the result between neighbours of x: a number, or one for each side; default 2. */
  stride?: number | readonly number[];
  /**
   * Pixels cut off the result: a number; or for each side a number or a pair [before, after]; `'valid'` (the default) for none; `'same'` so
   * that stride · n are left.
   */
  padding?: Padding;
  /** Pixels more after each side, less than stride or dilation: a number, or one for each side; default 0. */
  outputPadding?: number | readonly number[];
  /** Pixels of the result between neighbouring taps of the kernel: a number, or one for each side; default 1. */
  dilation?: number | readonly number[];
  /** Groups of channels that are convolved each by itself; default 1. */
  groups?: number;
  /** A batch norm follows: with kernel 2 and stride 2 its statistics are summed as the output is written, else in a pass of its own. */
  statistics?: boolean;
}

/**
 * Transposed convolution, the input gradient of a convolution: every pixel of x adds its taps to the result. x [N, W, I], [N, H, W, I] or
 * [N, D, H, W, I]; weight [O, …kernel, I/groups], bias [O]; each side of the result has (n − 1) · stride + dilation · (k − 1) + 1 +
 * outputPadding pixels without its padding, as PyTorch's; the default stride is 2. Weight and bias may be f32 where x is f16; their
 * gradients then are, too. Throws a ShapeError for sizes that do not fit.
 * @example
 * const [x, weight] = [tensor(gpu, 1, [1, 4, 4, 2]), tensor(gpu, 0.5, [3, 2, 2, 2])]; // [N, H, W, C], [O, 2, 2, C]
 * console.log(convTranspose(x, weight).shape); // [1, 8, 8, 3]
 */
export function convTranspose(x: Tensor, weight: Tensor, bias?: Tensor, options: ConvTransposeOptions = {}): Tensor {
  checkOptions('convTranspose', options, ['stride', 'padding', 'outputPadding', 'dilation', 'groups', 'statistics']);
  const sizes = sizesOf(x, weight, bias, options);
  const blocks = blocksOf(sizes);
  const tensors = [x, weight, bias] as const;
  return blocks
    ? blockConv('convTranspose', sizes.shape, tensors, blocks, options.statistics ?? false)
    : pairConv('convTranspose', tensors, sizes);
}

function sizesOf(x: Tensor, weight: Tensor, bias: Tensor | undefined, options: ConvTransposeOptions): ConvSizes {
  const op = 'convTranspose';
  expectTensors(op, x, weight);
  const { padding, outputPadding = 0 } = options;
  const groups = groupsOf(op, weight, options.groups);
  const { inputs, outputs, rank, size, kernel } = sidesOf(op, x, weight, bias, groups);
  const strides = numbersOf(op, 'stride', rank, options.stride ?? 2, 1);
  const dilation = numbersOf(op, 'dilation', rank, options.dilation ?? 1, 1);
  const extents = kernel.map((k, side) => dilation[side]! * (k - 1) + 1);
  const isSame = padding === 'same';
  const more = numbersOf(op, 'outputPadding', rank, outputPadding, 0);
  if (more.some((n, side) => (isSame ? n > 0 : n >= Math.max(strides[side]!, dilation[side]!)))) {
    throw new ShapeError(
      `${op}: outputPadding is ${showValue(outputPadding)} — expected ${isSame ? "none with padding 'same'" : 'less than stride or dilation on each side'}.`,
    );
  }
  const pairs = isSame
    ? size.map((_, side): Pair => {
        const all = Math.max(0, extents[side]! - strides[side]!);
        return [Math.floor(all / 2), Math.ceil(all / 2)];
      })
    : pairsOf(op, rank, padding ?? 0);
  const result = size.map((n, side) => {
    const [before, after] = pairs[side]!;
    return isSame ? n * strides[side]! : (n - 1) * strides[side]! + extents[side]! + more[side]! - before - after;
  });
  expectPixels(op, x, result);
  return {
    g: {
      ...{ batch: x.shape[0]!, coarseChannels: inputs, fineChannels: outputs, groups, makes: 'fine' },
      ...{ coarse: triple(size), fine: triple(result), kernel: triple(kernel), stride: triple(strides) },
      ...{ dilation: triple(dilation), padding: ends(pairs, 0) },
    },
    ...{ after: ends(pairs, 1), rank, shape: [x.shape[0]!, ...result, outputs] },
  };
}
