// The distance of projected features z = W2·h + b2, h = l(W1·f + b1), to class prototypes (prototype-distance.ts), and its gradient
// with respect to f, W1, b1, W2 and b2. z is computed in registers, forward and backward (projection.ts). Of each pixel that counts:
//   dh = W2ᵀ·dz    dn = dh · l'    df = W1ᵀ·dn       sums over pixels:   dW2 = Σ dz·hᵀ   db2 = Σ dz   dW1 = Σ dn·fᵀ   db1 = Σ dn
// Backward, a thread computes h and dz of its own pixel and leaves them in workgroup memory; then it adds up the pixels of the tile for
// its own blocks of 4×4 weights. After that dn takes the place of h, and f that of dz, for the same again.
import { byteAt, each, pick } from './classes.js';
import { leakyReluDerivative } from './conv/fusion.js';
import { sumEvery } from './partial-sums.js';
import {
  components,
  featureFunction,
  type HeadPlaces,
  headPlaces,
  hiddenQuads,
  inLine,
  keptMemory,
  keptTiles,
  loadFeatures,
  type ProjectionSizes,
  projected,
  projectionGroups,
  quadsOf,
  range,
  type TileRows,
  tileAt,
  tileMemory,
  tilePixels,
  tileRows,
} from './projection.js';
import {
  counted,
  type DistanceSizes,
  inverseLengths,
  pixelLoss,
  pixelScores,
  pixelSlopes,
  type Sources,
} from './prototype-scores.js';
import { enable, type Float, u32, wgsl } from './wgsl.js';

/** A head, and how its features are compared with the prototypes of `classes` classes. */
export interface ProjectedSizes extends Pick<DistanceSizes, 'kind' | 'temperature' | 'masked' | 'classes'> {
  readonly head: ProjectionSizes;
}

const distanceSizes = ({ head, ...of }: ProjectedSizes): DistanceSizes => ({
  ...{ ...of, dtype: 'f32', pixels: head.pixels, width: head.outputs },
});

/** Expression: number `k` of those that begin with vector `at` of the table. */
const numberAt = (at: number, k: number | string): string =>
  typeof k === 'number'
    ? `table[${u32(at + Math.floor(k / 4))}].${components[k % 4]}`
    : `table[${u32(at)} + (${k}) / 4u][(${k}) % 4u]`;

/** z of a thread's pixel, and the prototypes of the table. */
const sourcesOf = ({ vectors, counts }: HeadPlaces, outputs: number): Sources => ({
  feature: (q) => `z${Number.parseInt(q, 10)}`,
  prototype: (k, q) =>
    `table[${typeof k === 'number' ? u32(vectors + k * outputs) : `${u32(vectors)} + ${k} * ${u32(outputs)}`} + ${q}]`,
  count: (k) => numberAt(counts, k),
});

/** What both kernels have to say of these sizes. */
function parts(sizes: ProjectedSizes) {
  const { head, classes } = sizes;
  const places = headPlaces(head, classes);
  const sources = sourcesOf(places, quadsOf(head).outputs);
  const of = distanceSizes(sizes);
  /** Bindings up to 4, `is_kept` and the functions of snippets. `more` bindings follow from 5 on. */
  const scope = (more: string): string => wgsl`${enable(head.dtype)}
${featureFunction(head)}
@group(0) @binding(2) var<storage, read> table: array<vec4f>;
@group(0) @binding(3) var<storage, read> classes: array<u32>;
#if ${sizes.masked}
@group(0) @binding(4) var<storage, read> mask: array<u32>;
#endif
${more}
${keptMemory}
fn is_kept(i: u32) -> bool {
  let class_of = ${byteAt('classes', 'i')};
  return ${counted(of, sources)};
}`;
  return { of, places, sources, scope };
}

/** table: weights, biases, prototypes and counts, as `headPlaces` says. One thread a number; the factors are written by others. */
export function projectionTable(sizes: ProjectionSizes, classes: number): string {
  const { factors: _, end: __, ...places } = headPlaces(sizes, classes);
  const filled = Object.entries(places).map(([name, at], i) => ({ name, at: 4 * at, i }));
  const end = projectionTableThreads(sizes, classes);
  const copy = ({ name, at, i }: (typeof filled)[number]): string =>
    `if (i < ${u32(filled[i + 1]?.at ?? end)}) { table[i] = ${name}[i - ${u32(at)}]; }`;
  return wgsl`
${filled.map(({ name, i }) => `@group(0) @binding(${i}) var<storage, read> ${name}: array<f32>;`).join('\n')}
@group(0) @binding(${filled.length}) var<storage, read_write> table: array<f32>;

@compute @workgroup_size(64)
fn projection_table(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  ${filled.map(copy).join('\n  else ')}
}`;
}

