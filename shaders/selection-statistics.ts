// Statistics of a mask over pixels, with prediction = argmax of logits:
//   [kept / pixels, correct kept / kept, correct dropped / dropped, mean max probability]; −1 where nothing was kept or dropped
// A pixel whose label is not a class is neither right nor wrong; the two accuracies leave it out.
// partials [threads, 6]: kept, correct kept, correct dropped, Σ confidence, labelled kept, labelled dropped.
import { argmaxOf, byteAt, classArray, fold, loadClasses, partialThreads, softmaxOf } from './classes.js';
import type { PixelSizes } from './cross-entropy.js';
import { enable, f32, u32, wgsl } from './wgsl.js';

export function selectionSums({ dtype, pixels, classes }: PixelSizes): string {
  const threads = partialThreads(pixels);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn selection_statistics(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
  var sums = vec4f(0.0);
  var known = vec2f(0.0);
  for (var i = id.x; i < ${u32(pixels)}; i += ${u32(threads)}) {
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${argmaxOf('predicted', 'x', classes)}
    let kept = select(0.0, 1.0, ${byteAt('mask', 'i')} != 0u);
    let truth = ${byteAt('labels', 'i')};
    let correct = select(0.0, 1.0, predicted == truth);
    if (truth < ${u32(classes)}) { known += vec2f(kept, 1.0 - kept); }
    sums += vec4f(kept, kept * correct, (1.0 - kept) * correct, ${fold(
      classes,
      (a, b) => `max(${a}, ${b})`,
      (k) => `p${k}`,
    )});
  }
  for (var v = 0u; v < 4u; v++) { partials[6u * id.x + v] = sums[v]; }
  partials[6u * id.x + 4u] = known.x; partials[6u * id.x + 5u] = known.y;
}`;
}

export const selectionValue = (pixels: number): string => wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> statistics: array<f32>;

@compute @workgroup_size(1)
fn selection_statistics_value() {
  let pixels = ${f32(pixels)};
  statistics[0] = sums[0] / pixels;
  statistics[1] = select(-1.0, sums[1] / max(sums[4], 1.0), sums[4] > 0.0);
  statistics[2] = select(-1.0, sums[2] / max(sums[5], 1.0), sums[5] > 0.0);
  statistics[3] = sums[3] / pixels;
}`;

export const variants = (): string[] => [
  ...(['f32', 'f16'] as const).map((dtype) => selectionSums({ dtype, pixels: 999, classes: dtype === 'f32' ? 4 : 3 })),
  selectionValue(999),
];
