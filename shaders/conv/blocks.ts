// Convolution with kernel 2 and stride 2, and its transpose: two images, of which the fine one has twice the sides. Each coarse pixel p
// has a block of taps 2p + t, 4 fine pixels in 2-D and 8 in 3-D, and no two blocks overlap. Three kernels serve both ops:
//   gather   coarse[p, c] = bias[c] + Σ_{t,f} fine[2p + t, f] · w[c,t,f]      conv, and the input gradient of convTranspose
//   scatter  fine[2p + t, f] = bias[f] + Σ_c coarse[p, c] · w[c,t,f]          convTranspose, and the input gradient of conv
//   weights  dw[c,t,f] = Σ_p coarse[p, c] · fine[2p + t, f]                   of both
// The weights of an op lie as [its outputs, t, its inputs]. A thread of gather and scatter has 8 output pixels × 4 channels, so that
// each weight is loaded once for several pixels; one of weights sums a chunk of pixels for four taps × 4 × 4 channels. Channels go four
// at a time where their count is a multiple of four. 2-D is 3-D with one slice.
import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { epilogue, type Results, ridingAlong } from './epilogue.js';
import { type Activation, type ConvFusion, groupOf } from './fusion.js';
import {
  bindings,
  element,
  float,
  lines,
  type Parts,
  product,
  range,
  type Triple,
  vector,
  widthOf,
} from './geometry.js';

/** Sizes of a pair of images. */
export interface BlockGeometry {
  readonly batch: number;
  /** Of the coarse image, as [depth, height, width]; the fine one has twice the sides, but for a depth of 1 in 2-D. */
  readonly size: Triple;
  /** Fine pixels along the depth of a block: 1 in 2-D, 2 in 3-D. */
  readonly planes: 1 | 2;
  /** Channels of each image. */
  readonly coarse: number;
  readonly fine: number;
  /** The image that the op makes: the weights have its channels first. */
  readonly makes: 'coarse' | 'fine';
}

/** Which of the images a kernel writes: gather the coarse one, scatter the fine one. */
export type BlockKernel = 'gather' | 'scatter';

/** What a launch of gather or scatter computes beside the sums. */
export interface BlockOptions {
  readonly dtype: Float;
  /** Storage of weight and bias. */
  readonly parameters: Float;
  readonly bias: boolean;
  readonly fusion: ConvFusion;
}

const tapsOf = ({ planes }: BlockGeometry): number => 4 * planes;
/** Coarse pixels of one item. */
const pixelsOf = ({ size }: BlockGeometry): number => product(size);

/** Coarse pixels of a thread, and fine pixels of each that it writes (gather: none, it reads them all). */
const perThread = { gather: { pixels: 8, taps: 1 }, scatter: { pixels: 4, taps: 2 } } as const;
/** Pieces of an item: of its coarse pixels, times the rows of two taps that a thread of scatter has one of. */
const groupsOf = (kernel: BlockKernel, g: BlockGeometry): number => Math.ceil(pixelsOf(g) / perThread[kernel].pixels);
const tapRows = (kernel: BlockKernel, g: BlockGeometry): number => (kernel === 'gather' ? 1 : 2 * g.planes);

/** Channels that a kernel reads and writes. */
const channelsOf = (kernel: BlockKernel, { coarse, fine }: BlockGeometry): { inputs: number; outputs: number } =>
  kernel === 'gather' ? { inputs: fine, outputs: coarse } : { inputs: coarse, outputs: fine };

/** The partial sums of a launch: one part a thread's pixels. */
export function blockParts(kernel: BlockKernel, g: BlockGeometry): Parts {
  const { pixels, taps } = perThread[kernel];
  const [groups, rows, all] = [groupsOf(kernel, g), tapRows(kernel, g), pixelsOf(g)];
  const count =
    all % pixels ? `min(${u32(pixels)}, ${u32(all)} - part % ${u32(groups)} * ${u32(pixels)})` : u32(pixels);
  return {
    count: g.batch * rows * groups,
    pixelsOf: `(${u32(taps)} * ${count})`,
    run: { pixels: all * rows * taps, parts: groups * rows },
  };
}

