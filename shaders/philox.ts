// Philox4x32-10 in WGSL (Salmon et al., SC 2011), word for word the function of engine/random.ts.
import { wgsl } from './wgsl.js';

/** Defines `philox(counter: vec4u, key: vec2u) -> vec4u`, `uniform01(bits: u32) -> f32` in [0, 1) and `normal2(bits: vec2u) -> vec2f`. */
export const philox: string = wgsl`
fn mul_high(a: u32, b: u32) -> u32 {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let middle = a1 * b0 + ((a0 * b0) >> 16u);
  let cross = a0 * b1 + (middle & 0xffffu);
  return a1 * b1 + (middle >> 16u) + (cross >> 16u);
}
fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    c = vec4u(
      mul_high(0xcd9e8d57u, c.z) ^ c.y ^ k.x,
      0xcd9e8d57u * c.z,
      mul_high(0xd2511f53u, c.x) ^ c.w ^ k.y,
      0xd2511f53u * c.x,
    );
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}
fn uniform01(bits: u32) -> f32 { return f32(bits >> 8u) * 5.9604644775390625e-8; }
fn normal2(bits: vec2u) -> vec2f {
  let radius = sqrt(-2.0 * log(1.0 - uniform01(bits.x)));
  let angle = 6.283185307179586 * uniform01(bits.y);
  return radius * vec2f(cos(angle), sin(angle));
}`;
