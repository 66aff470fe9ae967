// Convolutions of every kind: any kernel, stride, dilation, padding and number of groups. Two images are related: tap t of coarse pixel p
// is fine pixel p · stride + t · dilation − padding. Three kernels serve convolution, which makes the coarse image, and its transpose,
// which makes the fine one:
//   down     coarse[p, c] = bias[c] + Σ_{t,f} fine[p · stride + t · dilation − padding, f] · w       conv; input gradient of convTranspose
//   up       fine[q, f] = bias[f] + Σ_{t,c} coarse[(q + padding − t · dilation) / stride, c] · w     convTranspose; input gradient of conv
//            (over the taps for which that is a coarse pixel)
//   weights  dw = Σ_p coarse[p, c] · fine[p · stride + t · dilation − padding, f]                    of both
// Sums run over the channels of one group. The weights of an op lie as [its outputs, t, its inputs of one group]. A thread of down and
// up has some pixels of a row, which meet the same taps, × 4 channels; one of weights has up to four taps of a row × 4 × 4 channels, and
// sums one slice of the coarse pixels. Channels go four at a time where those of a group are a multiple of four. 1-D and 2-D are 3-D with
// sides of one.
import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { bindings, element, float, lines, product, range, upTo, vector, widthOf } from './geometry.js';
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

/** Pixels from one to the next of a thread: those of up meet the same taps. */
const stepOf = (g: PairGeometry, direction: Direction): number => (direction === 'up' ? g.stride[2] : 1);

/** Threads along a row. */
const rowThreads = (g: PairGeometry, direction: Direction, pixels: number): number =>
  upTo(sidesOf(g, direction).to.size[2], stepOf(g, direction) * pixels) / pixels;

/** Threads of a launch of down or up with so many pixels each. */
export function pairThreads(g: PairGeometry, direction: Direction, pixels: number): number {
  const { size, channels } = sidesOf(g, direction).to;
  return g.batch * size[0] * size[1] * rowThreads(g, direction, pixels) * (channels / widthOf(channels / g.groups));
}

/** down or up: y from x and weight. */
export function pairShader(g: PairGeometry, direction: Direction, pixels: number, options: PairOptions): string {
  const { dtype, parameters, bias } = options;
  const { from, to } = sidesOf(g, direction);
  const [inputs, outputs] = [from.channels / g.groups, to.channels / g.groups];
  const [I, O] = [widthOf(inputs), widthOf(outputs)];
  const [quads, pixelQuads, outputQuads] = [inputs / I, from.channels / I, to.channels / O];
  // Where the kernel writes what comes first in the weights, the sum runs along their last axis.
  const along = (g.makes === 'coarse') === (direction === 'down');
  const W = along ? I : O;
  const taps = product(g.kernel);
  const [depth, height, width] = to.size;
  const [fromDepth, fromHeight, fromWidth] = from.size;
  const V = float(O);
  const [step, threads] = [stepOf(g, direction), rowThreads(g, direction, pixels)];
  const stride = direction === 'down' ? g.stride[2] : 1; // between the pixels that two pixels of a thread read
  const js = range(pixels);
  const ks = range(along ? O : I);
  const weight = (k: number): string =>
    along
      ? `((o * ${O} + ${k}) * ${taps} + tap) * ${quads} + c`
      : `(((group * ${quads} + c) * ${I} + ${k}) * ${taps} + tap) * ${outputs / O} + o % ${outputs / O}`;
  const multiply = (a: string): string =>
    along
      ? `${a} += ${V}(${ks.map((k) => (I === 4 ? `dot(v, k${k})` : `v * k${k}`)).join(', ')});`
      : ks.map((k) => `${a} = fma(${V}(${element('v', I, k)}), k${k}, ${a});`).join(' ');
  const load = (j: number): string =>
    `select(${float(I)}(0.0), ${float(I)}(x[u32(first + ${j * stride * pixelQuads} + c)]), inside${j})`;
  const binding = bindings();
  return wgsl`${enable(dtype)}
${binding('read', 'x', `${vector(dtype, I)}, ${elementsOf(g, from) / I}`)}
${binding('read', 'weight', `${vector(parameters, W)}, ${(taps * inputs * to.channels) / W}`)}
${binding('read_write', 'y', `${vector(dtype, O)}, ${elementsOf(g, to) / O}`)}
${bias ? binding('read', 'bias', `${vector(parameters, O)}, ${outputQuads}`) : ''}

@compute @workgroup_size(64)
fn conv_general_${direction}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pairThreads(g, direction, pixels))}) { return; }
  let o = i32(i % ${u32(outputQuads)});
  let part = i32(i / ${u32(outputQuads)} % ${u32(threads)});
  let row = i32(i / ${u32(outputQuads * threads)});
  let group = o / ${outputs / O};
  let column = part / ${step} * ${step * pixels} + part % ${step};
  let start = ${V}(${bias ? 'bias[o]' : '0.0'});
${lines(js.map((j) => `  var a${j} = start;`))}
  for (var kz = 0; kz < ${g.kernel[0]}; kz++) {
    ${readAt(g, direction, 0, `row / ${height} % ${depth}`, 'kz', 'iz')}
    if (iz < 0 || iz >= ${fromDepth}) { continue; }
    for (var ky = 0; ky < ${g.kernel[1]}; ky++) {
      ${readAt(g, direction, 1, `row % ${height}`, 'ky', 'iy')}
      if (iy < 0 || iy >= ${fromHeight}) { continue; }
      for (var kx = 0; kx < ${g.kernel[2]}; kx++) {
        ${readAt(g, direction, 2, 'column', 'kx', 'ix')}
        let tap = (kz * ${g.kernel[1]} + ky) * ${g.kernel[2]} + kx;
        let pixel = ((row / ${depth * height} * ${fromDepth} + iz) * ${fromHeight} + iy) * ${fromWidth} + ix;
        let first = pixel * ${pixelQuads} + group * ${quads};
${lines(js.map((j) => `        let inside${j} = (ix + ${j * stride} >= 0) & (ix + ${j * stride} < ${fromWidth});`))}
        for (var c = 0; c < ${quads}; c++) {
${lines(ks.map((k) => `          let k${k} = ${float(W)}(weight[u32(${weight(k)})]);`))}
${lines(js.map((j) => `          { let v = ${load(j)}; ${multiply(`a${j}`)} }`))}
        }
      }
    }
  }
  let out = (row * ${width} + column) * ${outputQuads} + o;
${lines(js.map((j) => `  if (column + ${j * step} < ${width}) { y[u32(out + ${j * step * outputQuads})] = ${vector(dtype, O)}(a${j}); }`))}
}`;
}

