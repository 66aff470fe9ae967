// What every public op means in float64: its index arithmetic, handed to the tape. Throws where shapes do not fit, so that
// a program which shrinking made meaningless is left out.
import { type Draws, type Products, type Real, sizeOf, type Tape } from './reference.js';
import { labelled, normalize, softmax } from './reference-classes.js';

/** Numbers that norms update in place. */
export interface State {
  readonly data: Float64Array;
}

type Shape = readonly number[];

/** Strides of a row-major shape. */
const stridesOf = (shape: Shape): number[] => shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));

/** For every element of `shape`: `offset` of its index, by axis. */
function table(shape: Shape, offset: (index: number[]) => number): Int32Array {
  const index = shape.map(() => 0);
  return Int32Array.from({ length: sizeOf(shape) }, () => {
    const at = offset(index);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) index[axis] = 0;
    return at;
  });
}

const must = (fits: boolean, what: string): void => {
  if (!fits) throw new RangeError(`no meaning: ${what}`);
};

function broadcast(a: Shape, b: Shape): { shape: number[]; maps: [Int32Array, Int32Array] } {
  const rank = Math.max(a.length, b.length);
  const padded = [a, b].map((s) => [...Array<number>(rank - s.length).fill(1), ...s]);
  const shape = padded[0]!.map((n, axis) => {
    const m = padded[1]![axis]!;
    must(n === m || n === 1 || m === 1, 'broadcast');
    return Math.max(n, m);
  });
  const maps = padded.map((s) => {
    const strides = stridesOf(s);
    return table(shape, (index) => index.reduce((at, i, axis) => at + (s[axis] === 1 ? 0 : i * strides[axis]!), 0));
  });
  return { shape, maps: maps as [Int32Array, Int32Array] };
}

const known = new Map<string, Products>();

/** Products of a convolution: `place(o, k)` is where output position o meets kernel position k on an axis, undefined outside. */
function spatialProducts(
  key: string,
  x: Shape,
  weight: Shape,
  output: (n: number) => number,
  place: (o: number, k: number, kernel: number) => number | undefined,
): Products {
  const name = `${key} ${x} ${weight}`;
  const before = known.get(name);
  if (before) return before;
  const inputs = x.at(-1)!;
  const shape = [x[0]!, ...x.slice(1, -1).map(output), weight[0]!];
  const [a, b, y]: [number[], number[], number[]] = [[], [], []];
  const [xStrides, wStrides] = [stridesOf(x), stridesOf(weight)];
  const kernels = weight.slice(1, -1);
  let out = -1;
  table(shape, (index) => {
    out++;
    table(kernels, (k) => {
      let at = index[0]! * xStrides[0]!;
      let w = index.at(-1)! * wStrides[0]!;
      for (let axis = 0; axis < k.length; axis++) {
        const i = place(index[axis + 1]!, k[axis]!, kernels[axis]!);
        if (i === undefined || i < 0 || i >= x[axis + 1]!) return 0;
        at += i * xStrides[axis + 1]!;
        w += k[axis]! * wStrides[axis + 1]!;
      }
      for (let c = 0; c < inputs; c++) {
        a.push(at + c);
        b.push(w + c);
        y.push(out);
      }
      return 0;
    });
    return 0;
  });
  const products = { shape, a: Int32Array.from(a), b: Int32Array.from(b), y: Int32Array.from(y) };
  if (known.size > 200) known.clear();
  known.set(name, products);
  return products;
}

const matmulProducts = (a: Shape, b: Shape): Products => {
  must(a.length >= 2 && b.length >= 2 && a.at(-1) === b.at(-2), 'matmul');
  must(b.length === 2 || `${a.slice(0, -2)}` === `${b.slice(0, -2)}`, 'matmul');
  const [m, k, n] = [a.at(-2)!, a.at(-1)!, b.at(-1)!];
  const [i, j, to]: [number[], number[], number[]] = [[], [], []];
  for (let batch = 0; batch < sizeOf(a.slice(0, -2)); batch++)
    for (let row = 0; row < m; row++)
      for (let column = 0; column < n; column++)
        for (let inner = 0; inner < k; inner++) {
          i.push((batch * m + row) * k + inner);
          j.push(((b.length === 2 ? 0 : batch) * k + inner) * n + column);
          to.push((batch * m + row) * n + column);
        }
  return { shape: [...a.slice(0, -1), n], a: Int32Array.from(i), b: Int32Array.from(j), y: Int32Array.from(to) };
};

