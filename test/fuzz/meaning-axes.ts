// What ops mean that move elements or work along axes: views and index maps, gathering, reductions, sorting, products of matrices.

import { wrapped } from './meaning-elements.js';
import { type Integer, leadOf, type Real, type Tape } from './reference.js';
import {
  type Axes,
  axesOf,
  commonShape,
  groupsOf,
  must,
  type Products,
  products,
  reduction,
  remembered,
  repeated,
  type Shape,
  same,
  sizeOf,
  stridesOf,
  table,
} from './shapes.js';

/** y[index] = x[source(index)]. */
const indexMap = (tape: Tape, x: Real, shape: Shape, source: (index: number[]) => readonly number[]): Real => {
  const strides = stridesOf(x.shape);
  const offset = (index: number[]): number => source(index).reduce((sum, i, axis) => sum + i * strides[axis]!, 0);
  return tape.gather(x, shape, table(shape, offset));
};

function permute(tape: Tape, x: Real, axes: readonly number[]): Real {
  const order = axesOf(x.shape.length, axes);
  must(order.length === x.shape.length && new Set(order).size === order.length, 'axes');
  const shape = order.map((axis) => x.shape[axis]!);
  return indexMap(tape, x, shape, (index) => x.shape.map((_, axis) => index[order.indexOf(axis)]!));
}

function transpose(tape: Tape, x: Real, first = -2, second = -1): Real {
  const [i, j] = axesOf(x.shape.length, [first, second]) as [number, number];
  const order = x.shape.map((_, axis) => (axis === i ? j : axis === j ? i : axis));
  return permute(tape, x, order);
}

type Widths = readonly (number | readonly [number, number])[];

function pad(
  tape: Tape,
  x: Real,
  widths: Widths,
  { mode = 'constant', value = 0 }: { mode?: string; value?: number } = {},
): Real {
  must(widths.length === x.shape.length, 'widths');
  const pairs = widths.map((w) => (typeof w === 'number' ? [w, w] : w) as readonly [number, number]);
  must(mode !== 'reflect' || pairs.every((pair, axis) => pair.every((n) => n < x.shape[axis]!)), 'reflect');
  const shape = x.shape.map((n, axis) => n + pairs[axis]![0] + pairs[axis]![1]);
  const strides = stridesOf(x.shape);
  const from = table(shape, (index) => {
    let sum = 0;
    for (const [axis, n] of x.shape.entries()) {
      let i = index[axis]! - pairs[axis]![0];
      if (mode === 'constant' && (i < 0 || i >= n)) return -1;
      if (mode === 'edge') i = Math.min(n - 1, Math.max(0, i));
      if (mode === 'reflect') i = n - 1 - Math.abs(n - 1 - Math.abs(i));
      sum += i * strides[axis]!;
    }
    return sum;
  });
  const y = tape.gather(x, shape, from);
  // The value is no number of x: it is there without noise.
  from.forEach((k, i) => {
    if (k < 0) y.data[i] = x.half ? value : Math.fround(value);
  });
  return y;
}

function slice(tape: Tape, x: Real, axis: number, first: number, count: number, { step = 1 } = {}): Real {
  const [along] = axesOf(x.shape.length, axis) as [number];
  const last = first + (count - 1) * step;
  const n = x.shape[along]!;
  must(count > 0 && step !== 0 && first >= 0 && first < n && last >= 0 && last < n, 'slice');
  return indexMap(tape, x, x.shape.with(along, count), (index) => index.with(along, first + index[along]! * step));
}

/** The inputs side by side along one axis. */
function concat(tape: Tape, xs: readonly Real[], axis: number): Real {
  const like = xs[0]!;
  const [along] = axesOf(like.shape.length, axis) as [number];
  must(
    xs.every((x) => x.half === like.half && x.integer === like.integer && x.shape.length === like.shape.length),
    'concat',
  );
  must(
    xs.every(({ shape }) => same(shape.with(along, 0), like.shape.with(along, 0))),
    'concat',
  );
  const shape = like.shape.with(
    along,
    xs.reduce((sum, x) => sum + x.shape[along]!, 0),
  );
  const strides = stridesOf(shape);
  let start = 0;
  const places = xs.map((x) => {
    const first = start;
    start += x.shape[along]!;
    return table(x.shape, (index) => index.reduce((sum, i, k) => sum + (k === along ? i + first : i) * strides[k]!, 0));
  });
  const y = new Float64Array(sizeOf(shape));
  xs.forEach((x, i) => {
    places[i]!.forEach((to, k) => {
      y[to] = x.data[k]!;
    });
  });
  if (like.integer) return tape.plain(y, shape, like);
  return tape.record(shape, y, xs, (dy) => places.map((place) => Float64Array.from(place, (to) => dy[to]!)));
}