/** Most coarse pixels of a row that a thread of weights takes at a time. */
const run = 64;

/** Runs of coarse pixels, which the slices of the weight gradient share. */
export const pairRuns = ({ batch, coarse: [depth, height, width] }: PairGeometry): number =>
  batch * depth * height * Math.ceil(width / run);

/** How the taps of a row are divided among threads. */
function tapsOfRow({ kernel }: PairGeometry): { chunks: number; taps: number } {
  const chunks = Math.ceil(kernel[2] / 4);
  return { chunks, taps: Math.ceil(kernel[2] / chunks) };
}

/** Channels of the op's input and output: of the images, and of one group. */
function channelsOf(g: PairGeometry) {
  const { from, to } = sidesOf(g, g.makes === 'coarse' ? 'down' : 'up');
  const [inputs, outputs] = [from.channels / g.groups, to.channels / g.groups];
  return { from, to, inputs, outputs, I: widthOf(inputs), O: widthOf(outputs) };
}

/** Threads of one slice of the weight gradient. */
export function pairWeightThreads(g: PairGeometry): number {
  const { to, inputs, I, O } = channelsOf(g);
  return (inputs / I) * (to.channels / O) * g.kernel[0] * g.kernel[1] * tapsOfRow(g).chunks;
}

/**
 * weights, first pass: dWeight [slices, outputs, t, inputs of a group] from the op's x and dy, each slice the sum over every slices-th run
 * of coarse pixels; with `bias`, where the op makes the coarse image, also dBias [slices, outputs]. All f32.
 */