/** The linear map of upsampling, and its weights: aligned corners, or copies. */
function upsampling(x: Shape, factor: number, nearest: boolean): { products: Products; weights: Float64Array } {
  const size = x.slice(1, -1);
  const channels = x.at(-1)!;
  const strides = stridesOf(x);
  const [a, b, y]: [number[], number[], number[]] = [[], [], []];
  const weights: number[] = [];
  let out = -1;
  const shape = [x[0]!, ...size.map((n) => factor * n), channels];
  table(shape, (index) => {
    out++;
    table(
      size.map(() => 2),
      (corner) => {
        let weight = 1;
        let at = index[0]! * strides[0]! + index.at(-1)!;
        size.forEach((n, axis) => {
          const place = index[axis + 1]!;
          const exact = nearest ? Math.floor(place / factor) : (place * (n - 1)) / (factor * n - 1);
          const low = Math.min(n - 1, Math.floor(exact + 1e-12));
          const part = exact - low;
          weight *= corner[axis] ? part : 1 - part;
          at += Math.min(n - 1, low + corner[axis]!) * strides[axis + 1]!;
        });
        a.push(at);
        b.push(weights.length);
        y.push(out);
        weights.push(weight);
        return 0;
      },
    );
    return 0;
  });
  const products = { shape, a: Int32Array.from(a), b: Int32Array.from(b), y: Int32Array.from(y) };
  return { products, weights: Float64Array.from(weights) };
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
  const { y, mean, variance } = normalize(tape, x, gamma, beta, { groups, epsilon });
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
        of(variance).map((v) => (v * rows[g]!) / (rows[g]! - 1)),
      );
    }
  }
  return y;
}

const axesOf = (rank: number, axes: number | readonly number[] | undefined): number[] => {
  const list =
    axes === undefined ? Array.from({ length: rank }, (_, i) => i) : typeof axes === 'number' ? [axes] : axes;
  const positive = list.map((axis) => (axis < 0 ? axis + rank : axis));
  must(
    positive.every((axis) => axis >= 0 && axis < rank),
    'axes',
  );
  return positive;
};

/** Where every element goes when `axes` are reduced, and the shapes with and without these. */
function reduction(x: Real, axes: number | readonly number[] | undefined, keepDims: boolean) {
  const list = axesOf(x.shape.length, axes);
  const kept = x.shape.map((n, axis) => (list.includes(axis) ? 1 : n));
  const strides = stridesOf(kept);
  const to = table(x.shape, (index) =>
    index.reduce((at, i, axis) => at + (kept[axis] === 1 ? 0 : i * strides[axis]!), 0),
  );
  const shape = keepDims ? kept : x.shape.filter((_, axis) => !list.includes(axis));
  return { to, shape, count: x.data.length / sizeOf(kept) };
}

const image = (x: Real, least = 1): void =>
  must([4, 5].includes(x.shape.length) && x.shape.slice(1, -1).every((n) => n >= least), 'image');

type Operand = Real | number;

function arithmetic(tape: Tape, name: 'add' | 'sub' | 'mul' | 'div', p: Operand, q: Operand): Real {
  const tensor = typeof p === 'number' ? (q as Real) : p;
  const number = (value: number): Real => ({
    shape: [],
    data: Float64Array.of(value),
    half: tensor.half,
    wanted: false,
  });
  const [a, b] = [p, q].map((x) => (typeof x === 'number' ? number(x) : x)) as [Real, Real];
  must(a.half === b.half, 'element types');
  const { shape, maps } = broadcast(a.shape, b.shape);
  const table = {
    add: [(u: number, v: number) => u + v, () => 1, () => 1],
    sub: [(u: number, v: number) => u - v, () => 1, () => -1],
    mul: [(u: number, v: number) => u * v, (_: number, v: number) => v, (u: number) => u],
    div: [(u: number, v: number) => u / v, (_: number, v: number) => 1 / v, (u: number, v: number) => -u / (v * v)],
  } as const;
  const [f, da, db] = table[name];
  const size =
    name === 'add' || name === 'sub'
      ? (u: number, v: number) => Math.abs(u) + Math.abs(v)
      : (u: number, v: number) => 4 * f(u, v);
  return tape.zip(a, b, shape, maps, f, size, [da, db]);
}

