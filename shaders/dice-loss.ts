// Soft Dice over all classes, with the batch as one set of pixels and squared denominators (as SSL4MIS). A pixel whose label is not a
// class is in no sum and has no gradient:
//   loss = 1 − 1/K Σ_k (2 I_k + ε)/(D_k + ε),   I = Σ p·y,  D = Σ p² + Σ y²,  p = softmax(logits)
// Over the foreground alone, k from 1 on, with K − 1 in place of K and ∂loss/∂p_0 = 0.
//   ∂loss/∂p_k = −1/K (2 y_k (D_k + ε) − 2 p_k (2 I_k + ε))/(D_k + ε)²,   dlogits_k = p_k (g_k − Σ_j g_j p_j)
// partials [threads, 3 K + 1]: sums of p·y, p², y, and NaN if a pixel that is not counted has NaN. If no pixel is counted, the loss is
// that last sum: 0 unless there is a NaN.
// Up to 16 classes: named scalars, thread = pixel. More: the maximum and log Σ of a pixel come from class-statistics.ts; in the sums a
// thread takes one class value, or four, of a chunk of pixels; the gradient walks the classes of a pixel twice.
import { hereOf, meet, overRow, rowHead, rowMemory, rowWalk, storedAs } from './class-rows.js';
import {
  classArray,
  each,
  labelArray,
  labelAt,
  loadClasses,
  partialThreads,
  softmaxOf,
  storeClasses,
  total,
} from './classes.js';
import type { LabeledSizes } from './cross-entropy.js';
import { enable, f32, flatIndex, isNan, u32, wgsl } from './wgsl.js';

export function diceSums({ dtype, pixels, classes, labels }: LabeledSizes): string {
  const threads = partialThreads(pixels);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<${labelArray(labels)}>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn dice_sums(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
${each(classes, (k) => `  var overlap${k} = 0.0; var square${k} = 0.0; var count${k} = 0.0;`)}
  var spoiled = 0.0;
  for (var i = id.x; i < ${u32(pixels)}; i += ${u32(threads)}) {
    let y = ${labelAt('labels', 'i', labels)};
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
    if (y >= ${u32(classes)}) {
      if (${isNan('p_most', 'f32')}) { spoiled = p_most; }
      continue;
    }
${each(
  classes,
  (k) => `    {
      let here = select(0.0, 1.0, y == ${k}u);
      overlap${k} += p${k} * here; square${k} += p${k} * p${k}; count${k} += here;
    }`,
)}
  }
  let at = id.x * ${u32(3 * classes + 1)};
${each(classes, (k) => `  partials[at + ${k}u] = overlap${k}; partials[at + ${classes + k}u] = square${k}; partials[at + ${2 * classes + k}u] = count${k};`)}
  partials[at + ${u32(3 * classes)}] = spoiled;
}`;
}

const ratio = (k: number, classes: number, epsilon: number): string =>
  `let top${k} = 2.0 * sums[${k}] + ${f32(epsilon)}; let bottom${k} = sums[${classes + k}] + sums[${2 * classes + k}] + ${f32(epsilon)};`;

export const diceLossValue = (classes: number, epsilon: number, foreground = false): string => wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(1)
fn dice_loss() {
  if (${total(classes, (k) => `sums[${2 * classes + k}]`)} == 0.0) {
    loss[0] = sums[${3 * classes}];
    return;
  }
${each(classes, (k) => `  ${ratio(k, classes, epsilon)}`)}
  loss[0] = 1.0 - ${total(classes, (k) => `top${k} / bottom${k}`, foreground ? 1 : 0)} / ${f32(foreground ? classes - 1 : classes)};
}`;

export const diceLossBackward = (
  { dtype, pixels, classes, labels }: LabeledSizes,
  epsilon: number,
  foreground = false,
): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<${labelArray(labels)}>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;
@group(0) @binding(3) var<storage, read> dloss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<${classArray(dtype, classes)}>;

@compute @workgroup_size(64)
fn dice_loss_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
  let y = ${labelAt('labels', 'i', labels)};
  if (y >= ${u32(classes)}) {
${storeClasses('dlogits', 'i', dtype, classes, () => '0.0')}
    return;
  }
  let scale = dloss[0] * ${f32(-2 / (foreground ? classes - 1 : classes))};
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${each(classes, (k) =>
  foreground && k === 0
    ? '  let g0 = 0.0;'
    : `  ${ratio(k, classes, epsilon)}
  let g${k} = scale * (select(0.0, 1.0, y == ${k}u) - p${k} * (top${k} / bottom${k})) / bottom${k};`,
)}
  let mean = ${total(classes, (k) => `g${k} * p${k}`)};
${storeClasses('dlogits', 'i', dtype, classes, (k) => `p${k} * (g${k} - mean)`)}
}`;

/** Expression: a probability, from the pixel's statistics; exp may drop a NaN. */
const probability = (V: string, logit: string): string =>
  `select(exp((${V}(${logit}) - softmax_of.x) - softmax_of.y), ${V}(softmax_of.x), ${isNan('softmax_of.x', 'f32')})`;

/** Chunks of pixels for many classes: a second pass adds up their sums. Partials take at most 16 MiB. */
export const diceChunks = ({ pixels, classes }: { pixels: number; classes: number }): number =>
  Math.max(1, Math.min(1024, Math.ceil(pixels / 64), Math.floor(2 ** 22 / (3 * classes + 1))));

/** As `diceSums`, for many classes: partials [chunks, 3 K + 1]. Thread = (chunk, class values). */
export function diceSumsOfMany(sizes: LabeledSizes): string {
  const { dtype, pixels, classes, labels } = sizes;
  const walk = rowWalk(sizes);
  const chunks = diceChunks(sizes);
  const V = walk.width === 4 ? 'vec4f' : 'f32';
  const store = (name: string, block: number): string =>
    walk.width === 4
      ? `for (var j = 0u; j < 4u; j++) { partials[at + ${u32(block * classes)} + j] = ${name}[j]; }`
      : `partials[at + ${u32(block * classes)}] = ${name};`;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${storedAs(dtype, walk)}>;
@group(0) @binding(1) var<storage, read> labels: array<${labelArray(labels)}>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn dice_sums_of_many(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = ${flatIndex(64)};
  if (t >= ${u32(chunks * walk.count)}) { return; }
  let k = t % ${u32(walk.count)};
  let chunk = t / ${u32(walk.count)};
  var overlap = ${V}(0.0); var square = ${V}(0.0); var count = ${V}(0.0);
  var spoiled = 0.0;
  for (var i = chunk; i < ${u32(pixels)}; i += ${u32(chunks)}) {
    let y = ${labelAt('labels', 'i', labels)};
    let softmax_of = statistics[i];
    if (y >= ${u32(classes)}) {
      if (${isNan('softmax_of.x', 'f32')}) { spoiled = softmax_of.x; }
      continue;
    }
    let p = ${probability(V, `logits[i * ${u32(walk.count)} + k]`)};
    let here = ${hereOf(walk, 'y')};
    overlap += p * here; square += p * p; count += here;
  }
  let row = chunk * ${u32(3 * classes + 1)};
  let at = row + ${u32(walk.width)} * k;
  ${store('overlap', 0)}
  ${store('square', 1)}
  ${store('count', 2)}
  if (k == 0u) { partials[row + ${u32(3 * classes)}] = spoiled; }
}`;
}

