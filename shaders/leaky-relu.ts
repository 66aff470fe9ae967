// y = x > 0 ? x : slope·x          dx = (x > 0 ? 1 : slope)·dy
// One thread per element, or per four where their number allows.
import { enable, type Float, f32, flatIndex, wgsl } from './wgsl.js';

export function leakyReluShader(dtype: Float, slope: number, pass: 'forward' | 'backward', width: 1 | 4): string {
  const stored = width === 4 ? `vec4<${dtype}>` : dtype;
  const V = width === 4 ? 'vec4f' : 'f32';
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> x: array<${stored}>;
#if ${pass === 'forward'}
@group(0) @binding(1) var<storage, read_write> y: array<${stored}>;
#else
@group(0) @binding(1) var<storage, read> dy: array<${stored}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${stored}>;
#endif

@compute @workgroup_size(64)
fn leaky_relu(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= arrayLength(&x)) { return; }
  let v = ${V}(x[i]);
#if ${pass === 'forward'}
  y[i] = ${stored}(select(${f32(slope)} * v, v, v > ${V}(0.0)));
#else
  dx[i] = ${stored}(select(${V}(${f32(slope)}), ${V}(1.0), v > ${V}(0.0)) * ${V}(dy[i]));
#endif
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    ([1, 4] as const).flatMap((width) => [
      leakyReluShader(dtype, 0, 'forward', width),
      leakyReluShader(dtype, 0.01, 'forward', width),
      leakyReluShader(dtype, 0.01, 'backward', width),
    ]),
  );
