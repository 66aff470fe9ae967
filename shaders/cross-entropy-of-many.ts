// Cross-entropy of any number of classes, with class weights w (1 if not given) and label smoothing ε (0 if not; Szegedy et al., CVPR
// 2016), as PyTorch defines it:
//   loss = Σ_i [(1 − ε) w_y · −log p_y + ε/K · Σ_k w_k · −log p_k] / Σ_i w_y over the counted pixels i, whose labels y are classes
//   dlogits_k = [(1 − ε) w_y (p_k − [k = y]) + ε/K (p_k Σ_j w_j − w_k)] · dloss / Σ_i w_y
// m and log Σ of a pixel come from class-statistics.ts. Passes: rows [pixels] = Σ_k w_k · −log p_k (where ε > 0; thread = pixel, or
// workgroup = pixel), sums as in cross-entropy.ts with Σ w_y in place of the count, slopes (thread = class value, or four).
import { hereOf, meet, overRow, type RowWalk, rowHead, rowMemory, rowWalk, storedAs } from './class-rows.js';
import { type Labels, labelArray, labelAt, partialThreads } from './classes.js';
import { enable, type Float, f32, flatIndex, isNan, u32, wgsl } from './wgsl.js';

export interface ManySizes {
  readonly dtype: Float;
  readonly pixels: number;
  readonly classes: number;
  readonly labels: Labels;
  /** Whether `weights` [K] is bound; all are 1 if not. */
  readonly weighted: boolean;
  readonly smoothing: number;
}

const workingType = ({ width }: RowWalk): string => (width === 4 ? 'vec4f' : 'f32');

export function smoothedRows(sizes: ManySizes): string {
  const walk = rowWalk(sizes);
  const V = workingType(walk);
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${storedAs(sizes.dtype, walk)}>;
@group(0) @binding(1) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(2) var<storage, read_write> rows: array<f32>;
#if ${sizes.weighted}
@group(0) @binding(3) var<storage, read> weights: array<${V}>;
#endif
${rowMemory(walk)}
@compute @workgroup_size(64)
${rowHead('smoothed_rows', walk)}
  let s = statistics[pixel];
  var sums = V(0.0);
  ${overRow(walk, `sums += ${sizes.weighted ? 'weights[k] * ' : ''}(s.y - (V(logits[begin + k]) - s.x));`)}
  ${meet(walk, 'sum', 'total(sums)', 'sum')}
#if ${walk.shared}
  if (thread > 0u) { return; }
#endif
  rows[pixel] = sum;
}`;
}

/** partials [threads, 3]: the sum, Σ w_y, and NaN if a pixel that is not counted has NaN. */
export function sumsOfMany({ dtype, pixels, classes, labels, weighted, smoothing }: ManySizes): string {
  const threads = partialThreads(pixels);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${dtype}>;
@group(0) @binding(1) var<storage, read> labels: array<${labelArray(labels)}>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;
#if ${smoothing > 0}
@group(0) @binding(4) var<storage, read> rows: array<f32>;
#endif
#if ${weighted}
@group(0) @binding(5) var<storage, read> weights: array<f32>;
#endif

@compute @workgroup_size(64)
fn cross_entropy_of_many(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
  var sum = 0.0; var counted = 0.0; var spoiled = 0.0;
  for (var i = id.x; i < ${u32(pixels)}; i += ${u32(threads)}) {
    let y = ${labelAt('labels', 'i', labels)};
    let p = statistics[i];
    if (y < ${u32(classes)}) {
      let w = ${weighted ? 'weights[y]' : '1.0'};
      let own = ${weighted ? 'w * ' : ''}(p.y - (f32(logits[i * ${u32(classes)} + y]) - p.x));
      sum += ${smoothing > 0 ? `${f32(1 - smoothing)} * own + ${f32(smoothing / classes)} * rows[i]` : 'own'};
      counted += w;
    } else if (${isNan('p.x', 'f32')}) { spoiled = p.x; }
  }
  partials[3u * id.x] = sum; partials[3u * id.x + 1u] = counted; partials[3u * id.x + 2u] = spoiled;
}`;
}

/** `all`, bound where weights are and ε > 0, is Σ_j w_j. */
export function slopesOfMany(sizes: ManySizes): string {
  const { dtype, pixels, classes, labels, weighted, smoothing } = sizes;
  const walk = rowWalk(sizes);
  const V = workingType(walk);
  const stored = storedAs(dtype, walk);
  const component = walk.width === 4 ? 'weights[y / 4u][y % 4u]' : 'weights[y]';
  const other = weighted ? 'p * all[0] - weights[k]' : `p * ${f32(classes)} - 1.0`;
  const own = `${weighted ? 'w * ' : ''}(p - ${hereOf(walk, 'y')})`;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${stored}>;
@group(0) @binding(1) var<storage, read> labels: array<${labelArray(labels)}>;
@group(0) @binding(2) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<${stored}>;
#if ${weighted}
@group(0) @binding(6) var<storage, read> weights: array<${V}>;
#endif
#if ${weighted && smoothing > 0}
@group(0) @binding(7) var<storage, read> all: array<f32>;
#endif

@compute @workgroup_size(64)
fn cross_entropy_of_many_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = ${flatIndex(64)};
  if (at >= ${u32(pixels * walk.count)}) { return; }
  let i = at / ${u32(walk.count)};
  let k = at % ${u32(walk.count)};
  let y = ${labelAt('labels', 'i', labels)};
  if (y >= ${u32(classes)} || sums[1] == 0.0) { dlogits[at] = ${stored}(0.0); return; }
  let m = statistics[i].x;
  let p = select(exp((${V}(logits[at]) - m) - statistics[i].y), ${V}(m), ${isNan('m', 'f32')}); // exp may drop a NaN
#if ${weighted}
  let w = ${component};
#endif
  let slope = ${smoothing > 0 ? `${f32(1 - smoothing)} * (${own}) + ${f32(smoothing / classes)} * (${other})` : own};
  dlogits[at] = ${stored}(slope * (dloss[0] / sums[1]));
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [5, 8, 301].flatMap((classes) =>
      [
        { weighted: false, smoothing: 0 },
        { weighted: true, smoothing: 0 },
        { weighted: true, smoothing: 0.1 },
        { weighted: false, smoothing: 0.1 },
      ].flatMap((kind) => {
        const sizes = { dtype, pixels: 100, classes, labels: { type: 'u32', ignored: 1 } as const, ...kind };
        return [smoothedRows(sizes), sumsOfMany(sizes), slopesOfMany(sizes)];
      }),
    ),
  );