/** Threads of the one workgroup that computes the value for many classes. */
const valueThreads = 256;

/** loss [] and factors [2, K] from sums [3 K + 1]: −2/(K (D_k + ε)), and (2 I_k + ε)/(D_k + ε). */
export const diceValueOfMany = (classes: number, epsilon: number, foreground = false): string => wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(2) var<storage, read_write> factors: array<f32>;
var<workgroup> ratios: array<f32, ${valueThreads}>;
var<workgroup> counts: array<f32, ${valueThreads}>;

@compute @workgroup_size(${valueThreads})
fn dice_loss_of_many(@builtin(local_invocation_index) thread: u32) {
  var ratio = 0.0; var count = 0.0;
  for (var k = thread; k < ${u32(classes)}; k += ${u32(valueThreads)}) {
    let top = 2.0 * sums[k] + ${f32(epsilon)};
    let bottom = sums[${u32(classes)} + k] + sums[${u32(2 * classes)} + k] + ${f32(epsilon)};
    factors[k] = ${foreground ? `select(${f32(-2 / (classes - 1))}, 0.0, k == 0u)` : f32(-2 / classes)} / bottom;
    factors[${u32(classes)} + k] = top / bottom;
    ratio += ${foreground ? 'select(top / bottom, 0.0, k == 0u)' : 'top / bottom'};
    count += sums[${u32(2 * classes)} + k];
  }
  ratios[thread] = ratio;
  counts[thread] = count;
  for (var half = ${u32(valueThreads / 2)}; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { ratios[thread] += ratios[thread + half]; counts[thread] += counts[thread + half]; }
  }
  if (thread > 0u) { return; }
  if (counts[0] > 0.0) { loss[0] = 1.0 - ratios[0] / ${f32(foreground ? classes - 1 : classes)}; } else { loss[0] = sums[${3 * classes}]; }
}`;

/** As `diceLossBackward`, for many classes. */
export function diceSlopesOfMany(sizes: LabeledSizes): string {
  const { dtype, classes, labels } = sizes;
  const walk = rowWalk(sizes);
  const stored = storedAs(dtype, walk);
  const V = walk.width === 4 ? 'vec4f' : 'f32';
  const slope = `
    let p = ${probability('V', 'logits[begin + k]')};
    let g = dloss[0] * factors[k] * (${hereOf(walk, 'y')} - p * factors[${u32(walk.count)} + k]);`;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${stored}>;
@group(0) @binding(1) var<storage, read> labels: array<${labelArray(labels)}>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(3) var<storage, read> factors: array<${V}>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<${stored}>;
${rowMemory(walk)}
@compute @workgroup_size(64)
${rowHead('dice_loss_of_many_backward', walk)}
  let y = ${labelAt('labels', 'pixel', labels)};
  let softmax_of = statistics[pixel];
  let counts = y < ${u32(classes)};
  var products = V(0.0);
  if (counts) {
    ${overRow(walk, `${slope} products += g * p;`)}
  }
  ${meet(walk, 'mean', 'total(products)', 'sum')}
  ${overRow(walk, `if (!counts) { dlogits[begin + k] = ${stored}(0.0); continue; } ${slope} dlogits[begin + k] = ${stored}(p * (g - mean));`)}
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [2, 4, 5, 17, 20, 257, 1000].flatMap((classes, i) => {
      const labels = { type: (['u8', 'u32', 'i32'] as const)[i % 3]!, ignored: i === 1 || i === 4 ? 1 : undefined };
      const sizes = { dtype, pixels: 1000, classes, labels };
      const shared = classes <= 16 ? [diceSums(sizes)] : [diceSumsOfMany(sizes), diceSlopesOfMany(sizes)];
      const values = [false, true].flatMap((foreground) =>
        classes <= 16
          ? [diceLossValue(classes, 1e-5, foreground), diceLossBackward(sizes, 1e-5, foreground)]
          : [diceValueOfMany(classes, 1e-5, foreground)],
      );
      return [...shared, ...values];
    }),
  );
