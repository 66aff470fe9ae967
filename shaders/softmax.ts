// Over the last axis, k = 0 … classes − 1, with m = max x:
//   softmax      y = exp(x − m) / Σ exp(x − m)        dx = y · (dy − Σ y·dy)
//   logSoftmax   y = x − m − log Σ exp(x − m)         dx = dy − exp(y) · Σ dy
// A row whose m is infinite or NaN becomes NaN explicitly, since not every driver's exp and max keep a NaN.
// x − m comes first: m + log Σ would lose the digits of a small difference of large logits.
// One thread per row (pixel) walks its classes, four at a time where their count is a multiple of four.
import { enable, type Float, flatIndex, isNotFinite, nanFrom, nanFunctions, u32, wgsl } from './wgsl.js';

export interface SoftmaxSizes {
  readonly dtype: Float;
  readonly rows: number;
  readonly classes: number;
  readonly log: boolean;
}

const working = ({ dtype, classes }: SoftmaxSizes) => {
  const wide = classes % 4 === 0;
  return {
    type: wide ? `vec4<${dtype}>` : dtype,
    snippet: wide
      ? 'alias V = vec4f;\nfn most_of(v: V) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }\nfn total(v: V) -> f32 { return (v.x + v.y) + (v.z + v.w); }'
      : 'alias V = f32;\nfn most_of(v: V) -> f32 { return v; }\nfn total(v: V) -> f32 { return v; }',
    count: wide ? classes / 4 : classes,
  };
};

export function softmaxForward(sizes: SoftmaxSizes): string {
  const { type, snippet, count } = working(sizes);
  return wgsl`${enable(sizes.dtype)}
${snippet}
${nanFunctions(sizes.classes % 4 === 0)}
@group(0) @binding(0) var<storage, read> x: array<${type}>;
@group(0) @binding(1) var<storage, read_write> y: array<${type}>;

@compute @workgroup_size(64)
fn ${sizes.log ? 'log_softmax' : 'softmax'}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = ${flatIndex(64)};
  if (row >= ${u32(sizes.rows)}) { return; }
  let begin = row * ${u32(count)};
  let end = begin + ${u32(count)};
  var most = V(x[begin]);
  for (var k = begin + 1u; k < end; k++) { most = largest(most, V(x[k])); }
  let found = most_of(most);
  let spoiled = any(is_nan(most)) || ${isNotFinite('found')};
  let m = select(found, ${nanFrom('found')}, spoiled);
  var sums = V(0.0);
  for (var k = begin; k < end; k++) { sums += exp(V(x[k]) - m); }
#if ${sizes.log}
  let shift = log(total(sums));
  for (var k = begin; k < end; k++) { y[k] = ${type}((V(x[k]) - m) - shift); }
#else
  let scale = select(1.0 / total(sums), m, spoiled);
  for (var k = begin; k < end; k++) { y[k] = ${type}(exp(V(x[k]) - m) * scale); }
#endif
}`;
}

export function softmaxBackward(sizes: SoftmaxSizes): string {
  const { type, snippet, count } = working(sizes);
  return wgsl`${enable(sizes.dtype)}
${snippet}
@group(0) @binding(0) var<storage, read> y: array<${type}>;
@group(0) @binding(1) var<storage, read> dy: array<${type}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${type}>;

@compute @workgroup_size(64)
fn ${sizes.log ? 'log_softmax_backward' : 'softmax_backward'}(
  @builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
) {
  let row = ${flatIndex(64)};
  if (row >= ${u32(sizes.rows)}) { return; }
  let begin = row * ${u32(count)};
  let end = begin + ${u32(count)};
  var sums = V(0.0);
#if ${sizes.log}
  for (var k = begin; k < end; k++) { sums += V(dy[k]); }
  let sum = total(sums);
  for (var k = begin; k < end; k++) { dx[k] = ${type}(V(dy[k]) - exp(V(y[k])) * sum); }
#else
  for (var k = begin; k < end; k++) { sums += V(y[k]) * V(dy[k]); }
  let sum = total(sums);
  for (var k = begin; k < end; k++) { dx[k] = ${type}(V(y[k]) * (V(dy[k]) - sum)); }
#endif
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [4, 3].flatMap((classes) =>
      [false, true].flatMap((log) => {
        const sizes = { dtype, rows: 10, classes, log };
        return [softmaxForward(sizes), softmaxBackward(sizes)];
      }),
    ),
  );
