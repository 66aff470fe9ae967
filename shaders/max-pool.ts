// 2×2 maximum, stride 2, over [N, H, W, C]; odd last rows and columns are left out (floor, as PyTorch).
//   y = max of the window          dx = dy at the window's first maximum (row by row), 0 elsewhere
// Forward: one thread per output quad of channels. Backward: one thread per input quad finds its window's maximum again, so
// nothing is stored and every dx is written once.
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
    ? { V: 'vec4f', B: 'vec4<bool>', S: `vec4<${dtype}>`, quads: channels / 4 }
    : { V: 'f32', B: 'bool', S: dtype, quads: channels };

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

export function maxPoolBackward(sizes: PoolSizes): string {
  const { V, S, B, quads } = types(sizes);
  const [h, w] = [Math.floor(sizes.height / 2), Math.floor(sizes.width / 2)];
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read> dy: array<${S}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${S}>;

@compute @workgroup_size(64)
fn max_pool_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.batch * sizes.height * sizes.width * quads)}) { return; }
  let quad = i % ${u32(quads)};
  let column = (i / ${u32(quads)}) % ${u32(sizes.width)};
  let row = (i / ${u32(quads * sizes.width)}) % ${u32(sizes.height)};
  let item = i / ${u32(quads * sizes.width * sizes.height)};
  if (row / 2u >= ${u32(h)} || column / 2u >= ${u32(w)}) {
    dx[i] = ${S}(0.0);
    return;
  }
  let at = ((item * ${u32(sizes.height)} + (row & ~1u)) * ${u32(sizes.width)} + (column & ~1u)) * ${u32(quads)} + quad;
  let a = ${V}(x[at]);
  let b = ${V}(x[at + ${u32(quads)}]);
  let c = ${V}(x[at + ${u32(sizes.width * quads)}]);
  let d = ${V}(x[at + ${u32((sizes.width + 1) * quads)}]);
  let mine = (row & 1u) * 2u + (column & 1u);
  var first = ${B}(true);
  if (mine == 0u) {
    first = (a >= b) & (a >= c) & (a >= d);
  } else if (mine == 1u) {
    first = (b > a) & (b >= c) & (b >= d);
  } else if (mine == 2u) {
    first = (c > a) & (c > b) & (c >= d);
  } else {
    first = (d > a) & (d > b) & (d > c);
  }
  let source = ((item * ${u32(h)} + row / 2u) * ${u32(w)} + column / 2u) * ${u32(quads)} + quad;
  dx[i] = ${S}(select(${V}(0.0), ${V}(dy[source]), first));
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [3, 8].flatMap((channels) => {
      const sizes = { dtype, batch: 2, height: 5, width: 6, channels };
      return [maxPoolForward(sizes), maxPoolBackward(sizes)];
    }),
  );
