// A program while it is drawn: values are evaluated as they are made, so that numbers stay moderate and every op is defined
// where it is. Few sizes, so that kernels repeat.
import { uniformStream } from '../../engine/index.js';
import { meaningOf } from './meaning.js';
import { type Argument, type Call, gpu, type Leaf, numbersOf, type Ref, substitute, trackedOf } from './program.js';
import { type Draws, leafOf, type Real, Tape } from './reference.js';
import { NoMeaning } from './shapes.js';

export interface DrawOptions {
  /** Some ops are in f16, between casts; such programs are short. */
  readonly half: boolean;
  /** Calls of a program. */
  readonly calls: readonly [least: number, most: number];
  /** Fewer sizes, so that few kernels are compiled. */
  readonly narrow: boolean;
  /** So many ops are drawn whose turn it is by the seed: seeds in a row have them all. */
  readonly turns?: number;
}

/** Thrown by a draw that leads nowhere; what it added goes. */
export class Unfit extends Error {}

export type Value = Ref;

export class Draft {
  readonly leaves: Leaf[] = [];
  readonly calls: Call[] = [];
  readonly #values = new Map<number, Real>();
  readonly #uniform: () => number;
  readonly options: DrawOptions;
  readonly seed: number;
  readonly #tape = new Tape();
  readonly #draws: Draws;
  #untracked = false;
  #near: Value | undefined;
  #next = 0;

  constructor(seed: number, options: DrawOptions) {
    this.seed = seed;
    this.options = options;
    this.#draws = { seed, step: 0, stream: 0 };
    this.#tape.tracking = false;
    this.#uniform = uniformStream(seed, 4242);
  }

  chance = (p: number): boolean => this.#uniform() < p;
  below = (n: number): number => Math.floor(this.#uniform() * n);
  of = <T>(xs: readonly T[]): T => {
    if (!xs.length) throw new Unfit();
    return xs[this.below(xs.length)]!;
  };

  real = (x: Value): Real => this.#values.get(x.$)!;
  shape = (x: Value): readonly number[] => this.real(x).shape;

  leaf(kind: Leaf['kind'], shape: readonly number[], low: number, high: number, rows?: readonly number[]): Value {
    const leaf = { id: this.#next++, kind, shape, low, high, ...(rows && { rows }) };
    this.leaves.push(leaf);
    this.#values.set(leaf.id, leafOf(this.#tape, leaf, numbersOf(this.seed, leaf, 0)));
    return { $: leaf.id };
  }

  parameter = (shape: readonly number[], size: number, centre = 0): Value =>
    this.leaf('parameter', shape, centre - size, centre + size);

  /** A call; Unfit where it is not defined or its numbers are of no use. */
  call(name: string, ...args: readonly Argument[]): Value {
    return this.part(undefined, name, ...args);
  }

  /** A call of an op that gives several tensors, one of which is the value. */
  part(part: string | undefined, name: string, ...args: readonly Argument[]): Value {
    const call: Call = {
      ...{ id: this.#next++, name, args },
      ...(this.#untracked && { untracked: true }),
      ...(part !== undefined && { part }),
    };
    this.calls.push(call);
    const sources = { random: this.#draws, gpu };
    const y = meaningOf(
      this.#tape,
      call,
      substitute(args, (id) => this.#values.get(id), sources),
    );
    const most = y.data.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    if (y.data.length > 2200 || !(y.integer || (most < 40 && most > 1e-3))) throw new Unfit();
    if (this.options.narrow && rare(y.shape) && this.chance(0.8)) throw new Unfit();
    this.#values.set(call.id, y);
    return { $: call.id };
  }

  untracked<T>(work: () => T): T {
    const before = this.#untracked;
    this.#untracked = true;
    try {
      return work();
    } finally {
      this.#untracked = before;
    }
  }

  /** Runs `work`; if it is Unfit, what it added is taken back. */
  attempt(work: () => void): boolean {
    const before = [this.leaves.length, this.calls.length] as const;
    try {
      work();
      return true;
    } catch (error) {
      if (!(error instanceof Unfit) && !(error instanceof NoMeaning)) throw error;
      this.leaves.length = before[0];
      this.calls.length = before[1];
      return false;
    }
  }

  /** Values of calls and leaves that are f32, later ones likelier. */
  pick(fits: (x: Real) => boolean = () => true): Value {
    return this.#pick((x) => !x.half && !x.integer && fits(x));
  }

  /** Integers, likewise. */
  pickInteger(fits: (x: Real) => boolean = () => true): Value {
    return this.#pick((x) => x.integer !== undefined && fits(x));
  }

  /** The value of the last call that `work` makes; what it picks first is `x`, if that fits. Undefined if it makes no f32. */
  near(x: Value, work: () => unknown): Value | undefined {
    this.#near = x;
    try {
      work();
    } finally {
      this.#near = undefined;
    }
    const last = { $: this.calls.at(-1)!.id };
    return this.real(last).half || this.real(last).integer ? undefined : last;
  }

  #pick(fits: (x: Real) => boolean): Value {
    const near = this.#near;
    this.#near = undefined;
    if (near && fits(this.real(near))) return near;
    const ids = [
      ...this.leaves
        .filter(({ kind }) => kind === 'parameter' || kind === 'input' || kind === 'labels')
        .map(({ id }) => id),
      ...this.calls.map(({ id }) => id),
    ].filter((id) => fits(this.#values.get(id)!));
    // Ops are on values that have a gradient, mostly.
    const tracked = this.chance(0.7) ? trackedOf(this.leaves, this.calls) : undefined;
    const differentiable = ids.filter((id) => tracked?.has(id));
    const among = differentiable.length ? differentiable : ids;
    if (!among.length) throw new Unfit();
    return { $: among[Math.floor((1 - this.#uniform() ** 3) * among.length * 0.999999)]! };
  }
}

export const isImage = ({ shape }: Real): boolean => shape.length === 4 || shape.length === 5;

/** Spatial sizes at which convolutions and norms are drawn: others are left to cheap kernels. */
const sizes = new Set(['4,6', '6,4', '2,3', '8,12', '5,7', '4,4', '2,12', '2,4,4', '4,2,4', '1,2,2', '4,8,8', '3,4,2']);
const narrowSizes = new Set(['4,6', '2,3', '6,4', '2,4,4', '1,2,2']);
/** An image of a size that is left out where there should be few. */
const rare = (shape: readonly number[]): boolean =>
  shape.length >= 4 && !(narrowSizes.has(`${shape.slice(1, -1)}`) && [4, 8].includes(shape.at(-1)!));
/** The image, or Unfit. */
export function usual(d: Draft, x: Value): Value {
  const spatial = `${d.shape(x).slice(1, -1)}`;
  if ((d.options.narrow ? narrowSizes : sizes).has(spatial)) return x;
  if (!d.options.narrow && d.chance(0.1)) return x;
  throw new Unfit();
}
