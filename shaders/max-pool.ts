// 2×2 maximum, stride 2, over [N, H, W, C]; odd last rows and columns are left out (floor, as PyTorch).
//   y = max of the window          dx = dy at the window's first maximum (row by row), 0 elsewhere
// A NaN is larger than any number.
// One thread per window and quad of channels. The backward pass finds the window's maximum again, so nothing is stored, and
// writes each of its dx once. Where x is a norm's activation that nobody has computed (conv-fusion.ts), both passes compute it
// from z as they load; the backward pass may add another gradient of x, of which x's channels are a slot, and give
// g = dx · l'(n) with the sums of g and g·(z − μ).
import { type Activation, activated, activatedGradient } from './conv-fusion.js';
import { enable, type Float, flatIndex, nanFunctions, u32, wgsl } from './wgsl.js';

export interface PoolSizes {
  readonly dtype: Float;
  readonly batch: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

const types = ({ dtype, channels }: PoolSizes) =>
  channels % 4 === 0
    ? { V: 'vec4f', S: `vec4<${dtype}>`, quads: channels / 4 }
    : { V: 'f32', S: dtype, quads: channels };

export interface PoolFusion {
  /** x is z, and `coefficients` are bound. No dropout. */
  readonly load?: Activation | undefined;
  /** Backward: `base` is bound and added; its pixels have `row` channels, x's begin at `offset`. */
  readonly base?: { readonly row: number; readonly offset: number } | undefined;
  /** Backward, with `load`: writes g and `partials` [parts, 2, C]. */
  readonly sums?: boolean;
}

const tailFunction = (V: string, { slope }: Activation): string => wgsl`
fn tail(n: ${V}) -> ${V} { return ${activated('n', V, slope)}; }`;

export function maxPoolForward(sizes: PoolSizes, { load }: PoolFusion = {}): string {
  const { V, S, quads } = types(sizes);
  const at = (index: string): string =>
    load ? `tail((${V}(x[${index}]) - mean) * scale + shift)` : `${V}(x[${index}])`;
  const [h, w] = [Math.floor(sizes.height / 2), Math.floor(sizes.width / 2)];
  return wgsl`${enable(sizes.dtype)}
alias V = ${V};
${nanFunctions(V === 'vec4f')}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read_write> y: array<${S}>;
#if ${load !== undefined}
@group(0) @binding(2) var<storage, read> coefficients: array<${V}>;
${load ? tailFunction(V, load) : ''}
#endif

@compute @workgroup_size(64)
fn max_pool(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.batch * h * w * quads)}) { return; }
  let quad = i % ${u32(quads)};
  let column = (i / ${u32(quads)}) % ${u32(w)};
  let row = (i / ${u32(quads * w)}) % ${u32(h)};
  let item = i / ${u32(quads * w * h)};
  let at = ((item * ${u32(sizes.height)} + 2u * row) * ${u32(sizes.width)} + 2u * column) * ${u32(quads)} + quad;
  let below = at + ${u32(sizes.width * quads)};
#if ${load !== undefined}
${coefficientsAt(quads)}
#endif
  y[i] = ${S}(largest(largest(${at('at')}, ${at(`at + ${u32(quads)}`)}), largest(${at('below')}, ${at(`below + ${u32(quads)}`)})));
}`;
}

const coefficientsAt = (quads: number): string => wgsl`
  let mean = coefficients[quad];
  let scale = coefficients[${u32(quads)} + quad];
  let shift = coefficients[${u32(2 * quads)} + quad];`;

/**
 * Parts of a backward pass with sums, each the windows p, p + parts, …: at least eight windows, and no more parts than what adds
 * them up takes in its stride.
 */
export const poolParts = (sizes: PoolSizes): number =>
  Math.min(4096, Math.ceil(poolWindows(sizes) / types(sizes).quads / 8));

/** Threads of the backward pass: one per window (also the cut-off ones at odd edges) and quad of channels. */
export const poolWindows = (sizes: PoolSizes): number =>
  sizes.batch * Math.ceil(sizes.height / 2) * Math.ceil(sizes.width / 2) * types(sizes).quads;

export function maxPoolBackward(sizes: PoolSizes, { load, base, sums = false }: PoolFusion = {}): string {
  const { V, S, quads } = types(sizes);
  const width = sizes.channels / quads;
  const [h, w] = [Math.floor(sizes.height / 2), Math.floor(sizes.width / 2)];
  const [rows, columns] = [Math.ceil(sizes.height / 2), Math.ceil(sizes.width / 2)];
  const odd = sizes.height % 2 === 1 || sizes.width % 2 === 1;
  const windows = u32(sizes.batch * rows * columns);
  const parts = u32(poolParts(sizes));
  let slot = 3;
  // One of the window's four pixels: its activation, and what its gradient becomes.
  const names = ['a', 'b', 'c', 'd'] as const;
  const pixelOf = { a: '0u', b: '1u', c: u32(sizes.width), d: u32(sizes.width + 1) };
  const loadPixel = (p: (typeof names)[number]): string => wgsl`
    let pixel_${p} = pixel + ${pixelOf[p]};
#if ${load !== undefined}
    let centered_${p} = ${V}(x[pixel_${p} * ${u32(quads)} + quad]) - mean;
    let n_${p} = centered_${p} * scale + shift;
    let ${p} = tail(n_${p});
#else
    let ${p} = ${V}(x[pixel_${p} * ${u32(quads)} + quad]);
#endif`;
  const storePixel = (p: (typeof names)[number], first = ''): string => wgsl`
    var g_${p} = ${first ? `select(${V}(0.0), g, ${first})` : `${V}(0.0)`};
#if ${base !== undefined}
    g_${p} += ${V}(base[pixel_${p} * ${u32((base?.row ?? 0) / width)} + ${u32((base?.offset ?? 0) / width)} + quad]);
#endif
#if ${sums}
    g_${p} *= ${activatedGradient(`n_${p}`, V, load?.slope ?? 0)};
    sum += g_${p};
    product += g_${p} * centered_${p};
#endif
    dx[pixel_${p} * ${u32(quads)} + quad] = ${S}(g_${p});`;
  const single = (p: (typeof names)[number], condition: string): string => wgsl`
      if (${condition}) {
        ${loadPixel(p)}${storePixel(p)}
      }`;
  const window = wgsl`
    let column = window % ${u32(columns)};
    let row = window / ${u32(columns)} % ${u32(rows)};
    let item = window / ${u32(columns * rows)};
    let pixel = (item * ${u32(sizes.height)} + 2u * row) * ${u32(sizes.width)} + 2u * column;
#if ${odd}
    if (row >= ${u32(h)} || column >= ${u32(w)}) {${single('a', 'true')}${single('b', `2u * column + 1u < ${u32(sizes.width)}`)}${single('c', `2u * row + 1u < ${u32(sizes.height)}`)}
      ${sums ? 'continue' : 'return'};
    }
#endif
${names.map(loadPixel).join('')}
    let g = ${V}(dy[((item * ${u32(h)} + row) * ${u32(w)} + column) * ${u32(quads)} + quad]);
    let most = largest(largest(a, b), largest(c, d));
    let nan = is_nan(most);
    let first_a = select(a == most, is_nan(a), nan);
    let first_b = select(b == most, is_nan(b), nan) & !first_a;
    let first_c = select(c == most, is_nan(c), nan) & !(first_a | first_b);
${storePixel('a', 'first_a')}${storePixel('b', 'first_b')}${storePixel('c', 'first_c')}${storePixel('d', '!(first_a | first_b | first_c)')}`;
  return wgsl`${enable(sizes.dtype)}
alias V = ${V};
${nanFunctions(V === 'vec4f')}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read> dy: array<${S}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${S}>;
#if ${load !== undefined}
@group(0) @binding(${slot++}) var<storage, read> coefficients: array<${V}>;
${load ? tailFunction(V, load) : ''}
#endif
#if ${base !== undefined}
@group(0) @binding(${slot++}) var<storage, read> base: array<${S}>;
#endif
#if ${sums}
@group(0) @binding(${slot++}) var<storage, read_write> partials: array<${V}>;
#endif

@compute @workgroup_size(64)
fn max_pool_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  let quad = i % ${u32(quads)};
#if ${load !== undefined}
${coefficientsAt(quads)}
#endif
#if ${sums}
  let part = i / ${u32(quads)};
  if (part >= ${parts}) { return; }
  var sum = ${V}(0.0);
  var product = ${V}(0.0);
  for (var window = part; window < ${windows}; window += ${parts}) {
${window}
  }
  partials[part * ${u32(2 * quads)} + quad] = sum;
  partials[part * ${u32(2 * quads)} + ${u32(quads)} + quad] = product;
#else
  let window = i / ${u32(quads)};
  if (window >= ${windows}) { return; }
${window}
#endif
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [3, 8].flatMap((channels) => {
      const sizes = { dtype, batch: 2, height: 5, width: 6, channels };
      const load = { slope: 0.01, dropout: 0 };
      const base = { row: 4 * channels, offset: channels };
      return [
        ...[sizes, { ...sizes, height: 4 }].flatMap((s) => [
          maxPoolForward(s),
          maxPoolForward(s, { load }),
          maxPoolBackward(s),
          maxPoolBackward(s, { load }),
          maxPoolBackward(s, { base }),
          maxPoolBackward(s, { load, base, sums: true }),
        ]),
      ];
    }),
  );
