// Convolution on matrix units: forward, and input gradient of stride 1.
//
//   y[n,p,o] = bias[o] + Σ_{tap,c} x[n, p·stride + tap − padding, c] · weight[o,tap,c]
//
// An implicit matrix product: M pixels that are neighbours in a row × K input channels of one tap, times K input channels × N
// output channels. A workgroup stages a patch of x with its halo and the weights of all taps of one kernel depth, in the units'
// type; the pixels of a tap then lie in the staged patch as the rows of a matrix do, so nothing is gathered tap by tap. A
// subgroup keeps the sums of some strips of M pixels × blocks of N channels. All threads share what follows the product (bounds,
// bias, sums for a norm, an activation's derivative): for that the sums pass through workgroup memory, one matrix of each subgroup
// at a time. Weights are rounded to the units' type as they are staged, as mixed precision does everywhere.

import { type Float, u32, wgsl } from '../wgsl.js';
import { epilogue, type KernelOptions, type Results, ridingAlong, type Vectors } from './epilogue.js';
import {
  bindings,
  type ConvGeometry,
  element,
  evenGeometry,
  halo,
  lines,
  product,
  range,
  rowGeometry,
  solidGeometry,
  squareGeometry,
  type Triple,
  tileParts,
  tilesOf,
  upTo,
  type WeightOrder,
  widthOf,
} from './geometry.js';
import {
  componentBytes,
  knownUnits,
  laneCount,
  type MatrixUnit,
  type MatrixWords,
  matrixWords,
  rowPadding,
  subgroupSize,
} from './matrix-unit.js';
import {
  block,
  folded,
  fourChannels,
  loadFour,
  operands,
  stageInput,
  type WorkgroupLimits,
  weightAt,
} from './staging.js';

/** How one launch is cut into workgroups and subgroups. */
export interface MatrixConvTile {
  /** Output pixels of a workgroup (columns in M) and its output channels (in N). */
  readonly rows: number;
  readonly columns: number;
  readonly outputs: number;
  /** Input channels staged at a time, in K. */
  readonly chunk: number;
  /** Subgroups that share the strips of pixels, and the blocks of output channels. */
  readonly down: number;
  readonly across: number;
}

const outputBlocks = (g: ConvGeometry, tile: MatrixConvTile): number => Math.ceil(g.outputs / tile.outputs);
const subgroupsOf = (tile: MatrixConvTile): number => tile.down * tile.across;
const threadsOf = (unit: MatrixUnit, tile: MatrixConvTile): number => subgroupsOf(tile) * unit.lanes;
/** Sums of one subgroup: strips × blocks. */
const ownStrips = (unit: MatrixUnit, tile: MatrixConvTile): number => (tile.rows * tile.columns) / unit.M / tile.down;
const ownBlocks = (unit: MatrixUnit, tile: MatrixConvTile): number => tile.outputs / unit.N / tile.across;

/** The grid of a launch of `convMatrixShader`. */
export const convMatrixWorkgroups = (g: ConvGeometry, tile: MatrixConvTile): Triple =>
  folded(product(tilesOf(g, tile)) * outputBlocks(g, tile));

/** Elements in workgroup memory: of x and the weights in the units' type, of the sums in f32. */
function roomOf(g: ConvGeometry, unit: MatrixUnit, tile: MatrixConvTile): { x: number; weights: number; sums: number } {
  const gap = rowPadding(unit.component);
  const patch = halo(tile.rows, g.kernel[1], g.stride) * halo(tile.columns, g.kernel[2], g.stride);
  return {
    x: patch * (tile.chunk + gap),
    weights: g.kernel[1] * g.kernel[2] * tile.chunk * (tile.outputs + gap),
    sums: Math.max(subgroupsOf(tile) * unit.M * unit.N, 4 * threadsOf(unit, tile)),
  };
}

/** Bytes of workgroup memory that a workgroup takes. */
export function convMatrixStorage(g: ConvGeometry, unit: MatrixUnit, tile: MatrixConvTile): number {
  const { x, weights, sums } = roomOf(g, unit, tile);
  return componentBytes(unit.component) * (x + weights) + 4 * sums;
}