export const projectionTableThreads = (sizes: ProjectionSizes, classes: number): number =>
  4 * headPlaces(sizes, classes).counts + classes;

/** partials [groups, 2, K]: number of counted pixels and sum of their losses, by class. */
export function projectedDistanceForward(sizes: ProjectedSizes): string {
  const { head, classes, kind } = sizes;
  const { of, places, sources, scope } = parts(sizes);
  const values = ['number', 'sum'].flatMap((name) => range(classes).map((k) => name + k));
  const lengths = { own: pick('class_of', 'inverse_length', classes), of: (k: number) => `inverse_length${k}` };
  const tile = wgsl`
${loadFeatures(head)}
${projected(head, places)}
    if (thread < take) {
    let class_of = ${byteAt('classes', 'i')};
${pixelScores(of, sources, lengths)}
    let value = ${pixelLoss(of)};
${each(classes, (k) => `    if (class_of == ${k}u) { number${k} += 1.0; sum${k} += value; }`)}
    }`;
  return wgsl`${scope('@group(0) @binding(5) var<storage, read_write> partials: array<f32>;')}
var<workgroup> shared_values: array<f32, ${values.length * tilePixels}>;

@compute @workgroup_size(${tilePixels})
fn projected_distance(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
#if ${kind !== 'distance'}${inverseLengths(of, sources)}
#endif
${values.map((name) => `  var ${name} = 0.0;`).join('\n')}
${keptTiles(head, tile)}
${values.map((value, v) => `  shared_values[thread * ${values.length}u + ${v}u] = ${value};`).join('\n')}
  workgroupBarrier();
  if (thread < ${u32(values.length)}) {
    var sum = 0.0;
    for (var t = 0u; t < ${u32(tilePixels)}; t++) { sum += shared_values[t * ${u32(values.length)} + thread]; }
    partials[group.x * ${u32(values.length)} + thread] = sum;
  }
}`;
}

/**
 * How threads share a matrix of `rows` × `columns` blocks of 4×4: each has `tall` × `wide` of them, `across` threads have a row of
 * blocks, and `threads` have any. As few blocks a thread as possible, and then as few loads.
 */
function shared(rows: number, columns: number) {
  const divisors = (n: number): number[] => range(n + 1).filter((i) => i > 0 && n % i === 0);
  const ways = divisors(rows).flatMap((tall) =>
    divisors(columns).map((wide) => ({
      tall,
      wide,
      across: columns / wide,
      threads: (rows * columns) / (tall * wide),
    })),
  );
  const cost = ({ tall, wide }: (typeof ways)[number]): number => 64 * tall * wide + tall + wide;
  return ways.filter(({ threads }) => threads <= tilePixels).sort((a, b) => cost(a) - cost(b))[0]!;
}

/** Sums over pixels of products of rows in workgroup memory, left·rightᵀ, in variables called `name`…. */
function matrixSums(name: string, left: TileRows, right: TileRows) {
  const { tall, wide, across, threads } = shared(left.quads, right.quads);
  const cells = range(tall).flatMap((a) => range(wide).flatMap((b) => range(4).map((r) => ({ a, b, r }))));
  const cell = ({ a, b, r }: (typeof cells)[number]): string => `${name}_${a}_${b}_${r}`;
  const own = wgsl`let row = thread / ${u32(across)} * ${u32(tall)};
    let column = thread % ${u32(across)} * ${u32(wide)};`;
  return {
    declared: cells.map((at) => `  var ${cell(at)} = vec4f(0.0);`).join('\n'),
    added: wgsl`
    if (thread < ${u32(threads)}) {
    ${own}
    for (var p = 0u; p < take; p++) {
${range(tall)
  .map((a) => `      let l${a} = ${tileAt(left, 'p', `row + ${a}u`)};`)
  .join('\n')}
${range(wide)
  .map((b) => `      let r${b} = ${tileAt(right, 'p', `column + ${b}u`)};`)
  .join('\n')}
${cells.map((at) => `      ${cell(at)} = fma(vec4f(l${at.a}.${components[at.r]}), r${at.b}, ${cell(at)});`).join('\n')}
    }
    }`,
    /**
     * Stores the sums in the columns from `from` on of a matrix with `columns` vectors a row that begins at `at`. One number after the
     * other: a store to a component of a vector may write all of it.
     */
    stored: (at: string, columns: number, from = 0): string => wgsl`
  if (thread < ${u32(threads)}) {
    ${own}
${cells
  .flatMap((c) =>
    components.map(
      (of, i) =>
        `    partials[${at} + ((4u * (row + ${c.a}u) + ${c.r}u) * ${u32(columns)} + column) * 4u + ${u32(4 * (from + c.b) + i)}] = ${cell(c)}.${of};`,
    ),
  )
  .join('\n')}
  }`,
  };
}

