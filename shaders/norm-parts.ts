// What a norm needs of each channel, from the partial sums of a pass over the tensor: coefficients from partial moments, totals of its
// gradient from partial sums, in a fixed order. `coefficients` [groups, 4, C] and `totals` [groups, 2, C] are those of
// norm-activation.ts. The parts of a group lie one after another. More than `mostParts` of them take two launches.
import { lines, range } from './conv/geometry.js';
import { f32, flatIndex, pairs, u32, wgsl } from './wgsl.js';

/** The most groups that these kernels take: one workgroup adds up all groups of a channel quad. */
export const mostGroups = 64;

/** Threads that share the parts of a channel quad of one of the groups: a few parts each, and 256 for all groups at most. */
function lanesOf({ parts, groups, software }: Adding): number {
  const fewer = software ? parts / 4 : parts; // on a CPU, barriers cost more than a long loop
  const lanes = fewer >= 2048 ? 256 : fewer >= 256 ? 64 : fewer >= 32 ? 16 : 4;
  return Math.min(lanes, 2 ** Math.floor(Math.log2(256 / groups)));
}

/** Parts that a thread takes at a time: a GPU waits once for so many loads, a CPU for each. */
const batchOf = ({ parts, software }: Adding, lanes: number): number => (software ? 2 : parts > 16 * lanes ? 8 : 4);

/** How partial sums are added up: in `groups` groups, the largest of which has `parts` parts. Several groups bind `starts`. */
export interface Adding {
  readonly width: 1 | 4;
  readonly groups: number;
  readonly parts: number;
  /** For a driver on the CPU. */
  readonly software: boolean;
}

/** `starts` [groups + 1] holds the first part of each group, and the number of all parts. */
const bindStarts = (binding: number, groups: number): string =>
  groups > 1 ? `\n@group(0) @binding(${binding}) var<storage, read> starts: array<f32>;` : '';

/** A thread's `lane`, the group's parts from `start` to `end` and, of several groups, `group` and its `first` coefficient. */
const shared = ({ groups }: Adding, lanes: number): string =>
  groups > 1
    ? wgsl`  let group = thread / ${u32(lanes)};
  let lane = thread % ${u32(lanes)};
  let start = u32(starts[group]);
  let end = u32(starts[group + 1u]);
  let first = group * 4u * quads + quad;`
    : wgsl`  let lane = thread;
  let start = 0u;
  let end = arrayLength(&partials) / (2u * quads);`;

/**
 * Runs `body` for each batch of parts of a thread: those from `from` to the group's end that are `apart` from each other. The body
 * has the place `at0`, `at1` … of each in partials. Beyond the end, where `is1`, `is2` … are false, that is the place of the last.
 */
const eachBatch = (batch: number, from: string, apart: number, body: string): string => wgsl`
  for (var part = ${from}; part < end; part += ${u32(batch * apart)}) {
${lines(range(batch).map((i) => `    let is${i} = part + ${u32(i * apart)} < end; let part${i} = min(part + ${u32(i * apart)}, end - 1u); let at${i} = part${i} * 2u * quads + quad;`))}
${body}
  }`;

/**
 * Adds to the moments `pixels`, `mean` and `square` those of other parts, named n, m and s and a number. Nothing cancels, whatever the
 * means are: with the mean of all, μ, the sum of squares is Σ s + Σ n (m − μ)² over all parts, as Chan et al. (1979) for two.
 */
function combine(parts: readonly number[]): string {
  const total = (item: (i: number) => string): string => parts.map(item).join(' + ');
  return wgsl`
      let total = pixels + ${total((i) => `n${i}`)};
${parts.map((i) => `      let d${i} = m${i} - mean;`).join('\n')}
      let step = (${total((i) => `n${i} * d${i}`)}) / max(total, 1.0);
${parts.map((i) => `      let e${i} = d${i} - step;`).join('\n')}
      square += (${total((i) => `s${i}`)}) + (pixels * step * step + ${total((i) => `n${i} * e${i} * e${i}`)});
      mean += step;
      pixels = total;`;
}

/** Defines `pixels_of(part)`. */
const pixelsFunction = (pixelsOf: string | undefined): string =>
  `fn pixels_of(part: u32) -> f32 { return ${pixelsOf === undefined ? 'counted[part]' : `f32(${pixelsOf})`}; }`;