export function pairWeightShader(g: PairGeometry, slices: number, { dtype, bias }: { dtype: Float; bias: boolean }) {
  const { from, to, inputs, outputs, I, O } = channelsOf(g);
  const [quads, outputQuads, taps] = [inputs / I, to.channels / O, product(g.kernel)];
  const { chunks, taps: own } = tapsOfRow(g);
  const [depth, height, width] = g.coarse;
  const [fineDepth, fineHeight, fineWidth] = g.fine;
  const runs = Math.ceil(width / run);
  const [ts, ks] = [range(own), range(O)];
  // The coarse image is dy where the op makes it, else x.
  const makesCoarse = g.makes === 'coarse';
  const ofX = { name: 'x', V: float(I), pixelQuads: from.channels / I, quad: `group * ${quads} + c` };
  const ofDy = { name: 'dy', V: float(O), pixelQuads: outputQuads, quad: 'o' };
  const [coarse, fine] = makesCoarse ? [ofDy, ofX] : [ofX, ofDy];
  const load = ({ name, V, pixelQuads, quad }: typeof ofX, pixel: string): string =>
    `${V}(${name}[u32((${pixel}) * ${pixelQuads} + ${quad})])`;
  const multiply = (t: number, k: number): string => {
    const [v, gradient] = makesCoarse ? [`fine${t}`, 'coarse'] : ['coarse', `fine${t}`];
    return `sum${t}_${k} = fma(${float(I)}(${element(gradient, O, k)}), ${v}, sum${t}_${k});`;
  };
  const store = (t: number, k: number): string =>
    `dWeight[u32(((slice * ${to.channels} + o * ${O} + ${k}) * ${taps} + tap + ${t}) * ${quads} + c)] = sum${t}_${k};`;
  const binding = bindings();
  return wgsl`${enable(dtype)}
${binding('read', 'x', `${vector(dtype, I)}, ${elementsOf(g, from) / I}`)}
${binding('read', 'dy', `${vector(dtype, O)}, ${elementsOf(g, to) / O}`)}
${binding('read_write', 'dWeight', `${float(I)}, ${(slices * to.channels * taps * inputs) / I}`)}
${bias ? binding('read_write', 'dBias', `${float(O)}, ${slices * outputQuads}`) : ''}

@compute @workgroup_size(64)
fn conv_general_weights(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pairWeightThreads(g) * slices)}) { return; }
  let c = i32(i % ${u32(quads)});
  let o = i32(i / ${u32(quads)} % ${u32(outputQuads)});
  let kx = i32(i / ${u32(quads * outputQuads)} % ${u32(chunks)}) * ${own};
  let tapRow = i32(i / ${u32(quads * outputQuads * chunks)} % ${u32(g.kernel[0] * g.kernel[1])});
  let slice = i32(i / ${u32(pairWeightThreads(g))});
  let group = o / ${outputs / O};
${lines(ts.flatMap((t) => ks.map((k) => `  var sum${t}_${k} = ${float(I)}(0.0);`)))}
${bias ? `  var sumBias = ${float(O)}(0.0);` : ''}
  for (var at = slice; at < ${pairRuns(g)}; at += ${slices}) {
    let row = at / ${runs};
    let iz = ${fineAt(g, 0, `row / ${height} % ${depth}`, `(tapRow / ${g.kernel[1]})`)};
    let iy = ${fineAt(g, 1, `row % ${height}`, `(tapRow % ${g.kernel[1]})`)};
    let isRow = iz >= 0 && iz < ${fineDepth} && iy >= 0 && iy < ${fineHeight};
    let fineRow = ((row / ${depth * height} * ${fineDepth} + iz) * ${fineHeight} + iy) * ${fineWidth};
    let begin = at % ${runs} * ${run};
    for (var column = begin; column < min(begin + ${run}, ${width}); column++) {
      let coarse = ${load(coarse, `row * ${width} + column`)};
      let ix = ${fineAt(g, 2, 'column', 'kx')};
${lines(ts.map((t) => `      let fine${t} = select(${fine.V}(0.0), ${load(fine, `fineRow + ix + ${t * g.dilation[2]}`)}, isRow & (ix + ${t * g.dilation[2]} >= 0) & (ix + ${t * g.dilation[2]} < ${fineWidth}));`))}
${bias ? '      sumBias += coarse;' : ''}
${lines(ts.map((t) => `      ${ks.map((k) => multiply(t, k)).join(' ')}`))}
    }
  }
  let tap = tapRow * ${g.kernel[2]} + kx;
${lines(ts.map((t) => `  if (kx + ${t} < ${g.kernel[2]}) { ${ks.map((k) => store(t, k)).join(' ')} }`))}
${bias ? `  if (tapRow == 0 && kx == 0 && c == 0) { dBias[u32(slice * ${outputQuads} + o)] = sumBias; }` : ''}
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    pairGeometries.flatMap((g, i) => [
      ...(['down', 'up'] as const).map((direction) =>
        pairShader(g, direction, 4 + 4 * (i % 2), { dtype, parameters: i % 2 ? 'f32' : dtype, bias: i < 2 }),
      ),
      pairWeightShader(g, 3, { dtype, bias: g.makes === 'coarse' && i > 1 }),
    ]),
  );
