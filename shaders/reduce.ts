// y[o, i] = Σ_r x[o, r, i], or that over n, the product, or the maximum or minimum over r (NaN if one is). x is seen as [outer, count, inner].
// 'threads': one thread per (o, s, i) walks r = s, s + splits, … with four running values; neighbouring threads read neighbours.
// 'workgroup': 256 threads per (o, i) do the same and combine in a tree. Both orders are fixed, so results repeat bit for bit.
import { quotientFunction } from './functions.js';
import { also, enable, type Float, flatIndex, nanFunctions, u32, wgsl } from './wgsl.js';

/** What joins two partial results, an operator with its neutral element or a function without one. */
const reductions = { sum: ['+', '0.0'], prod: ['*', '1.0'], max: ['largest'], min: ['smallest'] } as const;

export interface Reduction {
  readonly kind: keyof typeof reductions;
  /** Type of x; y is `to`. Between passes partial results are f32. */
  readonly from: Float;
  readonly to: Float;
  readonly outer: number;
  readonly count: number;
  readonly inner: number;
  /** Partial results per (o, i): y is [outer, splits, inner]. */
  readonly splits: number;
  /** Defines `quotient_1` of functions.ts; then `numbers` is bound and holds n. Empty where nothing is divided. */
  readonly quotient: string;
}

const combine = (kind: Reduction['kind'], a: string, b: string): string => {
  const [joins, neutral] = reductions[kind];
  return neutral ? `${a} ${joins} ${b}` : `${joins}(${a}, ${b})`;
};

const head = ({
  kind,
  from,
  to,
  quotient,
}: Reduction): string => wgsl`${enable(from === 'f16' || to === 'f16' ? 'f16' : 'f32')}
#if ${!reductions[kind][1]}
alias V = f32;
${nanFunctions(false)}${also(kind === 'min', 'fn smallest(a: V, b: V) -> V { return -largest(-a, -b); }')}
#endif
@group(0) @binding(0) var<storage, read> x: array<${from}>;
@group(0) @binding(1) var<storage, read_write> y: array<${to}>;
#if ${quotient !== ''}
@group(0) @binding(2) var<storage, read> numbers: array<f32>; // n
${quotient}
#endif`;

/** Expression: the reduced value as it is stored. */
const stored = ({ to, quotient }: Reduction, value: string): string =>
  `${to}(${quotient ? `quotient_1(${value}, numbers[0])` : value})`;

export function reduceByThreads(reduction: Reduction): string {
  const { kind, outer, count, inner, splits } = reduction;
  const stride = u32(splits * inner);
  const start = reductions[kind][1];
  const four = Math.floor(count / splits / 4) * 4; // every split has at least these
  return wgsl`${head(reduction)}

@compute @workgroup_size(64)
fn reduce_${kind}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let item = ${flatIndex(64)};
  if (item >= ${u32(outer * splits * inner)}) { return; }
  let first = item % ${u32(splits * inner)};
  let begin = item / ${u32(splits * inner)} * ${u32(count * inner)};
  let end = begin + ${u32(count * inner)};
  var at = begin + first;
#if ${start !== undefined}
  var a = ${start ?? ''}; var b = ${start ?? ''}; var c = ${start ?? ''}; var d = ${start ?? ''};
#else
  var a = f32(x[at]); var b = a; var c = a; var d = a;
#endif
  for (var r = 0u; r < ${u32(four)}; r += 4u) {
    a = ${combine(kind, 'a', 'f32(x[at])')};
    b = ${combine(kind, 'b', `f32(x[at + ${stride}])`)};
    c = ${combine(kind, 'c', `f32(x[at + 2u * ${stride}])`)};
    d = ${combine(kind, 'd', `f32(x[at + 3u * ${stride}])`)};
    at += 4u * ${stride};
  }
  for (; at < end; at += ${stride}) { a = ${combine(kind, 'a', 'f32(x[at])')}; }
  y[item] = ${stored(reduction, combine(kind, combine(kind, 'a', 'b'), combine(kind, 'c', 'd')))};
}`;
}

export function reduceByWorkgroup(reduction: Reduction): string {
  const { kind, outer, count, inner } = reduction;
  const start = reductions[kind][1];
  return wgsl`${head(reduction)}
var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn reduce_${kind}(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  let item = group.y * groups.x + group.x;
  if (item >= ${u32(outer * inner)}) { return; }
  let base = item / ${u32(inner)} * ${u32(count * inner)} + item % ${u32(inner)};
#if ${start !== undefined}
  var a = ${start ?? ''};
#else
  var a = f32(x[base]);
#endif
  for (var r = thread; r < ${u32(count)}; r += 256u) { a = ${combine(kind, 'a', `f32(x[base + r * ${u32(inner)}])`)}; }
  partial[thread] = a;
  for (var half = 128u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { partial[thread] = ${combine(kind, 'partial[thread]', 'partial[thread + half]')}; }
  }
  if (thread == 0u) { y[item] = ${stored(reduction, 'partial[0]')}; }
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['sum', 'max', 'min', 'prod'] as const).flatMap((kind) =>
    (['f32', 'f16'] as const).flatMap((dtype) => {
      const size = { kind, outer: 2, count: 1000, inner: 3, quotient: kind === 'sum' ? quotientFunction.text : '' };
      return [
        reduceByThreads({ ...size, from: dtype, to: 'f32', splits: 16 }),
        reduceByThreads({ ...size, from: dtype, to: dtype, splits: 1 }),
        reduceByWorkgroup({ ...size, from: 'f32', to: dtype, splits: 1 }),
      ];
    }),
  );
