// What the tuner does with the tensors of a trial, so that none of them has to come back to the CPU: fills one with a pattern, finds
// the largest value of the reference's output, and compares a candidate's output with it. An invocation takes every
// (workgroups · 256)-th word or element. `found` must be set beforehand; its atomics hold whole numbers, so their order is no matter.
import { type Float, wgsl } from './wgsl.js';

/** Threads of a workgroup of these kernels. */
export const tunerWorkgroup = 256;

/** What an output holds. Integers are compared word by word. */
export type OutputType = Float | 'integer';

const head = (name: string): string => wgsl`
@compute @workgroup_size(256)
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {`;

/** words[i] = pattern[i mod its length]. */
export const repeatShader: string = wgsl`
@group(0) @binding(0) var<storage, read> pattern: array<u32>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
${head('tuner_repeat')}
  for (var i = id.x; i < arrayLength(&words); i += groups.x * 256u) { words[i] = pattern[i % arrayLength(&pattern)]; }
}`;

/** Defines `bits_at`: the bits of an element; f16 lies in halves of words. */
const bitsAt = (type: OutputType): string => wgsl`
#if ${type === 'f16'}
fn bits_at(word: u32, i: u32) -> u32 { return (word >> (16u * (i & 1u))) & 0xffffu; }
fn word_at(i: u32) -> u32 { return i / 2u; }
#else
fn bits_at(word: u32, i: u32) -> u32 { return word; }
fn word_at(i: u32) -> u32 { return i; }
#endif`;

/**
 * found[at] = the largest |x|, as bits: they are in the order of the numbers, infinity and NaN above all others. Of integers: the
 * largest as u32. `limits`: number of elements, (unused) ×2, at.
 */
export const largestShader = (type: OutputType): string => wgsl`
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> limits: array<u32>;
@group(0) @binding(2) var<storage, read_write> found: array<atomic<u32>>;
${bitsAt(type)}
${head('tuner_largest')}
  var largest = 0u;
  for (var i = id.x; i < limits[0]; i += groups.x * 256u) {
    largest = max(largest, bits_at(x[word_at(i)], i)${type === 'integer' ? '' : ` & ${type === 'f16' ? '0x7fffu' : '0x7fffffffu'}`});
  }
  if (largest > 0u) { atomicMax(&found[limits[3]], largest); }
}`;

/**
 * found[at] = the first i where |got − expected| > rounding + lastPlace · |expected|, or got is not finite. `limits`: number of
 * elements, bits of the f32 numbers rounding and lastPlace, at. Integers must be equal.
 */
export const compareShader = (type: OutputType): string => wgsl`
@group(0) @binding(0) var<storage, read> expected: array<u32>;
@group(0) @binding(1) var<storage, read> got: array<u32>;
@group(0) @binding(2) var<storage, read> limits: array<u32>;
@group(0) @binding(3) var<storage, read_write> found: array<atomic<u32>>;
${bitsAt(type)}
#if ${type === 'f16'}
fn is_finite(bits: u32) -> bool { return (bits & 0x7c00u) != 0x7c00u; }
fn value(bits: u32) -> f32 { return unpack2x16float(bits).x; }
#elif ${type === 'f32'}
fn is_finite(bits: u32) -> bool { return (bits & 0x7f800000u) != 0x7f800000u; }
fn value(bits: u32) -> f32 { return bitcast<f32>(bits); }
#endif
${head('tuner_compare')}
  for (var i = id.x; i < limits[0]; i += groups.x * 256u) {
    let a = bits_at(expected[word_at(i)], i);
    let b = bits_at(got[word_at(i)], i);
    if (a == b) { continue; }
#if ${type !== 'integer'}
    let allowed = bitcast<f32>(limits[1]) + bitcast<f32>(limits[2]) * abs(value(a));
    if (is_finite(b) && abs(value(a) - value(b)) <= allowed) { continue; }
#endif
    atomicMin(&found[limits[3]], i);
    break;
  }
}`;

/** limits[1] = the fraction `share[1]` of the number whose bits are found[share[3]]. One thread works. */
export const allowShader = (type: OutputType): string => wgsl`
@group(0) @binding(0) var<storage, read> found: array<u32>;
@group(0) @binding(1) var<storage, read> share: array<u32>;
@group(0) @binding(2) var<storage, read_write> limits: array<u32>;
${head('tuner_allow')}
  let bits = found[share[3]];
  let largest = ${type === 'f16' ? 'unpack2x16float(bits).x' : 'bitcast<f32>(bits)'};
  if (id.x == 0u) { limits[1] = bitcast<u32>(bitcast<f32>(share[1]) * largest); }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [
  repeatShader,
  ...(['f32', 'f16', 'integer'] as const).flatMap((type) => [largestShader(type), compareShader(type)]),
  ...(['f32', 'f16'] as const).map(allowShader),
];
