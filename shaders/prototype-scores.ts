// Snippets of class separation: which pixels count, their scores against the class prototypes μ [K, D], and the gradient of their
// features. The kernel says where features, prototypes and counts are.
import { byteAt, each, fold, pick, total } from './classes.js';
import { type PrototypeSizes, vector } from './prototype-sizes.js';
import { f32, isNan, u32, wgsl } from './wgsl.js';

/** Cosine distance to the prototype of the pixel's class, cross-entropy over cosines, or cross-entropy over squared distances. */
export type SeparationKind = 'pull' | 'proto-ce' | 'distance';

/** Sizes of the distance's kernels; 1/‖μ_k‖ of seen classes is computed once. */
export interface DistanceSizes extends PrototypeSizes {
  readonly kind: SeparationKind;
  readonly temperature: number;
  /** Whether only pixels whose mask is 1 count. */
  readonly masked: boolean;
}

/** A class: its index, or the name of a variable that holds it. */
type Class = number | string;

/** Where a kernel has what scores are computed from, as expressions. */
export interface Sources {
  /** Vector `q` of the features of the pixel, where it is computed or loaded. */
  feature(q: string): string;
  /** Vector `q` of the prototype of a class. */
  prototype(k: Class, q: string): string;
  /** How often a class was updated. */
  count(k: Class): string;
}

/** Features of pixel i in `z`, the prototypes in `vectors` and `counts`. */
export function boundSources(sizes: PrototypeSizes): Sources {
  const { V, quads } = vector(sizes);
  return {
    feature: (q) => `${V}(z[i * ${quads}u + ${q}])`,
    prototype: (k, q) => `vectors[${typeof k === 'number' ? `${k * quads}u` : `${k} * ${quads}u`} + ${q}]`,
    count: (k) => `counts[${k}]`,
  };
}

/** Expression: whether pixel i, whose class is in `class_of`, counts. */
export const counted = ({ classes, masked }: DistanceSizes, { count }: Sources): string =>
  `${masked ? `${byteAt('mask', 'i')} != 0u && ` : ''}class_of < ${u32(classes)} && ${count('class_of')} > 0.0`;

/**
 * A feature's quads. Up to eight are loaded once into named values, and the code for each is unrolled; more are read in a loop where
 * they are used. `body` gets index and value as expressions.
 */
export function features(
  sizes: PrototypeSizes,
  { feature }: Sources,
): { load: string; over: (body: (q: string, v: string) => string) => string } {
  const { quads } = vector(sizes);
  if (quads > 8) {
    return {
      load: '',
      over: (body) => `for (var q = 0u; q < ${quads}u; q++) { let v = ${feature('q')}; ${body('q', 'v')} }`,
    };
  }
  return {
    load: each(quads, (q) => `    let v${q} = ${feature(u32(q))};`),
    over: (body) => each(quads, (q) => `    { ${body(u32(q), `v${q}`)} }`),
  };
}

/** Expressions for 1/‖μ‖ of the pixel's own class and of class k. */
export interface InverseLengths {
  readonly own: string;
  readonly of: (k: number) => string;
}

/** Lines that define `inverse_length0` …: 1/‖μ_k‖. */
export function inverseLengths(sizes: PrototypeSizes, { prototype }: Sources): string {
  const { quads, dot } = vector(sizes);
  return wgsl`
${each(sizes.classes, (k) => `  var square${k} = 0.0;`)}
  for (var q = 0u; q < ${u32(quads)}; q++) {
${each(sizes.classes, (k) => `    { let v = ${prototype(k, 'q')}; square${k} += ${dot('v', 'v')}; }`)}
  }
${each(sizes.classes, (k) => `  let inverse_length${k} = 1.0 / max(sqrt(square${k}), 1e-8);`)}`;
}

