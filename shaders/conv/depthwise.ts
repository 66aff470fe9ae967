// Depthwise convolution and its transpose: as many groups as channels, each channel of one image meets the same one of the other. The
// images and the names down, up and weights are those of general.ts; the weights lie as [C, t].
//   down, up  A thread has 4 channels × a tile of pixels. It loads the weights of one depth of the kernel into registers, then each pixel
//             that the tile reads once, for all pixels of the tile that meet it. Which do is known when the text is made: of up, a tile
//             begins at a multiple of the stride.
//   weights   A thread has 4 channels × one depth of the kernel. It walks its slice of the tiles of coarse pixels; a tile meets the fine
//             pixels as down does, and each is loaded once.
// A channel at a time where their count is no multiple of four. Conditions are joined by &: with && a driver on the CPU compiles a block
// for each, which takes it minutes.
import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { bindings, element, float, lines, product, range, type Triple, upTo, vector, widthOf } from './geometry.js';
import {
  type Direction,
  elementsOf,
  fineAt,
  type PairGeometry,
  type PairOptions,
  pairGeometries,
  readAt,
  sidesOf,
} from './pair.js';

/** Pixels of a thread along the last two axes. */
export interface DepthwiseTile {
  readonly rows: number;
  readonly columns: number;
}

/**
 * The largest tile with at most so many multiply-adds for one depth of the kernel, all of which are in the text; undefined where there is
 * none, and where the op is not depthwise.
 */
export function depthwiseTile(g: PairGeometry, direction: Direction, products: number): DepthwiseTile | undefined {
  if (g.groups !== g.coarseChannels || g.groups !== g.fineChannels) return undefined;
  const [, height] = sidesOf(g, direction).to.size;
  const [, strideY, strideX] = direction === 'up' ? g.stride : [1, 1, 1];
  const taps = (g.kernel[1] * g.kernel[2]) / (strideY * strideX);
  const tiles = [
    [4, 4],
    [2, 4],
    [1, 8],
    [1, 4],
    [1, 2],
  ].map(([rows, columns]) => ({ rows: upTo(rows!, strideY), columns: upTo(columns!, strideX) }));
  return tiles.find(
    ({ rows, columns }) => rows <= upTo(height, strideY) && rows * columns <= 64 && rows * columns * taps <= products,
  );
}

/** Tiles of all planes. */
const tilesOf = (g: PairGeometry, direction: Direction, { rows, columns }: DepthwiseTile): Triple => {
  const [depth, height, width] = sidesOf(g, direction).to.size;
  return [g.batch * depth, Math.ceil(height / rows), Math.ceil(width / columns)];
};

const quadsOf = ({ groups }: PairGeometry): number => groups / widthOf(groups);

/** Threads of a launch of down or up. */
export const depthwiseThreads = (g: PairGeometry, direction: Direction, tile: DepthwiseTile): number =>
  product(tilesOf(g, direction, tile)) * quadsOf(g);

/** One meeting along an axis: pixel `from` of those that a tile reads, tap and pixel of the tile. */
interface Meeting {
  readonly from: number;
  readonly tap: number;
  readonly to: number;
}

/** What the pixels of a tile meet along an axis, in the order of the pixels read; these count from the tile's first pixel. */
function meetings(g: PairGeometry, direction: Direction, axis: 1 | 2, pixels: number): Meeting[] {
  const [stride, dilation, padding] = [g.stride[axis], g.dilation[axis], g.padding[axis]];
  const fromOf = (to: number, tap: number): number =>
    direction === 'down' ? to * stride + tap * dilation - padding : (to + padding - tap * dilation) / stride;
  return range(pixels)
    .flatMap((to) => range(g.kernel[axis]).map((tap) => ({ from: fromOf(to, tap), tap, to })))
    .filter(({ from }) => Number.isInteger(from))
    .sort((a, b) => a.from - b.from || a.to - b.to);
}

