// 2×2 maximum, stride 2, over [N, H, W, C]; odd last rows and columns are left out (floor, as PyTorch).
//   y = max of the window          dx = dy at the window's first maximum (row by row), 0 elsewhere
// One thread per window and quad of channels. The backward pass finds the window's maximum again, so nothing is stored, and
// writes each of its dx once.
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

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

export function maxPoolForward(sizes: PoolSizes): string {
  const { V, S, quads } = types(sizes);
  const [h, w] = [Math.floor(sizes.height / 2), Math.floor(sizes.width / 2)];
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read_write> y: array<${S}>;

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
  y[i] = ${S}(max(max(${V}(x[at]), ${V}(x[at + ${u32(quads)}])), max(${V}(x[below]), ${V}(x[below + ${u32(quads)}]))));
}`;
}

/** Threads of the backward pass: one per window (also the cut-off ones at odd edges) and quad of channels. */
export const poolWindows = (sizes: PoolSizes): number =>
  sizes.batch * Math.ceil(sizes.height / 2) * Math.ceil(sizes.width / 2) * types(sizes).quads;

export function maxPoolBackward(sizes: PoolSizes): string {
  const { V, S, quads } = types(sizes);
  const [h, w] = [Math.floor(sizes.height / 2), Math.floor(sizes.width / 2)];
  const [rows, columns] = [Math.ceil(sizes.height / 2), Math.ceil(sizes.width / 2)];
  const [odd, right, below] = [sizes.height % 2 === 1 || sizes.width % 2 === 1, quads, sizes.width * quads];
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read> dy: array<${S}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${S}>;

@compute @workgroup_size(64)
fn max_pool_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(poolWindows(sizes))}) { return; }
  let quad = i % ${u32(quads)};
  let column = (i / ${u32(quads)}) % ${u32(columns)};
  let row = (i / ${u32(quads * columns)}) % ${u32(rows)};
  let item = i / ${u32(quads * columns * rows)};
  let at = ((item * ${u32(sizes.height)} + 2u * row) * ${u32(sizes.width)} + 2u * column) * ${u32(quads)} + quad;
#if ${odd}
  if (row >= ${u32(h)} || column >= ${u32(w)}) {
    dx[at] = ${S}(0.0);
    if (2u * column + 1u < ${u32(sizes.width)}) { dx[at + ${u32(right)}] = ${S}(0.0); }
    if (2u * row + 1u < ${u32(sizes.height)}) { dx[at + ${u32(below)}] = ${S}(0.0); }
    return;
  }
#endif
  let a = ${V}(x[at]);
  let b = ${V}(x[at + ${u32(right)}]);
  let c = ${V}(x[at + ${u32(below)}]);
  let d = ${V}(x[at + ${u32(below + right)}]);
  let g = ${V}(dy[((item * ${u32(h)} + row) * ${u32(w)} + column) * ${u32(quads)} + quad]);
  let zero = ${V}(0.0);
  let most = max(max(a, b), max(c, d));
  let first_a = a == most;
  let first_b = (b == most) & !first_a;
  let first_c = (c == most) & !(first_a | first_b);
  dx[at] = ${S}(select(zero, g, first_a));
  dx[at + ${u32(right)}] = ${S}(select(zero, g, first_b));
  dx[at + ${u32(below)}] = ${S}(select(zero, g, first_c));
  dx[at + ${u32(below + right)}] = ${S}(select(zero, g, !(first_a | first_b | first_c)));
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [3, 8].flatMap((channels) => {
      const sizes = { dtype, batch: 2, height: 5, width: 6, channels };
      return [maxPoolForward(sizes), maxPoolBackward(sizes), maxPoolBackward({ ...sizes, height: 4 })];
    }),
  );
