// Snippets for kernels that compute a projection head on the way: z = W2·h + b2 with h = l(W1·f + b1) of each pixel that counts,
// LeakyReLU l. Neither h nor z is stored in memory. A workgroup looks at its pixels, lines up those that count, and computes them in
// tiles of one pixel a thread, so that no thread waits for a pixel that does not count. Weights are [outputs, inputs], in vectors of
// four; all threads read the same one at a time.
import { type Activation, activationFunction, groupOf, leakyRelu } from './conv/fusion.js';
import { type Float, u32, wgsl } from './wgsl.js';

/** Pixels of a tile, and threads of a workgroup. */
export const tilePixels = 32;
/** Pixels that a workgroup looks at in one turn: four a thread, whose bytes are one word. */
const turnPixels = 4 * tilePixels;
/** Pixels that may wait in line, a power of two: what is left of a tile, and those of one turn. */
const lineLength = 256;

/** Sizes of a projection head over `pixels` features f [pixels, inputs]; all channels are multiples of four. */
export interface ProjectionSizes {
  readonly dtype: Float;
  readonly pixels: number;
  readonly inputs: number;
  readonly hidden: number;
  readonly outputs: number;
  /** Of LeakyReLU, in [0, 1]. */
  readonly slope: number;
  /** f is a deferred activation without dropout: its norm's input and `coefficients` are bound in its place. */
  readonly onLoad: Activation | undefined;
  /** Items of the batch, of equal size. */
  readonly items: number;
}

/** Most channels: the values of a pixel fit in a thread's registers, and those of a tile in the 16 KiB that a workgroup always has. */
export const mostChannels = { inputs: 64, hidden: 32, outputs: 32 };

export const components = ['x', 'y', 'z', 'w'] as const;

/** 0, 1, … `count` − 1. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Sizes in vectors of four. */
export const quadsOf = ({ inputs, hidden, outputs }: ProjectionSizes) => ({
  inputs: inputs / 4,
  hidden: hidden / 4,
  outputs: outputs / 4,
});

/** Workgroups, each of which writes one row of partial sums. */
export const projectionGroups = ({ pixels }: ProjectionSizes): number => Math.min(2048, Math.ceil(pixels / turnPixels));

/** Rows of `quads` vectors in workgroup memory, one a pixel of the tile. */
export interface TileRows {
  readonly array: string;
  readonly quads: number;
  /** Odd, so that neither neighbouring pixels nor neighbouring vectors meet in one bank of the memory. */
  readonly pitch: number;
}

export const tileRows = (array: string, quads: number): TileRows => ({ array, quads, pitch: quads | 1 });

/** Module scope: the memory of such rows. */
export const tileMemory = ({ array, pitch }: TileRows): string =>
  `var<workgroup> ${array}: array<vec4f, ${tilePixels * pitch}>;`;

/** Expression: vector `q` of the row of pixel `p` of the tile. */
export const tileAt = ({ array, pitch }: TileRows, p: string, q: string): string =>
  `${array}[${p} * ${u32(pitch)} + ${q}]`;

/** Bindings `f` and, for a deferred activation, `coefficients`, at 0 and 1; and a function: vector `q` of the features of pixel `i`. */
export function featureFunction({ dtype, onLoad, pixels, items, inputs: channels }: ProjectionSizes): string {
  const inputs = channels / 4;
  const group = onLoad && groupOf(onLoad);
  const at = (row: number): string =>
    `coefficients[${[group && `group * ${u32(4 * inputs)}`, row && u32(row * inputs), 'q'].filter(Boolean).join(' + ')}]`;
  return wgsl`
@group(0) @binding(0) var<storage, read> f: array<vec4<${dtype}>>;
#if ${onLoad !== undefined}
@group(0) @binding(1) var<storage, read> coefficients: array<vec4f>;
${onLoad ? activationFunction('vec4f', onLoad) : ''}
#endif
fn feature(i: u32, q: u32) -> vec4f {
#if ${group !== undefined}
  let image = i / ${u32(pixels / items)};
  let group = ${group ?? ''};
#endif
  let v = vec4f(f[i * ${u32(inputs)} + q]);
  return ${onLoad ? `tail(v, ${at(0)}, ${at(1)}, ${at(2)})` : 'v'};
}
fn add_product(sum: f32, w: vec4f, v: vec4f) -> f32 {
  return fma(w.x, v.x, fma(w.y, v.y, fma(w.z, v.z, fma(w.w, v.w, sum))));
}`;
}

/** Lines that define `f0` …: the features of pixel i. */
export const loadFeatures = (sizes: ProjectionSizes): string =>
  range(quadsOf(sizes).inputs)
    .map((q) => `    let f${q} = feature(i, ${q}u);`)
    .join('\n');

/** Where weights lie: an array of vectors, and the index of the first. */
export interface Place {
  readonly array: string;
  readonly at: number;
}

/**
 * Expression: the quads of h, out of `array`'s own length. A loop to a number that compilers know is unrolled by some (ACO), which
 * then load all weights first and have no registers for them.
 */
export const hiddenQuads = (sizes: ProjectionSizes, array: string): string =>
  `min(${u32(quadsOf(sizes).hidden)}, arrayLength(&${array}))`;