/** Statements that load each pixel of `source` that a tile reads, and `meet` for each pair of a tap and a pixel of the tile that meet it. */
function eachMeeting(
  g: PairGeometry,
  direction: Direction,
  { rows, columns }: DepthwiseTile,
  source: 'x' | 'dy',
  meet: (value: string, tapRow: number, tapColumn: number, row: number, column: number) => string,
): string {
  const [, height, width] = sidesOf(g, direction).from.size;
  const [ys, xs] = [meetings(g, direction, 1, rows), meetings(g, direction, 2, columns)];
  const different = (all: readonly Meeting[]): number[] => [...new Set(all.map(({ from }) => from))];
  const V = float(widthOf(g.groups));
  const columnsRead = different(xs);
  return lines([
    ...columnsRead.map((x, n) => `    let inside${n} = (ix + ${x} >= 0) & (ix + ${x} < ${width});`),
    ...different(ys).flatMap((y) => [
      `    { let isRow = (iy + ${y} >= 0) & (iy + ${y} < ${height});`,
      `    let first = ((plane * ${height} + iy + ${y}) * ${width} + ix) * ${quadsOf(g)} + c;`,
      ...columnsRead.flatMap((x, n) => [
        `    let v${n} = select(${V}(0.0), ${V}(${source}[u32(first + ${x * quadsOf(g)})]), isRow & inside${n});`,
        ...ys
          .filter(({ from }) => from === y)
          .flatMap((a) =>
            xs.filter(({ from }) => from === x).map((b) => `    ${meet(`v${n}`, a.tap, b.tap, a.to, b.to)}`),
          ),
      ]),
      '    }',
    ]),
  ]);
}

/** down or up: y from x and weight. */
export function depthwiseShader(
  g: PairGeometry,
  direction: Direction,
  tile: DepthwiseTile,
  { dtype, parameters, bias }: PairOptions,
): string {
  const { from, to } = sidesOf(g, direction);
  const [, tilesY, tilesX] = tilesOf(g, direction, tile);
  const [depth, height, width] = to.size;
  const [, strideY, strideX] = g.stride;
  const W = widthOf(g.groups);
  const [V, S, quads] = [float(W), vector(dtype, W), quadsOf(g)];
  const [taps, tapRows, tapColumns] = [product(g.kernel), g.kernel[1], g.kernel[2]];
  const pixels = range(tile.rows).flatMap((r) => range(tile.columns).map((p) => [r, p] as const));
  const weightsOfDepth = range(tapRows).flatMap((y) =>
    range(tapColumns).map((x) => {
      const lanes = range(W).map((e) => `f32(weight[u32((c * ${W} + ${e}) * ${taps} + taps + ${y * tapColumns + x})])`);
      return `    let w${y}_${x} = ${V}(${lanes.join(', ')});`;
    }),
  );
  const firstRead = (at: string, stride: number): string => `${at} ${direction === 'down' ? '*' : '/'} ${stride}`;
  const binding = bindings();
  return wgsl`${enable(dtype)}
${binding('read', 'x', `${S}, ${elementsOf(g, from) / W}`)}
${binding('read', 'weight', `${parameters}, ${g.groups * taps}`)}
${binding('read_write', 'y', `${S}, ${elementsOf(g, to) / W}`)}
${bias ? binding('read', 'bias', `${vector(parameters, W)}, ${quads}`) : ''}

@compute @workgroup_size(64)
fn conv_depthwise_${direction}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(depthwiseThreads(g, direction, tile))}) { return; }
  let c = i32(i % ${u32(quads)});
  let column = i32(i / ${u32(quads)} % ${u32(tilesX)}) * ${tile.columns};
  let row = i32(i / ${u32(quads * tilesX)} % ${u32(tilesY)}) * ${tile.rows};
  let written = i32(i / ${u32(quads * tilesX * tilesY)});
  let iy = ${firstRead('row', strideY)};
  let ix = ${firstRead('column', strideX)};
  let start = ${V}(${bias ? 'bias[c]' : '0.0'});
${lines(pixels.map(([r, p]) => `  var a${r}_${p} = start;`))}
  for (var kz = 0; kz < ${g.kernel[0]}; kz++) {
    ${readAt(g, direction, 0, `written % ${depth}`, 'kz', 'iz')}
    if (iz < 0 || iz >= ${from.size[0]}) { continue; }
    let plane = written / ${depth} * ${from.size[0]} + iz;
    let taps = kz * ${tapRows * tapColumns};
${lines(weightsOfDepth)}
${eachMeeting(g, direction, tile, 'x', (v, y, x, r, p) => `a${r}_${p} = fma(${v}, w${y}_${x}, a${r}_${p});`)}
  }
  let out = ((written * ${height} + row) * ${width} + column) * ${quads} + c;
${lines(
  pixels.map(
    ([r, p]) =>
      `  if (row + ${r} < ${height} && column + ${p} < ${width}) { y[u32(out + ${(r * width + p) * quads})] = ${S}(a${r}_${p}); }`,
  ),
)}
}`;
}

/** Tiles of coarse pixels, which the slices of the weight gradient share. */
export const depthwiseTiles = (g: PairGeometry, tile: DepthwiseTile): number => product(tilesOf(g, 'down', tile));

/** Threads of one slice of the weight gradient. */
export const depthwiseWeightThreads = (g: PairGeometry): number => quadsOf(g) * g.kernel[0];

