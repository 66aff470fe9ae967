// Normalisation over rows, per channel and group (batch norm: one group of all rows, or several groups of items; instance norm: one
// group per item):
//   y = γ (x − μ)·r + β,   r = 1/√(σ² + ε)
//   dβ = Σ dy,   dγ = Σ dy·x̂,   dx = γ r (dy − (dβ + x̂·dγ)/R)      with x̂ = (x − μ)·r and R rows in a group
// Sums take two passes in a fixed order. A thread of the first pass takes every chunks-th row of one channel quad, relative to its own
// first value, so that data with a large offset keep their digits. The second pass combines (count, mean, M2) as Chan et al. (1979).
// Channels go four at a time where their count is a multiple of four.
import { blocksOf, chunksOf, groupAt, type NormSizes, ofGroup, quadsOf, startsOf, wide } from './norm-sizes.js';
import { enable, f32, flatIndex, u32, wgsl } from './wgsl.js';

const types = (sizes: NormSizes) =>
  wide(sizes) ? { V: 'vec4f', S: `vec4<${sizes.dtype}>` } : { V: 'f32', S: sizes.dtype };

/** Whether each block is a group. */
const alone = ({ groups }: NormSizes): boolean => groups.every((blocks) => blocks === 1);

/** Expression: the group of a block. */
const groupOf = (sizes: NormSizes, block: string): string => (alone(sizes) ? block : groupAt(block, sizes.groups));

/** Expression: a value computed from the number of rows of the group `group`. */
const byRows = ({ groups, rows }: NormSizes, value: (rows: number) => number): string =>
  ofGroup(
    'group',
    groups.map((blocks) => f32(value(blocks * rows))),
  );

/** The block (named `group`, as if each were one), chunk and channel quad of a thread that makes sums. */
const place = (sizes: NormSizes): string => wgsl`
  let i = ${flatIndex(64)};
  if (i >= ${u32(blocksOf(sizes) * chunksOf(sizes) * quadsOf(sizes))}) { return; }
  let quad = i % ${u32(quadsOf(sizes))};
  let chunk = (i / ${u32(quadsOf(sizes))}) % ${u32(chunksOf(sizes))};
  let group = i / ${u32(quadsOf(sizes) * chunksOf(sizes))};
  let base = group * ${u32(sizes.rows * quadsOf(sizes))} + quad;`;

