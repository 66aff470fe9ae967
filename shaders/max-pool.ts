// Maximum of windows of two along each axis, stride 2, over [N, H, W, C] or [N, D, H, W, C]; odd last planes, rows and columns are left
// out (floor, as PyTorch).
//   y = max of the window          dx = dy at the window's first maximum (row by row), 0 elsewhere
// A NaN is larger than any number.
// One thread per window and quad of channels. The backward pass finds the window's maximum again, so nothing is stored, and
// writes each of its dx once. Where x is a deferred activation (conv/fusion.ts), both passes compute it from z on load. The backward
// pass may add another gradient of x, which may lie in a slot of a wider tensor, and give g = dx · l'(n) with the sums of g and
// g·(z − μ).
import { type Activation, leakyRelu, leakyReluDerivative } from './conv/fusion.js';
import type { Parts } from './conv/geometry.js';
import {
  coordinates,
  coordinatesOf,
  type ImageSizes,
  pixelIndex,
  product,
  type Triple,
  vectorsOf,
} from './image-sizes.js';
import { commonDivisor, groupAt } from './norm-sizes.js';
import { enable, type Float, flatIndex, nanFunctions, u32, wgsl } from './wgsl.js';

/** `output` is ⌊input / window⌋. */
export interface PoolSizes extends ImageSizes {
  readonly dtype: Float;
  /** [1, 2, 2] or [2, 2, 2]. */
  readonly window: Triple;
}

export interface PoolFusion {
  /** Applies the input's deferred activation, which has no dropout: x is then z, and `coefficients` are bound. */
  readonly onLoad?: Activation | undefined;
  /** Backward: binds `base` and adds it; its pixels have `row` channels, of which x's begin at `offset`. */
  readonly base?: { readonly row: number; readonly offset: number } | undefined;
  /** Backward, with `onLoad`: writes g and `partials` [parts, 2, C]. */
  readonly sums?: boolean;
}

const activationFunction = (V: string, { slope }: Activation): string => wgsl`
fn tail(n: ${V}) -> ${V} { return ${leakyRelu('n', V, slope)}; }`;

/** One pixel of a window: its name, its position, and its index relative to the first. */
interface WindowPixel {
  readonly name: string;
  readonly at: Triple;
  readonly apart: number;
}

/** The pixels of a window, row by row. */
function pixelsOf({ input: [, height, width], window }: PoolSizes): WindowPixel[] {
  return Array.from({ length: product(window) }, (_, i) => {
    const at: Triple = [i >> 2, (i >> 1) & 1, i & 1];
    return { name: `p${i}`, at, apart: (at[0] * height + at[1]) * width + at[2] };
  });
}

/** largest(largest(a, b), largest(c, d)) */
const largestOf = (values: readonly string[]): string =>
  values.length === 1
    ? values[0]!
    : `largest(${largestOf(values.slice(0, values.length / 2))}, ${largestOf(values.slice(values.length / 2))})`;

/** Index of the first pixel of the window at (plane, row, column). */
const firstPixel = ({ input, window }: PoolSizes): string =>
  pixelIndex(input, `${u32(window[0])} * plane`, '2u * row', '2u * column');

export function maxPoolForward(sizes: PoolSizes, { onLoad }: PoolFusion = {}): string {
  const { V, S, quads } = vectorsOf(sizes);
  const value = ({ apart }: WindowPixel): string => {
    const stored = `${V}(x[at + ${u32(apart * quads)}])`;
    return onLoad ? `tail((${stored} - mean) * scale + shift)` : stored;
  };
  return wgsl`${enable(sizes.dtype)}
alias V = ${V};
${nanFunctions(V === 'vec4f')}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read_write> y: array<${S}>;
#if ${onLoad !== undefined}
@group(0) @binding(2) var<storage, read> coefficients: array<${V}>;
${onLoad ? activationFunction(V, onLoad) : ''}
#endif

@compute @workgroup_size(64)
fn max_pool(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.batch * product(sizes.output) * quads)}) { return; }
  let quad = i % ${u32(quads)};
  ${coordinatesOf(`(i / ${u32(quads)})`, sizes.output)}
  let at = ${firstPixel(sizes)} * ${u32(quads)} + quad;
#if ${onLoad !== undefined}
${coefficientsAt(quads, onLoad, 'i', product(sizes.output) * quads)}
#endif
  y[i] = ${S}(${largestOf(pixelsOf(sizes).map(value))});
}`;
}

