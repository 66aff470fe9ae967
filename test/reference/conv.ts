// Convolution by plain loops, 2-D or 3-D, channels last: value and gradients straight from the formulas.
import { type NdArray, ndArray } from './nd-array.js';

/** Zeros before depth, height and width. */
export type Padding = readonly [number, number, number];
const before = (k: number): number => Math.floor((k - 1) / 2);

/** Calls `visit` with the offsets of (x, weight, y) for every product in the convolution of these shapes. */
function eachProduct(
  xShape: readonly number[],
  weightShape: readonly number[],
  stride: number,
  padding: Padding | undefined,
  visit: (x: number, weight: number, y: number) => void,
): void {
  const solid = xShape.length === 5;
  const [batch, depth, height, width, inputs] = solid
    ? (xShape as [number, number, number, number, number])
    : ([xShape[0]!, 1, xShape[1]!, xShape[2]!, xShape[3]!] as const);
  const [outputs, kernelDepth, kernelHeight, kernelWidth] = solid
    ? (weightShape as [number, number, number, number])
    : ([weightShape[0]!, 1, weightShape[1]!, weightShape[2]!] as const);
  const [padDepth, padHeight, padWidth] = padding ?? [kernelDepth, kernelHeight, kernelWidth].map(before);
  const out = (n: number): number => Math.ceil(n / stride);
  for (let n = 0; n < batch; n++)
    for (let z = 0; z < out(depth); z++)
      for (let y = 0; y < out(height); y++)
        for (let x = 0; x < out(width); x++)
          for (let o = 0; o < outputs; o++) {
            const yAt = (((n * out(depth) + z) * out(height) + y) * out(width) + x) * outputs + o;
            for (let kz = 0; kz < kernelDepth; kz++)
              for (let ky = 0; ky < kernelHeight; ky++)
                for (let kx = 0; kx < kernelWidth; kx++) {
                  const iz = z * stride + kz - padDepth!;
                  const iy = y * stride + ky - padHeight!;
                  const ix = x * stride + kx - padWidth!;
                  if (iz < 0 || iz >= depth || iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
                  const xAt = (((n * depth + iz) * height + iy) * width + ix) * inputs;
                  const weightAt = (((o * kernelDepth + kz) * kernelHeight + ky) * kernelWidth + kx) * inputs;
                  for (let c = 0; c < inputs; c++) visit(xAt + c, weightAt + c, yAt);
                }
          }
}

const outputShape = (x: readonly number[], weight: readonly number[], stride: number): number[] => [
  x[0]!,
  ...x.slice(1, -1).map((n) => Math.ceil(n / stride)),
  weight[0]!,
];

/** Convolution with `padding` zeros before each axis, ⌊(k − 1)/2⌋ if not given, and as many as needed beyond its end. */
export function conv(
  x: NdArray,
  weight: NdArray,
  bias: NdArray | undefined,
  stride: number,
  padding?: Padding,
): NdArray {
  const y = ndArray(outputShape(x.shape, weight.shape, stride));
  const outputs = weight.shape[0]!;
  if (bias) for (let i = 0; i < y.data.length; i++) y.data[i] = bias.data[i % outputs]!;
  eachProduct(x.shape, weight.shape, stride, padding, (xAt, weightAt, yAt) => {
    y.data[yAt]! += x.data[xAt]! * weight.data[weightAt]!;
  });
  return y;
}

/** Gradients of Σ dy·conv(x, weight, bias). */
export function convGradients(
  x: NdArray,
  weight: NdArray,
  dy: NdArray,
  stride: number,
  padding?: Padding,
): { dx: NdArray; dWeight: NdArray; dBias: NdArray } {
  const dx = ndArray(x.shape);
  const dWeight = ndArray(weight.shape);
  const dBias = ndArray([weight.shape[0]!]);
  for (let i = 0; i < dy.data.length; i++) dBias.data[i % dBias.data.length]! += dy.data[i]!;
  eachProduct(x.shape, weight.shape, stride, padding, (xAt, weightAt, yAt) => {
    dx.data[xAt]! += dy.data[yAt]! * weight.data[weightAt]!;
    dWeight.data[weightAt]! += dy.data[yAt]! * x.data[xAt]!;
  });
  return { dx, dWeight, dBias };
}

/** Transposed convolution, kernel 2, stride 2: every input pixel adds its taps to the output; 2-D is one slice with one plane of taps. */
export function convTranspose(x: NdArray, weight: NdArray, bias?: NdArray): NdArray {
  const [outputs, inputs] = [weight.shape[0]!, weight.shape.at(-1)!];
  const flat = x.shape.length === 4;
  const [batch, depth, height, width] = (flat ? [x.shape[0], 1, ...x.shape.slice(1)] : x.shape) as number[];
  const planes = flat ? 1 : 2;
  const y = ndArray([x.shape[0]!, ...x.shape.slice(1, -1).map((n) => 2 * n), outputs]);
  if (bias) y.data.forEach((_, i) => void (y.data[i] = bias.data[i % outputs]!));
  let p = 0;
  for (let n = 0; n < batch!; n++) {
    for (let d = 0; d < depth!; d++) {
      for (let h = 0; h < height!; h++) {
        for (let w = 0; w < width!; w++, p++) {
          for (let tap = 0; tap < 4 * planes; tap++) {
            const slice = (n * depth! + d) * planes + (tap >> 2);
            const pixel = (slice * 2 * height! + 2 * h + ((tap >> 1) & 1)) * 2 * width! + 2 * w + (tap & 1);
            for (let o = 0; o < outputs; o++) {
              let sum = 0;
              for (let c = 0; c < inputs; c++) {
                sum += x.data[p * inputs + c]! * weight.data[(o * 4 * planes + tap) * inputs + c]!;
              }
              y.data[pixel * outputs + o]! += sum;
            }
          }
        }
      }
    }
  }
  return y;
}

/** What a convolution of any kind is besides its tensors: one number, or [before, after] zeros, for each side. */
export interface Kind {
  readonly stride: readonly number[];
  readonly padding: readonly (readonly [number, number])[];
  readonly dilation: readonly number[];
  readonly groups: number;
}

/** Calls `visit` for each index of `sides`. */
function eachIndex(sides: readonly number[], visit: (index: readonly number[]) => void, index: number[] = []): void {
  if (index.length === sides.length) {
    visit(index);
    return;
  }
  for (let i = 0; i < sides[index.length]!; i++) eachIndex(sides, visit, [...index, i]);
}

const offset = (shape: readonly number[], index: readonly number[]): number =>
  index.reduce((at, i, axis) => at * shape[axis]! + i, 0);

/**
 * Calls `visit` with the offsets of every product of a convolution that takes `fine` to `coarse`; the weights lie as [the channels of the
 * image that `makes` names, …kernel, those of the other in one group].
 */
export function eachProductOf(
  fine: readonly number[],
  coarse: readonly number[],
  kernel: readonly number[],
  { stride, padding, dilation, groups }: Kind,
  makes: 'coarse' | 'fine',
  visit: (fine: number, weight: number, coarse: number) => void,
): void {
  const [ofFine, ofCoarse] = [fine.at(-1)! / groups, coarse.at(-1)! / groups];
  const weight = makes === 'coarse' ? [coarse.at(-1)!, ...kernel, ofFine] : [fine.at(-1)!, ...kernel, ofCoarse];
  eachIndex([coarse[0]!, ...coarse.slice(1, -1)], ([n, ...place]) => {
    eachIndex(kernel, (tap) => {
      const at = place.map((p, side) => p * stride[side]! + tap[side]! * dilation[side]! - padding[side]![0]);
      if (at.some((p, side) => p < 0 || p >= fine[side + 1]!)) return;
      for (let c = 0; c < coarse.at(-1)!; c++) {
        const group = Math.floor(c / ofCoarse);
        for (let f = 0; f < ofFine; f++) {
          const channel = group * ofFine + f;
          const w = makes === 'coarse' ? [c, ...tap, f] : [channel, ...tap, c % ofCoarse];
          visit(offset(fine, [n!, ...at, channel]), offset(weight, w), offset(coarse, [n!, ...place, c]));
        }
      }
    });
  });
}