/** Combines the moments of a batch of parts, whose means are less `origin`. */
const moments = (batch: number, V: string, origin = ''): string => wgsl`
${lines(range(batch).map((i) => `      let n${i} = select(0.0, pixels_of(part${i}), is${i}); let m${i} = partials[at${i}]${origin}; let s${i} = select(${V}(0.0), partials[at${i} + quads], is${i});`))}
${combine(range(batch))}`;

/** Adds a batch of parts to `sum` and `product`. */
const moreSums = (batch: number, V: string): string =>
  ['sum', 'product']
    .map((name, row) => {
      const value = (i: number): string => `select(${V}(0.0), partials[at${i}${row ? ' + quads' : ''}], is${i})`;
      return `      ${name} += ${pairs(range(batch).map(value))};`;
    })
    .join('\n');

/** A tree over the lanes of a group: `take` adds the values of the other lanes, `apart` from each other, to those of the first. */
function tree(lanes: number, store: string, take: (others: readonly number[], apart: number) => string): string {
  const levels: string[] = [];
  for (let left = lanes; left > 1; ) {
    const of = left % 4 === 0 ? 4 : 2;
    left /= of;
    levels.push(wgsl`
  workgroupBarrier();
  if (lane < ${u32(left)}) {
    {${take(range(of).slice(1), left)}
    }
${left > 1 ? store : ''}
  }`);
  }
  return store + levels.join('');
}

/**
 * coefficients [groups, 4, C] from partial means and Σ (z − mean)² of parts of `pixelsOf` pixels, combined in a
 * fixed order. With `momentum`, running mean and variance follow the groups of `track` in place, one after another (the unbiased
 * variance, as PyTorch). Sizes are read from the bindings. Without
 * `pixelsOf` the parts are those that `normSlicedMoments` leaves, and their pixels are bound as `counted`.
 */
export function normCoefficients(
  adding: Adding,
  pixelsOf: string | undefined,
  epsilon: number,
  momentum: number | undefined,
  track: readonly number[] = [0],
): string {
  const { width, groups } = adding;
  const V = width === 4 ? 'vec4f' : 'f32';
  const lanes = lanesOf(adding);
  const batch = batchOf(adding, lanes);
  const grouped = groups > 1;
  const at = grouped ? 'first' : 'quad';
  const follow = (
    mean: string,
    square: string,
    pixels: string,
  ): string => wgsl`  running_mean[quad] = mix(running_mean[quad], ${mean}, ${f32(momentum ?? 0)});
  running_variance[quad] = mix(running_variance[quad], ${square} / max(${pixels} - 1.0, 1.0), ${f32(momentum ?? 0)});`;
  // The first lane of each group now has its moments. One thread then takes the groups in order.
  const toFirstLane = grouped
    ? `
  counts[thread] = pixels;
  means[thread] = mean;
  squares[thread] = square;
  }
  workgroupBarrier();
  if (thread != 0u) { return; }`
    : '';
  const ofFirstLane = (group: number): string => {
    const first = u32(group * lanes);
    return follow(`means[${first}]`, `squares[${first}]`, `counts[${first}]`);
  };
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read> gamma: array<${V}>;
@group(0) @binding(2) var<storage, read> beta: array<${V}>;
@group(0) @binding(3) var<storage, read_write> coefficients: array<${V}>;${bindStarts(6, groups)}
#if ${momentum !== undefined}
@group(0) @binding(4) var<storage, read_write> running_mean: array<${V}>;
@group(0) @binding(5) var<storage, read_write> running_variance: array<${V}>;
#endif${pixelsOf === undefined ? '\n@group(0) @binding(7) var<storage, read> counted: array<f32>;' : ''}
var<workgroup> counts: array<f32, ${groups * lanes}>;
var<workgroup> means: array<${V}, ${groups * lanes}>;
var<workgroup> squares: array<${V}, ${groups * lanes}>;

${pixelsFunction(pixelsOf)}

@compute @workgroup_size(${groups * lanes})
fn norm_coefficients(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) thread: u32) {
  let quad = id.x;
  let quads = arrayLength(&gamma);
${shared(adding, lanes)}
  var pixels = 0.0;
  var mean = partials[min(start + lane, end - 1u) * 2u * quads + quad];
  var square = ${V}(0.0);${eachBatch(batch, 'start + lane', lanes, moments(batch, V))}
${tree(
  lanes,
  wgsl`    counts[thread] = pixels;
    means[thread] = mean;
    squares[thread] = square;`,
  (others, apart) => wgsl`
${others.map((i) => `      let n${i} = counts[thread + ${u32(i * apart)}]; let m${i} = means[thread + ${u32(i * apart)}]; let s${i} = squares[thread + ${u32(i * apart)}];`).join('\n')}
${combine(others)}`,
)}
  ${grouped ? 'if (lane == 0u) {' : 'if (lane != 0u) { return; }'}
${pixelsOf === undefined ? `  mean += partials[${u32(2 * groups * slices)} * quads + ${grouped ? 'group * quads + ' : ''}quad];\n` : ''}  let r = 1.0 / sqrt(square / pixels + ${f32(epsilon)});
  coefficients[${at}] = mean;
  coefficients[quads + ${at}] = gamma[quad] * r;
  coefficients[2u * quads + ${at}] = beta[quad];
  coefficients[3u * quads + ${at}] = r;${toFirstLane}
#if ${momentum !== undefined}
${grouped ? track.map(ofFirstLane).join('\n') : follow('mean', 'square', 'pixels')}
#endif
}`;
}

/** More parts of a norm than this are added up in two launches, of which the first leaves so many `slices` of each group. */
export const mostParts = 65536;
export const slices = 1024;

/** Rows of C numbers that the first launch leaves: of moments also the mean, for each group, that all means are less by. */
export const slicedRows = (groups: number, moments: boolean): number => groups * (2 * slices + (moments ? 1 : 0));

/** What a thread of the first of two launches does: of group `group` every `slices`-th part from `slice` on. */
const slicePreamble = ({ groups }: Adding, rows: number): string => wgsl`
  let i = ${flatIndex(64)};
  let quads = arrayLength(&sliced) / ${u32(rows)};
  if (i >= ${u32(groups * slices)} * quads) { return; }
  let quad = i % quads;
  let row = i / quads;
  let slice = row % ${u32(slices)};
