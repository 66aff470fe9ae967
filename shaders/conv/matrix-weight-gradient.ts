// Weight gradient on matrix units, first pass of split-K: separate workgroups sum each slice of the output pixels.
//
//   dWeight[slice,o,tap,c] = Σ_{n,p of the slice} dy[n,p,o] · x[n, p·stride + tap − padding, c]      dBias[slice,o] = Σ dy[n,p,o]
//
// A matrix product of M output channels × K pixels that are neighbours in a row, times those pixels × N input channels. A
// workgroup walks its slice tile by tile, with dy and x (and its halo) staged in workgroup memory; read column by column, staged
// dy is the left operand, and staged x, shifted by a tap, the right one. A subgroup keeps the sums of all taps of one kernel
// depth, or of one row of them, for some blocks of channels. The second pass is `sumSlicesShader` of slice-sums.ts.

import { type Float, wgsl } from '../wgsl.js';
import { sliceCycles } from './cost.js';
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
  widthOf,
} from './geometry.js';
import { cyclesOf, diverse } from './matrix-cost.js';
import { patchOfDy, patchOfX, stagePatch } from './matrix-staging.js';
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
import {
  blockIndices,
  blocksOf,
  eachTile,
  ownBlock,
  type SlicedTile,
  slicedGrid,
  slicedOperands,
  slicesOf,
} from './slices.js';
import type { WorkgroupLimits } from './staging.js';

/** How the first pass is cut into workgroups and subgroups: outputs in M, inputs in N, columns in K. */
export interface MatrixWeightGradientTile extends SlicedTile {
  /** Blocks of a subgroup: M output channels each, N input channels each. */
  readonly ownOutputs: number;
  readonly ownInputs: number;
  /** True: a subgroup has all taps of one kernel depth; false: one row of them. */
  readonly allRows: boolean;
  /** Subgroups that share channels and taps: the rows of a tile are dealt out to them. */
  readonly shares: number;
}

const outputGroups = (unit: MatrixUnit, tile: MatrixWeightGradientTile): number =>
  tile.outputs / unit.M / tile.ownOutputs;
const inputGroups = (unit: MatrixUnit, tile: MatrixWeightGradientTile): number => tile.inputs / unit.N / tile.ownInputs;
/** Subgroups with different channels or taps. */
const jobsOf = (g: ConvGeometry, unit: MatrixUnit, tile: MatrixWeightGradientTile): number =>
  outputGroups(unit, tile) * inputGroups(unit, tile) * (tile.allRows ? 1 : g.kernel[1]);
const subgroupsOf = (g: ConvGeometry, unit: MatrixUnit, tile: MatrixWeightGradientTile): number =>
  jobsOf(g, unit, tile) * tile.shares;
const threadsOf = (g: ConvGeometry, unit: MatrixUnit, tile: MatrixWeightGradientTile): number =>
  subgroupsOf(g, unit, tile) * unit.lanes;
const ownSums = (g: ConvGeometry, tile: MatrixWeightGradientTile): number =>
  (tile.allRows ? g.kernel[1] : 1) * g.kernel[2] * tile.ownOutputs * tile.ownInputs;
/** The grid of a launch of `weightGradientMatrixShader`. */
export const weightGradientMatrixWorkgroups = (g: ConvGeometry, tile: MatrixWeightGradientTile): Triple =>
  slicedGrid(g, tile);

/** Vectors from pixel to pixel of staged x and dy. */
const xRow = (unit: MatrixUnit, tile: MatrixWeightGradientTile): number => rowOf(unit.component, tile.inputs);
const dyRow = (unit: MatrixUnit, tile: MatrixWeightGradientTile): number => rowOf(unit.component, tile.outputs);

/** Vectors of 16 bytes in workgroup memory: of x and dy in the units' type, of the sums in f32. */
function roomOf(
  g: ConvGeometry,
  unit: MatrixUnit,
  tile: MatrixWeightGradientTile,
): { x: number; dy: number; sums: number } {
  const patch = halo(tile.rows, g.kernel[1], g.stride) * halo(tile.columns, g.kernel[2], g.stride);
  return {
    x: patch * xRow(unit, tile),
    dy: tile.rows * tile.columns * dyRow(unit, tile),
    sums: Math.max(subgroupsOf(g, unit, tile) * sumRoom(unit), threadsOf(g, unit, tile)),
  };
}

/** Bytes of workgroup memory that a workgroup takes. */
export function weightGradientMatrixStorage(g: ConvGeometry, unit: MatrixUnit, tile: MatrixWeightGradientTile): number {
  const { x, dy, sums } = roomOf(g, unit, tile);
  return 16 * (x + dy + sums);
}

