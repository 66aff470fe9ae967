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
  evenGeometry,
  halo,
  inSevens,
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
  widthOf,
} from './geometry.js';
import { cyclesOf, diverse } from './matrix-cost.js';
import { patchOfX, stagePatch, stageWeights } from './matrix-staging.js';
import {
  knownUnits,
  laneCount,
  type MatrixUnit,
  type MatrixWords,
  matrixWords,
  rowOf,
  subgroupSize,
  sumRoom,
  sumRow,
  vectorType,
  vectorWidth,
} from './matrix-unit.js';
import { block, folded, fourChannels, operands, type WorkgroupLimits } from './staging.js';

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

/** Vectors from pixel to pixel of the staged x, and from output channel to output channel of the staged weights. */
const xRow = (unit: MatrixUnit, tile: MatrixConvTile): number => rowOf(unit.component, tile.chunk);
const weightRow = (g: ConvGeometry, unit: MatrixUnit, tile: MatrixConvTile): number =>
  rowOf(unit.component, g.kernel[1] * g.kernel[2] * tile.chunk);

/** Vectors of 16 bytes in workgroup memory: of x and the weights in the units' type, of the sums in f32. */
function roomOf(g: ConvGeometry, unit: MatrixUnit, tile: MatrixConvTile): { x: number; weights: number; sums: number } {
  const patch = halo(tile.rows, g.kernel[1], g.stride) * halo(tile.columns, g.kernel[2], g.stride);
  return {
    x: patch * xRow(unit, tile),
    weights: tile.outputs * weightRow(g, unit, tile),
    sums: Math.max(subgroupsOf(tile) * sumRoom(unit), threadsOf(unit, tile)),
  };
}

/** Bytes of workgroup memory that a workgroup takes. */
export function convMatrixStorage(g: ConvGeometry, unit: MatrixUnit, tile: MatrixConvTile): number {
  const { x, weights, sums } = roomOf(g, unit, tile);
  return 16 * (x + weights + sums);
}

/** Derived values that the functions of this generator share. */
interface Plan {
  readonly g: ConvGeometry;
  readonly unit: MatrixUnit;
  readonly tile: MatrixConvTile;
  readonly words: MatrixWords;
  readonly threads: number;
  readonly patchColumns: number;
  /** A subgroup's strips of M pixels and blocks of N channels; the number of strips across a tile. */
  readonly strips: readonly number[];
  readonly blocks: readonly number[];
  readonly rowStrips: number;
  /** Whether the last block of output channels is not full. */
  readonly ragged: boolean;
}

