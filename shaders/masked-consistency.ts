// Consistency of student p and teacher q (softmax of their logits) on the pixels that are kept:
//   confidence c: of p, of q, their mean or minimum, or given;   M = [c < τ] (inverted: [c ≥ τ]; 'none': every pixel); τ is one
//   number, or one for each class j = argmax q
//   mse  Σ M Σ_k (p_k − q_k)² / (K ΣM)      g_k = 2 (p_k − q_k)/(K ΣM),  dlogits_k = p_k (g_k − Σ_j g_j p_j)
//   kl   Σ M Σ_k q_k log(q_k/p_k) / ΣM      dlogits_k = (p_k − q_k)/ΣM
//   ce   Σ M (−log p_j) / ΣM, j = argmax q  dlogits_k = (p_k − [k = j])/ΣM
//   ce-dice   ½ (ce + Dice), Dice = 1 − 1/K Σ_k (2 Σ M p_k [k = j] + ε)/(Σ M p_k² + Σ M [k = j] + ε); gradient as in dice-loss.ts
// and with a weight w for the Σ (1 − M) confident pixels:  + w · Σ (1 − M)(−log p_j) / Σ (1 − M)
// A thread of the forward pass walks words of four pixels (the mask is packed four to a word). partials [threads, sums] hold ΣM, the
// sum and, if wanted, the Dice sums of each class (overlap, square, count), then the sum of the confident pixels.
// If no pixel is kept, or none is confident, that term of loss and gradient is 0.
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
import {
  type ConsistencyKind,
  confidentValue,
  consistencyEpsilon,
  diceSums,
  isHard,
  type Keeping,
  keptBy,
  pixelValue,
} from './consistency.js';
import type { PixelSizes } from './cross-entropy.js';
import { quotientFunction } from './functions.js';
import { also, enable, f32, flatIndex, isNan, u32, wgsl } from './wgsl.js';

export interface ConsistencySizes extends PixelSizes, Keeping {
  /** 'mask': only the mask is written. */
  readonly kind: ConsistencyKind | 'mask';
}

/** Indices of the sums: the Dice sums of class 0, the sum of the confident pixels; and the number of sums. */
const placesOf = ({ classes, kind, confident }: ConsistencySizes) => {
  const ofConfident = 2 + (kind === 'ce-dice' ? 3 * classes : 0);
  return {
    overlap: 2,
    square: 2 + classes,
    count: 2 + 2 * classes,
    ofConfident,
    sums: ofConfident + Number(confident),
  };
};

/** Number of sums of the forward pass. */
export const consistencySums = (sizes: ConsistencySizes): number => placesOf(sizes).sums;

export function consistencyForward(sizes: ConsistencySizes): string {
  const { dtype, pixels, classes, kind, confidence, perClass } = sizes;
  const at = placesOf(sizes);
  const withDice = kind === 'ce-dice';
  const confident = sizes.confident && kind !== 'mask';
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
  var sum = 0.0;${also(
    withDice,
    each(classes, (k) => `  var overlap${k} = 0.0; var square${k} = 0.0; var count${k} = 0.0;`),
  )}${also(confident, '  var of_confident = 0.0;')}
  for (var word = id.x; word < ${u32(words)}; word += ${u32(threads)}) {
    var bits = 0u;
    for (var j = 0u; j < 4u; j++) {
      let i = 4u * word + j;
      if (i >= ${u32(pixels)}) { break; }
${loadClasses('x', 'student', 'i', classes)}
${loadClasses('y', 'teacher', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${softmaxOf('y', 'q', classes)}
#if ${perClass || isHard(kind) || confident}
${argmaxOf('target_class', 'y', classes)}
#endif
#if ${confidence === 'given'}
      let score = scores[i];
#endif
      if (${keptBy(sizes, classes, 'target_class')}) {
        bits |= 1u << (8u * j);
#if ${isHard(kind)}
        var chosen = x0;
${each(classes, (k) => (k ? `        if (target_class == ${k}u) { chosen = x${k}; }` : ''))}
#endif
#if ${valued}
        kept += 1.0;
        sum += ${kind === 'mask' ? '' : pixelValue(kind, classes, sizes, 'target_class')};${also(withDice, diceSums(classes, 'target_class'))}
#endif
      }${also(confident, `      else { of_confident += ${confidentValue(classes, 'target_class')}; }`)}
    }
    mask[word] = bits;
  }
#if ${valued}
  partials[${u32(at.sums)} * id.x] = kept;
  partials[${u32(at.sums)} * id.x + 1u] = sum;
#endif${also(
    withDice,
    each(classes, (k) =>
      (['overlap', 'square', 'count'] as const)
        .map((name) => `  partials[${u32(at.sums)} * id.x + ${u32(at[name] + k)}] = ${name}${k};`)
        .join(''),
    ),
  )}${also(confident, `  partials[${u32(at.sums)} * id.x + ${u32(at.ofConfident)}] = of_confident;`)}
}`;
}

/** `let top…` and `let bottom…` of a class's Dice, from the sums. */
function ratio(sizes: ConsistencySizes, k: number): string {
  const { overlap, square, count } = placesOf(sizes);
  return wgsl`let top${k} = 2.0 * sums[${overlap + k}] + ${f32(consistencyEpsilon)};
  let bottom${k} = sums[${square + k}] + sums[${count + k}] + ${f32(consistencyEpsilon)};`;
}

/** Expression: the number of pixels that are not kept; 1 if all are. */
const confidentCount = ({ pixels }: ConsistencySizes): string => `max(${f32(pixels)} - sums[0], 1.0)`;

/** loss [] from the sums; with confident pixels, `numbers` [1] holds their weight. */
export function consistencyValue(sizes: ConsistencySizes): string {
  const { kind, classes, confident } = sizes;
  return wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;${also(confident, '@group(0) @binding(2) var<storage, read> numbers: array<f32>;')}
${quotientFunction.text}

@compute @workgroup_size(1)
fn masked_consistency_value() {
  loss[0] = quotient_1(sums[1], max(sums[0], 1.0) * ${f32(kind === 'mse' ? classes : 1)});${also(
    kind === 'ce-dice',
    `${each(classes, (k) => `  ${ratio(sizes, k)}`)}
  let dice = 1.0 - ${total(classes, (k) => `top${k} / bottom${k}`)} / ${f32(classes)};
  loss[0] = select(0.0, 0.5 * (loss[0] + dice), sums[0] > 0.0);`,
  )}${also(confident, `  loss[0] += numbers[0] * sums[${placesOf(sizes).ofConfident}] / ${confidentCount(sizes)};`)}
}`;
}

