// Soft Dice over all classes, the batch taken as one set of pixels, squared denominators (as SSL4MIS):
//   loss = 1 − 1/K Σ_k (2 I_k + ε)/(D_k + ε),   I = Σ p·y,  D = Σ p² + Σ y²,  p = softmax(logits)
//   ∂loss/∂p_k = −1/K (2 y_k (D_k + ε) − 2 p_k (2 I_k + ε))/(D_k + ε)²,   dlogits_k = p_k (g_k − Σ_j g_j p_j)
// partials [threads, 3, K]: sums of p·y, p², y per thread.
import { byteAt, classArray, each, loadClasses, partialThreads, softmaxOf, storeClasses, total } from './classes.js';
import type { PixelSizes } from './cross-entropy.js';
import { enable, f32, flatIndex, u32, wgsl } from './wgsl.js';

export function diceSums({ dtype, pixels, classes }: PixelSizes): string {
  const threads = partialThreads(pixels);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn dice_sums(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
${each(classes, (k) => `  var overlap${k} = 0.0; var square${k} = 0.0; var count${k} = 0.0;`)}
  for (var i = id.x; i < ${u32(pixels)}; i += ${u32(threads)}) {
    let y = ${byteAt('labels', 'i')};
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${each(
  classes,
  (k) => `    {
      let here = select(0.0, 1.0, y == ${k}u);
      overlap${k} += p${k} * here; square${k} += p${k} * p${k}; count${k} += here;
    }`,
)}
  }
  let at = id.x * ${u32(3 * classes)};
${each(classes, (k) => `  partials[at + ${k}u] = overlap${k}; partials[at + ${classes + k}u] = square${k}; partials[at + ${2 * classes + k}u] = count${k};`)}
}`;
}

const ratio = (k: number, classes: number, epsilon: number): string =>
  `let top${k} = 2.0 * sums[${k}] + ${f32(epsilon)}; let bottom${k} = sums[${classes + k}] + sums[${2 * classes + k}] + ${f32(epsilon)};`;

export const diceLossValue = (classes: number, epsilon: number): string => wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(1)
fn dice_loss() {
${each(classes, (k) => `  ${ratio(k, classes, epsilon)}`)}
  loss[0] = 1.0 - ${total(classes, (k) => `top${k} / bottom${k}`)} / ${f32(classes)};
}`;

export const diceLossBackward = (
  { dtype, pixels, classes }: PixelSizes,
  epsilon: number,
): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;
@group(0) @binding(3) var<storage, read> dloss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<${classArray(dtype, classes)}>;

@compute @workgroup_size(64)
fn dice_loss_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
  let y = ${byteAt('labels', 'i')};
  let scale = dloss[0] * ${f32(-2 / classes)};
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${each(
  classes,
  (k) => `  ${ratio(k, classes, epsilon)}
  let g${k} = scale * (select(0.0, 1.0, y == ${k}u) - p${k} * (top${k} / bottom${k})) / bottom${k};`,
)}
  let mean = ${total(classes, (k) => `g${k} * p${k}`)};
${storeClasses('dlogits', 'i', dtype, classes, (k) => `p${k} * (g${k} - mean)`)}
}`;

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [2, 4, 5].flatMap((classes) => {
      const sizes = { dtype, pixels: 1000, classes };
      return [diceSums(sizes), diceLossValue(classes, 1e-5), diceLossBackward(sizes, 1e-5)];
    }),
  );
