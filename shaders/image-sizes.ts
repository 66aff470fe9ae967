// Sizes of an image op as [depth, height, width]: a picture is a volume of depth 1, so that both ranks are one kernel.
import { type Float, u32 } from './wgsl.js';

export type Triple = readonly [number, number, number];

/** One op on images, channels last; what a kernel of both ranks needs to know. */
export interface ImageSizes {
  readonly batch: number;
  readonly input: Triple;
  readonly output: Triple;
  readonly channels: number;
}

export const product = (xs: readonly number[]): number => xs.reduce((a, b) => a * b, 1);

/** How the channels of a pixel lie: in vectors of four where they come in fours; V computes, S stores, `quads` a pixel. */
export const vectorsOf = ({ dtype, channels }: { readonly dtype: Float; readonly channels: number }) =>
  channels % 4 === 0
    ? { V: 'vec4f', S: `vec4<${dtype}>`, quads: channels / 4 }
    : { V: 'f32', S: dtype, quads: channels };

/** The names of a position's coordinates in a kernel, in the order of a triple. */
export const coordinates = ['plane', 'row', 'column'] as const;

/** `let` lines that take the index of a pixel apart, and then of an item, into `item` and the coordinates of a grid of `size`. */
export function coordinatesOf(index: string, size: Triple): string {
  const [depth, height, width] = size;
  return `let column = ${index} % ${u32(width)};
  let row = ${index} / ${u32(width)} % ${u32(height)};
  let plane = ${index} / ${u32(width * height)} % ${u32(depth)};
  let item = ${index} / ${u32(width * height * depth)};`;
}

/** Index of the pixel of `item` at a position on a grid of `size`. */
export const pixelIndex = ([depth, height, width]: Triple, plane: string, row: string, column: string): string =>
  `(((item * ${u32(depth)} + ${plane}) * ${u32(height)} + ${row}) * ${u32(width)} + ${column})`;
