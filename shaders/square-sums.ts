// Norms of gradients: partials [parts] = sums of squares of x, thread t adds up elements t, t + parts, …; then of all partials together
//   norm = √Σ (times `unscale`, where the gradients are scaled),   factor = maxNorm/norm where that is less than 1, else 1
import { u32, wgsl } from './wgsl.js';

/** `parts` is a multiple of 64. */
export const squareSums = (parts: number): string => wgsl`
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn square_sums(@builtin(global_invocation_id) id: vec3u) {
  var sum = 0.0;
  for (var i = id.x; i < arrayLength(&x); i += ${u32(parts)}) { sum += x[i] * x[i]; }
  partials[id.x] = sum;
}`;

/** `numbers` holds maxNorm. */
export const clipFactor = (scaled: boolean): string => wgsl`
@group(0) @binding(0) var<storage, read> sum: array<f32>;
@group(0) @binding(1) var<storage, read> numbers: array<f32>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> factor: array<f32>;
#if ${scaled}
@group(0) @binding(4) var<storage, read> unscale: array<f32>;
#endif

@compute @workgroup_size(1)
fn clip_factor() {
  let n = sqrt(sum[0])${scaled ? ' * unscale[0]' : ''};
  norm[0] = n;
  factor[0] = select(1.0, numbers[0] / n, n > numbers[0]);
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [squareSums(64), squareSums(4096), clipFactor(false), clipFactor(true)];
