// Convolution for GPUs: workgroups stage what their threads share in workgroup memory. Forward, and input gradient of stride 1.
//
//   y[n,p,o] = bias[o] + Σ_{tap,c} x[n, p·stride + tap − padding, c] · weight[o,tap,c]
//
// The forward kernel stages a tile of x with its halo once per chunk of input channels and uses it for all taps, so x comes from
// memory about once per block of output channels. A thread has some rows of one or more columns: neighbouring threads read
// neighbouring vectors of the staged tile (no bank conflicts), and a column of x in registers serves all rows of the kernel.
// 8 pixels × 4 channels are 22 vec4 loads from workgroup memory for 384 multiply-adds, 8 × 8 are 34 for 768; an NVIDIA SM
// balances at 16 multiply-adds a load.

import { enable, type Float, u32, wgsl } from '../wgsl.js';
import { cheapest, cyclesOf } from './cost.js';
import { epilogue, type KernelOptions, type Results, ridingAlong } from './epilogue.js';
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
  tileParts,
  tilesOf,
  upTo,
  widthOf,
} from './geometry.js';
import {
  block,
  folded,
  fourChannels,
  loadFour,
  operands,
  stageBlocks,
  stageInput,
  stageVectors,
  type WorkgroupLimits,
  weightAt,
} from './staging.js';

/** How one launch of the tiled forward kernel is cut into workgroups and threads. */
export interface TiledConvTile {
  /** Output pixels of a workgroup, rows × columns, and its output channels: a multiple of 4. */
  readonly rows: number;
  readonly columns: number;
  readonly outputs: number;
  /** Input channels staged at a time: a multiple of 4 where `inputs` is one. */
  readonly chunk: number;
  /** What a thread has: neighbouring rows, columns that are columns/threadColumns apart, output channels (a multiple of 4). */
  readonly threadRows: number;
  readonly threadColumns: number;
  readonly threadOutputs: number;
}

const outputBlocks = (g: ConvGeometry, tile: TiledConvTile): number => Math.ceil(g.outputs / tile.outputs);
const pixelThreads = (tile: TiledConvTile): number =>
  (tile.rows / tile.threadRows) * (tile.columns / tile.threadColumns);
const threadsOf = (tile: TiledConvTile): number => (pixelThreads(tile) * tile.outputs) / tile.threadOutputs;

/** The grid of a launch of `convTiledShader`. */
export const convTiledWorkgroups = (g: ConvGeometry, tile: TiledConvTile): Triple =>
  folded(product(tilesOf(g, tile)) * outputBlocks(g, tile));

const stagedWeights = (g: ConvGeometry, tile: TiledConvTile): number =>
  (g.kernel[1] * g.kernel[2] * tile.chunk * tile.outputs) / 4;
const stagedInput = (g: ConvGeometry, tile: TiledConvTile): number =>
  (halo(tile.rows, g.kernel[1], g.stride) * halo(tile.columns, g.kernel[2], g.stride) * tile.chunk) / widthOf(g.inputs);
/** Bytes of workgroup memory that a workgroup takes, fused or not. */
export const convTiledStorage = (g: ConvGeometry, tile: TiledConvTile): number =>
  16 * Math.max(stagedWeights(g, tile), threadsOf(tile)) + 4 * widthOf(g.inputs) * stagedInput(g, tile);

/** Derived values that the functions of this generator share. */
interface Plan {
  readonly dtype: Float;
  readonly g: ConvGeometry;
  readonly tile: TiledConvTile;
  readonly options: Required<KernelOptions>;
  readonly threads: number;
  /** Elements of a vector of staged x. */
  readonly xWidth: 1 | 4;
  readonly patchColumns: number;
  readonly patch: number;
  /** Threads side by side along a row, and over the output channels. */
  readonly across: number;
  readonly channelThreads: number;
  /** The columns and rows of a thread, and its vectors of 4 output channels. */
  readonly columns: readonly number[];
  readonly rows: readonly number[];
  readonly fours: readonly number[];
  /** Vectors of output channels of a workgroup. */
  readonly tileFours: number;
  /** Whether the last block of output channels is not full. */
  readonly ragged: boolean;
}

