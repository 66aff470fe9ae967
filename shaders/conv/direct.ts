// Convolution without workgroup memory: forward, and input gradient of stride 1, which is the same sum over weights read backwards.
// 2-D is 3-D with one slice. Shapes and tiles are compile-time constants.
//
//   y[n,p,o] = bias[o] + Σ_{tap,c} x[n, p·stride + tap − padding, c] · weight[o,tap,c]
//
// Loads dominate a convolution's cost, above all on CPU drivers: there one load costs as much as 10 to 30 multiply-adds,
// whatever its address pattern. So a thread keeps a tile of pixels × channels in named accumulators. With `quad`, each of the
// four invocations of a quad loads one of the values that all four need and shares it by quadBroadcast (an eighth of a load).

import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { epilogue, type KernelOptions, type Results, ridingAlong } from './epilogue.js';
import { type Activation, groupOf } from './fusion.js';
import {
  bindings,
  type ConvGeometry,
  element,
  evenGeometry,
  float,
  halo,
  lines,
  product,
  range,
  solidGeometry,
  squareGeometry,
  tileParts,
  tilesOf,
  vector,
  widthOf,
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

/** Threads over the output channels of one pixel tile, rounded up to whole quads where quads share loads. */
const channelThreads = (g: ConvGeometry, tile: ConvTile): number => {
  const threads = Math.ceil(g.outputs / tile.channels);
  return tile.quad ? 4 * Math.ceil(threads / 4) : threads;
};

/** Threads of a launch of `convShader`. */
export const convThreads = (g: ConvGeometry, tile: ConvTile): number =>
  channelThreads(g, tile) * product(tilesOf(g, tile));

/** Derived values that the functions of this generator share. */
interface Plan {
  readonly dtype: Float;
  readonly g: ConvGeometry;
  readonly tile: ConvTile;
  readonly options: Required<KernelOptions>;
  /** Input channels of one turn of the inner loop, and whether quads share them. */
  readonly turnChannels: 1 | 4;
  readonly quad: boolean;
  /** Elements of a vector of x, and of the weights. */
  readonly xWidth: 1 | 4;
  readonly weightWidth: 1 | 2 | 4;
  /** Type of an accumulator, the channels of a thread at one pixel. */
  readonly V: string;
  /** The pixels of a thread. */
  readonly rows: readonly number[];
  readonly columns: readonly number[];
  /** Whether tiles divide a row of the image without remainder. */
  readonly wholeColumns: boolean;
  /** Input columns that some pixel of a thread reads; column j lies j − padding from the first pixel's. */
  readonly columnsLoaded: readonly number[];
}

function planOf(dtype: Float, g: ConvGeometry, tile: ConvTile, options: Required<KernelOptions>): Plan {
  const turnChannels = widthOf(g.inputs);
  const quad = tile.quad && turnChannels === 4;
  const columns = range(tile.columns);
  const met = (j: number) => (p: number) => j - p * g.stride >= 0 && j - p * g.stride < g.kernel[2];
  return {
    ...{ dtype, g, tile, options, turnChannels, quad, columns },
    xWidth: quad ? 1 : turnChannels,
    weightWidth: options.weights === 'outputs-first' ? turnChannels : tile.channels,
    V: float(tile.channels),
    rows: range(tile.rows),
    wholeColumns: g.output[2] % tile.columns === 0,
    columnsLoaded: range(halo(tile.columns, g.kernel[2], g.stride)).filter((j) => columns.some(met(j))),
  };
}

/** A number from 0 divided by a constant: SwiftShader divides by shifts where it is told to, and else lane by lane. */
const quotient = (value: string, by: number): string =>
  Number.isInteger(Math.log2(by)) ? `${value} >> ${u32(Math.log2(by))}` : `${value} / ${by}`;

/** Accumulator of row r, column p of a thread. */
const cell = (r: number, p: number): string => `a${r}_${p}`;
const columnOf = ({ g }: Plan, j: number): number => j - g.padding[2];
const maybeOutside = (plan: Plan, j: number): boolean => {
  const { g, tile, wholeColumns } = plan;
  const column = columnOf(plan, j);
  return column < 0 || !wholeColumns || (g.output[2] - tile.columns) * g.stride + column >= g.input[2];
};

/** The input row under row r of a thread, for one row of the kernel. */
function rowAt({ g, tile }: Plan, r: number): string {
  const [depth, height, width] = g.input;
  const [kernelDepth, kernelHeight] = g.kernel;
  const mask = [];
  if (kernelDepth > 1) mask.push(`iz >= 0 && iz < ${depth}`);
  if (kernelHeight > 1 || g.output[1] % tile.rows) mask.push(`iy${r} >= 0 && iy${r} < ${height}`);
  return wgsl`    let iy${r} = (ty + ${r}) * ${g.stride} + ky - ${g.padding[1]};
    let rowInside${r} = ${mask.join(' && ') || 'true'};
    let row${r} = ((image * ${depth} + iz) * ${height} + iy${r}) * ${width} + tx * ${g.stride};`;
}

/** Loads the vector of x at row r, column j and applies `onLoad`; 0 outside the image. */
function load(plan: Plan, r: number, j: number): string {
  const { g, xWidth, options } = plan;
  const inside = maybeOutside(plan, j) ? `rowInside${r} && columnInside${j}` : `rowInside${r}`;
  const index = `u32(x${r} + ${(columnOf(plan, j) * g.inputs) / xWidth})`;
  const stored = `${float(xWidth)}(x[${index}])`;
  const value = options.fusion.onLoad ? `tail(${stored}, mean, scale, shift)` : stored;
  return `    let v${r}_${j} = select(${float(xWidth)}(0.0), ${value}, ${inside});`;
}

/** Index of the first weight of a thread at input channel c; the kernel's other columns lie at constant offsets from it. */
function weightStart({ g, options, weightWidth }: Plan): string {
  const { inputs, outputs } = g;
  const taps = product(g.kernel);
  const kernelWidth = g.kernel[2];
  return {
    'outputs-first': `((i32(o) * ${taps} + kernelRow * ${kernelWidth}) * ${inputs} + c) / ${weightWidth}`,
    gradient: `((c * ${taps} + ${taps - 1} - kernelRow * ${kernelWidth}) * ${outputs} + i32(o)) / ${weightWidth}`,
  }[options.weights];
}

/** Loads the weights of a turn up front where those of its input channels are adjacent in memory. */
const loadWeights = ({ g, tile, options, turnChannels }: Plan): string[] =>
  options.weights !== 'outputs-first'
    ? []
    : range(g.kernel[2]).flatMap((kx) =>
        range(tile.channels).map(
          (q) =>
            `    let k${kx}_${q} = ${float(turnChannels)}(weight[u32(w + ${((q * product(g.kernel) + kx) * g.inputs) / turnChannels})]);`,
        ),
      );

/** The weights of a thread's channels at column kx of the kernel and input channel c + u. */
function weightOf(
  { g, tile, options: { weights }, turnChannels, weightWidth, V }: Plan,
  kx: number,
  u: number,
): string {
  if (weights === 'outputs-first') {
    return `${V}(${range(tile.channels)
      .map((q) => element(`k${kx}_${q}`, turnChannels, u))
      .join(', ')})`;
  }
  return `${V}(weight[u32(w + ${((u * product(g.kernel) - kx) * g.outputs) / weightWidth})])`;
}

/** Multiply-adds of input channel c + u with one row of the kernel. */
function multiply(plan: Plan, u: number): string {
  const { g, tile, quad, xWidth, V, rows, columns, columnsLoaded } = plan;
  const taps = range(g.kernel[2]);
  const shared = (name: string): string => (quad ? `quadBroadcast(${name}, ${u}u)` : element(name, xWidth, u));
  const product = (r: number, p: number, kx: number): string => {
    const value = `b${r}_${p * g.stride + kx}`;
    return `      ${cell(r, p)} = fma(${tile.channels === 1 ? value : `${V}(${value})`}, w${kx}, ${cell(r, p)});`;
  };
  return lines([
    '    {',
    ...taps.map((kx) => `      let w${kx} = ${weightOf(plan, kx, u)};`),
    ...rows.flatMap((r) => columnsLoaded.map((j) => `      let b${r}_${j} = ${shared(`v${r}_${j}`)};`)),
    ...taps.flatMap((kx) => rows.flatMap((r) => columns.map((p) => product(r, p, kx)))),
    '    }',
  ]);
}

/** A thread's sums, for the epilogue. No other thread has the same channels of the same tile. */
function resultsOf({ dtype, g, tile, V, rows, columns, wholeColumns }: Plan): Results {
  const [, outHeight, outWidth] = g.output;
  const { channels } = tile;
  const channel = `o / ${u32(channels)}`;
  const groups = g.outputs / channels;
  const insideOf = (r: number, p: number): string =>
    [
      ...(outHeight % tile.rows && r > 0 ? [`ty + ${r} < ${outHeight}`] : []),
      ...(!wholeColumns && p > 0 ? [`tx + ${p} < ${outWidth}`] : []),
    ].join(' && ');
  const guarded = (inside: string, body: string): string => (inside ? `  if (${inside}) { ${body} }` : `  ${body}`);
  const pixels = rows.flatMap((r) => columns.map((p) => [r, p] as const));
  return {
    ...{ V, parts: tileParts(g, tile), sets: [[0]] },
    each: (_, body) =>
      pixels.map(([r, p]) => {
        const at = `u32(out + ${((r * outWidth + p) * g.outputs) / channels})`;
        return guarded(insideOf(r, p), body({ q: 0, value: cell(r, p), at, channel }));
      }),
    load: (name, at) => `${V}(${name}[${at}])`,
    store: (at, value) => `y[${at}] = ${vector(dtype, channels)}(${value});`,
    factors: (at) => `factors_at(${at})`,
    coefficient: (row, _, group) =>
      `zCoefficients[${group ? `${group} * ${u32(4 * groups)} + ` : ''}${row ? `${u32(row * groups)} + ` : ''}${channel}]`,
    storePart: (row, _, value) => `  partials[(part * 2u + ${u32(row)}) * ${u32(groups)} + ${channel}] = ${value};`,
    addUp: (value, total) => `  let ${total} = ${value};`,
    addProduct: (sum, a, b) => `${sum} += ${a} * ${b};`,
  };
}

/**
 * Forward kernel. Thread = `channels` neighbouring output channels × a tile of `rows` × `columns` pixels; neighbouring threads
 * take neighbouring channels of one tile. One loop takes rows of the kernel in turn and input channels four at a time (one where
 * their count is not a multiple of 4): at the end of every turn, of every loop around it, SwiftShader copies all accumulators.
 * Columns of the kernel, pixels and channels are unrolled.
 */
export function convShader(
  dtype: Float,
  g: ConvGeometry,
  { tile, fusion = {}, parameters = dtype, name = 'conv', ...given }: KernelOptions & { tile: ConvTile },
): string {
  if (fusion.onLoad?.dropout) throw new TypeError('convShader: dropout is not drawn on load; compute the input first.');
  const { bias } = given;
  const plan = planOf(dtype, g, tile, { ...given, fusion, parameters, name });
  const { turnChannels, quad, xWidth, weightWidth, V, rows, columns, columnsLoaded } = plan;
  const { inputs, outputs, stride } = g;
  const [outDepth, outHeight, outWidth] = g.output;
  const [kernelDepth, kernelHeight] = g.kernel;
  const turnsOfRow = inputs / turnChannels;
  const { channels } = tile;
  const [, tilesY, tilesX] = tilesOf(g, tile);
  const group = fusion.onLoad && groupOf(fusion.onLoad);
  const ofGroup = group ? `\n  let ofGroup = i32(${group}) * ${(4 * inputs) / xWidth};` : '';
  const coefficient = (row: number): string =>
    `coefficients[u32(${group ? 'ofGroup + ' : ''}${(row * inputs) / xWidth} + c${xWidth === 4 ? ' / 4' : ''}${quad ? ' + i32(thread & 3u)' : ''})]`;
  const columnInside = (j: number): string => {
    const column = `tx * ${stride} + ${columnOf(plan, j)}`;
    return `  let columnInside${j} = ${column} >= 0 && ${column} < ${g.input[2]};`;
  };
  return wgsl`${enable(dtype)}
#if ${quad}
enable subgroups;
#endif
@group(0) @binding(0) var<storage, read> x: array<${vector(dtype, xWidth)}, ${(g.batch * product(g.input) * inputs) / xWidth}>;
@group(0) @binding(1) var<storage, read> weight: array<${vector(parameters, weightWidth)}, ${(product(g.kernel) * inputs * outputs) / weightWidth}>;
@group(0) @binding(2) var<storage, read_write> y: array<${vector(dtype, channels)}, ${(g.batch * product(g.output) * outputs) / channels}>;
#if ${bias}
@group(0) @binding(3) var<storage, read> bias: array<${vector(parameters, channels)}, ${outputs / channels}>;
#endif
${lines(ridingAlong(bindings(bias ? 4 : 3), fusion, { dtype, loaded: xWidth, stored: channels }))}

@compute @workgroup_size(${tile.workgroup})
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let thread = ${flatIndex(tile.workgroup)};
  // No early return: quadBroadcast needs all invocations. What lies outside computes the last element again.
  let clamped = min(thread, ${u32(convThreads(g, tile) - 1)});
  let channel = (clamped % ${u32(channelThreads(g, tile))}) * ${u32(channels)};
  let o = min(channel, ${u32(outputs - channels)});
  let part = clamped / ${u32(channelThreads(g, tile))};
  let tx = i32(part % ${u32(tilesX)}) * ${tile.columns};
  let ty = i32(part / ${u32(tilesX)} % ${u32(tilesY)}) * ${tile.rows};
  let plane = i32(part / ${u32(tilesX * tilesY)});
  let image = plane / ${outDepth};
  let oz = plane % ${outDepth};${ofGroup}
${lines(columnsLoaded.filter((j) => maybeOutside(plan, j)).map(columnInside))}
#if ${bias}
  let start = ${V}(bias[o / ${u32(channels)}]);
#else
  let start = ${V}(0.0);
#endif
${lines(rows.flatMap((r) => columns.map((p) => `  var ${cell(r, p)} = start;`)))}
  for (var turn = 0; turn < ${kernelDepth * kernelHeight * turnsOfRow}; turn++) {
    let kernelRow = ${quotient('turn', turnsOfRow)};
    let c = (turn - kernelRow * ${turnsOfRow}) * ${turnChannels};
    let kz = ${kernelDepth === 1 ? '0' : quotient('kernelRow', kernelHeight)};
    let ky = kernelRow - kz * ${kernelHeight};
    let iz = oz * ${stride} + kz - ${g.padding[0]};
${lines(rows.map((r) => rowAt(plan, r)))}
    let w = ${weightStart(plan)};
#if ${fusion.onLoad !== undefined}
    let mean = ${coefficient(0)};
    let scale = ${coefficient(1)};
    let shift = ${coefficient(2)};
#endif
${lines(rows.map((r) => `    let x${r} = (row${r} * ${inputs} + c) / ${xWidth}${quad ? ' + i32(thread & 3u)' : ''};`))}
${lines(rows.flatMap((r) => columnsLoaded.map((j) => load(plan, r, j))))}
${lines(loadWeights(plan))}
${lines(range(turnChannels).map((u) => multiply(plan, u)))}
  }
  if (thread != clamped || channel != o) { return; }
  let out = (((plane * ${outHeight} + ty) * ${outWidth} + tx) * ${outputs} + i32(o)) / ${channels};

${lines(epilogue(fusion, resultsOf(plan)))}


}`;
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const activation: Activation = { slope: 0.01, dropout: 0 };
  const grouped: Activation = { ...activation, groups: [1, 1] };
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
          ...(['outputs-first', 'gradient'] as const).map((weights) =>
            convShader(dtype, g, { tile, weights, bias: !quad }),
          ),
          convShader(dtype, g, {
            tile,
            weights: 'outputs-first',
            bias: quad,
            fusion: { onLoad: activation, statistics: true },
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
          ...[{ onLoad: grouped }, { gradient: grouped }].map((fusion) =>
            convShader(dtype, g, { tile, weights: 'gradient', bias: false, fusion }),
          ),
        ];
      });
    }),
  );
}
