// Convolutions and transposed convolutions of every kind, by the kernels of shaders/conv/general.ts and, where each channel is convolved
// by itself, shaders/conv/depthwise.ts: each op's forward pass is the other's input gradient. They fuse nothing with their neighbours.
import {
  depthwiseShader,
  depthwiseThreads,
  depthwiseTile,
  depthwiseTiles,
  depthwiseWeightShader,
  depthwiseWeightThreads,
} from '../../../shaders/conv/depthwise.js';
import {
  pairRuns,
  pairShader,
  pairThreads,
  pairWeightShader,
  pairWeightThreads,
} from '../../../shaders/conv/general.js';
import { product } from '../../../shaders/conv/geometry.js';
import { type Direction, type PairGeometry, sidesOf } from '../../../shaders/conv/pair.js';
import { checkOptions, showValue } from '../../arguments.js';
import { record } from '../../autograd.js';
import type { Gpu } from '../../device.js';
import { ShapeError } from '../../shape.js';
import { run } from '../../stream.js';
import { empty, type Tensor, view } from '../../tensor.js';
import { expectTensors } from '../float-type.js';
import { reduceMiddle } from '../reduce.js';
import { tunedConv } from './conv.js';
import { type ConvTypes, typesOf } from './family.js';
import { parameterGradients } from './parameter-gradients.js';
import { type ConvSizes, convSizes, numbersOf, type Padding } from './sizes.js';

/** Options of `conv`. A list has an entry for each side of the image, the first side first. */
export interface ConvOptions {
  /** Pixels of x between neighbouring outputs; default 1. */
  stride?: number | readonly number[];
  /**
   * Zeros around x: a number; or for each side a number or a pair [before, after]; `'valid'` for none; `'same'` for as many as
   * ⌈n/stride⌉ outputs need, of an odd number one more after (TensorFlow's and ONNX's SAME_UPPER). Default: as many as ⌈n/stride⌉
   * outputs need, ⌊dilation · (k − 1)/2⌋ of them before.
   */
  padding?: Padding;
  /** Pixels of x between neighbouring taps; default 1. */
  dilation?: number | readonly number[];
  /** Groups of channels that are convolved each by itself; default 1. With as many as channels it is a depthwise convolution. */
  groups?: number;
  /**
   * A batch norm follows; default false. With one group, no dilation and stride 1 or 2 its statistics are summed as the output is
   * written, else in a pass of its own.
   */
  statistics?: boolean;
}

/**
 * Convolution of x [N, W, C], [N, H, W, C] or [N, D, H, W, C] with weight [O, …kernel, C/groups] and bias [O]. Each side of the output has
 * ⌊(n + padding − dilation · (k − 1) − 1)/stride⌋ + 1 pixels, ⌈n/stride⌉ where no padding is given. Weight and bias may be f32 where x is
 * f16; their gradients are then f32, too. One group without dilation, with stride 1 or 2 and less padding than the kernel has pixels, is
 * tuned and fused; the others have kernels of their own. Throws a ShapeError for sizes that do not fit.
 * @example
 * const [x, weight] = [tensor(gpu, 1, [1, 4, 4, 2]), tensor(gpu, 0.5, [3, 3, 3, 2])]; // [N, H, W, C], [O, kH, kW, C]
 * console.log(conv(x, weight).shape); // [1, 4, 4, 3]
 */
export function conv(x: Tensor, weight: Tensor, bias?: Tensor, options: ConvOptions = {}): Tensor {
  expectTensors('conv', x, weight);
  checkOptions('conv', options, ['stride', 'padding', 'dilation', 'groups', 'statistics']);
  const [rank, groups] = [Math.max(0, x.shape.length - 2), groupsOf('conv', weight, options.groups)];
  const dilation = numbersOf('conv', 'dilation', rank, options.dilation ?? 1, 1);
  const sizes = convSizes('conv', x, weight, bias, options, dilation, groups);
  const tensors = [x, weight, bias] as const;
  return tunedConv(tensors, sizes, options.statistics) ?? pairConv('conv', tensors, sizes);
}

/** Groups that divide the outputs of a weight; throws a ShapeError for others. */
export function groupsOf(op: string, weight: Tensor, groups = 1): number {
  const outputs = weight.shape[0] ?? 0;
  if (Number.isInteger(groups) && groups > 0 && outputs % groups === 0) return groups;
  throw new ShapeError(
    `${op}: groups is ${showValue(groups)} — expected a whole number that divides the ${outputs} outputs of the weight.`,
  );
}