export function reshape(tape: Tape, x: Real, shape: Shape): Real {
  const rest = -x.data.length / sizeOf(shape);
  const full = shape.map((n) => (n === -1 ? rest : n));
  must(sizeOf(full) === x.data.length, 'reshape');
  return tape.gather(x, full, Int32Array.from(x.data.keys()));
}

function stack(tape: Tape, xs: readonly Real[], axis = 0): Real {
  const { shape } = xs[0]!;
  const [along] = axesOf(shape.length + 1, axis) as [number];
  const wide = shape.toSpliced(along, 0, 1);
  must(
    xs.every((x) => same(x.shape, shape)),
    'stack',
  );
  return concat(
    tape,
    xs.map((x) => reshape(tape, x, wide)),
    along,
  );
}

function split(tape: Tape, x: Real, parts: number | readonly number[], axis: number): Real[] {
  const [along] = axesOf(x.shape.length, axis) as [number];
  const n = x.shape[along]!;
  const sizes = typeof parts === 'number' ? Array<number>(parts).fill(n / parts) : parts;
  must(sizes.every(Number.isInteger) && sizes.reduce((a, b) => a + b, 0) === n, 'split');
  let first = 0;
  return sizes.map((size) => {
    first += size;
    return slice(tape, x, along, first - size, size);
  });
}

/** The shape where `axis` of x has given way to the indices', and for each of its elements where in x it comes from; −1: outside. */
function gathering(x: Real, indices: Real, axis: number): { shape: number[]; from: Int32Array } {
  must(indices.integer !== undefined, 'indices');
  const [along] = axesOf(x.shape.length, axis) as [number];
  const shape = x.shape.toSpliced(along, 1, ...indices.shape);
  const rank = indices.shape.length;
  const [strides, ofIndices] = [stridesOf(x.shape), stridesOf(indices.shape)];
  const from = table(shape, (index) => {
    const k = ofIndices.reduce((sum, stride, i) => sum + index[along + i]! * stride, 0);
    const row = indices.data[k]!;
    if (row < 0 || row >= x.shape[along]!) return -1;
    return index.toSpliced(along, rank, row).reduce((sum, i, k) => sum + i * strides[k]!, 0);
  });
  return { shape, from };
}

function gather(tape: Tape, x: Real, indices: Real, axis = 0): Real {
  const { shape, from } = gathering(x, indices, axis);
  must(x.integer !== undefined || !from.includes(-1), 'index outside'); // it gives NaN
  return tape.gather(x, shape, from);
}

function scatterAdd(tape: Tape, x: Real, indices: Real, updates: Real, axis = 0): Real {
  const { shape, from } = gathering(x, indices, axis);
  must(same(shape, updates.shape) && !x.integer && !updates.integer && x.half === updates.half, 'updates');
  const y = x.data.slice();
  const magnitude = x.data.map(Math.abs);
  from.forEach((to, i) => {
    if (to < 0) return;
    y[to]! += updates.data[i]!;
    magnitude[to]! += Math.abs(updates.data[i]!);
  });
  tape.settle(y, x.half, magnitude);
  return tape.record(x.shape, y, [x, updates], (dy) => [dy, Float64Array.from(from, (k) => (k < 0 ? 0 : dy[k]!))]);
}

function oneHot(_: Tape, indices: Real, classes: number, type = 'f32'): Real {
  must(indices.integer !== undefined, 'indices');
  const data = new Float64Array(indices.data.length * classes);
  indices.data.forEach((k, i) => {
    if (k >= 0 && k < classes) data[i * classes + k] = 1;
  });
  return { shape: [...indices.shape, classes], data, half: type === 'f16', wanted: false };
}

interface Kept {
  readonly keepDims?: boolean;
  readonly correction?: number;
}

function reducedIntegers(tape: Tape, x: Real, axes: Axes, keepDims: boolean, kind: string): Real {
  const { to, shape, kept } = reduction(x.shape, axes, keepDims);
  const type: Integer = x.integer === 'u8' && (kind === 'sum' || kind === 'prod') ? 'u32' : x.integer!;
  const f = { sum: (a: number, b: number) => a + b, prod: Math.imul, max: Math.max, min: Math.min }[kind]!;
  const y = groupsOf(to, sizeOf(kept)).map((members) =>
    members.map((i) => x.data[i]!).reduce((a, b) => wrapped(type, f(a, b))),
  );
  return tape.whole(Float64Array.from(y), shape, type);
}

function total(tape: Tape, x: Real, axes: Axes, { keepDims = false }: Kept, kind: 'sum' | 'mean'): Real {
  if (x.integer && kind === 'sum') return reducedIntegers(tape, x, axes, keepDims, kind);
  must(!x.integer, 'floats');
  const { to, shape, count } = reduction(x.shape, axes, keepDims);
  return tape.total(x, shape, to, kind === 'mean' ? 1 / count : 1);
}