/** Lines that define `var h`: quad `j` of h for the features in `f0` …. */
export function hiddenQuad(sizes: ProjectionSizes, weight: Place, bias: Place): string {
  const { inputs } = quadsOf(sizes);
  const row = (c: string, r: number): string =>
    range(inputs)
      .map(
        (q) =>
          `      h.${c} = add_product(h.${c}, ${weight.array}[first + ${u32(weight.at + r * inputs + q)}], f${q});`,
      )
      .join('\n');
  return wgsl`      let first = j * ${u32(4 * inputs)};
      var h = ${bias.array}[${u32(bias.at)} + j];
${components.map(row).join('\n')}
      h = ${leakyRelu('h', 'vec4f', sizes.slope)};`;
}

/** Lines that define `var z0` …: z for the features in `f0` …. Lines `keep` may store quad `j` of h, which is in `h`. */
export function projected(sizes: ProjectionSizes, { weight1, bias1, weight2, bias2 }: HeadPlaces, keep = ''): string {
  const { hidden, outputs } = quadsOf(sizes);
  const added = (q: number): string =>
    components
      .map(
        (c, r) => `      z${q}.${c} = add_product(z${q}.${c}, table[${u32(weight2 + (4 * q + r) * hidden)} + j], h);`,
      )
      .join('\n');
  return wgsl`
${range(outputs)
  .map((q) => `    var z${q} = table[${u32(bias2 + q)}];`)
  .join('\n')}
    for (var j = 0u; j < ${hiddenQuads(sizes, 'table')}; j++) {
${hiddenQuad(sizes, { array: 'table', at: weight1 }, { array: 'table', at: bias1 })}
${keep}
${range(outputs).map(added).join('\n')}
    }`;
}

/** The `table` that a head's kernels bind, in vectors: weights, biases, prototypes, how often these were updated, and factors. */
export interface HeadPlaces {
  readonly weight1: number;
  readonly bias1: number;
  readonly weight2: number;
  readonly bias2: number;
  readonly vectors: number;
  readonly counts: number;
  /** Factors of the gradient [2, K]. A multiple of 16: they are bound by themselves, too, and a binding begins at 256 bytes. */
  readonly factors: number;
  readonly end: number;
}

/** The table of a head and of the prototypes of `classes` classes. */
export function headPlaces(sizes: ProjectionSizes, classes: number): HeadPlaces {
  const { inputs, hidden, outputs } = quadsOf(sizes);
  const bias1 = sizes.hidden * inputs;
  const weight2 = bias1 + hidden;
  const bias2 = weight2 + sizes.outputs * hidden;
  const vectors = bias2 + outputs;
  const counts = vectors + classes * outputs;
  const factors = Math.ceil((counts + Math.ceil(classes / 4)) / 16) * 16;
  return { weight1: 0, bias1, weight2, bias2, vectors, counts, factors, end: factors + Math.ceil(classes / 2) };
}

/** Module scope of a kernel with `keptTiles`. */
export const keptMemory = wgsl`
var<workgroup> kept_bits: array<u32, ${tilePixels}>;
var<workgroup> line: array<u32, ${lineLength}>;
var<workgroup> found: u32;`;

/** Expression: the pixel at a place of the tile; behind its end, that of the last. */
export const inLine = (place: string): string => `line[(head + min(${place}, take - 1u)) % ${u32(lineLength)}]`;

/**
 * Walks over the pixels of this workgroup for which `is_kept(i)` holds, in order, in tiles. Lines `tile` compute one: the thread has
 * pixel i, and the first `take` threads count; the others have the last pixel once more. The lines end with a barrier if they use
 * workgroup memory. `skipped` is a line for vector `q` of the `quads` of each pixel i that is not kept. Needs `group` and `thread`.
 */
export function keptTiles(sizes: ProjectionSizes, tile: string, skipped?: { quads: number; line: string }): string {
  const pixels = u32(sizes.pixels);
  const groups = u32(projectionGroups(sizes));
  const turns = u32(Math.ceil(sizes.pixels / turnPixels));
  return wgsl`
  var head = 0u;    // of the line
  var waiting = 0u; // pixels in it
  for (var turn = group.x; turn < ${turns}; turn += ${groups}) {
    let start = turn * ${u32(turnPixels)};
    let own = start + 4u * thread;
    var bits = 0u;
    for (var b = 0u; b < 4u; b++) {
      if (own + b < ${pixels} && is_kept(own + b)) { bits |= 1u << b; }
    }
    kept_bits[thread] = bits;
    workgroupBarrier();
    var before = 0u;
    for (var t = 0u; t < thread; t++) { before += countOneBits(kept_bits[t]); }
    if (thread == ${u32(tilePixels - 1)}) { found = before + countOneBits(bits); }
    var place = head + waiting + before;
    for (var b = 0u; b < 4u; b++) {
      if (((bits >> b) & 1u) == 1u) {
        line[place % ${u32(lineLength)}] = own + b;
        place++;
      }
    }
#if ${skipped !== undefined}
    for (var e = thread; e < ${u32(turnPixels * (skipped?.quads ?? 0))}; e += ${u32(tilePixels)}) {
      let at = e / ${u32(skipped?.quads ?? 1)};
      let q = e % ${u32(skipped?.quads ?? 1)};
      let i = start + at;
      if (i < ${pixels} && ((kept_bits[at / 4u] >> (at % 4u)) & 1u) == 0u) { ${skipped?.line ?? ''} }
    }
#endif
    waiting += workgroupUniformLoad(&found); // with a barrier before and after
    let ends = turn + ${groups} >= ${turns};
    while (waiting >= ${u32(tilePixels)} || (ends && waiting > 0u)) {
      let take = min(waiting, ${u32(tilePixels)});
      let i = ${inLine('thread')};
${tile}
      head += take;
      waiting -= take;
    }
  }`;
}
