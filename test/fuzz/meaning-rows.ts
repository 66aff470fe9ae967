// What softmax, norms, losses and attention mean. Where an op is a composition of others, so is its meaning; what it computes in f32
// between them is f32 here, too.
import { axes, matmul, variance } from './meaning-axes.js';
import { elements } from './meaning-elements.js';
import type { Draws, Real, Tape } from './reference.js';
import { must, same, sizeOf } from './shapes.js';

const { add, cast, div, mul, rsqrt, square, sub, where } = elements;
const single = (tape: Tape, x: Real): Real => cast(tape, x, 'f32');
const like = (tape: Tape, y: Real, x: Real): Real => (x.half ? cast(tape, y, 'f16') : y);

/** Over the last axis. */
export function softmax(tape: Tape, x: Real, log: boolean): Real {
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
  tape.settle(y, x.half, magnitude, 8);
  return tape.record(x.shape, y, [x], (dy) => {
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
    return [tape.settle(dx, x.half, sizes, 8)];
  });
}

/** Of each group of items (so many each) by its own statistics, or by given ones. */
export function normalize(
  tape: Tape,
  x: Real,
  gamma: Real,
  beta: Real,
  {
    groups,
    epsilon,
    given,
  }: { groups: readonly number[]; epsilon: number; given?: { mean: Float64Array; variance: Float64Array } },
): { y: Real; mean: Float64Array; variance: Float64Array } {
  const channels = x.shape.at(-1)!;
  const item = x.data.length / x.shape[0]!;
  const count = groups.length * channels;
  const ofItem = groups.flatMap((items, g) => Array<number>(items).fill(g));
  const groupOf = (i: number): number => ofItem[Math.floor(i / item)]! * channels + (i % channels);
  const rowsOf = (g: number): number => (groups[Math.floor(g / channels)]! * item) / channels;
  const mean = new Float64Array(count);
  const variance = new Float64Array(count);
  if (given) {
    mean.set(given.mean);
    variance.set(given.variance);
  } else {
    const size = new Float64Array(count);
    x.data.forEach((v, i) => {
      const g = groupOf(i);
      mean[g]! += v / rowsOf(g);
      size[g]! += Math.abs(v) / rowsOf(g);
    });
    tape.settle(mean, false, size, 2);
    size.fill(0);
    x.data.forEach((v, i) => {
      const g = groupOf(i);
      const d = v - mean[g]!;
      variance[g]! += (d * d) / rowsOf(g);
      size[g]! += (d * d + 2 * Math.abs(d) * (Math.abs(v) + Math.abs(mean[g]!))) / rowsOf(g);
    });
    tape.settle(variance, false, size, 2);
  }
  const scale = tape.settle(
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
    magnitude[i] = (Math.abs(v) + Math.abs(mean[g]!)) * scale[g]! * Math.abs(gamma.data[c]!) + Math.abs(beta.data[c]!);
  });
  tape.settle(y, x.half, magnitude, 2);
  const result = tape.record(x.shape, y, [x, gamma, beta], (dy, needs) => {
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
    tape.settle(sums.dy, false, sizes.dy, 2);
    tape.settle(sums.product, false, sizes.product, 2);
    const perChannel = (from: Float64Array): Float64Array => {
      const to = new Float64Array(channels);
      const size = new Float64Array(channels);
      from.forEach((v, g) => {
        to[g % channels]! += v;
        size[g % channels]! += Math.abs(v);
      });
      return tape.settle(to, false, size);
    };
    const dx = new Float64Array(dy.length);
    const size = new Float64Array(dy.length);
    dy.forEach((d, i) => {
      const [g, c] = [groupOf(i), i % channels];
      const factor = gamma.data[c]! * scale[g]!;
      const centre = given ? 0 : (sums.dy[g]! + unitary[i]! * sums.product[g]!) / rowsOf(g);
      dx[i] = factor * (d - centre);
      size[i] =
        Math.abs(factor) *
        (Math.abs(d) +
          (given
            ? 0
            : (sizes.dy[g]! +
                ((Math.abs(x.data[i]!) + Math.abs(mean[g]!)) * scale[g]! + Math.abs(unitary[i]!)) * sizes.product[g]!) /
              rowsOf(g)));
    });
    return [needs[0] ? tape.settle(dx, x.half, size, 4) : undefined, perChannel(sums.product), perChannel(sums.dy)];
  });
  return { y: result, mean, variance };
}