function best(tape: Tape, x: Real, axes: Axes, { keepDims = false }: Kept, kind: 'max' | 'min'): Real {
  if (x.integer) return reducedIntegers(tape, x, axes, keepDims, kind);
  const { to, shape, kept } = reduction(x.shape, axes, keepDims);
  return tape.best(x, shape, groupsOf(to, sizeOf(kept)), 'share', kind);
}

function prod(tape: Tape, x: Real, axes: Axes, { keepDims = false }: Kept): Real {
  if (x.integer) return reducedIntegers(tape, x, axes, keepDims, 'prod');
  const { to, shape, kept } = reduction(x.shape, axes, keepDims);
  const groups = groupsOf(to, sizeOf(kept));
  const product = (members: readonly number[]): number => members.reduce((p, i) => p * x.data[i]!, 1);
  const y = Float64Array.from(groups, product);
  const sizes = y.map((v, g) => v * groups[g]!.length);
  tape.settle(y, x.half, sizes);
  return tape.record(shape, y, [x], (dy) => {
    const dx = new Float64Array(x.data.length);
    groups.forEach((members, g) => {
      for (const i of members) dx[i] = dy[g]! * product(members.filter((k) => k !== i));
    });
    return [
      tape.settle(
        dx,
        x.half,
        dx.map((v, i) => v * groups[to[i]!]!.length),
      ),
    ];
  });
}

/** Σ (x − mean)² / (count − correction), as a tape of its own. */
export function variance(tape: Tape, x: Real, axes?: Axes, { correction = 1, keepDims = false }: Kept = {}): Real {
  const { to, shape, kept, count } = reduction(x.shape, axes, keepDims);
  must(!x.integer && count > correction, 'variance');
  const mean = tape.total(x, kept, to, 1 / count);
  const maps = [Int32Array.from(x.data.keys()), to] as const;
  const sizes = (u: number, v: number): number => Math.abs(u) + Math.abs(v);
  const centred = tape.zip(x, mean, x.shape, maps, (u, v) => u - v, sizes, [() => 1, () => -1]);
  const squares = tape.map(
    centred,
    (v) => v * v,
    (v) => 2 * v,
  );
  return tape.total(squares, shape, to, 1 / (count - correction));
}

function std(tape: Tape, x: Real, axes?: Axes, options: Kept = {}): Real {
  const v = variance(tape, x, axes, options);
  must(
    v.data.every((each) => each > 1e-3),
    'std', // its slope is steep, and 0 at 0
  );
  return tape.map(
    v,
    Math.sqrt,
    (_, y) => 0.5 / y,
    (_, y) => 8 * y,
  );
}

function cumsum(tape: Tape, x: Real, axis: number, { exclusive = false, reverse = false } = {}): Real {
  must(!x.integer, 'floats');
  const [along] = axesOf(x.shape.length, axis) as [number];
  const strides = stridesOf(x.shape);
  const terms = products(x.shape, (add) => {
    let to = -1;
    table(x.shape, (index) => {
      to++;
      const own = index[along]!;
      for (let i = 0; i < x.shape[along]!; i++) {
        const before = reverse ? i > own : i < own;
        if (before || (i === own && !exclusive)) add(to + (i - own) * strides[along]!, 0, to);
      }
      return 0;
    });
  });
  return tape.linear(x, terms, Float64Array.of(1));
}

function argBest(tape: Tape, x: Real, axis: number, of: 'max' | 'min'): Real {
  const { to, shape, kept, count } = reduction(x.shape, axis);
  const groups = groupsOf(to, sizeOf(kept));
  tape.kinks.push(Float64Array.from(groups.flatMap((members) => (members.length > 1 ? [leadOf(x, members, of)] : []))));
  const y = groups.map((members) => {
    const values = members.map((i) => x.data[i]!);
    return values.indexOf(Math[of](...values));
  });
  return tape.whole(Float64Array.from(y), shape, count <= 256 ? 'u8' : 'u32');
}

function topK(tape: Tape, x: Real, k: number, { axis = -1, largest = true } = {}): { values: Real; indices: Real } {
  must(!x.integer, 'floats');
  const [along] = axesOf(x.shape.length, axis) as [number];
  const n = x.shape[along]!;
  must(k >= 1 && k <= n, 'k');
  const shape = x.shape.with(along, k);
  const strides = stridesOf(x.shape);
  const [indices, gaps]: [number[], number[]] = [[], []];
  const from = table(shape, (index) => {
    const first = index.reduce((sum, i, d) => sum + (d === along ? 0 : i * strides[d]!), 0);
    const value = (i: number): number => (largest ? -1 : 1) * x.data[first + i * strides[along]!]!;
    const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => value(a) - value(b) || a - b);
    const place = index[along]!;
    if (place + 1 < n) gaps.push(value(order[place + 1]!) - value(order[place]!));
    indices.push(order[place]!);
    return first + order[place]! * strides[along]!;
  });
  tape.kinks.push(Float64Array.from(gaps));
  return { values: tape.gather(x, shape, from), indices: tape.whole(Float64Array.from(indices), shape, 'u32') };
}

