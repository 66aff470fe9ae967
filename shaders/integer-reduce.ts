// y[o, s, i] = the sum, product, largest or smallest of x[o, r, i] over r = s, s + splits, …; x is seen as [outer, count, inner]. Sums and
// products are those of 32 bits, which wrap around, so their order does not matter. u8 is read as u32.
// One thread per element of y; neighbouring threads read neighbours.
import { type ElementType, elementAt, storedType, valueType } from './elements.js';
import { flatIndex, u32, wgsl } from './wgsl.js';

/** The first value, and the next joined to it. */
const joins = { sum: 'a + b', prod: 'a * b', max: 'max(a, b)', min: 'min(a, b)' } as const;

export interface IntegerReduction {
  readonly kind: keyof typeof joins;
  readonly type: Exclude<ElementType, 'f32' | 'f16'>;
  readonly outer: number;
  readonly count: number;
  readonly inner: number;
  readonly splits: number;
}

export function integerReduceShader({ kind, type, outer, count, inner, splits }: IntegerReduction): string {
  const T = valueType(type);
  const at = `(o * ${u32(count)} + r) * ${u32(inner)} + k`;
  return wgsl`
@group(0) @binding(0) var<storage, read> x: array<${storedType(type)}>;
@group(0) @binding(1) var<storage, read_write> y: array<${T}>;

fn joined(a: ${T}, b: ${T}) -> ${T} { return ${joins[kind]}; }
fn element(o: u32, r: u32, k: u32) -> ${T} { return ${elementAt('x', `(${at})`, type)}; }

@compute @workgroup_size(64)
fn integer_${kind}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(outer * splits * inner)}) { return; }
  let k = i % ${u32(inner)};
  let s = i / ${u32(inner)} % ${u32(splits)};
  let o = i / ${u32(splits * inner)};
  var sum = element(o, s, k);
  for (var r = s + ${u32(splits)}; r < ${u32(count)}; r += ${u32(splits)}) { sum = joined(sum, element(o, r, k)); }
  y[i] = sum;
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['sum', 'prod', 'max', 'min'] as const).flatMap((kind) =>
    (['u32', 'i32', 'u8'] as const).map((type) =>
      integerReduceShader({ kind, type, outer: 2, count: 1000, inner: 3, splits: 16 }),
    ),
  );
