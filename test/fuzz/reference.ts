// Float64 arrays with a tape, in plain loops; no code of the engine but Philox. A second run with noise of the size of f32's
// (f16's) rounding in every result shows how far the engine's numbers may be from these.
import { philox4x32, toUniform } from '../../engine/custom.js';
import type { Leaf } from './program.js';
import { type Products, sizeOf } from './shapes.js';

export type Integer = 'u8' | 'u32' | 'i32';

export interface Real {
  readonly shape: readonly number[];
  readonly data: Float64Array;
  /** Stored as f16. */
  readonly half: boolean;
  /** Its type, if its numbers are integers; these are exact and have no gradient. */
  readonly integer?: Integer;
  /** A gradient is kept. */
  wanted: boolean;
  readonly node?: {
    readonly inputs: readonly Real[];
    /** The gradients of the inputs that `needs` names. */
    readonly backward: (dy: Float64Array, needs: readonly boolean[]) => (Float64Array | undefined)[];
  };
}

const unit = 2 ** -24;
const halfUnit = 2 ** -11;
const halfLeast = 2 ** -25;

/** Uniform in [−1, 1): xorshift32. */
export function noiseOf(seed: number): () => number {
  let state = (seed * 2654435761 + 12345) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) * 2 ** -31 - 1;
  };
}

export class Tape {
  /** Distances of numbers from where an op's derivative jumps; the engine must see the same signs. */
  readonly kinks: Float64Array[] = [];
  tracking = true;
  readonly #noise: (() => number) | undefined;
  #nodes: Real[] = [];

  constructor(noise?: () => number) {
    this.#noise = noise;
  }

  constant(data: Float64Array, shape: readonly number[], wanted = false): Real {
    return { shape, data, half: false, wanted };
  }

  whole(data: Float64Array, shape: readonly number[], integer: Integer): Real {
    return { shape, data, half: false, integer, wanted: false };
  }

  /** Numbers without a gradient, of the type of `like`. */
  plain(data: Float64Array, shape: readonly number[], like: Real): Real {
    return like.integer ? this.whole(data, shape, like.integer) : { shape, data, half: like.half, wanted: false };
  }

  /** Adds noise of `units` roundings of `magnitude` (the result's own if not given) to every number. */
  settle(data: Float64Array, half: boolean, magnitude: Float64Array = data, units = 1): Float64Array {
    const noise = this.#noise;
    if (!noise) return data;
    for (let i = 0; i < data.length; i++) {
      let size = units * unit * Math.abs(magnitude[i]!);
      if (half) size += halfUnit * Math.abs(data[i]!) + halfLeast;
      if (size > 0) data[i]! += size * noise();
    }
    return data;
  }

  tracks(x: Real): boolean {
    return x.wanted || x.node !== undefined;
  }

  record(
    shape: readonly number[],
    data: Float64Array,
    inputs: readonly Real[],
    backward: (dy: Float64Array, needs: readonly boolean[]) => (Float64Array | undefined)[],
    half = inputs[0]!.half,
  ): Real {
    const tracked = this.tracking && inputs.some((x) => this.tracks(x));
    const y: Real = { shape, data, half, wanted: false, ...(tracked && { node: { inputs, backward } }) };
    if (tracked) this.#nodes.push(y);
    return y;
  }

  /** Gradients of everything wanted that `loss` depends on. */
  backward(loss: Real, seed: Float64Array): Map<Real, Float64Array> {
    const gradients = new Map<Real, Float64Array>([[loss, seed]]);
    for (const y of [...this.#nodes].reverse()) {
      const dy = gradients.get(y);
      if (!dy) continue;
      const { inputs, backward } = y.node!;
      const needs = inputs.map((x) => this.tracks(x));
      backward(dy, needs).forEach((dx, i) => {
        if (!dx || !needs[i]) return;
        const x = inputs[i]!;
        const before = gradients.get(x);
        if (!before) {
          gradients.set(x, dx.slice());
          return;
        }
        const magnitude = before.map((v, k) => Math.abs(v) + Math.abs(dx[k]!));
        gradients.set(
          x,
          this.settle(
            before.map((v, k) => v + dx[k]!),
            x.half,
            magnitude,
          ),
        );
      });
    }
    return gradients;
  }

  /** f of every number; `derivative` of x and y. `size` is the rounding's magnitude. */
  map(
    x: Real,
    f: (v: number) => number,
    derivative: (v: number, y: number) => number,
    size?: (v: number, y: number) => number,
    half = x.half,
  ): Real {
    const y = x.data.map(f);
    const exact = y.slice();
    this.settle(y, half, size ? exact.map((v, i) => size(x.data[i]!, v)) : exact);
    return this.record(
      x.shape,
      y,
      [x],
      (dy) => [
        this.settle(
          dy.map((v, i) => v * derivative(x.data[i]!, y[i]!)),
          x.half,
          undefined,
          8,
        ),
      ],
      half,
    );
  }

  /** y[i] = f(a, b) with a and b repeated as `maps` say. */
  zip(
    a: Real,
    b: Real,
    shape: readonly number[],
    maps: readonly [Int32Array, Int32Array],
    f: (p: number, q: number) => number,
    size: (p: number, q: number) => number,
    derivatives: readonly [(p: number, q: number) => number, (p: number, q: number) => number],
  ): Real {
    const [p, q] = maps;
    const n = sizeOf(shape);
    const y = new Float64Array(n);
    const magnitude = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      y[i] = f(a.data[p[i]!]!, b.data[q[i]!]!);
      magnitude[i] = size(a.data[p[i]!]!, b.data[q[i]!]!);
    }
    this.settle(y, a.half, magnitude);
    return this.record(shape, y, [a, b], (dy, needs) =>
      [a, b].map((x, k) => {
        if (!needs[k]) return undefined;
        const dx = new Float64Array(x.data.length);
        const sizes = new Float64Array(x.data.length);
        for (let i = 0; i < n; i++) {
          const d = dy[i]! * derivatives[k as 0 | 1](a.data[p[i]!]!, b.data[q[i]!]!);
          dx[maps[k as 0 | 1][i]!]! += d;
          sizes[maps[k as 0 | 1][i]!]! += Math.abs(d) * (1 + (x.half ? halfUnit / unit : 0));
        }
        return this.settle(dx, x.half, sizes, 4);
      }),
    );
  }

