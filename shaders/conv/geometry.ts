// What all convolution kernels share: the geometry of a convolution and the snippets their generators are made of.

import { product, type Triple } from '../image-sizes.js';
import { startsOf } from '../norm-sizes.js';
import { type Float, u32 } from '../wgsl.js';

export { product, type Triple };

/** Sizes of one convolution, as [depth, height, width]. Beyond both ends of the image lie zeros. */
export interface ConvGeometry {
  readonly batch: number;
  readonly input: Triple;
  readonly output: Triple;
  readonly inputs: number;
  readonly outputs: number;
  readonly kernel: Triple;
  /** Zeros before the image: element 0 of the output has tap 0 at −padding of the input. */
  readonly padding: Triple;
  readonly stride: 1 | 2;
}

/**
 * Order of the weights in memory. `outputs-first`: [O, tap, C], as parameters are stored. `outputs-last`: [tap, C, O], made by
 * `transposeWeightShader`; neighbouring threads then read neighbouring addresses. `gradient`: parameters read backwards,
 * [C, last tap − tap, O], which makes the kernel the input gradient of a stride-1 convolution.
 */
export type WeightOrder = 'outputs-first' | 'outputs-last' | 'gradient';

/** Zeros before the image along each axis that `conv` has: ⌊(k − 1)/2⌋; beyond its end are as many as the output needs. */
export const paddingOf = (kernel: Triple): Triple => [
  Math.floor((kernel[0] - 1) / 2),
  Math.floor((kernel[1] - 1) / 2),
  Math.floor((kernel[2] - 1) / 2),
];

/** Bindings of one kernel, numbered as they come. */
export function bindings(first = 0): (access: 'read' | 'read_write', name: string, type: string) => string {
  let slot = first;
  return (access, name, type) => `@group(0) @binding(${slot++}) var<storage, ${access}> ${name}: array<${type}>;`;
}

export const lines = (parts: readonly string[]): string => parts.join('\n');
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** The next multiple of `step`. */
export const upTo = (size: number, step: number): number => Math.ceil(size / step) * step;

/** `vec4<f16>`, or `f16` for one element. */
export const vector = (dtype: Float, width: number): string => (width === 1 ? dtype : `vec${width}<${dtype}>`);
const elements = ['x', 'y', 'z', 'w'] as const;
export const element = (value: string, width: number, i: number): string =>
  width === 1 ? value : `${value}.${elements[i]}`;
export const float = (width: number): string => (width === 1 ? 'f32' : `vec${width}f`);

/** Vectors of 4 where the channels come in fours, else single numbers. */
export const widthOf = (channels: number): 1 | 4 => (channels % 4 === 0 ? 4 : 1);

/** Input pixels under a row of `pixels` output pixels. */
export const halo = (pixels: number, kernel: number, stride: number): number => (pixels - 1) * stride + kernel;

/** Tiles of rows × columns output pixels: over all planes, down and across a plane. */
export const tilesOf = (g: ConvGeometry, tile: { readonly rows: number; readonly columns: number }): Triple => [
  g.batch * g.output[0],
  Math.ceil(g.output[1] / tile.rows),
  Math.ceil(g.output[2] / tile.columns),
];

/** The partial sums of a fused launch: one part a tile of pixels. */
export function tileParts(g: ConvGeometry, tile: { readonly rows: number; readonly columns: number }): Parts {
  const [planes, tilesY, tilesX] = tilesOf(g, tile);
  const pixels = (size: number, per: number, at: string): string =>
    size % per ? `min(${u32(per)}, ${u32(size)} - ${at} * ${u32(per)})` : u32(per);
  const rows = pixels(g.output[1], tile.rows, `(part / ${u32(tilesX)} % ${u32(tilesY)})`);
  const columns = pixels(g.output[2], tile.columns, `(part % ${u32(tilesX)})`);
  // The tiles of a plane are its own; where all pixels are one row, each tile is.
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
/** The same in 3-D. */
export const solidGeometry: ConvGeometry = { ...squareGeometry(8, 8, 3), ...solid };
/** And with a kernel that halves the size. */
export const evenGeometry: ConvGeometry = {
  ...squareGeometry(8, 16, 2, 2),
  input: [4, 6, 7],
  output: [2, 3, 4],
  kernel: [2, 2, 2],
  padding: [0, 0, 0],
};
/** And a 1×1 convolution, whose pixels are one row. */
export const rowGeometry: ConvGeometry = { ...squareGeometry(8, 20, 1), input: [1, 1, 99], output: [1, 1, 99] };

/** Partial sums of one launch: how many parts, and the pixels of part `part` as a WGSL expression of that u32. */
export interface Parts {
  readonly count: number;
  readonly pixelsOf: string;
  /** Each `pixels` pixels of the tensor, one after another, have so many `parts` of their own. */
  readonly run: { readonly pixels: number; readonly parts: number };
}

/** The first part of each group of so many pixels, and the number of all parts; undefined where a part lies in two groups. */
export function partStarts({ count, run }: Parts, groups: readonly number[]): number[] | undefined {
  const inner = startsOf(groups).slice(0, -1);
  if (inner.some((pixel) => pixel % run.pixels)) return undefined;
  return [...inner.map((pixel) => (pixel / run.pixels) * run.parts), count];
}
