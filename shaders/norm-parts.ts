// What a norm needs of each channel, from the partial sums of a pass over the tensor: coefficients from partial moments, totals of its
// gradient from partial sums, in a fixed order. `coefficients` [groups, 4, C] and `totals` [groups, 2, C] are those of
// norm-activation.ts. The parts of a group lie one after another. More than `mostParts` of them take two launches.
import { f32, flatIndex, u32, wgsl } from './wgsl.js';

/** The most groups that these kernels take: one workgroup adds up all groups of a channel quad. */
export const mostGroups = 64;

/** Threads that share the parts of a channel quad of one of the groups: a few parts each, and 256 for all groups at most. */
function lanesOf(parts: number, groups: number): number {
  const lanes = parts >= 8192 ? 256 : parts >= 512 ? 64 : parts >= 64 ? 16 : 4;
  return Math.min(lanes, 2 ** Math.floor(Math.log2(256 / groups)));
}

/** How partial sums are added up: in `groups` groups, the largest of which has `parts` parts. Several groups bind `starts`. */
export interface Adding {
  readonly width: 1 | 4;
  readonly groups: number;
  readonly parts: number;
}

/** `starts` [groups + 1] holds the first part of each group, and the number of all parts. */
const bindStarts = (binding: number, groups: number): string =>
  groups > 1 ? `\n@group(0) @binding(${binding}) var<storage, read> starts: array<f32>;` : '';

/** Where there are several groups: a thread's `group` and `lane`, the group's parts from `start` to `end`, its `first` coefficient. */
const shared = (lanes: number): string => wgsl`  let group = thread / ${u32(lanes)};
  let lane = thread % ${u32(lanes)};
  let start = u32(starts[group]);
  let end = u32(starts[group + 1u]);
  let first = group * 4u * quads + quad;`;

/**
 * coefficients [groups, 4, C] from partial means and Σ (z − mean)² of parts of `pixelsOf` pixels, combined as Chan et al. (1979) in
 * a fixed order. With `momentum`, running mean and variance follow the groups of `track` in place, one after another (the unbiased
 * variance, as PyTorch). Sizes are read from the bindings. Without
 * `pixelsOf` the parts are those that `normSlicedMoments` leaves, and their pixels are bound as `counted`.
 */
export function normCoefficients(
  { width, groups, parts }: Adding,
  pixelsOf: string | undefined,
  epsilon: number,
  momentum: number | undefined,
  track: readonly number[] = [0],
): string {
  const V = width === 4 ? 'vec4f' : 'f32';
  const lanes = lanesOf(parts, groups);
  const grouped = groups > 1;
  const own = grouped ? 'thread' : 'lane';
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

@compute @workgroup_size(${groups * lanes})
fn norm_coefficients(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) ${own}: u32) {
  let quad = id.x;
  let quads = arrayLength(&gamma);
${grouped ? shared(lanes) : '  let parts = arrayLength(&partials) / (2u * quads);'}
  var pixels = 0.0;
  var mean = ${V}(0.0);
  var square = ${V}(0.0);
  for (var part = ${grouped ? 'start + lane' : 'lane'}; part < ${grouped ? 'end' : 'parts'}; part += ${u32(lanes)}) {
    let at = part * 2u * quads + quad;
    let n = ${pixelsOf === undefined ? 'counted[part];\n    if (n == 0.0) { continue; }' : `f32(${pixelsOf});`}
    let delta = partials[at] - mean;
    let total = pixels + n;
    mean += delta * (n / total);
    square += partials[at + quads] + delta * delta * (pixels * n / total);
    pixels = total;
  }
  counts[${own}] = pixels;
  means[${own}] = mean;
  squares[${own}] = square;
  workgroupBarrier();
  ${grouped ? 'if (lane == 0u) {' : 'if (lane != 0u) { return; }'}
  for (var other = 1u; other < ${u32(lanes)}; other++) {
    let n = counts[${grouped ? 'thread + ' : ''}other];
    if (n > 0.0) {
      let delta = means[${grouped ? 'thread + ' : ''}other] - mean;
      let total = pixels + n;
      mean += delta * (n / total);
      square += squares[${grouped ? 'thread + ' : ''}other] + delta * delta * (pixels * n / total);
      pixels = total;
    }
  }
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

@compute @workgroup_size(64)
fn norm_sliced_moments(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {${slicePreamble(adding, slicedRows(adding.groups, true))}
  let origin = partials[start * 2u * quads + quad];
  var pixels = 0.0;
  var mean = ${V}(0.0);
  var square = ${V}(0.0);
  for (var part = start + slice; part < end; part += ${u32(slices)}) {
    let at = part * 2u * quads + quad;
    let n = f32(${pixelsOf});
    let delta = partials[at] - origin - mean;
    let total = pixels + n;
    mean += delta * (n / total);
    square += partials[at + quads] + delta * delta * (pixels * n / total);
    pixels = total;
  }
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
  var product = ${V}(0.0);
  for (var part = start + slice; part < end; part += ${u32(slices)}) {
    sum += partials[part * 2u * quads + quad];
    product += partials[(part * 2u + 1u) * quads + quad];
  }
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
export function normActivationTotals({ width, groups, parts }: Adding): string {
  const V = width === 4 ? 'vec4f' : 'f32';
  const lanes = lanesOf(parts, groups);
  const grouped = groups > 1;
  const own = grouped ? 'thread' : 'lane';
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
fn norm_activation_totals(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) ${own}: u32) {
  let quad = id.x;
  let quads = arrayLength(&dgamma);
${grouped ? shared(lanes) : '  let end = arrayLength(&partials);'}
  var sum = ${V}(0.0);
  var product = ${V}(0.0);
  for (var at = ${grouped ? '(start + lane)' : 'lane'} * 2u * quads + quad; at < end${grouped ? ' * 2u * quads' : ''}; at += ${u32(2 * lanes)} * quads) {
    sum += partials[at];
    product += partials[at + quads];
  }
  sums[${own}] = sum;
  products[${own}] = product;
  workgroupBarrier();
  ${grouped ? 'if (lane == 0u) {' : 'if (lane != 0u) { return; }'}
  for (var other = 1u; other < ${u32(lanes)}; other++) {
    sum += sums[${grouped ? 'thread + ' : ''}other];
    product += products[${grouped ? 'thread + ' : ''}other];
  }
${grouped ? ofGroups : ofAll}
}`;
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const texts: string[] = [normRunningCoefficients(5, 1e-5)];
  for (const width of [1, 4] as const) {
    for (const groups of [1, 2]) {
      const adding = (parts: number): Adding => ({ width, groups, parts });
      const pixelsOf = '(257u - part)';
      texts.push(...[0.1, undefined].map((momentum) => normCoefficients(adding(5), pixelsOf, 1e-5, momentum)));
      texts.push(...[8, 600].map((parts) => normActivationTotals(adding(parts))));
      texts.push(normSlicedMoments(adding(70000), pixelsOf), normSlicedSums(adding(70000)));
      texts.push(normCoefficients(adding(slices), undefined, 1e-5, 0.1));
    }
  }
  return texts;
}
