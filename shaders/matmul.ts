// y[b] = A[b] · B[b], [m, k] × [k, n].   dA = dy · Bᵀ   dB = Aᵀ · dy
// Layouts 'nn', 'nt', 'tn' and 'tt' tell which factor is stored transposed, so that nothing is transposed in memory. Where a factor
// is repeated along an axis of the batch, `planes` tells which of its matrices each product takes, so that nothing is copied either.
// One thread computes 4 rows × 4 columns in four vec4 accumulators, four k at a time; a workgroup covers a tile of at most
// 8 × 8 such blocks. With splits > 1 thread blocks share k and write partial results [splits, batch, m, n] in f32.
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

export interface Matmul {
  readonly from: Float;
  readonly to: Float;
  readonly layout: 'nn' | 'nt' | 'tn' | 'tt';
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Splits of k, each of `chunk` (a multiple of 4) but the last. */
  readonly splits: number;
  readonly chunk: number;
  /** Not given: product i takes matrix i of both. */
  readonly planes?: Planes;
}

/** Axes of a batch, slowest first: their sizes, and how many matrices a step along each is in A and in B (0: repeated). */
export interface Planes {
  readonly sizes: readonly number[];
  readonly a: readonly number[];
  readonly b: readonly number[];
}

/** Expression: the first element of the matrix of a factor that product `plane` takes; a matrix has `size` elements. */
function beginOf(plane: string, { sizes }: Planes, strides: readonly number[], size: number): string {
  let inner = 1;
  const terms: string[] = [];
  for (let axis = sizes.length - 1; axis >= 0; axis--) {
    const index = axis ? `${plane} / ${u32(inner)} % ${u32(sizes[axis]!)}` : `${plane} / ${u32(inner)}`;
    if (strides[axis]) terms.push(`${index} * ${u32(strides[axis]! * size)}`);
    inner *= sizes[axis]!;
  }
  return terms.join(' + ') || '0u';
}

const r4 = [0, 1, 2, 3];

/** Tiles of 64 threads and how many blocks of 4 × 4 they cover. */
export function matmulTiles({ m, n }: { m: number; n: number }): {
  columns: number;
  rows: number;
  across: number;
  down: number;
} {
  const columns = n > 16 ? 8 : n > 8 ? 4 : n > 4 ? 2 : 1;
  const rows = 64 / columns;
  return { columns, rows, across: Math.ceil(n / (4 * columns)), down: Math.ceil(m / (4 * rows)) };
}