/** Sums over pixels of rows in workgroup memory: thread t has number t of a row, in a variable called `name`. */
const rowSums = (name: string, rows: TileRows) => ({
  declared: `  var ${name} = 0.0;`,
  added: wgsl`
    if (thread < ${u32(4 * rows.quads)}) {
      for (var p = 0u; p < take; p++) { ${name} += ${tileAt(rows, 'p', 'thread / 4u')}[thread % 4u]; }
    }`,
  stored: (at: string): string => `  if (thread < ${u32(4 * rows.quads)}) { partials[${at} + thread] = ${name}; }`,
});

/** A row of the gradient's partial sums: where each part begins, in numbers. */
export function gradientPlaces({ inputs, hidden, outputs }: ProjectionSizes) {
  const bias1 = hidden * inputs;
  const weight2 = bias1 + hidden;
  const bias2 = weight2 + outputs * hidden;
  return { weight1: 0, bias1, weight2, bias2, end: bias2 + outputs };
}

/** df [pixels, inputs], 0 where a pixel does not count, and partials [groups, dW1 | db1 | dW2 | db2]. */
export function projectedDistanceBackward(sizes: ProjectedSizes): string {
  const { head, classes } = sizes;
  const { dtype, slope } = head;
  const { of, places, sources, scope } = parts(sizes);
  const { inputs, hidden, outputs } = quadsOf(head);
  const near = tileRows('near', hidden); // h, then dn
  const far = tileRows('far', outputs); // dz, then f, as much at a time as there is room for
  const width = range(outputs + 1).findLast((n) => n > 0 && inputs % n === 0)!;
  const turns = range(inputs / width);
  const weight2 = matrixSums('w2', far, near);
  const weight1 = turns.map((turn) => matrixSums(`w1_${turn}`, near, { ...far, quads: width }));
  const [bias1, bias2] = [rowSums('b1', near), rowSums('b2', far)];
  const lengths = {
    own: numberAt(places.factors, `${u32(classes)} + class_of`),
    of: (k: number) => numberAt(places.factors, classes + k),
  };
  const { prepare, slope: dz } = pixelSlopes(of, sources, lengths);
  const turnOf = (turn: number): string => wgsl`
    for (var e = thread; e < ${u32(tilePixels * width)}; e += ${u32(tilePixels)}) {
      let p = e / ${u32(width)};
      let q = e % ${u32(width)};
      ${tileAt(far, 'p', 'q')} = feature(${inLine('p')}, ${u32(turn * width)} + q);
    }
    workgroupBarrier();
${weight1[turn]!.added}
${turn === 0 ? bias1.added : ''}
    workgroupBarrier();`;
  const tile = wgsl`
    {
${loadFeatures(head)}
${projected(head, places, `      ${tileAt(near, 'thread', 'j')} = h;`)}
    {
    let class_of = ${byteAt('classes', 'i')};
${pixelScores(of, sources, lengths)}
    let factor = select(0.0, dloss[0] * ${numberAt(places.factors, 'class_of')}, thread < take);
${prepare}
${each(outputs, (q) => `    z${q} = ${dz(u32(q), `v${q}`)};\n    ${tileAt(far, 'thread', u32(q))} = z${q};`)}
    }
    workgroupBarrier();
${weight2.added}
${bias2.added}
    workgroupBarrier();
${each(inputs, (q) => `    var df${q} = vec4f(0.0);`)}
    for (var j = 0u; j < ${hiddenQuads(head, 'table')}; j++) {
      var dn = vec4f(0.0);
${range(4 * outputs)
  .map(
    (o) =>
      `      dn = fma(vec4f(z${o >> 2}.${components[o % 4]}), table[${u32(places.weight2 + o * hidden)} + j], dn);`,
  )
  .join('\n')}
      let h = ${tileAt(near, 'thread', 'j')}; // has the sign of what l was applied to
      dn *= ${leakyReluDerivative('h', 'vec4f', slope)};
      ${tileAt(near, 'thread', 'j')} = dn;
      let first = j * ${u32(4 * inputs)};
${components
  .flatMap((c, r) =>
    range(inputs).map(
      (q) => `      df${q} = fma(vec4f(dn.${c}), table[first + ${u32(places.weight1 + r * inputs + q)}], df${q});`,
    ),
  )
  .join('\n')}
    }
    if (thread < take) {
${each(inputs, (q) => `      df[i * ${u32(inputs)} + ${q}u] = vec4<${dtype}>(df${q});`)}
    }
    }
${turns.map(turnOf).join('\n')}`;
  const rows = gradientPlaces(head);
  const row = (place: number): string => `group.x * ${u32(rows.end)} + ${u32(place)}`;
  return wgsl`${scope(wgsl`@group(0) @binding(5) var<storage, read> dloss: array<f32>;
@group(0) @binding(6) var<storage, read_write> df: array<vec4<${dtype}>>;
@group(0) @binding(7) var<storage, read_write> partials: array<f32>;
${tileMemory(near)}
${tileMemory(far)}`)}

@compute @workgroup_size(${tilePixels})
fn projected_distance_backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
${[weight2, ...weight1, bias1, bias2].map(({ declared }) => declared).join('\n')}
${keptTiles(head, tile, { quads: inputs, line: `df[i * ${u32(inputs)} + q] = vec4<${dtype}>(0.0);` })}
${weight1.map(({ stored }, turn) => stored(row(rows.weight1), inputs, turn * width)).join('\n')}
${weight2.stored(row(rows.weight2), hidden)}
${bias1.stored(row(rows.bias1))}
${bias2.stored(row(rows.bias2))}
}`;
}

