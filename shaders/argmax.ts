// y[row] = the first k at which x[row, k] is NaN, else the first at which it is largest (as numpy); one byte each.
// One thread takes four rows and writes one word.
import { enable, type Float, flatIndex, nanFunctions, u32, wgsl } from './wgsl.js';

export const argmaxShader = (dtype: Float, rows: number, classes: number): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> x: array<${dtype}>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
alias V = f32;
${nanFunctions(false)}

fn class_of(row: u32) -> u32 {
  if (row >= ${u32(rows)}) { return 0u; }
  let begin = row * ${u32(classes)};
  var best = 0u;
  var most = f32(x[begin]);
  for (var k = 1u; k < ${u32(classes)}; k++) {
    let v = f32(x[begin + k]);
    if (!is_nan(most) && (is_nan(v) || v > most)) { most = v; best = k; }
  }
  return best;
}

@compute @workgroup_size(64)
fn argmax(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= arrayLength(&y)) { return; }
  let row = 4u * i;
  y[i] = class_of(row) | (class_of(row + 1u) << 8u) | (class_of(row + 2u) << 16u) | (class_of(row + 3u) << 24u);
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [argmaxShader('f32', 7, 4), argmaxShader('f16', 8, 3)];