/** Derived values that the functions of this generator share. */
interface Plan {
  readonly g: ConvGeometry;
  readonly unit: MatrixUnit;
  readonly tile: MatrixWeightGradientTile;
  readonly words: MatrixWords;
  readonly threads: number;
  readonly patchColumns: number;
  /** A subgroup's sums: one for each row r and column kx of the kernel, block a of output channels and b of input channels. */
  readonly sums: readonly Sum[];
}
interface Sum {
  readonly r: number;
  readonly kx: number;
  readonly a: number;
  readonly b: number;
  readonly name: string;
}

function planOf(dtype: Float, g: ConvGeometry, unit: MatrixUnit, tile: MatrixWeightGradientTile): Plan {
  const blocks = range(tile.ownOutputs).flatMap((a) => range(tile.ownInputs).map((b) => ({ a, b })));
  return {
    ...{ g, unit, tile },
    words: matrixWords(unit, {
      left: { buffer: 'staged_dy', stride: dyRow(unit, tile), columnMajor: true },
      right: { buffer: 'staged_x', stride: xRow(unit, tile) * g.stride },
      scratch: 'sums',
      f16: dtype === 'f16',
    }),
    threads: threadsOf(g, unit, tile),
    patchColumns: halo(tile.columns, g.kernel[2], g.stride),
    sums: range(tile.allRows ? g.kernel[1] : 1).flatMap((r) =>
      range(g.kernel[2]).flatMap((kx) => blocks.map(({ a, b }) => ({ r, kx, a, b, name: `sum${r}_${kx}_${a}_${b}` }))),
    ),
  };
}

/** `body`, executed only by the subgroups that compute products. */
const active = ({ g, unit, tile }: Plan, body: string): string =>
  unit.pinned ? body : `if (subgroup < ${subgroupsOf(g, unit, tile)}) { ${body} }`;

/** The products of a subgroup's rows of a staged tile. Tint proves the bounds of loops that count from 0 by 1. */
function multiply({ g, unit, tile, words, patchColumns }: Plan): string {
  const { M, N, K, component } = unit;
  const width = vectorWidth(component);
  const { stride } = g;
  const [, kernelHeight, kernelWidth] = g.kernel;
  const { rows, columns, ownOutputs, ownInputs, allRows, shares } = tile;
  return wgsl`
    for (var r = 0; r < ${rows / shares}; r++) {
      let row = r * ${shares} + share;
      for (var q = 0; q < ${columns / K}; q++) {
        let dyAt = (row * ${columns} + q * ${K}) * ${dyRow(unit, tile)} + outputGroup * ${(ownOutputs * M) / width};
        let xAt = (${allRows ? `row * ${stride}` : `(row * ${stride} + kernelRow)`} * ${patchColumns} + q * ${K * stride}) * ${xRow(unit, tile)} + inputGroup * ${(ownInputs * N) / width};
${lines(range(ownOutputs).map((a) => `        let a${a} = ${words.left(`dyAt + ${(a * M) / width}`)};`))}
${lines(
  range(allRows ? kernelHeight : 1).flatMap((r) =>
    range(kernelWidth).flatMap((kx) =>
      range(ownInputs).flatMap((b) => [
        `        let b${r}_${kx}_${b} = ${words.right(`xAt + ${(r * patchColumns + kx) * xRow(unit, tile) + (b * N) / width}`)};`,
        ...range(ownOutputs).map((a) => {
          const name = `sum${r}_${kx}_${a}_${b}`;
          return `        ${name} = ${words.multiply(`a${a}`, `b${r}_${kx}_${b}`, name)};`;
        }),
      ]),
    ),
  ),
)}
      }
    }`;
}

/** Stores a sum by way of workgroup memory; sums that subgroups share are added in their order. */
function store(plan: Plan, { r, kx, a, b, name }: Sum): string {
  const { g, unit, tile, words, threads } = plan;
  const { M, N } = unit;
  const { inputs, outputs } = g;
  const [, kernelHeight, kernelWidth] = g.kernel;
  const { ownOutputs, ownInputs, allRows, shares } = tile;
  const jobs = jobsOf(g, unit, tile);
  const fours = N / 4;
  return wgsl`
  workgroupBarrier();
  ${active(plan, words.store(`subgroup * ${sumRoom(unit)}`, name))}
  workgroupBarrier();
  for (var i = local; i < ${jobs * M * fours}; i += ${threads}) {
    let job = i / ${M * fours};
    let row = i / ${fours} % ${M};
    var total = vec4f(0.0);
    for (var s = 0; s < ${shares}; s++) {
      total += sums[(s * ${jobs} + job) * ${sumRoom(unit)} + row * ${sumRow(unit)} + i % ${fours}];
    }
    let c = c0 + (job % ${inputGroups(unit, tile)} * ${ownInputs} + ${b}) * ${N} + i % ${fours} * 4;
    let o = o0 + (job / ${inputGroups(unit, tile)} % ${outputGroups(unit, tile)} * ${ownOutputs} + ${a}) * ${M} + row;
    let ky = ${allRows ? r : `job / ${inputGroups(unit, tile) * outputGroups(unit, tile)}`};
    if (o < ${outputs} && c < ${inputs}) {
      let at = ((slice * ${outputs} + o) * ${product(g.kernel)} + (kz * ${kernelHeight} + ky) * ${kernelWidth} + ${kx}) * ${inputs} + c;
      ${
        widthOf(inputs) === 4
          ? 'dWeight[at / 4] = total;'
          : lines(range(4).map((e) => `if (c + ${e} < ${inputs}) { dWeight[at + ${e}] = ${element('total', 4, e)}; }`))
      }
    }
  }`;
}

