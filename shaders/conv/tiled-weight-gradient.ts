// Weight gradient for GPUs, first pass of split-K: separate workgroups sum each slice of the output pixels.
//
//   dWeight[slice,o,tap,c] = Σ_{n,p of the slice} dy[n,p,o] · x[n, p·stride + tap − padding, c]      dBias[slice,o] = Σ dy[n,p,o]
//
// A workgroup has a block of output × input channels and walks its slice tile by tile: dy and x with its halo are staged in
// workgroup memory, so both are read about once per block. A thread keeps all taps (or a row of them) of a few channels in
// registers; along a row of pixels the window of x slides, so 4 outputs × 1 input × 9 taps take 1 vec4 and 3 numbers from
// workgroup memory for 36 multiply-adds. The second pass is `sumSlicesShader` of slice-sums.ts.

import { enable, type Float, wgsl } from '../wgsl.js';
import { cheapest, cyclesOf, sliceCycles } from './cost.js';
import type { Activation } from './fusion.js';
import {
  bindings,
  type ConvGeometry,
  element,
  evenGeometry,
  float,
  halo,
  inSevens,
  lines,
  product,
  range,
  rowGeometry,
  solidGeometry,
  squareGeometry,
  type Triple,
  tilesOf,
  upTo,
  widthOf,
} from './geometry.js';
import {
  blockIndices,
  blocksOf,
  eachTile,
  insideGradient,
  ownBlock,
  type SlicedTile,
  slicedGrid,
  slicedOperands,
  slicesOf,
} from './slices.js';
import { loadFour, stageInput, stageVectors, type WorkgroupLimits } from './staging.js';

/** How the first pass is cut into workgroups and threads. Channels come in fours, inputs only where x has them in fours. */
export interface TiledWeightGradientTile extends SlicedTile {
  /** What a thread has: output channels (in fours), neighbouring input channels (4 only where x has them in fours). */
  readonly threadOutputs: number;
  readonly threadInputs: 1 | 4;
  /** True: a thread has all taps of one kernel depth; false: one row of them. */
  readonly allRows: boolean;
  /** Threads that share channels and taps: the rows of a tile are dealt out to them, their sums added up at the end. */
  readonly shares: number;
  /** Pixels of one turn of the inner loop; must divide `columns`. */
  readonly unroll: number;
}

const channelThreads = (g: ConvGeometry, tile: TiledWeightGradientTile): number =>
  (tile.inputs / tile.threadInputs) * (tile.outputs / tile.threadOutputs) * (tile.allRows ? 1 : g.kernel[1]);
const threadsOf = (g: ConvGeometry, tile: TiledWeightGradientTile): number => channelThreads(g, tile) * tile.shares;
const accumulatorsOf = (g: ConvGeometry, tile: TiledWeightGradientTile): number =>
  (tile.allRows ? g.kernel[1] : 1) * g.kernel[2] * tile.threadOutputs;
/** The grid of a launch of `weightGradientTiledShader`. */
export const weightGradientTiledWorkgroups = (g: ConvGeometry, tile: TiledWeightGradientTile): Triple =>
  slicedGrid(g, tile);

/** Vectors in `staged_x`, which also passes on the sums of threads that share, and in `staged_dy`, which does so for the bias. */
function roomOf(g: ConvGeometry, tile: TiledWeightGradientTile): { x: number; dy: number } {
  const patch = halo(tile.rows, g.kernel[1], g.stride) * halo(tile.columns, g.kernel[2], g.stride);
  const sums = tile.shares > 1 ? channelThreads(g, tile) * accumulatorsOf(g, tile) : 0;
  return {
    x: Math.max((patch * tile.inputs) / tile.threadInputs, sums),
    dy: Math.max((tile.rows * tile.columns * tile.outputs) / 4, threadsOf(g, tile)),
  };
}

/** Bytes of workgroup memory that a workgroup takes. */
export function weightGradientTiledStorage(g: ConvGeometry, tile: TiledWeightGradientTile): number {
  const { x, dy } = roomOf(g, tile);
  return 4 * tile.threadInputs * x + 16 * dy;
}

/** Derived values that the functions of this generator share. */
interface Plan {
  readonly g: ConvGeometry;
  readonly tile: TiledWeightGradientTile;
  readonly threads: number;
  /** Threads of one share. */
  readonly perShare: number;
  readonly patchColumns: number;
  /** Threads side by side over the input and output channels; vectors of output channels of a workgroup. */
  readonly inputLanes: number;
  readonly outputLanes: number;
  readonly tileFours: number;
  /** Rows of the kernel that a thread has. */
  readonly ownRows: readonly number[];
  /** One for each row r and column kx of the kernel, and output channel o of the thread. */
  readonly accumulators: readonly Accumulator[];
}
interface Accumulator {
  readonly r: number;
  readonly kx: number;
  readonly o: number;
  readonly name: string;
}

