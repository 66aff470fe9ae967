// The order of numbers for argmax, argmin and topK: the larger is ahead ('>'; '<': the smaller), a NaN ahead of all, and of equals
// the one with the lower index. x is seen as [outer, count, inner]; the indices are those along the middle.
import { type ElementType, storedType, storeElements } from './elements.js';
import { enable, type Float, flatIndex, nanFunctions, u32, wgsl } from './wgsl.js';

export interface Ordered {
  readonly dtype: Float;
  readonly sign: '>' | '<';
  readonly outer: number;
  readonly count: number;
  readonly inner: number;
}

/** `ahead(v, i, w, j)`: whether the number v at index i comes before w at j. */
const order = (sign: string): string => wgsl`alias V = f32;
${nanFunctions(false)}
fn ahead(v: f32, i: u32, w: f32, j: u32) -> bool {
  let v_is_nan = is_nan(v);
  let w_is_nan = is_nan(w);
  if (v_is_nan != w_is_nan) { return v_is_nan; }
  if (!v_is_nan && v != w) { return v ${sign} w; }
  return i < j;
}`;

/** y[o, i] = the index of the first in order; one thread per index of type u8, four of them, or u32. */
export const firstInOrder = (
  { dtype, sign, outer, count, inner }: Ordered,
  type: ElementType,
): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> x: array<${dtype}>;
@group(0) @binding(1) var<storage, read_write> y: array<${storedType(type)}>;
${order(sign)}

fn value(item: u32) -> u32 {
  if (item >= ${u32(outer * inner)}) { return 0u; }
  let base = item / ${u32(inner)} * ${u32(count * inner)} + item % ${u32(inner)};
  var best = 0u;
  var most = f32(x[base]);
  for (var r = 1u; r < ${u32(count)}; r++) {
    let v = f32(x[base + r * ${u32(inner)}]);
    if (ahead(v, r, most, best)) { most = v; best = r; }
  }
  return best;
}

@compute @workgroup_size(64)
fn first_in_order(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};${storeElements('y', type)}
}`;

/**
 * values[o, t, i] and indices[o, t, i] of the first k in order, t from 0. A workgroup finds one row's: in each of k rounds, its threads
 * look for the first that comes after what was found before, and a tree takes the first of theirs. Without `values` only indices.
 */
export function firstOfRows({ dtype, sign, outer, count, inner }: Ordered, k: number, withValues: boolean): string {
  let threads = 256;
  while (threads > 32 && threads / 2 >= count) threads /= 2;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> x: array<${dtype}>;
@group(0) @binding(1) var<storage, read_write> indices: array<u32>;
#if ${withValues}
@group(0) @binding(2) var<storage, read_write> values: array<${dtype}>;
#endif
${order(sign)}
var<workgroup> found: array<f32, ${threads}>;
var<workgroup> places: array<u32, ${threads}>;
const nowhere = 4294967295u;

fn is_first(v: f32, i: u32, w: f32, j: u32) -> bool {
  return i != nowhere && (j == nowhere || ahead(v, i, w, j));
}

@compute @workgroup_size(${threads})
fn first_of_rows(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  let item = group.y * groups.x + group.x;
  if (item >= ${u32(outer * inner)}) { return; }
  let base = item / ${u32(inner)} * ${u32(count * inner)} + item % ${u32(inner)};
  let goal = item / ${u32(inner)} * ${u32(k * inner)} + item % ${u32(inner)};
  var last = 0.0;
  var last_place = nowhere;
  for (var t = 0u; t < ${u32(k)}; t++) {
    var most = 0.0;
    var best = nowhere;
    for (var r = thread; r < ${u32(count)}; r += ${u32(threads)}) {
      let v = f32(x[base + r * ${u32(inner)}]);
      let is_left = last_place == nowhere || ahead(last, last_place, v, r);
      if (is_left && is_first(v, r, most, best)) { most = v; best = r; }
    }
    found[thread] = most;
    places[thread] = best;
    for (var half = ${u32(threads / 2)}; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (thread < half && is_first(found[thread + half], places[thread + half], found[thread], places[thread])) {
        found[thread] = found[thread + half];
        places[thread] = places[thread + half];
      }
    }
    workgroupBarrier();
    last = found[0];
    last_place = places[0];
    workgroupBarrier();
    if (thread == 0u) {
      indices[goal + t * ${u32(inner)}] = last_place;
#if ${withValues}
      values[goal + t * ${u32(inner)}] = x[base + last_place * ${u32(inner)}];
#endif
    }
  }
}`;
}

/** dx[o, indices[o, t, i], i] = dy[o, t, i], where dx is 0 already; one thread per element of dy. No two have one place. */
export const placeGradient = (
  dtype: Float,
  { outer, count, inner }: Omit<Ordered, 'dtype' | 'sign'>,
  k: number,
): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> dy: array<${dtype}>;
@group(0) @binding(1) var<storage, read> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> dx: array<${dtype}>;

@compute @workgroup_size(64)
fn place_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(outer * k * inner)}) { return; }
  dx[i / ${u32(k * inner)} * ${u32(count * inner)} + indices[i] * ${u32(inner)} + i % ${u32(inner)}] = dy[i];
}`;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    (['>', '<'] as const).flatMap((sign) => {
      const ordered = { dtype, sign, outer: 2, count: 300, inner: 3 };
      return [
        firstInOrder({ ...ordered, count: 5 }, 'u8'),
        firstOfRows(ordered, 1, false),
        firstOfRows(ordered, 4, true),
        firstOfRows({ ...ordered, count: 7 }, 7, true),
        placeGradient(dtype, ordered, 4),
      ];
    }),
  );