/**
 * weights, first pass: dWeight [slices, C, t] from the op's x and dy, each slice the sum over every slices-th tile of coarse pixels; with
 * `bias`, where the op makes the coarse image, also dBias [slices, C]. All f32.
 */
export function depthwiseWeightShader(
  g: PairGeometry,
  tile: DepthwiseTile,
  slices: number,
  { dtype, bias }: { dtype: Float; bias: boolean },
): string {
  const [, tilesY, tilesX] = tilesOf(g, 'down', tile);
  const [depth, height, width] = g.coarse;
  const W = widthOf(g.groups);
  const [V, S, quads] = [float(W), vector(dtype, W), quadsOf(g)];
  const [taps, tapRows, tapColumns] = [product(g.kernel), g.kernel[1], g.kernel[2]];
  const pixels = range(tile.rows).flatMap((r) => range(tile.columns).map((p) => [r, p] as const));
  const sums = range(tapRows).flatMap((y) => range(tapColumns).map((x) => [y, x] as const));
  const [coarse, fine] = g.makes === 'coarse' ? (['dy', 'x'] as const) : (['x', 'dy'] as const);
  const sizes = { [coarse]: elementsOf(g, { size: g.coarse, channels: g.groups }) };
  sizes[fine] = elementsOf(g, { size: g.fine, channels: g.groups });
  const binding = bindings();
  return wgsl`${enable(dtype)}
${binding('read', 'x', `${S}, ${sizes.x! / W}`)}
${binding('read', 'dy', `${S}, ${sizes.dy! / W}`)}
${binding('read_write', 'dWeight', `f32, ${slices * g.groups * taps}`)}
${bias ? binding('read_write', 'dBias', `${V}, ${slices * quads}`) : ''}

@compute @workgroup_size(64)
fn conv_depthwise_weights(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(depthwiseWeightThreads(g) * slices)}) { return; }
  let c = i32(i % ${u32(quads)});
  let kz = i32(i / ${u32(quads)} % ${u32(g.kernel[0])});
  let slice = i32(i / ${u32(quads * g.kernel[0])});
${lines(sums.map(([y, x]) => `  var sum${y}_${x} = ${V}(0.0);`))}
${bias ? `  var sumBias = ${V}(0.0);` : ''}
  for (var at = slice; at < ${depthwiseTiles(g, tile)}; at += ${slices}) {
    let column = at % ${tilesX} * ${tile.columns};
    let row = at / ${tilesX} % ${tilesY} * ${tile.rows};
    let read = at / ${tilesX * tilesY};
    let begin = ((read * ${height} + row) * ${width} + column) * ${quads} + c;
${lines(
  pixels.map(
    ([r, p]) =>
      `    let g${r}_${p} = select(${V}(0.0), ${V}(${coarse}[u32(begin + ${(r * width + p) * quads})]), (row + ${r} < ${height}) & (column + ${p} < ${width}));`,
  ),
)}
${bias ? `    sumBias += ${pixels.map(([r, p]) => `g${r}_${p}`).join(' + ')};` : ''}
    let iz = ${fineAt(g, 0, `(read % ${depth})`, 'kz')};
    if (iz < 0 || iz >= ${g.fine[0]}) { continue; }
    let plane = read / ${depth} * ${g.fine[0]} + iz;
    let iy = row * ${g.stride[1]};
    let ix = column * ${g.stride[2]};
${eachMeeting(g, 'down', tile, fine, (v, y, x, r, p) => `sum${y}_${x} = fma(g${r}_${p}, ${v}, sum${y}_${x});`)}
  }
  let out = (slice * ${g.groups} + c * ${W}) * ${taps} + kz * ${tapRows * tapColumns};
${lines(
  sums.flatMap(([y, x], t) =>
    range(W).map((e) => `  dWeight[u32(out + ${e * taps + t})] = ${element(`sum${y}_${x}`, W, e)};`),
  ),
)}
${bias ? `  if (kz == 0) { dBias[u32(slice * ${quads} + c)] = sumBias; }` : ''}
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    pairGeometries.flatMap((general, i) => {
      const channels = i % 2 ? 5 : 8;
      const g = { ...general, coarseChannels: channels, fineChannels: channels, groups: channels };
      return [
        ...(['down', 'up'] as const).map((direction) =>
          depthwiseShader(g, direction, depthwiseTile(g, direction, 160)!, {
            ...{ dtype, parameters: i % 2 ? 'f32' : dtype, bias: i < 2 },
          }),
        ),
        depthwiseWeightShader(g, { rows: 2, columns: 4 }, 3, { dtype, bias: g.makes === 'coarse' && i > 1 }),
      ];
    }),
  );
