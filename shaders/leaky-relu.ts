// y = x > 0 ? x : slope·x          dx = (x > 0 ? 1 : slope)·dy          NaN where x is; slope 0 gives 0 for −∞, too
// One thread per element, or per four where the count is a multiple of four.
import { enable, type Float, flatIndex, nanFunctions, wgsl } from './wgsl.js';

export function leakyReluShader(dtype: Float, pass: 'forward' | 'backward', width: 1 | 4): string {
  const stored = width === 4 ? `vec4<${dtype}>` : dtype;
  const V = width === 4 ? 'vec4f' : 'f32';
  return wgsl`${enable(dtype)}
alias V = ${V};
${nanFunctions(width === 4)}
@group(0) @binding(0) var<storage, read> x: array<${stored}>;
#if ${pass === 'forward'}
@group(0) @binding(1) var<storage, read_write> y: array<${stored}>;
#else
@group(0) @binding(1) var<storage, read> dy: array<${stored}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${stored}>;
#endif
@group(0) @binding(3) var<storage, read> numbers: array<f32>; // the slope

@compute @workgroup_size(64)
fn leaky_relu(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= arrayLength(&x)) { return; }
  let v = V(x[i]);
  let slope = numbers[0];
#if ${pass === 'forward'}
  let below = select(slope * v, V(0.0), slope == 0.0);
  y[i] = ${stored}(keep_nan(v, select(below, v, v > V(0.0))));
#else
  dx[i] = ${stored}(keep_nan(v, select(V(slope), V(1.0), v > V(0.0)) * V(dy[i])));
#endif
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    ([1, 4] as const).flatMap((width) => [
      leakyReluShader(dtype, 'forward', width),
      leakyReluShader(dtype, 'backward', width),
    ]),
  );
