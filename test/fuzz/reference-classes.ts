// Softmax, norms and losses of the float64 tape: what looks at rows of classes or channels.
import type { Real, Tape } from './reference.js';

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

/** Loss numbers of rows of logits; `value` and `gradient` of p and one-hot labels. */
export function labelled(tape: Tape, logits: Real, labels: Float64Array, kind: 'crossEntropy' | 'diceLoss'): Real {
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
  tape.settle(
    p,
    false,
    p.map((v, i) => v * (8 + Math.abs(logits.data[i]!))),
    8,
  );
  const isLabel = (i: number): number => (labels[Math.floor(i / classes)] === i % classes ? 1 : 0);
  if (kind === 'crossEntropy') {
    const value = tape.settle(Float64Array.of(entropy), false, Float64Array.of(size), 8);
    return tape.record(
      [],
      value,
      [logits],
      (dy) => [
        tape.settle(
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
  tape.settle(overlap, false, undefined, 4);
  tape.settle(union, false, undefined, 4);
  const dice = overlap.reduce((sum, v, k) => sum + v / union[k]! / classes, 0);
  const value = tape.settle(Float64Array.of(1 - dice), false, Float64Array.of(2), 4);
  return tape.record(
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
      return [tape.settle(dx, logits.half, magnitude, 8)];
    },
    false,
  );
}
