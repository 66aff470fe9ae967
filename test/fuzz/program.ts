// A random program as data: leaves with numbers, calls of the public API, what is read and differentiated, and how its
// parameters are stepped. The same description is run by the engine, run in float64, shrunk, and printed as code.
import { type Tensor, uniformStream } from '../../engine/index.js';
import { sizeOf } from './shapes.js';

/** A value of the program, by its number. */
export interface Ref {
  readonly $: number;
}

/** The program's source of random numbers. */
export const random = { source: 'random' } as const;
/** The GPU that the program runs on. */
export const gpu = { source: 'gpu' } as const;

export type Argument =
  | number
  | string
  | boolean
  | Ref
  | typeof random
  | typeof gpu
  | readonly Argument[]
  | { readonly [option: string]: Argument };

export interface Leaf {
  readonly id: number;
  readonly shape: readonly number[];
  /**
   * parameter: wants a gradient · input: has other numbers at every step, wants none · labels: u8 below `high` · running: state
   * that norms and other ops update · teacher: state that follows a parameter · table: i32, the numbers of `rows`.
   */
  readonly kind: 'parameter' | 'input' | 'labels' | 'running' | 'teacher' | 'table';
  /** Numbers are drawn from [low, high). */
  readonly low: number;
  readonly high: number;
  /** Of a table, which is no random numbers. */
  readonly rows?: readonly number[];
}

/** Leaves with other numbers at every step. */
export const changes = ({ kind }: Leaf): boolean => kind === 'input' || kind === 'labels';

/** One call of a public function, by name. */
export interface Call {
  readonly id: number;
  readonly name: string;
  readonly args: readonly Argument[];
  /** Called under `noGrad`. */
  readonly untracked?: boolean;
  /** Which part of the result is the value, of an op that gives several tensors. */
  readonly part?: string;
}

export interface Stepping {
  readonly kind: 'sgd' | 'adamw';
  readonly parameters: readonly number[];
  /** Parameters are packed into one buffer before the optimizer is made. */
  readonly packed: boolean;
  /** The loss guards the step. */
  readonly guarded: boolean;
  /** Gradients are clipped to that norm. */
  readonly clip?: number;
  /** The loss is scaled, and what the gradients are multiplied by before the step comes from its scale. */
  readonly scaled?: boolean;
  /** Leaves that follow the parameters, in their order: in the optimizer's launch, or by `ema` after it. */
  readonly teacher?: { readonly ids: readonly number[]; readonly packed: boolean; readonly by: 'average' | 'ema' };
}

export interface Program {
  /** Of the leaves' numbers and of dropout. */
  readonly seed: number;
  readonly leaves: readonly Leaf[];
  /** In the order in which they are called. */
  readonly calls: readonly Call[];
  /** The loss is the sum of these, each weighted by random numbers. */
  readonly outputs: readonly number[];
  /** Values that are returned and compared. */
  readonly reads: readonly number[];
  /** Values of calls that are marked `requiresGrad`. */
  readonly wanted: readonly number[];
  /** Eagerly, values are read before the backward pass. */
  readonly early: boolean;
  /** The one output's weights are the seed of `backward`; there is no loss. */
  readonly seeded: boolean;
  readonly stepping?: Stepping;
  /** A captured step gets what changes as arguments; otherwise it is written. */
  readonly passed?: boolean;
  /** How often a captured step is called. */
  readonly steps: number;
}

/** What the optimizers are given. */
export const hyperparameters = {
  lr: 0.05,
  decay: 0.75,
  scale: 1024,
  sgd: { momentum: 0.5, weightDecay: 0.01 },
  adamw: { beta1: 0.5, beta2: 0.75, epsilon: 0.001, weightDecay: 0.01 },
} as const;

export const isRef = (value: Argument): value is Ref => typeof value === 'object' && '$' in value;

/** What `random` and `gpu` stand for. */
export interface Sources {
  readonly random?: unknown;
  readonly gpu?: unknown;
}

/** `args` with every ref replaced. */
export function substitute(args: readonly Argument[], replace: (id: number) => unknown, sources: Sources): unknown[] {
  const walk = (value: Argument): unknown => {
    if (typeof value !== 'object') return value;
    if (isRef(value)) return replace(value.$);
    if (Array.isArray(value)) return value.map(walk);
    if ('source' in value) return sources[value.source as keyof Sources];
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, walk(member as Argument)]));
  };
  return args.map(walk);
}

/** Values that a call reads or updates. */
export function refsOf(args: readonly Argument[]): number[] {
  const found: number[] = [];
  substitute(args, (id) => found.push(id), {});
  return found;
}

/** Numbers of a leaf at a step: those of state are the same at all. All are exact in f32. */
export function numbersOf(seed: number, leaf: Leaf, step: number): Float64Array {
  if (leaf.rows) return Float64Array.from(leaf.rows);
  const at = changes(leaf) ? step : 0;
  return draw(seed, streamOf(leaf.id, at), sizeOf(leaf.shape), leaf.low, leaf.high, leaf.kind === 'labels');
}

/** The stream of a leaf's numbers at a step. */
export const streamOf = (id: number, step: number): number => 8 * id + step;
/** The stream of the first output's weights in the loss. */
export const weightsStream = 1_000_000;