/** partials [blocks, chunks, 2, C]: mean and M2 = Σ (x − mean)² of each chunk's rows. */
export function normStatistics(sizes: NormSizes): string {
  const { V, S } = types(sizes);
  const quads = u32(quadsOf(sizes));
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read_write> partials: array<${V}>;

@compute @workgroup_size(64)
fn norm_statistics(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
${place(sizes)}
  let shift = ${V}(x[base + chunk * ${quads}]);
  var sum = ${V}(0.0);
  var squares = ${V}(0.0);
  var count = 0.0;
  for (var row = chunk; row < ${u32(sizes.rows)}; row += ${u32(chunksOf(sizes))}) {
    let v = ${V}(x[base + row * ${quads}]) - shift;
    sum += v;
    squares += v * v;
    count += 1.0;
  }
  let out = (group * ${u32(chunksOf(sizes))} + chunk) * ${u32(2 * quadsOf(sizes))} + quad;
  partials[out] = shift + sum / count;
  partials[out + ${quads}] = max(squares - sum * sum / count, ${V}(0.0));
}`;
}

/** The loop of a lane over the chunks of group `group`, which is one block or, with `uneven`, several. */
function eachChunk(sizes: NormSizes, uneven: boolean, indent = ''): string {
  const chunks = u32(chunksOf(sizes));
  const quads = u32(quadsOf(sizes));
  const starts = startsOf(sizes.groups).map((block) => u32(block * chunksOf(sizes)));
  const from = `${ofGroup('group', starts.slice(0, -1))} + lane`;
  const [first, end, at] = uneven
    ? [from, ofGroup('group', starts.slice(1)), 'chunk']
    : ['lane', chunks, `(group * ${chunks} + chunk)`];
  return `${indent}  for (var chunk = ${first}; chunk < ${end}; chunk += 64u) {
${indent}    let at = ${at} * 2u * ${quads} + quad;`;
}

/** Whether one workgroup takes all groups of a channel quad in turn: if they differ in size, or update the running statistics. */
const inTurn = (sizes: NormSizes, momentum: number | undefined): boolean =>
  sizes.groups.length > 1 && (momentum !== undefined || !alone(sizes));

/** Workgroups of `normMoments`. */
export const momentsWorkgroups = (sizes: NormSizes, momentum: number | undefined): number =>
  (inTurn(sizes, momentum) ? 1 : sizes.groups.length) * quadsOf(sizes);

/**
 * moments [groups, 2, C] = mean and r = 1/√(variance + ε) from the partials. With `momentum`, running mean and variance follow the
 * groups of `track` in place, one after another (the unbiased variance, as PyTorch).
 */
export function normMoments(
  sizes: NormSizes,
  epsilon: number,
  momentum: number | undefined,
  track: readonly number[] = [0],
): string {
  const { V } = types(sizes);
  const { groups } = sizes;
  const quads = u32(quadsOf(sizes));
  const chunks = u32(chunksOf(sizes));
  const rows = byRows(sizes, (n) => n);
  const turns = inTurn(sizes, momentum);
  const turn = `  for (var group = 0u; group < ${u32(groups.length)}; group++) {`;
  const tracked = ofGroup(
    'group',
    groups.map((_, g) => String(track.includes(g))),
  );
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read_write> moments: array<${V}>;
#if ${momentum !== undefined}
@group(0) @binding(2) var<storage, read_write> running_mean: array<${V}>;
@group(0) @binding(3) var<storage, read_write> running_variance: array<${V}>;
#endif
var<workgroup> counts: array<f32, 64>;
var<workgroup> means: array<${V}, 64>;
var<workgroup> squares: array<${V}, 64>;

fn rows_of(chunk: u32) -> f32 { return f32((${u32(sizes.rows)} - chunk + ${chunks} - 1u) / ${chunks}); }

@compute @workgroup_size(64)
fn norm_moments(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quad = id.x % ${quads};
${turns ? turn : `  let group = id.x / ${quads};`}
  var count = 0.0;
  var mean = ${V}(0.0);
  var m2 = ${V}(0.0);
${eachChunk(sizes, turns)}
    let n = rows_of(chunk${turns ? ` % ${chunks}` : ''});
    let delta = partials[at] - mean;
    let total = count + n;
    mean += delta * (n / total);
    m2 += partials[at + ${quads}] + delta * delta * (count * n / total);
    count = total;
  }
${turns ? '  workgroupBarrier(); // the group before is done\n' : ''}  counts[lane] = count;
  means[lane] = mean;
  squares[lane] = m2;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half && counts[lane + half] > 0.0) {
      let n = counts[lane + half];
      let delta = means[lane + half] - means[lane];
      let total = counts[lane] + n;
      means[lane] += delta * (n / total);
      squares[lane] += squares[lane + half] + delta * delta * (counts[lane] * n / total);
      counts[lane] = total;
    }
  }
  if (lane == 0u) {
    let at = group * 2u * ${quads} + quad;
    moments[at] = means[0];
    moments[at + ${quads}] = 1.0 / sqrt(squares[0] / ${rows} + ${f32(epsilon)});
#if ${momentum !== undefined}
${turns ? `    if (${tracked}) {\n` : ''}    running_mean[quad] = mix(running_mean[quad], means[0], ${f32(momentum ?? 0)});
    running_variance[quad] = mix(running_variance[quad], squares[0] / max(${rows} - 1.0, 1.0), ${f32(momentum ?? 0)});${turns ? '\n    }' : ''}
#endif
  }${turns ? '\n  }' : ''}
}`;
}

/** moments [1, 2, C] from running statistics. */
export function normRunningMoments(channels: number, epsilon: number): string {
  return wgsl`
@group(0) @binding(0) var<storage, read> running_mean: array<f32>;
@group(0) @binding(1) var<storage, read> running_variance: array<f32>;
@group(0) @binding(2) var<storage, read_write> moments: array<f32>;

@compute @workgroup_size(64)
fn norm_running_moments(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(channels)}) { return; }
  moments[id.x] = running_mean[id.x];
  moments[${u32(channels)} + id.x] = 1.0 / sqrt(running_variance[id.x] + ${f32(epsilon)});
}`;
}

/** y from x and moments. */
export function normForward(sizes: NormSizes): string {
  const { V, S } = types(sizes);
  const quads = u32(quadsOf(sizes));
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read> moments: array<${V}>;
@group(0) @binding(2) var<storage, read> gamma: array<${V}>;
@group(0) @binding(3) var<storage, read> beta: array<${V}>;
@group(0) @binding(4) var<storage, read_write> y: array<${S}>;

@compute @workgroup_size(64)
fn norm_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(blocksOf(sizes) * sizes.rows * quadsOf(sizes))}) { return; }
  let quad = i % ${quads};
  let at = ${groupOf(sizes, `(i / ${u32(sizes.rows * quadsOf(sizes))})`)} * 2u * ${quads} + quad;
  y[i] = ${S}((${V}(x[i]) - moments[at]) * (moments[at + ${quads}] * gamma[quad]) + beta[quad]);
}`;
}

/** partials [blocks, chunks, 2, C]: Σ dy and Σ dy·x̂ of each chunk's rows. */
export function normBackwardSums(sizes: NormSizes): string {
  const { V, S } = types(sizes);
  const quads = u32(quadsOf(sizes));
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read> dy: array<${S}>;
@group(0) @binding(2) var<storage, read> moments: array<${V}>;
@group(0) @binding(3) var<storage, read_write> partials: array<${V}>;

@compute @workgroup_size(64)
fn norm_backward_sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
${place(sizes)}
  let mean = moments[${groupOf(sizes, 'group')} * 2u * ${quads} + quad];
  let scale = moments[${groupOf(sizes, 'group')} * 2u * ${quads} + ${quads} + quad];
  var sum = ${V}(0.0);
  var product = ${V}(0.0);
  for (var row = chunk; row < ${u32(sizes.rows)}; row += ${u32(chunksOf(sizes))}) {
    let g = ${V}(dy[base + row * ${quads}]);
    sum += g;
    product += g * ((${V}(x[base + row * ${quads}]) - mean) * scale);
  }
  let out = (group * ${u32(chunksOf(sizes))} + chunk) * ${u32(2 * quadsOf(sizes))} + quad;
  partials[out] = sum;
  partials[out + ${quads}] = product;
}`;
}

