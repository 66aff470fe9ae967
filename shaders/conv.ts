// Convolution kernels: forward (and input gradient of stride 1, which is the same sum over flipped weights), input gradient
// of stride 2, weight gradient in two passes. 2-D is 3-D with one slice. Shapes and tiles are compile-time constants.
//
//   y[n,p,o]      = bias[o] + Σ_{tap,c} x[n, p·stride + tap − padding, c] · weight[o,tap,c]
//   dx[n,q,c]     = Σ_{tap,o} dy[n, (q + padding − tap)/stride, o] · weight[o,tap,c]      (where that is an output pixel)
//   dWeight[o,tap,c] = Σ_{n,p} dy[n,p,o] · x[n, p·stride + tap − padding, c]              dBias[o] = Σ_{n,p} dy[n,p,o]
//
// Loads are what a convolution pays for, above all on CPU drivers, where one costs as much as 10 to 30 multiply-adds
// whatever its address pattern. So a thread keeps a tile of pixels × channels in named accumulators, and with `quad` the four
// invocations of a quad load one value each of what all four need and pass it round by quadBroadcast (an eighth of a load).
import {
  type Activation,
  activated,
  activatedGradient,
  type ConvFusion,
  dropoutFactors,
  normalized,
  type Parts,
} from './conv-fusion.js';
import {
  type ConvGeometry,
  element,
  lines,
  product,
  range,
  type Triple,
  vector,
  type WeightOrder,
} from './conv-geometry.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

export type { ConvGeometry, WeightOrder } from './conv-geometry.js';

/** How one launch of the forward kernel is cut into threads. */
export interface ConvTile {
  /** Pixels of a thread: rows × columns. */
  readonly rows: number;
  readonly columns: number;
  /** Output channels of a thread: 1, 2 or 4; must divide `outputs`. */
  readonly channels: 1 | 2 | 4;
  /** Quads share loads by quadBroadcast; needs the feature `subgroups` and `inputs` % 4 = 0 to have an effect. */
  readonly quad: boolean;
  readonly workgroup: number;
}

/** Threads that compute output channels of one pixel tile; whole quads where quads share. */
const channelThreads = (g: ConvGeometry, tile: ConvTile): number => {
  const threads = Math.ceil(g.outputs / tile.channels);
  return tile.quad ? 4 * Math.ceil(threads / 4) : threads;
};

const tilesOf = (g: ConvGeometry, tile: ConvTile): Triple => [
  g.batch * g.output[0],
  Math.ceil(g.output[1] / tile.rows),
  Math.ceil(g.output[2] / tile.columns),
];

/** Threads of a launch of `convShader`. */
export const convThreads = (g: ConvGeometry, tile: ConvTile): number =>
  channelThreads(g, tile) * product(tilesOf(g, tile));

/** The partial sums of a fused launch: one part a pixel tile. */
export function convParts(g: ConvGeometry, tile: ConvTile): Parts {
  const [, tilesY, tilesX] = tilesOf(g, tile);
  const pixels = (size: number, per: number, at: string): string =>
    size % per ? `min(${u32(per)}, ${u32(size)} - ${at} * ${u32(per)})` : u32(per);
  const rows = pixels(g.output[1], tile.rows, `(part / ${u32(tilesX)} % ${u32(tilesY)})`);
  const columns = pixels(g.output[2], tile.columns, `(part % ${u32(tilesX)})`);
  return { count: product(tilesOf(g, tile)), pixelsOf: `(${rows} * ${columns})` };
}

/** `tail(z, mean, scale, shift)`: what the input still lacks. */
const tailFunction = (V: string, load: Activation): string => wgsl`
fn tail(z: ${V}, mean: ${V}, scale: ${V}, shift: ${V}) -> ${V} {
  let n = ${normalized('z', 'mean', 'scale', 'shift')};
  return ${activated('n', V, load.slope)};
}`;

/**
 * Forward kernel. Thread = `channels` neighbouring output channels × a tile of `rows` × `columns` pixels; neighbouring threads
 * take neighbouring channels of one tile. Loops: kernel depth and rows, then input channels in steps of 4 (1 where they are
 * no multiple of 4); columns of the kernel, pixels and channels are unrolled.
 */