/** The coefficients of a channel quad; with several groups those of the group of `at`, an index of which each item has `each`. */
function coefficientsAt(quads: number, onLoad: Activation | undefined, at: string, each: number): string {
  const first = onLoad?.groups ? `${groupAt(at, onLoad.groups, each)} * ${u32(4 * quads)} + quad` : 'quad';
  return wgsl`
  let mean = coefficients[${first}];
  let scale = coefficients[${u32(quads)} + ${first}];
  let shift = coefficients[${u32(2 * quads)} + ${first}];`;
}

/** Windows of one item. */
const itemWindows = (sizes: PoolSizes): number => product(windowsOf(sizes));

/** Division of a backward pass with sums: the windows of a run of items are dealt out in turn to that run's parts. */
function poolRun(sizes: PoolSizes, { groups }: Partial<Activation> = {}): { windows: number; parts: number } {
  const items = groups ? commonDivisor(groups) : sizes.batch;
  const windows = items * itemWindows(sizes);
  return { windows, parts: Math.min(4096, Math.ceil(windows / 8)) };
}

/** Parts of a backward pass with sums: about eight windows or more each, and at most 4096 parts for a run, which add up quickly. */
export function poolParts(sizes: PoolSizes, onLoad?: Activation): Parts {
  const { windows, parts } = poolRun(sizes, onLoad);
  const items = windows / itemWindows(sizes);
  return { count: (sizes.batch / items) * parts, pixelsOf: '0u', run: { pixels: items * product(sizes.input), parts } };
}

/** Windows along each axis, including those that an odd size cuts off. */
const windowsOf = ({ input, window }: PoolSizes): Triple =>
  input.map((n, axis) => Math.ceil(n / window[axis]!)) as unknown as Triple;

/** Threads of the backward pass: one per window and quad of channels. */
export const poolWindows = (sizes: PoolSizes): number =>
  sizes.batch * product(windowsOf(sizes)) * vectorsOf(sizes).quads;

