// Weight gradient without workgroup memory, first pass of split-K: each slice of the output rows is summed by threads of its own.
//
//   dWeight[slice,o,tap,c] = Σ_{n,p of the slice} dy[n,p,o] · x[n, p·stride + tap − padding, c]      dBias[slice,o] = Σ dy[n,p,o]
//
// Loads are shared within quads as in direct.ts. The second pass is `sumSlicesShader` of weights.ts.

import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { ridingAlong } from './epilogue.js';
import type { Activation } from './fusion.js';
import {
  bindings,
  type ConvGeometry,
  element,
  evenGeometry,
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
  const [padDepth, padHeight, padWidth] = g.padding;
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
${lines(ridingAlong(bindings(bias ? 4 : 3), { load: tail }, { dtype, loaded: tile.inputs, stored: 1 }))}
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
        [true, false].map((allRows) => {
          const cut = { allRows, quad: quad && outputs === 4, unroll: 2, slices: 2, workgroup: 64 };
          return weightGradientShader(dtype, g, {
            tile: { ...cut, inputs: widthOf(g.inputs), outputs },
            bias: quad,
            load: allRows ? { slope: 0.01, dropout: 0 } : undefined,
          });
        }),
      );
    }),
  );
}
