// Weight gradient without workgroup memory, first pass of split-K: separate threads sum each slice of the output rows.
//
//   dWeight[slice,o,tap,c] = Σ_{n,p of the slice} dy[n,p,o] · x[n, p·stride + tap − padding, c]      dBias[slice,o] = Σ dy[n,p,o]
//
// Loads are shared within quads as in direct.ts. The second pass is `sumSlicesShader` of slice-sums.ts.

import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { ridingAlong } from './epilogue.js';
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
  vector,
  widthOf,
} from './geometry.js';

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
  /** Slices of the output rows; separate threads sum each. */
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

/** Derived values that the functions of this generator share. */
interface Plan {
  readonly g: ConvGeometry;
  readonly tile: WeightGradientTile;
  readonly onLoad: Activation | undefined;
  /** Type of an accumulator, the input channels of a thread. */
  readonly V: string;
  /** Output rows of all images, and of one slice. */
  readonly rows: number;
  readonly sliceRows: number;
  /** Elements of one load of dy, and loads that a thread makes for its output channels (with `quad`, for its quarter of them). */
  readonly dyWidth: number;
  readonly dyLoads: number;
  /** Kernel rows that a thread sums, over all kernel depths. */
  readonly ownRows: readonly number[];
  /** Columns of the window that are kept from the previous turn, and those that a turn loads. */
  readonly carried: number;
  readonly columnsLoaded: readonly number[];
  /** Whether turns divide a row of the image without remainder. */
  readonly wholeColumns: boolean;
  /** One for each row r and column kx of the kernel, and output channel o of the thread. */
  readonly accumulators: readonly Accumulator[];
}
interface Accumulator {
  readonly r: number;
  readonly kx: number;
  readonly o: number;
  readonly name: string;
}

function planOf(g: ConvGeometry, tile: WeightGradientTile, onLoad: Activation | undefined): Plan {
  const [kernelDepth, kernelHeight, kernelWidth] = g.kernel;
  const { quad, unroll } = tile;
  const rows = g.batch * g.output[0] * g.output[1];
  const dyWidth = quad ? tile.outputs / 4 : tile.outputs % 4 === 0 ? 4 : 1;
  const ownRows = range(tile.allRows ? kernelDepth * kernelHeight : 1);
  const carried = g.stride === 1 ? kernelWidth - 1 : 0;
  const used = (j: number): boolean =>
    range(unroll).some((u) => j - u * g.stride >= 0 && j - u * g.stride < kernelWidth);
  return {
    ...{ g, tile, onLoad, rows, dyWidth, ownRows, carried },
    V: float(tile.inputs),
    sliceRows: Math.ceil(rows / tile.slices),
    dyLoads: quad ? 1 : tile.outputs / dyWidth,
    columnsLoaded: range(halo(unroll, kernelWidth, g.stride)).filter((j) => j >= carried && used(j)),
    wholeColumns: g.output[2] % unroll === 0,
    accumulators: ownRows.flatMap((r) =>
      range(kernelWidth).flatMap((kx) => range(tile.outputs).map((o) => ({ r, kx, o, name: `a${r}_${kx}_${o}` }))),
    ),
  };
}

/** The input row under kernel row r of a thread, for one row of the output. */
function rowAt({ g, tile }: Plan, r: number): string {
  const [depth, height, width] = g.input;
  const kernelHeight = g.kernel[1];
  const row = tile.allRows ? `${r}` : 'kernelRow';
  return wgsl`    let iz${r} = z * ${g.stride} + ${row} / ${kernelHeight} - ${g.padding[0]};
    let iy${r} = y * ${g.stride} + ${row} % ${kernelHeight} - ${g.padding[1]};
    let rowInside${r} = iz${r} >= 0 && iz${r} < ${depth} && iy${r} >= 0 && iy${r} < ${height};
    let row${r} = (((image * ${depth} + iz${r}) * ${height} + iy${r}) * ${width}) * ${g.inputs / tile.inputs} + i;`;
}

function loadAt({ g, tile, onLoad, V }: Plan, r: number, column: string, inside: string): string {
  const stored = `${V}(x[u32(row${r} + (${column}) * ${g.inputs / tile.inputs})])`;
  return `select(${V}(0.0), ${onLoad ? `tail(${stored}, mean, scale, shift)` : stored}, ${inside})`;
}