#if ${groups > 1}
  let group = row / ${u32(slices)};
  let start = u32(starts[group]);
  let end = u32(starts[group + 1u]);
#else
  let start = 0u;
  let end = arrayLength(&partials) / (2u * quads);
#endif`;

/**
 * sliced [groups · slices, 2, C] and counts [groups · slices]: the parts of each slice combined as in `normCoefficients`, and their
 * pixels. Means are less that of their group's first part, and those means [groups, C] stand at the end of `sliced`: so adding up
 * loses no digits where means are large against deviations. That kernel then takes `sliced` for its parts, and `counts` as `counted`.
 * One thread per slice and channel quad.
 */
export const normSlicedMoments = (adding: Adding, pixelsOf: string): string => {
  const V = adding.width === 4 ? 'vec4f' : 'f32';
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read_write> sliced: array<${V}>;
@group(0) @binding(2) var<storage, read_write> counts: array<f32>;${bindStarts(3, adding.groups)}

${pixelsFunction(pixelsOf)}

@compute @workgroup_size(64)
fn norm_sliced_moments(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {${slicePreamble(adding, slicedRows(adding.groups, true))}
  let origin = partials[start * 2u * quads + quad];
  var pixels = 0.0;
  var mean = partials[min(start + slice, end - 1u) * 2u * quads + quad] - origin;
  var square = ${V}(0.0);${eachBatch(8, 'start + slice', slices, moments(8, V, ' - origin'))}
  sliced[row * 2u * quads + quad] = mean;
  sliced[(row * 2u + 1u) * quads + quad] = square;
  if (quad == 0u) { counts[row] = pixels; }
  if (slice == 0u) { sliced[(${u32(2 * adding.groups * slices)} + row / ${u32(slices)}) * quads + quad] = origin; }
}`;
};

/** sliced [groups · slices, 2, C]: the sums of the parts of each slice, which `normActivationTotals` takes for its parts. */
export const normSlicedSums = (adding: Adding): string => {
  const V = adding.width === 4 ? 'vec4f' : 'f32';
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read_write> sliced: array<${V}>;${bindStarts(2, adding.groups)}

@compute @workgroup_size(64)
fn norm_sliced_sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {${slicePreamble(adding, slicedRows(adding.groups, false))}
  var sum = ${V}(0.0);
  var product = ${V}(0.0);${eachBatch(8, 'start + slice', slices, moreSums(8, V))}
  sliced[row * 2u * quads + quad] = sum;
  sliced[(row * 2u + 1u) * quads + quad] = product;
}`;
};

/** coefficients [4, C] from running statistics. */
export const normRunningCoefficients = (channels: number, epsilon: number): string => wgsl`
@group(0) @binding(0) var<storage, read> running_mean: array<f32>;
@group(0) @binding(1) var<storage, read> running_variance: array<f32>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> beta: array<f32>;
@group(0) @binding(4) var<storage, read_write> coefficients: array<f32>;

@compute @workgroup_size(64)
fn norm_running_coefficients(@builtin(global_invocation_id) id: vec3u) {
  let c = id.x;
  if (c >= ${u32(channels)}) { return; }
  let r = 1.0 / sqrt(running_variance[c] + ${f32(epsilon)});
  coefficients[c] = running_mean[c];
  coefficients[${u32(channels)} + c] = gamma[c] * r;
  coefficients[${u32(2 * channels)} + c] = beta[c];
  coefficients[${u32(3 * channels)} + c] = r;
}`;

/**
 * totals [groups, 2, C], dgamma and dbeta [C] from partial sums, in a fixed order. Sizes are read from the bindings, so that all norms
 * share one pipeline.
 */
export function normActivationTotals(adding: Adding): string {
  const { width, groups } = adding;
  const V = width === 4 ? 'vec4f' : 'f32';
  const lanes = lanesOf(adding);
  const batch = batchOf(adding, lanes);
  const grouped = groups > 1;
  const ofAll = `  let scale = coefficients[quads + quad];
  let r = coefficients[3u * quads + quad];
  dbeta[quad] = sum;
  dgamma[quad] = r * product;
  totals[quad] = scale * sum;
  totals[quads + quad] = scale * (r * r * product);`;
  const ofGroups = wgsl`  let scale = coefficients[quads + first];
  let r = coefficients[3u * quads + first];
  totals[group * 2u * quads + quad] = scale * sum;
  totals[group * 2u * quads + quads + quad] = scale * (r * r * product);
  sums[thread] = sum;
  products[thread] = r * product;
  }
  workgroupBarrier();
  if (thread != 0u) { return; }
  var dbetas = sums[0];
  var dgammas = products[0];
  for (var other = ${u32(lanes)}; other < ${u32(groups * lanes)}; other += ${u32(lanes)}) {
    dbetas += sums[other];
    dgammas += products[other];
  }
  dbeta[quad] = dbetas;
  dgamma[quad] = dgammas;`;
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read> coefficients: array<${V}>;
@group(0) @binding(2) var<storage, read_write> totals: array<${V}>;
@group(0) @binding(3) var<storage, read_write> dgamma: array<${V}>;
@group(0) @binding(4) var<storage, read_write> dbeta: array<${V}>;${bindStarts(5, groups)}
var<workgroup> sums: array<${V}, ${groups * lanes}>;
var<workgroup> products: array<${V}, ${groups * lanes}>;

@compute @workgroup_size(${groups * lanes})
fn norm_activation_totals(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) thread: u32) {
  let quad = id.x;
  let quads = arrayLength(&dgamma);
${shared(adding, lanes)}
  var sum = ${V}(0.0);
  var product = ${V}(0.0);${eachBatch(batch, 'start + lane', lanes, moreSums(batch, V))}
${tree(
  lanes,
  wgsl`    sums[thread] = sum;
    products[thread] = product;`,
  (others, apart) => wgsl`
      sum += ${others.map((i) => `sums[thread + ${u32(i * apart)}]`).join(' + ')};
      product += ${others.map((i) => `products[thread + ${u32(i * apart)}]`).join(' + ')};`,
)}
  ${grouped ? 'if (lane == 0u) {' : 'if (lane != 0u) { return; }'}
${grouped ? ofGroups : ofAll}
}`;
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const texts: string[] = [normRunningCoefficients(5, 1e-5)];
  for (const width of [1, 4] as const) {
    for (const groups of [1, 2]) {
      const adding = (parts: number): Adding => ({ width, groups, parts, software: false });
      const pixelsOf = '(257u - part)';
      texts.push(...[0.1, undefined].map((momentum) => normCoefficients(adding(5), pixelsOf, 1e-5, momentum)));
      texts.push(...[8, 600].map((parts) => normActivationTotals(adding(parts))));
      texts.push(normSlicedMoments(adding(70000), pixelsOf), normSlicedSums(adding(70000)));
      texts.push(normCoefficients(adding(slices), undefined, 1e-5, 0.1));
      const onCpu = { ...adding(600), software: true };
      texts.push(normCoefficients(onCpu, pixelsOf, 1e-5, 0.1), normActivationTotals(onCpu));
    }
  }
  return texts;
}
