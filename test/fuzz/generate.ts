// Draws programs: calls by `moves`, then what of them is put out, read and stepped.
import { Draft, type DrawOptions, isImage, type Value } from './draft.js';
import { expectations } from './expected.js';
import { convolution } from './layers.js';
import { drawMove, drawOp, inHalf } from './moves.js';
import { rows } from './ops.js';
import {
  type Argument,
  type Call,
  differentiable,
  inPlace,
  type Program,
  type Ref,
  reached,
  reaching,
  refsOf,
  type Stepping,
  trackedOf,
} from './program.js';

const geometries = [
  [1, 4, 6, 4],
  [2, 4, 6, 8],
  [1, 5, 7, 3],
  [2, 6, 4, 4],
  [1, 2, 4, 4, 4],
  [1, 3, 4, 2, 8],
  [2, 2, 4, 4, 4],
];
const narrowGeometries = [
  [1, 4, 6, 4],
  [3, 4, 6, 4],
  [1, 2, 4, 4, 4],
];

/** The program of a seed: the first one of its stream that tests something. */
export function drawProgram(seed: number, options: DrawOptions): Program {
  for (let attempt = 0; attempt < 400; attempt++) {
    const program = drawn(seed, seed * 1000 + attempt, options);
    if (!program || program.calls.some(({ args }) => args[1] === 'f16') !== options.half) continue;
    if (expectations(program, 4).steps.length) return program;
  }
  throw new Error(`fuzz: seed ${seed} gives no program.`);
}

function drawn(seed: number, stream: number, options: DrawOptions): Program | undefined {
  const d = new Draft(stream, options);
  const shape = d.of(options.narrow ? narrowGeometries : geometries);
  d.leaf(d.chance(0.6) ? 'input' : 'parameter', shape, -1, 1);
  if (d.chance(0.4)) d.leaf(d.chance(0.6) ? 'input' : 'parameter', shape, -1, 1);
  convolution(d, d.pick(isImage));
  const [least, most] = options.calls;
  const wanted = least + d.below(most - least + 1);
  const { half } = options;
  const turns = turnsOf(seed, options.turns ?? 0);
  const asked: Value[] = [];
  for (let tries = 0; d.calls.length < (half ? Math.min(10, wanted) : wanted) && tries < 10 * most; tries++) {
    const turn = turns.length && d.chance(0.5) ? turns[0] : undefined;
    const move = turn !== undefined ? () => drawOp(d, turn) : half && d.chance(0.3) ? inHalf : drawMove(d);
    if (!d.attempt(() => move(d)) || turn === undefined) continue;
    turns.shift();
    asked.push({ $: d.calls.at(-1)!.id });
  }
  return turns.length ? undefined : finished(d, asked);
}

/** The ops whose turn it is. */
function turnsOf(seed: number, count: number): string[] {
  const names = rows.flatMap((row) => row.names);
  return Array.from({ length: count }, (_, i) => names[(seed * count + i) % names.length]!);
}

/** Chooses outputs, what is read, and how parameters are stepped. */
function finished(d: Draft, asked: readonly Value[]): Program | undefined {
  const used = new Set(d.calls.flatMap(({ args }) => refsOf(args)));
  const tracked = trackedOf(d.leaves, d.calls);
  const usable = (id: number): boolean => tracked.has(id) && !d.real({ $: id }).half;
  const ends = d.calls.map(({ id }) => id).filter((id) => !used.has(id) && usable(id));
  const middle = d.calls.map(({ id }) => id).filter((id) => used.has(id) && usable(id));
  const outputs = shuffled(d, ends).slice(0, 4);
  if (middle.length && d.chance(0.4)) outputs.push(d.of(middle));
  for (const { $ } of asked) {
    const depended = reached({ outputs, calls: d.calls });
    if (usable($) && !depended.has($)) outputs.push($);
  }
  if (!outputs.length) return undefined;
  const views = viewsOfState(d);
  const reaches = new Set(reaching(d.calls, outputs).map(({ id }) => id));
  const unseen = (id: number): boolean => asked.some(({ $ }) => $ === id) && !reaches.has(id) && !tracked.has(id);
  const reads = d.calls
    .map(({ id }) => id)
    .filter((id) => !views.has(id) && (unseen(id) || d.chance(outputs.includes(id) ? 0.6 : 0.1)));
  const wanted = d.chance(0.3) ? shuffled(d, middle).slice(0, 1 + d.below(2)) : [];
  const seeded = outputs.length === 1 && d.chance(0.5);
  const calls = d.chance(0.5) ? reaching(d.calls, [...outputs, ...reads]) : d.calls;
  const program: Program = {
    seed: d.seed,
    leaves: d.leaves,
    calls,
    outputs,
    reads,
    wanted: wanted.filter((id) => calls.some((call) => call.id === id)),
    early: d.chance(0.5),
    seeded,
    passed: d.chance(0.3),
    steps: 3,
  };
  return stepped(d, program);
}

