// y = x / (1 − rate) where u ≥ rate, else 0; u is uniform in [0, 1), one for each element, or for each item and channel. The gradient
// is the same kernel on dy.
// One thread per four elements: block b draws philox(counter = (b, step, 0, 0), key = (seed, stream)), so that no mask need be kept.
import { philox } from './philox.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

export const dropoutShader = (dtype: Float, size: number): string => wgsl`${enable(dtype)}
${philox}
@group(0) @binding(0) var<storage, read> random: array<u32>; // seed, step
@group(0) @binding(1) var<storage, read> stream: array<u32>;
#if ${size % 4 === 0}
@group(0) @binding(2) var<storage, read> x: array<vec4<${dtype}>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<${dtype}>>;
#else
@group(0) @binding(2) var<storage, read> x: array<${dtype}>;
@group(0) @binding(3) var<storage, read_write> y: array<${dtype}>;
#endif

@group(0) @binding(4) var<storage, read> numbers: array<f32>; // rate, 1 / (1 - rate)

fn factor(bits: u32) -> f32 { return select(0.0, numbers[1], uniform01(bits) >= numbers[0]); }

@compute @workgroup_size(64)
fn dropout(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let block = ${flatIndex(64)};
#if ${size % 4 === 0}
  if (block >= arrayLength(&x)) { return; }
  let bits = philox(vec4u(block, random[1], 0u, 0u), vec2u(random[0], stream[0]));
  let factors = vec4f(factor(bits.x), factor(bits.y), factor(bits.z), factor(bits.w));
  y[block] = vec4<${dtype}>(vec4f(x[block]) * factors);
#else
  let i = 4u * block;
  if (i >= ${u32(size)}) { return; }
  let bits = philox(vec4u(block, random[1], 0u, 0u), vec2u(random[0], stream[0]));
  y[i] = ${dtype}(f32(x[i]) * factor(bits.x));
  if (i + 1u < ${u32(size)}) { y[i + 1u] = ${dtype}(f32(x[i + 1u]) * factor(bits.y)); }
  if (i + 2u < ${u32(size)}) { y[i + 2u] = ${dtype}(f32(x[i + 2u]) * factor(bits.z)); }
  if (i + 3u < ${u32(size)}) { y[i + 3u] = ${dtype}(f32(x[i + 3u]) * factor(bits.w)); }
#endif
}`;

/**
 * Drops whole channels: one number for each of [items, channels]; an item has `size / items` elements. One thread per four elements
 * where the channel count is a multiple of four, else per element.
 */
export function channelDropoutShader(
  dtype: Float,
  { size, items, channels }: { readonly size: number; readonly items: number; readonly channels: number },
): string {
  const lanes = channels % 4 === 0 ? 4 : 1;
  const type = lanes === 4 ? `vec4<${dtype}>` : dtype;
  return wgsl`${enable(dtype)}
${philox}
@group(0) @binding(0) var<storage, read> random: array<u32>; // seed, step
@group(0) @binding(1) var<storage, read> stream: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<${type}>;
@group(0) @binding(3) var<storage, read_write> y: array<${type}>;
@group(0) @binding(4) var<storage, read> numbers: array<f32>; // rate, 1 / (1 - rate)

fn factor(bits: u32) -> f32 { return select(0.0, numbers[1], uniform01(bits) >= numbers[0]); }

@compute @workgroup_size(64)
fn channel_dropout(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(size / lanes)}) { return; }
  let item = i / ${u32(size / items / lanes)};
  let number = item * ${u32(channels)} + ${u32(lanes)} * (i % ${u32(channels / lanes)});
  let bits = philox(vec4u(number / 4u, random[1], 0u, 0u), vec2u(random[0], stream[0]));
#if ${lanes === 4}
  y[i] = ${type}(vec4f(x[i]) * vec4f(factor(bits.x), factor(bits.y), factor(bits.z), factor(bits.w)));
#else
  y[i] = ${type}(f32(x[i]) * factor(bits[number & 3u]));
#endif
}`;
}

/**
 * Coefficients [items, 4, channels] of an activation whose channels are dropped: d·l((z − μ)·s + β) = l((z − μ)·d·s + d·β), as
 * LeakyReLU l keeps positive factors. From coefficients [groups, 4, channels], with `groupOfItem` an expression of `item`; the same
 * numbers as `channelDropoutShader`. One thread per item and channel.
 */
export const droppedCoefficientsShader = (
  { items, channels }: { readonly items: number; readonly channels: number },
  groupOfItem: string,
): string => wgsl`
${philox}
@group(0) @binding(0) var<storage, read> random: array<u32>; // seed, step
@group(0) @binding(1) var<storage, read> stream: array<u32>;
@group(0) @binding(2) var<storage, read> coefficients: array<f32>;
@group(0) @binding(3) var<storage, read_write> dropped: array<f32>;
@group(0) @binding(4) var<storage, read> numbers: array<f32>; // rate, 1 / (1 - rate)

fn factor(bits: u32) -> f32 { return select(0.0, numbers[1], uniform01(bits) >= numbers[0]); }

@compute @workgroup_size(64)
fn dropped_coefficients(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let number = ${flatIndex(64)};
  if (number >= ${u32(items * channels)}) { return; }
  let item = number / ${u32(channels)};
  let c = number % ${u32(channels)};
  let bits = philox(vec4u(number / 4u, random[1], 0u, 0u), vec2u(random[0], stream[0]));
  let d = factor(bits[number & 3u]);
  let source = ${groupOfItem} * ${u32(4 * channels)} + c;
  let place = item * ${u32(4 * channels)} + c;
  dropped[place] = coefficients[source];
  dropped[place + ${u32(channels)}] = d * coefficients[source + ${u32(channels)}];
  dropped[place + ${u32(2 * channels)}] = d * coefficients[source + ${u32(2 * channels)}];
  dropped[place + ${u32(3 * channels)}] = coefficients[source + ${u32(3 * channels)}];
}`;

/**
 * The bits of `mask`: 1 where u ≥ rate, for 32 elements a word, so that kernels on a GPU that need them several times read them. The
 * same numbers as `dropoutShader`. One thread per word. Bits beyond the last element mean nothing.
 */
export const dropoutMaskShader: string = wgsl`
${philox}
@group(0) @binding(0) var<storage, read> random: array<u32>; // seed, step
@group(0) @binding(1) var<storage, read> stream: array<u32>;
@group(0) @binding(2) var<storage, read_write> mask: array<u32>;
@group(0) @binding(3) var<storage, read> numbers: array<f32>; // rate

fn bit(bits: u32) -> u32 { return select(0u, 1u, uniform01(bits) >= numbers[0]); }

@compute @workgroup_size(64)
fn dropout_mask(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let word = ${flatIndex(64)};
  if (word >= arrayLength(&mask)) { return; }
  var kept = 0u;
  for (var k = 0u; k < 8u; k++) {
    let bits = philox(vec4u(8u * word + k, random[1], 0u, 0u), vec2u(random[0], stream[0]));
    kept |= (bit(bits.x) | (bit(bits.y) << 1u) | (bit(bits.z) << 2u) | (bit(bits.w) << 3u)) << (4u * k);
  }
  mask[word] = kept;
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [
  dropoutMaskShader,
  droppedCoefficientsShader({ items: 2, channels: 3 }, 'u32(item >= 1)'),
  ...(['f32', 'f16'] as const).flatMap((dtype) => [
    ...[64, 7].map((size) => dropoutShader(dtype, size)),
    ...[8, 3].map((channels) => channelDropoutShader(dtype, { size: 30 * channels, items: 2, channels })),
  ]),
];
