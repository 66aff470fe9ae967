// y = x, element for element, over what y holds.
// One thread per element, or per four where their number allows it; u8 moves as words.
import { enable, flatIndex, wgsl } from './wgsl.js';

export function assignShader(dtype: 'f32' | 'f16' | 'u32' | 'i32', width: 1 | 4): string {
  const stored = width === 4 ? `vec4<${dtype}>` : dtype;
  return wgsl`${enable(dtype === 'f16' ? 'f16' : 'f32')}
@group(0) @binding(0) var<storage, read> x: array<${stored}>;
@group(0) @binding(1) var<storage, read_write> y: array<${stored}>;

@compute @workgroup_size(64)
fn assign(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i < arrayLength(&y)) { y[i] = x[i]; }
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16', 'u32', 'i32'] as const).flatMap((dtype) => [assignShader(dtype, 1), assignShader(dtype, 4)]);
