// Dynamic loss scaling: after a backward pass with finite gradients only, unscale = 1/scale, and after `interval` such passes in a
// row scale doubles. After any other pass, unscale = 0 (the optimizer changes nothing) and scale halves. Powers of two are exact. One
// thread.
import { f32, wgsl } from './wgsl.js';

export interface LossScaleLimits {
  readonly interval: number;
  readonly least: number;
  readonly most: number;
}

export const lossScaleShader = ({ interval, least, most }: LossScaleLimits): string => wgsl`
@group(0) @binding(0) var<storage, read> found: array<u32>;
@group(0) @binding(1) var<storage, read_write> scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> good: array<f32>;
@group(0) @binding(3) var<storage, read_write> unscale: array<f32>;

@compute @workgroup_size(1)
fn loss_scale() {
  if (found[0] != 0u) {
    unscale[0] = 0.0;
    scale[0] = max(0.5 * scale[0], ${f32(least)});
    good[0] = 0.0;
    return;
  }
  unscale[0] = 1.0 / scale[0];
  good[0] += 1.0;
  if (good[0] >= ${f32(interval)}) {
    scale[0] = min(2.0 * scale[0], ${f32(most)});
    good[0] = 0.0;
  }
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [lossScaleShader({ interval: 2000, least: 1, most: 2 ** 24 })];
