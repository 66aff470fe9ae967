// Float64 arrays with a tape, in plain loops; no code of the engine but Philox. A second run with noise of the size of f32's
// (f16's) rounding in every result shows how far the engine's numbers may be from these.
import { philox4x32, toUniform } from '../../engine/index.js';

export interface Real {
  readonly shape: readonly number[];
  readonly data: Float64Array;
  /** Stored as f16. */
  readonly half: boolean;
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

export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

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

/** y[to] += a[i]·b[j] for all triples: any bilinear map, such as a convolution. */
export interface Products {
  readonly shape: readonly number[];
  readonly a: Int32Array;
  readonly b: Int32Array;
  readonly y: Int32Array;
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

  /** Best of each group and how far it is from the second; ties share the gradient, or the first takes it. */
  largest(x: Real, shape: readonly number[], groups: readonly (readonly number[])[], ties: 'share' | 'first'): Real {
    const y = new Float64Array(groups.length);
    const winners = groups.map((members, g) => {
      y[g] = Math.max(...members.map((k) => x.data[k]!));
      const tied = members.filter((k) => x.data[k] === y[g]);
      return ties === 'share' ? tied : [tied[0]!];
    });
    this.kinks.push(Float64Array.from(groups.flatMap((members) => (members.length > 1 ? [leadOf(x, members)] : []))));
    return this.record(shape, y, [x], (dy) => {
      const dx = new Float64Array(x.data.length);
      winners.forEach((tied, g) => {
        for (const k of tied) dx[k]! += dy[g]! / tied.length;
      });
      return [this.settle(dx, x.half, undefined, 4)];
    });
  }

  softmax(x: Real, log: boolean): Real {
    const classes = x.shape.at(-1)!;
    const y = new Float64Array(x.data.length);
    const magnitude = new Float64Array(x.data.length);
    for (let at = 0; at < y.length; at += classes) {
      const row = x.data.subarray(at, at + classes);
      const most = Math.max(...row);
      const total = row.reduce((sum, v) => sum + Math.exp(v - most), 0);
      row.forEach((v, k) => {
        const logarithm = v - most - Math.log(total);
        y[at + k] = log ? logarithm : Math.exp(logarithm);
        magnitude[at + k] = log
          ? Math.abs(v) + Math.abs(most) + 4
          : y[at + k]! * (4 + Math.abs(v) + Math.abs(most) + Math.abs(logarithm));
      });
    }
    this.settle(y, x.half, magnitude, 8);
    return this.record(x.shape, y, [x], (dy) => {
      const dx = new Float64Array(y.length);
      const sizes = new Float64Array(y.length);
      for (let at = 0; at < y.length; at += classes) {
        let dot = 0;
        let size = 0;
        for (let k = at; k < at + classes; k++) {
          const term = log ? dy[k]! : dy[k]! * y[k]!;
          dot += term;
          size += Math.abs(term);
        }
        for (let k = at; k < at + classes; k++) {
          const p = log ? Math.exp(y[k]!) : y[k]!;
          dx[k] = log ? dy[k]! - p * dot : p * (dy[k]! - dot);
          sizes[k] = log ? Math.abs(dy[k]!) + p * size * (4 + Math.abs(y[k]!)) : p * (Math.abs(dy[k]!) + size);
        }
      }
      return [this.settle(dx, x.half, sizes, 8)];
    });
  }