/** Ops whose result may share the buffer of their first argument. */
const sharing = new Set(['reshape', 'cast', 'detach', 'split', 'slice', ...inPlace]);

/** Values that share the buffer of what a step changes: reading them afterwards gives the new numbers. */
function viewsOfState(d: Draft): Set<number> {
  const views = new Set(d.leaves.map(({ id }) => id));
  for (const { id, name, args } of d.calls) if (sharing.has(name) && views.has((args[0] as Ref).$)) views.add(id);
  return views;
}

function shuffled<T>(d: Draft, xs: readonly T[]): T[] {
  const rest = [...xs];
  return xs.map(() => rest.splice(d.below(rest.length), 1)[0]!);
}

function stepped(d: Draft, program: Program): Program {
  const all = differentiable(program);
  if (!d.chance(0.6) || !all.length) return program;
  const parameters = d.chance(0.8) ? all : all.slice(0, 1 + d.below(all.length));
  const kind = d.chance(0.7) ? 'sgd' : 'adamw';
  const stepping: Stepping = {
    ...{ kind, parameters, packed: d.chance(0.5), guarded: d.chance(0.3) },
    ...(d.chance(0.2) && { clip: 0.5 }),
    ...(!program.seeded && d.chance(0.2) && { scaled: true }),
  };
  if (!d.chance(0.5)) return { ...program, stepping };
  // The teacher looks at the first input with its own weights, if the student's first call was such a convolution.
  const teacher = parameters.map((id) => {
    const leaf = program.leaves.find((each) => each.id === id)!;
    return { ...leaf, id: leaf.id + 10_000, kind: 'teacher' as const };
  });
  const leaves = [...program.leaves, ...teacher];
  const replaced = withTeacher(program, new Map(parameters.map((id, i) => [id, teacher[i]!.id])));
  return {
    ...program,
    leaves,
    ...replaced,
    stepping: {
      ...stepping,
      teacher: { ids: teacher.map(({ id }) => id), packed: d.chance(0.5), by: d.of(['average', 'ema']) },
    },
  };
}

/** A call of convolution is done once more by the teacher, under noGrad, and the loss has the squared distance. */
function withTeacher(program: Program, of: ReadonlyMap<number, number>): Pick<Program, 'calls' | 'outputs' | 'seeded'> {
  const at = program.calls.findIndex(
    ({ name, args, untracked }) => name === 'conv' && !untracked && of.has((args[1] as Ref).$),
  );
  const student = program.calls[at];
  const { calls: before, outputs, seeded } = program;
  if (!student) return { calls: before, outputs, seeded };
  const args = student.args.map((arg) =>
    typeof arg === 'object' && '$' in arg ? { $: of.get(arg.$ as number) ?? arg.$ } : arg,
  );
  const calls: Call[] = [
    { id: 20_000, name: student.name, args: args as Argument[], untracked: true },
    { id: 20_001, name: 'sub', args: [{ $: student.id }, { $: 20_000 }] },
    { id: 20_002, name: 'square', args: [{ $: 20_001 }] },
    { id: 20_003, name: 'mean', args: [{ $: 20_002 }] },
  ];
  return { calls: program.calls.toSpliced(at + 1, 0, ...calls), outputs: [...program.outputs, 20_003], seeded: false };
}
