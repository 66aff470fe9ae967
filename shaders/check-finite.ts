// found = 1 if any element of x is NaN or infinite. Tests bits, since WGSL may assume that floats are finite.
// An invocation takes every (workgroups · 256)-th word; f16 is read as words of two elements.
import { type Float, wgsl } from './wgsl.js';

export const checkFiniteShader = (dtype: Float): string => wgsl`
@group(0) @binding(0) var<storage, read> x: array<${dtype === 'f16' ? 'u32' : 'f32'}>;
@group(0) @binding(1) var<storage, read_write> found: array<atomic<u32>>;

@compute @workgroup_size(256)
fn check_finite(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  for (var i = id.x; i < arrayLength(&x); i += groups.x * 256u) {
    let word = bitcast<u32>(x[i]);
#if ${dtype === 'f16'}
    let bad = (word & 0x7c00u) == 0x7c00u || (word & 0x7c000000u) == 0x7c000000u;
#else
    let bad = (word & 0x7f800000u) == 0x7f800000u;
#endif
    if (bad) { atomicStore(&found[0], 1u); }
  }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [checkFiniteShader('f32'), checkFiniteShader('f16')];
