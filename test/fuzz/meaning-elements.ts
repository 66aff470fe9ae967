// What ops mean that work element by element: functions of one number, of two, comparisons, choices, integers, casts, random numbers.
import { errorFunction, normalProbability } from '../reference/special-functions.js';
import type { Draws, Integer, Real, Tape } from './reference.js';
import { commonShape, must, repeated, type Shape } from './shapes.js';

interface Unary {
  readonly f: (v: number) => number;
  /** Of x and y. Without one the op has no gradient. */
  readonly slope?: (v: number, y: number) => number;
  /** What rounding is measured by; |y| if not given. */
  readonly size?: (v: number, y: number) => number;
  /** Distance from where value or derivative jumps. */
  readonly kink?: (v: number) => number;
}

const density = (v: number): number => Math.exp((-v * v) / 2) / Math.sqrt(2 * Math.PI);
const logistic = (v: number): number => 1 / (1 + Math.exp(-v));
const softplus = (v: number): number => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
const geluInner = (v: number): number => Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3));
const roundEven = (v: number): number => {
  const near = Math.round(v);
  return near - v === 0.5 && near % 2 !== 0 ? near - 1 : near;
};
/** Size of an error of a few units of result and argument. */
const few = (v: number, y: number): number => 4 * (Math.abs(y) + Math.abs(v));

const unaries = {
  neg: { f: (v) => -v, slope: () => -1 },
  square: { f: (v) => v * v, slope: (v) => 2 * v },
  abs: { f: Math.abs, slope: Math.sign, kink: (v) => v },
  exp: { f: Math.exp, slope: (_, y) => y, size: (v, y) => y * (6 + 4 * Math.abs(v)) },
  log: { f: Math.log, slope: (v) => 1 / v, size: (_, y) => 6 * Math.abs(y) + 8 },
  sqrt: { f: Math.sqrt, slope: (_, y) => 0.5 / y, size: (_, y) => 8 * y },
  rsqrt: { f: (v) => 1 / Math.sqrt(v), slope: (v, y) => (-0.5 * y) / v, size: (_, y) => 8 * y },
  reciprocal: { f: (v) => 1 / v, slope: (_, y) => -y * y, size: (_, y) => 4 * y },
  sin: { f: Math.sin, slope: (v) => Math.cos(v), size: few },
  cos: { f: Math.cos, slope: (v) => -Math.sin(v), size: few },
  erf: { f: errorFunction, slope: (v) => (2 / Math.sqrt(Math.PI)) * Math.exp(-v * v), size: few },
  tanh: { f: Math.tanh, slope: (_, y) => 1 - y * y, size: few },
  sigmoid: { f: logistic, slope: (_, y) => y * (1 - y), size: few },
  silu: {
    f: (v) => v * logistic(v),
    slope: (v) => logistic(v) * (1 + v * (1 - logistic(v))),
    size: few,
  },
  softplus: { f: softplus, slope: logistic, size: (v, y) => 4 * (y + Math.abs(v) + 1) },
  floor: { f: Math.floor, kink: (v) => v - Math.round(v) },
  ceil: { f: Math.ceil, kink: (v) => v - Math.round(v) },
  round: { f: roundEven, kink: (v) => v - Math.floor(v) - 0.5 },
  sign: { f: Math.sign, kink: (v) => v },
} satisfies Record<string, Unary>;

function unary(tape: Tape, x: Real, { f, slope, size, kink }: Unary): Real {
  must(!x.integer, 'floats');
  if (kink) tape.kinks.push(x.data.map(kink));
  return slope ? tape.map(x, f, slope, size) : tape.plain(x.data.map(f), x.shape, x);
}

export type Operand = Real | number;

interface Binary {
  readonly f: (u: number, v: number) => number;
  readonly slopes: readonly [(u: number, v: number) => number, (u: number, v: number) => number];
  readonly size: (u: number, v: number) => number;
  readonly kink?: (u: number, v: number) => number;
  readonly ofIntegers?: (u: number, v: number) => number;
}

