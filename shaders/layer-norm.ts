// y = γ_c · x̂ + β_c, x̂ = (x − μ)/√(σ² + ε), with μ and the biased σ² of each set: the channels of one group of an item.
// Layer norm is one group and items of one pixel. x is seen as [items, pixels, C], groups are C/groups neighbouring channels.
//   dx = (g − mean g − x̂ · mean(g · x̂))/√(σ² + ε), g = γ_c · dy       dγ_c = Σ dy · x̂       dβ_c = Σ dy
// One thread per set where sets are small, else 64 or 256 threads that meet in shared memory; four channels at a time where a group's
// count is a multiple of four. The variance is that of x − μ (a second read), so that a large mean costs no digits.
// dγ and dβ: one thread per channel (or four) and chunk of pixels; then one per channel adds up the chunks. Every order is fixed.
import { quotientFunction } from './functions.js';
import { enable, type Float, f32, flatIndex, u32, wgsl } from './wgsl.js';

export interface LayerNormSizes {
  readonly dtype: Float;
  readonly items: number;
  readonly pixels: number;
  readonly channels: number;
  readonly groups: number;
}

/** How threads walk a set: `count` steps of `width` elements, `each` of them in a pixel. */
function walkOf({ pixels, channels, groups }: LayerNormSizes) {
  const width = (channels / groups) % 4 === 0 ? 4 : 1;
  const each = channels / groups / width;
  const count = pixels * each;
  const threads = count * width <= 128 ? 1 : count <= 512 ? 64 : 256;
  return { width, each, count, threads, row: channels / width };
}

/** The grid of the kernels that take a set at a time. */
export function setsGrid(sizes: LayerNormSizes): { threads: number } {
  const { threads } = walkOf(sizes);
  return { threads: sizes.items * sizes.groups * threads };
}

/** Chunks of pixels for dγ and dβ. */
export const parameterChunks = ({ items, pixels }: LayerNormSizes): number =>
  Math.min(256, Math.ceil((items * pixels) / 32));

/** Threads of the first pass of dγ and dβ. */
export const parameterThreads = (sizes: LayerNormSizes): number => parameterChunks(sizes) * walkOf(sizes).row;

const types = (sizes: LayerNormSizes) => {
  const { width } = walkOf(sizes);
  return { V: width === 4 ? 'vec4f' : 'f32', stored: width === 4 ? `vec4<${sizes.dtype}>` : sizes.dtype };
};

/** Module scope and head of a kernel that takes a set at a time: defines `index`, that of the set, `first` (its first step in x) and `channel`. */
function head(name: string, sizes: LayerNormSizes): string {
  const { threads, each, row } = walkOf(sizes);
  const { items, pixels, groups } = sizes;
  return wgsl`
${quotientFunction.text}
#if ${threads > 1}
var<workgroup> shared_values: array<f32, ${threads}>;

@compute @workgroup_size(${threads})
fn ${name}(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  let index = group.y * groups.x + group.x;
#else
@compute @workgroup_size(64)
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = ${flatIndex(64)};
  let thread = 0u;
#endif
  if (index >= ${u32(items * groups)}) { return; }
  let channel = index % ${u32(groups)} * ${u32(each)};
  let first = index / ${u32(groups)} * ${u32(pixels * row)} + channel;`;
}

/** A loop over this thread's steps of the set: `at` in x, `c` in γ and β. */
function overSet(sizes: LayerNormSizes, body: string): string {
  const { each, count, threads, row } = walkOf(sizes);
  const at = sizes.pixels === 1 ? 'first + j' : `first + j / ${u32(each)} * ${u32(row)} + j % ${u32(each)}`;
  const c = sizes.pixels === 1 ? 'channel + j' : `channel + j % ${u32(each)}`;
  return `for (var j = thread; j < ${u32(count)}; j += ${u32(threads)}) { let at = ${at}; ${body.includes('[c]') ? `let c = ${c}; ` : ''}${body} }`;
}

const total = (sizes: LayerNormSizes, v: string): string =>
  walkOf(sizes).width === 4 ? `(${v}.x + ${v}.y) + (${v}.z + ${v}.w)` : v;

/** `let name`: the mean over the set of this thread's `value`, of type V. */
function meanOver(sizes: LayerNormSizes, name: string, value: string): string {
  const { count, width, threads } = walkOf(sizes);
  const mean = (sum: string): string => `quotient_1(${sum}, ${f32(count * width)})`;
  if (threads === 1) return `let ${name} = ${mean(total(sizes, value))};`;
  return wgsl`
  workgroupBarrier();
  shared_values[thread] = ${total(sizes, value)};
  for (var half = ${u32(threads / 2)}; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { shared_values[thread] += shared_values[thread + half]; }
  }
  workgroupBarrier();
  let ${name} = ${mean('shared_values[0]')};`;
}

