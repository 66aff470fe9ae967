// Class prototypes μ [K, D]: their update and their cosines. prototype-distance.ts computes the distance of features to them.
// Update: weight w_i = q_ik (hard: 1) for the teacher's class k on labelled pixels that it gets right, ρ times that on unlabelled
// pixels whose confidence is at least τ, or the τ of class k; batch mean Σ w z'/Σ w; μ_k ← m μ_k + (1 − m) mean with
// m = min(1 − 1/(n_k + 1), momentum), n_k the updates so far, only where Σ w > 0. Features go four at a time where D is a multiple of
// four.
import { argmaxOf, byteAt, classArray, each, fold, loadClasses, softmaxOf } from './classes.js';
import { limitOf } from './consistency.js';
import type { PixelSizes } from './cross-entropy.js';
import { sumEvery, totalsWorkgroup } from './partial-sums.js';
import { type PrototypeSizes, vector } from './prototype-sizes.js';
import { enable, type Float, f32, flatIndex, u32, wgsl } from './wgsl.js';

/** The teacher's class of each pixel, u8; on the first `labeledPixels` the label. */
export const pseudoClassesShader = (
  dtype: Float,
  pixels: number,
  classes: number,
  labeledPixels: number,
): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> teacher: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> classes: array<u32>;

@compute @workgroup_size(64)
fn pseudo_classes(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let word = ${flatIndex(64)};
  if (word >= ${u32(Math.ceil(pixels / 4))}) { return; }
  var bytes = 0u;
  for (var j = 0u; j < 4u; j++) {
    let i = 4u * word + j;
    if (i >= ${u32(pixels)}) { break; }
    if (i < ${u32(labeledPixels)}) {
      bytes |= ${byteAt('labels', 'i')} << (8u * j);
      continue;
    }
${loadClasses('x', 'teacher', 'i', classes)}
${argmaxOf('best_class', 'x', classes)}
    bytes |= best_class << (8u * j);
  }
  classes[word] = bytes;
}`;

export interface WeightingSizes extends PixelSizes {
  /** Gives reliable pixels the weight 1 instead of the teacher's confidence. */
  readonly hard: boolean;
  /** Whether each class has its own threshold. */
  readonly perClass: boolean;
}

/** weights [pixels], not yet multiplied by ρ, and the teacher's classes u8 [pixels]. */
export const prototypeWeights = (sizes: WeightingSizes, labeledPixels: number): string => wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> teacher: array<${classArray(sizes.dtype, sizes.classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> threshold: array<f32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> classes: array<u32>;

@compute @workgroup_size(64)
fn prototype_weights(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let word = ${flatIndex(64)};
  if (word >= ${u32(Math.ceil(sizes.pixels / 4))}) { return; }
  var bytes = 0u;
  for (var j = 0u; j < 4u; j++) {
    let i = 4u * word + j;
    if (i >= ${u32(sizes.pixels)}) { break; }
${loadClasses('x', 'teacher', 'i', sizes.classes)}
${softmaxOf('x', 'q', sizes.classes)}
${argmaxOf('best_class', 'x', sizes.classes)}
    let c = ${fold(
      sizes.classes,
      (a, b) => `max(${a}, ${b})`,
      (k) => `q${k}`,
    )};
    var w = 0.0;
    if (i < ${u32(labeledPixels)}) {
      w = select(0.0, ${sizes.hard ? '1.0' : 'c'}, ${byteAt('labels', 'i')} == best_class);
    } else {
      w = select(0.0, ${sizes.hard ? '1.0' : 'c'}, c >= ${limitOf(sizes, 'best_class')});
    }
    weights[i] = w;
    bytes |= best_class << (8u * j);
  }
  classes[word] = bytes;
}`;

/** Chunks of pixels, whose sums a second pass adds up: many, because each class has a workgroup in that pass. */
export const prototypeChunks = (pixels: number): number => Math.min(4096, Math.ceil(pixels / 64));