  /** y[i] = x[from[i]], or 0 where from[i] < 0. */
  gather(x: Real, shape: readonly number[], from: Int32Array): Real {
    const y = Float64Array.from(from, (k) => (k < 0 ? 0 : x.data[k]!));
    if (x.integer) return this.plain(y, shape, x);
    return this.record(shape, y, [x], (dy) => {
      const dx = new Float64Array(x.data.length);
      const magnitude = new Float64Array(x.data.length);
      from.forEach((k, i) => {
        if (k < 0) return;
        dx[k]! += dy[i]!;
        magnitude[k]! += Math.abs(dy[i]!);
      });
      return [this.settle(dx, x.half, magnitude)];
    });
  }

  /** y[to[i]] += x[i], times `scale`. */
  total(x: Real, shape: readonly number[], to: Int32Array, scale: number): Real {
    const y = new Float64Array(sizeOf(shape));
    const magnitude = new Float64Array(y.length);
    x.data.forEach((v, i) => {
      y[to[i]!]! += v * scale;
      magnitude[to[i]!]! += Math.abs(v * scale);
    });
    this.settle(y, x.half, magnitude);
    return this.record(shape, y, [x], (dy) => [
      this.settle(
        x.data.map((_, i) => dy[to[i]!]! * scale),
        x.half,
      ),
    ]);
  }

  bilinear(a: Real, b: Real, products: Products, half = a.half): Real {
    const multiply = (
      p: Float64Array,
      q: Float64Array,
      from: readonly [Int32Array, Int32Array, Int32Array],
      size: number,
      roundHalf: boolean,
    ): Float64Array => {
      const [i, j, to] = from;
      const y = new Float64Array(size);
      const magnitude = new Float64Array(size);
      for (let k = 0; k < to.length; k++) {
        const product = p[i[k]!]! * q[j[k]!]!;
        y[to[k]!]! += product;
        magnitude[to[k]!]! += Math.abs(product);
      }
      // Kernels may round an f32 operand to f16 first.
      return this.settle(y, roundHalf, magnitude, half ? halfUnit / unit : 2);
    };
    const { a: i, b: j, y: to, shape } = products;
    const y = multiply(a.data, b.data, [i, j, to], sizeOf(shape), half);
    return this.record(
      shape,
      y,
      [a, b],
      (dy, needs) => [
        needs[0] ? multiply(dy, b.data, [to, j, i], a.data.length, a.half) : undefined,
        needs[1] ? multiply(a.data, dy, [i, to, j], b.data.length, b.half) : undefined,
      ],
      half,
    );
  }

  leakyRelu(x: Real, slope: number): Real {
    this.kinks.push(x.data);
    return this.map(
      x,
      (v) => (v > 0 ? v : slope * v),
      (v) => (v > 0 ? 1 : slope),
    );
  }

  /** y[to] += weight · x[from] over all `terms`, with the weights of their `b`. */
  linear(x: Real, terms: Products, weights: Float64Array): Real {
    return this.bilinear(x, { shape: [weights.length], data: weights, half: x.half, wanted: false }, terms);
  }

