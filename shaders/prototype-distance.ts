// The distance of features z [pixels, D] to class prototypes μ [K, D]: value and gradient of class separation. Features go four at a
// time where D is a multiple of four.
import { byteAt, each, fold, pick, total } from './classes.js';
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
import { type PrototypeSizes, vector } from './prototype-sizes.js';
import { enable, f32, flatIndex, isNan, u32, wgsl } from './wgsl.js';

/** Cosine distance to the prototype of the pixel's class, cross-entropy over cosines, or cross-entropy over squared distances. */
export type SeparationKind = 'pull' | 'proto-ce' | 'distance';

/** Sizes of the distance's kernels. All bind vectors [K, D] as they are; 1/‖μ_k‖ of seen classes is computed once. */
export interface DistanceSizes extends PrototypeSizes {
  readonly kind: SeparationKind;
  readonly temperature: number;
  /** Whether only pixels whose mask is 1 count. */
  readonly masked: boolean;
}

const counted = ({ classes, masked }: DistanceSizes): string =>
  `${masked ? `${byteAt('mask', 'i')} != 0u && ` : ''}class_of < ${u32(classes)} && counts[class_of] > 0.0`;

/**
 * A feature's quads. Up to eight are loaded once into named values, and the code for each is unrolled; more are read in a loop where
 * they are used. `body` gets index and value as expressions.
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

/** Expressions for 1/‖μ‖ of the pixel's own class and of class k. */
interface InverseLengths {
  readonly own: string;
  readonly of: (k: number) => string;
}

// The scores of one pixel, in forward and backward alike: s of its own class, or s_k of all seen classes.
//   pull       s = cos(z, μ_class)         proto-ce   s_k = cos(z, μ_k)/T           distance   s_k = −‖z − μ_k‖²
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
  const cosine = kind === 'proto-ce';
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

/** The sum that a distance is added to: total = base + weight · factor · distance. */
export interface DistanceSum {
  readonly factor: number;
}

/**
 * loss [] from the partials, and factors [2, K] of the gradient: for each class the weight of a pixel and 1/‖μ_k‖. With `onto`, also
 * the total that includes the loss; the factors are then those of the total.
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
${each(classes, (k) => `  factors[${k}] = scale * ${f32(kind === 'proto-ce' ? 1 / temperature : 1)} / number;`)}
#endif
  loss[0] = distance;
#if ${onto !== undefined}
  total_loss[0] = base[0] + scale * distance;
#endif
}`;
}

//   pull       dz = −(μ̂ − cos·ẑ)/‖z‖ / (|C| n_class)
//   proto-ce    dz = Σ_k (π_k − [k = class])/(T n) · (μ̂_k − cos_k·ẑ)/‖z‖
//   distance   dz = Σ_k (π_k − [k = class])/n · −2 (z − μ_k)                with π = softmax(s) over seen classes
// A feature shorter than the clamp has no direction: its gradient is 0, not μ̂/1e-8.
export function prototypeDistanceBackward(sizes: DistanceSizes): string {
  const { V, S, quads } = vector(sizes);
  const { dtype, pixels, classes, kind } = sizes;
  const slope = (q: string, v: string): string =>
    ({
      pull: `towards * vectors[class_of * ${quads}u + ${q}] + along * ${v}`,
      'proto-ce': `(${total(classes, (k) => `h${k} * vectors[${k * quads}u + ${q}]`)} - along * ${v}) * stretch`,
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
#if ${kind === 'proto-ce'}
  let along = ${total(classes, (k) => `g${k} * cos${k}`)} * inverse;
  let stretch = select(0.0, inverse, squares > 1e-16);
${each(classes, (k) => `  let h${k} = g${k} * factors[${classes + k}];`)}
#endif
${features(sizes).over((q, v) => `dz[i * ${quads}u + ${q}] = ${S}(${slope(q, v)});`)}
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [
      { classes: 4, width: 16 },
      { classes: 3, width: 5 },
      { classes: 2, width: 36 },
    ].flatMap(({ classes, width }) =>
      (['pull', 'proto-ce', 'distance'] as const).flatMap((kind) => {
        const sizes = { dtype, pixels: 1000, classes, width, kind, temperature: 0.1, masked: classes !== 3 };
        return [
          prototypeDistanceForward(sizes),
          prototypeDistanceValue(sizes),
          prototypeDistanceValue(sizes, { factor: 0.1 }),
          prototypeDistanceBackward(sizes),
        ];
      }),
    ),
  );