/** partials [chunks, K, D]: Σ w z' per class; partialWeights [chunks, K]: Σ w. Thread = (chunk, quad of features). */
export function prototypeSums(sizes: PrototypeSizes, labeledPixels: number): string {
  const { V, S, quads } = vector(sizes);
  const chunks = prototypeChunks(sizes.pixels);
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> features: array<${S}>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> classes: array<u32>;
@group(0) @binding(3) var<storage, read> unlabeled_weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> partials: array<${V}>;
@group(0) @binding(5) var<storage, read_write> partial_weights: array<f32>;

@compute @workgroup_size(64)
fn prototype_sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = ${flatIndex(64)};
  if (t >= ${u32(chunks * quads)}) { return; }
  let quad = t % ${u32(quads)};
  let chunk = t / ${u32(quads)};
${each(sizes.classes, (k) => `  var sum${k} = ${V}(0.0); var weight${k} = 0.0;`)}
  for (var i = chunk; i < ${u32(sizes.pixels)}; i += ${u32(chunks)}) {
    var w = weights[i];
    if (i >= ${u32(labeledPixels)}) { w *= unlabeled_weight[0]; }
    if (w == 0.0) { continue; }
    let class_of = ${byteAt('classes', 'i')};
    let z = ${V}(features[i * ${u32(quads)} + quad]);
${each(sizes.classes, (k) => `    { let here = select(0.0, w, class_of == ${k}u); sum${k} += here * z; weight${k} += here; }`)}
  }
${each(sizes.classes, (k) => `  partials[(chunk * ${u32(sizes.classes)} + ${k}u) * ${u32(quads)} + quad] = sum${k};`)}
  if (quad == 0u) {
${each(sizes.classes, (k) => `    partial_weights[chunk * ${u32(sizes.classes)} + ${k}u] = weight${k};`)}
  }
}`;
}

/** Sums over what features are projected from: Σ w h, [chunks, K, hidden] (projected-prototypes.ts). */
export interface ProjectedSums {
  readonly chunks: number;
  readonly hidden: number;
}

/**
 * Workgroup = class. Its threads share the chunks of Σ w, then the chunks of as many quads of features at a time as fit. With
 * `projected`, the sums are of h, and the mean of the features is W2·(Σ w h/Σ w) + b2.
 */
export function prototypeUpdate(sizes: PrototypeSizes, momentum: number, projected?: ProjectedSums): string {
  const { pixels, classes, width } = sizes;
  const { V, quads } = vector({ ...sizes, width: projected?.hidden ?? width });
  const outputs = u32(projected ? width / 4 : 0);
  const chunks = projected?.chunks ?? prototypeChunks(pixels);
  const columns = Math.min(quads, totalsWorkgroup);
  const lanes = Math.min(chunks, Math.floor(totalsWorkgroup / columns));
  const row = classes * quads;
  const plain = wgsl`    if (lane == 0u && quad < ${u32(quads)} && weight > 0.0) {
      let at = k * ${u32(quads)} + quad;
      vectors[at] = m * vectors[at] + (1.0 - m) * (shared_sums[thread] / weight);
    }
  }`;
  const ofProjected = wgsl`    if (lane == 0u && quad < ${u32(quads)}) { means[quad] = shared_sums[thread] / weight; }
  }
  workgroupBarrier();
  if (thread < ${outputs} && weight > 0.0) {
    var mean = bias2[thread];
    for (var j = 0u; j < ${u32(quads)}; j++) {
      let h = means[j];
${['x', 'y', 'z', 'w'].map((c, r) => `      mean.${c} += dot(weight2[(4u * thread + ${r}u) * ${u32(quads)} + j], h);`).join('\n')}
    }
    let at = k * ${outputs} + thread;
    vectors[at] = m * vectors[at] + (1.0 - m) * mean;
  }`;
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read> partial_weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> vectors: array<${V}>;
@group(0) @binding(3) var<storage, read_write> counts: array<f32>;
${
  projected
    ? `@group(0) @binding(4) var<storage, read> weight2: array<vec4f>;