// The scores of one pixel, in forward and backward alike: s of its own class, or s_k of all seen classes.
//   pull       s = cos(z, μ_class)         proto-ce   s_k = cos(z, μ_k)/T           distance   s_k = −‖z − μ_k‖²
export function pixelScores(sizes: DistanceSizes, sources: Sources, lengths: InverseLengths): string {
  const { dot } = vector(sizes);
  const { classes, kind, temperature } = sizes;
  const { prototype, count } = sources;
  const { load, over } = features(sizes, sources);
  if (kind === 'pull') {
    return wgsl`
${load}
    var product = 0.0;
    var squares = 0.0;
${over((q, v) => `squares += ${dot(v, v)}; product += ${dot(v, prototype('class_of', q))};`)}
    let inverse = 1.0 / max(sqrt(squares), 1e-8);
    let own = product * inverse * ${lengths.own};`;
  }
  const cosine = kind === 'proto-ce';
  return wgsl`
${load}
${each(classes, (k) => `    var d${k} = 0.0;`)}
    var squares = 0.0;
#if ${cosine}
${over((q, v) => `squares += ${dot(v, v)}; ${each(classes, (k) => `d${k} += ${dot(v, prototype(k, q))};`)}`)}
#else
${over((q, v) => each(classes, (k) => `{ let apart = ${v} - ${prototype(k, q)}; d${k} -= ${dot('apart', 'apart')}; }`))}
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
      (k) => `select(-3.0e38, s${k}, ${count(k)} > 0.0)`,
    )};
${each(classes, (k) => `    let e${k} = select(0.0, exp(min(s${k} - s_most, 0.0)), ${count(k)} > 0.0);`)}
    let s_all = ${total(classes, (k) => `select(0.0, s${k}, ${count(k)} > 0.0)`)};
    let e_sum = select(${total(classes, (k) => `e${k}`)}, s_all, ${isNan('s_all', 'f32')}); // min, max and exp may drop a NaN`;
}

/** Expression: the loss of a pixel from its scores. */
export const pixelLoss = ({ kind }: DistanceSizes): string =>
  kind === 'pull' ? '1.0 - own' : `select(log(e_sum) - (own - s_most), e_sum, ${isNan('e_sum', 'f32')})`;

// The gradient of a pixel's features, from its scores and its weight `factor`:
//   pull       dz = −(μ̂ − cos·ẑ)/‖z‖ / (|C| n_class)
//   proto-ce    dz = Σ_k (π_k − [k = class])/(T n) · (μ̂_k − cos_k·ẑ)/‖z‖
//   distance   dz = Σ_k (π_k − [k = class])/n · −2 (z − μ_k)                with π = softmax(s) over seen classes
// A feature shorter than the clamp has no direction: its gradient is 0, not μ̂/1e-8.
/** Lines for a pixel, and the expression of dz of its quad `q`, whose value is `v`. */
export function pixelSlopes(
  { kind, classes }: DistanceSizes,
  { prototype }: Sources,
  lengths: InverseLengths,
): { prepare: string; slope: (q: string, v: string) => string } {
  const prepare = wgsl`
#if ${kind === 'pull'}
  let stretch = select(0.0, inverse, squares > 1e-16);
  let towards = -factor * stretch * ${lengths.own};
  let along = factor * stretch * own * inverse;
#else
${each(classes, (k) => `  let g${k} = factor * (e${k} / e_sum - select(0.0, 1.0, class_of == ${k}u));`)}
#endif
#if ${kind === 'proto-ce'}
  let along = ${total(classes, (k) => `g${k} * cos${k}`)} * inverse;
  let stretch = select(0.0, inverse, squares > 1e-16);
${each(classes, (k) => `  let h${k} = g${k} * ${lengths.of(k)};`)}
#endif`;
  const slope = (q: string, v: string): string =>
    ({
      pull: `towards * ${prototype('class_of', q)} + along * ${v}`,
      'proto-ce': `(${total(classes, (k) => `h${k} * ${prototype(k, q)}`)} - along * ${v}) * stretch`,
      distance: `-2.0 * (${total(classes, (k) => `g${k} * (${v} - ${prototype(k, q)})`)})`,
    })[kind];
  return { prepare, slope };
}
