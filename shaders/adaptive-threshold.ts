// Thresholds that follow the pixels' confidence c, from student p and teacher q (consistency.ts), over the pixels from `first` on.
//   quantile   τ_batch: the share `quantile` of the pixels has a c below it, from a histogram of c over [1/K, 1] with linear
//              interpolation within its bins;   τ ← m τ + (1 − m) τ_batch
//   classes    s_k ← m s_k + (1 − m) mean of c over pixels with argmax q = k, where there are any;   τ_k = base · s_k / max_j s_j
//              (as FreeMatch, Wang et al. 2023: a class that the model is less sure of has a lower threshold), base where k
//              was never seen
// with m = min(1 − 1/(n + 1), momentum), n the updates so far. Counts are integers, so atomic additions in any order give the same sum.
import { argmaxOf, classArray, each, loadClasses, softmaxOf } from './classes.js';
import { type Confidence, confidenceOf } from './consistency.js';
import type { PixelSizes } from './cross-entropy.js';
import {
  addPartials,
  partialsMemory,
  partialWorkgroup,
  storePartials,
  totalsMemory,
  totalsWorkgroup,
  type Walk,
  walkOver,
} from './partial-sums.js';
import { enable, f32, isNan, u32, wgsl } from './wgsl.js';

export interface ThresholdSizes extends PixelSizes {
  readonly confidence: Confidence;
  /** The first of the student's pixels that counts. */
  readonly first: number;
  /** The teacher's logits cover the pixels before it too. */
  readonly everywhere: boolean;
}

const bins = 1024;
const histogramWorkgroup = 256;

/** Workgroups of the histogram; each writes one row of bins. */
export const histogramGroups = ({ pixels, first }: ThresholdSizes): number =>
  Math.min(128, Math.ceil((pixels - first) / (4 * histogramWorkgroup)));

export const histogramBins = bins;

const pixel = ({ first, everywhere, confidence, classes }: ThresholdSizes): string => wgsl`
${loadClasses('x', 'student', 'i', classes)}
${loadClasses('y', 'teacher', everywhere || !first ? 'i' : `(i - ${u32(first)})`, classes)}
${softmaxOf('x', 'p', classes)}
${softmaxOf('y', 'q', classes)}
    let c = ${confidenceOf(confidence, classes)};`;

const logits = ({ dtype, classes }: ThresholdSizes): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> student: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> teacher: array<${classArray(dtype, classes)}>;`;

/** histograms u32 [groups, bins]. A thread takes every n-th pixel, n being the number of threads. */
export function confidenceHistogram(sizes: ThresholdSizes): string {
  const { pixels, classes, first } = sizes;
  const low = f32(1 / classes);
  return wgsl`${logits(sizes)}
@group(0) @binding(2) var<storage, read_write> histograms: array<u32>;
var<workgroup> counts: array<atomic<u32>, ${bins}>;

@compute @workgroup_size(${histogramWorkgroup})
fn confidence_histogram(
  @builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  for (var i = ${u32(first)} + id.x; i < ${u32(pixels)}; i += ${u32(histogramGroups(sizes) * histogramWorkgroup)}) {
${pixel(sizes)}
    let bin = u32(clamp((c - ${low}) * ${f32(bins / (1 - 1 / classes))}, 0.0, ${f32(bins - 1)}));
    atomicAdd(&counts[min(bin, ${u32(bins - 1)})], 1u);
  }
  workgroupBarrier();
  for (var b = thread; b < ${u32(bins)}; b += ${u32(histogramWorkgroup)}) {
    histograms[group.x * ${u32(bins)} + b] = atomicLoad(&counts[b]);
  }
}`;
}

/** Updates value [] and updates []. One workgroup: each thread adds up four bins, then the first finds the bin of the quantile. */
export function quantileUpdate(sizes: ThresholdSizes, quantile: number, momentum: number): string {
  const { pixels, first, classes } = sizes;
  const share = bins / histogramWorkgroup;
  return wgsl`
@group(0) @binding(0) var<storage, read> histograms: array<u32>;
@group(0) @binding(1) var<storage, read_write> value: array<f32>;
@group(0) @binding(2) var<storage, read_write> updates: array<f32>;
var<workgroup> counts: array<u32, ${bins}>;
var<workgroup> sums: array<u32, ${histogramWorkgroup}>;

