// Snippets for kernels that walk the K class values of a pixel in a loop, where K is too large for named scalars. Up to 256 classes
// one thread takes a pixel; beyond that a workgroup does, and adds up in a tree. Classes go four at a time where K is a multiple of
// four. Every order is fixed.
import type { Float } from './wgsl.js';
import { flatIndex, u32, wgsl } from './wgsl.js';

/** Threads of a workgroup, whichever way it walks. */
const workgroup = 64;

/** How the classes of the pixels are walked. */
export interface RowWalk {
  /** Whether a workgroup shares a pixel. */
  readonly shared: boolean;
  /** Invocations of the whole grid. */
  readonly threads: number;
  readonly pixels: number;
  /** Class values at a time: 4 or 1; `width` · `count` = K. */
  readonly width: 1 | 4;
  readonly count: number;
}

export function rowWalk({ pixels, classes }: { pixels: number; classes: number }): RowWalk {
  const shared = classes > 256;
  const width = classes % 4 === 0 ? 4 : 1;
  return { shared, threads: shared ? pixels * workgroup : pixels, pixels, width, count: classes / width };
}

/** Element type of an array of [..., K] values. */
export const storedAs = (dtype: Float, { width }: RowWalk): string => (width === 4 ? `vec4<${dtype}>` : dtype);

/** Module scope: V, the working type of the class values, functions that fold one, and the workgroup memory where threads meet. */
export const rowMemory = ({ shared, width }: RowWalk): string => wgsl`
#if ${width === 4}
alias V = vec4f;
fn largest(v: V) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }
fn total(v: V) -> f32 { return (v.x + v.y) + (v.z + v.w); }
#else
alias V = f32;
fn largest(v: V) -> f32 { return v; }
fn total(v: V) -> f32 { return v; }
#endif
#if ${shared}
var<workgroup> shared_values: array<f32, ${workgroup}>;
#endif`;

/** The head of the entry function (workgroups of 64 threads), which defines `pixel`, and `begin`, the index of its first value. */
export const rowHead = (name: string, { shared, pixels, count }: RowWalk): string => wgsl`
#if ${shared}
fn ${name}(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  let pixel = group.y * groups.x + group.x;
#else
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let pixel = ${flatIndex(workgroup)};
#endif
  if (pixel >= ${u32(pixels)}) { return; }
  let begin = pixel * ${u32(count)};`;

/** A loop over this thread's class values of the pixel; `k` counts them, four at a time where `width` is 4. */
export const overRow = ({ shared, count }: RowWalk, body: string): string =>
  shared
    ? `for (var k = thread; k < ${u32(count)}; k += ${u32(workgroup)}) { ${body} }`
    : `for (var k = 0u; k < ${u32(count)}; k++) { ${body} }`;

/** `let name`: the sum or the maximum of the f32 `value` over the threads that share the pixel. */
export function meet({ shared }: RowWalk, name: string, value: string, kind: 'sum' | 'max'): string {
  if (!shared) return `let ${name} = ${value};`;
  const [mine, other] = ['shared_values[thread]', 'shared_values[thread + half]'];
  return wgsl`
  workgroupBarrier();
  shared_values[thread] = ${value};
  for (var half = ${u32(workgroup / 2)}; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { ${mine} = ${kind === 'sum' ? `${mine} + ${other}` : `max(${mine}, ${other})`}; }
  }
  workgroupBarrier();
  let ${name} = shared_values[0];`;
}

/** Expression: 1 for the class values of index `k` that are class `y`, else 0. */
export const hereOf = ({ width }: RowWalk, y: string): string =>
  width === 4
    ? `select(vec4f(0.0), vec4f(1.0), vec4u(4u * k, 4u * k + 1u, 4u * k + 2u, 4u * k + 3u) == vec4u(${y}))`
    : `select(0.0, 1.0, k == ${y})`;