/** Weights of output number `index` in the loss. */
export const weightsOf = (program: Program, index: number, size: number): Float64Array =>
  draw(program.seed, weightsStream + index, size, -1, 1, false);

function draw(seed: number, stream: number, size: number, low: number, high: number, integers: boolean): Float64Array {
  const uniform = uniformStream(seed, stream);
  return Float64Array.from({ length: size }, () => {
    const u = low + (high - low) * uniform();
    return integers ? Math.floor(u) : Math.fround(u);
  });
}

/** How a program is run. */
export interface Mode {
  readonly captured: boolean;
  readonly fuse: boolean;
  readonly pool: boolean;
  readonly poison: boolean;
}

export const showMode = ({ captured, fuse, pool, poison }: Mode): string =>
  `${captured ? 'captured' : 'eager'}, fuse ${fuse ? 1 : 0}, pool ${pool ? 1 : 0}, poison ${poison ? 1 : 0}`;

/** Public functions by their names; some may be replaced, to plant a fault. */
export type Api = Readonly<Record<string, (...args: never[]) => unknown>>;

/** Calls a function of the API by its name. What is changed in place is its value. */
export function invoke(api: Api, { name, part }: Call, args: readonly unknown[]): Tensor {
  const result = (api[name] as unknown as (...args: readonly unknown[]) => unknown)(...args) ?? args[0];
  return (part === undefined ? result : (result as Record<string, Tensor>)[part]) as Tensor;
}

/** Ops that give nothing: their value is their first argument. */
export const inPlace: ReadonlySet<string> = new Set(['assign', 'addCrops']);

/** Calls that the values of `ids` depend on. */
export function reaching(calls: readonly Call[], ids: readonly number[]): Call[] {
  const needed = new Set(ids);
  // What writes state that is read belongs to it: the next step reads what was written.
  for (let before = -1; before !== needed.size; ) {
    before = needed.size;
    for (const { id, name, args } of [...calls].reverse()) {
      const [target] = refsOf(args.slice(0, 1));
      if (needed.has(id) || (inPlace.has(name) && needed.has(target!)))
        for (const x of [id, ...refsOf(args)]) needed.add(x);
    }
  }
  return calls.filter(({ id }) => needed.has(id));
}

/** Ops without a gradient. */
export const constants: ReadonlySet<string> = new Set(
  [
    'floor ceil round sign equal notEqual less lessEqual greater greaterEqual bitAnd bitOr bitXor remainder shiftLeft shiftRight',
    'argmax argmin oneHot crop addCrops assign detach randomUniform randomNormal',
  ].flatMap((names) => names.split(' ')),
);
const integerTypes: ReadonlySet<unknown> = new Set(['u8', 'u32', 'i32']);

/** A call through which no gradient flows. */
const isConstant = ({ name, args, untracked, part }: Call): boolean =>
  untracked === true || constants.has(name) || part === 'indices' || (name === 'cast' && integerTypes.has(args[1]));

/** Values through which a gradient can flow. */
export function trackedOf(leaves: readonly Leaf[], calls: readonly Call[]): Set<number> {
  const tracked = new Set(leaves.filter(({ kind }) => kind === 'parameter').map(({ id }) => id));
  for (const call of calls)
    if (!isConstant(call) && refsOf(call.args).some((x) => tracked.has(x))) tracked.add(call.id);
  return tracked;
}

/** Ops that the program's calls and its steps are made of; `compared`: those alone that something compared depends on. */
export function opsOf(program: Program, compared = false): Set<string> {
  const { stepping } = program;
  const calls = compared ? reaching(program.calls, [...program.outputs, ...program.reads]) : program.calls;
  const names = new Set(calls.map(({ name }) => name));
  if (calls.some(({ args }) => JSON.stringify(args).includes('"source":"random"'))) names.add('createRandom');
  if (!stepping) return names;
  names.add(stepping.kind === 'sgd' ? 'createSgd' : 'createAdamW');
  if (stepping.clip !== undefined) names.add('clipGradients');
  if (stepping.scaled) names.add('createLossScale');
  if (stepping.teacher?.by === 'ema') names.add('ema');
  return names;
}

/** Values whose gradient the loss asks for, if they can have one. */
export function reached({ outputs, calls }: Pick<Program, 'outputs' | 'calls'>): Set<number> {
  const found = new Set(outputs);
  for (const call of [...calls].reverse()) {
    if (found.has(call.id) && !isConstant(call)) for (const x of refsOf(call.args)) found.add(x);
  }
  return found;
}

/** Parameters that the loss depends on. */
export function differentiable(program: Program): number[] {
  const found = reached(program);
  return program.leaves.filter(({ id, kind }) => kind === 'parameter' && found.has(id)).map(({ id }) => id);
}

/** Ops through which a gradient goes to a parameter. */
export function differentiatedOps(program: Program): Set<string> {
  const [found, tracked] = [reached(program), trackedOf(program.leaves, program.calls)];
  const calls = program.calls.filter((call) => !isConstant(call) && found.has(call.id) && tracked.has(call.id));
  return new Set(calls.map(({ name }) => name));
}