/** The value of a call: `args` are reals, numbers, options, state and draws, as the call has them. */
export function meaningOf(tape: Tape, name: string, args: readonly unknown[]): Real {
  const x = args[0] as Real;
  switch (name) {
    case 'add':
    case 'sub':
    case 'mul':
    case 'div':
      return arithmetic(tape, name, args[0] as Operand, args[1] as Operand);
    case 'neg':
      return tape.map(
        x,
        (v) => -v,
        () => -1,
      );
    case 'exp':
      return tape.map(
        x,
        Math.exp,
        (_, y) => y,
        (v, y) => y * (6 + 4 * Math.abs(v)),
      );
    case 'log':
      return tape.map(
        x,
        Math.log,
        (v) => 1 / v,
        (_, y) => 6 * Math.abs(y) + 8,
      );
    case 'sqrt':
      return tape.map(
        x,
        Math.sqrt,
        (_, y) => 0.5 / y,
        (_, y) => 8 * y,
      );
    case 'square':
      return tape.map(
        x,
        (v) => v * v,
        (v) => 2 * v,
      );
    case 'abs':
      tape.kinks.push(x.data);
      return tape.map(x, Math.abs, Math.sign);
    case 'clamp': {
      const [low, high] = args.slice(1) as [number, number];
      tape.kinks.push(
        x.data.map((v) => v - low),
        x.data.map((v) => v - high),
      );
      return tape.map(
        x,
        (v) => Math.min(high, Math.max(low, v)),
        (v) => (v >= low && v <= high ? 1 : 0),
      );
    }
    case 'relu':
      return tape.leakyRelu(x, 0);
    case 'leakyRelu':
      return tape.leakyRelu(x, (args[1] as number | undefined) ?? 0.01);
    case 'cast':
      return (args[1] === 'f16') === x.half
        ? x
        : tape.map(
            x,
            (v) => v,
            () => 1,
            () => 0,
            args[1] === 'f16',
          );
    case 'reshape': {
      must(sizeOf(args[1] as Shape) === x.data.length, 'reshape');
      return tape.gather(x, args[1] as Shape, Int32Array.from(x.data.keys()));
    }
    case 'slice': {
      const [axis, first, count] = args.slice(1) as [number, number, number];
      const [at] = axesOf(x.shape.length, axis) as [number];
      must(first >= 0 && count > 0 && first + count <= x.shape[at]!, 'slice');
      const strides = stridesOf(x.shape);
      const shape = x.shape.with(at, count);
      const from = table(shape, (index) =>
        index.reduce((sum, i, k) => sum + (k === at ? i + first : i) * strides[k]!, 0),
      );
      return tape.gather(x, shape, from);
    }
    case 'concat': {
      const xs = args[0] as Real[];
      const [at] = axesOf(xs[0]!.shape.length, args[1] as number) as [number];
      must(
        xs.every(({ shape, half }) => half === xs[0]!.half && `${shape.with(at, 0)}` === `${xs[0]!.shape.with(at, 0)}`),
        'concat',
      );
      const total = xs.reduce((sum, { shape }) => sum + shape[at]!, 0);
      return joined(tape, xs, at, xs[0]!.shape.with(at, total));
    }
    case 'sum':
    case 'mean': {
      const { to, shape, count } = reduction(
        x,
        args[1] as number[] | undefined,
        Boolean((args[2] as { keepDims?: boolean })?.keepDims),
      );
      return tape.total(x, shape, to, name === 'mean' ? 1 / count : 1);
    }
    case 'max': {
      const { to, shape } = reduction(
        x,
        args[1] as number[] | undefined,
        Boolean((args[2] as { keepDims?: boolean })?.keepDims),
      );
      const groups = Array.from({ length: sizeOf(shape) }, () => [] as number[]);
      to.forEach((g, i) => {
        groups[g]!.push(i);
      });
      return tape.largest(x, shape, groups, 'share');
    }
    case 'matmul': {
      const b = args[1] as Real;
      return tape.bilinear(x, b, matmulProducts(x.shape, b.shape));
    }
    case 'softmax':
    case 'logSoftmax':
      return softmax(tape, x, name === 'logSoftmax');
    case 'conv': {
      const [weight, bias, options] = args.slice(1) as [Real, Real | undefined, { stride?: number } | undefined];
      const stride = options?.stride ?? 1;
      must(x.shape.length === weight.shape.length && x.shape.at(-1) === weight.shape.at(-1), 'conv');
      const products = spatialProducts(
        `conv ${stride}`,
        x.shape,
        weight.shape,
        (n) => Math.ceil(n / stride),
        (o, k, kernel) => o * stride + k - (kernel - 1) / 2,
      );
      const y = tape.bilinear(x, weight, products, x.half);
      return bias ? plusBias(tape, y, bias) : y;
    }
    case 'convTranspose': {
      const [weight, bias] = args.slice(1) as [Real, Real | undefined];
      must(x.shape.length === weight.shape.length && x.shape.at(-1) === weight.shape.at(-1), 'convTranspose');
      must(weight.shape.slice(1, -1).every((n) => n === 2) && x.half === weight.half, 'convTranspose');
      const products = spatialProducts(
        'transposed',
        x.shape,
        weight.shape,
        (n) => 2 * n,
        (o, k) => (o % 2 === k ? (o - k) / 2 : undefined),
      );
      const y = tape.bilinear(x, weight, products);
      return bias ? plusBias(tape, y, bias) : y;
    }
    case 'upsample': {
      image(x);
      const { factor = 2, mode = 'linear' } = (args[1] ?? {}) as { factor?: number; mode?: string };
      const { products, weights } = upsampling(x.shape, factor, mode === 'nearest');
      return tape.bilinear(x, { shape: [weights.length], data: weights, half: x.half, wanted: false }, products);
    }
    case 'maxPool': {
      image(x, 2);
      const sides = x.shape.slice(1, -1);
      const shape = [x.shape[0]!, ...sides.map((n) => Math.floor(n / 2)), x.shape.at(-1)!];
      const strides = stridesOf(x.shape);
      const groups: number[][] = [];
      table(shape, (index) => {
        const spatial = strides.slice(1, -1);
        const first = index.reduce((at, n, axis) => at + n * strides[axis]! * (spatial[axis - 1] ? 2 : 1), 0);
        const window = spatial.reduce((all, stride) => all.flatMap((at) => [at, at + stride]), [first]);
        return groups.push(window);
      });
      return tape.largest(x, shape, groups, 'first');
    }
    case 'batchNorm':
      return batchNorm(tape, x, args[1] as Real, args[2] as Real, args[3] as NormOptions);
    case 'instanceNorm': {
      must(x.shape.length >= 3 && sizeOf(x.shape.slice(1, -1)) > 1, 'instanceNorm');
      return normalize(tape, x, args[1] as Real, args[2] as Real, {
        groups: Array<number>(x.shape[0]!).fill(1),
        epsilon: 1e-5,
      }).y;
    }
    case 'normActivation': {
      const options = args[3] as NormOptions;
      const n = batchNorm(tape, x, args[1] as Real, args[2] as Real, options);
      const a = tape.leakyRelu(n, options.slope!);
      return options.dropout ? tape.dropout(a, options.dropout.rate, options.dropout.random) : a;
    }
    case 'dropout':
      return tape.dropout(x, args[1] as number, args[2] as Draws);
    case 'gaussianNoise': {
      const { std, clip, random } = args[1] as { std: number; clip?: number; random: Draws };
      return tape.gaussianNoise(x, std, clip ?? Number.POSITIVE_INFINITY, random);
    }
    case 'crossEntropy':
    case 'diceLoss': {
      const labels = args[1] as Real;
      must(x.shape.at(-1)! > 1, 'classes');
      must(labels.data.length * x.shape.at(-1)! === x.data.length, 'labels');
      must(Math.max(...labels.data) < x.shape.at(-1)!, 'labels');
      return labelled(tape, x, labels.data, name);
    }
    default:
      throw new RangeError(`no meaning: ${name}`);
  }
}

const plusBias = (tape: Tape, y: Real, bias: Real): Real => {
  must(bias.data.length === y.shape.at(-1), 'bias');
  const { shape, maps } = broadcast(y.shape, bias.shape);
  // Where the output is f16 and the bias f32, the sum is f16 still.
  const sizes = (u: number, v: number) => Math.abs(u) + Math.abs(v);
  return tape.zip(y, bias, shape, maps, (u, v) => u + v, sizes, [() => 1, () => 1]);
};

/** The inputs side by side along one axis. */
function joined(tape: Tape, xs: readonly Real[], at: number, shape: Shape): Real {
  const y = new Float64Array(sizeOf(shape));
  const strides = stridesOf(shape);
  let start = 0;
  const places = xs.map((x) => {
    const first = start;
    start += x.shape[at]!;
    return table(x.shape, (index) => index.reduce((sum, i, k) => sum + (k === at ? i + first : i) * strides[k]!, 0));
  });
  xs.forEach((x, i) => {
    places[i]!.forEach((to, k) => {
      y[to] = x.data[k]!;
    });
  });
  return tape.record(shape, y, xs, (dy) => places.map((place) => Float64Array.from(place, (to) => dy[to]!)));
}
