// The second pass of a weight gradient: sums over its slices.
import { enable, type Float, flatIndex, pairs, u32, wgsl } from '../wgsl.js';
import { lines, range, upTo } from './geometry.js';

/** How slices are summed. */
export interface Summing {
  /** Of the gradients. */
  readonly dtype: Float;
  readonly bias: boolean;
  /** Slices of the weight gradient. */
  readonly slices: number;
  /** Slices of the bias's gradient, if it has another number of them. */
  readonly biasSlices?: number;
  /** For a driver on the CPU, where a barrier costs more than it saves. */
  readonly software: boolean;
}

/** Threads that share the slices of one element: about 16 slices each, or more. */
const lanesOf = ({ slices, software }: Summing): number => (software || slices < 64 ? 1 : slices < 128 ? 4 : 8);

/** Threads of a workgroup for each lane: neighbours read neighbours. */
const columnsOf = (lanes: number): number => (lanes === 1 ? 64 : 32);

/** The grid of `sumSlicesShader`, for `size` weights and biases. */
export const sumSlicesGrid = (summing: Summing, size: number): { threads: number } => {
  const lanes = lanesOf(summing);
  return { threads: upTo(size, columnsOf(lanes)) * lanes };
};

/** Slices that a thread loads at a time. */
const batch = 8;

/**
 * Weight gradient, second pass: sums [slices, size] over slices in a fixed order, for weights and bias in one launch. Sizes are
 * read from the bindings, so that f32 convolutions of about as many slices share one pipeline. Where there are many slices, several lanes
 * share those of an element and meet in workgroup memory.
 */
export function sumSlicesShader(summing: Summing): string {
  const { dtype, bias, slices, biasSlices = slices } = summing;
  const lanes = lanesOf(summing);
  const columns = columnsOf(lanes);
  const workgroup = columns * lanes;
  // An f16 array's binding is a multiple of 4 bytes, so its length may be one too many.
  const size = (of: 'Weight' | 'Bias'): string =>
    dtype === 'f16'
      ? `arrayLength(&partial${of}) / ${u32(of === 'Weight' ? slices : biasSlices)}`
      : `arrayLength(&d${of})`;
  const step = lanes === 1 ? 'size' : `${u32(lanes)} * size`;
  const sum = (name: string): string => wgsl`
fn sum_of_${name}(at: u32, lane: u32, size: u32) -> f32 {
  let end = arrayLength(&${name});
  let step = ${step};
  var sum = 0.0;
  var next = ${lanes === 1 ? 'at' : 'lane * size + at'};
  for (; next + ${u32(batch - 1)} * step < end; next += ${u32(batch)} * step) {
${lines(range(batch).map((k) => `    let v${k} = ${name}[next + ${u32(k)} * step];`))}
    sum += ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7));
  }
  for (; next < end; next += step) { sum += ${name}[next]; }
  return sum;
}`;
  const store = (i: string, value: string): string => wgsl`
  if (${i} < weights) { dWeight[${i}] = ${dtype}(${value}); }
#if ${bias}
  if (${i} >= weights && ${i} < weights + biases) { dBias[${i} - weights] = ${dtype}(${value}); }
#endif`;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> partialWeight: array<f32>;
@group(0) @binding(1) var<storage, read_write> dWeight: array<${dtype}>;
#if ${bias}
@group(0) @binding(2) var<storage, read> partialBias: array<f32>;
@group(0) @binding(3) var<storage, read_write> dBias: array<${dtype}>;
#endif
${lanes === 1 ? '' : `var<workgroup> shared_sums: array<f32, ${workgroup}>;`}
${sum('partialWeight')}
${bias ? sum('partialBias') : ''}

@compute @workgroup_size(${workgroup})
fn conv_sum_slices(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  let i = (group.y * groups.x + group.x) * ${u32(columns)} + thread % ${u32(columns)};
  let lane = thread / ${u32(columns)};
  let weights = ${size('Weight')};
  var sum = 0.0;
  if (i < weights) { sum = sum_of_partialWeight(i, lane, weights); }
#if ${bias}
  let biases = ${size('Bias')};
  if (i >= weights && i < weights + biases) { sum = sum_of_partialBias(i - weights, lane, biases); }
#endif
#if ${lanes === 1}
${store('i', 'sum')}
#else
  shared_sums[thread] = sum;
  workgroupBarrier();
  if (lane > 0u) { return; }
  sum = ${pairs(range(lanes).map((k) => `shared_sums[thread + ${u32(k * columns)}]`))};
${store('i', 'sum')}
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
    plainSumShader(dtype, 9),
    ...[true, false].flatMap((bias) =>
      [1, 64, 512].map((slices) => sumSlicesShader({ dtype, bias, slices, software: false })),
    ),
  ]);
