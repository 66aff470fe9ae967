// Batch normalisation, LeakyReLU l and dropout d as one: a = d · l(n), n = (z − μ)·s + β with s = γ·r, r = 1/√(σ² + ε).
//   g = da · d · l'(n),   dβ = Σ g,   dγ = r Σ g·(z − μ),   dz = s·g − (s·dβ + (z − μ)·s·r·dγ)/R     with R rows
// `coefficients` [4, C] hold μ, s, β and r; `totals` [2, C] hold s·dβ and s·r·dγ. The means and sums may come as partial
// ones from the convolution that made z and from the kernel that made da (conv/fusion.ts); da is then g already.
import { type Activation, activated, activatedGradient, dropoutFactors, normalized } from './conv/fusion.js';
import type { Parts } from './conv/geometry.js';
import { chunksOf, type NormSizes, quadsOf } from './norm-sizes.js';
import { enable, f32, flatIndex, u32, wgsl } from './wgsl.js';

const types = (sizes: NormSizes) =>
  sizes.channels % 4 === 0
    ? ({ V: 'vec4f', S: `vec4<${sizes.dtype}>`, width: 4 } as const)
    : ({ V: 'f32', S: sizes.dtype, width: 1 } as const);

/** The parts that `normStatistics` and `normActivationSums` write: every chunks-th row each. */
export function chunkParts(sizes: NormSizes): Parts {
  const chunks = u32(chunksOf(sizes));
  return { count: chunksOf(sizes), pixelsOf: `((${u32(sizes.rows)} - part + ${chunks} - 1u) / ${chunks})` };
}

/** Threads that share the parts of one channel quad: a few parts each. */
const lanesOf = (parts: number): number => (parts >= 8192 ? 256 : parts >= 512 ? 64 : parts >= 64 ? 16 : 4);

/**
 * coefficients [4, C] from partial means and Σ (z − mean)², combined as Chan et al. (1979) in a fixed order. With `momentum`,
 * running mean and variance follow in place (the unbiased variance, as PyTorch). Sizes are read from the bindings.
 */