function planOf(dtype: Float, g: ConvGeometry, tile: TiledConvTile, options: Required<KernelOptions>): Plan {
  const patchColumns = halo(tile.columns, g.kernel[2], g.stride);
  return {
    ...{ dtype, g, tile, options, patchColumns },
    threads: threadsOf(tile),
    xWidth: widthOf(g.inputs),
    patch: halo(tile.rows, g.kernel[1], g.stride) * patchColumns,
    across: tile.columns / tile.threadColumns,
    channelThreads: tile.outputs / tile.threadOutputs,
    columns: range(tile.threadColumns),
    rows: range(tile.threadRows),
    fours: range(tile.threadOutputs / 4),
    tileFours: tile.outputs / 4,
    ragged: g.outputs % tile.outputs !== 0,
  };
}

/** Accumulator of row r, column p, channels q of a thread; and the first of those channels. */
const cell = (r: number, p: number, q: number): string => `a${r}_${p}_${q}`;
const channelOf = ({ channelThreads }: Plan, q: number): string => `(o + ${4 * q * channelThreads})`;

/**
 * Stages the weights of a chunk of input channels and of all taps of one kernel depth, in vectors of four output channels: by kernel
 * column, input channel, kernel row. The forward kernel reads the parameters as they are, where input channels lie together: a thread
 * loads four of them for each of four output channels, and transposes these blocks on the way.
 */
function stageWeights({ g, tile, options: { weights }, xWidth, threads, tileFours, ragged }: Plan): string {
  const { inputs, outputs } = g;
  const [, kernelHeight, kernelWidth] = g.kernel;
  const { chunk } = tile;
  const tap = `((kz * ${kernelHeight} + ky) * ${kernelWidth} + kx)`;
  const inside = [...(ragged ? [`o < ${outputs}`] : []), ...(inputs % chunk ? [`c < ${inputs}`] : [])].join(' && ');
  if (weights === 'outputs-first' && xWidth === 4) {
    const fours = chunk / 4;
    return stageBlocks('staged_weights', stagedWeights(g, tile) / 4, threads, {
      indices: wgsl`let o = o0 + i32(i % ${tileFours}u) * 4;
        let four = i32(i / ${tileFours}u % ${fours}u) * 4;
        let c = c0 + four;
        let ky = i32(i / ${tileFours * fours}u % ${kernelHeight}u);
        let kx = i32(i / ${tileFours * fours * kernelHeight}u);`,
      inside,
      row: (e) =>
        `weight[u32((${outputs % 4 ? `min(o + ${e}, ${outputs - 1})` : `(o + ${e})`} * ${product(g.kernel)} + ${tap}) * ${inputs} + c) / 4u]`,
      at: `((kx * ${chunk} + four) * ${kernelHeight} + ky) * ${tileFours} + i32(i % ${tileFours}u)`,
      step: kernelHeight * tileFours,
    });
  }
  const gathered = (e: number): string => {
    const load = (o: string): string => `f32(weight[(${o} * ${product(g.kernel)} + ${tap}) * ${inputs} + c])`;
    return outputs % 4 === 0
      ? load(`(o + ${e})`)
      : `select(0.0, ${load(`min(o + ${e}, ${outputs - 1})`)}, o + ${e} < ${outputs})`;
  };
  return stageVectors('staged_weights', stagedWeights(g, tile), threads, {
    indices: wgsl`let o = o0 + i32(i % ${tileFours}u) * 4;
        let ky = i32(i / ${tileFours}u % ${kernelHeight}u);
        let c = c0 + i32(i / ${tileFours * kernelHeight}u % ${chunk}u);
        let kx = i32(i / ${tileFours * kernelHeight * chunk}u);`,
    inside,
    value:
      weights === 'outputs-first'
        ? `vec4f(${range(4).map(gathered).join(', ')})`
        : loadFour('weight', weightAt(g), outputs, 'o'),
  });
}

/** All products of one column of the kernel with one chunk of input channels. */
function multiply({ g, tile, xWidth, patch, patchColumns, tileFours, channelThreads, across, ...own }: Plan): string {
  const { rows, columns, fours } = own;
  const [, kernelHeight] = g.kernel;
  const { stride } = g;
  const windowRows = range(halo(tile.threadRows, kernelHeight, stride)).filter((j) =>
    rows.some((r) => j - r * stride >= 0 && j - r * stride < kernelHeight),
  );
  const products = (u: number): string[] =>
    range(kernelHeight).flatMap((ky) => [
      ...fours.map(
        (q) =>
          `        let w${u}_${ky}_${q} = staged_weights[w + ${(u * kernelHeight + ky) * tileFours + q * channelThreads}];`,
      ),
      ...rows.flatMap((r) =>
        columns.flatMap((p) =>
          fours.map((q) => {
            const value = element(`v${r * stride + ky}_${p}`, xWidth, u);
            return `        ${cell(r, p, q)} = fma(vec4f(${value}), w${u}_${ky}_${q}, ${cell(r, p, q)});`;
          }),
        ),
      ),
    ]);
  return wgsl`        for (var c = 0; c < ${tile.chunk / xWidth}; c++) {
        let v = c * ${patch} + row0 * ${stride * patchColumns} + column0 * ${stride} + kx;
        let w = (kx * ${tile.chunk} + c * ${xWidth}) * ${kernelHeight * tileFours} + channelThread;
${lines(
  windowRows.flatMap((j) =>
    columns.map((p) => `        let v${j}_${p} = staged_x[v + ${j * patchColumns + p * across * stride}];`),
  ),
)}
${lines(range(xWidth).flatMap(products))}
        }`;
}