/** Numbers that norms update in place. */
export interface State {
  readonly data: Float64Array;
}

interface NormOptions {
  readonly running?: { readonly mean: State; readonly variance: State };
  readonly mode: 'train' | 'eval';
  readonly groups?: readonly number[];
  readonly track?: readonly number[];
  readonly slope?: number;
  readonly dropout?: { readonly rate: number; readonly random: Draws };
}

function batchNorm(tape: Tape, x: Real, gamma: Real, beta: Real, options: NormOptions): Real {
  const { running, mode, groups = [x.shape[0]!], track = groups.map((_, g) => g) } = options;
  must(groups.reduce((sum, items) => sum + items, 0) === x.shape[0], 'groups');
  const channels = x.shape.at(-1)!;
  const rows = groups.map((items) => (x.data.length / channels / x.shape[0]!) * items);
  must(!rows.includes(1), 'one value a channel');
  const epsilon = 1e-5;
  if (mode === 'eval') {
    const given = { mean: running!.mean.data, variance: running!.variance.data };
    return normalize(tape, x, gamma, beta, { groups: [x.shape[0]!], epsilon, given }).y;
  }
  const { y, mean, variance: spread } = normalize(tape, x, gamma, beta, { groups, epsilon });
  if (running) {
    const follow = (state: Float64Array, to: Float64Array): void => {
      const size = state.map((v, c) => Math.abs(v) + Math.abs(to[c]!));
      for (let c = 0; c < state.length; c++) state[c] = state[c]! * 0.9 + to[c]! * 0.1;
      tape.settle(state, false, size);
    };
    for (const g of track) {
      const of = (values: Float64Array): Float64Array => values.slice(g * channels, (g + 1) * channels);
      follow(running.mean.data, of(mean));
      follow(
        running.variance.data,
        of(spread).map((v) => (v * rows[g]!) / (rows[g]! - 1)),
      );
    }
  }
  return y;
}

/** x by mean and variance over `along`, times γ, plus β, both of a shape that broadcasts. */
function normalizedOver(tape: Tape, x: Real, along: readonly number[], gamma: Real, beta: Real, epsilon: number): Real {
  const v = single(tape, x);
  const centred = sub(tape, v, axes.mean(tape, v, along, { keepDims: true }));
  const spread = variance(tape, v, along, { correction: 0, keepDims: true });
  const unitary = mul(tape, centred, rsqrt(tape, add(tape, spread, epsilon)));
  return like(tape, add(tape, mul(tape, unitary, gamma), beta), x);
}

function layerNorm(tape: Tape, x: Real, gamma: Real, beta: Real, { epsilon = 1e-5 } = {}): Real {
  must(x.shape.at(-1)! > 1 && gamma.data.length === x.shape.at(-1), 'layerNorm'); // of one channel it is β
  return normalizedOver(tape, x, [-1], gamma, beta, epsilon);
}

function groupNorm(tape: Tape, x: Real, groups: number, gamma: Real, beta: Real, { epsilon = 1e-5 } = {}): Real {
  const channels = x.shape.at(-1)!;
  const width = channels / groups;
  must(x.shape.length >= 2 && Number.isInteger(width) && gamma.data.length === channels, 'groupNorm');
  must(x.data.length > x.shape[0]! * groups, 'groupNorm');
  const wide = axes.reshape(tape, x, [x.shape[0]!, sizeOf(x.shape.slice(1, -1)), groups, width]);
  const [g, b] = [gamma, beta].map((p) => axes.reshape(tape, p, [groups, width])) as [Real, Real];
  return axes.reshape(tape, normalizedOver(tape, wide, [1, 3], g, b, epsilon), x.shape);
}