/** Derived values that the functions of this generator share. */
interface Plan {
  readonly g: ConvGeometry;
  readonly unit: MatrixUnit;
  readonly tile: MatrixConvTile;
  readonly words: MatrixWords;
  readonly threads: number;
  readonly patchColumns: number;
  /** Elements between rows in workgroup memory. */
  readonly gap: number;
  /** A subgroup's strips of M pixels and blocks of N channels; the number of strips across a tile. */
  readonly strips: readonly number[];
  readonly blocks: readonly number[];
  readonly rowStrips: number;
  /** Whether the last block of output channels is not full. */
  readonly ragged: boolean;
}

function planOf(g: ConvGeometry, unit: MatrixUnit, tile: MatrixConvTile, f16: boolean): Plan {
  const gap = rowPadding(unit.component);
  return {
    ...{ g, unit, tile, gap },
    words: matrixWords(unit, {
      left: { buffer: 'staged_x', stride: (tile.chunk + gap) * g.stride },
      right: { buffer: 'staged_weights', stride: tile.outputs + gap },
      scratch: 'sums',
      f16,
    }),
    threads: threadsOf(unit, tile),
    patchColumns: halo(tile.columns, g.kernel[2], g.stride),
    strips: range(ownStrips(unit, tile)),
    blocks: range(ownBlocks(unit, tile)),
    rowStrips: tile.columns / unit.M,
    ragged: g.outputs % tile.outputs !== 0,
  };
}

/** `body`, executed only by the subgroups that compute products. */
const active = ({ unit, tile }: Plan, body: string): string =>
  unit.pinned ? body : `if (subgroup < ${subgroupsOf(tile)}) { ${body} }`;
/** The sums of strip s and block b. */
const sum = (s: number, b: number): string => `sum${s}_${b}`;

function stageWeights({ g, unit, tile, threads, gap, ragged }: Plan, weights: MatrixWeightOrder): string {
  const { inputs, outputs } = g;
  const [, kernelHeight, kernelWidth] = g.kernel;
  const { chunk } = tile;
  const tileFours = tile.outputs / 4;
  const inside = [...(ragged ? [`o < ${outputs}`] : []), ...(inputs % chunk ? [`c < ${inputs}`] : [])];
  return wgsl`
    for (var i = local; i < ${kernelHeight * kernelWidth * chunk * tileFours}; i += ${threads}) {
      let lane = i % ${tileFours} * 4;
      let o = o0 + lane;
      let k = i / ${tileFours} % ${chunk};
      let c = c0 + k;
      let kx = i / ${tileFours * chunk} % ${kernelWidth};
      let ky = i / ${tileFours * chunk * kernelWidth};
      var value = vec4f(0.0);
      if (${inside.join(' && ') || 'true'}) {
        value = ${loadFour('weight', weightAt(g, weights), outputs, 'o')};
      }
      let at = ((ky * ${kernelWidth} + kx) * ${chunk} + k) * ${tile.outputs + gap} + lane;
${lines(range(4).map((e) => `      staged_weights[at + ${e}] = ${unit.component}(${element('value', 4, e)});`))}
    }`;
}

/** All products of one chunk of input channels. */
function multiply({ g, unit, tile, words, patchColumns, gap, strips, blocks, rowStrips }: Plan): string {
  const { M, N, K } = unit;
  const { chunk } = tile;
  const [, kernelHeight, kernelWidth] = g.kernel;
  const stripAt = (s: number): string =>
    `(((firstStrip + ${s}) / ${rowStrips} * ${g.stride} + ky) * ${patchColumns} + (firstStrip + ${s}) % ${rowStrips} * ${M * g.stride} + kx) * ${chunk + gap}`;
  return wgsl`
      for (var ky = 0; ky < ${kernelHeight}; ky++) {
        for (var kx = 0; kx < ${kernelWidth}; kx++) {
${lines(strips.map((s) => `          let pixels${s} = ${stripAt(s)};`))}
          let taps = (ky * ${kernelWidth} + kx) * ${chunk * (tile.outputs + gap)} + firstBlock * ${N};
${lines(
  range(chunk / K).flatMap((k) => [
    ...strips.map((s) => `          let a${k}_${s} = ${words.left(`pixels${s} + ${k * K}`)};`),
    ...blocks.map(
      (b) => `          let b${k}_${b} = ${words.right(`taps + ${k * K * (tile.outputs + gap) + b * N}`)};`,
    ),
    ...strips.flatMap((s) =>
      blocks.map((b) => `          ${sum(s, b)} = ${words.multiply(`a${k}_${s}`, `b${k}_${b}`, sum(s, b))};`),
    ),
  ]),
)}
        }
      }`;
}

