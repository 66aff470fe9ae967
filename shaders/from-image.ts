// y[row, column, c] = (v / 255 − mean[c]) / std[c], with v a channel's byte. Of one channel, v is the luma of ITU-R BT.601,
// 0.299 R + 0.587 G + 0.114 B, which is summed in whole thousandths. u8: v itself, rounded.
// A pixel is a word of x, red in the lowest byte; rows of x may be longer than those of the picture. One thread per element of y, or
// per four of u8.
import { flatIndex, wgsl } from './wgsl.js';

export function fromImageShader(dtype: 'f32' | 'u8', channels: 1 | 3 | 4): string {
  const luma = channels === 1;
  return wgsl`
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> numbers: array<f32>; // height, width, words of a row of x; mean and std of each channel
@group(0) @binding(2) var<storage, read_write> y: array<${dtype === 'u8' ? 'u32' : 'f32'}>;

// The element in bytes, or of luma in thousandths.
fn element(i: u32) -> u32 {
  let width = u32(numbers[1]);
  let pixel = i / ${channels}u;
  let word = x[pixel / width * u32(numbers[2]) + pixel % width];
#if ${luma}
  return 299u * (word & 0xffu) + 587u * ((word >> 8u) & 0xffu) + 114u * ((word >> 16u) & 0xffu);
#else
  return (word >> (8u * (i % ${channels}u))) & 0xffu;
#endif
}

@compute @workgroup_size(64)
fn from_image(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  let size = u32(numbers[0]) * u32(numbers[1]) * ${channels}u;
#if ${dtype === 'u8'}
  if (4u * i >= size) { return; }
  var bytes = 0u;
  for (var k = 0u; k < 4u; k++) {
    if (4u * i + k < size) { bytes |= ${luma ? '((element(4u * i + k) + 500u) / 1000u)' : 'element(4u * i + k)'} << (8u * k); }
  }
  y[i] = bytes;
#else
  if (i >= size) { return; }
  let c = i % ${channels}u;
  y[i] = (f32(element(i)) / ${luma ? '255000.0' : '255.0'} - numbers[3u + 2u * c]) / numbers[4u + 2u * c];
#endif
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'u8'] as const).flatMap((dtype) => ([1, 3, 4] as const).map((channels) => fromImageShader(dtype, channels)));
