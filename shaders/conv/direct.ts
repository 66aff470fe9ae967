// Convolution without workgroup memory: forward, and input gradient of stride 1, which is the same sum over weights read backwards.
// 2-D is 3-D with one slice. Shapes and tiles are compile-time constants.
//
//   y[n,p,o] = bias[o] + Σ_{tap,c} x[n, p·stride + tap − padding, c] · weight[o,tap,c]
//
// Loads are what a convolution pays for, above all on CPU drivers, where one costs as much as 10 to 30 multiply-adds
// whatever its address pattern. So a thread keeps a tile of pixels × channels in named accumulators, and with `quad` the four
// invocations of a quad load one value each of what all four need and pass it round by quadBroadcast (an eighth of a load).
import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import {
  type Activation,
  activatedGradient,
  type ConvFusion,
  dropoutFactors,
  normalized,
  tailFunction,
} from './fusion.js';
import {
  type ConvGeometry,
  element,
  evenGeometry,
  lines,
  product,
  range,
  solidGeometry,
  squareGeometry,
  tileParts,
  tilesOf,
  vector,
  type WeightOrder,
} from './geometry.js';

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

/** Threads of a launch of `convShader`. */
export const convThreads = (g: ConvGeometry, tile: ConvTile): number =>
  channelThreads(g, tile) * product(tilesOf(g, tile));

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
    fusion?: ConvFusion;
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
  const [padDepth, padHeight, padWidth] = g.padding;
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
    `  let pixelCount = ${tileParts(g, tile).pixelsOf};`,
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

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const load: Activation = { slope: 0.01, dropout: 0 };
  const geometries = [
    squareGeometry(16, 16, 3, 1, 12),
    squareGeometry(8, 4, 1, 1, 12),
    squareGeometry(3, 5, 3),
    squareGeometry(1, 8, 3, 2),
    solidGeometry,
    evenGeometry,
  ];
  return (['f32', 'f16'] as const).flatMap((dtype) =>
    geometries.flatMap((g) => {
      const channels = g.outputs % 4 === 0 ? 4 : 1;
      return [true, false].flatMap((quad) => {
        const tile: ConvTile = { rows: 2, columns: 4, channels, quad, workgroup: 64 };
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
        ];
      });
    }),
  );
}