  /** Best of each group and how far it is from the second; ties share the gradient, or the first takes it. */
  best(
    x: Real,
    shape: readonly number[],
    groups: readonly (readonly number[])[],
    ties: 'share' | 'first',
    of: 'max' | 'min' = 'max',
  ): Real {
    const y = new Float64Array(groups.length);
    const winners = groups.map((members, g) => {
      y[g] = Math[of](...members.map((k) => x.data[k]!));
      const tied = members.filter((k) => x.data[k] === y[g]);
      return ties === 'share' ? tied : [tied[0]!];
    });
    this.kinks.push(
      Float64Array.from(groups.flatMap((members) => (members.length > 1 ? [leadOf(x, members, of)] : []))),
    );
    return this.record(shape, y, [x], (dy) => {
      const dx = new Float64Array(x.data.length);
      winners.forEach((tied, g) => {
        for (const k of tied) dx[k]! += dy[g]! / tied.length;
      });
      return [this.settle(dx, x.half, undefined, 4)];
    });
  }

  /** Each number, or each channel of an item, by 1/(1 − rate), or by 0 where Philox draws less than the rate. */
  dropout(x: Real, rate: number, draws: Draws, per: 'element' | 'channel' = 'element'): Real {
    const stream = draws.stream++;
    const channels = x.shape.at(-1)!;
    const item = x.data.length / x.shape[0]!;
    const number = (i: number): number => (per === 'element' ? i : Math.floor(i / item) * channels + (i % channels));
    const factors = x.data.map((_, i) => (uniformAt(draws, stream, number(i)) >= rate ? 1 / (1 - rate) : 0));
    return this.scaled(x, factors);
  }

  scaled(x: Real, factors: Float64Array): Real {
    const times = (v: Float64Array): Float64Array =>
      this.settle(
        v.map((d, i) => d * factors[i]!),
        x.half,
      );
    return this.record(x.shape, times(x.data), [x], (dy) => [times(dy)]);
  }

  gaussianNoise(x: Real, deviation: number, clip: number, draws: Draws): Real {
    const stream = draws.stream++;
    const sizes = new Float64Array(x.data.length);
    const y = x.data.map((v, i) => {
      const { normal, radius } = normalAt(draws, stream, i);
      sizes[i] = Math.abs(v) + 2048 * deviation * (radius + 0.1); // WGSL's sine and cosine are good to 2^-11
      return v + Math.max(-clip, Math.min(clip, deviation * normal));
    });
    this.settle(y, x.half, sizes);
    return this.record(x.shape, y, [x], (dy) => [dy]);
  }

  /** scale · number + shift, f32; the numbers are uniform or normal. */
  drawn(kind: 'uniform' | 'normal', shape: readonly number[], scale: number, shift: number, draws: Draws): Real {
    const stream = draws.stream++;
    const y = new Float64Array(sizeOf(shape));
    const sizes = new Float64Array(y.length);
    for (let i = 0; i < y.length; i++) {
      const { normal, radius } = normalAt(draws, stream, i);
      const uniform = uniformAt(draws, stream, i);
      y[i] = scale * (kind === 'normal' ? normal : uniform) + shift;
      sizes[i] = Math.abs(shift) + Math.abs(scale) * (kind === 'normal' ? 2048 * (radius + 0.1) : uniform);
    }
    return this.constant(this.settle(y, false, sizes), shape);
  }
}

/** The numbers of a leaf; parameters want a gradient. */
export function leafOf(tape: Tape, { kind, shape }: Leaf, data: Float64Array): Real {
  if (kind === 'labels') return tape.whole(data, shape, 'u8');
  if (kind === 'table') return tape.whole(data, shape, 'i32');
  return tape.constant(data, shape, kind === 'parameter');
}

/** What the program's random ops draw from. */
export interface Draws {
  readonly seed: number;
  readonly step: number;
  stream: number;
}

const bitsAt = ({ step, seed }: Draws, stream: number, i: number) =>
  philox4x32([Math.floor(i / 4), step, 0, 0], [seed, stream]);
const uniformAt = (draws: Draws, stream: number, i: number): number => toUniform(bitsAt(draws, stream, i)[i % 4]!);

/** Box and Muller's, from the pair of numbers that element i belongs to. */
function normalAt(draws: Draws, stream: number, i: number): { normal: number; radius: number } {
  const bits = bitsAt(draws, stream, i);
  const pair = i % 4 < 2 ? [bits[0], bits[1]] : [bits[2], bits[3]];
  const radius = Math.sqrt(-2 * Math.log(1 - toUniform(pair[0]!)));
  const angle = 2 * Math.PI * toUniform(pair[1]!);
  return { normal: radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle)), radius };
}

/** How far the best is before the second. */
export function leadOf(x: Real, members: readonly number[], of: 'max' | 'min' = 'max'): number {
  const sign = of === 'max' ? 1 : -1;
  let [first, second] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const k of members) {
    const v = sign * x.data[k]!;
    if (v > first) [first, second] = [v, first];
    else if (v > second) second = v;
  }
  return first - second;
}