/** Adds up `staged_weights` over the `count` threads of each channel, four at a time: steps that end with the first. */
function foldSums(count: number, channelThreads: number): string {
  if (count === 1) return '';
  const left = Math.ceil(count / 4);
  const terms = range(Math.ceil(count / left)).slice(1);
  const add = (j: number): string => {
    const body = `sum += staged_weights[local + ${j * left * channelThreads}];`;
    return (j + 1) * left > count ? `if (pixelThread < ${count - j * left}) { ${body} }` : body;
  };
  return wgsl`  workgroupBarrier();
  if (pixelThread < ${left}) { var sum = staged_weights[local]; ${terms.map(add).join(' ')} staged_weights[local] = sum; }
${foldSums(left, channelThreads)}`;
}

/** A thread's sums, for the epilogue: its vectors of channels one after the other, each with all its pixels. */
function resultsOf(plan: Plan, vectors: ReturnType<typeof fourChannels>): Results {
  const { g, tile, channelThreads, across, rows, columns, fours, ragged } = plan;
  const { outputs } = g;
  const [, outHeight, outWidth] = g.output;
  // storeFour masks single channels; a mask here is needed only where whole vectors lie outside.
  const insideOf = (r: number, p: number, q: number): string =>
    [
      ...(outHeight % tile.rows ? [`ty + ${r} < ${outHeight}`] : []),
      ...(outWidth % tile.columns ? [`tx + ${p * across} < ${outWidth}`] : []),
      ...(ragged ? [`${channelOf(plan, q)} < ${outputs}`] : []),
    ].join(' && ');
  const guarded = (inside: string, body: string): string => (inside ? `  if (${inside}) { ${body} }` : `  { ${body} }`);
  const outputAt = (r: number, p: number, q: number) => ({
    ...{ q, value: cell(r, p, q), channel: channelOf(plan, q) },
    at: `pixel * ${outputs} + o + ${(r * outWidth + p * across) * outputs + 4 * q * channelThreads}`,
  });
  const pixels = rows.flatMap((r) => columns.map((p) => [r, p] as const));
  return {
    ...vectors,
    parts: tileParts(g, tile),
    sets: fours.map((q) => [q]),
    each: ([q = 0], body) => pixels.map(([r, p]) => guarded(insideOf(r, p, q), body(outputAt(r, p, q)))),
    addUp: (value, total) => wgsl`
  workgroupBarrier();
  staged_weights[local] = ${value};
${foldSums(pixelThreads(tile), channelThreads)}
  workgroupBarrier();
  let ${total} = staged_weights[channelThread];`,
    writesPart: 'pixelThread == 0',
    addProduct: (sum, a, b) => `${sum} = fma(${a}, ${b}, ${sum});`,
  };
}

/**
 * Forward kernel. Workgroup = a tile of pixels × a block of output channels; neighbouring workgroups take the blocks of one tile,
 * neighbouring threads the channels of one pixel, then pixels of one row. Loops: kernel depth, chunks of input channels (staged),
 * kernel columns, input channels of the chunk four at a time (one where their count is not a multiple of 4). Kernel rows, pixels
 * and output channels are unrolled.
 */