  /** Of each group of rows (all rows, or one group an image) by its own statistics, or by given ones. */
  normalize(
    x: Real,
    gamma: Real,
    beta: Real,
    {
      groups,
      epsilon,
      given,
    }: { groups: number; epsilon: number; given?: { mean: Float64Array; variance: Float64Array } },
  ): { y: Real; mean: Float64Array; variance: Float64Array } {
    const channels = x.shape.at(-1)!;
    const rows = x.data.length / channels / groups;
    const count = groups * channels;
    const groupOf = (i: number): number => Math.floor(i / (rows * channels)) * channels + (i % channels);
    const mean = new Float64Array(count);
    const variance = new Float64Array(count);
    if (given) {
      mean.set(given.mean);
      variance.set(given.variance);
    } else {
      const size = new Float64Array(count);
      x.data.forEach((v, i) => {
        mean[groupOf(i)]! += v / rows;
        size[groupOf(i)]! += Math.abs(v) / rows;
      });
      this.settle(mean, false, size, 2);
      size.fill(0);
      x.data.forEach((v, i) => {
        const d = v - mean[groupOf(i)]!;
        variance[groupOf(i)]! += (d * d) / rows;
        size[groupOf(i)]! += (d * d + 2 * Math.abs(d) * (Math.abs(v) + Math.abs(mean[groupOf(i)]!))) / rows;
      });
      this.settle(variance, false, size, 2);
    }
    const scale = this.settle(
      variance.map((v) => 1 / Math.sqrt(v + epsilon)),
      false,
      undefined,
      8,
    );
    const y = new Float64Array(x.data.length);
    const magnitude = new Float64Array(x.data.length);
    const unitary = new Float64Array(x.data.length); // (x − μ)/√(σ² + ε)
    x.data.forEach((v, i) => {
      const [g, c] = [groupOf(i), i % channels];
      unitary[i] = (v - mean[g]!) * scale[g]!;
      y[i] = unitary[i]! * gamma.data[c]! + beta.data[c]!;
      magnitude[i] =
        (Math.abs(v) + Math.abs(mean[g]!)) * scale[g]! * Math.abs(gamma.data[c]!) + Math.abs(beta.data[c]!);
    });
    this.settle(y, x.half, magnitude, 2);
    const result = this.record(x.shape, y, [x, gamma, beta], (dy, needs) => {
      const sums = { dy: new Float64Array(count), product: new Float64Array(count) };
      const sizes = { dy: new Float64Array(count), product: new Float64Array(count) };
      dy.forEach((d, i) => {
        const g = groupOf(i);
        sums.dy[g]! += d;
        sizes.dy[g]! += Math.abs(d);
        sums.product[g]! += d * unitary[i]!;
        sizes.product[g]! +=
          Math.abs(d) * (Math.abs(unitary[i]!) + (Math.abs(x.data[i]!) + Math.abs(mean[g]!)) * scale[g]!);
      });
      this.settle(sums.dy, false, sizes.dy, 2);
      this.settle(sums.product, false, sizes.product, 2);
      const perChannel = (from: Float64Array): Float64Array => {
        const to = new Float64Array(channels);
        const size = new Float64Array(channels);
        from.forEach((v, g) => {
          to[g % channels]! += v;
          size[g % channels]! += Math.abs(v);
        });
        return this.settle(to, false, size);
      };
      const dx = new Float64Array(dy.length);
      const size = new Float64Array(dy.length);
      dy.forEach((d, i) => {
        const [g, c] = [groupOf(i), i % channels];
        const factor = gamma.data[c]! * scale[g]!;
        const centre = given ? 0 : (sums.dy[g]! + unitary[i]! * sums.product[g]!) / rows;
        dx[i] = factor * (d - centre);
        size[i] =
          Math.abs(factor) *
          (Math.abs(d) +
            (given
              ? 0
              : (sizes.dy[g]! +
                  ((Math.abs(x.data[i]!) + Math.abs(mean[g]!)) * scale[g]! + Math.abs(unitary[i]!)) *
                    sizes.product[g]!) /
                rows));
      });
      return [needs[0] ? this.settle(dx, x.half, size, 4) : undefined, perChannel(sums.product), perChannel(sums.dy)];
    });
    return { y: result, mean, variance };
  }