export function convShader(
  dtype: Float,
  g: ConvGeometry,
  {
    tile,
    weights,
    bias,
    fusion = {},
    parameters = dtype,
    name = 'conv',
  }: {
    tile: ConvTile;
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
  if (tail?.dropout) throw new TypeError('convShader: dropout is not drawn on load; compute the input first.');
  const [depth, height, width] = g.input;
  const [outDepth, outHeight, outWidth] = g.output;
  const [kernelDepth, kernelHeight, kernelWidth] = g.kernel;
  const [padDepth, padHeight, padWidth] = g.kernel.map((k) => (k - 1) / 2) as unknown as Triple;
  const taps = product(g.kernel);
  const { rows, columns, channels } = tile;
  const [, tilesY, tilesX] = tilesOf(g, tile);
  const step = inputs % 4 === 0 ? 4 : 1;
  const quad = tile.quad && step === 4;
  const xWidth = quad ? 1 : step;
  const weightWidth = weights === 'outputs-first' ? step : channels;
  const accumulator = channels === 1 ? 'f32' : `vec${channels}f`;

  const loaded = (columns - 1) * stride + kernelWidth;
  const column = (j: number): number => j - padWidth;
  const usedColumn = (j: number): boolean =>
    range(columns).some((p) => j - p * stride >= 0 && j - p * stride < kernelWidth);
  const columnsLoaded = range(loaded).filter(usedColumn);
  const wholeColumns = outWidth % columns === 0;
  const maybeOutside = (j: number): boolean =>
    column(j) < 0 || !wholeColumns || (outWidth - columns) * stride + column(j) >= width;

  const rowAt = (r: number): string => {
    const mask = [];
    if (kernelDepth > 1) mask.push(`iz >= 0 && iz < ${depth}`);
    if (kernelHeight > 1 || outHeight % rows) mask.push(`iy${r} >= 0 && iy${r} < ${height}`);
    return wgsl`    let iy${r} = (ty + ${r}) * ${stride} + ky - ${padHeight};
    let rowInside${r} = ${mask.join(' && ') || 'true'};
    let row${r} = ((image * ${depth} + iz) * ${height} + iy${r}) * ${width} + tx * ${stride};`;
  };
  const load = (r: number, j: number): string => {
    const inside = maybeOutside(j) ? `rowInside${r} && columnInside${j}` : `rowInside${r}`;
    const index = `u32(x${r} + ${(column(j) * inputs) / xWidth})`;
    const stored = `${xWidth === 1 ? 'f32' : 'vec4f'}(x[${index}])`;
    const value = tail ? `tail(${stored}, mean, scale, shift)` : stored;
    return `      let v${r}_${j} = select(${xWidth === 1 ? 'f32' : 'vec4f'}(0.0), ${value}, ${inside});`;
  };
  // Index of the first weight of a thread at input channel c; the columns of the kernel are constants away from it.
  const weightStart = {
    'outputs-first': `((i32(o) * ${taps} + kernelRow * ${kernelWidth}) * ${inputs} + c) / ${weightWidth}`,
    'outputs-last': `((kernelRow * ${kernelWidth * inputs} + c) * ${outputs} + i32(o)) / ${weightWidth}`,
    gradient: `((c * ${taps} + ${taps - 1} - kernelRow * ${kernelWidth}) * ${outputs} + i32(o)) / ${weightWidth}`,
  }[weights];
  const weightAt = (kx: number, u: number): string => {
    const apart = { 'outputs-last': kx * inputs + u, gradient: u * taps - kx, 'outputs-first': 0 }[weights];
    return `${accumulator}(weight[u32(w + ${(apart * outputs) / weightWidth})])`;
  };
  const loadWeights = (): string[] =>
    weights !== 'outputs-first'
      ? []
      : range(kernelWidth).flatMap((kx) =>
          range(channels).map(
            (q) =>
              `      let k${kx}_${q} = ${step === 1 ? 'f32' : 'vec4f'}(weight[u32(w + ${((q * taps + kx) * inputs) / step})]);`,
          ),
        );
  const weightOf = (kx: number, u: number): string =>
    weights === 'outputs-first'
      ? `${accumulator}(${range(channels)
          .map((q) => element(`k${kx}_${q}`, step, u))
          .join(', ')})`
      : weightAt(kx, u);
  const multiply = (u: number): string =>
    lines([
      '      {',
      ...range(kernelWidth).map((kx) => `      let w${kx} = ${weightOf(kx, u)};`),
      ...range(rows).flatMap((r) =>
        columnsLoaded.map(
          (j) =>
            `      let b${r}_${j} = ${quad ? `quadBroadcast(v${r}_${j}, ${u}u)` : element(`v${r}_${j}`, xWidth, u)};`,
        ),
      ),
      ...range(kernelWidth).flatMap((kx) =>
        range(rows).flatMap((r) =>
          range(columns).map((p) => {
            const value = `b${r}_${p * stride + kx}`;
            return `      a${r}_${p} = fma(${channels === 1 ? value : `${accumulator}(${value})`}, w${kx}, a${r}_${p});`;
          }),
        ),
      ),
      '      }',
    ]);
  const insideOf = (r: number, p: number): string =>
    [
      ...(outHeight % rows && r > 0 ? [`ty + ${r} < ${outHeight}`] : []),
      ...(!wholeColumns && p > 0 ? [`tx + ${p} < ${outWidth}`] : []),
    ].join(' && ');
  const guarded = (inside: string, body: string): string => (inside ? `  if (${inside}) { ${body} }` : `  ${body}`);
  const indexOf = (r: number, p: number): string => `u32(out + ${((r * outWidth + p) * outputs) / channels})`;
  const store = (r: number, p: number): string =>
    gradient
      ? guarded(insideOf(r, p) || 'true', derivative(r, p))
      : guarded(insideOf(r, p), `y[${indexOf(r, p)}] = ${vector(dtype, channels)}(a${r}_${p});`);
  const pixels = range(rows).flatMap((r) => range(columns).map((p) => [r, p] as const));
  // Statistics from the registers, in two passes: mean, then squares around it.
  const summed = (each: (r: number, p: number) => string): string[] =>
    pixels.map(([r, p]) => guarded(insideOf(r, p), each(r, p)));
  const statisticsLines = [
    `  var sum = ${accumulator}(0.0);`,
    ...summed((r, p) => `sum += a${r}_${p};`),
    `  let pixelCount = ${convParts(g, tile).pixelsOf};`,
    '  let average = sum / f32(pixelCount);',
    `  var squares = ${accumulator}(0.0);`,
    ...summed((r, p) => `squares += (a${r}_${p} - average) * (a${r}_${p} - average);`),
    `  partials[${partAt(0)}] = average;`,
    `  partials[${partAt(1)}] = squares;`,
  ];
  function partAt(row: 0 | 1): string {
    return `(part * 2u + ${u32(row)}) * ${u32(outputs / channels)} + o / ${u32(channels)}`;
  }
  function derivative(r: number, p: number): string {
    const at = indexOf(r, p);
    const n = normalized('centered', `${accumulator}(0.0)`, 'outScale', 'outShift');
    const factors = gradient?.dropout ? ' * factors_at(at)' : '';
    return `let at = ${at}; let centered = ${accumulator}(z[at]) - outMean; let n = ${n};
    let g = ${base ? `(a${r}_${p} + ${accumulator}(base[at]))` : `a${r}_${p}`} * ${activatedGradient('n', accumulator, gradient!.slope)}${factors};
    sum += g; product += g * centered; y[at] = ${vector(dtype, channels)}(g);`;
  }
  const gradientLines = gradient
    ? [
        `  let outMean = zCoefficients[o / ${u32(channels)}];`,
        `  let outScale = zCoefficients[${u32(outputs / channels)} + o / ${u32(channels)}];`,
        `  let outShift = zCoefficients[${u32((2 * outputs) / channels)} + o / ${u32(channels)}];`,
        `  var sum = ${accumulator}(0.0);`,
        `  var product = ${accumulator}(0.0);`,
      ]
    : [];
  const coefficient = (row: number): string =>
    `coefficients[u32(${(row * inputs) / xWidth} + c${xWidth === 4 ? ' / 4' : ''}${quad ? ' + i32(thread & 3u)' : ''})]`;
  let slot = bias ? 4 : 3;
  const binding = (access: string, name: string, type: string): string =>
    `@group(0) @binding(${slot++}) var<storage, ${access}> ${name}: array<${type}>;`;
  const fused = [
    ...(tail ? [binding('read', 'coefficients', xWidth === 1 ? 'f32' : 'vec4f')] : []),
    ...(statistics || gradient ? [binding('read_write', 'partials', accumulator)] : []),
    ...(gradient ? [binding('read', 'z', vector(dtype, channels)), binding('read', 'zCoefficients', accumulator)] : []),
    ...(gradient?.dropout ? [binding('read', 'random', 'u32'), binding('read', 'stream', 'u32')] : []),
    ...(base ? [binding('read', 'base', vector(dtype, channels))] : []),
    ...(tail ? [tailFunction(xWidth === 1 ? 'f32' : 'vec4f', tail)] : []),
    ...(gradient?.dropout ? [dropoutFactors(gradient.dropout, channels)] : []),
  ];

  return wgsl`${enable(dtype)}
#if ${quad}
enable subgroups;
#endif
@group(0) @binding(0) var<storage, read> x: array<${vector(dtype, xWidth)}, ${(g.batch * product(g.input) * inputs) / xWidth}>;
@group(0) @binding(1) var<storage, read> weight: array<${vector(parameters, weightWidth)}, ${(taps * inputs * outputs) / weightWidth}>;
@group(0) @binding(2) var<storage, read_write> y: array<${vector(dtype, channels)}, ${(g.batch * product(g.output) * outputs) / channels}>;
#if ${bias}
@group(0) @binding(3) var<storage, read> bias: array<${vector(parameters, channels)}, ${outputs / channels}>;
#endif
${lines(fused)}

@compute @workgroup_size(${tile.workgroup})
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let thread = ${flatIndex(tile.workgroup)};
  // No early return: quadBroadcast needs all invocations. What lies outside computes the last element again.
  let clamped = min(thread, ${u32(convThreads(g, tile) - 1)});
  let channel = (clamped % ${u32(channelThreads(g, tile))}) * ${u32(channels)};
  let o = min(channel, ${u32(outputs - channels)});
  let part = clamped / ${u32(channelThreads(g, tile))};
  let tx = i32(part % ${u32(tilesX)}) * ${columns};
  let ty = i32(part / ${u32(tilesX)} % ${u32(tilesY)}) * ${rows};
  let plane = i32(part / ${u32(tilesX * tilesY)});
  let image = plane / ${outDepth};
  let oz = plane % ${outDepth};
${lines(
  columnsLoaded
    .filter(maybeOutside)
    .map(
      (j) => `  let columnInside${j} = tx * ${stride} + ${column(j)} >= 0 && tx * ${stride} + ${column(j)} < ${width};`,
    ),
)}
#if ${bias}
  let start = ${accumulator}(bias[o / ${u32(channels)}]);
#else
  let start = ${accumulator}(0.0);
#endif
${lines(pixels.map(([r, p]) => `  var a${r}_${p} = start;`))}
  for (var kernelRow = 0; kernelRow < ${kernelDepth * kernelHeight}; kernelRow++) {
    let ky = kernelRow % ${kernelHeight};
    let iz = oz * ${stride} + kernelRow / ${kernelHeight} - ${padDepth};
${lines(range(rows).map(rowAt))}
    for (var c = 0; c < ${inputs}; c += ${step}) {
      let w = ${weightStart};
#if ${tail !== undefined}
      let mean = ${coefficient(0)};
      let scale = ${coefficient(1)};
      let shift = ${coefficient(2)};
#endif
${lines(range(rows).map((r) => `      let x${r} = (row${r} * ${inputs} + c) / ${xWidth}${quad ? ' + i32(thread & 3u)' : ''};`))}
${lines(range(rows).flatMap((r) => columnsLoaded.map((j) => load(r, j))))}
${lines(loadWeights())}
${lines(range(step).map(multiply))}
    }
  }
  if (thread != clamped || channel != o) { return; }
  let out = (((plane * ${outHeight} + ty) * ${outWidth} + tx) * ${outputs} + i32(o)) / ${channels};
${lines(gradientLines)}
${lines(pixels.map(([r, p]) => store(r, p)))}
#if ${statistics}
${lines(statisticsLines)}
#endif
#if ${gradient !== undefined}
  partials[${partAt(0)}] = sum;
  partials[${partAt(1)}] = product;
#endif
}`;
}

/** [O, tap, C] → [tap, C, O]: one thread per element, written in order. */
export const transposeWeightShader = (
  dtype: Float,
  { outputs, inputs, kernel }: Pick<ConvGeometry, 'outputs' | 'inputs' | 'kernel'>,
): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> weight: array<${dtype}>;
@group(0) @binding(1) var<storage, read_write> prepared: array<${dtype}>;

@compute @workgroup_size(64)
fn conv_prepare_weight(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(product(kernel) * inputs * outputs)}) { return; }
  prepared[i] = weight[(i % ${u32(outputs)}) * ${u32(product(kernel) * inputs)} + i / ${u32(outputs)}];
}`;

/** Pixels of one thread of `convStridedGradientShader`: every other column of a row. */
const stridedColumns = 4;

const stridedTiles = (g: ConvGeometry): number => 2 * Math.ceil(Math.ceil(g.input[2] / 2) / stridedColumns);
const stridedWidth = (g: ConvGeometry): 1 | 4 => (g.inputs % 4 === 0 ? 4 : 1);

/** Threads of a launch of `convStridedGradientShader`. */
export const convStridedGradientThreads = (g: ConvGeometry): number =>
  (g.inputs / stridedWidth(g)) * stridedTiles(g) * g.batch * g.input[0] * g.input[1];

/**
 * Input gradient of stride 2. Thread = 4 (or 1) neighbouring input channels × 4 columns of one row, all even or all odd, so
 * that they meet the same taps; taps that fall between output pixels are never visited.
 */
export function convStridedGradientShader(dtype: Float, g: ConvGeometry, parameters = dtype): string {
  const [depth, height, width] = g.input;
  const [outDepth, outHeight, outWidth] = g.output;
  const [kernelDepth, kernelHeight, kernelWidth] = g.kernel;
  const [padDepth, padHeight, padWidth] = g.kernel.map((k) => (k - 1) / 2) as unknown as Triple;
  const channels = stridedWidth(g);
  const groups = g.inputs / channels;
  const tiles = stridedTiles(g);
  const accumulator = channels === 1 ? 'f32' : 'vec4f';
  const columns = range(stridedColumns);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> dy: array<${dtype}>;
@group(0) @binding(1) var<storage, read> weight: array<${vector(parameters, channels)}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${vector(dtype, channels)}>;

@compute @workgroup_size(64)
fn conv_strided_input_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let thread = ${flatIndex(64)};
  if (thread >= ${u32(convStridedGradientThreads(g))}) { return; }
  let c = i32(thread % ${u32(groups)});
  let part = i32(thread / ${u32(groups)} % ${u32(tiles)});
  let row = i32(thread / ${u32(groups * tiles)});
  let parity = part % 2;
  let x0 = part / 2 * ${2 * stridedColumns} + parity;
  let y = row % ${height};
  let z = row / ${height} % ${depth};
  let image = row / ${height * depth};
${lines(columns.map((p) => `  var a${p} = ${accumulator}(0.0);`))}
  for (var kz = (z + ${padDepth}) % 2; kz < ${kernelDepth}; kz += 2) {
    let oz = (z + ${padDepth} - kz) / 2;
    if (z + ${padDepth} < kz || oz >= ${outDepth}) { continue; }
    for (var ky = (y + ${padHeight}) % 2; ky < ${kernelHeight}; ky += 2) {
      let oy = (y + ${padHeight} - ky) / 2;
      if (y + ${padHeight} < ky || oy >= ${outHeight}) { continue; }
      for (var kx = (parity + ${padWidth}) % 2; kx < ${kernelWidth}; kx += 2) {
        let ox = (x0 + ${padWidth} - kx) / 2;
        let pixel = ((image * ${outDepth} + oz) * ${outHeight} + oy) * ${outWidth} + ox;
        let tap = (kz * ${kernelHeight} + ky) * ${kernelWidth} + kx;
${lines(columns.map((p) => `        let inside${p} = ox + ${p} >= 0 && ox + ${p} < ${outWidth};`))}
        for (var o = 0; o < ${g.outputs}; o++) {
          let w = ${accumulator}(weight[u32((o * ${product(g.kernel)} + tap) * ${groups} + c)]);
${lines(
  columns.map(
    (p) => `          a${p} += w * select(0.0, f32(dy[u32((pixel + ${p}) * ${g.outputs} + o)]), inside${p});`,
  ),
)}
        }
      }
    }
  }
${lines(
  columns.map(
    (p) =>
      `  if (x0 + ${2 * p} < ${width}) { dx[u32((row * ${width} + x0 + ${2 * p}) * ${groups} + c)] = ${vector(dtype, channels)}(a${p}); }`,
  ),
)}
}`;
}

