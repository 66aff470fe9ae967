// Class prototypes μ [K, D] and the distance of features z [pixels, D] to them.
// Update: weight w_i = q_ik (hard: 1) of the teacher's own class k on labelled pixels it gets right, ρ times that on unlabelled
// pixels whose confidence is at least τ, or the τ of class k; batch mean Σ w z'/Σ w; μ_k ← m μ_k + (1 − m) mean, m = min(1 − 1/(n_k + 1), momentum), n_k the
// updates so far, only where Σ w > 0. Features go four at a time where D allows.
import { argmaxOf, byteAt, classArray, each, fold, loadClasses, pick, softmaxOf, total } from './classes.js';
import { limitOf } from './consistency.js';
import type { PixelSizes } from './cross-entropy.js';
import {
  addPartials,
  partialsMemory,
  partialWorkgroup,
  storePartials,
  totalsMemory,
  totalsWorkgroup,
  type Walk,
  walkOver,
} from './partial-sums.js';
import { enable, type Float, f32, flatIndex, isNan, u32, wgsl } from './wgsl.js';

export interface PrototypeSizes extends PixelSizes {
  /** D, features of a pixel. */
  readonly width: number;
}

const vector = ({ dtype, width }: PrototypeSizes) =>
  width % 4 === 0
    ? { V: 'vec4f', S: `vec4<${dtype}>`, quads: width / 4, dot: (a: string, b: string) => `dot(${a}, ${b})` }
    : { V: 'f32', S: dtype, quads: width, dot: (a: string, b: string) => `(${a} * ${b})` };

/** Per pixel: the teacher's class (true label on labelled pixels when `labelled` asks for it), u8. */
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
  /** Reliable pixels count 1, not the teacher's confidence. */
  readonly hard: boolean;
  /** There is a threshold for each class. */
  readonly perClass: boolean;
}

/** weights [pixels], ρ not yet in them, and the teacher's classes u8 [pixels]. */
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

/** Chunks of pixels whose sums are added up in a second pass: many, because a class has one workgroup there. */
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