function planOf(g: ConvGeometry, tile: TiledWeightGradientTile): Plan {
  const ownRows = range(tile.allRows ? g.kernel[1] : 1);
  return {
    ...{ g, tile, ownRows },
    threads: threadsOf(g, tile),
    perShare: channelThreads(g, tile),
    patchColumns: halo(tile.columns, g.kernel[2], g.stride),
    inputLanes: tile.inputs / tile.threadInputs,
    outputLanes: tile.outputs / tile.threadOutputs,
    tileFours: tile.outputs / 4,
    accumulators: ownRows.flatMap((r) =>
      range(g.kernel[2]).flatMap((kx) =>
        range(tile.threadOutputs).map((o) => ({ r, kx, o, name: `a${r}_${kx}_${o}` })),
      ),
    ),
  };
}

function stageGradient({ g, tile, threads, tileFours }: Plan): string {
  const { outputs } = g;
  const [, outHeight, outWidth] = g.output;
  const { rows, columns } = tile;
  const inside = insideGradient(g, tile);
  return stageVectors('staged_dy', rows * columns * tileFours, threads, {
    indices: wgsl`let o = o0 + i32(i % ${tileFours}u) * 4;
        let ox = tileX + i32(i / ${tileFours}u % ${columns}u);
        let oy = tileY + i32(i / ${tileFours * columns}u);
        let at = ((plane * ${outHeight} + oy) * ${outWidth} + ox) * ${outputs} + o;`,
    inside: inside === 'true' ? '' : inside,
    value: loadFour('dy', 'at', outputs, 'o'),
  });
}

/** The products of a thread's rows of a staged tile. The window of x slides along a row. */
function walkTile({ g, tile, patchColumns, inputLanes, outputLanes, tileFours, ownRows, accumulators }: Plan): string {
  const { stride } = g;
  const kernelWidth = g.kernel[2];
  const { rows, columns, threadInputs, threadOutputs, allRows, shares, unroll } = tile;
  const V = float(threadInputs);
  const fours = range(threadOutputs / 4);
  // Columns of the window before `carried` are kept from the previous turn.
  const carried = stride === 1 ? kernelWidth - 1 : 0;
  const used = (j: number): boolean => range(unroll).some((u) => j - u * stride >= 0 && j - u * stride < kernelWidth);
  const loaded = range(halo(unroll, kernelWidth, stride)).filter((j) => j >= carried && used(j));
  const window = (r: number, j: number): string => (j < carried ? `before${r}_${j}` : `v${r}_${j}`);
  const multiply = accumulators.flatMap(({ r, kx, o, name }) =>
    range(unroll).map((u) => {
      const value = element(`d${u}_${Math.floor(o / 4)}`, 4, o % 4);
      return `        ${name} = fma(${window(r, u * stride + kx)}, ${threadInputs === 1 ? value : `${V}(${value})`}, ${name});`;
    }),
  );
  // Loops that count from 0 by 1: their bounds show that no index leaves staged_x and staged_dy, so the compiler clamps none.
  return wgsl`    for (var turn = 0; turn < ${rows / shares}; turn++) {
      let row = turn * ${shares} + share;
${lines(
  ownRows.map(
    (r) =>
      `      let row${r} = (row * ${stride} + ${allRows ? r : 'kernelRow'}) * ${patchColumns * inputLanes} + inputLane;`,
  ),
)}
      let dyRow = row * ${columns * tileFours} + outputLane;
${lines(ownRows.flatMap((r) => range(carried).map((j) => `      var carry${r}_${j} = staged_x[row${r} + ${j * inputLanes}];`)))}
      for (var step = 0; step < ${columns / unroll}; step++) {
        let ox = step * ${unroll};
        let first = ox * ${stride * inputLanes};
${lines(ownRows.flatMap((r) => range(carried).map((j) => `        let before${r}_${j} = carry${r}_${j};`)))}
${lines(ownRows.flatMap((r) => loaded.map((j) => `        let v${r}_${j} = staged_x[row${r} + first + ${j * inputLanes}];`)))}
${lines(range(unroll).flatMap((u) => fours.map((q) => `        let d${u}_${q} = staged_dy[dyRow + ox * ${tileFours} + ${u * tileFours + q * outputLanes}];`)))}
${lines(multiply)}
${lines(ownRows.flatMap((r) => range(carried).map((j) => `        carry${r}_${j} = ${window(r, unroll + j)};`)))}
      }
    }`;
}

