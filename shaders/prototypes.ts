// Class prototypes μ [K, D] and the distance of features z [pixels, D] to them.
// Update: weight w_i = q_ik of the teacher's own class k on labelled pixels it gets right, ρ·q_ik on unlabelled pixels whose
// confidence is at least τ; batch mean Σ w z'/Σ w; μ_k ← m μ_k + (1 − m) mean, m = min(1 − 1/(n_k + 1), momentum), n_k the
// updates so far, only where Σ w > 0. Features go four at a time where D allows.
import { argmaxOf, byteAt, classArray, each, fold, loadClasses, softmaxOf, total } from './classes.js';
import { enable, type Float, f32, flatIndex, u32, wgsl } from './wgsl.js';

export interface PrototypeSizes {
  readonly dtype: Float;
  readonly pixels: number;
  readonly classes: number;
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

/** weights [pixels] and the teacher's classes u8 [pixels]. */
export const prototypeWeights = (sizes: PrototypeSizes, labeledPixels: number): string => wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> teacher: array<${classArray(sizes.dtype, sizes.classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> threshold: array<f32>;
@group(0) @binding(3) var<storage, read> unlabeled_weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> classes: array<u32>;

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
      w = select(0.0, c, ${byteAt('labels', 'i')} == best_class);
    } else {
      w = select(0.0, unlabeled_weight[0] * c, c >= threshold[0]);
    }
    weights[i] = w;
    bytes |= best_class << (8u * j);
  }
  classes[word] = bytes;
}`;

/** Chunks of pixels whose sums are added up in a second pass. */
export const prototypeChunks = (pixels: number): number => Math.min(512, Math.ceil(pixels / 64));

/** partials [chunks, K, D]: Σ w z' per class; partialWeights [chunks, K]: Σ w. Thread = (chunk, quad of features). */
export function prototypeSums(sizes: PrototypeSizes): string {
  const { V, S, quads } = vector(sizes);
  const chunks = prototypeChunks(sizes.pixels);
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> features: array<${S}>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> classes: array<u32>;
@group(0) @binding(3) var<storage, read_write> partials: array<${V}>;
@group(0) @binding(4) var<storage, read_write> partial_weights: array<f32>;

@compute @workgroup_size(64)
fn prototype_sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = ${flatIndex(64)};
  if (t >= ${u32(chunks * quads)}) { return; }
  let quad = t % ${u32(quads)};
  let chunk = t / ${u32(quads)};
${each(sizes.classes, (k) => `  var sum${k} = ${V}(0.0); var weight${k} = 0.0;`)}
  for (var i = chunk; i < ${u32(sizes.pixels)}; i += ${u32(chunks)}) {
    let w = weights[i];
    if (w == 0.0) { continue; }
    let class_of = ${byteAt('classes', 'i')};
    let z = w * ${V}(features[i * ${u32(quads)} + quad]);
${each(sizes.classes, (k) => `    if (class_of == ${k}u) { sum${k} += z; weight${k} += w; }`)}
  }
${each(sizes.classes, (k) => `  partials[(chunk * ${u32(sizes.classes)} + ${k}u) * ${u32(quads)} + quad] = sum${k};`)}
  if (quad == 0u) {
${each(sizes.classes, (k) => `    partial_weights[chunk * ${u32(sizes.classes)} + ${k}u] = weight${k};`)}
  }
}`;
}

/** One workgroup; thread = class. */
export const prototypeUpdate = (classes: number, width: number, momentum: number): string => wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> vectors: array<f32>;
@group(0) @binding(3) var<storage, read_write> counts: array<f32>;

@compute @workgroup_size(16)
fn prototype_update(@builtin(local_invocation_index) k: u32) {
  if (k >= ${u32(classes)} || !(weights[k] > 0.0)) { return; }
  let m = min(1.0 - 1.0 / (counts[k] + 1.0), ${f32(momentum)});
  for (var d = 0u; d < ${u32(width)}; d++) {
    let at = k * ${u32(width)} + d;
    vectors[at] = m * vectors[at] + (1.0 - m) * (sums[at] / weights[k]);
  }
  counts[k] += 1.0;
}`;

/** units [K, D]: prototypes of length 1; 0 for classes never seen. */
export const prototypeUnits = (classes: number, width: number): string => wgsl`
@group(0) @binding(0) var<storage, read> vectors: array<f32>;
@group(0) @binding(1) var<storage, read> counts: array<f32>;
@group(0) @binding(2) var<storage, read_write> units: array<f32>;

