// Rows by index, x seen as [outer, n, inner]:      gather: y[o, j, i] = x[o, index[j], i], NaN (0 for integers) where index[j] ≥ n
// and its gradient:                                 scatter: y[o, k, i] = base[o, k, i] + Σ u[o, j, i] over the j with index[j] = k
// The sums run in the order of j, so they repeat bit for bit. To know the j of each k without a sort, they are linked: head[k] is
// the first, next[j] the one after j (0: none; places count from 1).
import { type ElementType, elementAt, enableFor, storedType, storeElements, valueType } from './elements.js';
import { type Float, flatIndex, u32, wgsl } from './wgsl.js';

export type IndexType = 'u8' | 'u32' | 'i32';

export interface Gather {
  readonly type: ElementType;
  readonly index: IndexType;
  readonly outer: number;
  /** Rows of x. */
  readonly n: number;
  readonly inner: number;
  /** Indices. */
  readonly count: number;
  /** What an index that is no row gives; default NaN, for integers 0. */
  readonly outside?: 'zero';
}

/** Expression: index j as u32; a negative one is larger than any row. */
const indexAt = (j: string, type: IndexType): string =>
  type === 'i32' ? `bitcast<u32>(indices[${j}])` : elementAt('indices', j, type);

/** Elements that one thread of `gatherShader` and `scatterShader` moves. */
export const rowWidth = ({ type, inner }: Pick<Gather, 'type' | 'inner'>): number =>
  type === 'u8' || inner % 4 === 0 ? 4 : 1;

export function gatherShader({ type: of, index, outer, n, inner, count, outside }: Gather): string {
  const inFours = inner % 4 === 0;
  const type = of === 'u8' && inFours ? 'u32' : of;
  const vector = inFours && of !== 'u8' ? `vec4<${of}>` : undefined;
  const length = inFours ? inner / 4 : inner;
  const result = vector ?? valueType(type);
  const isSpoiled = (of === 'f32' || of === 'f16') && outside !== 'zero';
  const spoiled = vector ? `${vector}(vec4f(nan))` : 'nan';
  const store = vector
    ? `
  if (i >= arrayLength(&y)) { return; }
  y[i] = value(i);`
    : storeElements('y', type);
  return wgsl`${enableFor([of])}
@group(0) @binding(0) var<storage, read> x: array<${vector ?? storedType(type)}>;
@group(0) @binding(1) var<storage, read> indices: array<${storedType(index)}>;
@group(0) @binding(2) var<storage, read_write> y: array<${vector ?? storedType(type)}>;

fn value(i: u32) -> ${result} {
  let j = i / ${u32(length)} % ${u32(count)};
  let k = ${indexAt('j', index)};
#if ${isSpoiled}
  let nan = bitcast<f32>(0x7fc00000u | k); // not a constant, which WGSL refuses
  if (k >= ${u32(n)}) { return ${spoiled}; }
#else
  if (k >= ${u32(n)}) { return ${result}(0); }
#endif
  let at = (i / ${u32(length * count)} * ${u32(n)} + k) * ${u32(length)} + i % ${u32(length)};
  return ${vector ? 'x[at]' : elementAt('x', 'at', type)};
}

@compute @workgroup_size(64)
fn gather(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(Math.ceil((outer * count * inner) / rowWidth({ type: of, inner })))}) { return; }${store}
}`;
}

/** Indices that one launch of `linkShader` links. Each of its threads looks at all of its block, so more launches cost less work. */
export const linkBlock = 512;

/**
 * Links the indices of block `numbers[0]` to each other and to those of earlier blocks; `last[k]` is the last so far. Only the first of
 * equal indices in a block touches head and last. One thread per index.
 */