/** dWeight [slices, O, tap, C] and dBias [slices, O]; with one slice, the gradient itself. */
export function weightGradientMatrixShader(
  dtype: Float,
  g: ConvGeometry,
  {
    unit,
    tile,
    bias,
    onLoad,
  }: { unit: MatrixUnit; tile: MatrixWeightGradientTile; bias: boolean; onLoad?: Activation | undefined },
): string {
  const plan = planOf(dtype, g, unit, tile);
  const { words, threads, patchColumns, sums } = plan;
  const { component } = unit;
  const { outputs, stride } = g;
  const [, kernelHeight] = g.kernel;
  const { rows, columns, allRows } = tile;
  const room = roomOf(g, unit, tile);
  const jobs = jobsOf(g, unit, tile);
  // Threads that add up dy for the bias: each keeps to four output channels.
  const outputFours = tile.outputs / 4;
  const biasThreads = Math.floor(threads / outputFours) * outputFours;
  const ofBias = 'inputBlock == 0 && kz == 0';
  const tileWork = wgsl`${stagePatch(patchOfX(g), {
    rows: halo(rows, kernelHeight, stride),
    columns: patchColumns,
    ...{ channels: tile.inputs, row: xRow(unit, tile), threads, component, onLoad },
  })}
${stagePatch(patchOfDy(g), {
  ...{ rows, columns, channels: tile.outputs, row: dyRow(unit, tile), threads, component },
})}
    workgroupBarrier();
#if ${bias}
    if (${ofBias} && local < ${biasThreads}) {
      for (var p = local / ${outputFours}; p < ${rows * columns}; p += ${biasThreads / outputFours}) {
#if ${component === 'f16'}
        let halves = staged_dy[p * ${dyRow(unit, tile)} + local % ${outputFours} / 2];
        let pair = select(halves.xy, halves.zw, local % 2 == 1);
        bias += vec4f(unpack2x16float(pair.x), unpack2x16float(pair.y));
#else
        bias += staged_dy[p * ${dyRow(unit, tile)} + local % ${outputFours}];
#endif
      }
    }
#endif
    ${active(plan, multiply(plan))}`;
  return wgsl`${words.enable}
${lines(slicedOperands(bindings(), g, { dtype, V: float(widthOf(g.inputs)), bias, onLoad }))}
var<workgroup> staged_x: array<${vectorType(component)}, ${room.x}>;
var<workgroup> staged_dy: array<${vectorType(component)}, ${room.dy}>;
var<workgroup> sums: array<vec4f, ${room.sums}>;
${words.functions}

@compute @workgroup_size(${threads}) ${words.attribute}
fn conv_matrix_weight_gradient(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) index: u32${subgroupSize(unit)}) {
${ownBlock(g, tile)}
  let local = i32(index);
  let subgroup = local / ${laneCount(unit)};
  let share = subgroup / ${jobs};
  let inputGroup = subgroup % ${inputGroups(unit, tile)};
  let outputGroup = subgroup / ${inputGroups(unit, tile)} % ${outputGroups(unit, tile)};
#if ${!allRows}
  let kernelRow = subgroup / ${inputGroups(unit, tile) * outputGroups(unit, tile)} % ${kernelHeight};
#endif
${blockIndices(g, tile)}
${lines(sums.map(({ name }) => `  var ${name}: ${words.sum};`))}
#if ${bias}
  var bias = vec4f(0.0);
#endif
${eachTile(g, tile, tileWork)}
${lines(sums.map((sum) => store(plan, sum)))}
#if ${bias}
  workgroupBarrier();
  sums[local] = bias;
  workgroupBarrier();
  if (${ofBias} && local < ${outputFours}) {
    var total = vec4f(0.0);
    for (var t = local; t < ${biasThreads}; t += ${outputFours}) { total += sums[t]; }
    let o = o0 + local * 4;
${lines(range(4).map((e) => `    if (o + ${e} < ${outputs}) { dBias[slice * ${outputs} + o + ${e}] = ${element('total', 4, e)}; }`))}
  }
#endif
}`;
}

