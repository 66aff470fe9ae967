// sum = a + b, elementwise: how autograd adds the gradients of a tensor that is used more than once.
import { enable, type Float, flatIndex, wgsl } from './wgsl.js';

export const accumulateShader = (dtype: Float): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> a: array<${dtype}>;
@group(0) @binding(1) var<storage, read> b: array<${dtype}>;
@group(0) @binding(2) var<storage, read_write> sum: array<${dtype}>;

@compute @workgroup_size(64)
fn accumulate(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i < arrayLength(&sum)) { sum[i] = ${dtype}(f32(a[i]) + f32(b[i])); }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [accumulateShader('f32'), accumulateShader('f16')];
