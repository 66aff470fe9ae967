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
import { activatedGradient, type ConvFusion, dropoutFactors, normalized, tailFunction } from './fusion.js';
import {
  type ConvGeometry,
  element,
  evenGeometry,
  float,
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
  vector,
  type WeightOrder,
  widthOf,
} from './geometry.js';
import { bindings, block, folded, loadFour, stageInput, storeFour, type WorkgroupLimits, weightAt } from './staging.js';

/** How one launch of the tiled forward kernel is cut into workgroups and threads. */
export interface TiledConvTile {
  /** Output pixels of a workgroup, rows × columns, and its output channels: a multiple of 4. */
  readonly rows: number;
  readonly columns: number;
  readonly outputs: number;
  /** Input channels staged at a time: a multiple of 4 where `inputs` is one. */
  readonly chunk: number;
  /** Of a thread: neighbouring rows, columns that are columns/threadColumns apart, output channels (a multiple of 4). */
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
/** Bytes of workgroup memory that a launch takes, fused or not. */
export const convTiledStorage = (g: ConvGeometry, tile: TiledConvTile): number =>
  16 * Math.max(stagedWeights(g, tile), threadsOf(tile)) + 4 * widthOf(g.inputs) * stagedInput(g, tile);

/**
 * Forward kernel. Workgroup = a tile of pixels × a block of output channels; neighbouring workgroups take the blocks of one tile,
 * neighbouring threads the channels of one pixel, then pixels of one row. Loops: kernel depth, chunks of input channels (staged),
 * kernel columns, input channels of the chunk in steps of 4 (1 where they are no multiple of 4); kernel rows, pixels and output
 * channels are unrolled.
 */
export function convTiledShader(
  dtype: Float,
  g: ConvGeometry,
  {
    tile,
    weights,
    bias,
    fusion = {},
    parameters = dtype,
    name = 'conv_tiled',
  }: {
    tile: TiledConvTile;
    weights: WeightOrder;
    bias: boolean;
    fusion?: ConvFusion & { base?: boolean };
    /** Storage of weight and bias: f32 masters serve f16 activations as they are. */
    parameters?: Float;
    name?: string;
  },
): string {
  const { inputs, outputs, stride } = g;
  const { load: tail, statistics = false, gradient, base = false } = fusion;
  if (tail && gradient) {
    throw new TypeError(
      'convTiledShader: load and gradient — expected one of them. An input gradient loads plain numbers.',
    );
  }
  const [outDepth, outHeight, outWidth] = g.output;
  const [kernelDepth, kernelHeight, kernelWidth] = g.kernel;
  const [padDepth, padHeight, padWidth] = g.padding;
  const taps = product(g.kernel);
  const [, tilesY, tilesX] = tilesOf(g, tile);
  const { chunk, threadRows, threadColumns } = tile;
  const step = widthOf(inputs);
  const threads = threadsOf(tile);
  const [patchRows, patchColumns] = [halo(tile.rows, kernelHeight, stride), halo(tile.columns, kernelWidth, stride)];
  const patch = patchRows * patchColumns;
  // Threads side by side along a row and over the output channels; vectors of 4 output channels of a thread.
  const across = tile.columns / threadColumns;
  const channelThreads = tile.outputs / tile.threadOutputs;
  const fours = range(tile.threadOutputs / 4);
  const tileFours = tile.outputs / 4;
  const rows = range(threadRows);
  const columns = range(threadColumns);
  const outputWidth = widthOf(outputs);
  const weightWidth = weights === 'outputs-first' ? 1 : outputWidth;
  const ragged = outputs % tile.outputs !== 0;
  const cell = (r: number, p: number, q: number): string => `a${r}_${p}_${q}`;

  const tap = `((kz * ${kernelHeight} + ky) * ${kernelWidth} + kx)`;
  const gathered = `vec4f(${range(4)
    .map((e) => {
      const load = (o: string): string => `f32(weight[(${o} * ${taps} + ${tap}) * ${inputs} + c])`;
      return outputs % 4 === 0
        ? load(`(o + ${e})`)
        : `select(0.0, ${load(`min(o + ${e}, ${outputs - 1})`)}, o + ${e} < ${outputs})`;
    })
    .join(', ')})`;
  const weightInside = [...(ragged ? [`o < ${outputs}`] : []), ...(inputs % chunk ? [`c < ${inputs}`] : [])];
  const stageWeights = wgsl`
    for (var i = local; i < ${stagedWeights(g, tile)}; i += ${threads}) {
      let o = o0 + i % ${tileFours} * 4;
      let ky = i / ${tileFours} % ${kernelHeight};
      let c = c0 + i / ${tileFours * kernelHeight} % ${chunk};
      let kx = i / ${tileFours * kernelHeight * chunk};
      var value = vec4f(0.0);
      if (${weightInside.join(' && ') || 'true'}) {
        value = ${weights === 'outputs-first' ? gathered : loadFour('weight', weightAt(g, weights), outputs, 'o')};
      }
      staged_weights[i] = value;
    }`;

  const windowRows = range(halo(threadRows, kernelHeight, stride)).filter((j) =>
    rows.some((r) => j - r * stride >= 0 && j - r * stride < kernelHeight),
  );
  const multiply = (u: number): string[] =>
    range(kernelHeight).flatMap((ky) => [
      ...fours.map(
        (q) =>
          `        let w${u}_${ky}_${q} = staged_weights[w + ${(u * kernelHeight + ky) * tileFours + q * channelThreads}];`,
      ),
      ...rows.flatMap((r) =>
        columns.flatMap((p) =>
          fours.map((q) => {
            const value = element(`v${r * stride + ky}_${p}`, step, u);
            return `        ${cell(r, p, q)} = fma(vec4f(${value}), w${u}_${ky}_${q}, ${cell(r, p, q)});`;
          }),
        ),
      ),
    ]);

  const pixels = rows.flatMap((r) => columns.map((p) => [r, p] as const));
  const channelOf = (q: number): string => `(o + ${4 * q * channelThreads})`;
  // What is masked anyhow in storeFour needs no mask of its own, unless whole vectors lie outside.
  const insideOf = (r: number, p: number, q: number): string =>
    [
      ...(outHeight % tile.rows ? [`ty + ${r} < ${outHeight}`] : []),
      ...(outWidth % tile.columns ? [`tx + ${p * across} < ${outWidth}`] : []),
      ...(ragged ? [`${channelOf(q)} < ${outputs}`] : []),
    ].join(' && ');
  const guarded = (inside: string, body: string): string => (inside ? `  if (${inside}) { ${body} }` : `  { ${body} }`);
  const each = (q: number, body: (r: number, p: number) => string): string[] =>
    pixels.map(([r, p]) => guarded(insideOf(r, p, q), body(r, p)));
  const elementAt = (r: number, p: number, q: number): string =>
    `pixel * ${outputs} + o + ${(r * outWidth + p * across) * outputs + 4 * q * channelThreads}`;
  const stored = (r: number, p: number, q: number, value: string): string =>
    storeFour('y', elementAt(r, p, q), value, dtype, outputs, channelOf(q));
  const storePart = (row: 0 | 1, q: number, value: string): string =>
    guarded(
      ragged ? `${channelOf(q)} < ${outputs}` : '',
      storeFour(
        'partials',
        `(i32(part) * 2 + ${row}) * ${outputs} + ${channelOf(q)}`,
        value,
        'f32',
        outputs,
        channelOf(q),
      ),
    );
  /** `total` becomes the sum of `value` over the threads that share the output channels, in their order. */
  const addUp = (value: string, total: string, q: number): string => wgsl`
  workgroupBarrier();
  staged_weights[pixelThread * ${channelThreads} + channelThread] = ${value}${q};
  workgroupBarrier();
  var ${total}${q} = vec4f(0.0);
  for (var t = 0; t < ${pixelThreads(tile)}; t++) { ${total}${q} += staged_weights[t * ${channelThreads} + channelThread]; }`;
  const plainEnd = fours.flatMap((q) => each(q, (r, p) => stored(r, p, q, cell(r, p, q))));
  // From the registers, in two passes: mean, then squares around it.
  const statisticsEnd = fours.flatMap((q) => [
    `  var sum${q} = vec4f(0.0);`,
    ...each(q, (r, p) => `sum${q} += ${cell(r, p, q)};`),
    addUp('sum', 'total', q),
    `  let average${q} = total${q} / pixelCount;`,
    `  var squares${q} = vec4f(0.0);`,
    ...each(q, (r, p) => `let apart = ${cell(r, p, q)} - average${q}; squares${q} = fma(apart, apart, squares${q});`),
    addUp('squares', 'spread', q),
    `  if (pixelThread == 0) {`,
    storePart(0, q, `average${q}`),
    storePart(1, q, `spread${q}`),
    '  }',
  ]);
  const ofOutput = (row: number, q: number): string =>
    loadFour('zCoefficients', `${row * outputs} + ${channelOf(q)}`, outputs, channelOf(q));
  const factors =
    outputs % 4 === 0
      ? 'factors_at(u32(at) / 4u)'
      : `vec4f(${range(4)
          .map((e) => `factors_at(u32(at + ${e}))`)
          .join(', ')})`;
  const derivative = (r: number, p: number, q: number): string => {
    const da = base ? `(${cell(r, p, q)} + ${loadFour('base', 'at', outputs, channelOf(q))})` : cell(r, p, q);
    return wgsl`
    let at = ${elementAt(r, p, q)};
    let centered = ${loadFour('z', 'at', outputs, channelOf(q))} - mean${q};
    let n = ${normalized('centered', 'vec4f(0.0)', `scale${q}`, `shift${q}`)};
    let g = ${da} * ${activatedGradient('n', 'vec4f', gradient!.slope)}${gradient!.dropout ? ` * ${factors}` : ''};
    sum${q} += g;
    product${q} = fma(g, centered, product${q});
    ${stored(r, p, q, 'g')}`;
  };
  const gradientEnd = gradient
    ? fours.flatMap((q) => [
        ...['mean', 'scale', 'shift'].map((n, row) => `  let ${n}${q} = ${ofOutput(row, q)};`),
        `  var sum${q} = vec4f(0.0);`,
        `  var product${q} = vec4f(0.0);`,
        ...each(q, (r, p) => derivative(r, p, q)),
        addUp('sum', 'total', q),
        addUp('product', 'moment', q),
        '  if (pixelThread == 0) {',
        storePart(0, q, `total${q}`),
        storePart(1, q, `moment${q}`),
        '  }',
      ])
    : [];

  const binding = bindings();
  const draws = Boolean(tail?.dropout || gradient?.dropout);
  const declared = [
    binding('read', 'x', vector(dtype, step)),
    binding('read', 'weight', vector(parameters, weightWidth)),
    binding('read_write', 'y', vector(dtype, outputWidth)),
    ...(bias ? [binding('read', 'bias', vector(parameters, outputWidth))] : []),
    ...(tail ? [binding('read', 'coefficients', float(step)), tailFunction(float(step), tail)] : []),
    ...(statistics || gradient ? [binding('read_write', 'partials', float(outputWidth))] : []),
    ...(gradient
      ? [binding('read', 'z', vector(dtype, outputWidth)), binding('read', 'zCoefficients', float(outputWidth))]
      : []),
    ...(draws ? [binding('read', 'random', 'u32'), binding('read', 'stream', 'u32')] : []),
    ...(base ? [binding('read', 'base', vector(dtype, outputWidth))] : []),
    ...(tail?.dropout ? [dropoutFactors(tail.dropout, step)] : []),
    ...(gradient?.dropout ? [dropoutFactors(gradient.dropout, outputWidth)] : []),
  ];
  const fused = statistics || gradient !== undefined;
  return wgsl`${enable(dtype)}
${lines(declared)}
var<workgroup> staged_x: array<${float(step)}, ${stagedInput(g, tile)}>;
var<workgroup> staged_weights: array<vec4f, ${Math.max(stagedWeights(g, tile), fused ? threadsOf(tile) : 0)}>;

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
  let row0 = pixelThread / ${across} * ${threadRows};
  let iy0 = tileY * ${stride} - ${padHeight};
  let ix0 = tileX * ${stride} - ${padWidth};
  let o = o0 + channelThread * 4;
${lines(
  fours.map(
    (q) =>
      `  let start${q} = ${bias ? (ragged ? `select(vec4f(0.0), ${loadFour('bias', channelOf(q), outputs, channelOf(q))}, ${channelOf(q)} < ${outputs})` : loadFour('bias', channelOf(q), outputs, channelOf(q))) : 'vec4f(0.0)'};`,
  ),
)}
${lines(fours.flatMap((q) => pixels.map(([r, p]) => `  var ${cell(r, p, q)} = start${q};`)))}
  for (var kz = 0; kz < ${kernelDepth}; kz++) {
    let iz = oz * ${stride} + kz - ${padDepth};
    for (var c0 = 0; c0 < ${inputs}; c0 += ${chunk}) {
      workgroupBarrier(); // the chunk before is used up
${stageInput(g, {
  rows: patchRows,
  columns: patchColumns,
  channels: chunk,
  threads,
  width: step,
  tail,
  at: (c) => `${c} * ${patch} + row * ${patchColumns} + column`,
})}
${stageWeights}
      workgroupBarrier();
      for (var kx = 0; kx < ${kernelWidth}; kx++) {
        for (var c = 0; c < ${chunk / step}; c++) {
        let v = c * ${patch} + row0 * ${stride * patchColumns} + column0 * ${stride} + kx;
        let w = (kx * ${chunk} + c * ${step}) * ${kernelHeight * tileFours} + channelThread;
${lines(
  windowRows.flatMap((j) =>
    columns.map((p) => `        let v${j}_${p} = staged_x[v + ${j * patchColumns + p * across * stride}];`),
  ),
)}
${lines(range(step).flatMap(multiply))}
        }
      }
    }
  }
  let ty = tileY + row0;
  let tx = tileX + column0;
  let pixel = (plane * ${outHeight} + ty) * ${outWidth} + tx;
#if ${statistics}
  let pixelCount = f32(${tileParts(g, tile).pixelsOf});
#endif
${lines(gradient ? gradientEnd : plainEnd)}
${lines(statistics ? statisticsEnd : [])}
}`;
}

const upTo = (size: number, step: number): number => Math.ceil(size / step) * step;

/**
 * Tiles worth trying, the likely best on a discrete GPU first. The model: multiply-adds, or the loads from workgroup memory where
 * they take longer (16 multiply-adds each), and what staging costs a thread, times what ragged tiles and idle processors waste.
 */
export function convTiledCandidates(g: ConvGeometry, limits: WorkgroupLimits): TiledConvTile[] {
  const height = g.output[1];
  const [, kernelHeight, kernelWidth] = g.kernel;
  const step = widthOf(g.inputs);
  const flat = height === 1;
  const areas = flat
    ? [64, 128, 256].map((columns) => [1, columns] as const)
    : ([
        [16, 16],
        [8, 16],
        [8, 8],
        [4, 8],
        [4, 4],
      ] as const);
  const outputs = [...new Set([4, 8, 16, 32, 64].map((n) => Math.min(n, upTo(g.outputs, 4))))];
  const chunks = [...new Set([4, 8, 16, 32].map((n) => Math.min(n, upTo(g.inputs, step))))];
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
      ];
  const found: { tile: TiledConvTile; cost: number }[] = [];
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
            const fours = threadOutputs / 4;
            const loads = halo(threadRows, kernelHeight, g.stride) * threadColumns + kernelHeight * step * fours;
            const products = kernelHeight * step * accumulators;
            const staged = (stagedInput(g, tile) + stagedWeights(g, tile)) / threads;
            const turns = (kernelWidth * chunk) / step;
            const perProduct = Math.max(1, (16 * loads) / products) + (16 * staged + 64) / (turns * products);
            const groups = product(tilesOf(g, tile)) * outputBlocks(g, tile);
            const computed = groups * rows * columns * block * upTo(g.inputs, chunk);
            // Threads in flight on the whole GPU, and on one processor with room for 96 KiB of workgroup memory.
            const resident = threads * Math.floor(98304 / convTiledStorage(g, tile));
            const busy = Math.min(1, (groups * threads) / 65536) * Math.min(1, resident / 384);
            found.push({ tile, cost: (computed * perProduct) / (busy * product(g.output) * g.batch) });
          }
  found.sort((a, b) => a.cost - b.cost);
  return found.slice(0, 12).map(({ tile }) => tile);
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const slope = 0.01;
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
        ...(['outputs-first', 'outputs-last', 'gradient'] as const).map((weights) =>
          convTiledShader(dtype, g, { tile, weights, bias: weights === 'outputs-last', parameters: 'f32' }),
        ),
        ...[0, 0.5].flatMap((dropout) => [
          convTiledShader(dtype, g, {
            tile,
            weights: 'outputs-last',
            bias: dropout === 0,
            fusion: { load: { slope, dropout }, statistics: true },
          }),
          convTiledShader(dtype, g, {
            tile,
            weights: 'gradient',
            bias: false,
            fusion: { gradient: { slope, dropout }, base: dropout === 0 },
          }),
        ]),
      ];
    }),
  );
}
