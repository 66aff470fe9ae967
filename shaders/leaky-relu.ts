// y = x > 0 ? x : slope·x          dx = (x > 0 ? 1 : slope)·dy
// One thread per element.
import { enable, type Float, f32, flatIndex, wgsl } from './wgsl.js';

export const leakyReluShader = (
  dtype: Float,
  slope: number,
  pass: 'forward' | 'backward',
): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> x: array<${dtype}>;
#if ${pass === 'forward'}
@group(0) @binding(1) var<storage, read_write> y: array<${dtype}>;
#else
@group(0) @binding(1) var<storage, read> dy: array<${dtype}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${dtype}>;
#endif

@compute @workgroup_size(64)
fn leaky_relu(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= arrayLength(&x)) { return; }
  let v = f32(x[i]);
#if ${pass === 'forward'}
  y[i] = ${dtype}(select(${f32(slope)} * v, v, v > 0.0));
#else
  dx[i] = ${dtype}(select(${f32(slope)}, 1.0, v > 0.0) * f32(dy[i]));
#endif
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) => [
    leakyReluShader(dtype, 0, 'forward'),
    leakyReluShader(dtype, 0.01, 'forward'),
    leakyReluShader(dtype, 0.01, 'backward'),
  ]);
