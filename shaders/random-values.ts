// y = scale · u + shift, u uniform in [0, 1) or standard normal (Box–Muller), one number per element.
// One thread per four elements: block b draws philox(counter = (b, step, 0, 0), key = (seed, stream)).
import { philox } from './philox.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

export const randomValuesShader = (
  dtype: Float,
  kind: 'uniform' | 'normal',
  size: number,
): string => wgsl`${enable(dtype)}
${philox}
@group(0) @binding(0) var<storage, read> random: array<u32>; // seed, step
@group(0) @binding(1) var<storage, read> stream: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<${dtype}>;
@group(0) @binding(3) var<storage, read> numbers: array<f32>; // scale, shift

@compute @workgroup_size(64)
fn random_${kind}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let block = ${flatIndex(64)};
  let i = 4u * block;
  if (i >= ${u32(size)}) { return; }
  let bits = philox(vec4u(block, random[1], 0u, 0u), vec2u(random[0], stream[0]));
#if ${kind === 'uniform'}
  let drawn = vec4f(uniform01(bits.x), uniform01(bits.y), uniform01(bits.z), uniform01(bits.w));
#else
  let drawn = vec4f(normal2(bits.xy), normal2(bits.zw));
#endif
  let values = numbers[0] * drawn + numbers[1];
  y[i] = ${dtype}(values.x);
  if (i + 1u < ${u32(size)}) { y[i + 1u] = ${dtype}(values.y); }
  if (i + 2u < ${u32(size)}) { y[i + 2u] = ${dtype}(values.z); }
  if (i + 3u < ${u32(size)}) { y[i + 3u] = ${dtype}(values.w); }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    (['uniform', 'normal'] as const).map((kind) => randomValuesShader(dtype, kind, 7)),
  );