/** Threads of a launch of gather or scatter. */
export function blockThreads(kernel: BlockKernel, g: BlockGeometry): number {
  const { outputs } = channelsOf(kernel, g);
  return (outputs / widthOf(outputs)) * blockParts(kernel, g).count;
}

/** Fine pixel of coarse pixel `p`, counted over all items, at tap 0; and how far from it tap `t` lies. */
const places = ({ size: [, height, width], planes }: BlockGeometry): string => wgsl`
fn corner(p: u32) -> u32 {
  let column = p % ${u32(width)};
  let row = (p / ${u32(width)}) % ${u32(height)};
  let slice = p / ${u32(width * height)};
  return ((slice * ${u32(planes)} * ${u32(2 * height)}) + 2u * row) * ${u32(2 * width)} + 2u * column;
}
fn tap_offset(t: u32) -> u32 {
  return ((t >> 2u) * ${u32(2 * height)} + ((t >> 1u) & 1u)) * ${u32(2 * width)} + (t & 1u);
}`;

const bind = (binding: ReturnType<typeof bindings>, access: 'read' | 'read_write', name: string) => {
  return (type: string, width: number, size: number): string => binding(access, name, `${type}, ${size / width}`);
};

/** gather or scatter: y from x and weight. */
export function blockShader(kernel: BlockKernel, g: BlockGeometry, options: BlockOptions): string {
  const { dtype, parameters, bias, fusion } = options;
  const { inputs, outputs } = channelsOf(kernel, g);
  const [I, O] = [widthOf(inputs), widthOf(outputs)];
  const [inputQuads, outputQuads] = [inputs / I, outputs / O];
  const [taps, all, groups, rows] = [tapsOf(g), pixelsOf(g), groupsOf(kernel, g), tapRows(kernel, g)];
  const V = float(O);
  const { pixels, taps: tapsWritten } = perThread[kernel];
  const images = { coarse: g.batch * all * g.coarse, fine: g.batch * all * taps * g.fine };
  const [read, written] =
    kernel === 'gather' ? ([images.fine, images.coarse] as const) : ([images.coarse, images.fine] as const);
  /** The kernel writes the channels that the weights have first: its sum runs along their last axis. */
  const along = (g.makes === 'coarse') === (kernel === 'gather');
  const lastWidth = along ? I : O;
  const js = range(pixels);
  const ks = range(tapsWritten);
  const binding = bindings();

  const weight = (k: number, tap: string): string =>
    along
      ? `weight[((${O}u * o + ${k}u) * ${u32(taps)} + ${tap}) * ${u32(inputQuads)} + c]`
      : `weight[((${I}u * c + ${k}u) * ${u32(taps)} + ${tap}) * ${u32(outputQuads)} + o]`;
  const loadWeights = (kx: number, tap: string): string =>
    lines(range(along ? O : I).map((k) => `      let k${kx}_${k} = ${float(lastWidth)}(${weight(k, tap)});`));
  const dot = (v: string, k: string): string => (I === 4 ? `dot(${v}, ${k})` : `${v} * ${k}`);
  const multiply = (j: number, kx: number): string =>
    along
      ? `sum += ${V}(${range(O)
          .map((k) => dot('v', `k${kx}_${k}`))
          .join(', ')});`.replace('sum', `a${j}_${kx}`)
      : range(I)
          .map((k) => `a${j}_${kx} = fma(${V}(${element('v', I, k)}), k${kx}_${k}, a${j}_${kx});`)
          .join(' ');
  const loaded = (at: string): string => {
    const stored = `${float(I)}(x[${at}])`;
    return fusion.onLoad ? `tail(${stored}, mean, scale, shift)` : stored;
  };
  const group = fusion.onLoad && groupOf(fusion.onLoad);
  const coefficient = (row: number): string =>
    `coefficients[${group ? 'ofGroup + ' : ''}${row ? `${u32(row * inputQuads)} + ` : ''}c]`;
  const coefficients = fusion.onLoad
    ? `
      let mean = ${coefficient(0)};
      let scale = ${coefficient(1)};
      let shift = ${coefficient(2)};`
    : '';
  const body =
    kernel === 'gather'
      ? // One loop over taps and channels: of two, compilers unroll the inner one and keep the coefficients of all its turns alive.
        wgsl`${lines(js.map((j) => `  let x${j} = corner${j} * ${u32(inputQuads)};`))}
  for (var turn = 0u; turn < ${u32(taps * inputQuads)}; turn++) {
      let t = turn / ${u32(inputQuads)};
      let c = turn % ${u32(inputQuads)};
      let offset = tap_offset(t) * ${u32(inputQuads)} + c;${coefficients}
${loadWeights(0, 't')}
${lines(js.map((j) => `      { let v = ${loaded(`x${j} + offset`)}; ${multiply(j, 0)} }`))}
  }`
      : wgsl`  {
${lines(js.map((j) => `    let x${j} = min(first + ${j}u, ${u32(g.batch * all - 1)}) * ${u32(inputQuads)};`))}
    for (var c = 0u; c < ${u32(inputQuads)}; c++) {${coefficients}
${lines(ks.map((kx) => loadWeights(kx, `(2u * row + ${kx}u)`)))}
${lines(js.map((j) => `      { let v = ${loaded(`x${j} + c`)}; ${ks.map((kx) => multiply(j, kx)).join(' ')} }`))}
    }
  }`;

  const outputQuad = 'o';
  const results: Results = {
    ...{ V, parts: blockParts(kernel, g), sets: [[0]] },
    each: (_, each) =>
      js.map((j) => {
        const writes = ks.map((kx) => {
          const pixel = kernel === 'gather' ? `first + ${j}u` : `corner${j} + offset + ${kx}u`;
          return each({ q: 0, value: `a${j}_${kx}`, at: `(${pixel}) * ${u32(outputQuads)} + o`, channel: outputQuad });
        });
        const certain = all % pixels === 0 || j === 0;
        return certain ? `  ${writes.join(' ')}` : `  if (first + ${j}u < end) { ${writes.join(' ')} }`;
      }),
    load: (name, at) => `${V}(${name}[${at}])`,
    store: (at, value) => `y[${at}] = ${vector(dtype, O)}(${value});`,
    factors: (at) => `factors_at(${at})`,
    coefficient: (row, _, of) =>
      `zCoefficients[${of ? `${of} * ${u32(4 * outputQuads)} + ` : ''}${row ? `${u32(row * outputQuads)} + ` : ''}o]`,
    storePart: (row, _, value) => `  partials[(part * 2u + ${u32(row)}) * ${u32(outputQuads)} + o] = ${value};`,
    addUp: (value, total) => `  let ${total} = ${value};`,
    addProduct: (sum, a, b) => `${sum} += ${a} * ${b};`,
  };
  return wgsl`${enable(dtype === 'f16' || parameters === 'f16' ? 'f16' : 'f32')}
${bind(binding, 'read', 'x')(vector(dtype, I), I, read)}
${bind(binding, 'read', 'weight')(vector(parameters, lastWidth), lastWidth, taps * inputs * outputs)}
${bind(binding, 'read_write', 'y')(vector(dtype, O), O, written)}
${bias ? bind(binding, 'read', 'bias')(vector(parameters, O), O, outputs) : ''}
${lines(ridingAlong(binding, fusion, { dtype, loaded: I, stored: O }))}
${places(g)}

@compute @workgroup_size(64)
fn conv_block_${kernel}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(blockThreads(kernel, g))}) { return; }
  let o = i % ${u32(outputQuads)};
  let part = i / ${u32(outputQuads)};
  let image = part / ${u32(groups * rows)};
  let first = image * ${u32(all)} + ${u32(pixels)} * (part % ${u32(groups)});
  let end = (image + 1u) * ${u32(all)};
${group ? `  let ofGroup = ${group} * ${u32(4 * inputQuads)};` : ''}
${kernel === 'scatter' ? `  let row = part / ${u32(groups)} % ${u32(rows)};\n  let offset = tap_offset(2u * row);` : ''}
${lines(js.map((j) => `  let corner${j} = corner(min(first + ${j}u, end - 1u));`))}
  let start = ${bias ? `${V}(bias[o])` : `${V}(0.0)`};
${lines(js.flatMap((j) => ks.map((kx) => `  var a${j}_${kx} = start;`)))}
${body}
${lines(epilogue(fusion, results))}
}`;
}

