// Consistency of student p and teacher q (softmax of their logits) on the pixels that are kept:
//   confidence c of p, of q, their mean or minimum, or given;   M = [c < τ] (inverted: [c ≥ τ]; 'none': every pixel); τ may be
//   one number or one for each class j = argmax q
//   mse  Σ M Σ_k (p_k − q_k)² / (K ΣM)      g_k = 2 (p_k − q_k)/(K ΣM),  dlogits_k = p_k (g_k − Σ_j g_j p_j)
//   kl   Σ M Σ_k q_k log(q_k/p_k) / ΣM      dlogits_k = (p_k − q_k)/ΣM
//   ce   Σ M (−log p_j) / ΣM, j = argmax q  dlogits_k = (p_k − [k = j])/ΣM
// A thread of the forward pass walks words of four pixels (the mask is packed four to a word): partials [threads, 2] hold
// ΣM and the sum. Nothing kept: loss and gradient are 0.
import {
  argmaxOf,
  byteAt,
  classArray,
  each,
  loadClasses,
  partialThreads,
  softmaxOf,
  storeClasses,
  total,
} from './classes.js';
import { type ConsistencyKind, type Keeping, keptBy, pixelValue } from './consistency.js';
import type { PixelSizes } from './cross-entropy.js';
import { enable, f32, flatIndex, isNan, u32, wgsl } from './wgsl.js';

export interface ConsistencySizes extends PixelSizes, Keeping {
  /** 'mask': only the mask is written. */
  readonly kind: ConsistencyKind | 'mask';
}

export function consistencyForward(sizes: ConsistencySizes): string {
  const { dtype, pixels, classes, kind, confidence, perClass } = sizes;
  const threads = partialThreads(pixels);
  const words = Math.ceil(pixels / 4);
  const valued = kind !== 'mask';
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> student: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> teacher: array<${classArray(dtype, classes)}>;
@group(0) @binding(2) var<storage, read> threshold: array<f32>;
@group(0) @binding(3) var<storage, read_write> mask: array<u32>;
#if ${valued}
@group(0) @binding(4) var<storage, read_write> partials: array<f32>;
#endif
#if ${confidence === 'given'}
@group(0) @binding(5) var<storage, read> scores: array<f32>;
#endif

@compute @workgroup_size(64)
fn ${valued ? 'masked_consistency' : 'low_confidence_mask'}(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
  var kept = 0.0;
  var sum = 0.0;
  for (var word = id.x; word < ${u32(words)}; word += ${u32(threads)}) {
    var bits = 0u;
    for (var j = 0u; j < 4u; j++) {
      let i = 4u * word + j;
      if (i >= ${u32(pixels)}) { break; }
${loadClasses('x', 'student', 'i', classes)}
${loadClasses('y', 'teacher', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${softmaxOf('y', 'q', classes)}
#if ${perClass || kind === 'ce'}
${argmaxOf('target_class', 'y', classes)}
#endif
#if ${confidence === 'given'}
      let score = scores[i];
#endif
      if (${keptBy(sizes, classes, 'target_class')}) {
        bits |= 1u << (8u * j);
#if ${kind === 'ce'}
        var chosen = x0;
${each(classes, (k) => (k ? `        if (target_class == ${k}u) { chosen = x${k}; }` : ''))}
#endif
#if ${valued}
        kept += 1.0;
        sum += ${kind === 'mask' ? '' : pixelValue(kind, classes, sizes, 'target_class')};
#endif
      }
    }
    mask[word] = bits;
  }
#if ${valued}
  partials[2u * id.x] = kept;
  partials[2u * id.x + 1u] = sum;
#endif
}`;
}

/** loss and kept from sums [2]. */
export const consistencyValue = (kind: ConsistencyKind, classes: number): string => wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;

@compute @workgroup_size(1)
fn masked_consistency_value() {
  loss[0] = sums[1] / (max(sums[0], 1.0) * ${f32(kind === 'mse' ? classes : 1)});
}`;

export function consistencyBackward(sizes: ConsistencySizes): string {
  const { dtype, pixels, classes, kind } = sizes;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> student: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> teacher: array<${classArray(dtype, classes)}>;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<${classArray(dtype, classes)}>;

@compute @workgroup_size(64)
fn masked_consistency_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
  if (${byteAt('mask', 'i')} == 0u) {
${storeClasses('dlogits', 'i', dtype, classes, () => '0.0')}
    return;
  }
${loadClasses('x', 'student', 'i', classes)}
${loadClasses('y', 'teacher', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${softmaxOf('y', 'q', classes)}
  let scale = select(dloss[0] / max(sums[0], 1.0), sums[1], ${isNan('sums[1]', 'f32')});
#if ${kind === 'mse'}
${each(classes, (k) => `  let g${k} = ${f32(2 / classes)} * scale * (p${k} - q${k});`)}
  let mean = ${total(classes, (k) => `g${k} * p${k}`)};
${storeClasses('dlogits', 'i', dtype, classes, (k) => `p${k} * (g${k} - mean)`)}
#elif ${kind === 'kl'}
${storeClasses('dlogits', 'i', dtype, classes, (k) => `scale * (p${k} - q${k})`)}
#else
${argmaxOf('target_class', 'y', classes)}
${storeClasses('dlogits', 'i', dtype, classes, (k) => `scale * (p${k} - select(0.0, 1.0, target_class == ${k}u))`)}
#endif
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    (['mse', 'kl', 'ce'] as const).flatMap((kind) =>
      (['student', 'teacher', 'mean', 'min', 'given', 'none'] as const).flatMap((confidence) => {
        const sizes = {
          dtype,
          kind,
          confidence,
          pixels: 1000,
          classes: dtype === 'f32' ? 4 : 3,
          invert: kind === 'kl',
          perClass: confidence === 'student' || confidence === 'teacher',
        };
        const mask = consistencyForward({ ...sizes, kind: 'mask' });
        return [consistencyForward(sizes), consistencyValue(kind, 4), consistencyBackward(sizes), mask];
      }),
    ),
  );
