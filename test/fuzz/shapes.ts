// Shapes and offsets of row-major arrays, as the float64 meanings of ops use them.
export type Shape = readonly number[];

export const sizeOf = (shape: Shape): number => shape.reduce((product, n) => product * n, 1);
export const same = (a: Shape, b: Shape): boolean => `${a}` === `${b}`;

/** A call is not defined, or its numbers are no test, for such arguments. */
export class NoMeaning extends Error {}

/** Throws NoMeaning unless it fits, so that a program which shrinking broke is left out. */
export const must = (fits: boolean, what: string): void => {
  if (!fits) throw new NoMeaning(`no meaning: ${what}`);
};

/** Strides of a row-major shape. */
export const stridesOf = (shape: Shape): number[] => shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));

/** For every element of `shape`: `offset` of its index, by axis. */
export function table(shape: Shape, offset: (index: number[]) => number): Int32Array {
  const index = shape.map(() => 0);
  return Int32Array.from({ length: sizeOf(shape) }, () => {
    const at = offset(index);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) index[axis] = 0;
    return at;
  });
}

/** The common shape under numpy's rules. */
export function commonShape(...shapes: readonly Shape[]): number[] {
  const rank = Math.max(...shapes.map(({ length }) => length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.map((s) => s[axis - rank + s.length] ?? 1);
    const wide = sizes.find((n) => n !== 1) ?? 1;
    must(
      sizes.every((n) => n === 1 || n === wide),
      'broadcast',
    );
    return wide;
  });
}

/** For every element of `shape`: which element of an array of shape `of` is repeated there. */
export function repeated(of: Shape, shape: Shape): Int32Array {
  must(same(commonShape(of, shape), shape), 'broadcast');
  const strides = stridesOf(of);
  const extra = shape.length - of.length;
  return table(shape, (index) =>
    strides.reduce((at, stride, axis) => at + (of[axis] === 1 ? 0 : index[axis + extra]! * stride), 0),
  );
}

export type Axes = number | readonly number[] | undefined;

/** The axes that are meant, from 0 on. */
export function axesOf(rank: number, axes: Axes): number[] {
  const list =
    axes === undefined ? Array.from({ length: rank }, (_, i) => i) : typeof axes === 'number' ? [axes] : axes;
  const positive = list.map((axis) => (axis < 0 ? axis + rank : axis));
  must(
    positive.every((axis) => axis >= 0 && axis < rank),
    'axes',
  );
  return positive;
}

/** Where every element goes when `axes` are reduced, and the shapes with and without these. */
export function reduction(x: Shape, axes: Axes, keepDims = false) {
  const list = axesOf(x.length, axes);
  const kept = x.map((n, axis) => (list.includes(axis) ? 1 : n));
  const strides = stridesOf(kept);
  const to = table(x, (index) => index.reduce((at, i, axis) => at + (kept[axis] === 1 ? 0 : i * strides[axis]!), 0));
  const shape = keepDims ? kept : x.filter((_, axis) => !list.includes(axis));
  return { to, shape, kept, count: sizeOf(x) / sizeOf(kept) };
}

/** The elements that each result is reduced from. */
export function groupsOf(to: Int32Array, count: number): number[][] {
  const groups = Array.from({ length: count }, () => [] as number[]);
  to.forEach((g, i) => {
    groups[g]!.push(i);
  });
  return groups;
}

/** y[to] += a[i]·b[j] for all triples: any bilinear map, such as a convolution. */
export interface Products {
  readonly shape: readonly number[];
  readonly a: Int32Array;
  readonly b: Int32Array;
  readonly y: Int32Array;
}

const known = new Map<string, Products>();

/** Products that were made before under that name, else those that `make` makes. */
export function remembered(name: string, make: () => Products): Products {
  const before = known.get(name);
  if (before) return before;
  const products = make();
  if (known.size > 200) known.clear();
  known.set(name, products);
  return products;
}

/** Collects products. */
export function products(shape: Shape, collect: (add: (a: number, b: number, y: number) => void) => void): Products {
  const [a, b, y]: [number[], number[], number[]] = [[], [], []];
  collect((i, j, to) => {
    a.push(i);
    b.push(j);
    y.push(to);
  });
  return { shape, a: Int32Array.from(a), b: Int32Array.from(b), y: Int32Array.from(y) };
}