/** x → y, and statistics [sets] of (μ, 1/√(σ² + ε)). */
export function layerNormForward(sizes: LayerNormSizes, epsilon: number): string {
  const { V, stored } = types(sizes);
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${stored}>;
@group(0) @binding(1) var<storage, read> gamma: array<${V}>;
@group(0) @binding(2) var<storage, read> beta: array<${V}>;
@group(0) @binding(3) var<storage, read_write> y: array<${stored}>;
@group(0) @binding(4) var<storage, read_write> statistics: array<vec2f>;
${head('layer_norm', sizes)}
  var sum = ${V}(0.0);
  ${overSet(sizes, `sum += ${V}(x[at]);`)}
  ${meanOver(sizes, 'mean', 'sum')}
  var squares = ${V}(0.0);
  ${overSet(sizes, `let d = ${V}(x[at]) - mean; squares += d * d;`)}
  ${meanOver(sizes, 'variance', 'squares')}
  let scale = 1.0 / sqrt(variance + ${f32(epsilon)});
  ${overSet(sizes, `y[at] = ${stored}((${V}(x[at]) - mean) * scale * gamma[c] + beta[c]);`)}
  if (thread == 0u) { statistics[index] = vec2f(mean, scale); }
}`;
}

export function layerNormBackward(sizes: LayerNormSizes): string {
  const { V, stored } = types(sizes);
  const terms = `let n = (${V}(x[at]) - s.x) * s.y; let g = ${V}(dy[at]) * gamma[c];`;
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${stored}>;
@group(0) @binding(1) var<storage, read> dy: array<${stored}>;
@group(0) @binding(2) var<storage, read> gamma: array<${V}>;
@group(0) @binding(3) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(4) var<storage, read_write> dx: array<${stored}>;
${head('layer_norm_backward', sizes)}
  let s = statistics[index];
  var sum = ${V}(0.0);
  var projected = ${V}(0.0);
  ${overSet(sizes, `${terms} sum += g; projected += g * n;`)}
  ${meanOver(sizes, 'mean_g', 'sum')}
  ${meanOver(sizes, 'mean_gn', 'projected')}
  ${overSet(sizes, `${terms} dx[at] = ${stored}((g - mean_g - n * mean_gn) * s.y);`)}
}`;
}

/** partials [chunks, 2, C]: dγ and dβ of each chunk of pixels. */
export function layerNormParameters(sizes: LayerNormSizes): string {
  const { V, stored } = types(sizes);
  const { each, row } = walkOf(sizes);
  const { items, pixels, groups } = sizes;
  const chunks = parameterChunks(sizes);
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${stored}>;
@group(0) @binding(1) var<storage, read> dy: array<${stored}>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> partials: array<${V}>;

@compute @workgroup_size(64)
fn layer_norm_parameters(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(chunks * row)}) { return; }
  let c = i % ${u32(row)};
  let chunk = i / ${u32(row)};
  var dgamma = ${V}(0.0);
  var dbeta = ${V}(0.0);
  for (var r = chunk; r < ${u32(items * pixels)}; r += ${u32(chunks)}) {
    let s = statistics[r / ${u32(pixels)} * ${u32(groups)} + c / ${u32(each)}];
    let g = ${V}(dy[r * ${u32(row)} + c]);
    dgamma += g * ((${V}(x[r * ${u32(row)} + c]) - s.x) * s.y);
    dbeta += g;
  }
  partials[chunk * ${u32(2 * row)} + c] = dgamma;
  partials[chunk * ${u32(2 * row)} + ${u32(row)} + c] = dbeta;
}`;
}

export const layerNormTotals = (channels: number, chunks: number): string => wgsl`
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(2) var<storage, read_write> dbeta: array<f32>;

@compute @workgroup_size(64)
fn layer_norm_totals(@builtin(global_invocation_id) id: vec3u) {
  let c = id.x;
  if (c >= ${u32(channels)}) { return; }
  var a = 0.0;
  var b = 0.0;
  for (var chunk = 0u; chunk < ${u32(chunks)}; chunk++) {
    a += partials[chunk * ${u32(2 * channels)} + c];
    b += partials[chunk * ${u32(2 * channels)} + ${u32(channels)} + c];
  }
  dgamma[c] = a;
  dbeta[c] = b;
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [
  layerNormTotals(12, 40),
  ...(['f32', 'f16'] as const).flatMap((dtype) =>
    [
      { items: 9, pixels: 1, channels: 64, groups: 1 },
      { items: 9, pixels: 1, channels: 257, groups: 1 },
      { items: 2, pixels: 25, channels: 12, groups: 3 },
      { items: 2, pixels: 2500, channels: 6, groups: 2 },
    ].flatMap((sizes) => [
      layerNormForward({ dtype, ...sizes }, 1e-5),
      layerNormBackward({ dtype, ...sizes }),
      layerNormParameters({ dtype, ...sizes }),
    ]),
  ),
];
