// y = x + clamp(deviation · n, −clip, clip), n standard normal (Box–Muller), one per element; the gradient is dy itself.
// One thread per four elements: block b draws philox(counter = (b, step, 0, 0), key = (seed, stream)).
import { philox } from './philox.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

export const gaussianNoiseShader = (dtype: Float, size: number): string => wgsl`${enable(dtype)}
${philox}
@group(0) @binding(0) var<storage, read> random: array<u32>; // seed, step
@group(0) @binding(1) var<storage, read> stream: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<${dtype}>;
@group(0) @binding(3) var<storage, read_write> y: array<${dtype}>;
@group(0) @binding(4) var<storage, read> numbers: array<f32>; // deviation, clip

@compute @workgroup_size(64)
fn gaussian_noise(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let block = ${flatIndex(64)};
  let i = 4u * block;
  if (i >= ${u32(size)}) { return; }
  let bits = philox(vec4u(block, random[1], 0u, 0u), vec2u(random[0], stream[0]));
  let noise = clamp(numbers[0] * vec4f(normal2(bits.xy), normal2(bits.zw)), vec4f(-numbers[1]), vec4f(numbers[1]));
  y[i] = ${dtype}(f32(x[i]) + noise.x);
  if (i + 1u < ${u32(size)}) { y[i + 1u] = ${dtype}(f32(x[i + 1u]) + noise.y); }
  if (i + 2u < ${u32(size)}) { y[i + 2u] = ${dtype}(f32(x[i + 2u]) + noise.z); }
  if (i + 3u < ${u32(size)}) { y[i + 3u] = ${dtype}(f32(x[i + 3u]) + noise.w); }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) => [64, 7].map((size) => gaussianNoiseShader(dtype, size)));
