// What all convolution kernels share: the geometry of a convolution and the snippets their generators are made of.

import { product, type Triple } from '../image-sizes.js';
import { startsOf } from '../norm-sizes.js';
import { type Float, u32 } from '../wgsl.js';

export { product, type Triple };

/** Sizes of one convolution; triples are [depth, height, width]. Zeros pad the image at both ends. */
export interface ConvGeometry {
  readonly batch: number;
  readonly input: Triple;
  readonly output: Triple;
  readonly inputs: number;
  readonly outputs: number;
  readonly kernel: Triple;
  /** Zeros before the image: for output 0, tap 0 lies at input −padding. */
  readonly padding: Triple;
  readonly stride: 1 | 2;
}

/**
 * Order of the weights in memory. `outputs-first`: [O, tap, C], as parameters are stored. `gradient`: parameters read backwards,
 * [C, last tap − tap, O], which makes the kernel the input gradient of a stride-1 convolution.
 */
export type WeightOrder = 'outputs-first' | 'gradient';

/** Zeros that `conv` puts before the image along each axis: ⌊(k − 1)/2⌋. After it come as many as the output needs. */
export const paddingOf = (kernel: Triple): Triple => [
  Math.floor((kernel[0] - 1) / 2),
  Math.floor((kernel[1] - 1) / 2),
  Math.floor((kernel[2] - 1) / 2),
];

/** Declares the bindings of one kernel, numbered in order from `first`. */
export function bindings(first = 0): (access: 'read' | 'read_write', name: string, type: string) => string {
  let index = first;
  return (access, name, type) => `@group(0) @binding(${index++}) var<storage, ${access}> ${name}: array<${type}>;`;
}

export const lines = (texts: readonly string[]): string => texts.join('\n');
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** `size` rounded up to a multiple of `multiple`. */
export const upTo = (size: number, multiple: number): number => Math.ceil(size / multiple) * multiple;

/** `vec4<f16>`, or `f16` for one element. */
export const vector = (dtype: Float, width: number): string => (width === 1 ? dtype : `vec${width}<${dtype}>`);
const elements = ['x', 'y', 'z', 'w'] as const;
export const element = (value: string, width: number, i: number): string =>
  width === 1 ? value : `${value}.${elements[i]}`;
export const float = (width: number): string => (width === 1 ? 'f32' : `vec${width}f`);

/** Elements of a vector of channels: 4 where the count is a multiple of 4, else 1. */
export const widthOf = (channels: number): 1 | 4 => (channels % 4 === 0 ? 4 : 1);

/** Input pixels under a row of `pixels` output pixels. */
export const halo = (pixels: number, kernel: number, stride: number): number => (pixels - 1) * stride + kernel;

/** Tiles of rows × columns output pixels: over all planes, down and across a plane. */
export const tilesOf = (g: ConvGeometry, tile: { readonly rows: number; readonly columns: number }): Triple => [
  g.batch * g.output[0],
  Math.ceil(g.output[1] / tile.rows),
  Math.ceil(g.output[2] / tile.columns),
];

/** Whether the sides of an image are multiples of 7, and tiles of a power of two do not cut them evenly. */
export const inSevens = ({ output: [, height, width] }: ConvGeometry): boolean =>
  height % 7 === 0 && width % 7 === 0 && (height % 16 !== 0 || width % 16 !== 0);

/** The partial sums of a fused launch: one part for each tile of pixels. */
export function tileParts(g: ConvGeometry, tile: { readonly rows: number; readonly columns: number }): Parts {
  const [planes, tilesY, tilesX] = tilesOf(g, tile);
  const pixels = (size: number, per: number, at: string): string =>
    size % per ? `min(${u32(per)}, ${u32(size)} - ${at} * ${u32(per)})` : u32(per);
  const rows = pixels(g.output[1], tile.rows, `(part / ${u32(tilesX)} % ${u32(tilesY)})`);
  const columns = pixels(g.output[2], tile.columns, `(part % ${u32(tilesX)})`);
  // Tiles never cross planes, so each plane has its own parts. Where all pixels form one row, each tile is a run.
  const run =
    planes === 1 && g.output[1] === 1
      ? { pixels: tile.columns, parts: 1 }
      : { pixels: g.output[1] * g.output[2], parts: tilesY * tilesX };
  return { count: planes * tilesY * tilesX, pixelsOf: `(${rows} * ${columns})`, run };
}

/** The sizes of a convolution of square images, for kernels' `variants`. */
export function squareGeometry(inputs: number, outputs: number, k: number, stride: 1 | 2 = 1, size = 13): ConvGeometry {
  const [output, kernel] = [Math.ceil(size / stride), [1, k, k] as const];
  const sizes = { input: [1, size, size], output: [1, output, output], kernel, padding: paddingOf(kernel) } as const;
  return { batch: 2, ...sizes, inputs, outputs, stride };
}
const solid = { input: [4, 6, 7], output: [4, 6, 7], kernel: [3, 3, 3], padding: [1, 1, 1] } as const;
/** The sizes of a 3-D convolution. */
export const solidGeometry: ConvGeometry = { ...squareGeometry(8, 8, 3), ...solid };
/** The sizes of a 3-D convolution whose kernel halves the image. */
export const evenGeometry: ConvGeometry = {
  ...squareGeometry(8, 16, 2, 2),
  input: [4, 6, 7],
  output: [2, 3, 4],
  kernel: [2, 2, 2],
  padding: [0, 0, 0],
};
/** The sizes of a 1×1 convolution, whose pixels form one row. */
export const rowGeometry: ConvGeometry = { ...squareGeometry(8, 20, 1), input: [1, 1, 99], output: [1, 1, 99] };

/** The partial sums of one launch: how many parts, and how many pixels part `part` has, as a WGSL expression of that u32. */
export interface Parts {
  readonly count: number;
  readonly pixelsOf: string;
  /** Every run of `pixels` consecutive pixels of the tensor has `parts` parts to itself. */
  readonly run: { readonly pixels: number; readonly parts: number };
}

/** The first part of each group (`groups`: pixels of each), then the number of parts; undefined where a part spans two groups. */
export function partStarts({ count, run }: Parts, groups: readonly number[]): number[] | undefined {
  const inner = startsOf(groups).slice(0, -1);
  if (inner.some((pixel) => pixel % run.pixels)) return undefined;
  return [...inner.map((pixel) => (pixel / run.pixels) * run.parts), count];
}