const sum = (u: number, v: number): number => Math.abs(u) + Math.abs(v);
const half = (u: number, v: number): number => (u === v ? 0.5 : 0);

const binaries = {
  add: { f: (u, v) => u + v, slopes: [() => 1, () => 1], size: sum, ofIntegers: (u, v) => u + v },
  sub: { f: (u, v) => u - v, slopes: [() => 1, () => -1], size: sum, ofIntegers: (u, v) => u - v },
  mul: { f: (u, v) => u * v, slopes: [(_, v) => v, (u) => u], size: (u, v) => 4 * u * v, ofIntegers: Math.imul },
  div: {
    f: (u, v) => u / v,
    slopes: [(_, v) => 1 / v, (u, v) => -u / (v * v)],
    size: (u, v) => (4 * u) / v,
    ofIntegers: (u, v) => (v === 0 ? 0 : Math.trunc(u / v)),
  },
  minimum: {
    f: Math.min,
    slopes: [(u, v) => (u < v ? 1 : half(u, v)), (u, v) => (v < u ? 1 : half(u, v))],
    size: () => 0,
    kink: (u, v) => u - v,
    ofIntegers: Math.min,
  },
  maximum: {
    f: Math.max,
    slopes: [(u, v) => (u > v ? 1 : half(u, v)), (u, v) => (v > u ? 1 : half(u, v))],
    size: () => 0,
    kink: (u, v) => u - v,
    ofIntegers: Math.max,
  },
  pow: {
    f: (u, v) => u ** v,
    slopes: [(u, v) => (v === 0 ? 0 : v * u ** (v - 1)), (u, v) => Math.log(u) * u ** v],
    size: (u, v) => 8 * u ** v * (1 + Math.abs(v * Math.log(u)) + Math.abs(v)),
  },
} satisfies Record<string, Binary>;

/** Numbers become tensors of the other operand's type. */
function operands(...given: readonly Operand[]): Real[] {
  const like = given.find((x) => typeof x !== 'number') as Real;
  must(like !== undefined, 'a tensor');
  const all = given.map((x) =>
    typeof x !== 'number'
      ? x
      : {
          shape: [],
          data: Float64Array.of(x),
          half: like.half,
          wanted: false,
          ...(like.integer && { integer: like.integer }),
        },
  );
  must(
    all.every((x) => x.half === like.half && x.integer === like.integer),
    'element types',
  );
  return all;
}

/** f of every pair, and the common shape. */
function paired(a: Real, b: Real, f: (u: number, v: number) => number): { shape: Shape; data: Float64Array } {
  const shape = commonShape(a.shape, b.shape);
  const [p, q] = [repeated(a.shape, shape), repeated(b.shape, shape)];
  return { shape, data: Float64Array.from(p, (at, i) => f(a.data[at]!, b.data[q[i]!]!)) };
}

/** What 32 bits, or 8, hold of a number. */
export const wrapped = (type: Integer, v: number): number =>
  type === 'i32' ? v | 0 : type === 'u8' ? v & 255 : v >>> 0;

function ofIntegers(
  tape: Tape,
  p: Operand,
  q: Operand,
  f: (u: number, v: number) => number,
  types: readonly Integer[],
): Real {
  const [a, b] = operands(p, q) as [Real, Real];
  must(a.integer !== undefined && types.includes(a.integer), 'integers');
  const { shape, data } = paired(a, b, (u, v) => wrapped(a.integer!, f(u, v)));
  return tape.whole(data, shape, a.integer!);
}

