// What kernels of different tiles agree on in their partial sums: those of a plane, however many parts it is cut into. Only the tuner
// uses it, to compare candidates; in a step the norm adds up the parts.
//   statistics: mean and Σ (y − mean)² / pixels, merged after Chan, Golub and LeVeque (1983)      else: the two sums
// One thread for each plane and channel.
import { flatIndex, u32, wgsl } from '../wgsl.js';
import type { Parts } from './geometry.js';

/** partials [parts, 2, C] → merged [planes, 2, C]. Every plane has as many parts as the others, one plane after another. */
export function mergedPartsShader(
  { count, pixelsOf }: Parts,
  { planes, channels, statistics }: { planes: number; channels: number; statistics: boolean },
): string {
  const parts = count / planes;
  if (!Number.isInteger(parts)) throw new TypeError(`mergedPartsShader: ${count} parts of ${planes} planes`);
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> merged: array<f32>;

@compute @workgroup_size(64)
fn conv_merged_parts(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(planes * channels)}) { return; }
  let plane = i / ${u32(channels)};
  let channel = i % ${u32(channels)};
  var pixels = 0.0;
  var first = 0.0;
  var second = 0.0;
  for (var part = plane * ${u32(parts)}; part < (plane + 1u) * ${u32(parts)}; part++) {
    let a = partials[part * ${u32(2 * channels)} + channel];
    let b = partials[part * ${u32(2 * channels)} + ${u32(channels)} + channel];
#if ${statistics}
    let own = f32(${pixelsOf});
    let apart = a - first;
    let share = own / (pixels + own);
    first += apart * share;
    second += b + apart * apart * pixels * share;
    pixels += own;
#else
    first += a;
    second += b;
#endif
  }
  merged[plane * ${u32(2 * channels)} + channel] = first;
  merged[plane * ${u32(2 * channels)} + ${u32(channels)} + channel] = second${statistics ? ' / pixels' : ''};
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  [true, false].map((statistics) =>
    mergedPartsShader(
      { count: 12, pixelsOf: 'min(4u, 13u - part % 4u * 4u)', run: { pixels: 13, parts: 4 } },
      { planes: 3, channels: 5, statistics },
    ),
  );
