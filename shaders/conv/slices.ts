// What the staged weight gradients, tiled and matrix, have in common: a workgroup takes a block of output × input channels of one
// kernel depth, and walks its slice of the tiles of output pixels.

import type { Float } from '../wgsl.js';
import { u32, wgsl } from '../wgsl.js';
import { ridingAlong } from './epilogue.js';
import type { Activation } from './fusion.js';
import { type bindings, type ConvGeometry, product, type Triple, tilesOf, vector, widthOf } from './geometry.js';
import { block, folded } from './staging.js';

/** How channels and pixels are cut. */
export interface SlicedTile {
  /** Channels of a workgroup. */
  readonly outputs: number;
  readonly inputs: number;
  /** Output pixels staged at a time. */
  readonly rows: number;
  readonly columns: number;
  /** Slices of the tiles of all planes. */
  readonly slices: number;
}

/** Workgroups of one slice. */
export const blocksOf = (g: ConvGeometry, tile: Omit<SlicedTile, 'slices'>): number =>
  g.kernel[0] * Math.ceil(g.inputs / tile.inputs) * Math.ceil(g.outputs / tile.outputs);

/** The grid of a launch. */
export const slicedGrid = (g: ConvGeometry, tile: SlicedTile): Triple => folded(blocksOf(g, tile) * tile.slices);

/** What such a kernel binds; V is the type of a vector of dWeight. */
export const slicedOperands = (
  binding: ReturnType<typeof bindings>,
  g: ConvGeometry,
  { dtype, V, bias, onLoad }: { dtype: Float; V: string; bias: boolean; onLoad: Activation | undefined },
): string[] => [
  binding('read', 'x', vector(dtype, widthOf(g.inputs))),
  binding('read', 'dy', vector(dtype, widthOf(g.outputs))),
  binding('read_write', 'dWeight', V),
  ...(bias ? [binding('read_write', 'dBias', 'f32')] : []),
  ...ridingAlong(binding, { onLoad }, { dtype, loaded: widthOf(g.inputs), stored: 1 }),
];

/** Defines `block`, the index of a workgroup; workgroups beyond the last block return. */
export const ownBlock = (g: ConvGeometry, tile: SlicedTile): string => wgsl`  let block = ${block};
  if (block >= ${u32(blocksOf(g, tile) * tile.slices)}) { return; }`;

/** Takes `block` apart: the first channels `o0` and `c0`, `inputBlock`, kernel depth `kz` and `slice`. */
export function blockIndices(g: ConvGeometry, tile: SlicedTile): string {
  const [outputBlocks, inputBlocks] = [Math.ceil(g.outputs / tile.outputs), Math.ceil(g.inputs / tile.inputs)];
  return wgsl`  let o0 = i32(block % ${u32(outputBlocks)}) * ${tile.outputs};
  let inputBlock = i32(block / ${u32(outputBlocks)} % ${u32(inputBlocks)});
  let kz = i32(block / ${u32(outputBlocks * inputBlocks)} % ${u32(g.kernel[0])});
  let slice = i32(block / ${u32(blocksOf(g, tile))});
  let c0 = inputBlock * ${tile.inputs};`;
}

/**
 * Runs `body` for each tile of the slice. The tile's output pixels start at (`tileX`, `tileY`) of `plane`, its input pixels at
 * (`iz`, `iy0`, `ix0`) of `image`.
 */
export function eachTile(g: ConvGeometry, tile: SlicedTile, body: string): string {
  const tiles = product(tilesOf(g, tile));
  const [, tilesY, tilesX] = tilesOf(g, tile);
  const sliceTiles = Math.ceil(tiles / tile.slices);
  const [padDepth, padHeight, padWidth] = g.padding;
  const [outDepth] = g.output;
  return wgsl`  for (var t = slice * ${sliceTiles}; t < min((slice + 1) * ${sliceTiles}, ${tiles}); t++) {
    let tileX = t % ${tilesX} * ${tile.columns};
    let tileY = t / ${tilesX} % ${tilesY} * ${tile.rows};
    let plane = t / ${tilesX * tilesY};
    let image = plane / ${outDepth};
    let iz = plane % ${outDepth} * ${g.stride} + kz - ${padDepth};
    let iy0 = tileY * ${g.stride} - ${padHeight};
    let ix0 = tileX * ${g.stride} - ${padWidth};
    workgroupBarrier(); // the tile before is used up
${body}
  }`;
}

/** The condition that (`oy`, `ox`) and channel `o` of dy exist. */
export function insideGradient(g: ConvGeometry, tile: SlicedTile): string {
  const [, height, width] = g.output;
  const conditions = [
    ...(height % tile.rows ? [`oy < ${height}`] : []),
    ...(width % tile.columns ? [`ox < ${width}`] : []),
    ...(g.outputs % tile.outputs ? [`o < ${g.outputs}`] : []),
  ];
  return conditions.join(' && ') || 'true';
}

/** Most bytes that the partial sums of a weight gradient may take. */
const mostPartialBytes = 2 ** 26;

/** Slices of a weight gradient: about `workgroups` in all, with about 512 pixels or more in each slice. */
export function slicesOf(g: ConvGeometry, tile: Omit<SlicedTile, 'slices'>, workgroups = 512): number {
  const tiles = product(tilesOf(g, tile));
  const most = Math.min(
    tiles,
    Math.ceil((g.batch * product(g.output)) / 512),
    Math.floor(mostPartialBytes / (4 * product(g.kernel) * g.inputs * g.outputs)),
  );
  const wanted = Math.min(Math.max(1, most), Math.ceil(workgroups / blocksOf(g, tile)));
  return Math.ceil(tiles / Math.ceil(tiles / wanted));
}