/** How the weight gradient's first pass is cut into threads and slices. */
export interface WeightGradientTile {
  /** Neighbouring input channels of a thread: 1, 2 or 4; must divide `inputs`. */
  readonly inputs: 1 | 2 | 4;
  /** Neighbouring output channels of a thread; must divide `outputs`. With `quad` 4, 8 or 16. */
  readonly outputs: number;
  /** True: a thread has all taps of the kernel; false: one row of taps. */
  readonly allRows: boolean;
  /** Pixels of one turn of the inner loop. */
  readonly unroll: number;
  /** Quads share loads of dy by quadBroadcast; needs the feature `subgroups`. */
  readonly quad: boolean;
  /** Slices of output rows, each summed by threads of its own. */
  readonly slices: number;
  readonly workgroup: number;
}

const inputThreads = (g: ConvGeometry, tile: WeightGradientTile): number => {
  const threads = Math.ceil(g.inputs / tile.inputs);
  return tile.quad ? 4 * Math.ceil(threads / 4) : threads;
};

/** Threads of the weight gradient's first pass for one slice. */
export const weightGradientThreads = (g: ConvGeometry, tile: WeightGradientTile): number =>
  inputThreads(g, tile) * (tile.allRows ? 1 : g.kernel[0] * g.kernel[1]) * (g.outputs / tile.outputs);