/** Adds the sums of all shares, in their order, to those of the first. */
const addShares = ({ tile, perShare, accumulators }: Plan): string => wgsl`
  for (var other = 1; other < ${tile.shares}; other++) {
    workgroupBarrier();
    if (share == other) {
${lines(accumulators.map(({ name }, i) => `      staged_x[${i * perShare} + channelThread] = ${name};`))}
    }
    workgroupBarrier();
    if (share == 0) {
${lines(accumulators.map(({ name }, i) => `      ${name} += staged_x[${i * perShare} + channelThread];`))}
    }
  }`;

function store({ g, tile, outputLanes }: Plan, { r, kx, o, name }: Accumulator): string {
  const { inputs, outputs, kernel } = g;
  const channel = `o + ${Math.floor(o / 4) * 4 * outputLanes + (o % 4)}`;
  const row = tile.allRows ? `${r}` : 'kernelRow';
  const tap = `(kz * ${kernel[1]} + ${row}) * ${kernel[2]} + ${kx}`;
  const body = `dWeight[((slice * ${outputs} + ${channel}) * ${product(kernel)} + ${tap}) * ${inputs / tile.threadInputs} + c] = ${name};`;
  return outputs % tile.outputs ? `    if (${channel} < ${outputs}) { ${body} }` : `    ${body}`;
}

/**
 * dWeight [slices, O, tap, C] and dBias [slices, O]; with one slice, the gradient itself. Neighbouring workgroups take the channel
 * blocks of one slice, neighbouring threads the input channels of one block, then output channels, rows of taps, shares.
 */
export function weightGradientTiledShader(
  dtype: Float,
  g: ConvGeometry,
  { tile, bias, onLoad }: { tile: TiledWeightGradientTile; bias: boolean; onLoad?: Activation | undefined },
): string {
  const plan = planOf(g, tile);
  const { threads, perShare, patchColumns, inputLanes, outputLanes, tileFours, accumulators } = plan;
  const { inputs, outputs, stride } = g;
  const [, kernelHeight] = g.kernel;
  const { rows, columns, threadInputs, shares } = tile;
  const V = float(threadInputs);
  const room = roomOf(g, tile);
  // Threads that add up dy for the bias: each keeps to one vector of output channels.
  const biasThreads = Math.floor(threads / tileFours) * tileFours;
  const ofBias = 'inputBlock == 0 && kz == 0';
  const tileWork = wgsl`${stageInput(g, {
    rows: halo(rows, kernelHeight, stride),
    columns: patchColumns,
    channels: tile.inputs,
    threads,
    width: threadInputs,
    onLoad,
    at: (c) => `(row * ${patchColumns} + column) * ${inputLanes} + ${c}`,
  })}
${stageGradient(plan)}
    workgroupBarrier();
#if ${bias}
    if (${ofBias} && local < ${biasThreads}) {
      for (var i = local; i < ${rows * columns * tileFours}; i += ${biasThreads}) { bias += staged_dy[i]; }
    }
#endif
${walkTile(plan)}`;
  return wgsl`${enable(dtype)}
${lines(slicedOperands(bindings(), g, { dtype, V, bias, onLoad }))}
var<workgroup> staged_x: array<${V}, ${room.x}>;
var<workgroup> staged_dy: array<vec4f, ${room.dy}>;

@compute @workgroup_size(${threads})
fn conv_tiled_weight_gradient(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) index: u32) {
${ownBlock(g, tile)}
  let local = i32(index);
  let channelThread = local % ${perShare};
  let share = local / ${perShare};
  let inputLane = channelThread % ${inputLanes};
  let outputLane = channelThread / ${inputLanes} % ${outputLanes};
  let kernelRow = channelThread / ${inputLanes * outputLanes};
${blockIndices(g, tile)}
${lines(accumulators.map(({ name }) => `  var ${name} = ${V}(0.0);`))}
#if ${bias}
  var bias = vec4f(0.0);
#endif
${eachTile(g, tile, tileWork)}
${shares > 1 ? addShares(plan) : ''}
  let c = c0 / ${threadInputs} + inputLane;
  let o = o0 + outputLane * 4;
  if (share == 0${inputs % tile.inputs ? ` && c < ${inputs / threadInputs}` : ''}) {
${lines(accumulators.map((a) => store(plan, a)))}
  }
#if ${bias}
  workgroupBarrier();
  staged_dy[local] = bias;
  workgroupBarrier();
  if (${ofBias} && local < ${tileFours}) {
    var sum = vec4f(0.0);
    for (var t = local; t < ${biasThreads}; t += ${tileFours}) { sum += staged_dy[t]; }
${lines(range(4).map((e) => `    if (o0 + local * 4 + ${e} < ${outputs}) { dBias[slice * ${outputs} + o0 + local * 4 + ${e}] = ${element('sum', 4, e)}; }`))}
  }
#endif
}`;
}