function binary(tape: Tape, p: Operand, q: Operand, { f, slopes, size, kink, ofIntegers: exact }: Binary): Real {
  const [a, b] = operands(p, q) as [Real, Real];
  if (a.integer) {
    must(exact !== undefined, 'integers');
    return ofIntegers(tape, p, q, exact!, ['u32', 'i32']);
  }
  const shape = commonShape(a.shape, b.shape);
  if (kink) tape.kinks.push(paired(a, b, kink).data);
  return tape.zip(a, b, shape, [repeated(a.shape, shape), repeated(b.shape, shape)], f, size, slopes);
}

const comparisons: Record<string, (u: number, v: number) => boolean> = {
  equal: (u, v) => u === v,
  notEqual: (u, v) => u !== v,
  less: (u, v) => u < v,
  lessEqual: (u, v) => u <= v,
  greater: (u, v) => u > v,
  greaterEqual: (u, v) => u >= v,
};

function compared(tape: Tape, p: Operand, q: Operand, f: (u: number, v: number) => boolean): Real {
  const [a, b] = operands(p, q) as [Real, Real];
  if (!a.integer) tape.kinks.push(paired(a, b, (u, v) => u - v).data);
  const { shape, data } = paired(a, b, (u, v) => Number(f(u, v)));
  return tape.whole(data, shape, 'u8');
}

const places = (v: number): boolean => v >= 0 && v < 32;
const integers: Record<string, [f: (u: number, v: number) => number, ...types: Integer[]]> = {
  remainder: [(u, v) => (v === 0 ? u : u % v), 'u32', 'i32'],
  bitAnd: [(u, v) => u & v, 'u8', 'u32', 'i32'],
  bitOr: [(u, v) => u | v, 'u8', 'u32', 'i32'],
  bitXor: [(u, v) => u ^ v, 'u8', 'u32', 'i32'],
  shiftLeft: [(u, v) => (places(v) ? u << v : 0), 'u32', 'i32'],
  shiftRight: [(u, v) => (u < 0 ? u >> (places(v) ? v : 31) : places(v) ? u >>> v : 0), 'u32', 'i32'],
};

function where(tape: Tape, condition: Real, p: Operand, q: Operand): Real {
  must(condition.integer !== undefined, 'condition');
  const [a, b] = operands(p, q) as [Real, Real];
  const shape = commonShape(condition.shape, a.shape, b.shape);
  const [c, i, j] = [condition.shape, a.shape, b.shape].map((s) => repeated(s, shape)) as [
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  const first = (at: number): boolean => condition.data[c[at]!] !== 0;
  const y = Float64Array.from(i, (from, at) => (first(at) ? a.data[from]! : b.data[j[at]!]!));
  if (a.integer) return tape.plain(y, shape, a);
  return tape.record(shape, y, [a, b], (dy) =>
    [a, b].map((x, k) => {
      const dx = new Float64Array(x.data.length);
      const size = new Float64Array(dx.length);
      dy.forEach((d, at) => {
        if (first(at) !== (k === 0)) return;
        dx[(k ? j : i)[at]!]! += d;
        size[(k ? j : i)[at]!]! += Math.abs(d);
      });
      return tape.settle(dx, x.half, size);
    }),
  );
}

const ranges = { u8: [0, 255], u32: [0, 2 ** 32 - 1], i32: [-(2 ** 31), 2 ** 31 - 1] } as const;

function cast(tape: Tape, x: Real, type: Integer | 'f32' | 'f16'): Real {
  if (type !== 'f32' && type !== 'f16') {
    if (x.integer === type) return x;
    const [least, most] = ranges[type];
    // Numbers are cut towards zero: they jump at all whole ones but 0.
    if (!x.integer) tape.kinks.push(x.data.map((v) => (Math.abs(v) < 0.5 ? 1 : v - Math.round(v))));
    const limited = x.data.map((v) => Math.min(most, Math.max(least, Math.trunc(v))) + 0);
    return tape.whole(limited, x.shape, type);
  }
  if (x.integer) {
    must(
      x.data.every((v) => Math.abs(v) <= (type === 'f16' ? 2048 : 2 ** 24)),
      'exact',
    );
    return { shape: x.shape, data: x.data, half: type === 'f16', wanted: false };
  }
  if ((type === 'f16') === x.half) return x;
  const same = (v: number): number => v;
  return tape.map(
    x,
    same,
    () => 1,
    () => 0,
    type === 'f16',
  );
}

function clamp(tape: Tape, x: Real, low: number, high: number): Real {
  tape.kinks.push(
    x.data.map((v) => v - low),
    x.data.map((v) => v - high),
  );
  const inside = (v: number): boolean => v >= low && v <= high;
  return tape.map(
    x,
    (v) => Math.min(high, Math.max(low, v)),
    (v) => (inside(v) ? 1 : 0),
  );
}

function gelu(tape: Tape, x: Real, { approximate = 'none' }: { approximate?: 'none' | 'tanh' } = {}): Real {
  if (approximate === 'none') {
    const slope = (v: number): number => normalProbability(v) + v * density(v);
    return tape.map(x, (v) => v * normalProbability(v), slope, few);
  }
  const inner = (v: number): number => Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * v * v);
  return tape.map(
    x,
    (v) => 0.5 * v * (1 + geluInner(v)),
    (v) => 0.5 * (1 + geluInner(v)) + 0.5 * v * (1 - geluInner(v) ** 2) * inner(v),
    few,
  );
}