export function convTiledShader(
  dtype: Float,
  g: ConvGeometry,
  { tile, fusion = {}, parameters = dtype, name = 'conv_tiled', ...given }: KernelOptions & { tile: TiledConvTile },
): string {
  const { weights, bias } = given;
  const { onLoad, statistics = false, gradient } = fusion;
  const plan = planOf(dtype, g, tile, { ...given, fusion, parameters, name });
  const { threads, xWidth, patch, patchColumns, across, channelThreads, rows, columns, fours, ragged } = plan;
  const { inputs, outputs, stride } = g;
  const [outDepth, outHeight, outWidth] = g.output;
  const [kernelDepth, kernelHeight, kernelWidth] = g.kernel;
  const [padDepth, padHeight, padWidth] = g.padding;
  const [, tilesY, tilesX] = tilesOf(g, tile);
  const vectors = fourChannels(g, { dtype, ragged, channelOf: (q) => channelOf(plan, q) });
  const binding = bindings();
  const weightWidth = weights === 'outputs-first' ? xWidth : widthOf(outputs);
  const declared = [
    ...operands(binding, g, { dtype, parameters, bias, weightWidth }),
    ...ridingAlong(binding, fusion, { dtype, loaded: xWidth, stored: widthOf(outputs) }),
  ];
  const roomForSums = statistics || gradient !== undefined ? threads : 0;
  const start = (q: number): string => (bias ? vectors.ofChannels('bias', 0, q) : 'vec4f(0.0)');
  return wgsl`${enable(dtype)}
${lines(declared)}
var<workgroup> staged_x: array<${float(xWidth)}, ${stagedInput(g, tile)}>;
var<workgroup> staged_weights: array<vec4f, ${Math.max(stagedWeights(g, tile), roomForSums)}>;

@compute @workgroup_size(${threads})
fn ${name}(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) index: u32) {
  let block = ${block};
  if (block >= ${u32(product(tilesOf(g, tile)) * outputBlocks(g, tile))}) { return; }
  let local = i32(index);
  let channelThread = local % ${channelThreads};
  let pixelThread = local / ${channelThreads};
  let o0 = i32(block % ${u32(outputBlocks(g, tile))}) * ${tile.outputs};
  let part = block / ${u32(outputBlocks(g, tile))};
  let tileX = i32(part % ${u32(tilesX)}) * ${tile.columns};
  let tileY = i32(part / ${u32(tilesX)} % ${u32(tilesY)}) * ${tile.rows};
  let plane = i32(part / ${u32(tilesX * tilesY)});
  let image = plane / ${outDepth};
  let oz = plane % ${outDepth};
  let column0 = pixelThread % ${across};
  let row0 = pixelThread / ${across} * ${tile.threadRows};
  let iy0 = tileY * ${stride} - ${padHeight};
  let ix0 = tileX * ${stride} - ${padWidth};
  let o = o0 + channelThread * 4;
${lines(fours.map((q) => `  let start${q} = ${start(q)};`))}
${lines(fours.flatMap((q) => rows.flatMap((r) => columns.map((p) => `  var ${cell(r, p, q)} = start${q};`))))}
  for (var kz = 0; kz < ${kernelDepth}; kz++) {
    let iz = oz * ${stride} + kz - ${padDepth};
    for (var c0 = 0; c0 < ${inputs}; c0 += ${tile.chunk}) {
      workgroupBarrier(); // the chunk before is used up
${stageInput(g, {
  rows: halo(tile.rows, kernelHeight, stride),
  columns: patchColumns,
  channels: tile.chunk,
  threads,
  width: xWidth,
  onLoad,
  at: (c) => `${c} * ${patch} + row * ${patchColumns} + column`,
})}
${stageWeights(plan)}
      workgroupBarrier();
      for (var kx = 0; kx < ${kernelWidth}; kx++) {
${multiply(plan)}
      }
    }
  }
  let ty = tileY + row0;
  let tx = tileX + column0;
  let pixel = (plane * ${outHeight} + ty) * ${outWidth} + tx;

${lines(epilogue(fusion, resultsOf(plan, vectors)))}

}`;
}

/** Cycles of a launch by the cost model (cost.ts). */
export function convTiledCost(g: ConvGeometry, tile: TiledConvTile): number {
  const { chunk, threadRows, threadColumns, threadOutputs } = tile;
  const [, kernelHeight, kernelWidth] = g.kernel;
  const xWidth = widthOf(g.inputs);
  const threads = threadsOf(tile);
  const accumulators = threadRows * threadColumns * threadOutputs;
  const fours = threadOutputs / 4;
  const window = halo(threadRows, kernelHeight, g.stride) * threadColumns;
  const turns = (kernelWidth * chunk) / xWidth;
  return cyclesOf({
    workgroups: product(tilesOf(g, tile)) * outputBlocks(g, tile),
    threads,
    phases: g.kernel[0] * Math.ceil(g.inputs / chunk),
    stagedX: stagedInput(g, tile) / threads,
    stagedOthers: stagedWeights(g, tile) / threads,
    products: turns * kernelHeight * xWidth * accumulators,
    sums: accumulators / 4,
    loads: turns * ((window * xWidth) / 4 + kernelHeight * xWidth * fours),
    registers: 40 + accumulators + window * xWidth + 8 * fours,
    storage: convTiledStorage(g, tile),
  });
}