const channelOf = ({ unit }: Plan, q: number): string => `(o0 + ${q * unit.N} + channelLane * 4)`;
/** A thread's vectors of channels, one in each block of every subgroup: block `b` of subgroup `x` across. */
const vectorsOf = ({ tile, blocks }: Plan): { x: number; b: number; q: number }[] =>
  range(tile.across).flatMap((x) => blocks.map((b) => ({ x, b, q: x * blocks.length + b })));

/**
 * The sums, for the epilogue. They go through workgroup memory, one matrix of each subgroup at a time, so all vectors are finished
 * together; a thread then has vectors of 4 channels of each block, and pixels that are `pixelLanes` apart.
 */
function resultsOf(plan: Plan, vectors: Vectors): Results {
  const { g, unit, tile, words, threads, strips, blocks, rowStrips, ragged } = plan;
  const { M, N } = unit;
  const [, outHeight, outWidth] = g.output;
  const { rows, columns, down, across } = tile;
  const fours = N / 4;
  const pixelLanes = threads / fours;
  const inside = (q: number): string =>
    [
      ...(outHeight % rows ? [`ty < ${outHeight}`] : []),
      ...(outWidth % columns ? [`tx < ${outWidth}`] : []),
      ...(ragged ? [`${channelOf(plan, q)} < ${g.outputs}`] : []),
    ].join(' && ') || 'true';
  type Body = Parameters<Results['each']>[1];
  const ofVector = (s: number, x: number, q: number, body: Body): string => wgsl`
  for (var r = pixelLane; r < ${down * M}; r += ${pixelLanes}) {
    let strip = r / ${M} * ${strips.length} + ${s};
    let ty = tileY + strip / ${rowStrips};
    let tx = tileX + strip % ${rowStrips} * ${M} + r % ${M};
    let o = ${channelOf(plan, q)};
    if (${inside(q)}) {
      let first = ((r / ${M}) * ${across} + ${x}) * ${M * N} + r % ${M} * ${N} + channelLane * 4;
      let value = vec4f(sums[first], sums[first + 1], sums[first + 2], sums[first + 3]) + start${q};
      let at = ((plane * ${outHeight} + ty) * ${outWidth} + tx) * ${g.outputs} + o;
      ${body({ q, value: 'value', at: 'at', channel: 'o' })}
    }
  }`;
  const ofMatrix = (s: number, own: number, body: Body): string => wgsl`
  workgroupBarrier();
  ${active(plan, words.store(`subgroup * ${M * N}`, sum(s, own)))}
  workgroupBarrier();
${lines(
  vectorsOf(plan)
    .filter(({ b }) => b === own)
    .map(({ x, q }) => ofVector(s, x, q, body)),
)}`;
  return {
    ...vectors,
    parts: tileParts(g, tile),
    sets: [vectorsOf(plan).map(({ q }) => q)],
    each: (_, body) => strips.flatMap((s) => blocks.map((own) => ofMatrix(s, own, body))),
    addUp: (value, total) => wgsl`
  workgroupBarrier();
${lines(range(4).map((e) => `  sums[local * 4 + ${e}] = ${element(value, 4, e)};`))}
  workgroupBarrier();
  var ${total} = vec4f(0.0);
  for (var t = 0; t < ${pixelLanes}; t++) {
    let first = (t * ${fours} + channelLane) * 4;
    ${total} += vec4f(sums[first], sums[first + 1], sums[first + 2], sums[first + 3]);
  }`,
    writesPart: 'pixelLane == 0',
    addProduct: (sum, a, b) => `${sum} = fma(${a}, ${b}, ${sum});`,
  };
}