interface Randomness {
  readonly random: Draws;
  readonly low?: number;
  readonly high?: number;
  readonly mean?: number;
  readonly std?: number;
  readonly clip?: number;
}

const table = <K extends string, T, F>(rows: Readonly<Record<K, T>>, meaning: (row: T) => F): Record<K, F> =>
  Object.fromEntries(Object.entries<T>(rows).map(([name, row]) => [name, meaning(row)])) as Record<K, F>;

export const elements = {
  ...table(unaries as Record<keyof typeof unaries, Unary>, (row) => (tape: Tape, x: Real) => unary(tape, x, row)),
  ...table(
    binaries as Record<keyof typeof binaries, Binary>,
    (row) => (tape: Tape, a: Operand, b: Operand) => binary(tape, a, b, row),
  ),
  ...table(comparisons, (f) => (tape: Tape, a: Operand, b: Operand) => compared(tape, a, b, f)),
  ...table(
    integers,
    ([f, ...types]) =>
      (tape: Tape, a: Operand, b: Operand) =>
        ofIntegers(tape, a, b, f, types),
  ),
  where,
  cast,
  clamp,
  gelu,
  relu: (tape: Tape, x: Real) => tape.leakyRelu(x, 0),
  leakyRelu: (tape: Tape, x: Real, slope = 0.01) => tape.leakyRelu(x, slope),
  detach: (tape: Tape, x: Real) => tape.plain(x.data, x.shape, x),
  assign: (_: Tape, x: Real, y: Real) => {
    must(x.data.length === y.data.length && `${x.shape}` === `${y.shape}` && !y.half && !y.integer, 'assign');
    x.data.set(y.data);
    return x;
  },
  dropout: (tape: Tape, x: Real, rate: number, random: Draws, { per }: { per?: 'element' | 'channel' } = {}) => {
    must(per !== 'channel' || x.shape.length >= 2, 'channels');
    return tape.dropout(x, rate, random, per);
  },
  gaussianNoise: (tape: Tape, x: Real, { std = 1, clip = Number.POSITIVE_INFINITY, random }: Randomness) =>
    tape.gaussianNoise(x, std, clip, random),
  randomUniform: (tape: Tape, _: unknown, shape: Shape, { random, low = 0, high = 1 }: Randomness) =>
    tape.drawn('uniform', shape, high - low, low, random),
  randomNormal: (tape: Tape, _: unknown, shape: Shape, { random, mean = 0, std = 1 }: Randomness) =>
    tape.drawn('normal', shape, std, mean, random),
};
