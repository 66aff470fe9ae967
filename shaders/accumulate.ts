// sum = a + b, elementwise: adds the gradients of a tensor that is used more than once.
import { enable, type Float, flatIndex, wgsl } from './wgsl.js';

export function accumulateShader(dtype: Float, width: 1 | 4): string {
  const stored = width === 4 ? `vec4<${dtype}>` : dtype;
  const V = width === 4 ? 'vec4f' : 'f32';
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> a: array<${stored}>;
@group(0) @binding(1) var<storage, read> b: array<${stored}>;
@group(0) @binding(2) var<storage, read_write> sum: array<${stored}>;

@compute @workgroup_size(64)
fn accumulate(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i < arrayLength(&sum)) { sum[i] = ${stored}(${V}(a[i]) + ${V}(b[i])); }
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) => [accumulateShader(dtype, 1), accumulateShader(dtype, 4)]);