interface Transposed {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

export function matmul(
  tape: Tape,
  a: Real,
  b: Real,
  { transposeA = false, transposeB = false }: Transposed = {},
): Real {
  must(!a.integer && !b.integer && a.half === b.half && a.shape.length > 0 && b.shape.length > 0, 'matmul');
  if (a.shape.length === 1 || b.shape.length === 1) {
    const [left, right] = [a.shape.length === 1, b.shape.length === 1];
    must(!(left && transposeA) && !(right && transposeB), 'matmul');
    const p = left ? reshape(tape, a, [1, a.data.length]) : a;
    const q = right ? reshape(tape, b, [b.data.length, 1]) : b;
    const y = matmul(tape, p, q, { transposeA, transposeB });
    const last = right ? y.shape.slice(0, -1) : y.shape;
    return reshape(tape, y, left ? last.toSpliced(last.length - (right ? 1 : 2), 1) : last);
  }
  const name = `matmul ${a.shape} ${b.shape} ${transposeA} ${transposeB}`;
  return tape.bilinear(
    a,
    b,
    remembered(name, () => matmulProducts(a.shape, b.shape, transposeA, transposeB)),
  );
}

function matmulProducts(a: Shape, b: Shape, transposeA: boolean, transposeB: boolean): Products {
  const sides = (s: Shape, turned: boolean): number[] => (turned ? s.slice(-2).reverse() : s.slice(-2));
  const [[m, inner], [rows, n]] = [sides(a, transposeA), sides(b, transposeB)] as [[number, number], [number, number]];
  must(inner === rows, 'matmul');
  const batch = commonShape(a.slice(0, -2), b.slice(0, -2));
  const [ofA, ofB] = [repeated(a.slice(0, -2), batch), repeated(b.slice(0, -2), batch)];
  return products([...batch, m, n], (add) => {
    ofA.forEach((first, item) => {
      for (let row = 0; row < m; row++)
        for (let column = 0; column < n; column++)
          for (let k = 0; k < inner; k++) {
            const i = first * m * inner + (transposeA ? k * m + row : row * inner + k);
            const j = ofB[item]! * n * inner + (transposeB ? column * inner + k : k * n + column);
            add(i, j, (item * m + row) * n + column);
          }
    });
  });
}

export const axes = {
  reshape,
  permute,
  transpose,
  flip: (tape: Tape, x: Real, given?: Axes) => {
    const list = axesOf(x.shape.length, given);
    return indexMap(tape, x, x.shape, (index) =>
      index.map((i, axis) => (list.includes(axis) ? x.shape[axis]! - 1 - i : i)),
    );
  },
  broadcastTo: (tape: Tape, x: Real, shape: Shape) => tape.gather(x, shape, repeated(x.shape, shape)),
  tile: (tape: Tape, x: Real, repeats: Shape) => {
    must(repeats.length === x.shape.length, 'repeats');
    const shape = x.shape.map((n, axis) => n * repeats[axis]!);
    return indexMap(tape, x, shape, (index) => index.map((i, axis) => i % x.shape[axis]!));
  },
  pad,
  slice,
  concat,
  stack,
  split,
  gather,
  embedding: (tape: Tape, rows: Real, indices: Real) => gather(tape, rows, indices),
  scatterAdd,
  oneHot,
  sum: (tape: Tape, x: Real, along?: Axes, options: Kept = {}) => total(tape, x, along, options, 'sum'),
  mean: (tape: Tape, x: Real, along?: Axes, options: Kept = {}) => total(tape, x, along, options, 'mean'),
  max: (tape: Tape, x: Real, along?: Axes, options: Kept = {}) => best(tape, x, along, options, 'max'),
  min: (tape: Tape, x: Real, along?: Axes, options: Kept = {}) => best(tape, x, along, options, 'min'),
  prod: (tape: Tape, x: Real, along?: Axes, options: Kept = {}) => prod(tape, x, along, options),
  variance,
  std,
  cumsum,
  argmax: (tape: Tape, x: Real, axis = -1) => argBest(tape, x, axis, 'max'),
  argmin: (tape: Tape, x: Real, axis = -1) => argBest(tape, x, axis, 'min'),
  topK,
  matmul,
};
