// Batch normalisation, LeakyReLU l and dropout d as one: a = d · l(n), n = (z − μ)·s + β with s = γ·r, r = 1/√(σ² + ε).
//   g = da · d · l'(n),   dβ = Σ g,   dγ = r Σ g·(z − μ),   dz = s·g − (s·dβ + (z − μ)·s·r·dγ)/R     with R rows
// `coefficients` [groups, 4, C] hold μ, s, β and r; `totals` [groups, 2, C] hold s·dβ and s·r·dγ of each group; the results dβ and dγ
// are sums over the groups. Partial means and sums may come from the convolution that made z and from the kernel that made da
// (conv/fusion.ts); da is then g already. The parts of a group lie one after another.
import {
  type Activation,
  dropoutBindings,
  factorsOf,
  leakyRelu,
  leakyReluDerivative,
  normalized,
} from './conv/fusion.js';
import { lines, type Parts, range } from './conv/geometry.js';
import { blocksOf, chunksOf, groupAt, type NormSizes, ofGroup, quadsOf } from './norm-sizes.js';
import { enable, f32, flatIndex, u32, wgsl } from './wgsl.js';

const types = (sizes: NormSizes) =>
  sizes.channels % 4 === 0
    ? ({ V: 'vec4f', S: `vec4<${sizes.dtype}>`, width: 4 } as const)
    : ({ V: 'f32', S: sizes.dtype, width: 1 } as const);

/** The parts that `normStatistics` and `normActivationSums` write; each holds every chunks-th row of a block. */
export function chunkParts(sizes: NormSizes): Parts {
  const chunks = u32(chunksOf(sizes));
  const blocks = blocksOf(sizes);
  const chunk = blocks > 1 ? `part % ${chunks}` : 'part';
  return {
    count: blocks * chunksOf(sizes),
    pixelsOf: `((${u32(sizes.rows)} - ${chunk} + ${chunks} - 1u) / ${chunks})`,
    run: { pixels: sizes.rows, parts: chunksOf(sizes) },
  };
}

const dropout = (first: number, activation: Activation, width: 1 | 4): string => wgsl`
#if ${activation.dropout > 0}
${lines(dropoutBindings(activation).map((name, i) => `@group(0) @binding(${first + i}) var<storage, read> ${name}: array<u32>;`))}
${activation.dropout > 0 ? factorsOf(activation, width) : ''}
#endif`;

const isGrouped = ({ groups }: NormSizes): boolean => groups.length > 1;

/** Lines that define `group`, and `first`, where the coefficients of a channel quad of group `group` begin. */
const firstOf = (sizes: NormSizes, group: string): string => wgsl`
  let group = ${group};
  let first = group * ${u32(4 * quadsOf(sizes))} + quad;`;

const preamble = (sizes: NormSizes): string => wgsl`
  let i = ${flatIndex(64)};
  if (i >= ${u32(blocksOf(sizes) * sizes.rows * quadsOf(sizes))}) { return; }
  let quad = i % ${u32(quadsOf(sizes))};${
    isGrouped(sizes) ? firstOf(sizes, groupAt('i', sizes.groups, sizes.rows * quadsOf(sizes))) : ''
  }
  let mean = coefficients[${isGrouped(sizes) ? 'first' : 'quad'}];
  let scale = coefficients[${u32(quadsOf(sizes))} + ${isGrouped(sizes) ? 'first' : 'quad'}];`;