/** Cycles of a launch by the cost model (cost.ts), and of adding up its slices. */
export function weightGradientMatrixCost(g: ConvGeometry, unit: MatrixUnit, tile: MatrixWeightGradientTile): number {
  const { inputs, outputs, rows, columns, ownOutputs, shares, slices } = tile;
  const [own, subgroups] = [ownSums(g, tile), subgroupsOf(g, unit, tile)];
  const patch = halo(rows, g.kernel[1], g.stride) * halo(columns, g.kernel[2], g.stride);
  const steps = ((rows * columns) / unit.K / shares) * subgroups;
  const cost = cyclesOf(unit, {
    groups: blocksOf(g, tile) * slices,
    ...{ threads: threadsOf(g, unit, tile), storage: weightGradientMatrixStorage(g, unit, tile), sums: own },
    rounds: Math.ceil(product(tilesOf(g, tile)) / slices),
    products: steps * own,
    loads: steps * (own / ownOutputs + ownOutputs),
    ...{ activations: (patch * inputs + rows * columns * outputs) / 4, weights: 0 },
    stores: subgroups * own,
  });
  return cost + sliceCycles(slices * product(g.kernel) * g.inputs * g.outputs);
}

/** Most sums that a thread may hold. */
const mostSums = 96;

/** At most `count` tiles worth trying on a unit, the likely best first; no three of them share their channels alike. */
export function weightGradientMatrixCandidates(
  g: ConvGeometry,
  unit: MatrixUnit,
  limits: WorkgroupLimits,
  count = 6,
): MatrixWeightGradientTile[] {
  const { M, N, K, lanes } = unit;
  const sevens = inSevens(g) ? [7, 14] : [];
  const areas =
    g.output[1] === 1
      ? [2, 4, 8, 16].map((n) => [1, n * K] as const)
      : [2, 4, 8, 16, ...sevens].flatMap((rows) => [K, 2 * K].map((columns) => [rows, columns] as const));
  const found: { tile: MatrixWeightGradientTile; cost: number; kind: string; threads: number }[] = [];
  for (const [rows, columns] of areas)
    for (const outputs of [1, 2, 4].map((n) => n * M))
      for (const inputs of [1, 2, 4].map((n) => n * N))
        for (const ownOutputs of [1, 2])
          for (const ownInputs of [1, 2])
            for (const allRows of g.kernel[1] > 1 ? [true, false] : [true])
              for (const shares of [1, 2, 4, 8, ...(sevens.length ? [7] : [])]) {
                const cut = { outputs, inputs, rows, columns, ownOutputs, ownInputs, allRows, shares };
                const whole: MatrixWeightGradientTile = { ...cut, slices: 1 };
                const groupsOf = [outputGroups(unit, whole), inputGroups(unit, whole)];
                if (!groupsOf.every(Number.isInteger) || rows % shares) continue;
                if ((outputs > M && outputs >= 2 * g.outputs) || (inputs > N && inputs >= 2 * g.inputs)) continue;
                const own = ownSums(g, whole);
                if ((own * M * N) / lanes > mostSums) continue;
                const threads = threadsOf(g, unit, whole);
                const storage = weightGradientMatrixStorage(g, unit, whole);
                if (threads > limits.threads || threads % (outputs / 4) || threads % (inputs / 4)) continue;
                if (storage > limits.storage) continue;
                const tile = { ...whole, slices: slicesOf(g, whole) };
                found.push({
                  tile,
                  cost: weightGradientMatrixCost(g, unit, tile),
                  threads,
                  kind: `${rows * columns} ${outputs} ${inputs} ${allRows}`,
                });
              }
  return diverse(found, count);
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const grouped = { slope: 0.01, dropout: 0, groups: [1, 1] };
  return knownUnits.flatMap((unit) =>
    [
      squareGeometry(16, 16, 3),
      squareGeometry(3, 5, 3),
      squareGeometry(32, 20, 3, 2),
      solidGeometry,
      rowGeometry,
      evenGeometry,
    ].flatMap((g) => {
      const tiles = weightGradientMatrixCandidates(g, unit, { storage: 16384, threads: 256 });
      return (unit.component === 'f32' ? (['f32', 'f16'] as const) : (['f16'] as const)).flatMap((dtype) =>
        tiles
          .slice(0, 2)
          .flatMap((tile) => [
            weightGradientMatrixShader(dtype, g, { unit, tile, bias: false }),
            ...[0, 0.5].map((dropout) =>
              weightGradientMatrixShader(dtype, g, { unit, tile, bias: true, onLoad: { slope: 0.01, dropout } }),
            ),
            weightGradientMatrixShader(dtype, g, { unit, tile, bias: false, onLoad: grouped }),
          ]),
      );
    }),
  );
}
