// Draws programs: single ops and the patterns that networks are made of, over values that are evaluated as they are made, so
// that numbers stay moderate and every op is defined where it is. Few shapes and few numbers, so that kernels repeat.
import { uniformStream } from '../../engine/index.js';
import { expectations } from './expected.js';
import { meaningOf } from './meaning.js';
import {
  type Argument,
  type Call,
  type Leaf,
  numbersOf,
  type Program,
  type Ref,
  random,
  refsOf,
  type Stepping,
  substitute,
} from './program.js';
import { type Draws, type Real, Tape } from './reference.js';

export interface DrawOptions {
  /** Casts to f16 may occur. */
  readonly half: boolean;
  /** Calls of a program. */
  readonly calls: readonly [least: number, most: number];
  /** Fewer sizes, so that few kernels are compiled. */
  readonly narrow: boolean;
}

/** Thrown by a draw that leads nowhere; what it added goes. */
class Unfit extends Error {}

type Value = Ref;

class Draft {
  readonly leaves: Leaf[] = [];
  readonly calls: Call[] = [];
  readonly #values = new Map<number, Real>();
  readonly #uniform: () => number;
  readonly options: DrawOptions;
  readonly seed: number;
  readonly #tape = new Tape();
  readonly #draws: Draws;
  #untracked = false;
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