interface LabelOptions {
  readonly ignoreIndex?: number;
  readonly weights?: Real;
  readonly labelSmoothing?: number;
  readonly classes?: 'all' | 'foreground';
  readonly epsilon?: number;
}

/** Rows of logits in f32, and for each element whether its pixel counts and whether it is its label. */
function labelledRows(tape: Tape, logits: Real, labels: Real, { ignoreIndex = 255 }: LabelOptions) {
  const classes = logits.shape.at(-1)!;
  must(classes > 1 && same(labels.shape, logits.shape.slice(0, -1)) && labels.integer !== undefined, 'labels');
  const labelOf = (i: number): number => labels.data[Math.floor(i / classes)]!;
  const counts = (i: number): boolean => labelOf(i) >= 0 && labelOf(i) < classes && labelOf(i) !== ignoreIndex;
  const isLabel = logits.data.map((_, i) => Number(counts(i) && labelOf(i) === i % classes));
  must(isLabel.includes(1), 'labels');
  return { rows: axes.reshape(tape, single(tape, logits), [labels.data.length, classes]), counts, isLabel, classes };
}

function crossEntropy(tape: Tape, logits: Real, labels: Real, options: LabelOptions = {}): Real {
  const { rows, counts, isLabel, classes } = labelledRows(tape, logits, labels, options);
  const { weights, labelSmoothing = 0 } = options;
  const weight = (i: number): number => weights?.data[i % classes] ?? 1;
  const whole = isLabel.reduce((sum, is, i) => sum + is * weight(i), 0);
  must(whole > 0, 'weights');
  const factors = isLabel.map((is, i) =>
    counts(i) ? (-weight(i) * ((1 - labelSmoothing) * is + labelSmoothing / classes)) / whole : 0,
  );
  return axes.sum(tape, tape.scaled(softmax(tape, rows, true), factors));
}

function diceLoss(tape: Tape, logits: Real, labels: Real, options: LabelOptions = {}): Real {
  const { rows, counts, isLabel, classes } = labelledRows(tape, logits, labels, options);
  const { epsilon = 1e-5, classes: which = 'all' } = options;
  const p = tape.scaled(
    softmax(tape, rows, false),
    isLabel.map((_, i) => Number(counts(i))),
  );
  const squares = axes.sum(tape, square(tape, p), 0);
  const pixels = new Float64Array(classes);
  isLabel.forEach((is, i) => {
    pixels[i % classes]! += is;
  });
  const overlap = add(
    tape,
    axes.sum(
      tape,
      tape.scaled(
        p,
        isLabel.map((is) => 2 * is),
      ),
      0,
    ),
    epsilon,
  );
  const whole = add(
    tape,
    squares,
    tape.constant(
      pixels.map((n) => n + epsilon),
      [classes],
    ),
  );
  const dice = div(tape, overlap, whole);
  const counted = which === 'all' ? dice : axes.slice(tape, dice, 0, 1, classes - 1);
  return sub(tape, 1, axes.mean(tape, counted));
}

/** The mean of f(a, b) over all elements. */
function pairLoss(
  tape: Tape,
  a: Real,
  b: Real,
  f: (u: number, v: number) => number,
  slopes: readonly [(u: number, v: number) => number, (u: number, v: number) => number],
): Real {
  must(same(a.shape, b.shape) && a.half === b.half && !a.integer && !b.integer, 'pair');
  const [p, q] = [single(tape, a), single(tape, b)];
  const own = Int32Array.from(p.data.keys());
  const size = (u: number, v: number): number =>
    8 * (Math.abs(f(u, v)) + (Math.abs(u) + Math.abs(v)) * (1 + Math.abs(slopes[0](u, v))));
  return axes.mean(tape, tape.zip(p, q, p.shape, [own, own], f, size, slopes));
}