export function consistencyBackward(sizes: ConsistencySizes): string {
  const { dtype, pixels, classes, kind, confident } = sizes;
  const ofEntropy = `${argmaxOf('target_class', 'y', classes)}
${storeClasses('dlogits', 'i', dtype, classes, (k) => `scale * (p${k} - select(0.0, 1.0, target_class == ${k}u))`)}`;
  const ofEntropyAndDice = `${argmaxOf('target_class', 'y', classes)}
${each(
  classes,
  (k) => `  ${ratio(sizes, k)}
  let here${k} = select(0.0, 1.0, target_class == ${k}u);
  let g${k} = dloss[0] * ${f32(-1 / classes)} / bottom${k} * (here${k} - p${k} * (top${k} / bottom${k}));`,
)}
  let mean = ${total(classes, (k) => `g${k} * p${k}`)};
${storeClasses('dlogits', 'i', dtype, classes, (k) => `0.5 * scale * (p${k} - here${k}) + p${k} * (g${k} - mean)`)}`;
  const confidentSlopes = `${loadClasses('x', 'student', 'i', classes)}
${loadClasses('y', 'teacher', 'i', classes)}
${softmaxOf('x', 'p', classes)}
    let scale = dloss[0] * numbers[0] / ${confidentCount(sizes)};
${ofEntropy}`;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> student: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> teacher: array<${classArray(dtype, classes)}>;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<${classArray(dtype, classes)}>;${also(confident, '@group(0) @binding(6) var<storage, read> numbers: array<f32>;')}

@compute @workgroup_size(64)
fn masked_consistency_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
  if (${byteAt('mask', 'i')} == 0u) {
${confident ? confidentSlopes : storeClasses('dlogits', 'i', dtype, classes, () => '0.0')}
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
${kind === 'ce-dice' ? ofEntropyAndDice : ofEntropy}
#endif
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    (['mse', 'kl', 'ce', 'ce-dice'] as const).flatMap((kind) =>
      (['student', 'teacher', 'mean', 'min', 'given', 'none'] as const).flatMap((confidence) => {
        const sizes = {
          dtype,
          kind,
          confidence,
          pixels: 1000,
          classes: dtype === 'f32' ? 4 : 3,
          invert: kind === 'kl',
          perClass: confidence === 'student' || confidence === 'teacher',
          confident: false,
        };
        const mask = consistencyForward({ ...sizes, kind: 'mask' });
        const valued = [sizes, ...(confidence === 'none' ? [] : [{ ...sizes, confident: true }])];
        return [
          mask,
          ...valued.flatMap((of) => [consistencyForward(of), consistencyValue(of), consistencyBackward(of)]),
        ];
      }),
    ),
  );
