// Statistics of each pixel's K class values x, for losses of many classes: m = max x and log Σ exp(x − m), so that
// softmax(x)_k = exp(x_k − m − log). Where a logit is NaN or m is infinite, m is NaN; it comes from Σ x, since not every driver's max
// and exp keep a NaN. Thread = pixel; beyond 256 classes, workgroup = pixel.
import { meet, overRow, rowHead, rowMemory, rowWalk, storedAs } from './class-rows.js';
import type { PixelSizes } from './cross-entropy.js';
import { enable, isNan, isNotFinite, nanFrom, wgsl } from './wgsl.js';

/** logits [pixels, K] → statistics [pixels, 2]: m, log Σ. */
export function classStatistics(sizes: PixelSizes): string {
  const walk = rowWalk(sizes);
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${storedAs(sizes.dtype, walk)}>;
@group(0) @binding(1) var<storage, read_write> statistics: array<vec2f>;
${rowMemory(walk)}
@compute @workgroup_size(64)
${rowHead('class_statistics', walk)}
  var most = V(logits[begin]);
  var all = V(0.0);
  ${overRow(walk, 'let x = V(logits[begin + k]); most = max(most, x); all += x;')}
  ${meet(walk, 'found', 'largest(most)', 'max')}
  ${meet(walk, 'all_classes', 'total(all)', 'sum')}
  let m = select(found, ${nanFrom('found')}, ${isNotFinite('found')} || ${isNan('all_classes', 'f32')});
  var sums = V(0.0);
  ${overRow(walk, 'sums += exp(V(logits[begin + k]) - m);')}
  ${meet(walk, 'sum', 'total(sums)', 'sum')}
#if ${walk.shared}
  if (thread > 0u) { return; }
#endif
  statistics[pixel] = vec2f(m, log(sum));
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [17, 20, 257, 1000].map((classes) => classStatistics({ dtype, pixels: 1000, classes })),
  );