const logistic = (v: number): number => 1 / (1 + Math.exp(-v));

interface AttentionOptions {
  readonly causal?: boolean;
  readonly scale?: number;
  readonly mask?: Real;
}

/** Softmax of scores by key, of all items and heads at once. */
function attention(
  tape: Tape,
  q: Real,
  k: Real,
  v: Real,
  { causal = false, scale, mask }: AttentionOptions = {},
): Real {
  must(q.shape.length === 4 && same(k.shape, v.shape) && same(q.shape.with(1, 0), k.shape.with(1, 0)), 'attention');
  const heads = [q, k, v].map((x) => axes.permute(tape, single(tape, x), [0, 2, 1, 3])) as [Real, Real, Real];
  const products = matmul(tape, heads[0], heads[1], { transposeB: true });
  const scaled = mul(tape, products, scale ?? 1 / Math.sqrt(q.shape[3]!));
  const added = mask && !mask.integer ? add(tape, scaled, single(tape, mask)) : scaled;
  const { shape } = added;
  must(same(shape, products.shape), 'mask');
  const shown = mask?.integer ? axes.broadcastTo(tape, mask, shape).data : undefined;
  const [queries, keys] = shape.slice(-2) as [number, number];
  const visible = added.data.map((_, i) => {
    const [t, s] = [Math.floor(i / keys) % queries, i % keys];
    return Number(!(causal && s > t + keys - queries) && shown?.[i] !== 0);
  });
  const scores = where(tape, tape.whole(visible, shape, 'u8'), added, -1e30);
  const p = tape.scaled(softmax(tape, scores, false), visible); // a query that sees no key gives 0
  return like(tape, axes.permute(tape, matmul(tape, p, heads[2]), [0, 2, 1, 3]), q);
}

export const rows = {
  softmax: (tape: Tape, x: Real) => softmax(tape, x, false),
  logSoftmax: (tape: Tape, x: Real) => softmax(tape, x, true),
  batchNorm,
  instanceNorm: (tape: Tape, x: Real, gamma: Real, beta: Real) => {
    must(x.shape.length >= 3 && sizeOf(x.shape.slice(1, -1)) > 1, 'instanceNorm');
    return normalize(tape, x, gamma, beta, { groups: Array<number>(x.shape[0]!).fill(1), epsilon: 1e-5 }).y;
  },
  normActivation: (tape: Tape, x: Real, gamma: Real, beta: Real, options: NormOptions) => {
    const a = tape.leakyRelu(batchNorm(tape, x, gamma, beta, options), options.slope!);
    return options.dropout ? tape.dropout(a, options.dropout.rate, options.dropout.random) : a;
  },
  layerNorm,
  groupNorm,
  crossEntropy,
  diceLoss,
  meanSquaredError: (tape: Tape, a: Real, b: Real) =>
    pairLoss(tape, a, b, (u, v) => (u - v) ** 2, [(u, v) => 2 * (u - v), (u, v) => 2 * (v - u)]),
  huberLoss: (tape: Tape, a: Real, b: Real, { delta = 1 } = {}) => {
    const slope = (d: number): number => Math.max(-delta, Math.min(delta, d));
    const value = (d: number): number => (Math.abs(d) <= delta ? (d * d) / 2 : delta * (Math.abs(d) - delta / 2));
    return pairLoss(tape, a, b, (u, v) => value(u - v), [(u, v) => slope(u - v), (u, v) => -slope(u - v)]);
  },
  binaryCrossEntropy: (tape: Tape, a: Real, b: Real) =>
    pairLoss(tape, a, b, (l, t) => Math.max(l, 0) - l * t + Math.log1p(Math.exp(-Math.abs(l))), [
      (l, t) => logistic(l) - t,
      (l) => -l,
    ]),
  attention,
};