const weightThreads = (g: BlockGeometry): number =>
  (g.coarse / widthOf(g.coarse)) * (g.fine / widthOf(g.fine)) * g.planes;

/** Chunks of pixels of the weight gradient: enough threads for a GPU, at least 32 coarse pixels each. */
export const blockWeightChunks = (g: BlockGeometry): number =>
  Math.max(1, Math.min(1024, Math.ceil((g.batch * pixelsOf(g)) / 32), Math.ceil(65536 / weightThreads(g))));

/** Rows of the partial sums of the bias: where the op makes the fine image, each plane of a block has its own. */
export const blockBiasChunks = (g: BlockGeometry): number => blockWeightChunks(g) * (g.makes === 'fine' ? g.planes : 1);

export const blockWeightThreads = (g: BlockGeometry): number => weightThreads(g) * blockWeightChunks(g);

/**
 * dWeight [chunks, outputs, t, inputs] and, with `bias`, dBias [bias chunks, outputs], f32, from x and dy, which are the fine and the
 * coarse image or, where the op makes the fine one, the other way round. `onLoad`: the deferred activation of x.
 */
export function blockWeightShader(
  g: BlockGeometry,
  { dtype, bias, onLoad }: { dtype: Float; bias: boolean; onLoad: Activation | undefined },
): string {
  const down = g.makes === 'coarse';
  const [inputs, outputs] = down ? [g.fine, g.coarse] : [g.coarse, g.fine];
  const [I, O] = [widthOf(inputs), widthOf(outputs)];
  const [quads, outputQuads] = [inputs / I, outputs / O];
  const [taps, chunks, all] = [tapsOf(g), blockWeightChunks(g), pixelsOf(g)];
  const { planes } = g;
  const sizes = { coarse: g.batch * all * g.coarse, fine: g.batch * all * taps * g.fine };
  const [xSize, dySize] = down ? [sizes.fine, sizes.coarse] : [sizes.coarse, sizes.fine];
  const group = onLoad && groupOf(onLoad);
  const binding = bindings();
  const four = range(4);
  /** Lines that load the coefficients; of several groups, those of pixel j. */
  const coefficients = (j: number): string[] => {
    const names = ['mean', 'scale', 'shift'];
    if (!onLoad) return [];
    if (!group) return names.map((name, row) => `  let ${name} = coefficients[${u32(row * quads)} + c];`);
    return [
      `    let first${j} = group_of_image(p${j} / ${u32(all)}) * ${u32(4 * quads)} + c;`,
      ...names.map((name, row) => `    let ${name}${j} = coefficients[first${j} + ${u32(row * quads)}];`),
    ];
  };
  const x = (at: string, j: number): string => {
    const stored = `${float(I)}(x[(${at}) * ${u32(quads)} + c])`;
    const of = group ? j : '';
    return onLoad ? `tail(${stored}, mean${of}, scale${of}, shift${of})` : stored;
  };
  const dy = (at: string): string => `${float(O)}(dy[(${at}) * ${u32(outputQuads)} + o])`;
  const add = (t: number, gradient: string, v: string): string =>
    range(O)
      .map((k) => `sum${t}_${k} = fma(${float(I)}(${element(gradient, O, k)}), ${v}, sum${t}_${k});`)
      .join(' ');
  // Pixels at a time, so that a thread waits for memory once for both. The second may lie beyond the end: its values are then 0.
  const two = range(2);
  const within = (j: number, value: string, width: number): string =>
    j ? `select(${float(width)}(0.0), ${value}, isWithin)` : value;
  const fineAt = (j: number, t: number): string => `at${j} + tap_offset(${t}u)`;
  const loads = lines(
    two.flatMap((j) =>
      down
        ? [
            `    let g${j} = ${within(j, dy(`p${j}`), O)};`,
            ...four.map((t) => `    let v${j}_${t} = ${x(fineAt(j, t), j)};`),
          ]
        : [
            `    let v${j} = ${within(j, x(`p${j}`, j), I)};`,
            ...four.map((t) => `    let g${j}_${t} = ${within(j, dy(fineAt(j, t)), O)};`),
          ],
    ),
  );
  const products = lines(
    two.flatMap((j) => [
      ...(bias ? [`    sumBias += ${down ? `g${j}` : `(g${j}_0 + g${j}_1) + (g${j}_2 + g${j}_3)`};`] : []),
      ...four.map((t) => `    ${down ? add(t, `g${j}`, `v${j}_${t}`) : add(t, `g${j}_${t}`, `v${j}`)}`),
    ]),
  );
  return wgsl`${enable(dtype)}
${bind(binding, 'read', 'x')(vector(dtype, I), I, xSize)}
${bind(binding, 'read', 'dy')(vector(dtype, O), O, dySize)}
${bind(binding, 'read_write', 'dWeight')(float(I), I, chunks * taps * inputs * outputs)}
${bias ? bind(binding, 'read_write', 'dBias')(float(O), O, blockBiasChunks(g) * outputs) : ''}
${lines(ridingAlong(binding, { onLoad }, { dtype, loaded: I, stored: 1 }))}
${places(g)}
${group ? `fn group_of_image(image: u32) -> u32 { return ${group}; }` : ''}

@compute @workgroup_size(64)
fn conv_block_weights(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(blockWeightThreads(g))}) { return; }
  let c = i % ${u32(quads)};
  let o = (i / ${u32(quads)}) % ${u32(outputQuads)};
  let plane = (i / ${u32(quads * outputQuads)}) % ${u32(planes)};
  let chunk = i / ${u32(quads * outputQuads * planes)};
${group ? '' : lines(coefficients(0))}
${lines(four.flatMap((t) => range(O).map((k) => `  var sum${t}_${k} = ${float(I)}(0.0);`)))}
${bias ? `  var sumBias = ${float(O)}(0.0);` : ''}
  for (var p0 = chunk; p0 < ${u32(g.batch * all)}; p0 += ${u32(2 * chunks)}) {
    let isWithin = p0 + ${u32(chunks)} < ${u32(g.batch * all)};
    let p1 = select(p0, p0 + ${u32(chunks)}, isWithin);
${lines(two.map((j) => `    let at${j} = corner(p${j}) + tap_offset(4u * plane);`))}
${group ? lines(two.flatMap(coefficients)) : ''}
${loads}
${products}
  }
  let out = (chunk * ${u32(outputs)} + ${O}u * o) * ${u32(taps * quads)} + plane * ${u32(4 * quads)} + c;
${lines(four.flatMap((t) => range(O).map((k) => `  dWeight[out + ${u32((k * taps + t) * quads)}] = sum${t}_${k};`)))}
${!bias ? '' : down ? `  if (c == 0u && plane == 0u) { dBias[chunk * ${u32(outputQuads)} + o] = sumBias; }` : `  if (c == 0u) { dBias[(chunk * ${u32(planes)} + plane) * ${u32(outputQuads)} + o] = sumBias; }`}
}`;
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const activation: Activation = { slope: 0, dropout: 0 };
  const channels = [
    [4, 8],
    [3, 4],
    [8, 2],
    [1, 5],
  ] as const;
  const geometries = (['coarse', 'fine'] as const).flatMap((makes) =>
    ([1, 2] as const).flatMap((planes) =>
      channels.map(([coarse, fine]): BlockGeometry => {
        return { batch: 2, size: [planes === 1 ? 1 : 3, 3, 5], planes, coarse, fine, makes };
      }),
    ),
  );
  return (['f32', 'f16'] as const).flatMap((dtype) =>
    geometries.flatMap((g) => {
      const fusions: ConvFusion[] = [
        {},
        { onLoad: activation, statistics: true },
        { onLoad: { ...activation, groups: [1, 1] } },
        { gradient: { slope: 0.01, dropout: 0.5 } },
        { gradient: { ...activation, groups: [1, 1] }, base: true },
      ];
      const texts = (kernel: BlockKernel): string[] =>
        fusions.map((fusion, i) =>
          blockShader(kernel, g, {
            dtype,
            parameters: i ? 'f32' : dtype,
            bias: !fusion.gradient,
            fusion,
          }),
        );
      return [
        ...texts('gather'),
        ...texts('scatter'),
        ...[undefined, activation, { ...activation, groups: [1, 1] }].map((onLoad, i) =>
          blockWeightShader(g, { dtype, bias: i > 0, onLoad }),
        ),
      ];
    }),
  );
}