/** Cycles of a launch by the cost model (cost.ts), and of adding up its slices. */
export function weightGradientTiledCost(g: ConvGeometry, tile: TiledWeightGradientTile): number {
  const { inputs, outputs, rows, columns, threadInputs, threadOutputs, shares, slices } = tile;
  const threads = threadsOf(g, tile);
  const numbers = accumulatorsOf(g, tile) * threadInputs;
  // Four pixels at a time; dy in vectors of four channels.
  const ownRows = tile.allRows ? g.kernel[1] : 1;
  const loads = (ownRows * g.stride * threadInputs + threadOutputs) / 4;
  const patch = halo(rows, g.kernel[1], g.stride) * halo(columns, g.kernel[2], g.stride);
  const cost = cyclesOf({
    ...{ threads, storage: weightGradientTiledStorage(g, tile) },
    stagedX: (patch * inputs) / widthOf(g.inputs) / threads,
    stagedOthers: (rows * columns * outputs) / 4 / threads,
    workgroups: blocksOf(g, tile) * slices,
    phases: Math.ceil(product(tilesOf(g, tile)) / slices),
    products: (numbers * rows * columns) / shares,
    loads: (loads * rows * columns) / shares,
    sums: numbers / 4,
    registers: 40 + numbers + ownRows * (3 + g.kernel[2]) * threadInputs + 2 * threadOutputs,
  });
  return cost + sliceCycles(slices * product(g.kernel) * g.inputs * g.outputs);
}

/** Tiles worth trying, of many sizes and numbers of slices; the likely best on a discrete GPU first (cost.ts). */
export function weightGradientTiledCandidates(g: ConvGeometry, limits: WorkgroupLimits): TiledWeightGradientTile[] {
  const flat = g.output[1] === 1;
  const areas = flat
    ? [
        [1, 32],
        [1, 64],
      ]
    : [
        [4, 8],
        [4, 16],
        [8, 8],
        ...(inSevens(g)
          ? [
              [7, 8],
              [7, 16],
              [14, 8],
              [4, 28],
            ]
          : []),
      ];
  const sizes = (channels: number, multiple: number): number[] => [
    ...new Set([4, 8, 16, 32, 64].map((n) => Math.min(n, upTo(channels, multiple)))),
  ];
  const xWidth = widthOf(g.inputs);
  const found: { tile: TiledWeightGradientTile; cost: number; kind: string }[] = [];
  for (const [rows, columns] of areas as [number, number][])
    for (const inputs of sizes(g.inputs, xWidth))
      for (const outputs of sizes(g.outputs, 4))
        for (const threadInputs of xWidth === 4 ? ([1, 4] as const) : ([1] as const))
          for (const threadOutputs of [4, 8])
            for (const allRows of g.kernel[1] > 1 ? [true, false] : [true])
              for (const shares of [1, 2, 4, 8]) {
                if (outputs % threadOutputs || rows % shares) continue;
                const block = { inputs, outputs, rows, columns };
                const own = { threadInputs, threadOutputs, allRows, shares, unroll: 4 };
                const whole: TiledWeightGradientTile = { ...block, ...own, slices: 1 };
                const threads = threadsOf(g, whole);
                const storage = weightGradientTiledStorage(g, whole);
                const numbers = accumulatorsOf(g, whole) * threadInputs;
                if (numbers > 96 || threads < 32 || threads > limits.threads || storage > limits.storage) continue;
                for (const workgroups of [256, 512, 1024]) {
                  const tile = { ...whole, slices: slicesOf(g, whole, workgroups) };
                  const kind = `${threads} ${numbers} ${rows * columns}`;
                  found.push({ tile, cost: weightGradientTiledCost(g, tile), kind });
                }
              }
  return cheapest(found);
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const grouped = { slope: 0.01, dropout: 0, groups: [1, 1] };
  return (['f32', 'f16'] as const).flatMap((dtype) =>
    [
      squareGeometry(16, 16, 3),
      squareGeometry(3, 5, 3),
      squareGeometry(1, 16, 3),
      squareGeometry(8, 4, 3, 2),
      solidGeometry,
      rowGeometry,
      evenGeometry,
    ].flatMap((g) =>
      weightGradientTiledCandidates(g, { storage: 16384, threads: 256 })
        .slice(0, 2)
        .flatMap((tile) => [
          weightGradientTiledShader(dtype, g, { tile, bias: false }),
          ...[0, 0.5].map((dropout) =>
            weightGradientTiledShader(dtype, g, { tile, bias: true, onLoad: { slope: 0.01, dropout } }),
          ),
          weightGradientTiledShader(dtype, g, { tile, bias: false, onLoad: grouped }),
        ]),
    ),
  );
}