/** Workgroup = class. Its threads share the chunks of Σ w, then those of as many features as there is room for at a time. */
export function prototypeUpdate({ pixels, classes, width }: PrototypeSizes, momentum: number): string {
  const chunks = prototypeChunks(pixels);
  const columns = Math.min(width, totalsWorkgroup);
  const parts = Math.floor(totalsWorkgroup / columns);
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read> partial_weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> vectors: array<f32>;
@group(0) @binding(3) var<storage, read_write> counts: array<f32>;
var<workgroup> shared_values: array<f32, ${totalsWorkgroup}>;

@compute @workgroup_size(${totalsWorkgroup})
fn prototype_update(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let k = group.x;
  let before = counts[k];
  var weight = 0.0;
  for (var chunk = thread; chunk < ${u32(chunks)}; chunk += ${u32(totalsWorkgroup)}) { weight += partial_weights[chunk * ${u32(classes)} + k]; }
  shared_values[thread] = weight;
  for (var half = ${u32(totalsWorkgroup / 2)}; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { shared_values[thread] += shared_values[thread + half]; }
  }
  workgroupBarrier();
  weight = shared_values[0];
  let m = min(1.0 - 1.0 / (before + 1.0), ${f32(momentum)});
  let part = thread / ${u32(columns)};
  for (var first = 0u; first < ${u32(width)}; first += ${u32(columns)}) {
    let d = first + thread % ${u32(columns)};
    var sum = 0.0;
    if (part < ${u32(parts)} && d < ${u32(width)}) {
      for (var chunk = part; chunk < ${u32(chunks)}; chunk += ${u32(parts)}) { sum += partials[(chunk * ${u32(classes)} + k) * ${u32(width)} + d]; }
    }
    workgroupBarrier();
    shared_values[thread] = sum;
    workgroupBarrier();
    if (part == 0u && d < ${u32(width)} && weight > 0.0) {
      for (var other = 1u; other < ${u32(parts)}; other++) { sum += shared_values[thread + other * ${u32(columns)}]; }
      let at = k * ${u32(width)} + d;
      vectors[at] = m * vectors[at] + (1.0 - m) * (sum / weight);
    }
  }
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

/** Cosine distance to the own prototype, cross-entropy over cosines, or over squared distances. */
export type SeparationKind = 'pull' | 'protoCE' | 'distance';

/** Distances, their gradients and the value bind vectors [K, D] as they are; 1/‖μ_k‖ of seen classes is worked out once. */
export interface DistanceSizes extends PrototypeSizes {
  readonly kind: SeparationKind;
  readonly temperature: number;
  /** Only pixels whose mask is 1 count; else all. */
  readonly masked: boolean;
}

const counted = ({ classes, masked }: DistanceSizes): string =>
  `${masked ? `${byteAt('mask', 'i')} != 0u && ` : ''}class_of < ${u32(classes)} && counts[class_of] > 0.0`;

/**
 * A feature's quads: up to eight are loaded once, by name, and what is done with each is written out; `body` gets the index
 * and the value as expressions. More are read where they are used, in a loop.
 */
function features(sizes: PrototypeSizes): { load: string; over: (body: (q: string, v: string) => string) => string } {
  const { V, quads } = vector(sizes);
  const value = (q: string) => `${V}(z[i * ${quads}u + ${q}])`;
  if (quads > 8) {
    return {
      load: '',
      over: (body) => `for (var q = 0u; q < ${quads}u; q++) { let v = ${value('q')}; ${body('q', 'v')} }`,
    };
  }
  return {
    load: each(quads, (q) => `    let v${q} = ${value(u32(q))};`),
    over: (body) => each(quads, (q) => `    { ${body(u32(q), `v${q}`)} }`),
  };
}

/** Expressions of 1/‖μ‖: of the pixel's own class, and of class k. */
interface InverseLengths {
  readonly own: string;
  readonly of: (k: number) => string;
}

// What forward and backward compute alike of one pixel: its own score s, or scores s_k of seen classes.
//   pull       s = cos(z, μ_class)         protoCE   s_k = cos(z, μ_k)/T           distance   s_k = −‖z − μ_k‖²
function pixelScores(sizes: DistanceSizes, lengths: InverseLengths): string {
  const { quads, dot } = vector(sizes);
  const { classes, kind, temperature } = sizes;
  const { load, over } = features(sizes);
  if (kind === 'pull') {
    return wgsl`
${load}
    var product = 0.0;
    var squares = 0.0;
${over((q, v) => `squares += ${dot(v, v)}; product += ${dot(v, `vectors[class_of * ${quads}u + ${q}]`)};`)}
    let inverse = 1.0 / max(sqrt(squares), 1e-8);
    let own = product * inverse * ${lengths.own};`;
  }
  const cosine = kind === 'protoCE';
  return wgsl`
${load}
${each(classes, (k) => `    var d${k} = 0.0;`)}
    var squares = 0.0;
#if ${cosine}
${over((q, v) => `squares += ${dot(v, v)}; ${each(classes, (k) => `d${k} += ${dot(v, `vectors[${k * quads}u + ${q}]`)};`)}`)}
#else
${over((q, v) => each(classes, (k) => `{ let apart = ${v} - vectors[${k * quads}u + ${q}]; d${k} -= ${dot('apart', 'apart')}; }`))}
#endif
#if ${cosine}
    let inverse = 1.0 / max(sqrt(squares), 1e-8);
${each(classes, (k) => `    let cos${k} = d${k} * inverse * ${lengths.of(k)}; let s${k} = cos${k} * ${f32(1 / temperature)};`)}
#else
${each(classes, (k) => `    let s${k} = d${k};`)}
#endif
    let own = ${pick('class_of', 's', classes)};
    let s_most = ${fold(
      classes,
      (a, b) => `max(${a}, ${b})`,
      (k) => `select(-3.0e38, s${k}, counts[${k}] > 0.0)`,
    )};
${each(classes, (k) => `    let e${k} = select(0.0, exp(min(s${k} - s_most, 0.0)), counts[${k}] > 0.0);`)}
    let s_all = ${total(classes, (k) => `select(0.0, s${k}, counts[${k}] > 0.0)`)};
    let e_sum = select(${total(classes, (k) => `e${k}`)}, s_all, ${isNan('s_all', 'f32')}); // min, max and exp may drop a NaN`;
}

/** The walk over pixels. */
export const distanceWalk = ({ pixels }: PrototypeSizes): Walk => walkOver(Math.ceil(pixels / 4));

/** partials [rows, 2, K]: number of counted pixels and sum of their losses, by class. */
export function prototypeDistanceForward(sizes: DistanceSizes): string {
  const { V, S, quads, dot } = vector(sizes);
  const { dtype, pixels, classes, kind } = sizes;
  const walk = distanceWalk(sizes);
  const values = ['number', 'sum'].flatMap((name) => Array.from({ length: classes }, (_, k) => name + k));
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> vectors: array<${V}>;
@group(0) @binding(2) var<storage, read> counts: array<f32>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
#if ${sizes.masked}
@group(0) @binding(4) var<storage, read> mask: array<u32>;
#endif
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;
${partialsMemory(walk, values.length)}

@compute @workgroup_size(${partialWorkgroup})
fn prototype_distance(
  @builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32,
) {
#if ${kind !== 'distance'}
${each(classes, (k) => `  var square${k} = 0.0;`)}
  for (var q = 0u; q < ${u32(quads)}; q++) {
${each(classes, (k) => `    { let v = vectors[${k * quads}u + q]; square${k} += ${dot('v', 'v')}; }`)}
  }
${each(classes, (k) => `  let inverse_length${k} = 1.0 / max(sqrt(square${k}), 1e-8);`)}
#endif
${values.map((name) => `  var ${name} = 0.0;`).join('\n')}
  for (var i = id.x; i < ${u32(pixels)}; i += ${u32(walk.threads)}) {
    let class_of = ${byteAt('classes', 'i')};
    if (!(${counted(sizes)})) { continue; }
${pixelScores(sizes, { own: pick('class_of', 'inverse_length', classes), of: (k) => `inverse_length${k}` })}
    let value = ${kind === 'pull' ? '1.0 - own' : `select(log(e_sum) - (own - s_most), e_sum, ${isNan('e_sum', 'f32')})`};
${each(classes, (k) => `    if (class_of == ${k}u) { number${k} += 1.0; sum${k} += value; }`)}
  }
${storePartials(walk, values)}
}`;
}

/** What the distance is added to: total = base + weight · factor · distance. */
export interface DistanceSum {
  readonly factor: number;
}

/**
 * loss [] from the partials, and factors [2, K] of the gradient: by class, what a pixel counts for and 1/‖μ_k‖. With
 * `onto`, also the total that the loss is a part of; the factors are then those of the total.
 */
export function prototypeDistanceValue(sizes: DistanceSizes, onto?: DistanceSum): string {
  const { classes, width, kind, temperature } = sizes;
  const numbers = (item: (k: number) => string): string => total(classes, item);
  const pull = kind === 'pull';
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read> vectors: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> factors: array<f32>;
#if ${onto !== undefined}
@group(0) @binding(4) var<storage, read> base: array<f32>;
@group(0) @binding(5) var<storage, read> weight: array<f32>;
@group(0) @binding(6) var<storage, read_write> total_loss: array<f32>;
#endif
${totalsMemory(2 * classes)}

@compute @workgroup_size(${totalsWorkgroup})
fn prototype_distance_value(@builtin(local_invocation_index) thread: u32) {
${addPartials(distanceWalk(sizes), 2 * classes)}
#if ${kind !== 'distance'}
  if (thread < ${u32(classes)}) {
    var squares = 0.0;
    for (var d = 0u; d < ${u32(width)}; d++) { let v = vectors[thread * ${u32(width)} + d]; squares += v * v; }
    factors[${u32(classes)} + thread] = 1.0 / max(sqrt(squares), 1e-8);
  }
#endif
  if (thread > 0u) { return; }
  let scale = ${onto ? `weight[0] * ${f32(onto.factor)}` : '1.0'};
#if ${pull}
  let present = max(${numbers((k) => `select(0.0, 1.0, totals[${k}] > 0.0)`)}, 1.0);
  let distance = ${numbers((k) => `totals[${classes + k}] / max(totals[${k}], 1.0)`)} / present;
${each(classes, (k) => `  factors[${k}] = scale / (max(totals[${k}], 1.0) * present);`)}
#else
  let number = max(${numbers((k) => `totals[${k}]`)}, 1.0);
  let distance = ${numbers((k) => `totals[${classes + k}]`)} / number;
${each(classes, (k) => `  factors[${k}] = scale * ${f32(kind === 'protoCE' ? 1 / temperature : 1)} / number;`)}
#endif
  loss[0] = distance;
#if ${onto !== undefined}
  total_loss[0] = base[0] + scale * distance;
#endif
}`;
}

//   pull       dz = −(μ̂ − cos·ẑ)/‖z‖ / (|C| n_class)
//   protoCE    dz = Σ_k (π_k − [k = class])/(T n) · (μ̂_k − cos_k·ẑ)/‖z‖
//   distance   dz = Σ_k (π_k − [k = class])/n · −2 (z − μ_k)                with π = softmax(s) over seen classes
// A feature shorter than the clamp has no direction: its gradient is 0, not μ̂/1e-8.
export function prototypeDistanceBackward(sizes: DistanceSizes): string {
  const { V, S, quads } = vector(sizes);
  const { dtype, pixels, classes, kind } = sizes;
  const slope = (q: string, v: string): string =>
    ({
      pull: `towards * vectors[class_of * ${quads}u + ${q}] + along * ${v}`,
      protoCE: `(${total(classes, (k) => `h${k} * vectors[${k * quads}u + ${q}]`)} - along * ${v}) * stretch`,
      distance: `-2.0 * (${total(classes, (k) => `g${k} * (${v} - vectors[${k * quads}u + ${q}])`)})`,
    })[kind];
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> vectors: array<${V}>;
@group(0) @binding(2) var<storage, read> counts: array<f32>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
#if ${sizes.masked}
@group(0) @binding(4) var<storage, read> mask: array<u32>;
#endif
@group(0) @binding(5) var<storage, read> factors: array<f32>;
@group(0) @binding(6) var<storage, read> dloss: array<f32>;
@group(0) @binding(7) var<storage, read_write> dz: array<${S}>;

@compute @workgroup_size(64)
fn prototype_distance_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
  let class_of = ${byteAt('classes', 'i')};
  if (!(${counted(sizes)})) {
    for (var q = 0u; q < ${u32(quads)}; q++) { dz[i * ${u32(quads)} + q] = ${S}(0.0); }
    return;
  }
${pixelScores(sizes, { own: `factors[${u32(classes)} + class_of]`, of: (k) => `factors[${classes + k}]` })}
  let factor = dloss[0] * factors[class_of];
#if ${kind === 'pull'}
  let stretch = select(0.0, inverse, squares > 1e-16);
  let towards = -factor * stretch * factors[${u32(classes)} + class_of];
  let along = factor * stretch * own * inverse;
#else
${each(classes, (k) => `  let g${k} = factor * (e${k} / e_sum - select(0.0, 1.0, class_of == ${k}u));`)}
#endif
#if ${kind === 'protoCE'}
  let along = ${total(classes, (k) => `g${k} * cos${k}`)} * inverse;
  let stretch = select(0.0, inverse, squares > 1e-16);
${each(classes, (k) => `  let h${k} = g${k} * factors[${classes + k}];`)}
#endif
${features(sizes).over((q, v) => `dz[i * ${quads}u + ${q}] = ${S}(${slope(q, v)});`)}
}`;
}

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
        prototypeCosinesShader(classes, width),
        ...(['pull', 'protoCE', 'distance'] as const).flatMap((kind) => {
          const distance = { ...sizes, kind, temperature: 0.1, masked: classes !== 3 };
          return [
            prototypeDistanceForward(distance),
            prototypeDistanceValue(distance),
            prototypeDistanceValue(distance, { factor: 0.1 }),
            prototypeDistanceBackward(distance),
          ];
        }),
      ];
    }),
  );