/** Loads column j of the window, which lies j − padding from the turn's first pixel. */
function loadColumn(plan: Plan, r: number, j: number): string {
  const { g, tile, wholeColumns } = plan;
  const [width, padding] = [g.input[2], g.padding[2]];
  const outside = !wholeColumns || j < padding || (g.output[2] - tile.unroll) * g.stride + j - padding >= width;
  const column = `ox * ${g.stride} + ${j - padding}`;
  const inside = outside
    ? `rowInside${r} && ${column} < ${width}${j < padding ? ` && ${column} >= 0` : ''}`
    : `rowInside${r}`;
  return `      let v${r}_${j} = ${loadAt(plan, r, column, inside)};`;
}

/** Columns of the window that the first turn of a row starts with. */
function firstColumns(plan: Plan, r: number): string[] {
  const { g, V, carried } = plan;
  return range(carried).map((j) => {
    const column = j - g.padding[2];
    const outside = column < 0 || column >= g.input[2];
    return `    var carry${r}_${j} = ${outside ? `${V}(0.0)` : loadAt(plan, r, String(column), `rowInside${r}`)};`;
  });
}

const window = ({ carried }: Plan, r: number, j: number): string => (j < carried ? `before${r}_${j}` : `v${r}_${j}`);

function loadDy({ g, tile, rows, dyWidth, dyLoads, wholeColumns }: Plan, u: number): string[] {
  const V = float(dyWidth);
  const mask = [
    ...(rows % tile.slices ? ['rowValid'] : []),
    ...(!wholeColumns && u > 0 ? [`ox + ${u} < ${g.output[2]}`] : []),
  ].join(' && ');
  return range(dyLoads).map((l) => {
    const value = `${V}(dy[u32((pixel + ${u}) * ${g.outputs / dyWidth} + dyStart + ${l})])`;
    return `      let d${u}_${l} = ${mask ? `select(${V}(0.0), ${value}, ${mask})` : value};`;
  });
}

/** The values of dy at pixel u; with `quad`, those that all four lanes loaded. */
const spread = ({ tile, dyLoads }: Plan, u: number): string[] =>
  tile.quad
    ? range(4).map((lane) => `      let e${u}_${lane} = quadBroadcast(d${u}_0, ${lane}u);`)
    : range(dyLoads).map((l) => `      let e${u}_${l} = d${u}_${l};`);

const multiply = (plan: Plan, { r, kx, o, name }: Accumulator): string[] =>
  range(plan.tile.unroll).map((u) => {
    const { g, tile, dyWidth, V } = plan;
    const value = element(`e${u}_${Math.floor(o / dyWidth)}`, dyWidth, o % dyWidth);
    return `      ${name} = fma(${window(plan, r, u * g.stride + kx)}, ${tile.inputs === 1 ? value : `${V}(${value})`}, ${name});`;
  });

function store({ g, tile }: Plan, { r, kx, o, name }: Accumulator): string {
  const row = tile.allRows ? `${r}` : 'kernelRow';
  return `  dWeight[u32((((slice * ${g.outputs} + o + ${o}) * ${product(g.kernel)} + ${row} * ${g.kernel[2]} + ${kx}) * ${g.inputs / tile.inputs}) + i)] = ${name};`;
}

/**
 * Weight gradient, first pass: dWeight [slices, O, tap, C] and dBias [slices, O], each slice the sum over its share of the
 * output rows in a fixed order. Thread = `inputs` × `outputs` channels × one row of taps (or all); along a row of pixels the
 * window of x slides, so each element of x is loaded once per row of taps. Neighbouring threads take neighbouring input
 * channels. With one slice this pass writes the gradient itself.
 */
