// Makes a failing program smaller as long as it fails: fewer steps, outputs and calls, values cut off from what made them,
// smaller sizes.

import { shapesOf } from './expected.js';
import type { Argument, Call, Leaf, Program, Ref } from './program.js';
import { differentiable, gpu, random, reaching, refsOf, substitute } from './program.js';
import type { Fault } from './run.js';
import { sizeOf } from './shapes.js';

type Test = (program: Program) => Promise<Fault | undefined>;

/** The smallest program found that still fails, and how it fails. Throws if `program` does not. */
export async function shrink(program: Program, test: Test, most = 400): Promise<{ shrunk: Program; fault: Fault }> {
  let fault = await test(program);
  if (!fault) throw new Error('shrink: the program does not fail.');
  let shrunk = program;
  let tries = 0;
  for (let progress = true; progress; ) {
    progress = false;
    for (const candidate of candidates(shrunk)) {
      if (tries++ >= most) return { shrunk, fault };
      const smaller = tidy(candidate);
      if (!smaller || cost(smaller) >= cost(shrunk)) continue;
      const found = await test(smaller);
      if (!found || Boolean(found.at) !== Boolean(fault.at)) continue; // another fault is not this one
      [shrunk, fault, progress] = [smaller, found, true];
      break;
    }
  }
  return { shrunk, fault };
}

function cost(program: Program): number {
  const { calls, leaves, outputs, reads, wanted, stepping, steps, early, seeded } = program;
  const elements = leaves.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const options = JSON.stringify(calls.map(({ args }) => args)).length;
  const extras = [
    ...[stepping?.packed, stepping?.guarded, stepping?.clip, stepping?.scaled, stepping?.teacher?.packed],
    ...[stepping?.teacher, early, seeded, program.passed],
  ];
  return (
    1000 * calls.length +
    300 * (leaves.length + outputs.length + reads.length + wanted.length + steps) +
    (stepping ? 400 : 0) +
    100 * extras.filter(Boolean).length +
    5 * options +
    elements
  );
}

/** Without what nothing needs; undefined if nothing is left. */
function tidy(program: Program): Program | undefined {
  const present = new Set([...program.leaves, ...program.calls].map(({ id }) => id));
  const outputs = program.outputs.filter((id) => present.has(id));
  if (!outputs.length) return undefined;
  const reads = program.reads.filter((id) => present.has(id));
  const used = new Set([...outputs, ...reads, ...program.calls.flatMap(({ args }) => refsOf(args))]);
  const reached = differentiable({ ...program, outputs });
  const { stepping: before, ...rest } = program;
  const parameters = before?.parameters.filter((id) => reached.includes(id)) ?? [];
  const kept = parameters.map((id) => before!.parameters.indexOf(id));
  const teacher = before?.teacher && { ...before.teacher, ids: kept.map((i) => before.teacher!.ids[i]!) };
  const { teacher: _, ...others } = before ?? {};
  const stepping = parameters.length
    ? { ...(others as typeof before), parameters, ...(teacher && { teacher }) }
    : undefined;
  for (const id of teacher?.ids ?? []) used.add(id);
  const leaves = program.leaves.filter(({ id }) => used.has(id));
  const wanted = program.wanted.filter((id) => present.has(id));
  return {
    ...rest,
    leaves,
    outputs,
    reads,
    wanted,
    ...(stepping && { stepping: stepping as NonNullable<typeof before> }),
  };
}