/** Columns of a workgroup of `projectionGradientSums`, and threads that share one. */
const sumLanes = 16;

export const projectionGradientGroups = (sizes: ProjectionSizes): number =>
  Math.ceil(gradientPlaces(sizes).end / sumLanes);

/** dW1, db1, dW2 and db2 from the partials [groups, dW1 | db1 | dW2 | db2], in a fixed order. */
export function projectionGradientSums(sizes: ProjectionSizes): string {
  const { weight1, bias1, weight2, bias2, end } = gradientPlaces(sizes);
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> dWeight1: array<f32>;
@group(0) @binding(2) var<storage, read_write> dBias1: array<f32>;
@group(0) @binding(3) var<storage, read_write> dWeight2: array<f32>;
@group(0) @binding(4) var<storage, read_write> dBias2: array<f32>;
var<workgroup> shared_values: array<f32, ${sumLanes ** 2}>;

@compute @workgroup_size(${sumLanes ** 2})
fn projection_gradient_sums(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let c = group.x * ${u32(sumLanes)} + thread % ${u32(sumLanes)};
  var sum = 0.0;
  if (c < ${u32(end)}) {
${sumEvery(sumLanes * end, projectionGroups(sizes) * end, `thread / ${u32(sumLanes)} * ${u32(end)} + c`, (at) => `partials[${at}]`)}
  }
  shared_values[thread] = sum;
  workgroupBarrier();
  if (thread >= ${u32(sumLanes)} || c >= ${u32(end)}) { return; }
  sum = 0.0;
  for (var lane = 0u; lane < ${u32(sumLanes)}; lane++) { sum += shared_values[lane * ${u32(sumLanes)} + thread]; }
  if (c < ${u32(bias1)}) { dWeight1[c - ${u32(weight1)}] = sum; }
  else if (c < ${u32(weight2)}) { dBias1[c - ${u32(bias1)}] = sum; }
  else if (c < ${u32(bias2)}) { dWeight2[c - ${u32(weight2)}] = sum; }
  else { dBias2[c - ${u32(bias2)}] = sum; }
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => {
  const kinds = ['pull', 'proto-ce', 'distance'] as const;
  const of = (dtype: Float, inputs: number, hidden: number, outputs: number): ProjectionSizes => ({
    ...{ dtype, pixels: 1000, inputs, hidden, outputs, slope: 0.01, items: 2 },
    onLoad: inputs === 8 ? undefined : { slope: 0, dropout: 0, ...(inputs === 16 && { groups: [1, 1] }) },
  });
  return (['f32', 'f16'] as const).flatMap((dtype) =>
    [of(dtype, 16, 32, 32), of(dtype, 8, 16, 16), of(dtype, 64, 32, 32), of(dtype, 20, 12, 28)].flatMap((head, n) => {
      const sizes = { head, kind: kinds[n % 3]!, temperature: 0.1, classes: n === 1 ? 3 : 4, masked: n !== 2 };
      return [
        projectionTable(head, sizes.classes),
        projectedDistanceForward(sizes),
        projectedDistanceBackward(sizes),
        projectionGradientSums(head),
      ];
    }),
  );
};