/** Orders of weights that need no reordering as they are staged. */
type MatrixWeightOrder = Exclude<WeightOrder, 'outputs-first'>;
interface MatrixOptions extends KernelOptions {
  readonly unit: MatrixUnit;
  readonly tile: MatrixConvTile;
  readonly weights: MatrixWeightOrder;
}

/** Neighbouring workgroups take the channel blocks of one tile of pixels. */
export function convMatrixShader(
  dtype: Float,
  g: ConvGeometry,
  { unit, tile, weights, bias, fusion = {}, parameters = dtype, name = 'conv_matrix' }: MatrixOptions,
): string {
  const { component } = unit;
  const plan = planOf(g, unit, tile, dtype === 'f16' || parameters === 'f16');
  const { words, threads, patchColumns, gap, strips, blocks, ragged } = plan;
  const { inputs, outputs, stride } = g;
  const [outDepth] = g.output;
  const [kernelDepth, kernelHeight] = g.kernel;
  const [padDepth, padHeight, padWidth] = g.padding;
  const [, tilesY, tilesX] = tilesOf(g, tile);
  const { rows, columns, chunk, across } = tile;
  const room = roomOf(g, unit, tile);
  const fours = unit.N / 4;
  const vectors = fourChannels(g, { dtype, ragged, channelOf: (q) => channelOf(plan, q) });
  const binding = bindings();
  const declared = [
    ...operands(binding, g, { dtype, parameters, bias }),
    ...ridingAlong(binding, fusion, { dtype, loaded: widthOf(inputs), stored: widthOf(outputs) }),
  ];
  const start = (q: number): string => (bias ? vectors.ofChannels('bias', 0, q) : 'vec4f(0.0)');
  return wgsl`${words.enable}
${lines(declared)}
var<workgroup> staged_x: array<${component}, ${room.x}>;
var<workgroup> staged_weights: array<${component}, ${room.weights}>;
var<workgroup> sums: array<f32, ${room.sums}>;
${words.functions}

@compute @workgroup_size(${threads}) ${words.attribute}
fn ${name}(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) index: u32${subgroupSize(unit)}) {
  let block = ${block};
  if (block >= ${u32(product(tilesOf(g, tile)) * outputBlocks(g, tile))}) { return; }
  let local = i32(index);
  let subgroup = local / ${laneCount(unit)};
  let firstStrip = subgroup / ${across} * ${strips.length};
  let firstBlock = subgroup % ${across} * ${blocks.length};
  let channelLane = local % ${fours};
  let pixelLane = local / ${fours};
  let o0 = i32(block % ${u32(outputBlocks(g, tile))}) * ${tile.outputs};
  let part = block / ${u32(outputBlocks(g, tile))};
  let tileX = i32(part % ${u32(tilesX)}) * ${columns};
  let tileY = i32(part / ${u32(tilesX)} % ${u32(tilesY)}) * ${rows};
  let plane = i32(part / ${u32(tilesX * tilesY)});
  let image = plane / ${outDepth};
  let oz = plane % ${outDepth};
  let iy0 = tileY * ${stride} - ${padHeight};
  let ix0 = tileX * ${stride} - ${padWidth};
${lines(strips.flatMap((s) => blocks.map((b) => `  var ${sum(s, b)}: ${words.sum};`)))}
  for (var kz = 0; kz < ${kernelDepth}; kz++) {
    let iz = oz * ${stride} + kz - ${padDepth};
    for (var c0 = 0; c0 < ${inputs}; c0 += ${chunk}) {
      workgroupBarrier(); // the chunk before is used up
${stageInput(g, {
  rows: halo(rows, kernelHeight, stride),
  columns: patchColumns,
  channels: chunk,
  threads,
  width: 1,
  type: component,
  onLoad: fusion.onLoad,
  at: (c) => `(row * ${patchColumns} + column) * ${chunk + gap} + ${c}`,
})}
${stageWeights(plan, weights)}
      workgroupBarrier();
      ${active(plan, multiply(plan))}
    }
  }
${lines(vectorsOf(plan).map(({ q }) => `  let start${q} = ${start(q)};`))}

${lines(epilogue(fusion, resultsOf(plan, vectors)))}
}`;
}