@compute @workgroup_size(${histogramWorkgroup})
fn quantile_update(@builtin(local_invocation_index) thread: u32) {
  var own = 0u;
  for (var b = thread * ${u32(share)}; b < (thread + 1u) * ${u32(share)}; b++) {
    var count = 0u;
    for (var g = 0u; g < ${u32(histogramGroups(sizes))}; g++) { count += histograms[g * ${u32(bins)} + b]; }
    counts[b] = count;
    own += count;
  }
  sums[thread] = own;
  workgroupBarrier();
  if (thread > 0u) { return; }
  let rank = ${f32(quantile)} * ${f32(pixels - first)};
  var before = 0u;
  var t = 0u;
  while (t < ${u32(histogramWorkgroup - 1)} && (sums[t] == 0u || f32(before + sums[t]) < rank)) { before += sums[t]; t++; }
  var b = t * ${u32(share)};
  let last = b + ${u32(share - 1)};
  while (b < last && (counts[b] == 0u || f32(before + counts[b]) < rank)) { before += counts[b]; b++; }
  let within = clamp((rank - f32(before)) / f32(max(counts[b], 1u)), 0.0, 1.0);
  let found = ${f32(1 / classes)} + (f32(b) + within) * ${f32((1 - 1 / classes) / bins)};
  let m = min(1.0 - 1.0 / (updates[0] + 1.0), ${f32(momentum)});
  value[0] = m * value[0] + (1.0 - m) * found;
  updates[0] += 1.0;
}`;
}

/** The walk of the class sums over the pixels that count. */
export const classWalk = ({ pixels, first }: ThresholdSizes): Walk => walkOver(Math.ceil((pixels - first) / 4));

/** partials [rows, 2, K]: how many pixels the teacher gives each class, and Σ c of them. */
export function classConfidence(sizes: ThresholdSizes): string {
  const { pixels, classes, first } = sizes;
  const walk = classWalk(sizes);
  const values = ['number', 'sum'].flatMap((name) => Array.from({ length: classes }, (_, k) => name + k));
  return wgsl`${logits(sizes)}
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
${partialsMemory(walk, values.length)}

@compute @workgroup_size(${partialWorkgroup})
fn class_confidence(
  @builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32,
) {
${values.map((name) => `  var ${name} = 0.0;`).join('\n')}
  for (var i = ${u32(first)} + id.x; i < ${u32(pixels)}; i += ${u32(walk.threads)}) {
${pixel(sizes)}
${argmaxOf('teacher_class', 'y', classes)}
${each(classes, (k) => `    if (teacher_class == ${k}u) { number${k} += 1.0; sum${k} += c; }`)}
  }
${storePartials(walk, values)}
}`;
}

/** Updates means [K] and updates [K], and writes thresholds [K]. */
export function classThresholdUpdate(sizes: ThresholdSizes, momentum: number): string {
  const { classes } = sizes;
  return wgsl`
@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read> base: array<f32>;
@group(0) @binding(2) var<storage, read_write> means: array<f32>;
@group(0) @binding(3) var<storage, read_write> updates: array<f32>;
@group(0) @binding(4) var<storage, read_write> thresholds: array<f32>;
${totalsMemory(2 * classes)}
var<workgroup> moved: array<f32, ${classes}>;

@compute @workgroup_size(${totalsWorkgroup})
fn class_threshold_update(@builtin(local_invocation_index) thread: u32) {
${addPartials(classWalk(sizes), 2 * classes)}
  var mean = 0.0;
  if (thread < ${u32(classes)}) {
    mean = means[thread];
    let number = totals[thread];
    if (number > 0.0) {
      let m = min(1.0 - 1.0 / (updates[thread] + 1.0), ${f32(momentum)});
      mean = m * mean + (1.0 - m) * totals[${u32(classes)} + thread] / number;
      means[thread] = mean;
      updates[thread] += 1.0;
    }
    moved[thread] = mean;
  }
  workgroupBarrier();
  if (thread < ${u32(classes)}) {
    var most = 0.0;
    for (var k = 0u; k < ${u32(classes)}; k++) { most = max(most, moved[k]); }
    thresholds[thread] = base[0] * select(select(1.0, mean / most, mean > 0.0), mean, ${isNan('mean', 'f32')});
  }
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    (['student', 'teacher', 'mean', 'min'] as const).flatMap((confidence, n) => {
      const first = n % 2 ? 500 : 0;
      const sizes = {
        dtype,
        pixels: n < 2 ? 1000 : 2 ** 18,
        classes: [4, 3][n % 2]!,
        confidence,
        first,
        everywhere: n > 1,
      };
      return [
        confidenceHistogram(sizes),
        quantileUpdate(sizes, 0.1, 0.99),
        classConfidence(sizes),
        classThresholdUpdate(sizes, 0.99),
      ];
    }),
  );