function* candidates(program: Program): Generator<Program> {
  const { calls, leaves, outputs, reads, wanted, stepping, steps } = program;
  if (stepping) {
    const { stepping: _, ...plain } = program;
    yield plain;
    if (stepping.teacher) {
      const { teacher: __, ...alone } = stepping;
      yield { ...program, stepping: alone };
      yield { ...program, stepping: { ...stepping, teacher: { ...stepping.teacher, packed: false } } };
    }
    yield { ...program, stepping: { ...stepping, packed: false } };
    yield { ...program, stepping: { ...stepping, guarded: false } };
    const { clip: _clip, ...unclipped } = stepping;
    yield { ...program, stepping: unclipped };
    const { scaled: _scaled, ...unscaled } = stepping;
    yield { ...program, stepping: unscaled };
  }
  if (steps > 1) yield { ...program, steps: 1 };
  if (steps > 2) yield { ...program, steps: 2 };
  // A half of the outputs or reads, then one fewer.
  for (const half of [0, 1]) {
    const part = <T>(xs: readonly T[]) => (half ? xs.slice(xs.length >> 1) : xs.slice(0, xs.length >> 1));
    if (outputs.length > 1) yield { ...program, outputs: part(outputs) };
    if (reads.length > 1) yield { ...program, reads: part(reads) };
  }
  if (reads.length) yield { ...program, reads: [] };
  if (wanted.length) yield { ...program, wanted: [] };
  const less = reaching(calls, [...outputs, ...reads]);
  if (less.length < calls.length) yield { ...program, calls: less };
  for (const one of outputs) if (outputs.length > 1) yield { ...program, outputs: outputs.filter((id) => id !== one) };
  for (const one of reads) yield { ...program, reads: reads.filter((id) => id !== one) };
  for (const one of wanted) yield { ...program, wanted: wanted.filter((id) => id !== one) };
  // The loss is of something that does not matter; a value is wrong.
  for (const leaf of leaves) if (leaf.kind === 'parameter' && reads.length) yield { ...program, outputs: [leaf.id] };
  // The loss is taken of something earlier: what comes after goes.
  for (const { id } of calls) {
    if (!outputs.includes(id))
      yield { ...program, calls: reaching(calls, [id]), outputs: [id], reads: reads.filter((r) => r === id) };
  }
  // A value comes from nowhere instead of from its call.
  for (const call of [...calls].reverse()) {
    const shape = shapesOf(program).get(call.id);
    if (shape) yield cut(program, call, shape);
  }
  // A value is one of its call's inputs.
  for (const call of [...calls].reverse()) {
    for (const x of new Set(refsOf(call.args))) yield bypass(program, call, x);
  }
  // An untracked call, an optional argument.
  for (const call of calls) {
    if (call.untracked) {
      const { untracked: _, ...tracked } = call;
      yield replaced(program, call, tracked);
    }
    for (const args of simpler(call)) yield replaced(program, call, { ...call, args });
  }
  // Parameters that need not be.
  for (const leaf of leaves) {
    if (leaf.kind === 'parameter')
      yield { ...program, leaves: leaves.map((each) => (each === leaf ? { ...leaf, kind: 'input' as const } : each)) };
  }
  const sizes = [...new Set(leaves.flatMap(({ shape }) => shape))].sort((a, b) => b - a);
  for (const from of sizes) for (const to of [1, 2, 3, 4].filter((n) => n < from)) yield resized(program, from, to);
  if (program.early) yield { ...program, early: false };
  if (program.seeded) yield { ...program, seeded: false };
  if (program.passed) yield { ...program, passed: false };
}

const replaced = (program: Program, before: Call, after: Call): Program => ({
  ...program,
  calls: program.calls.map((call) => (call === before ? after : call)),
});

/** Options that have no default. */
const needed = new Set(['mode', 'slope', 'std', 'random', 'scale', 'rate']);

/** Other arguments of the same call, with less in them. */
function* simpler({ name, args }: Call): Generator<readonly Argument[]> {
  if (name === 'concat' || name === 'stack') {
    const xs = args[0] as readonly Argument[];
    if (xs.length > 1) for (const x of xs) yield [xs.filter((each) => each !== x), ...args.slice(1)];
  }
  const last = args.at(-1);
  if (typeof last === 'object' && !Array.isArray(last) && !('$' in last)) {
    for (const key of Object.keys(last)) {
      if (needed.has(key)) continue;
      const { [key]: _, ...fewer } = last as Record<string, Argument>;
      yield [...args.slice(0, -1), fewer];
    }
    if (!('random' in last)) yield args.slice(0, -1);
  }
  if (name.startsWith('conv') && args.length === 3) yield args.slice(0, -1);
}

function cut(program: Program, call: Call, shape: readonly number[]): Program {
  const leaf: Leaf = { id: call.id, kind: 'parameter', shape, low: -1, high: 1 };
  const without = (ids: readonly number[]): number[] => ids.filter((id) => id !== call.id);
  return {
    ...program,
    leaves: [...program.leaves, leaf],
    calls: program.calls.filter((each) => each !== call),
    outputs: without(program.outputs),
    reads: without(program.reads),
    wanted: without(program.wanted),
  };
}

function bypass(program: Program, call: Call, x: number): Program {
  const instead = (id: number): Ref => ({ $: id === call.id ? x : id });
  const sources = { random, gpu }; // they stay
  const calls = program.calls
    .filter((each) => each !== call)
    .map((each) => ({ ...each, args: substitute(each.args, instead, sources) as Argument[] }));
  const made = new Set(calls.map(({ id }) => id));
  const moved = (ids: readonly number[]): number[] =>
    [...new Set(ids.map((id) => instead(id).$))].filter((id) => made.has(id));
  return {
    ...program,
    calls,
    outputs: moved(program.outputs),
    reads: moved(program.reads),
    wanted: moved(program.wanted),
  };
}

/** Every size `from`, wherever it is written, becomes `to`. */
function resized(program: Program, from: number, to: number): Program {
  const shape = (sizes: readonly number[]): number[] => sizes.map((n) => (n === from ? to : n));
  return {
    ...program,
    leaves: program.leaves.map((leaf) =>
      leaf.kind === 'labels'
        ? { ...leaf, shape: shape(leaf.shape), high: leaf.high === from ? to : leaf.high }
        : { ...leaf, shape: shape(leaf.shape) },
    ),
    calls: program.calls.map((call) =>
      call.name === 'reshape' ? { ...call, args: [call.args[0]!, shape(call.args[1] as number[])] } : call,
    ),
  };
}
