// A random program as data: leaves with numbers, calls of the public API, what is read and differentiated, and how its
// parameters are stepped. The same description is run by the engine, run in float64, shrunk, and printed as code.
import { type Tensor, uniformStream } from '../../engine/index.js';

/** A value of the program, by its number. */
export interface Ref {
  readonly $: number;
}

/** The program's source of random numbers. */
export const random = { random: true } as const;

export type Argument =
  | number
  | string
  | boolean
  | Ref
  | typeof random
  | readonly Argument[]
  | { readonly [option: string]: Argument };

export interface Leaf {
  readonly id: number;
  readonly shape: readonly number[];
  /**
   * parameter: wants a gradient · input: has other numbers at every step, wants none · labels: u8 below `high` · running: state
   * that norms update · teacher: state that follows a parameter.
   */
  readonly kind: 'parameter' | 'input' | 'labels' | 'running' | 'teacher';
  /** Numbers are drawn from [low, high). */
  readonly low: number;
  readonly high: number;
}

/** One call of a public function, by name. */
export interface Call {
  readonly id: number;
  readonly name: string;
  readonly args: readonly Argument[];
  /** Called under `noGrad`. */
  readonly untracked?: boolean;
}

export interface Stepping {
  readonly kind: 'sgd' | 'adamw';
  readonly parameters: readonly number[];
  /** Parameters are packed into one buffer before the optimizer is made. */
  readonly packed: boolean;
  /** The loss guards the step. */
  readonly guarded: boolean;
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
  /** How often a captured step is called. */
  readonly steps: number;
}

/** What the optimizers are given. */
export const hyperparameters = {
  lr: 0.05,
  decay: 0.75,
  sgd: { momentum: 0.5, weightDecay: 0.01 },
  adamw: { beta1: 0.5, beta2: 0.75, epsilon: 0.001, weightDecay: 0.01 },
} as const;

export const isRef = (value: Argument): value is Ref => typeof value === 'object' && '$' in value;

/** `args` with every ref replaced. */
export function substitute(args: readonly Argument[], replace: (id: number) => unknown, draws: unknown): unknown[] {
  const walk = (value: Argument): unknown => {
    if (typeof value !== 'object') return value;
    if (isRef(value)) return replace(value.$);
    if (value === random || ('random' in value === true && value.random === true)) return draws;
    if (Array.isArray(value)) return value.map(walk);
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, walk(member as Argument)]));
  };
  return args.map(walk);
}

/** Values that a call reads or updates. */
export function refsOf(args: readonly Argument[]): number[] {
  const found: number[] = [];
  substitute(args, (id) => found.push(id), undefined);
  return found;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

/** Numbers of a leaf at a step: those of state are the same at all. All are exact in f32. */
export function numbersOf(seed: number, leaf: Leaf, step: number): Float64Array {
  const at = leaf.kind === 'input' || leaf.kind === 'labels' ? step : 0;
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

/** Calls a function of the API by its name. */
export const invoke = (api: Api, { name }: Call, args: readonly unknown[]): Tensor =>
  (api[name] as unknown as (...args: readonly unknown[]) => Tensor)(...args);

/** Calls that the values of `ids` depend on. */
export function reaching(calls: readonly Call[], ids: readonly number[]): Call[] {
  const needed = new Set(ids);
  const kept: Call[] = [];
  for (const call of [...calls].reverse()) {
    // Norms update running statistics, and random ops take a stream: whoever follows depends on that.
    if (!needed.has(call.id)) continue;
    kept.unshift(call);
    for (const id of refsOf(call.args)) needed.add(id);
  }
  return kept;
}

/** Values through which a gradient can flow. */
export function trackedOf(leaves: readonly Leaf[], calls: readonly Call[]): Set<number> {
  const tracked = new Set(leaves.filter(({ kind }) => kind === 'parameter').map(({ id }) => id));
  for (const { id, args, untracked } of calls)
    if (!untracked && refsOf(args).some((x) => tracked.has(x))) tracked.add(id);
  return tracked;
}

/** Parameters that the loss depends on. */
export function differentiable(program: Program): number[] {
  const reached = new Set(program.outputs);
  for (const { id, args, untracked } of [...program.calls].reverse()) {
    if (reached.has(id) && !untracked) for (const x of refsOf(args)) reached.add(x);
  }
  return program.leaves.filter(({ id, kind }) => kind === 'parameter' && reached.has(id)).map(({ id }) => id);
}