/** Areas for images of 7, 14, 28 or 56 pixels a side, where powers of two leave a third of the lanes idle. */
const sevens = [
  [7, 7],
  [7, 14],
  [14, 14],
  [7, 28],
  [14, 28],
  [8, 14],
] as const;

/** Tiles worth trying, of many sizes of workgroups, register tiles and chunks; the likely best on a discrete GPU first (cost.ts). */
export function convTiledCandidates(g: ConvGeometry, limits: WorkgroupLimits): TiledConvTile[] {
  const height = g.output[1];
  const xWidth = widthOf(g.inputs);
  const flat = height === 1;
  const areas: (readonly [number, number])[] = flat
    ? [64, 128, 256].map((columns) => [1, columns])
    : [[16, 16], [8, 16], [8, 8], [4, 8], [4, 4], ...(inSevens(g) ? sevens : [])];
  // Smaller blocks stage x more often, with its activation: they pay only where large ones leave processors idle.
  const all = Math.min(64, upTo(g.outputs, 4));
  const plenty = (product(tilesOf(g, { rows: 8, columns: 8 })) * g.outputs) / all >= 256;
  const outputs = [...new Set([4, 8, 16, 32, 64].map((n) => Math.min(n, all)))].filter((n) => !plenty || n === all);
  const chunks = [...new Set([4, 8, 16, 32].map((n) => Math.min(n, upTo(g.inputs, xWidth))))];
  const shares = flat
    ? [
        [1, 4],
        [1, 8],
      ]
    : [
        [2, 1],
        [4, 1],
        [4, 2],
        [8, 1],
        ...(inSevens(g)
          ? [
              [7, 1],
              [7, 2],
              [14, 1],
            ]
          : []),
      ];
  const found: { tile: TiledConvTile; cost: number; kind: string }[] = [];
  for (const [rows, columns] of areas)
    for (const [threadRows, threadColumns] of shares as [number, number][])
      for (const threadOutputs of [4, 8, 16])
        for (const block of outputs)
          for (const chunk of chunks) {
            const tile = { rows, columns, outputs: block, chunk, threadRows, threadColumns, threadOutputs };
            const whole = rows % threadRows === 0 && block % threadOutputs === 0;
            const accumulators = threadRows * threadColumns * threadOutputs;
            if (!whole || accumulators > 64) continue;
            const threads = threadsOf(tile);
            if (threads < 32 || threads > limits.threads || convTiledStorage(g, tile) > limits.storage) continue;
            const cost = convTiledCost(g, tile);
            found.push({ tile, cost, kind: `${threads} ${accumulators} ${chunk}` });
          }
  return cheapest(found);
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const slope = 0.01;
  const grouped = { slope, dropout: 0, groups: [1, 1] };
  const masked = { slope, dropout: 0.5, masked: true };
  return (['f32', 'f16'] as const).flatMap((dtype) =>
    [
      squareGeometry(16, 16, 3),
      squareGeometry(3, 5, 3),
      squareGeometry(1, 16, 3),
      squareGeometry(8, 4, 3, 2),
      solidGeometry,
      rowGeometry,
      evenGeometry,
    ].flatMap((g) => {
      const tile = convTiledCandidates(g, { storage: 16384, threads: 256 })[0]!;
      return [
        ...(['outputs-first', 'gradient'] as const).map((weights) =>
          convTiledShader(dtype, g, { tile, weights, bias: weights === 'outputs-first', parameters: 'f32' }),
        ),
        ...[0, 0.5].flatMap((dropout) => [
          convTiledShader(dtype, g, {
            tile,
            weights: 'outputs-first',
            bias: dropout === 0,
            fusion: { onLoad: { slope, dropout }, statistics: true },
          }),
          convTiledShader(dtype, g, {
            tile,
            weights: 'gradient',
            bias: false,
            fusion: { gradient: { slope, dropout }, base: dropout === 0 },
          }),
        ]),
        ...[{ onLoad: grouped }, { gradient: grouped }, { onLoad: masked }, { gradient: masked }].map((fusion) =>
          convTiledShader(dtype, g, { tile, weights: 'gradient', bias: false, fusion }),
        ),
      ];
    }),
  );
}