export const linkShader = ({ index, n, count }: Pick<Gather, 'index' | 'n' | 'count'>): string => wgsl`
@group(0) @binding(0) var<storage, read> indices: array<${storedType(index)}>;
@group(0) @binding(1) var<storage, read_write> head: array<u32>;
@group(0) @binding(2) var<storage, read_write> last: array<u32>;
@group(0) @binding(3) var<storage, read_write> next: array<u32>;
@group(0) @binding(4) var<storage, read> numbers: array<f32>;

@compute @workgroup_size(64)
fn link_equal(@builtin(global_invocation_id) id: vec3u) {
  let begin = u32(numbers[0]) * ${u32(linkBlock)};
  let end = min(begin + ${u32(linkBlock)}, ${u32(count)});
  let j = begin + id.x;
  if (j >= end) { return; }
  let k = ${indexAt('j', index)};
  if (k >= ${u32(n)}) { return; }
  var is_first = true;
  for (var q = begin; q < j && is_first; q++) { is_first = ${indexAt('q', index)} != k; }
  var after = 0u;
  var latest = j;
  for (var q = j + 1u; q < end; q++) {
    if (${indexAt('q', index)} == k) {
      if (after == 0u) { after = q + 1u; }
      latest = q;
      if (!is_first) { break; }
    }
  }
  next[j] = after;
  if (is_first) {
    let before = last[k];
    if (before == 0u) { head[k] = j + 1u; } else { next[before - 1u] = j + 1u; }
    last[k] = latest + 1u;
  }
}`;

/** One thread per element of y, or per four. Without `base` y begins at 0. */
export function scatterShader({ type, outer, n, inner, count }: Gather & { type: Float }, withBase: boolean): string {
  const width = inner % 4 === 0 ? 4 : 1;
  const stored = width === 4 ? `vec4<${type}>` : type;
  const work = width === 4 ? 'vec4f' : 'f32';
  const length = inner / width;
  return wgsl`${enableFor([type])}
@group(0) @binding(0) var<storage, read> updates: array<${stored}>;
@group(0) @binding(1) var<storage, read> head: array<u32>;
@group(0) @binding(2) var<storage, read> next: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<${stored}>;
#if ${withBase}
@group(0) @binding(4) var<storage, read> base: array<${stored}>;
#endif

@compute @workgroup_size(64)
fn scatter_add(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(outer * n * length)}) { return; }
  let begin = i / ${u32(n * length)} * ${u32(count * length)} + i % ${u32(length)};
  var sum = ${withBase ? `${work}(base[i])` : `${work}()`};
  var j = head[i / ${u32(length)} % ${u32(n)}];
  while (j != 0u) {
    sum += ${work}(updates[begin + (j - 1u) * ${u32(length)}]);
    j = next[j - 1u];
  }
  y[i] = ${stored}(sum);
}`;
}

/** y[j, k] = 1 where index[j] = k, else 0; one thread per element, or per four bytes. */
export const oneHotShader = (
  index: IndexType,
  type: ElementType,
  count: number,
  classes: number,
): string => wgsl`${enableFor([type])}
@group(0) @binding(0) var<storage, read> indices: array<${storedType(index)}>;
@group(0) @binding(1) var<storage, read_write> y: array<${storedType(type)}>;

fn value(i: u32) -> ${valueType(type)} {
  let j = i / ${u32(classes)};
  if (j >= ${u32(count)}) { return ${valueType(type)}(0); }
  return select(${valueType(type)}(0), ${valueType(type)}(1), ${indexAt('j', index)} == i % ${u32(classes)});
}

@compute @workgroup_size(64)
fn one_hot(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};${storeElements('y', type)}
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['u8', 'u32', 'i32'] as const).flatMap((index) => [
    ...(['f32', 'f16', 'u32', 'i32', 'u8'] as const).flatMap((type) => [
      gatherShader({ type, index, outer: 2, n: 5, inner: 3, count: 7 }),
      gatherShader({ type, index, outer: 2, n: 5, inner: 8, count: 7 }),
      gatherShader({ type, index, outer: 2, n: 5, inner: 8, count: 7, outside: 'zero' }),
      oneHotShader(index, type, 7, 5),
    ]),
    linkShader({ index, n: 5, count: 7 }),
    ...(['f32', 'f16'] as const).flatMap((type) =>
      [3, 8].flatMap((inner) =>
        [true, false].map((withBase) => scatterShader({ type, index, outer: 2, n: 5, inner, count: 7 }, withBase)),
      ),
    ),
  ]);
