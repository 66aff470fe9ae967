// y = x in another storage type, rounded to the nearest; beyond f16's range it becomes infinite. One thread per element, or per four
// where the count is a multiple of four.
import { type Float, flatIndex, wgsl } from './wgsl.js';

export function castShader(from: Float, to: Float, width: 1 | 4): string {
  const type = (dtype: Float): string => (width === 4 ? `vec4<${dtype}>` : dtype);
  return wgsl`enable f16;
@group(0) @binding(0) var<storage, read> x: array<${type(from)}>;
@group(0) @binding(1) var<storage, read_write> y: array<${type(to)}>;

@compute @workgroup_size(64)
fn convert_type(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i < arrayLength(&y)) { y[i] = ${type(to)}(x[i]); }
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  ([1, 4] as const).flatMap((width) => [castShader('f32', 'f16', width), castShader('f16', 'f32', width)]);