export function maxPoolBackward(sizes: PoolSizes, { onLoad, base, sums = false }: PoolFusion = {}): string {
  const { V, S, quads } = vectorsOf(sizes);
  const { input, output, window: sides } = sizes;
  const width = sizes.channels / quads;
  const pixels = pixelsOf(sizes);
  const cut = coordinates.filter((_, axis) => input[axis]! % sides[axis]! !== 0);
  const windows = u32(sizes.batch * product(windowsOf(sizes)));
  const run = poolRun(sizes, onLoad);
  const grouped = onLoad?.groups !== undefined;
  const ofItem = (window: string): string => coefficientsAt(quads, onLoad, window, itemWindows(sizes));
  const start = grouped ? `\n  let start = part / ${u32(run.parts)} * ${u32(run.windows)};${ofItem('start')}` : '';
  let index = 3;
  // One of the window's pixels: its activation, and what its gradient becomes.
  const loadPixel = ({ name: p, apart }: WindowPixel): string => wgsl`
    let pixel_${p} = pixel + ${u32(apart)};
#if ${onLoad !== undefined}
    let centered_${p} = ${V}(x[pixel_${p} * ${u32(quads)} + quad]) - mean;
    let n_${p} = centered_${p} * scale + shift;
    let ${p} = tail(n_${p});
#else
    let ${p} = ${V}(x[pixel_${p} * ${u32(quads)} + quad]);
#endif`;
  const storePixel = ({ name: p }: WindowPixel, first = ''): string => wgsl`
    var g_${p} = ${first ? `select(${V}(0.0), g, ${first})` : `${V}(0.0)`};
#if ${base !== undefined}
    g_${p} += ${V}(base[pixel_${p} * ${u32((base?.row ?? 0) / width)} + ${u32((base?.offset ?? 0) / width)} + quad]);
#endif
#if ${sums}
    g_${p} *= ${leakyReluDerivative(`n_${p}`, V, onLoad?.slope ?? 0)};
    sum += g_${p};
    product += g_${p} * centered_${p};
#endif
    dx[pixel_${p} * ${u32(quads)} + quad] = ${S}(g_${p});`;
  // A window that is cut off has no maximum; its last pixel always lies outside.
  const insideOf = ({ at }: WindowPixel): string =>
    coordinates.flatMap((name, axis) => (at[axis] ? [`2u * ${name} + 1u < ${u32(input[axis]!)}`] : [])).join(' && ') ||
    'true';
  const single = (p: WindowPixel): string => wgsl`
      if (${insideOf(p)}) {
        ${loadPixel(p)}${storePixel(p)}
      }`;
  const firsts = pixels.slice(0, -1).map(({ name }, i) => {
    const before = pixels.slice(0, i).map((p) => `first_${p.name}`);
    return `let first_${name} = select(${name} == most, is_nan(${name}), nan)${before.length ? ` & !(${before.join(' | ')})` : ''};`;
  });
  const isFirst = pixels.map(({ name }, i) =>
    i < pixels.length - 1
      ? `first_${name}`
      : `!(${pixels
          .slice(0, -1)
          .map((p) => `first_${p.name}`)
          .join(' | ')})`,
  );
  const window = wgsl`
    ${coordinatesOf('window', windowsOf(sizes))}
    let pixel = ${firstPixel(sizes)};
#if ${cut.length > 0}
    if (${cut.map((name) => `${name} >= ${u32(output[coordinates.indexOf(name)]!)}`).join(' || ')}) {${pixels.slice(0, -1).map(single).join('')}
      ${sums ? 'continue' : 'return'};
    }
#endif
${pixels.map(loadPixel).join('')}
    let g = ${V}(dy[${pixelIndex(output, 'plane', 'row', 'column')} * ${u32(quads)} + quad]);
    let most = ${largestOf(pixels.map(({ name }) => name))};
    let nan = is_nan(most);
    ${firsts.join('\n    ')}
${pixels.map((p, i) => storePixel(p, isFirst[i])).join('')}`;
  return wgsl`${enable(sizes.dtype)}
alias V = ${V};
${nanFunctions(V === 'vec4f')}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read> dy: array<${S}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${S}>;
#if ${onLoad !== undefined}
@group(0) @binding(${index++}) var<storage, read> coefficients: array<${V}>;
${onLoad ? activationFunction(V, onLoad) : ''}
#endif
#if ${base !== undefined}
@group(0) @binding(${index++}) var<storage, read> base: array<${S}>;
#endif
#if ${sums}
@group(0) @binding(${index++}) var<storage, read_write> partials: array<${V}>;
#endif

@compute @workgroup_size(64)
fn max_pool_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  let quad = i % ${u32(quads)};
#if ${onLoad !== undefined && !grouped}
${coefficientsAt(quads, onLoad, '', 0)}
#endif
#if ${sums}
  let part = i / ${u32(quads)};
  if (part >= ${u32(poolParts(sizes, onLoad).count)}) { return; }${start}
  var sum = ${V}(0.0);
  var product = ${V}(0.0);
  for (var window = ${grouped ? `start + part % ${u32(run.parts)}` : 'part'}; window < ${grouped ? `start + ${u32(run.windows)}` : windows}; window += ${u32(run.parts)}) {
${window}
  }
  partials[part * ${u32(2 * quads)} + quad] = sum;
  partials[part * ${u32(2 * quads)} + ${u32(quads)} + quad] = product;
#else
  let window = i / ${u32(quads)};
  if (window >= ${windows}) { return; }${grouped ? ofItem('window') : ''}
${window}
#endif
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [3, 8].flatMap((channels) => {
      const flat = (height: number): PoolSizes => ({
        ...{
          dtype,
          batch: 2,
          channels,
          input: [1, height, 6],
          output: [1, Math.floor(height / 2), 3],
          window: [1, 2, 2],
        },
      });
      const solid: PoolSizes = { ...flat(5), input: [3, 5, 6], output: [1, 2, 3], window: [2, 2, 2] };
      const activation = { slope: 0.01, dropout: 0 };
      const grouped = { ...activation, groups: [1, 1] };
      const base = { row: 4 * channels, offset: channels };
      return [
        ...[flat(5), flat(4), solid].flatMap((s) => [
          maxPoolForward(s),
          maxPoolForward(s, { onLoad: activation }),
          maxPoolBackward(s),
          maxPoolBackward(s, { onLoad: activation }),
          maxPoolBackward(s, { base }),
          maxPoolBackward(s, { onLoad: activation, base, sums: true }),
          maxPoolForward(s, { onLoad: grouped }),
          maxPoolBackward(s, { onLoad: grouped }),
          maxPoolBackward(s, { onLoad: grouped, base, sums: true }),
        ]),
      ];
    }),
  );