/**
 * Weight gradient, first pass: dWeight [slices, O, tap, C] and dBias [slices, O], each slice the sum over its share of the
 * output rows in a fixed order. Thread = `inputs` × `outputs` channels × one row of taps (or all); along a row of pixels the
 * window of x slides, so each element of x is loaded once per row of taps. Neighbouring threads take neighbouring input
 * channels. With one slice this pass writes the gradient itself.
 */
export function weightGradientShader(
  dtype: Float,
  g: ConvGeometry,
  { tile, bias, load: tail }: { tile: WeightGradientTile; bias: boolean; load?: Activation | undefined },
): string {
  if (tail?.dropout)
    throw new TypeError('weightGradientShader: dropout is not drawn on load; compute the input first.');
  const { stride } = g;
  const [depth, height, width] = g.input;
  const [outDepth, outHeight, outWidth] = g.output;
  const [kernelDepth, kernelHeight, kernelWidth] = g.kernel;
  const [padDepth, padHeight, padWidth] = g.kernel.map((k) => (k - 1) / 2) as unknown as Triple;
  const taps = product(g.kernel);
  const { quad, unroll, slices } = tile;
  const kernelRows = kernelDepth * kernelHeight;
  const rows = g.batch * outDepth * outHeight;
  const sliceRows = Math.ceil(rows / slices);
  const perSlice = weightGradientThreads(g, tile);
  const rowThreads = tile.allRows ? 1 : kernelRows;
  const accumulator = tile.inputs === 1 ? 'f32' : `vec${tile.inputs}f`;
  // Elements of one load of dy, and loads for the output channels of a thread (of a quad).
  const dyWidth = quad ? tile.outputs / 4 : tile.outputs % 4 === 0 ? 4 : 1;
  const dyLoads = quad ? 1 : tile.outputs / dyWidth;
  const dyType = dyWidth === 1 ? 'f32' : `vec${dyWidth}f`;
  const ownRows = range(tile.allRows ? kernelRows : 1);
  const carried = stride === 1 ? kernelWidth - 1 : 0;
  const loaded = (unroll - 1) * stride + kernelWidth;
  const wholeColumns = outWidth % unroll === 0;
  const usedColumn = (j: number): boolean =>
    range(unroll).some((u) => j - u * stride >= 0 && j - u * stride < kernelWidth);
  const columnsLoaded = range(loaded).filter((j) => j >= carried && usedColumn(j));

  const rowAt = (r: number): string => {
    const row = tile.allRows ? `${r}` : 'kernelRow';
    return wgsl`    let iz${r} = z * ${stride} + ${row} / ${kernelHeight} - ${padDepth};
    let iy${r} = y * ${stride} + ${row} % ${kernelHeight} - ${padHeight};
    let rowInside${r} = iz${r} >= 0 && iz${r} < ${depth} && iy${r} >= 0 && iy${r} < ${height};
    let row${r} = (((image * ${depth} + iz${r}) * ${height} + iy${r}) * ${width}) * ${g.inputs / tile.inputs} + i;`;
  };
  const loadAt = (r: number, column: string, inside: string): string => {
    const stored = `${accumulator}(x[u32(row${r} + (${column}) * ${g.inputs / tile.inputs})])`;
    return `select(${accumulator}(0.0), ${tail ? `tail(${stored}, mean, scale, shift)` : stored}, ${inside})`;
  };
  const coefficient = (row: number): string => `coefficients[u32(${(row * g.inputs) / tile.inputs} + i)]`;
  const outside = (j: number): boolean =>
    !wholeColumns || j < padWidth || (outWidth - unroll) * stride + j - padWidth >= width;
  const load = (r: number, j: number): string => {
    const column = `ox * ${stride} + ${j - padWidth}`;
    const inside = outside(j)
      ? `rowInside${r} && ${column} < ${width}${j < padWidth ? ` && ${column} >= 0` : ''}`
      : `rowInside${r}`;
    return `      let v${r}_${j} = ${loadAt(r, column, inside)};`;
  };
  const firstColumns = (r: number): string[] =>
    range(carried).map((j) => {
      const column = j - padWidth;
      const value = column < 0 || column >= width ? `${accumulator}(0.0)` : loadAt(r, String(column), `rowInside${r}`);
      return `    var carry${r}_${j} = ${value};`;
    });
  const window = (r: number, j: number): string => (j < carried ? `before${r}_${j}` : `v${r}_${j}`);
  const loadDy = (u: number): string[] =>
    range(dyLoads).map((l) => {
      const index = `(pixel + ${u}) * ${g.outputs / dyWidth} + dyStart + ${l}`;
      const value = `${dyType}(dy[u32(${index})])`;
      const mask = [
        ...(rows % slices ? ['rowValid'] : []),
        ...(!wholeColumns && u > 0 ? [`ox + ${u} < ${outWidth}`] : []),
      ].join(' && ');
      return `      let d${u}_${l} = ${mask ? `select(${dyType}(0.0), ${value}, ${mask})` : value};`;
    });
  // dy of pixel u and output channel o of the thread.
  const spread = (u: number): string[] =>
    quad
      ? range(4).map((lane) => `      let e${u}_${lane} = quadBroadcast(d${u}_0, ${lane}u);`)
      : range(dyLoads).map((l) => `      let e${u}_${l} = d${u}_${l};`);
  const dyOf = (u: number, o: number): string => element(`e${u}_${Math.floor(o / dyWidth)}`, dyWidth, o % dyWidth);
  const accumulators = ownRows.flatMap((r) =>
    range(kernelWidth).flatMap((kx) => range(tile.outputs).map((o) => ({ r, kx, o, name: `a${r}_${kx}_${o}` }))),
  );
  const multiply = accumulators.flatMap(({ r, kx, o, name }) =>
    range(unroll).map((u) => {
      const value = dyOf(u, o);
      return `      ${name} = fma(${window(r, u * stride + kx)}, ${tile.inputs === 1 ? value : `${accumulator}(${value})`}, ${name});`;
    }),
  );
  const store = ({ r, kx, o, name }: { r: number; kx: number; o: number; name: string }): string => {
    const row = tile.allRows ? `${r}` : 'kernelRow';
    return `  dWeight[u32((((slice * ${g.outputs} + o + ${o}) * ${taps} + ${row} * ${kernelWidth} + ${kx}) * ${g.inputs / tile.inputs}) + i)] = ${name};`;
  };

  return wgsl`${enable(dtype)}
#if ${quad}
enable subgroups;
#endif
@group(0) @binding(0) var<storage, read> x: array<${vector(dtype, tile.inputs)}, ${(g.batch * product(g.input) * g.inputs) / tile.inputs}>;
@group(0) @binding(1) var<storage, read> dy: array<${vector(dtype, dyWidth)}, ${(g.batch * product(g.output) * g.outputs) / dyWidth}>;
@group(0) @binding(2) var<storage, read_write> dWeight: array<${accumulator}, ${(slices * taps * g.inputs * g.outputs) / tile.inputs}>;
#if ${bias}
@group(0) @binding(3) var<storage, read_write> dBias: array<f32, ${slices * g.outputs}>;
#endif
#if ${tail !== undefined}
@group(0) @binding(${bias ? 4 : 3}) var<storage, read> coefficients: array<${accumulator}>;
${tail ? tailFunction(accumulator, tail) : ''}
#endif

@compute @workgroup_size(${tile.workgroup})
fn conv_weight_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let thread = ${flatIndex(tile.workgroup)};
  let clamped = min(thread, ${u32(perSlice * slices - 1)}); // no early return: quadBroadcast needs all invocations
  let inputThread = i32(clamped % ${u32(inputThreads(g, tile))});
  let i = min(inputThread, ${g.inputs / tile.inputs - 1});
  let kernelRow = i32(clamped / ${u32(inputThreads(g, tile))} % ${u32(rowThreads)});
  let o = i32(clamped / ${u32(inputThreads(g, tile) * rowThreads)} % ${u32(g.outputs / tile.outputs)}) * ${tile.outputs};
  let slice = i32(clamped / ${u32(perSlice)});
  let dyStart = o / ${dyWidth}${quad ? ' + i32(thread & 3u)' : ''};
#if ${tail !== undefined}
  let mean = ${coefficient(0)};
  let scale = ${coefficient(1)};
  let shift = ${coefficient(2)};
#endif
${lines(accumulators.map(({ name }) => `  var ${name} = ${accumulator}(0.0);`))}
#if ${bias}
${lines(range(dyLoads).map((l) => `  var bias${l} = ${dyType}(0.0);`))}
#endif
  for (var turn = 0; turn < ${sliceRows}; turn++) {
    let sliceRow = slice * ${sliceRows} + turn;
    let rowValid = sliceRow < ${rows};
    let row = min(sliceRow, ${rows - 1});
    let y = row % ${outHeight};
    let z = row / ${outHeight} % ${outDepth};
    let image = row / ${outHeight * outDepth};
${lines(ownRows.map(rowAt))}
${lines(ownRows.flatMap(firstColumns))}
    for (var ox = 0; ox < ${outWidth}; ox += ${unroll}) {
      let pixel = row * ${outWidth} + ox;
${lines(ownRows.flatMap((r) => range(carried).map((j) => `      let before${r}_${j} = carry${r}_${j};`)))}
${lines(ownRows.flatMap((r) => columnsLoaded.map((j) => load(r, j))))}
${lines(range(unroll).flatMap(loadDy))}
#if ${bias}
${lines(range(unroll).flatMap((u) => range(dyLoads).map((l) => `      bias${l} += d${u}_${l};`)))}
#endif
${lines(range(unroll).flatMap(spread))}
${lines(multiply)}
${lines(ownRows.flatMap((r) => range(carried).map((j) => `      carry${r}_${j} = ${window(r, unroll + j)};`)))}
    }
  }
  if (thread != clamped) { return; }
#if ${bias}
  if (kernelRow == 0 && inputThread < ${quad ? 4 : 1}) {
${lines(
  range(dyLoads * dyWidth).map(
    (e) =>
      `    dBias[u32(slice * ${g.outputs} + dyStart * ${dyWidth} + ${e})] = ${element(`bias${Math.floor(e / dyWidth)}`, dyWidth, e % dyWidth)};`,
  ),
)}
  }
#endif
  if (inputThread != i) { return; }
${lines(accumulators.map(store))}
}`;
}