export function normCoefficients(width: 1 | 4, parts: Parts, epsilon: number, momentum: number | undefined): string {
  const V = width === 4 ? 'vec4f' : 'f32';
  const lanes = lanesOf(parts.count);
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read> gamma: array<${V}>;
@group(0) @binding(2) var<storage, read> beta: array<${V}>;
@group(0) @binding(3) var<storage, read_write> coefficients: array<${V}>;
#if ${momentum !== undefined}
@group(0) @binding(4) var<storage, read_write> running_mean: array<${V}>;
@group(0) @binding(5) var<storage, read_write> running_variance: array<${V}>;
#endif
var<workgroup> counts: array<f32, ${lanes}>;
var<workgroup> means: array<${V}, ${lanes}>;
var<workgroup> squares: array<${V}, ${lanes}>;

@compute @workgroup_size(${lanes})
fn norm_coefficients(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quad = id.x;
  let quads = arrayLength(&gamma);
  let parts = arrayLength(&partials) / (2u * quads);
  var pixels = 0.0;
  var mean = ${V}(0.0);
  var square = ${V}(0.0);
  for (var part = lane; part < parts; part += ${u32(lanes)}) {
    let at = part * 2u * quads + quad;
    let n = f32(${parts.pixelsOf});
    let delta = partials[at] - mean;
    let total = pixels + n;
    mean += delta * (n / total);
    square += partials[at + quads] + delta * delta * (pixels * n / total);
    pixels = total;
  }
  counts[lane] = pixels;
  means[lane] = mean;
  squares[lane] = square;
  workgroupBarrier();
  if (lane != 0u) { return; }
  for (var other = 1u; other < ${u32(lanes)}; other++) {
    let n = counts[other];
    if (n > 0.0) {
      let delta = means[other] - mean;
      let total = pixels + n;
      mean += delta * (n / total);
      square += squares[other] + delta * delta * (pixels * n / total);
      pixels = total;
    }
  }
  let r = 1.0 / sqrt(square / pixels + ${f32(epsilon)});
  coefficients[quad] = mean;
  coefficients[quads + quad] = gamma[quad] * r;
  coefficients[2u * quads + quad] = beta[quad];
  coefficients[3u * quads + quad] = r;
#if ${momentum !== undefined}
  running_mean[quad] = mix(running_mean[quad], mean, ${f32(momentum ?? 0)});
  running_variance[quad] = mix(running_variance[quad], square / max(pixels - 1.0, 1.0), ${f32(momentum ?? 0)});
#endif
}`;
}

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

const dropoutBindings = (first: number, { dropout }: Activation, width: 1 | 4): string => wgsl`
#if ${dropout > 0}
@group(0) @binding(${first}) var<storage, read> random: array<u32>;
@group(0) @binding(${first + 1}) var<storage, read> stream: array<u32>;
${dropout > 0 ? dropoutFactors(dropout, width) : ''}
#endif`;

const preamble = (sizes: NormSizes): string => wgsl`
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.rows * quadsOf(sizes))}) { return; }
  let quad = i % ${u32(quadsOf(sizes))};
  let mean = coefficients[quad];
  let scale = coefficients[${u32(quadsOf(sizes))} + quad];`;

/** a from z, into rows of `row` channels from channel `offset` on (multiples of 4 where the channels are). */
export function normActivationForward(
  sizes: NormSizes,
  activation: Activation,
  { row, offset }: { row: number; offset: number } = { row: sizes.channels, offset: 0 },
): string {
  const { V, S, width } = types(sizes);
  const quads = quadsOf(sizes);
  const target =
    row === sizes.channels ? 'i' : `i / ${u32(quads)} * ${u32(row / width)} + ${u32(offset / width)} + quad`;
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> coefficients: array<${V}>;
@group(0) @binding(2) var<storage, read_write> a: array<${S}>;
${dropoutBindings(3, activation, width)}

@compute @workgroup_size(64)
fn norm_activation(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {${preamble(sizes)}
  let n = ${normalized(`${V}(z[i])`, 'mean', 'scale', `coefficients[${u32(2 * quads)} + quad]`)};
  a[${target}] = ${S}(${activated('n', V, activation.slope)}${activation.dropout > 0 ? ' * factors_at(i)' : ''});
}`;
}

/** partials [chunks, 2, C]: Σ g and Σ g·(z − μ) of each chunk's rows, from da. */
export function normActivationSums(sizes: NormSizes, activation: Activation): string {
  const { V, S, width } = types(sizes);
  const quads = u32(quadsOf(sizes));
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> coefficients: array<${V}>;
@group(0) @binding(2) var<storage, read> da: array<${S}>;
@group(0) @binding(3) var<storage, read_write> partials: array<${V}>;
${dropoutBindings(4, activation, width)}

@compute @workgroup_size(64)
fn norm_activation_sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let thread = ${flatIndex(64)};
  if (thread >= ${u32(chunksOf(sizes) * quadsOf(sizes))}) { return; }
  let quad = thread % ${quads};
  let chunk = thread / ${quads};
  let mean = coefficients[quad];
  let scale = coefficients[${quads} + quad];
  let shift = coefficients[2u * ${quads} + quad];
  var sum = ${V}(0.0);
  var product = ${V}(0.0);
  for (var row = chunk; row < ${u32(sizes.rows)}; row += ${u32(chunksOf(sizes))}) {
    let i = row * ${quads} + quad;
    let centered = ${V}(z[i]) - mean;
    let n = centered * scale + shift;
    let g = ${V}(da[i]) * ${activatedGradient('n', V, activation.slope)}${activation.dropout > 0 ? ' * factors_at(i)' : ''};
    sum += g;
    product += g * centered;
  }
  partials[chunk * 2u * ${quads} + quad] = sum;
  partials[chunk * 2u * ${quads} + ${quads} + quad] = product;
}`;
}

/**
 * totals [2, C], dgamma and dbeta [C] from partial sums, in a fixed order. Sizes are read from the bindings, so that all norms
 * share one pipeline.
 */
export function normActivationTotals(width: 1 | 4, parts: number): string {
  const V = width === 4 ? 'vec4f' : 'f32';
  const lanes = lanesOf(parts);
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<${V}>;
@group(0) @binding(1) var<storage, read> coefficients: array<${V}>;
@group(0) @binding(2) var<storage, read_write> totals: array<${V}>;
@group(0) @binding(3) var<storage, read_write> dgamma: array<${V}>;
@group(0) @binding(4) var<storage, read_write> dbeta: array<${V}>;
var<workgroup> sums: array<${V}, ${lanes}>;
var<workgroup> products: array<${V}, ${lanes}>;

@compute @workgroup_size(${lanes})
fn norm_activation_totals(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let quad = id.x;
  let quads = arrayLength(&dgamma);
  let end = arrayLength(&partials);
  var sum = ${V}(0.0);
  var product = ${V}(0.0);
  for (var at = lane * 2u * quads + quad; at < end; at += ${u32(2 * lanes)} * quads) {
    sum += partials[at];
    product += partials[at + quads];
  }
  sums[lane] = sum;
  products[lane] = product;
  workgroupBarrier();
  if (lane != 0u) { return; }
  for (var other = 1u; other < ${u32(lanes)}; other++) {
    sum += sums[other];
    product += products[other];
  }
  let scale = coefficients[quads + quad];
  let r = coefficients[3u * quads + quad];
  dbeta[quad] = sum;
  dgamma[quad] = r * product;
  totals[quad] = scale * sum;
  totals[quads + quad] = scale * (r * r * product);
}`;
}

/** dz from da, or from g; `constant` says that the statistics were running ones, which do not depend on z. */
export function normActivationBackward(
  sizes: NormSizes,
  activation: Activation,
  { from, constant }: { from: 'da' | 'g'; constant: boolean },
): string {
  const { V, S, width } = types(sizes);
  const quads = u32(quadsOf(sizes));
  const derivative = from === 'da';
  const factors = activation.dropout > 0 ? ' * factors_at(i)' : '';
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> dy: array<${S}>;
@group(0) @binding(1) var<storage, read> coefficients: array<${V}>;
@group(0) @binding(2) var<storage, read_write> dz: array<${S}>;
#if ${derivative || !constant}
@group(0) @binding(3) var<storage, read> z: array<${S}>;
#endif
#if ${!constant}
@group(0) @binding(4) var<storage, read> totals: array<${V}>;
#endif
${derivative ? dropoutBindings(5, activation, width) : ''}

@compute @workgroup_size(64)
fn norm_activation_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {${preamble(sizes)}
#if ${derivative || !constant}
  let centered = ${V}(z[i]) - mean;
#endif
#if ${derivative}
  let n = centered * scale + coefficients[2u * ${quads} + quad];
  let g = ${V}(dy[i]) * ${activatedGradient('n', V, activation.slope)}${factors};
#else
  let g = ${V}(dy[i]);
#endif
#if ${constant}
  dz[i] = ${S}(scale * g);
#else
  dz[i] = ${S}(scale * g - (totals[quad] + centered * totals[${quads} + quad]) * ${f32(1 / sizes.rows)});
#endif
}`;
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const texts: string[] = [normRunningCoefficients(5, 1e-5)];
  for (const dtype of ['f32', 'f16'] as const) {
    for (const channels of [3, 8]) {
      const sizes = { dtype, groups: 1, rows: 257, channels };
      const parts = chunkParts(sizes);
      texts.push(
        ...[0.1, undefined].map((momentum) => normCoefficients(channels === 8 ? 4 : 1, parts, 1e-5, momentum)),
      );
      texts.push(...[8, 600].map((count) => normActivationTotals(channels === 8 ? 4 : 1, count)));
      for (const dropout of [0, 0.5]) {
        const activation = { slope: 0.01, dropout };
        texts.push(
          normActivationForward(sizes, activation),
          normActivationForward(sizes, activation, { row: 4 * channels, offset: channels }),
          normActivationSums(sizes, activation),
          ...[true, false].flatMap((constant) =>
            (['da', 'g'] as const).map((from) => normActivationBackward(sizes, activation, { from, constant })),
          ),
        );
      }
    }
  }
  return texts;
}