export function matmulShader(sizes: Matmul): string {
  const { from, to, layout, batch, m, n, k, splits, chunk, planes } = sizes;
  const { columns, across, down } = matmulTiles(sizes);
  const [transposedA, transposedB] = [layout[0] === 't', layout[1] === 't'];
  const rowOfA = transposedA ? m : k;
  const rowOfB = transposedB ? k : n;
  const array = (row: number, dtype: Float): string => (row % 4 === 0 ? `vec4<${dtype}>` : dtype);
  /** Four neighbours from element `i` on; `valid` of them exist, the others are 0. */
  const load = (name: string, row: number): string =>
    row % 4 === 0
      ? wgsl`fn ${name}4(i: u32, valid: u32) -> vec4f { return vec4f(${name}[i / 4u]); }`
      : wgsl`fn ${name}4(i: u32, valid: u32) -> vec4f {
  var v = vec4f(f32(${name}[i]), 0.0, 0.0, 0.0);
  if (valid > 1u) { v.y = f32(${name}[i + 1u]); }
  if (valid > 2u) { v.z = f32(${name}[i + 2u]); }
  if (valid > 3u) { v.w = f32(${name}[i + 3u]); }
  return v;
}`;
  const component = (i: number): string => 'xyzw'[i]!;
  const whole = k % 4 === 0;
  const depth = (i: number): string => (whole ? `(at + ${u32(i)})` : `min(at + ${u32(i)}, ${u32(k - 1)})`);
  // Both factors are 0 beyond k: 0 times an infinite number would be NaN.
  const within = (i: number, v: string): string =>
    whole || i === 0 ? v : `select(vec4f(0.0), ${v}, at + ${u32(i)} < ${u32(k)})`;
  const loadA = r4.map((i) => {
    if (!transposedA)
      return `let a${i} = a4(beginA + min(row + ${u32(i)}, ${u32(m - 1)}) * ${u32(k)} + at, ${u32(k)} - at);`;
    return `let a${i} = ${within(i, `a4(beginA + ${depth(i)} * ${u32(m)} + row, ${u32(m)} - row)`)};`;
  });
  const loadB = r4.map((i) =>
    transposedB
      ? `let b${i} = b4(beginB + min(column + ${u32(i)}, ${u32(n - 1)}) * ${u32(k)} + at, ${u32(k)} - at);`
      : `let b${i} = ${within(i, `b4(beginB + ${depth(i)} * ${u32(n)} + column, ${u32(n)} - column)`)};`,
  );
  const multiply = r4.map((r) => {
    if (layout === 'tt') {
      const row = `vec4f(${r4.map((i) => `a${i}.${component(r)}`).join(', ')})`;
      return `let row${r} = ${row}; c${r} += vec4f(${r4.map((j) => `dot(row${r}, b${j})`).join(', ')});`;
    }
    if (layout === 'nt') return `c${r} += vec4f(${r4.map((j) => `dot(a${r}, b${j})`).join(', ')});`;
    const factor = (i: number): string => (layout === 'nn' ? `a${r}.${component(i)}` : `a${i}.${component(r)}`);
    return `c${r} += ${r4.map((i) => `${factor(i)} * b${i}`).join(' + ')};`;
  });
  const store = r4.map((r) =>
    n % 4 === 0
      ? `if (row + ${u32(r)} < ${u32(m)}) { y[(beginY + (row + ${u32(r)}) * ${u32(n)} + column) / 4u] = ${array(n, to)}(c${r}); }`
      : `if (row + ${u32(r)} < ${u32(m)}) { store(beginY + (row + ${u32(r)}) * ${u32(n)} + column, ${u32(n)} - column, c${r}); }`,
  );
  const product = `plane % ${u32(batch)}`;
  const begins = planes
    ? `let product = ${product};
  let beginA = ${beginOf('product', planes, planes.a, m * k)};
  let beginB = ${beginOf('product', planes, planes.b, k * n)};`
    : `let beginA = ${product} * ${u32(m * k)};
  let beginB = ${product} * ${u32(k * n)};`;
  return wgsl`${enable(from === 'f16' || to === 'f16' ? 'f16' : 'f32')}
@group(0) @binding(0) var<storage, read> a: array<${array(rowOfA, from)}>;
@group(0) @binding(1) var<storage, read> b: array<${array(rowOfB, from)}>;
@group(0) @binding(2) var<storage, read_write> y: array<${array(n, to)}>;
${load('a', rowOfA)}
${load('b', rowOfB)}
#if ${n % 4 !== 0}
fn store(i: u32, valid: u32, v: vec4f) {
  y[i] = ${to}(v.x);
  if (valid > 1u) { y[i + 1u] = ${to}(v.y); }
  if (valid > 2u) { y[i + 2u] = ${to}(v.z); }
  if (valid > 3u) { y[i + 3u] = ${to}(v.w); }
}
#endif

@compute @workgroup_size(64)
fn matmul_${layout}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let thread = ${flatIndex(64)};
  let within = thread % 64u;
  let tile = thread / 64u;
  let plane = tile / ${u32(across * down)};
  let row = 4u * (tile % ${u32(across * down)} / ${u32(across)} * ${u32(64 / columns)} + within / ${u32(columns)});
  let column = 4u * (tile % ${u32(across)} * ${u32(columns)} + within % ${u32(columns)});
  if (plane >= ${u32(splits * batch)} || row >= ${u32(m)} || column >= ${u32(n)}) { return; }
  ${begins}
  let beginY = plane * ${u32(m * n)};
  let begin = plane / ${u32(batch)} * ${u32(chunk)};
  let end = min(begin + ${u32(chunk)}, ${u32(k)});
  var c0 = vec4f(0.0); var c1 = vec4f(0.0); var c2 = vec4f(0.0); var c3 = vec4f(0.0);
  for (var at = begin; at < end; at += 4u) {
    ${loadA.join('\n    ')}
    ${loadB.join('\n    ')}
    ${multiply.join('\n    ')}
  }
  ${store.join('\n  ')}
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    (['nn', 'nt', 'tn', 'tt'] as const).flatMap((layout) => {
      const kind = { from: dtype, layout, batch: 2 };
      const planes = { sizes: [2, 3, 2], a: [3, 1, 0], b: [0, 1, 3] };
      return [
        matmulShader({ ...kind, to: dtype, m: 32, n: 64, k: 16, splits: 1, chunk: 16 }),
        matmulShader({ ...kind, to: 'f32', m: 7, n: 5, k: 1001, splits: 4, chunk: 252 }),
        matmulShader({ ...kind, to: dtype, batch: 12, planes, m: 7, n: 8, k: 5, splits: 1, chunk: 8 }),
      ];
    }),
  );
