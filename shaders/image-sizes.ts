// Sizes of an image op as [depth, height, width]: a 2-D image is a volume of depth 1, so that one kernel serves both ranks.
import { type Float, u32 } from './wgsl.js';

export type Triple = readonly [number, number, number];

/** Sizes of an op on images, channels last, for a kernel of both ranks. */
export interface ImageSizes {
  readonly batch: number;
  readonly input: Triple;
  readonly output: Triple;
  readonly channels: number;
}

export const product = (xs: readonly number[]): number => xs.reduce((a, b) => a * b, 1);

/** Vectors of a pixel's channels, four wide where the count is a multiple of four: V computes, S stores; a pixel has `quads` of them. */
export const vectorsOf = ({ dtype, channels }: { readonly dtype: Float; readonly channels: number }) =>
  channels % 4 === 0
    ? { V: 'vec4f', S: `vec4<${dtype}>`, quads: channels / 4 }
    : { V: 'f32', S: dtype, quads: channels };

/** The names of a position's coordinates in a kernel, in the order of a triple. */
export const coordinates = ['plane', 'row', 'column'] as const;

/** `let` lines that take the index of a pixel apart into `item` and the coordinates in an image of `size`. */
export function coordinatesOf(index: string, size: Triple): string {
  const [depth, height, width] = size;
  return `let column = ${index} % ${u32(width)};
  let row = ${index} / ${u32(width)} % ${u32(height)};
  let plane = ${index} / ${u32(width * height)} % ${u32(depth)};
  let item = ${index} / ${u32(width * height * depth)};`;
}

/** Index of the pixel of `item` at a position in an image of `size`. */
export const pixelIndex = ([depth, height, width]: Triple, plane: string, row: string, column: string): string =>
  `(((item * ${u32(depth)} + ${plane}) * ${u32(height)} + ${row}) * ${u32(width)} + ${column})`;