function planOf(g: ConvGeometry, unit: MatrixUnit, tile: MatrixConvTile, f16: boolean): Plan {
  return {
    ...{ g, unit, tile },
    words: matrixWords(unit, {
      left: { buffer: 'staged_x', stride: xRow(unit, tile) * g.stride },
      right: { buffer: 'staged_weights', stride: weightRow(g, unit, tile), columnMajor: true },
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

/** All products of one chunk of input channels. */
function multiply({ g, unit, tile, words, patchColumns, strips, blocks, rowStrips }: Plan): string {
  const { M, N, K } = unit;
  const [, kernelHeight, kernelWidth] = g.kernel;
  const [row, width] = [weightRow(g, unit, tile), vectorWidth(unit.component)];
  const stripAt = (s: number): string =>
    `(((firstStrip + ${s}) / ${rowStrips} * ${g.stride} + ky) * ${patchColumns} + (firstStrip + ${s}) % ${rowStrips} * ${M * g.stride} + kx) * ${xRow(unit, tile)}`;
  return wgsl`
      for (var ky = 0; ky < ${kernelHeight}; ky++) {
        for (var kx = 0; kx < ${kernelWidth}; kx++) {
${lines(strips.map((s) => `          let pixels${s} = ${stripAt(s)};`))}
          let taps = firstBlock * ${N * row} + (ky * ${kernelWidth} + kx) * ${tile.chunk / width};
${lines(
  range(tile.chunk / K).flatMap((k) => [
    ...strips.map((s) => `          let a${k}_${s} = ${words.left(`pixels${s} + ${(k * K) / width}`)};`),
    ...blocks.map((b) => `          let b${k}_${b} = ${words.right(`taps + ${b * N * row + (k * K) / width}`)};`),
    ...strips.flatMap((s) =>
      blocks.map((b) => `          ${sum(s, b)} = ${words.multiply(`a${k}_${s}`, `b${k}_${b}`, sum(s, b))};`),
    ),
  ]),
)}
        }
      }`;
}

/** First channel of vector q of a thread: one vector in each block of the subgroup that it finishes. */
const channelOf = ({ unit }: Plan, q: number): string => `(ownChannel + ${q * unit.N})`;

/**
 * The sums, for the epilogue. They go through workgroup memory, one matrix of each subgroup at a time, and stay in registers from
 * then on: `ownLanes` threads finish the matrices of a subgroup, and a thread has a vector of 4 channels of each block at pixels
 * that are `pixelLanes` apart. All vectors are finished together.
 */
function resultsOf(plan: Plan, vectors: Vectors): Results {
  const { g, unit, tile, words, strips, blocks, rowStrips, ragged } = plan;
  const { M, N, lanes } = unit;
  const [, outHeight, outWidth] = g.output;
  const { rows, columns, down, across } = tile;
  const fours = N / 4;
  const pixelLanes = lanes / fours;
  const turns = range(Math.ceil(M / pixelLanes));
  const inside = (q: number): string =>
    [
      ...(M % pixelLanes ? [`r < ${M}`] : []),
      ...(outHeight % rows ? [`ty < ${outHeight}`] : []),
      ...(outWidth % columns ? [`tx < ${outWidth}`] : []),
      ...(ragged ? [`${channelOf(plan, q)} < ${g.outputs}`] : []),
    ].join(' && ') || 'true';
  type Body = Parameters<Results['each']>[1];
  const value = (s: number, q: number, turn: number): string => `value${s}_${q}_${turn}`;
  let kept = false;
  const fetch = (s: number, q: number): string => wgsl`
  workgroupBarrier();
  ${active(plan, words.store(`subgroup * ${sumRoom(unit)}`, sum(s, q)))}
  workgroupBarrier();
${lines(turns.map((turn) => `  let ${value(s, q, turn)} = sums[owner * ${sumRoom(unit)} + min(pixelLane + ${turn * pixelLanes}, ${M - 1}) * ${sumRow(unit)} + channelLane] + start${q};`))}`;
  const finish = (s: number, q: number, turn: number, body: Body): string => wgsl`
  {
    let r = pixelLane + ${turn * pixelLanes};
    let strip = ownStrip + ${s};
    let ty = tileY + strip / ${rowStrips};
    let tx = tileX + strip % ${rowStrips} * ${M} + r;
    let o = ${channelOf(plan, q)};
    if (${inside(q)}) {
      let at = ((plane * ${outHeight} + ty) * ${outWidth} + tx) * ${g.outputs} + o;
      ${body({ q, value: value(s, q, turn), at: 'at', channel: 'o' })}
    }
  }`;
  return {
    ...vectors,
    parts: tileParts(g, tile),
    sets: [[...blocks]],
    each(_, body) {
      const first = !kept;
      kept = true;
      return strips.flatMap((s) =>
        blocks.flatMap((q) => [...(first ? [fetch(s, q)] : []), ...turns.map((turn) => finish(s, q, turn, body))]),
      );
    },
    // First the threads of a subgroup, then the subgroups that have the same channels.
    addUp: (value, total) => wgsl`
  workgroupBarrier();
  sums[local] = ${value};
  workgroupBarrier();
  var ${total} = vec4f(0.0);
  for (var t = 0; t < ${pixelLanes}; t++) { ${total} += sums[owner * ${lanes} + t * ${fours} + channelLane]; }
#if ${down > 1}
  workgroupBarrier();
  if (pixelLane == 0) { sums[owner * ${fours} + channelLane] = ${total}; }
  workgroupBarrier();
  ${total} = vec4f(0.0);
  for (var t = 0; t < ${down}; t++) { ${total} += sums[(t * ${across} + owner % ${across}) * ${fours} + channelLane]; }
#endif`,
    writesPart: `owner < ${across} && pixelLane == 0`,
    addProduct: (sum, a, b) => `${sum} = fma(${a}, ${b}, ${sum});`,
  };
}

interface MatrixOptions extends KernelOptions {
  readonly unit: MatrixUnit;
  readonly tile: MatrixConvTile;
}

/** Neighbouring workgroups take the channel blocks of one tile of pixels. */
export function convMatrixShader(
  dtype: Float,
  g: ConvGeometry,
  { unit, tile, weights, bias, fusion = {}, parameters = dtype, name = 'conv_matrix' }: MatrixOptions,
): string {
  const { component } = unit;
  const plan = planOf(g, unit, tile, dtype === 'f16' || parameters === 'f16');
  const { words, threads, patchColumns, strips, blocks, ragged } = plan;
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
    ...operands(binding, g, {
      ...{ dtype, parameters, bias },
      weightWidth: widthOf(weights === 'gradient' ? outputs : inputs),
    }),
    ...ridingAlong(binding, fusion, { dtype, loaded: widthOf(inputs), stored: widthOf(outputs) }),
  ];
  const start = (q: number): string => (bias ? vectors.ofChannels('bias', 0, q) : 'vec4f(0.0)');
  return wgsl`${words.enable}
${lines(declared)}
var<workgroup> staged_x: array<${vectorType(component)}, ${room.x}>;
var<workgroup> staged_weights: array<${vectorType(component)}, ${room.weights}>;
var<workgroup> sums: array<vec4f, ${room.sums}>;
${words.functions}

@compute @workgroup_size(${threads}) ${words.attribute}
fn ${name}(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) index: u32${subgroupSize(unit)}) {
  let block = ${block};
  if (block >= ${u32(product(tilesOf(g, tile)) * outputBlocks(g, tile))}) { return; }
  let local = i32(index);
  let subgroup = local / ${laneCount(unit)};
  let firstStrip = subgroup / ${across} * ${strips.length};
  let firstBlock = subgroup % ${across} * ${blocks.length};
  let owner = local / ${unit.lanes};
  let ownStrip = owner / ${across} * ${strips.length};
  let channelLane = local % ${fours};
  let pixelLane = local % ${unit.lanes} / ${fours};
  let o0 = i32(block % ${u32(outputBlocks(g, tile))}) * ${tile.outputs};
  let ownChannel = o0 + owner % ${across} * ${blocks.length * unit.N} + channelLane * 4;
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
#if ${kernelDepth > 1}
    if (iz < 0 || iz >= ${g.input[0]}) { continue; }
#endif
    for (var c0 = 0; c0 < ${inputs}; c0 += ${chunk}) {
      workgroupBarrier(); // the chunk before is used up
${stagePatch(patchOfX(g), {
  rows: halo(rows, kernelHeight, stride),
  columns: patchColumns,
  ...{ channels: chunk, row: xRow(unit, tile), threads, component },
  onLoad: fusion.onLoad,
})}
${stageWeights(g, weights, { outputs: tile.outputs, channels: chunk, row: weightRow(g, unit, tile), threads, component })}
      workgroupBarrier();
      ${active(plan, multiply(plan))}
    }
  }
${lines(blocks.map((q) => `  let start${q} = ${start(q)};`))}

${lines(epilogue(fusion, resultsOf(plan, vectors)))}
}`;
}

/** Cycles of a launch by the cost model (cost.ts). */
export function convMatrixCost(g: ConvGeometry, unit: MatrixUnit, tile: MatrixConvTile): number {
  const { rows, columns, outputs, chunk } = tile;
  const [strips, blocks, subgroups] = [ownStrips(unit, tile), ownBlocks(unit, tile), subgroupsOf(tile)];
  const taps = g.kernel[1] * g.kernel[2];
  const patch = halo(rows, g.kernel[1], g.stride) * halo(columns, g.kernel[2], g.stride);
  const steps = (taps * chunk * subgroups) / unit.K;
  return cyclesOf(unit, {
    groups: product(tilesOf(g, tile)) * outputBlocks(g, tile),
    ...{ threads: threadsOf(unit, tile), storage: convMatrixStorage(g, unit, tile), sums: strips * blocks },
    rounds: g.kernel[0] * Math.ceil(g.inputs / chunk),
    products: steps * strips * blocks,
    loads: steps * (strips + blocks),
    ...{ activations: (patch * chunk) / 4, weights: (outputs * taps * chunk) / 4 },
    stores: subgroups * strips * blocks,
  });
}

/** Most sums of a thread, and matrices that it multiplies at one tap. Beyond them a compiler for AMD spills registers. */
const mostSums = 64;
const mostOperands = 16;

/** At most `count` tiles worth trying on a unit, the likely best first; no three of them have the same pixels and output channels. */
export function convMatrixCandidates(
  g: ConvGeometry,
  unit: MatrixUnit,
  limits: WorkgroupLimits,
  count = 6,
): MatrixConvTile[] {
  const { M, N, K, lanes } = unit;
  const flat = g.output[1] === 1;
  const sevens = inSevens(g) ? [7, 14] : [];
  const areas = flat
    ? [1, 2, 4, 8, 16].map((n) => [1, n * M] as const)
    : [2, 4, 8, 16, ...sevens].flatMap((rows) => [M, 2 * M].map((columns) => [rows, columns] as const));
  const found: { tile: MatrixConvTile; cost: number; kind: string; threads: number }[] = [];
  for (const [rows, columns] of areas)
    for (const outputs of new Set([1, 2, 4, 8].map((n) => Math.min(n * N, upTo(g.outputs, N)))))
      for (const chunk of [1, 2, 4].map((n) => n * K))
        for (const down of [1, 2, 4, 8, ...(sevens.length ? [7] : [])])
          for (const across of [1, 2, 4]) {
            const tile = { rows, columns, outputs, chunk, down, across };
            const [strips, blocks] = [ownStrips(unit, tile), ownBlocks(unit, tile)];
            if (!Number.isInteger(strips) || !Number.isInteger(blocks)) continue;
            if (chunk > K && chunk >= 2 * g.inputs) continue;
            if ((strips * blocks * M * N) / lanes > mostSums || ((strips + blocks) * chunk) / K > mostOperands)
              continue;
            const threads = threadsOf(unit, tile);
            if (threads > limits.threads || threads % (chunk / 4)) continue;
            if (convMatrixStorage(g, unit, tile) > limits.storage) continue;
            const cost = convMatrixCost(g, unit, tile);
            found.push({ tile, cost, threads, kind: `${rows} ${columns} ${outputs}` });
          }
  return diverse(found, count);
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const slope = 0.01;
  const grouped = { slope, dropout: 0, groups: [1, 1] };
  const masked = { slope, dropout: 0.5, masked: true };
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
              weights: 'outputs-first',
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
          ...[{ onLoad: grouped }, { gradient: grouped }, { onLoad: masked }, { gradient: masked }].map((fusion) =>
            convMatrixShader(dtype, g, { unit, tile, weights: 'gradient', bias: false, fusion }),
          ),
        ]),
      );
    }),
  );
}