/** sums [groups, 2, C] = Σ dy and Σ dy·x̂ per group; dbeta and dgamma [C] add the groups up. */
export function normBackwardTotals(sizes: NormSizes): string {
  const { V } = types(sizes);
  const quads = u32(quadsOf(sizes));
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read_write> sums: array<${V}>;
@group(0) @binding(2) var<storage, read_write> dgamma: array<${V}>;
@group(0) @binding(3) var<storage, read_write> dbeta: array<${V}>;
var<workgroup> part: array<${V}, 64>;
var<workgroup> products: array<${V}, 64>;

@compute @workgroup_size(64)
fn norm_backward_totals(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quad = id.x;
  var total = ${V}(0.0);
  var total_product = ${V}(0.0);
  for (var group = 0u; group < ${u32(sizes.groups.length)}; group++) {
    var sum = ${V}(0.0);
    var product = ${V}(0.0);
${eachChunk(sizes, !alone(sizes), '  ')}
      sum += partials[at];
      product += partials[at + ${quads}];
    }
    workgroupBarrier();
    part[lane] = sum;
    products[lane] = product;
    for (var half = 32u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (lane < half) {
        part[lane] += part[lane + half];
        products[lane] += products[lane + half];
      }
    }
    if (lane == 0u) {
      sums[group * 2u * ${quads} + quad] = part[0];
      sums[group * 2u * ${quads} + ${quads} + quad] = products[0];
      total += part[0];
      total_product += products[0];
    }
  }
  if (lane == 0u) {
    dbeta[quad] = total;
    dgamma[quad] = total_product;
  }
}`;
}

/** dx; `constant` means that the moments were the running ones, which do not depend on x. */
export function normBackward(sizes: NormSizes, constant: boolean): string {
  const { V, S } = types(sizes);
  const quads = u32(quadsOf(sizes));
  const block = `(i / ${u32(sizes.rows * quadsOf(sizes))})`;
  const group = alone(sizes) ? '' : `  let group = ${groupOf(sizes, block)};\n`;
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> dy: array<${S}>;
@group(0) @binding(1) var<storage, read> moments: array<${V}>;
@group(0) @binding(2) var<storage, read> gamma: array<${V}>;
@group(0) @binding(3) var<storage, read_write> dx: array<${S}>;
#if ${!constant}
@group(0) @binding(4) var<storage, read> x: array<${S}>;
@group(0) @binding(5) var<storage, read> sums: array<${V}>;
#endif

@compute @workgroup_size(64)
fn norm_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(blocksOf(sizes) * sizes.rows * quadsOf(sizes))}) { return; }
  let quad = i % ${quads};
${group}  let at = ${alone(sizes) ? block : 'group'} * 2u * ${quads} + quad;
  let scale = moments[at + ${quads}];
#if ${constant}
  dx[i] = ${S}(gamma[quad] * scale * ${V}(dy[i]));
#else
  let normal = (${V}(x[i]) - moments[at]) * scale;
  dx[i] = ${S}(gamma[quad] * scale * (${V}(dy[i]) - (sums[at] + normal * sums[at + ${quads}]) * ${byRows(sizes, (n) => 1 / n)}));
#endif
}`;
}

export function variants(): string[] {
  const texts: string[] = [];
  for (const dtype of ['f32', 'f16'] as const) {
    for (const channels of [3, 8]) {
      for (const groups of [[1], [1, 1], [1, 3]]) {
        const sizes = { dtype, groups, rows: 257, channels };
        texts.push(
          normStatistics(sizes),
          normMoments(sizes, 1e-5, undefined),
          normForward(sizes),
          normBackwardSums(sizes),
        );
        texts.push(normBackwardTotals(sizes), normBackward(sizes, false), normBackward(sizes, true));
        texts.push(normMoments(sizes, 1e-5, 0.1, groups.length === 1 ? [0] : [1]));
      }
    }
  }
  return [...texts, normRunningMoments(5, 1e-5)];
}
