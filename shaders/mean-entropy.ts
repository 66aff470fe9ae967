// Entropy of a mean prediction (UA-MT, Yu et al. 2019): P = Σ softmax(logits) / T over T passes,   u = −Σ_k P_k ln(P_k + 1e-6).
// The launch of each pass adds its softmax to the sum, in place and in f32; the last one writes the entropy. Thread = pixel.
import { classArray, each, loadClasses, softmaxOf, storeClasses, total } from './classes.js';
import type { PixelSizes } from './cross-entropy.js';
import { quotientFunction } from './functions.js';
import { enable, f32, flatIndex, u32, wgsl } from './wgsl.js';

/** Which of T passes a launch adds. */
export interface EntropyPass {
  readonly passes: number;
  readonly first: boolean;
  readonly last: boolean;
}

export function meanEntropyPass({ dtype, pixels, classes }: PixelSizes, { passes, first, last }: EntropyPass): string {
  const only = first && last;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
#if ${!only}
@group(0) @binding(1) var<storage, ${last ? 'read' : 'read_write'}> sum: array<${classArray('f32', classes)}>;
#endif
#if ${last}
${quotientFunction.text}
@group(0) @binding(2) var<storage, read_write> entropy: array<f32>;
#endif

@compute @workgroup_size(64)
fn mean_entropy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
#if ${first}
${each(classes, (k) => `  let s${k} = p${k};`)}
#else
${loadClasses('before', 'sum', 'i', classes)}
${each(classes, (k) => `  let s${k} = before${k} + p${k};`)}
#endif
#if ${last}
${each(classes, (k) => `  let m${k} = quotient_1(s${k}, ${f32(passes)});`)}
  entropy[i] = -${total(classes, (k) => `m${k} * log(m${k} + 1e-6)`)};
#else
${storeClasses('sum', 'i', 'f32', classes, (k) => `s${k}`)}
#endif
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [4, 3].flatMap((classes) =>
      [
        { passes: 1, first: true, last: true },
        { passes: 3, first: true, last: false },
        { passes: 3, first: false, last: false },
        { passes: 3, first: false, last: true },
      ].map((pass) => meanEntropyPass({ dtype, pixels: 1000, classes }, pass)),
    ),
  );
