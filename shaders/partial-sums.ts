// Snippets for kernels that add up several numbers over many items: every thread adds up its own items, the threads of a
// workgroup meet in shared memory (`storePartials`), and one workgroup adds up what the workgroups left (`addPartials`).
// Every order is fixed, and no chain of additions is long, so little is lost in f32.
import { u32, wgsl } from './wgsl.js';

/** Threads of a workgroup that stores partials. */
export const partialWorkgroup = 64;
/** Threads of the one workgroup that adds partials up. */
export const totalsWorkgroup = 256;

/** Workgroups that share `items`: two a thread where there are few, as many as fill a large GPU where there are many. */
export const partialGroups = (items: number): number =>
  Math.max(1, Math.min(1024, Math.ceil(items / (2 * partialWorkgroup))));

/** Module scope of a kernel with `storePartials` of `count` values. */
export const partialsMemory = (count: number): string =>
  wgsl`var<workgroup> shared_values: array<f32, ${count * partialWorkgroup}>;`;

/**
 * Stores the sums over the workgroup of the `values` (expressions) as row `group.x` of `partials` [groups, values]. All
 * threads of the workgroup must come here; needs `thread`, the local invocation index, and `group`, the workgroup's id.
 */
export const storePartials = (values: readonly string[]): string => wgsl`
${values.map((value, v) => `  shared_values[thread * ${values.length}u + ${v}u] = ${value};`).join('\n')}
  workgroupBarrier();
  for (var v = thread; v < ${u32(values.length)}; v += ${u32(partialWorkgroup)}) {
    var sum = 0.0;
    for (var t = 0u; t < ${u32(partialWorkgroup)}; t++) { sum += shared_values[t * ${u32(values.length)} + v]; }
    partials[group.x * ${u32(values.length)} + v] = sum;
  }`;

/** Module scope of a kernel with `addPartials` of `count` values, which are 256 at most. */
export const totalsMemory = (count: number): string => wgsl`
var<workgroup> shared_values: array<f32, ${totalsWorkgroup}>;
var<workgroup> totals: array<f32, ${count}>;`;

/** Leaves the sums over the rows of `partials` [groups, count] in `totals`, for all threads of the one workgroup. */
export function addPartials(count: number, groups: number): string {
  const parts = Math.min(groups, Math.floor(totalsWorkgroup / count));
  return wgsl`
  if (thread < ${u32(parts * count)}) {
    var sum = 0.0;
    for (var at = thread; at < ${u32(groups * count)}; at += ${u32(parts * count)}) { sum += partials[at]; }
    shared_values[thread] = sum;
  }
  workgroupBarrier();
  if (thread < ${u32(count)}) {
    var sum = 0.0;
    for (var at = thread; at < ${u32(parts * count)}; at += ${u32(count)}) { sum += shared_values[at]; }
    totals[thread] = sum;
  }
  workgroupBarrier();`;
}