/**
 * Tiles worth trying on a unit, the likely best first. The cost model: products of whole tiles, times what loading operands from
 * workgroup memory and staging them add to each, over how busy a GPU is kept (full at 1024 subgroups, 12 on one processor).
 */
export function convMatrixCandidates(g: ConvGeometry, unit: MatrixUnit, limits: WorkgroupLimits): MatrixConvTile[] {
  const { M, N, K, lanes } = unit;
  const flat = g.output[1] === 1;
  const areas = flat
    ? [1, 2, 4, 8].map((n) => [1, n * M] as const)
    : [2, 4, 8, 16].flatMap((rows) => [M, 2 * M].map((columns) => [rows, columns] as const));
  const found: { tile: MatrixConvTile; cost: number }[] = [];
  for (const [rows, columns] of areas)
    for (const outputs of new Set([1, 2, 4].map((n) => Math.min(n * N, upTo(g.outputs, N)))))
      for (const chunk of new Set([K, 2 * K, 4 * K].map((n) => Math.min(n, upTo(g.inputs, K)))))
        for (const down of [1, 2, 4, 8])
          for (const across of [1, 2]) {
            const tile = { rows, columns, outputs, chunk, down, across };
            const [strips, blocks] = [ownStrips(unit, tile), ownBlocks(unit, tile)];
            if (!Number.isInteger(strips) || !Number.isInteger(blocks)) continue;
            if ((strips * blocks * M * N) / lanes > 64) continue;
            const threads = threadsOf(unit, tile);
            const storage = convMatrixStorage(g, unit, tile);
            if (threads > limits.threads || storage > limits.storage) continue;
            const { x, weights } = roomOf(g, unit, tile);
            const turn = (product(g.kernel) / g.kernel[0]) * (chunk / K) * strips * blocks;
            const perProduct = 1 + (strips + blocks) / (strips * blocks) + (x + weights) / threads / turn;
            const groups = product(tilesOf(g, tile)) * outputBlocks(g, tile);
            const computed = groups * rows * columns * outputs * upTo(g.inputs, chunk);
            const resident = subgroupsOf(tile) * Math.floor(98304 / storage);
            const busy = Math.min(1, (groups * subgroupsOf(tile)) / 1024) * Math.min(1, resident / 12);
            found.push({ tile, cost: (computed * perProduct) / busy });
          }
  found.sort((a, b) => a.cost - b.cost);
  return found.slice(0, 6).map(({ tile }) => tile);
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const slope = 0.01;
  const grouped = { slope, dropout: 0, groups: [1, 1] };
  return knownUnits.flatMap((unit) =>
    [
      squareGeometry(16, 16, 3),
      squareGeometry(3, 5, 3),
      squareGeometry(32, 20, 3, 2),
      solidGeometry,
      rowGeometry,
      evenGeometry,
    ].flatMap((g) => {
      const tiles = convMatrixCandidates(g, unit, { storage: 16384, threads: 256 });
      return (unit.component === 'f32' ? (['f32', 'f16'] as const) : (['f16'] as const)).flatMap((dtype) =>
        tiles.slice(0, 2).flatMap((tile) => [
          convMatrixShader(dtype, g, { unit, tile, weights: 'gradient', bias: false, parameters: 'f32' }),
          ...[0, 0.5].flatMap((dropout) => [
            convMatrixShader(dtype, g, {
              unit,
              tile,
              weights: 'outputs-last',
              bias: dropout === 0,
              fusion: { onLoad: { slope, dropout }, statistics: true },
            }),
            convMatrixShader(dtype, g, {
              unit,
              tile,
              weights: 'gradient',
              bias: false,
              fusion: { gradient: { slope, dropout }, base: dropout === 0 },
            }),
          ]),
          ...[{ onLoad: grouped }, { gradient: grouped }].map((fusion) =>
            convMatrixShader(dtype, g, { unit, tile, weights: 'gradient', bias: false, fusion }),
          ),
        ]),
      );
    }),
  );
}
