// y[g] = Σ x[i]² over the 256 elements of workgroup g. The right answer needs loads, arithmetic, workgroup memory, barriers and stores.
// One thread per element; threads add up in a tree.
import { wgsl } from './wgsl.js';

export const verifyDeviceShader = (): string => wgsl`
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn verify_device(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3u) {
  let value = x[256u * group.x + thread];
  sums[thread] = value * value;
  for (var half = 128u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { sums[thread] += sums[thread + half]; }
  }
  if (thread == 0u) { y[group.x] = sums[0]; }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [verifyDeviceShader()];