/**
 * Weight gradient, second pass: sums [slices, size] over slices in a fixed order, for weights and bias in one launch. Sizes are
 * read from the bindings, so that all convolutions share one pipeline.
 */
export function sumSlicesShader(dtype: Float, { bias }: { bias: boolean }): string {
  const total = (parts: string, sum: string, at: string): string => wgsl`
    let size = arrayLength(&${sum});
    let end = arrayLength(&${parts});
    var a = 0.0;
    var b = 0.0;
    var next = ${at};
    for (; next + size < end; next += 2u * size) {
      a += ${parts}[next];
      b += ${parts}[next + size];
    }
    if (next < end) { a += ${parts}[next]; }
    ${sum}[${at}] = ${dtype}(a + b);`;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> partialWeight: array<f32>;
@group(0) @binding(1) var<storage, read_write> dWeight: array<${dtype}>;
#if ${bias}
@group(0) @binding(2) var<storage, read> partialBias: array<f32>;
@group(0) @binding(3) var<storage, read_write> dBias: array<${dtype}>;
#endif

@compute @workgroup_size(64)
fn conv_sum_slices(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  let weights = arrayLength(&dWeight);
  if (i < weights) {${total('partialWeight', 'dWeight', 'i')}
  }
#if ${bias}
  if (i >= weights && i < weights + arrayLength(&dBias)) {
    let j = i - weights;${total('partialBias', 'dBias', 'j')}
  }
#endif
}`;
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const flat = (inputs: number, outputs: number, k: number, stride: 1 | 2, size = 12): ConvGeometry => {
    const output = Math.ceil(size / stride);
    return {
      batch: 2,
      input: [1, size, size],
      output: [1, output, output],
      inputs,
      outputs,
      kernel: [1, k, k],
      stride,
    };
  };
  const solid: ConvGeometry = { ...flat(8, 8, 3, 1), input: [4, 6, 7], output: [4, 6, 7], kernel: [3, 3, 3] };
  const load: Activation = { slope: 0.01, dropout: 0 };
  const geometries = [flat(16, 16, 3, 1), flat(8, 4, 1, 1), flat(3, 5, 3, 1, 13), flat(1, 8, 3, 2, 13), solid];
  return (['f32', 'f16'] as const).flatMap((dtype) => [
    ...geometries.flatMap((g) => {
      const channels = g.outputs % 4 === 0 ? 4 : 1;
      const weightInputs = g.inputs % 4 === 0 ? 4 : 1;
      return [true, false].flatMap((quad) => {
        const tile: ConvTile = { rows: 2, columns: 4, channels, quad, workgroup: 64 };
        const inner = { inputs: weightInputs, outputs: channels, unroll: 2, slices: 2, workgroup: 64 } as const;
        return [
          ...(['outputs-first', 'outputs-last', 'gradient'] as const).map((weights) =>
            convShader(dtype, g, { tile, weights, bias: !quad }),
          ),
          convShader(dtype, g, {
            tile,
            weights: 'outputs-first',
            bias: quad,
            fusion: { load, statistics: true },
            parameters: 'f32',
          }),
          ...[0, 0.5].map((dropout) =>
            convShader(dtype, g, {
              tile,
              weights: 'gradient',
              bias: false,
              fusion: { gradient: { slope: 0.01, dropout }, base: dropout === 0 },
            }),
          ),
          ...[true, false].map((allRows) =>
            weightGradientShader(dtype, g, {
              tile: { ...inner, allRows, quad: quad && channels === 4 },
              bias: quad,
              load: allRows ? load : undefined,
            }),
          ),
        ];
      });
    }),
    convStridedGradientShader(dtype, flat(8, 4, 3, 2, 13)),
    convStridedGradientShader(dtype, flat(3, 5, 1, 2), 'f32'),
    transposeWeightShader(dtype, solid),
    sumSlicesShader(dtype, { bias: true }),
    sumSlicesShader(dtype, { bias: false }),
  ]);
}