@compute @workgroup_size(16)
fn prototype_units(@builtin(local_invocation_index) k: u32) {
  if (k >= ${u32(classes)}) { return; }
  var squares = 0.0;
  for (var d = 0u; d < ${u32(width)}; d++) { squares += vectors[k * ${u32(width)} + d] * vectors[k * ${u32(width)} + d]; }
  let scale = select(0.0, 1.0 / max(sqrt(squares), 1e-8), counts[k] > 0.0);
  for (var d = 0u; d < ${u32(width)}; d++) { units[k * ${u32(width)} + d] = scale * vectors[k * ${u32(width)} + d]; }
}`;

/** cosines [K, K] from units. */
export const prototypeCosinesShader = (classes: number, width: number): string => wgsl`
@group(0) @binding(0) var<storage, read> units: array<f32>;
@group(0) @binding(1) var<storage, read_write> cosines: array<f32>;

@compute @workgroup_size(64)
fn prototype_cosines(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(classes * classes)}) { return; }
  var sum = 0.0;
  for (var d = 0u; d < ${u32(width)}; d++) {
    sum += units[(id.x / ${u32(classes)}) * ${u32(width)} + d] * units[(id.x % ${u32(classes)}) * ${u32(width)} + d];
  }
  cosines[id.x] = sum;
}`;

export type SeparationKind = 'pull' | 'protoCE' | 'distance';

// What forward and backward compute alike of one pixel: scores s_k of seen classes, whether it counts, its class.
//   pull       s_k = cos(z, μ_k)           protoCE   s_k = cos(z, μ_k)/T           distance   s_k = −‖z − μ_k‖²
function pixelScores(sizes: PrototypeSizes, kind: SeparationKind, temperature: number): string {
  const { V, quads, dot } = vector(sizes);
  const { classes } = sizes;
  const cosine = kind !== 'distance';
  return wgsl`
${each(classes, (k) => `    var d${k} = 0.0;`)}
    var squares = 0.0;
    for (var q = 0u; q < ${u32(quads)}; q++) {
      let v = ${V}(z[i * ${u32(quads)} + q]);
#if ${cosine}
      squares += ${dot('v', 'v')};
${each(classes, (k) => `      d${k} += ${dot('v', `vectors[${k * quads}u + q]`)};`)}
#else
${each(classes, (k) => `      { let apart = v - vectors[${k * quads}u + q]; d${k} -= ${dot('apart', 'apart')}; }`)}
#endif
    }
#if ${cosine}
    let inverse = 1.0 / max(sqrt(squares), 1e-8);
${each(classes, (k) => `    let cos${k} = d${k} * inverse;`)}
#endif
${each(classes, (k) => `    let s${k} = ${kind === 'pull' ? `cos${k}` : kind === 'protoCE' ? `cos${k} * ${f32(1 / temperature)}` : `d${k}`};`)}
    let own = ${fold(
      classes,
      (a, b) => `${a} + ${b}`,
      (k) => `select(0.0, s${k}, class_of == ${k}u)`,
    )};
#if ${kind !== 'pull'}
    let s_most = ${fold(
      classes,
      (a, b) => `max(${a}, ${b})`,
      (k) => `select(-3.0e38, s${k}, counts[${k}] > 0.0)`,
    )};
${each(classes, (k) => `    let e${k} = select(0.0, exp(min(s${k} - s_most, 0.0)), counts[${k}] > 0.0);`)}
    let e_sum = ${total(classes, (k) => `e${k}`)};
#endif`;
}

const seen = (classes: number): string =>
  fold(
    classes,
    (a, b) => `${a} || ${b}`,
    (k) => `(class_of == ${k}u && counts[${k}] > 0.0)`,
  );

