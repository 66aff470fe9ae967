// Snippets for kernels that add up several numbers over many items. Threads add up their own items and write rows of partial sums
// (`storePartials`); one workgroup adds up the rows (`addPartials`). Every order is fixed, and no chain of additions is long, so
// little is lost in f32. With many items, the threads of a workgroup add up in shared memory and write one row. With few, each thread
// writes its own, because on CPU drivers a barrier costs more than reading the rows.
import { pairs, u32, wgsl } from './wgsl.js';

/** Threads of a workgroup that stores partials. */
export const partialWorkgroup = 64;
/** Threads of the one workgroup that adds partials up. */
export const totalsWorkgroup = 256;

/** How threads share a walk over items. */
export interface Walk {
  /** Thread t takes items t, t + threads, …; a multiple of the workgroup. */
  readonly threads: number;
  /** Rows of the partials. */
  readonly rows: number;
  /** Whether the threads of a workgroup write one row together. */
  readonly meet: boolean;
}

/** The walk over `items`: about eight for each thread where they are few, else two, as long as all threads fit on a large GPU. */
export function walkOver(items: number): Walk {
  const meet = items >= 2 ** 14;
  const groups = Math.min(1024, Math.ceil(items / ((meet ? 2 : 8) * partialWorkgroup)));
  const threads = groups * partialWorkgroup;
  return { threads, rows: meet ? groups : threads, meet };
}

/** Values of each thread that meet at a time: 16 KiB of shared memory, which every device has. */
const valuesAtATime = 64;

/** Module scope of a kernel with `storePartials` of `count` values. */
export const partialsMemory = ({ meet }: Walk, count: number): string =>
  meet ? wgsl`var<workgroup> shared_values: array<f32, ${Math.min(count, valuesAtATime) * partialWorkgroup}>;` : '';

/**
 * Stores the sums of the `values` (expressions) in `partials` [rows, values], and those of `beside` behind all of these, [rows,
 * beside]. All threads of the workgroup must come here; needs `id`, the global invocation id, `thread`, the local index, and
 * `group`, the workgroup's id.
 */
export function storePartials({ meet, rows }: Walk, values: readonly string[], beside: readonly string[] = []): string {
  const all = [...values, ...beside];
  const first = u32(values.length);
  const place = (row: string, v: string): string =>
    beside.length
      ? `select(${u32(rows * values.length)} + ${row} * ${u32(beside.length)} + ${v} - ${first}, ${row} * ${first} + ${v}, ${v} < ${first})`
      : `${row} * ${first} + ${v}`;
  const met = (
    some: readonly string[],
    before: number,
  ): string => wgsl`${some.map((value, v) => `  shared_values[thread * ${some.length}u + ${v}u] = ${value};`).join('\n')}
  workgroupBarrier();
  for (var v = thread; v < ${u32(some.length)}; v += ${u32(partialWorkgroup)}) {
    var sum = 0.0;
    for (var t = 0u; t < ${u32(partialWorkgroup)}; t++) { sum += shared_values[t * ${u32(some.length)} + v]; }
    partials[${place('group.x', before ? `(v + ${u32(before)})` : 'v')}] = sum;
  }`;
  const turns: string[] = [];
  for (let at = 0; at < all.length; at += valuesAtATime) turns.push(met(all.slice(at, at + valuesAtATime), at));
  return wgsl`
#if ${meet}
${turns.join('\n  workgroupBarrier();\n')}
#else
${values.map((value, v) => `  partials[id.x * ${first} + ${v}u] = ${value};`).join('\n')}
${beside.map((value, v) => `  partials[${u32(rows * values.length)} + id.x * ${u32(beside.length)} + ${v}u] = ${value};`).join('\n')}
#endif`;
}

/** Adds to `sum` the `value` at `from`, at `from` + step and so on below `end`; a thread waits for memory once for eight of them. */
export const sumEvery = (step: number, end: number, from: string, value: (at: string) => string): string => {
  const eight = Array.from({ length: 8 }, (_, k) => value(k ? `at + ${u32(k * step)}` : 'at'));
  const byEight = wgsl`
    for (; at + ${u32(7 * step)} < ${u32(end)}; at += ${u32(8 * step)}) {
      sum += ${pairs(eight)};
    }`;
  return wgsl`    var at = ${from};${end > 7 * step ? byEight : ''}
    for (; at < ${u32(end)}; at += ${u32(step)}) { sum += ${value('at')}; }`;
};

/** Module scope of a kernel with `addPartials` of `count` values, which are 256 at most. */
export const totalsMemory = (count: number): string => wgsl`
var<workgroup> shared_values: array<f32, ${totalsWorkgroup}>;
var<workgroup> totals: array<f32, ${count}>;`;

/**
 * Puts the sums over the rows of `partials` [rows, count] in `totals`, for all threads of the one workgroup. With `behind`, adds up
 * the `beside` values that follow that many other values, and puts their sums behind the totals of those.
 */
export function addPartials({ rows }: Pick<Walk, 'rows'>, count: number, behind = 0): string {
  const lanes = Math.min(rows, Math.floor(totalsWorkgroup / count));
  const partial = (at: string): string => (behind ? `partials[${u32(rows * behind)} + ${at}]` : `partials[${at}]`);
  const total = behind ? `totals[${u32(behind)} + thread]` : 'totals[thread]';
  return wgsl`
  if (thread < ${u32(lanes * count)}) {
    var sum = 0.0;
${sumEvery(lanes * count, rows * count, 'thread', partial)}
    shared_values[thread] = sum;
  }
  workgroupBarrier();
  if (thread < ${u32(count)}) {
    var sum = 0.0;
    for (var at = thread; at < ${u32(lanes * count)}; at += ${u32(count)}) { sum += shared_values[at]; }
    ${total} = sum;
  }
  workgroupBarrier();`;
}
