// Launches beside a convolution's kernels: one reorders weights for GPUs, the other sums the slices of a weight gradient.
import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { type ConvGeometry, product, solidGeometry } from './geometry.js';

/** [O, tap, C] → [tap, C, O]: one thread per element, written in order. */
export const transposeWeightShader = (
  dtype: Float,
  { outputs, inputs, kernel }: Pick<ConvGeometry, 'outputs' | 'inputs' | 'kernel'>,
): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> weight: array<${dtype}>;
@group(0) @binding(1) var<storage, read_write> prepared: array<${dtype}>;

@compute @workgroup_size(64)
fn conv_prepare_weight(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(product(kernel) * inputs * outputs)}) { return; }
  prepared[i] = weight[(i % ${u32(outputs)}) * ${u32(product(kernel) * inputs)} + i / ${u32(outputs)}];
}`;

/**
 * Weight gradient, second pass: sums [slices, size] over slices in a fixed order, for weights and bias in one launch. Sizes are
 * read from the bindings, so that all convolutions share one pipeline.
 */
export function sumSlicesShader(dtype: Float, { bias }: { bias: boolean }): string {
  const total = (slices: string, sum: string, at: string): string => wgsl`
    let size = arrayLength(&${sum});
    let end = arrayLength(&${slices});
    var a = 0.0;
    var b = 0.0;
    var next = ${at};
    for (; next + size < end; next += 2u * size) {
      a += ${slices}[next];
      b += ${slices}[next + size];
    }
    if (next < end) { a += ${slices}[next]; }
    ${sum}[${at}] = ${dtype}(a + b);`;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> partialWeight: array<f32>;
@group(0) @binding(1) var<storage, read_write> dWeight: array<${dtype}>;
#if ${bias}
@group(0) @binding(2) var<storage, read> partialBias: array<f32>;
@group(0) @binding(3) var<storage, read_write> dBias: array<${dtype}>;
#endif

@compute @workgroup_size(64)
fn conv_sum_slices(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  let weights = arrayLength(&dWeight);
  if (i < weights) {${total('partialWeight', 'dWeight', 'i')}
  }
#if ${bias}
  if (i >= weights && i < weights + arrayLength(&dBias)) {
    let j = i - weights;${total('partialBias', 'dBias', 'j')}
  }
#endif
}`;
}

/** Sums [slices, size] of one tensor over slices, one after another: what the tuner holds `sumSlicesShader` against. */
export const plainSumShader = (dtype: Float, size: number): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> slices: array<f32>;
@group(0) @binding(1) var<storage, read_write> sum: array<${dtype}>;

@compute @workgroup_size(64)
fn conv_plain_sum(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(size)}) { return; }
  var total = 0.0;
  for (var at = i; at < arrayLength(&slices); at += ${u32(size)}) { total += slices[at]; }
  sum[i] = ${dtype}(total);
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) => [
    transposeWeightShader(dtype, solidGeometry),
    plainSumShader(dtype, 9),
    ...[true, false].map((bias) => sumSlicesShader(dtype, { bias })),
  ]);