export function weightGradientShader(
  dtype: Float,
  g: ConvGeometry,
  { tile, bias, onLoad }: { tile: WeightGradientTile; bias: boolean; onLoad?: Activation | undefined },
): string {
  if (onLoad?.dropout) {
    throw new TypeError('weightGradientShader: dropout is not drawn on load; compute the input first.');
  }
  const plan = planOf(g, tile, onLoad);
  const { V, rows, sliceRows, dyWidth, dyLoads, ownRows, carried, columnsLoaded, accumulators } = plan;
  const [outDepth, outHeight, outWidth] = g.output;
  const taps = product(g.kernel);
  const { quad, unroll, slices } = tile;
  const perSlice = weightGradientThreads(g, tile);
  const rowThreads = tile.allRows ? 1 : g.kernel[0] * g.kernel[1];
  const dyType = float(dyWidth);
  const group = onLoad && groupOf(onLoad);
  const coefficient = (row: number): string =>
    `coefficients[u32(${group ? 'ofGroup + ' : ''}${(row * g.inputs) / tile.inputs} + i)]`;
  const coefficients = `  let mean = ${coefficient(0)};
  let scale = ${coefficient(1)};
  let shift = ${coefficient(2)};`;
  const ofGroup = group ? `\n    let ofGroup = i32(${group}) * ${(4 * g.inputs) / tile.inputs};\n${coefficients}` : '';
  return wgsl`${enable(dtype)}
#if ${quad}
enable subgroups;
#endif
@group(0) @binding(0) var<storage, read> x: array<${vector(dtype, tile.inputs)}, ${(g.batch * product(g.input) * g.inputs) / tile.inputs}>;
@group(0) @binding(1) var<storage, read> dy: array<${vector(dtype, dyWidth)}, ${(g.batch * product(g.output) * g.outputs) / dyWidth}>;
@group(0) @binding(2) var<storage, read_write> dWeight: array<${V}, ${(slices * taps * g.inputs * g.outputs) / tile.inputs}>;
#if ${bias}
@group(0) @binding(3) var<storage, read_write> dBias: array<f32, ${slices * g.outputs}>;
#endif
#if ${onLoad !== undefined}
${lines(ridingAlong(bindings(bias ? 4 : 3), { onLoad }, { dtype, loaded: tile.inputs, stored: 1 }))}
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
#if ${onLoad !== undefined && !group}
${coefficients}
#endif
${lines(accumulators.map(({ name }) => `  var ${name} = ${V}(0.0);`))}
#if ${bias}
${lines(range(dyLoads).map((l) => `  var bias${l} = ${dyType}(0.0);`))}
#endif
  for (var turn = 0; turn < ${sliceRows}; turn++) {
    let sliceRow = slice * ${sliceRows} + turn;
    let rowValid = sliceRow < ${rows};
    let row = min(sliceRow, ${rows - 1});
    let y = row % ${outHeight};
    let z = row / ${outHeight} % ${outDepth};
    let image = row / ${outHeight * outDepth};${ofGroup}
${lines(ownRows.map((r) => rowAt(plan, r)))}
${lines(ownRows.flatMap((r) => firstColumns(plan, r)))}
    for (var ox = 0; ox < ${outWidth}; ox += ${unroll}) {
      let pixel = row * ${outWidth} + ox;
${lines(ownRows.flatMap((r) => range(carried).map((j) => `      let before${r}_${j} = carry${r}_${j};`)))}
${lines(ownRows.flatMap((r) => columnsLoaded.map((j) => loadColumn(plan, r, j))))}
${lines(range(unroll).flatMap((u) => loadDy(plan, u)))}
#if ${bias}
${lines(range(unroll).flatMap((u) => range(dyLoads).map((l) => `      bias${l} += d${u}_${l};`)))}
#endif
${lines(range(unroll).flatMap((u) => spread(plan, u)))}
${lines(accumulators.flatMap((a) => multiply(plan, a)))}
${lines(ownRows.flatMap((r) => range(carried).map((j) => `      carry${r}_${j} = ${window(plan, r, unroll + j)};`)))}
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
${lines(accumulators.map((a) => store(plan, a)))}
}`;
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
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
      const outputs = widthOf(g.outputs);
      return [true, false].flatMap((quad) =>
        [true, false].flatMap((allRows) => {
          const cut = { allRows, quad: quad && outputs === 4, unroll: 2, slices: 2, workgroup: 64 };
          const tile = { ...cut, inputs: widthOf(g.inputs), outputs };
          const activation = { slope: 0.01, dropout: 0 };
          return [allRows ? activation : undefined, { ...activation, groups: [1, 1] }].map((onLoad) =>
            weightGradientShader(dtype, g, { tile, bias: quad, onLoad }),
          );
        }),
      );
    }),
  );
}