/** The op `name` of x, weight and perhaps bias by the general kernels. */
export function pairConv(
  name: string,
  [x, weight, bias]: readonly [x: Tensor, weight: Tensor, bias: Tensor | undefined],
  { g, shape }: Pick<ConvSizes, 'g' | 'shape'>,
): Tensor {
  const types = typesOf(name, x, weight, bias);
  const [forward, backward] = g.makes === 'coarse' ? (['down', 'up'] as const) : (['up', 'down'] as const);
  const y = empty(x.gpu, shape, types.dtype, name);
  launch(g, forward, types, { x, weight, y, ...(bias && { bias }) });
  return record(name, y, bias ? [x, weight, bias] : [x, weight], (dy, [needsX, needsWeight, needsBias]) => {
    const dx = needsX ? empty(x.gpu, x.shape, types.dtype, `d${name}`) : undefined;
    if (dx) launch(g, backward, types, { x: dy, weight, y: dx });
    return [dx, ...(needsWeight || needsBias ? weightGradient(x, weight, needsBias ? bias : undefined, dy, g) : [])];
  });
}

/** Multiply-adds in the text of a depthwise kernel. More share a load, but take a driver on the CPU longer to compile. */
const mostProducts = ({ adapter }: Gpu): number => (adapter.software ? 80 : 160);

function launch(
  g: PairGeometry,
  direction: Direction,
  types: ConvTypes,
  tensors: { x: Tensor; weight: Tensor; y: Tensor; bias?: Tensor },
): void {
  const options = { ...types, bias: tensors.bias !== undefined };
  const tile = depthwiseTile(g, direction, mostProducts(tensors.x.gpu));
  if (tile) {
    run(depthwiseShader(g, direction, tile, options), tensors, { threads: depthwiseThreads(g, direction, tile) });
    return;
  }
  // A CPU wants each weight to serve many pixels, a GPU many threads; neither more pixels than there are.
  const columns = Math.ceil(sidesOf(g, direction).to.size[2] / (direction === 'up' ? g.stride[2] : 1));
  let pixels = tensors.x.gpu.adapter.software ? 8 : 4;
  while (pixels / 2 >= columns) pixels /= 2;
  run(pairShader(g, direction, pixels, options), tensors, { threads: pairThreads(g, direction, pixels) });
}

/** Most bytes that the sums of slices may take. */
const mostPartialBytes = 2 ** 26;

/** Slices of a weight gradient: enough threads to keep the adapter busy, as far as there are pixels and memory. */
function slicesOf(gpu: Gpu, g: PairGeometry, weight: Tensor, threads: number, units: number): number {
  const [busy, pixels] = gpu.adapter.software ? [512, 256] : [65536, 64];
  const most = Math.min(
    ...[units, Math.ceil(busy / threads), Math.ceil((g.batch * product(g.coarse)) / pixels)],
    Math.max(1, Math.floor(mostPartialBytes / (4 * weight.size))),
  );
  return Math.ceil(units / Math.ceil(units / most));
}

function weightGradient(x: Tensor, weight: Tensor, bias: Tensor | undefined, dy: Tensor, g: PairGeometry) {
  const { gpu } = x;
  const { dtype, parameters } = typesOf('conv', x, weight);
  const tile = depthwiseTile(g, 'down', mostProducts(gpu) / 2);
  const threads = tile ? depthwiseWeightThreads(g) : pairWeightThreads(g);
  const slices = slicesOf(gpu, g, weight, threads, tile ? depthwiseTiles(g, tile) : pairRuns(g));
  // The threads load every coarse pixel once; where dy is the fine image, its sums take a pass of their own.
  const alongside = g.makes === 'coarse' ? bias : undefined;
  const options = { dtype, bias: alongside !== undefined };
  const source = tile ? depthwiseWeightShader(g, tile, slices, options) : pairWeightShader(g, slices, options);
  const [dWeight, dBias] = parameterGradients(weight, alongside, parameters, { slices }, (sums) =>
    run(source, { x, dy, ...sums }, { threads: threads * slices }),
  );
  if (!bias || alongside) return [dWeight, dBias];
  const [inner] = bias.shape as [number];
  const sum = reduceMiddle('sum', dy, { outer: 1, count: dy.size / inner, inner, to: parameters });
  return [dWeight, view(sum, bias.shape)];
}