  /** Loss numbers of rows of logits; `value` and `gradient` of p and one-hot labels. */
  labelled(logits: Real, labels: Float64Array, kind: 'crossEntropy' | 'diceLoss'): Real {
    const classes = logits.shape.at(-1)!;
    const pixels = labels.length;
    const p = new Float64Array(logits.data.length);
    let entropy = 0;
    let size = 0;
    for (let i = 0; i < pixels; i++) {
      const row = logits.data.subarray(i * classes, (i + 1) * classes);
      const most = Math.max(...row);
      const total = row.reduce((sum, v) => sum + Math.exp(v - most), 0);
      row.forEach((v, k) => {
        p[i * classes + k] = Math.exp(v - most) / total;
      });
      const term = most + Math.log(total) - row[labels[i]!]!;
      entropy += term / pixels;
      size += (Math.abs(most) + Math.abs(row[labels[i]!]!) + Math.abs(term) + 4) / pixels;
    }
    this.settle(
      p,
      false,
      p.map((v, i) => v * (8 + Math.abs(logits.data[i]!))),
      8,
    );
    const isLabel = (i: number): number => (labels[Math.floor(i / classes)] === i % classes ? 1 : 0);
    if (kind === 'crossEntropy') {
      const value = this.settle(Float64Array.of(entropy), false, Float64Array.of(size), 8);
      return this.record(
        [],
        value,
        [logits],
        (dy) => [
          this.settle(
            p.map((v, i) => ((v - isLabel(i)) / pixels) * dy[0]!),
            logits.half,
            p.map((v, i) => ((v + isLabel(i)) / pixels) * dy[0]!),
            4,
          ),
        ],
        false,
      );
    }
    const epsilon = 1e-5;
    const overlap = new Float64Array(classes).fill(epsilon);
    const union = new Float64Array(classes).fill(epsilon);
    p.forEach((v, i) => {
      overlap[i % classes]! += 2 * v * isLabel(i);
      union[i % classes]! += v * v + isLabel(i);
    });
    this.settle(overlap, false, undefined, 4);
    this.settle(union, false, undefined, 4);
    const dice = overlap.reduce((sum, v, k) => sum + v / union[k]! / classes, 0);
    const value = this.settle(Float64Array.of(1 - dice), false, Float64Array.of(2), 4);
    return this.record(
      [],
      value,
      [logits],
      (dy) => {
        const dp = p.map((v, i) => {
          const k = i % classes;
          return (-dy[0]! / classes) * ((2 * isLabel(i)) / union[k]! - (overlap[k]! * 2 * v) / union[k]! ** 2);
        });
        const sizes = p.map((v, i) => {
          const k = i % classes;
          return (Math.abs(dy[0]!) / classes) * ((2 * isLabel(i)) / union[k]! + (overlap[k]! * 2 * v) / union[k]! ** 2);
        });
        const dx = new Float64Array(p.length);
        const magnitude = new Float64Array(p.length);
        for (let at = 0; at < p.length; at += classes) {
          let dot = 0;
          let dotSize = 0;
          for (let k = at; k < at + classes; k++) {
            dot += dp[k]! * p[k]!;
            dotSize += sizes[k]! * p[k]!;
          }
          for (let k = at; k < at + classes; k++) {
            dx[k] = p[k]! * (dp[k]! - dot);
            magnitude[k] = p[k]! * (sizes[k]! + dotSize);
          }
        }
        return [this.settle(dx, logits.half, magnitude, 8)];
      },
      false,
    );
  }

  /** Each number by 1/(1 − rate), or 0 where Philox draws less than the rate. */
  dropout(x: Real, rate: number, draws: Draws): Real {
    const stream = draws.stream++;
    const factors = x.data.map((_, i) =>
      toUniform(philox4x32([Math.floor(i / 4), draws.step, 0, 0], [draws.seed, stream])[i % 4]!) >= rate
        ? 1 / (1 - rate)
        : 0,
    );
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
      const bits = philox4x32([Math.floor(i / 4), draws.step, 0, 0], [draws.seed, stream]);
      const pair = i % 4 < 2 ? [bits[0], bits[1]] : [bits[2], bits[3]];
      const radius = Math.sqrt(-2 * Math.log(1 - toUniform(pair[0]!)));
      const angle = 2 * Math.PI * toUniform(pair[1]!);
      const normal = radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
      sizes[i] = Math.abs(v) + 2048 * deviation * (radius + 0.1); // WGSL's sine and cosine are good to 2^-11
      return v + Math.max(-clip, Math.min(clip, deviation * normal));
    });
    this.settle(y, x.half, sizes);
    return this.record(x.shape, y, [x], (dy) => [dy]);
  }
}

/** What the program's random ops draw from. */
export interface Draws {
  readonly seed: number;
  readonly step: number;
  stream: number;
}

/** How far the largest is before the second. */
function leadOf(x: Real, members: readonly number[]): number {
  let [first, second] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const k of members) {
    const v = x.data[k]!;
    if (v > first) [first, second] = [v, first];
    else if (v > second) second = v;
  }
  return first - second;
}