@group(0) @binding(5) var<storage, read> bias2: array<vec4f>;
var<workgroup> means: array<vec4f, ${quads}>;
`
    : ''
}var<workgroup> shared_weights: array<f32, ${totalsWorkgroup}>;
var<workgroup> shared_sums: array<${V}, ${totalsWorkgroup}>;

fn weight_of(thread: u32, k: u32) -> f32 {
  var sum = 0.0;
${sumEvery(totalsWorkgroup * classes, chunks * classes, `thread * ${u32(classes)} + k`, (at) => `partial_weights[${at}]`)}
  return sum;
}

fn sum_of(lane: u32, k: u32, quad: u32) -> ${V} {
  var sum = ${V}(0.0);
${sumEvery(lanes * row, chunks * row, `(lane * ${u32(classes)} + k) * ${u32(quads)} + quad`, (at) => `partials[${at}]`)}
  return sum;
}

@compute @workgroup_size(${totalsWorkgroup})
fn prototype_update(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let k = group.x;
  let before = counts[k];
  shared_weights[thread] = weight_of(thread, k);
  for (var half = ${u32(totalsWorkgroup / 2)}; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { shared_weights[thread] += shared_weights[thread + half]; }
  }
  workgroupBarrier();
  let weight = shared_weights[0];
  let m = min(1.0 - 1.0 / (before + 1.0), ${f32(momentum)});
  let lane = thread / ${u32(columns)};
  for (var first = 0u; first < ${u32(quads)}; first += ${u32(columns)}) {
    let quad = first + thread % ${u32(columns)};
    workgroupBarrier(); // the features before are done
    if (lane < ${u32(lanes)} && quad < ${u32(quads)}) { shared_sums[thread] = sum_of(lane, k, quad); }
    for (var left = ${u32(lanes)}; left > 1u;) {
      let half = (left + 1u) / 2u;
      workgroupBarrier();
      if (lane + half < left) { shared_sums[thread] += shared_sums[thread + half * ${u32(columns)}]; }
      left = half;
    }
${projected ? ofProjected : plain}
  if (thread == 0u && weight > 0.0) { counts[k] = before + 1.0; }
}`;
}

/** cosines [K, K]; 0 for classes never seen. Thread = pair. */
export const prototypeCosinesShader = (classes: number, width: number): string => wgsl`
@group(0) @binding(0) var<storage, read> vectors: array<f32>;
@group(0) @binding(1) var<storage, read> counts: array<f32>;
@group(0) @binding(2) var<storage, read_write> cosines: array<f32>;

@compute @workgroup_size(64)
fn prototype_cosines(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(classes * classes)}) { return; }
  let a = id.x / ${u32(classes)};
  let b = id.x % ${u32(classes)};
  var products = 0.0; var squares_a = 0.0; var squares_b = 0.0;
  for (var d = 0u; d < ${u32(width)}; d++) {
    let of_a = vectors[a * ${u32(width)} + d];
    let of_b = vectors[b * ${u32(width)} + d];
    products += of_a * of_b; squares_a += of_a * of_a; squares_b += of_b * of_b;
  }
  let cosine = products / (max(sqrt(squares_a), 1e-8) * max(sqrt(squares_b), 1e-8));
  cosines[id.x] = select(0.0, cosine, counts[a] > 0.0 && counts[b] > 0.0);
}`;

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [
      { classes: 4, width: 16 },
      { classes: 3, width: 5 },
      { classes: 2, width: 36 },
    ].flatMap(({ classes, width }) => {
      const sizes = { dtype, pixels: 1000, classes, width };
      return [
        pseudoClassesShader(dtype, 1000, classes, 500),
        prototypeWeights({ ...sizes, hard: classes === 4, perClass: classes === 3 }, 500),
        prototypeSums(sizes, 500),
        prototypeUpdate(sizes, 0.99),
        ...(width % 4 === 0 ? [prototypeUpdate(sizes, 0.99, { chunks: 8, hidden: 12 })] : []),
        prototypeCosinesShader(classes, width),
      ];
    }),
  );