/** partials [threads, 2, K]: number of counted pixels and sum of their losses, by class. */
export function prototypeDistanceForward(
  sizes: PrototypeSizes,
  kind: SeparationKind,
  temperature: number,
  threads: number,
): string {
  const { V, S } = vector(sizes);
  const { classes } = sizes;
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> vectors: array<${V}>;
@group(0) @binding(2) var<storage, read> counts: array<f32>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
@group(0) @binding(4) var<storage, read> mask: array<u32>;
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn prototype_distance(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
${each(classes, (k) => `  var number${k} = 0.0; var sum${k} = 0.0;`)}
  for (var i = id.x; i < ${u32(sizes.pixels)}; i += ${u32(threads)}) {
    let class_of = ${byteAt('classes', 'i')};
    if (${byteAt('mask', 'i')} == 0u || !(${seen(classes)})) { continue; }
${pixelScores(sizes, kind, temperature)}
    let value = ${kind === 'pull' ? '1.0 - own' : 'log(e_sum) - (own - s_most)'};
${each(classes, (k) => `    if (class_of == ${k}u) { number${k} += 1.0; sum${k} += value; }`)}
  }
${each(classes, (k) => `  partials[id.x * ${u32(2 * classes)} + ${k}u] = number${k}; partials[id.x * ${u32(2 * classes)} + ${classes + k}u] = sum${k};`)}
}`;
}

const present = (classes: number): string => total(classes, (k) => `select(0.0, 1.0, sums[${k}] > 0.0)`);

export const prototypeDistanceValue = (classes: number, kind: SeparationKind): string => wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(1)
fn prototype_distance_value() {
#if ${kind === 'pull'}
  loss[0] = ${total(classes, (k) => `sums[${classes + k}] / max(sums[${k}], 1.0)`)} / max(${present(classes)}, 1.0);
#else
  loss[0] = ${total(classes, (k) => `sums[${classes + k}]`)} / max(${total(classes, (k) => `sums[${k}]`)}, 1.0);
#endif
}`;

//   pull       dz = −(μ̂ − cos·ẑ)/‖z‖ / (|C| n_class)
//   protoCE    dz = Σ_k (π_k − [k = class])/(T n) · (μ̂_k − cos_k·ẑ)/‖z‖
//   distance   dz = Σ_k (π_k − [k = class])/n · −2 (z − μ_k)                with π = softmax(s) over seen classes
// A feature shorter than the clamp has no direction: its gradient is 0, not μ̂/1e-8.
export function prototypeDistanceBackward(sizes: PrototypeSizes, kind: SeparationKind, temperature: number): string {
  const { V, S, quads } = vector(sizes);
  const { classes } = sizes;
  const scale = kind === 'protoCE' ? 1 / temperature : 1;
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> vectors: array<${V}>;
@group(0) @binding(2) var<storage, read> counts: array<f32>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
@group(0) @binding(4) var<storage, read> mask: array<u32>;
@group(0) @binding(5) var<storage, read> sums: array<f32>;
@group(0) @binding(6) var<storage, read> dloss: array<f32>;
@group(0) @binding(7) var<storage, read_write> dz: array<${S}>;

@compute @workgroup_size(64)
fn prototype_distance_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.pixels)}) { return; }
  let class_of = ${byteAt('classes', 'i')};
  if (${byteAt('mask', 'i')} == 0u || !(${seen(classes)})) {
    for (var q = 0u; q < ${u32(quads)}; q++) { dz[i * ${u32(quads)} + q] = ${S}(0.0); }
    return;
  }
${pixelScores(sizes, kind, temperature)}
#if ${kind === 'pull'}
  let number = ${fold(
    classes,
    (a, b) => `${a} + ${b}`,
    (k) => `select(0.0, sums[${k}], class_of == ${k}u)`,
  )};
  let factor = dloss[0] / (max(number, 1.0) * max(${present(classes)}, 1.0));
${each(classes, (k) => `  let g${k} = select(0.0, -factor, class_of == ${k}u);`)}
#else
  let factor = dloss[0] * ${f32(scale)} / max(${total(classes, (k) => `sums[${k}]`)}, 1.0);
${each(classes, (k) => `  let g${k} = factor * (e${k} / e_sum - select(0.0, 1.0, class_of == ${k}u));`)}
#endif
#if ${kind !== 'distance'}
  let along = ${total(classes, (k) => `g${k} * cos${k}`)} * inverse;
  let stretch = select(0.0, inverse, squares > 1e-16);
#endif
  for (var q = 0u; q < ${u32(quads)}; q++) {
    let v = ${V}(z[i * ${u32(quads)} + q]);
#if ${kind === 'distance'}
    dz[i * ${u32(quads)} + q] = ${S}(-2.0 * (${total(classes, (k) => `g${k} * (v - vectors[${k * quads}u + q])`)}));
#else
    dz[i * ${u32(quads)} + q] = ${S}((${total(classes, (k) => `g${k} * vectors[${k * quads}u + q]`)} - along * v) * stretch);
#endif
  }
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [
      { classes: 4, width: 16 },
      { classes: 3, width: 5 },
    ].flatMap(({ classes, width }) => {
      const sizes = { dtype, pixels: 1000, classes, width };
      return [
        pseudoClassesShader(dtype, 1000, classes, 500),
        prototypeWeights(sizes, 500),
        prototypeSums(sizes),
        prototypeUpdate(classes, width, 0.99),
        prototypeUnits(classes, width),
        prototypeCosinesShader(classes, width),
        ...(['pull', 'protoCE', 'distance'] as const).flatMap((kind) => [
          prototypeDistanceForward(sizes, kind, 0.1, 64),
          prototypeDistanceValue(classes, kind),
          prototypeDistanceBackward(sizes, kind, 0.1),
        ]),
      ];
    }),
  );
