// The sums of prototypes.ts over projected features, without these features: z = W2·h + b2 is linear in h, so Σ w z = W2·Σ w h + b2·Σ w
// and the sums are over h = l(W1·f + b1). A thread computes h of its own pixel of a tile (projection.ts) and leaves it in workgroup
// memory; then it adds up the pixels of the tile for its own pairs of a class and a quad of h.
import { byteAt } from './classes.js';
import {
  components,
  featureFunction,
  hiddenQuad,
  hiddenQuads,
  keptMemory,
  keptTiles,
  loadFeatures,
  type ProjectionSizes,
  projectionGroups,
  quadsOf,
  range,
  tileAt,
  tileMemory,
  tilePixels,
  tileRows,
} from './projection.js';
import { enable, u32, wgsl } from './wgsl.js';

/** Numbers of the partials: Σ w h [groups, K, hidden] and, from `weights` on, Σ w [groups, K], which are bound by themselves, too. */
export function projectedSumsPlaces(head: ProjectionSizes, classes: number): { weights: number; end: number } {
  const groups = projectionGroups(head);
  const weights = Math.ceil((groups * classes * head.hidden) / 64) * 64;
  return { weights, end: weights + groups * classes };
}

/** partials: Σ w h and Σ w of each workgroup's pixels, by class; pixels from `labeledPixels` on weigh ρ times as much. */
export function projectedPrototypeSums(head: ProjectionSizes, classes: number, labeledPixels: number): string {
  const { hidden } = quadsOf(head);
  const near = tileRows('near', hidden);
  const pairs = range(Math.ceil((classes * hidden) / tilePixels)).map((n) => ({
    sum: `sum${n}`,
    pair: `let pair = thread + ${u32(n * tilePixels)};`,
  }));
  const { weights } = projectedSumsPlaces(head, classes);
  const add = ({ sum, pair }: (typeof pairs)[number]): string =>
    `      { ${pair} ${sum} = fma(vec4f(select(0.0, w, class_of == pair / ${u32(hidden)})), ${tileAt(near, 'p', `pair % ${u32(hidden)}`)}, ${sum}); }`;
  // One number after the other: a store to a component of a vector may write all of it.
  const stored = ({ sum, pair }: (typeof pairs)[number]): string => wgsl`  { ${pair}
    if (pair < ${u32(classes * hidden)}) {
${components.map((c, i) => `      partials[(group.x * ${u32(classes * hidden)} + pair) * 4u + ${i}u] = ${sum}.${c};`).join('\n')}
    }
  }`;
  const tile = wgsl`
    {
${loadFeatures(head)}
    for (var j = 0u; j < ${hiddenQuads(head, 'bias1')}; j++) {
${hiddenQuad(head, { array: 'weight1', at: 0 }, { array: 'bias1', at: 0 })}
      ${tileAt(near, 'thread', 'j')} = h;
    }
    tile_weights[thread] = select(0.0, weight_of(i), thread < take);
    tile_classes[thread] = ${byteAt('classes', 'i')};
    }
    workgroupBarrier();
    for (var p = 0u; p < take; p++) {
      let w = tile_weights[p];
      let class_of = tile_classes[p];
${pairs.map(add).join('\n')}
      weight += select(0.0, w, class_of == thread);
    }
    workgroupBarrier();`;
  return wgsl`${enable(head.dtype)}
${featureFunction(head)}
@group(0) @binding(2) var<storage, read> weight1: array<vec4f>;
@group(0) @binding(3) var<storage, read> bias1: array<vec4f>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read> classes: array<u32>;
@group(0) @binding(6) var<storage, read> unlabeled_weight: array<f32>;
@group(0) @binding(7) var<storage, read_write> partials: array<f32>;
${keptMemory}
${tileMemory(near)}
var<workgroup> tile_weights: array<f32, ${tilePixels}>;
var<workgroup> tile_classes: array<u32, ${tilePixels}>;
fn weight_of(i: u32) -> f32 { return weights[i] * select(1.0, unlabeled_weight[0], i >= ${u32(labeledPixels)}); }
fn is_kept(i: u32) -> bool { return weight_of(i) != 0.0; }

@compute @workgroup_size(${tilePixels})
fn projected_prototype_sums(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
${pairs.map(({ sum }) => `  var ${sum} = vec4f(0.0);`).join('\n')}
  var weight = 0.0;
${keptTiles(head, tile)}
${pairs.map(stored).join('\n')}
  if (thread < ${u32(classes)}) { partials[${u32(weights)} + group.x * ${u32(classes)} + thread] = weight; }
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [
      { inputs: 16, hidden: 32, classes: 4 },
      { inputs: 20, hidden: 12, classes: 16 },
    ].map(({ classes, ...channels }) => {
      const onLoad = { slope: 0.01, dropout: 0, ...(classes === 4 && { groups: [1, 1] }) };
      const head = { dtype, pixels: 1000, outputs: 32, slope: 0.01, items: 2, ...channels, onLoad };
      return projectedPrototypeSums(head, classes, 500);
    }),
  );