  leaf(kind: Leaf['kind'], shape: readonly number[], low: number, high: number): Value {
    const leaf = { id: this.#next++, kind, shape, low, high };
    this.leaves.push(leaf);
    this.#values.set(leaf.id, this.#tape.constant(numbersOf(this.seed, leaf, 0), shape));
    return { $: leaf.id };
  }

  parameter = (shape: readonly number[], size: number, centre = 0): Value =>
    this.leaf('parameter', shape, centre - size, centre + size);

  /** A call; Unfit where it is not defined or its numbers are of no use. */
  call(name: string, ...args: readonly Argument[]): Value {
    const call: Call = { id: this.#next++, name, args, ...(this.#untracked && { untracked: true }) };
    this.calls.push(call);
    const y = meaningOf(
      this.#tape,
      name,
      substitute(args, (id) => this.#values.get(id), this.#draws),
    );
    const most = y.data.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    if (!(most < 40) || !(most > 1e-3) || y.data.length > 2200) throw new Unfit();
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
      if (!(error instanceof Unfit) && !(error instanceof RangeError)) throw error;
      this.leaves.length = before[0];
      this.calls.length = before[1];
      return false;
    }
  }

  /** Values of calls and float leaves, later ones likelier. */
  pick(fits: (x: Real) => boolean = () => true): Value {
    const ids = [
      ...this.leaves.filter(({ kind }) => kind === 'parameter' || kind === 'input').map(({ id }) => id),
      ...this.calls.map(({ id }) => id),
    ].filter((id) => {
      const x = this.#values.get(id)!;
      return !x.half && fits(x);
    });
    if (!ids.length) throw new Unfit();
    return { $: ids[Math.floor((1 - this.#uniform() ** 3) * ids.length * 0.999999)]! };
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);
const isImage = ({ shape }: Real): boolean => shape.length === 4 || shape.length === 5;
const isPlane = ({ shape }: Real): boolean => shape.length === 4;
const same = (a: readonly number[], b: readonly number[]): boolean => `${a}` === `${b}`;
const numbers = [0.5, -1.5, 2, 0.25, -1];
const slopes = [0.01, 0.2];
const channelCounts = [4, 8, 4, 8, 3, 1];

/** Spatial sizes at which convolutions and norms are drawn: others are left to cheap kernels. */
const sizes = new Set(['4,6', '6,4', '2,3', '8,12', '5,7', '4,4', '2,12', '2,4,4', '4,2,4', '1,2,2', '4,8,8', '3,4,2']);
const narrowSizes = new Set(['4,6', '2,3', '6,4', '2,4,4', '1,2,2']);
/** An image of a size that is left out where there should be few. */
const rare = (shape: readonly number[]): boolean =>
  shape.length >= 4 && !(narrowSizes.has(`${shape.slice(1, -1)}`) && [4, 8].includes(shape.at(-1)!));
/** The image, or Unfit. */
function usual(d: Draft, x: Value): Value {
  const spatial = `${d.shape(x).slice(1, -1)}`;
  if ((d.options.narrow ? narrowSizes : sizes).has(spatial)) return x;
  if (!d.options.narrow && d.chance(0.1)) return x;
  throw new Unfit();
}
const channels = (d: Draft): number => d.of(d.options.narrow ? [4, 4, 4, 8] : channelCounts);

const activation = (d: Draft, x: Value): Value =>
  d.chance(0.25) ? d.call('relu', x) : d.call('leakyRelu', x, d.of(slopes));

/** A weight that keeps the size of numbers. */
const weightFor = (d: Draft, shape: readonly number[]): Value =>
  d.parameter(shape, Math.sqrt(3 / sizeOf(shape.slice(1))));

interface Kind {
  readonly kernel?: number;
  readonly outputs?: number;
  readonly stride?: number;
  readonly statistics?: boolean;
}

function convolution(d: Draft, x: Value, given: Kind = {}): Value {
  const shape = d.shape(usual(d, x));
  const { kernel = d.of([1, 3]), outputs = channels(d), stride = d.chance(0.15) ? 2 : 1 } = given;
  const fits = [outputs, ...shape.slice(1, -1).map(() => kernel), shape.at(-1)!];
  const known = d.chance(0.1) ? d.leaves.filter((leaf) => leaf.kind === 'parameter' && same(leaf.shape, fits)) : [];
  const weight = known.length ? { $: d.of(known).id } : weightFor(d, fits);
  const statistics = given.statistics ?? d.chance(0.2);
  const options = { ...(stride > 1 && { stride }), ...(statistics && { statistics }) };
  const bias = d.chance(0.6) ? d.parameter([outputs], 0.5) : undefined;
  const plain = !Object.keys(options).length;
  if (plain) return bias ? d.call('conv', x, weight, bias) : d.call('conv', x, weight);
  return d.call('conv', x, weight, bias ?? d.parameter([outputs], 0.5), options);
}

/** γ, β and running statistics, new or those of another norm. */
function normParts(
  d: Draft,
  channels: number,
): { gamma: Value; beta: Value; running: { mean: Value; variance: Value } } {
  const earlier = d.calls.filter(
    ({ name, args }) =>
      (name === 'normActivation' || name === 'batchNorm') &&
      d.shape(args[0] as Ref).at(-1) === channels &&
      'running' in (args[3] as object),
  );
  if (earlier.length && d.chance(0.1)) {
    const { args } = d.of(earlier);
    const { running } = args[3] as { running: { mean: Ref; variance: Ref } };
    return { gamma: args[1] as Ref, beta: args[2] as Ref, running };
  }
  return {
    gamma: d.parameter([channels], 0.5, 1),
    beta: d.parameter([channels], 0.5),
    running: { mean: d.leaf('running', [channels], -0.5, 0.5), variance: d.leaf('running', [channels], 0.5, 1.5) },
  };
}

function norm(
  d: Draft,
  x: Value,
  name = d.of(['normActivation', 'normActivation', 'batchNorm', 'instanceNorm']),
): Value {
  const { gamma, beta, running } = normParts(d, d.shape(usual(d, x)).at(-1)!);
  if (name === 'instanceNorm') return d.call('instanceNorm', x, gamma, beta);
  const training = d.chance(0.75);
  const statistics = !training || d.chance(0.7) ? { running } : {};
  if (name === 'batchNorm') return d.call('batchNorm', x, gamma, beta, { ...statistics, training } as Argument);
  const dropout = d.chance(0.25) ? { dropout: { rate: 0.5, random } } : {};
  return d.call('normActivation', x, gamma, beta, {
    ...statistics,
    training,
    slope: d.of([0.01, 0, 0.2]),
    ...dropout,
  } as Argument);
}

/** The same elements under another shape of the same rank, of which conv and pooling can make something. */
function otherView(d: Draft, x: Value): Value {
  const shape = d.shape(x);
  const swapped = [...shape];
  const [i, j] = d.of([
    [1, 2],
    [1, shape.length - 1],
  ] as const);
  const how = d.below(5);
  if (how < 2) return d.call('reshape', x, [...shape]);
  if (how < 4) {
    [swapped[i], swapped[j]] = [swapped[j]!, swapped[i]!];
    return d.call('reshape', x, swapped);
  }
  const factor = swapped[i]! % 2 === 0 ? 2 : swapped[i]! % 3 === 0 ? 3 : 1;
  swapped[i]! /= factor;
  swapped[j]! *= factor;
  if (swapped.at(-1)! > 16) throw new Unfit();
  return d.call('reshape', x, swapped);
}

/** To the same spatial size as `like`, by whatever does that. */
function sizedLike(d: Draft, x: Value, like: Value): Value {
  const [from, to] = [d.shape(x).slice(0, -1), d.shape(like).slice(0, -1)];
  if (same(from, to)) return x;
  const doubled = [from[0]!, ...from.slice(1).map((n) => 2 * n)];
  if (!same(doubled, to)) throw new Unfit();
  return enlarged(d, x);
}

function enlarged(d: Draft, x: Value): Value {
  const shape = d.shape(usual(d, x));
  if (shape.length === 4 && d.chance(0.7)) return d.call('upsample', x);
  const outputs = channels(d);
  const weight = d.parameter(
    [outputs, ...shape.slice(1, -1).map(() => 2), shape.at(-1)!],
    Math.sqrt(3 / shape.at(-1)!),
  );
  return d.chance(0.5)
    ? d.call('convTranspose', x, weight, d.parameter([outputs], 0.5))
    : d.call('convTranspose', x, weight);
}

const small = ({ shape }: Real): boolean => shape.slice(1, -1).every((n) => n <= 6);

/** What may be next to x under the rules of broadcasting. */
function partner(d: Draft, x: Value): Value {
  const shape = d.shape(x);
  const how = d.below(6);
  if (how < 3) {
    const found = d.pick((y) => same(y.shape, shape));
    return found;
  }
  if (how === 3) return d.pick((y) => y.shape.length <= 1 && (y.data.length === 1 || y.data.length === shape.at(-1)));
  if (how === 4 && shape.length) return d.parameter(shape.slice(-1), 1, 0.5);
  const one = shape.map((n) => (d.chance(0.5) ? 1 : n));
  return d.parameter(one, 1, 0.5);
}

const between = [
  (d: Draft, x: Value) => d.call('add', x, partner(d, x)),
  (d: Draft, x: Value) => d.call('sub', x, partner(d, x)),
  (d: Draft, x: Value) => d.call('sub', partner(d, x), x),
  (d: Draft, x: Value) => otherView(d, x),
  (d: Draft, x: Value) => d.call('gaussianNoise', x, { deviation: 0.1, clip: 0.2, random }),
  (d: Draft, x: Value) => d.call('dropout', x, 0.5, random),
  (d: Draft, x: Value) => activation(d, x),
  (d: Draft, x: Value) => norm(d, x),
  (d: Draft, x: Value) => (isPlane(d.real(x)) && small(d.real(x)) ? d.call('upsample', x) : x),
  (d: Draft, x: Value) => d.call('mul', x, d.of(numbers)),
];

/** Moves by name, with their weights. Each adds one or a few calls. */
const moves: readonly [weight: number, move: (d: Draft) => void][] = [
  [6, (d) => convolution(d, d.pick(isImage))],
  [5, (d) => activation(d, d.pick(isImage))],
  [5, (d) => norm(d, d.pick(isImage))],
  [
    6, // convolution, norm, activation
    (d) => norm(d, convolution(d, d.pick(isImage), { statistics: d.chance(0.7) }), 'normActivation'),
  ],
  [
    5, // residual block
    (d) => {
      const h = d.pick(isImage);
      const channels = d.shape(h).at(-1)!;
      const inner = convolution(d, h, { outputs: channels, stride: 1 });
      const tail = d.of([
        () => activation(d, inner),
        () => norm(d, inner),
        () => inner,
        () => convolution(d, activation(d, inner), { outputs: channels, stride: 1 }),
      ])();
      activation(d, d.chance(0.5) ? d.call('add', tail, h) : d.call('add', h, tail));
    },
  ],
  [
    6, // something between an activation and what loads it
    (d) => {
      const x = d.pick(isImage);
      const a = d.chance(0.5) ? activation(d, x) : norm(d, x, 'normActivation');
      const b = d.of(between)(d, a);
      const next = d.below(4);
      if (next === 0) convolution(d, b);
      else if (next === 1) activation(d, b);
      else if (next === 2) norm(d, b, 'normActivation');
      else if (isPlane(d.real(b))) d.call('maxPool', b);
    },
  ],
  [
    4, // an activation and two consumers, one through a view
    (d) => {
      const x = d.pick(isImage);
      const a = d.chance(0.5) ? activation(d, x) : norm(d, x, 'normActivation');
      const [first, second] = d.chance(0.5) ? [a, otherView(d, a)] : [otherView(d, a), a];
      convolution(d, first);
      d.of([
        () => convolution(d, second),
        () => d.call('square', second),
        () => (isPlane(d.real(second)) ? d.call('maxPool', second) : d.call('neg', second)),
        () => d.call('concat', [second, second], -1),
      ])();
    },
  ],
  [
    5, // concatenations in concatenations
    (d) => {
      const a = d.pick(isImage);
      const mates = Array.from({ length: 1 + d.below(2) }, () => {
        const mate = d.pick(
          (y) =>
            y.shape.length === d.shape(a).length &&
            (same(y.shape.slice(0, -1), d.shape(a).slice(0, -1)) ||
              (small(y) && same([y.shape[0]!, ...y.shape.slice(1, -1).map((n) => 2 * n)], d.shape(a).slice(0, -1)))),
        );
        return sizedLike(d, mate, a);
      });
      const inner = d.call('concat', d.chance(0.5) ? [a, ...mates] : [...mates, a], -1);
      if (d.shape(inner).at(-1)! > 24) throw new Unfit();
      if (d.chance(0.5)) {
        const outer = d.call('concat', d.chance(0.5) ? [inner, a] : [a, inner], -1);
        if (d.shape(outer).at(-1)! > 32) throw new Unfit();
        if (d.chance(0.6)) convolution(d, outer, { outputs: d.of([4, 8]) });
      } else if (d.chance(0.6)) convolution(d, inner, { outputs: d.of([4, 8]) });
    },
  ],
  [
    3,
    (d) =>
      d.call(
        'maxPool',
        d.pick((x) => isPlane(x) && x.shape.slice(1, 3).every((n) => n >= 2)),
      ),
  ],
  [
    3,
    (d) =>
      enlarged(
        d,
        d.pick((x) => isImage(x) && small(x)),
      ),
  ],
  [
    3, // deferred over deferred
    (d) => {
      const x = d.pick((v) => isPlane(v) && small(v));
      const order = [
        (v: Value) => d.call('upsample', v),
        (v: Value) => activation(d, v),
        (v: Value) => norm(d, v, 'normActivation'),
      ];
      const first = d.of(order);
      const y = first(x);
      const z = d.of(order.filter((each) => each !== first))(y);
      if (d.chance(0.5)) convolution(d, z);
    },
  ],
  [3, (d) => otherView(d, d.pick(isImage))],
  [3, (d) => d.of(between)(d, d.pick(isImage))],
  [
    4,
    (d) => {
      const x = d.pick();
      const y = partner(d, x);
      d.call(d.of(['add', 'sub', 'mul']), ...(d.chance(0.5) ? [x, y] : [y, x]));
    },
  ],
  [
    3,
    (d) => {
      const [x, n] = [d.pick(), d.of(numbers)];
      const name = d.of(['add', 'sub', 'mul', 'div']);
      if (d.chance(0.6)) d.call(name, x, n);
      else if (name !== 'div') d.call(name, n, x);
      else d.call('div', n, d.call('add', d.call('square', x), 0.5));
    },
  ],
  [
    4,
    (d) => {
      const x = d.pick();
      const name = d.of(['neg', 'exp', 'square', 'abs', 'clamp', 'log', 'sqrt', 'div']);
      if (name === 'clamp') d.call('clamp', x, -0.75, 1.25);
      else if (name === 'exp') d.call('exp', d.call('clamp', x, -0.75, 1.25));
      else if (name === 'log' || name === 'sqrt') d.call(name, d.call('add', d.call('square', x), 0.5));
      else if (name === 'div') d.call('div', partner(d, x), d.call('add', d.call('square', x), 0.5));
      else d.call(name, x);
    },
  ],
  [
    3,
    (d) => {
      const x = d.pick((v) => v.shape.length >= 1);
      const rank = d.shape(x).length;
      const axes = d.of([[-1], [0], [rank - 1, 0], Array.from({ length: rank }, (_, i) => i), [rank >> 1]]);
      const list = [...new Set(axes.map((axis) => (axis + rank) % rank))];
      const keepDims = d.chance(0.5);
      d.call(d.of(['sum', 'mean', 'max']), x, list, ...(keepDims ? [{ keepDims }] : []));
    },
  ],
  [
    2,
    (d) => {
      const x = d.pick((v) => v.shape.length >= 2);
      const axis = d.below(d.shape(x).length);
      const n = d.shape(x)[axis]!;
      if (n < 2) throw new Unfit();
      const first = d.below(n - 1);
      d.call('slice', x, axis, first, 1 + d.below(n - first));
    },
  ],
  [
    2,
    (d) => {
      const x = d.pick(isImage);
      const axis = d.below(d.shape(x).length - 1);
      const y = d.pick(
        (v) => v.shape.length === d.shape(x).length && same(v.shape.with(axis, 0), d.shape(x).with(axis, 0)),
      );
      d.call('concat', [x, y], axis);
    },
  ],
  [
    2,
    (d) =>
      d.call(
        d.of(['softmax', 'logSoftmax']),
        d.pick((x) => x.shape.length >= 1 && x.shape.at(-1)! > 1),
      ),
  ],
  [
    2,
    (d) => {
      const x = d.pick((v) => v.shape.length >= 2);
      const inner = d.shape(x).at(-1)!;
      if (d.chance(0.7)) d.call('matmul', x, weightFor(d, [d.of([4, 8, 3]), inner].reverse()));
      else
        d.call(
          'matmul',
          x,
          d.pick(
            (v) =>
              v.shape.length === d.shape(x).length &&
              same(v.shape.slice(0, -2), d.shape(x).slice(0, -2)) &&
              v.shape.at(-2) === inner,
          ),
        );
    },
  ],
  [
    1,
    (d) => {
      const x = d.pick(isImage);
      const shape = d.shape(x);
      d.call(
        'reshape',
        x,
        d.of([[sizeOf(shape)], [sizeOf(shape.slice(0, -1)), shape.at(-1)!], [shape[0]!, sizeOf(shape.slice(1))]]),
      );
    },
  ],
  [
    1,
    (d) => {
      const x = d.pick((v) => v.shape.length >= 2 && v.shape.at(-1)! >= 3 && v.shape.at(-1)! <= 8);
      const labels = d.leaf('labels', d.shape(x).slice(0, -1), 0, d.shape(x).at(-1)!);
      d.call(d.of(['crossEntropy', 'diceLoss']), x, labels);
    },
  ],
  [
    1, // a teacher's part
    (d) =>
      d.untracked(() => {
        const x = d.pick(isImage);
        const y = norm(d, convolution(d, x), 'normActivation');
        d.call('square', y);
      }),
  ],
];

const totalWeight = moves.reduce((sum, [weight]) => sum + weight, 0);

function drawMove(d: Draft): (d: Draft) => void {
  let at = d.below(totalWeight);
  for (const [weight, move] of moves) {
    at -= weight;
    if (at < 0) return move;
  }
  throw new Error('unreachable');
}

const halfMoves: readonly ((d: Draft, x: Value) => Value)[] = [
  (d, x) => d.call('leakyRelu', x, 0.2),
  (d, x) => d.call('mul', x, 0.5),
  (d, x) => convolution(d, x, { stride: 1 }),
  (d, x) => (isPlane(d.real(x)) ? d.call('upsample', x) : x),
  (d, x) => otherView(d, x),
  (d, x) => d.call('concat', [x, x], -1),
  (d, x) => norm(d, x, 'normActivation'),
];

/** A few ops in f16 between two casts. */
function inHalf(d: Draft): void {
  let x = d.call(
    'cast',
    d.pick((v) => isImage(v) && small(v)),
    'f16',
  );
  for (let i = 0; i < 1 + d.below(2); i++) x = d.of(halfMoves)(d, x);
  d.call('cast', x, 'f32');
}

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
  [1, 4, 6, 4],
  [1, 2, 4, 4, 4],
];

/** The program of a seed: the first one of its stream that tests something. */
export function drawProgram(seed: number, options: DrawOptions): Program {
  for (let attempt = 0; attempt < 200; attempt++) {
    const program = drawn(seed * 1000 + attempt, options);
    if (program && expectations(program, 4).steps.length) return program;
  }
  throw new Error(`fuzz: seed ${seed} gives no program.`);
}

function drawn(seed: number, options: DrawOptions): Program | undefined {
  const d = new Draft(seed, options);
  const shape = d.of(options.narrow ? narrowGeometries : geometries);
  d.leaf(d.chance(0.6) ? 'input' : 'parameter', shape, -1, 1);
  if (d.chance(0.4)) d.leaf(d.chance(0.6) ? 'input' : 'parameter', shape, -1, 1);
  convolution(d, d.pick(isImage));
  const [least, most] = options.calls;
  const wanted = least + d.below(most - least + 1);
  const half = options.half && d.chance(0.1);
  for (let tries = 0; d.calls.length < (half ? Math.min(10, wanted) : wanted) && tries < 10 * most; tries++) {
    const move = half && d.chance(0.2) ? inHalf : drawMove(d);
    d.attempt(() => move(d));
  }
  return finished(d);
}

/** Chooses outputs, what is read, and how parameters are stepped. */
function finished(d: Draft): Program | undefined {
  const used = new Set(d.calls.flatMap(({ args }) => refsOf(args)));
  const tracked = trackedOf(d.leaves, d.calls);
  const usable = (id: number): boolean => tracked.has(id) && !d.real({ $: id }).half;
  const ends = d.calls.map(({ id }) => id).filter((id) => !used.has(id) && usable(id));
  const middle = d.calls.map(({ id }) => id).filter((id) => used.has(id) && usable(id));
  const outputs = shuffled(d, ends).slice(0, 4);
  if (middle.length && d.chance(0.4)) outputs.push(d.of(middle));
  if (!outputs.length) return undefined;
  const views = viewsOfState(d);
  const reads = d.calls
    .map(({ id }) => id)
    .filter((id) => !views.has(id) && d.chance(outputs.includes(id) ? 0.6 : 0.1));
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
    steps: 3,
  };
  return stepped(d, program);
}

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

/** Values that share the buffer of what a step changes: reading them afterwards gives the new numbers. */
function viewsOfState(d: Draft): Set<number> {
  const views = new Set(d.leaves.map(({ id }) => id));
  for (const { id, name, args } of d.calls)
    if ((name === 'reshape' || name === 'cast') && views.has((args[0] as Ref).$)) views.add(id);
  return views;
}

function shuffled<T>(d: Draft, xs: readonly T[]): T[] {
  const rest = [...xs];
  return xs.map(() => rest.splice(d.below(rest.length), 1)[0]!);
}

/** Parameters that the loss depends on. */
export function differentiable(program: Program): number[] {
  const reached = new Set(program.outputs);
  for (const { id, args, untracked } of [...program.calls].reverse()) {
    if (reached.has(id) && !untracked) for (const x of refsOf(args)) reached.add(x);
  }
  return program.leaves.filter(({ id, kind }) => kind === 'parameter' && reached.has(id)).map(({ id }) => id);
}

function stepped(d: Draft, program: Program): Program {
  const all = differentiable(program);
  if (!d.chance(0.6) || !all.length) return program;
  const parameters = d.chance(0.8) ? all : all.slice(0, 1 + d.below(all.length));
  const kind = d.chance(0.7) ? 'sgd' : 'adamw';
  const stepping: Stepping = { kind, parameters, packed: d.chance(0.5), guarded: d.chance(0.3) };
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
  if (!student) return program;
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
