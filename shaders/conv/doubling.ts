// Transposed convolution with kernel 2 and stride 2: every output pixel has exactly one input pixel p and one tap t.
//   y[2p + t, o] = bias[o] + Σ_c x[p, c] · weight[o, t, c]
//   dx[p, c]     = Σ_{t,o} dy[2p + t, o] · weight[o, t, c]
//   dWeight[o, t, c] = Σ_p dy[2p + t, o] · x[p, c]
// Forward and dx: a thread computes 4 neighbouring input pixels × 4 channels, so that each weight is loaded once for four
// pixels. dWeight: a thread sums one chunk of pixels for the four taps of a plane × 4 × 4 channels; the chunks are added up
// in a second pass. Channels go four at a time where their count is a multiple of four. 2-D is 3-D with one slice.
import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { element, float, lines, range, vector, widthOf } from './geometry.js';

export interface ConvTransposeSizes {
  readonly dtype: Float;
  readonly batch: number;
  /** Size of the input; in 2-D, depth and `planes` are 1. */
  readonly depth: number;
  readonly height: number;
  readonly width: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Taps along the depth: 1 in 2-D, 2 in 3-D. */
  readonly planes: 1 | 2;
}

const dot = (n: 1 | 4, a: string, b: string): string => (n === 4 ? `dot(${a}, ${b})` : `${a} * ${b}`);
/** A line for each of the first n numbers. */
const each = (n: number, line: (i: number) => string): string => lines(range(n).map(line));

const pixelsOf = ({ batch, depth, height, width }: ConvTransposeSizes): number => batch * depth * height * width;
const groupsOf = (sizes: ConvTransposeSizes): number => Math.ceil(pixelsOf(sizes) / 4);
const tapsOf = ({ planes }: ConvTransposeSizes): number => 4 * planes;

export const convTransposeThreads = (sizes: ConvTransposeSizes): number =>
  (sizes.outputs / widthOf(sizes.outputs)) * tapsOf(sizes) * groupsOf(sizes);

export const convTransposeInputThreads = (sizes: ConvTransposeSizes): number =>
  (sizes.inputs / widthOf(sizes.inputs)) * groupsOf(sizes);

const weightThreads = (sizes: ConvTransposeSizes): number =>
  (sizes.inputs / widthOf(sizes.inputs)) * (sizes.outputs / widthOf(sizes.outputs)) * sizes.planes;

/** Chunks of pixels for the weight gradient: enough threads to fill a GPU, about 32 pixels or more in each chunk. */
export const convTransposeChunks = (sizes: ConvTransposeSizes): number =>
  Math.max(1, Math.min(1024, Math.ceil(pixelsOf(sizes) / 32), Math.ceil(16384 / weightThreads(sizes))));

export const convTransposeWeightThreads = (sizes: ConvTransposeSizes): number =>
  weightThreads(sizes) * convTransposeChunks(sizes);

/** Output pixel of input pixel `p` at tap 0, and the offset of tap `t` from it. */
const places = ({ height, width, planes }: ConvTransposeSizes): string => wgsl`
fn corner(p: u32) -> u32 {
  let column = p % ${u32(width)};
  let row = (p / ${u32(width)}) % ${u32(height)};
  let slice = p / ${u32(width * height)};
  return ((slice * ${u32(planes)} * ${u32(2 * height)}) + 2u * row) * ${u32(2 * width)} + 2u * column;
}
fn tap_offset(t: u32) -> u32 {
  return ((t >> 2u) * ${u32(2 * height)} + ((t >> 1u) & 1u)) * ${u32(2 * width)} + (t & 1u);
}`;

export function convTransposeForward(sizes: ConvTransposeSizes, bias: boolean): string {
  const { dtype, inputs, outputs } = sizes;
  const [I, O] = [widthOf(inputs), widthOf(outputs)];
  const [quads, outputQuads] = [inputs / I, outputs / O];
  const taps = tapsOf(sizes);
  const pixels = pixelsOf(sizes);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> x: array<${vector(dtype, I)}>;
@group(0) @binding(1) var<storage, read> weight: array<${vector(dtype, I)}>;
@group(0) @binding(2) var<storage, read_write> y: array<${vector(dtype, O)}>;
#if ${bias}
@group(0) @binding(3) var<storage, read> bias: array<${vector(dtype, O)}>;
#endif
${places(sizes)}

@compute @workgroup_size(64)
fn conv_transpose(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(convTransposeThreads(sizes))}) { return; }
  let o = i % ${u32(outputQuads)};
  let t = (i / ${u32(outputQuads)}) % ${u32(taps)};
  let first = 4u * (i / ${u32(outputQuads * taps)});
${each(4, (j) => `  let x${j} = min(first + ${j}u, ${u32(pixels - 1)}) * ${u32(quads)};`)}
${each(O, (c) => `  let w${c} = ((${O}u * o + ${c}u) * ${u32(taps)} + t) * ${u32(quads)};`)}
#if ${bias}
  var sum0 = ${float(O)}(bias[o]);
#else
  var sum0 = ${float(O)}(0.0);
