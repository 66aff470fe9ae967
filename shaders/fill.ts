// y = value everywhere.
import { enable, type Float, f32, flatIndex, wgsl } from './wgsl.js';

export const fillShader = (dtype: Float | 'u32', value: number): string => wgsl`${dtype === 'u32' ? '' : enable(dtype)}
@group(0) @binding(0) var<storage, read_write> y: array<${dtype}>;

@compute @workgroup_size(64)
fn fill(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i < arrayLength(&y)) { y[i] = ${dtype}(${f32(value)}); }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [fillShader('f32', 1), fillShader('f16', -0.5), fillShader('u32', 0)];