/** a from z, into rows of `row` channels from channel `offset` on (multiples of 4 where the channels are). */
export function normActivationForward(
  sizes: NormSizes,
  activation: Activation,
  { row, offset }: { row: number; offset: number } = { row: sizes.channels, offset: 0 },
): string {
  const { V, S, width } = types(sizes);
  const quads = quadsOf(sizes);
  const at = isGrouped(sizes) ? 'first' : 'quad';
  const target =
    row === sizes.channels ? 'i' : `i / ${u32(quads)} * ${u32(row / width)} + ${u32(offset / width)} + quad`;
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> coefficients: array<${V}>;
@group(0) @binding(2) var<storage, read_write> a: array<${S}>;
${dropout(3, activation, width)}

@compute @workgroup_size(64)
fn norm_activation(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {${preamble(sizes)}
  let n = ${normalized(`${V}(z[i])`, 'mean', 'scale', `coefficients[${u32(2 * quads)} + ${at}]`)};
  a[${target}] = ${S}(${leakyRelu('n', V, activation.slope)}${activation.dropout > 0 ? ' * factors_at(i)' : ''});
}`;
}

/** partials [blocks, chunks, 2, C]: Σ g and Σ g·(z − μ) of each chunk's rows, from da. */
export function normActivationSums(sizes: NormSizes, activation: Activation): string {
  const { V, S, width } = types(sizes);
  const quads = u32(quadsOf(sizes));
  const chunks = u32(chunksOf(sizes));
  const rows = u32(sizes.rows);
  const grouped = isGrouped(sizes);
  const [at, part] = grouped ? ['first', 'part'] : ['quad', 'chunk'];
  // Rows at a time, so that a thread waits for memory once for several. Drawing dropout takes a driver long to compile.
  const batch = activation.dropout > 0 && !activation.masked ? 2 : 4;
  const js = range(batch);
  const ofBlock = grouped ? `\n  let block = part / ${chunks};${firstOf(sizes, groupAt('block', sizes.groups))}` : '';
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> z: array<${S}>;
@group(0) @binding(1) var<storage, read> coefficients: array<${V}>;
@group(0) @binding(2) var<storage, read> da: array<${S}>;
@group(0) @binding(3) var<storage, read_write> partials: array<${V}>;
${dropout(4, activation, width)}

@compute @workgroup_size(64)
fn norm_activation_sums(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let thread = ${flatIndex(64)};
  if (thread >= ${u32(blocksOf(sizes) * chunksOf(sizes) * quadsOf(sizes))}) { return; }
  let quad = thread % ${quads};
  let ${part} = thread / ${quads};${ofBlock}
  let mean = coefficients[${at}];
  let scale = coefficients[${quads} + ${at}];
  let shift = coefficients[2u * ${quads} + ${at}];
  var sum = ${V}(0.0);
  var product = ${V}(0.0);
  let end = ${grouped ? `(block + 1u) * ${rows}` : rows};
  for (var row = ${grouped ? `block * ${rows} + part % ${chunks}` : 'chunk'}; row < end; row += ${u32(batch * chunksOf(sizes))}) {
${lines(js.map((j) => `    let i${j} = min(row + ${u32(j * chunksOf(sizes))}, end - 1u) * ${quads} + quad;`))}
${lines(js.map((j) => `    let z${j} = ${V}(z[i${j}]); let da${j} = ${V}(da[i${j}]);`))}
${lines(
  js.map((j) => {
    const derivative = leakyReluDerivative('n', V, activation.slope);
    const g = `da${j} * ${derivative}${activation.dropout > 0 ? ` * factors_at(i${j})` : ''}`;
    const within = j ? `select(${V}(0.0), ${g}, row + ${u32(j * chunksOf(sizes))} < end)` : g;
    return `    { let centered = z${j} - mean; let n = centered * scale + shift; let g = ${within}; sum += g; product += g * centered; }`;
  }),
)}
  }
  partials[${part} * 2u * ${quads} + quad] = sum;
  partials[${part} * 2u * ${quads} + ${quads} + quad] = product;
}`;
}

/** dz from da, or from g; `constant` means that the statistics were the running ones, which do not depend on z. */
export function normActivationBackward(
  sizes: NormSizes,
  activation: Activation,
  { from, constant }: { from: 'da' | 'g'; constant: boolean },
): string {
  const { V, S, width } = types(sizes);
  const quads = u32(quadsOf(sizes));
  const derivative = from === 'da';
  const factors = activation.dropout > 0 ? ' * factors_at(i)' : '';
  const [at, total] = isGrouped(sizes) ? ['first', `group * 2u * ${quads} + quad`] : ['quad', 'quad'];
  const perRow = ofGroup(
    'group',
    sizes.groups.map((blocks) => f32(1 / (blocks * sizes.rows))),
  );
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
${derivative ? dropout(5, activation, width) : ''}

@compute @workgroup_size(64)
fn norm_activation_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {${preamble(sizes)}
#if ${derivative || !constant}
  let centered = ${V}(z[i]) - mean;
#endif
#if ${derivative}
  let n = centered * scale + coefficients[2u * ${quads} + ${at}];
  let g = ${V}(dy[i]) * ${leakyReluDerivative('n', V, activation.slope)}${factors};
#else
  let g = ${V}(dy[i]);
#endif
#if ${constant}
  dz[i] = ${S}(scale * g);
#else
  dz[i] = ${S}(scale * g - (totals[${total}] + centered * totals[${quads} + ${total}]) * ${perRow});
#endif
}`;
}

/** Representative texts of every kernel in this file. */
export function variants(): string[] {
  const texts: string[] = [];
  for (const dtype of ['f32', 'f16'] as const) {
    for (const channels of [3, 8]) {
      for (const groups of [[1], [1, 2]]) {
        const sizes = { dtype, groups, rows: 257, channels };
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
  }
  return texts;
}