#endif
${each(3, (j) => `  var sum${j + 1} = sum0;`)}
  for (var c = 0u; c < ${u32(quads)}; c++) {
${each(O, (c) => `    let k${c} = ${float(I)}(weight[w${c} + c]);`)}
${each(4, (j) => `    { let v = ${float(I)}(x[x${j} + c]); sum${j} += ${float(O)}(${range(O).map((c) => dot(I, 'v', `k${c}`))}); }`)}
  }
  let offset = tap_offset(t);
${each(4, (j) => `  if (first + ${j}u < ${u32(pixels)}) { y[(corner(first + ${j}u) + offset) * ${u32(outputQuads)} + o] = ${vector(dtype, O)}(sum${j}); }`)}
}`;
}

export function convTransposeInput(sizes: ConvTransposeSizes): string {
  const { dtype, inputs, outputs } = sizes;
  const [I, O] = [widthOf(inputs), widthOf(outputs)];
  const [quads, outputQuads] = [inputs / I, outputs / O];
  const taps = tapsOf(sizes);
  const pixels = pixelsOf(sizes);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> dy: array<${vector(dtype, O)}>;
@group(0) @binding(1) var<storage, read> weight: array<${vector(dtype, I)}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${vector(dtype, I)}>;
${places(sizes)}

@compute @workgroup_size(64)
fn conv_transpose_input(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(convTransposeInputThreads(sizes))}) { return; }
  let c = i % ${u32(quads)};
  let first = 4u * (i / ${u32(quads)});
${each(4, (j) => `  let corner${j} = corner(min(first + ${j}u, ${u32(pixels - 1)}));\n  var sum${j} = ${float(I)}(0.0);`)}
  for (var t = 0u; t < ${u32(taps)}; t++) {
    let offset = tap_offset(t);
${each(4, (j) => `    let at${j} = (corner${j} + offset) * ${u32(outputQuads)};`)}
    for (var o = 0u; o < ${u32(outputQuads)}; o++) {
${each(O, (k) => `      let k${k} = ${float(I)}(weight[((${O}u * o + ${k}u) * ${u32(taps)} + t) * ${u32(quads)} + c]);`)}
${each(
  4,
  (j) =>
    `      { let g = ${float(O)}(dy[at${j} + o]); sum${j} += ${range(O)
      .map((k) => `${element('g', O, k)} * k${k}`)
      .join(' + ')}; }`,
)}
    }
  }
${each(4, (j) => `  if (first + ${j}u < ${u32(pixels)}) { dx[(first + ${j}u) * ${u32(quads)} + c] = ${vector(dtype, I)}(sum${j}); }`)}
}`;
}

/** partials [chunks, O, taps, I], f32. */
export function convTransposeWeight(sizes: ConvTransposeSizes): string {
  const { dtype, inputs, outputs, planes } = sizes;
  const [I, O] = [widthOf(inputs), widthOf(outputs)];
  const [quads, outputQuads] = [inputs / I, outputs / O];
  const taps = tapsOf(sizes);
  const chunks = convTransposeChunks(sizes);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> x: array<${vector(dtype, I)}>;
@group(0) @binding(1) var<storage, read> dy: array<${vector(dtype, O)}>;
@group(0) @binding(2) var<storage, read_write> partials: array<${float(I)}>;
${places(sizes)}

@compute @workgroup_size(64)
fn conv_transpose_weight(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(convTransposeWeightThreads(sizes))}) { return; }
  let c = i % ${u32(quads)};
  let o = (i / ${u32(quads)}) % ${u32(outputQuads)};
  let plane = (i / ${u32(quads * outputQuads)}) % ${u32(planes)};
  let chunk = i / ${u32(quads * outputQuads * planes)};
${each(4, (t) => each(O, (k) => `  var sum${t}_${k} = ${float(I)}(0.0);`))}
  for (var p = chunk; p < ${u32(pixelsOf(sizes))}; p += ${u32(chunks)}) {
    let v = ${float(I)}(x[p * ${u32(quads)} + c]);
    let at = corner(p) + tap_offset(4u * plane);
${each(
  4,
  (t) => `    { let g = ${float(O)}(dy[(at + tap_offset(${t}u)) * ${u32(outputQuads)} + o]);
${each(O, (k) => `      sum${t}_${k} += ${element('g', O, k)} * v;`)} }`,
)}
  }
  let out = (chunk * ${u32(outputs)} + ${O}u * o) * ${u32(taps * quads)} + plane * ${u32(4 * quads)} + c;
${each(4, (t) => each(O, (k) => `  partials[out + ${u32((k * taps + t) * quads)}] = sum${t}_${k};`))}
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [
      [4, 8],
      [3, 4],
      [8, 2],
      [1, 5],
    ].flatMap(([inputs, outputs]) =>
      ([1, 2] as const).flatMap((planes) => {
        const plane = { dtype, batch: 2, depth: planes === 1 ? 1 : 3, height: 3, width: 5, planes };
        const sizes = { ...plane, inputs: inputs!, outputs: outputs! };
        const forward = [true, false].map((bias) => convTransposeForward(sizes, bias));
        return [...forward, convTransposeInput(sizes), convTransposeWeight(sizes)];
      }),
    ),
  );
