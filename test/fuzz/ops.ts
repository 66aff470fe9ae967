// How every op is drawn: a row for each family. A row makes one call of the op that it is asked for, on what the program has so far,
// and what the op needs beside it; values that have no gradient are joined to some that do.
import { cropTable } from '../../engine/index.js';
import { type Draft, isImage, Unfit, type Value } from './draft.js';
import { activation, deferred, norm, numbers, partner, small, upsampled, weightFor } from './layers.js';
import { type Argument, gpu, random } from './program.js';
import type { Integer, Real } from './reference.js';
import { same, sizeOf } from './shapes.js';

export interface Row {
  /** How often the row is drawn, beside the moves. */
  readonly weight: number;
  readonly names: readonly string[];
  readonly draw: (d: Draft, name: string) => unknown;
}

/** An activation that is not computed yet, or any value. */
const floats = (d: Draft, fits: (x: Real) => boolean = () => true): Value => {
  const x = d.chance(0.3) ? deferred(d) : d.pick(fits);
  if (!fits(d.real(x))) throw new Unfit();
  return x;
};
const image = (d: Draft): Value => floats(d, isImage);
const positive = (d: Draft, x: Value): Value => d.call('add', d.call('square', x), 0.5);
const ranked = (least: number) => (x: Real) => x.shape.length >= least;
const axisOf = (d: Draft, x: Value): number => d.below(d.shape(x).length);
/** Either way to write an axis. */
const written = (d: Draft, x: Value, axis: number): number => (d.chance(0.3) ? axis - d.shape(x).length : axis);
/** Options, each there or not. */
const some = (d: Draft, options: Readonly<Record<string, () => Argument>>): { [option: string]: Argument } =>
  Object.fromEntries(Object.entries(options).flatMap(([key, value]) => (d.chance(0.5) ? [[key, value()]] : [])));
const optional = (options: { [option: string]: Argument }): Argument[] =>
  Object.keys(options).length ? [options] : [];
/** The order of operands is of no matter. */
const turned = (d: Draft, x: Argument, y: Argument): [Argument, Argument] => (d.chance(0.5) ? [x, y] : [y, x]);

const wholeTypes = ['u8', 'u32', 'i32'] as const;
function integers(d: Draft, types: readonly Integer[] = wholeTypes): Value {
  const known = (x: Real): boolean => types.includes(x.integer!);
  if (d.chance(0.4)) return d.pickInteger(known);
  const x = d.pick();
  return d.call('cast', d.chance(0.5) ? d.call('mul', x, 6) : x, d.of(types));
}

/** Something with a gradient that depends on integers. */
function used(d: Draft, x: Value): Value {
  const { shape } = d.real(x);
  const mate = (): Value =>
    d.of([
      () => d.pick((y) => same(y.shape, shape)),
      () => d.parameter(shape, 1),
      () => d.parameter(shape.slice(-1), 1),
    ])();
  return d.of([
    () => d.call('where', x, mate(), d.chance(0.5) ? d.of(numbers) : mate()),
    () => d.call('mul', d.call('cast', x, 'f32'), mate()),
    () => d.call('where', d.call(d.of(['less', 'notEqual']), x, 2), mate(), 0.25),
  ])();
}

function axesOf(d: Draft, x: Value): Argument[] {
  const rank = d.shape(x).length;
  const axes = d.of([[rank - 1], [0], [0, rank - 1], Array.from({ length: rank }, (_, i) => i), [rank >> 1]]);
  const list = [...new Set(axes)].map((axis) => written(d, x, axis));
  return [list.length === 1 && d.chance(0.3) ? list[0]! : list];
}

/** A value of any type, for ops that only move elements. */
const movable = (d: Draft, fits: (x: Real) => boolean): Value =>
  d.chance(0.2) ? d.pickInteger(fits) : floats(d, fits);

function shuffledAxes(d: Draft, x: Value): number[] {
  const rest = d.shape(x).map((_, axis) => axis);
  return d.shape(x).map(() => written(d, x, rest.splice(d.below(rest.length), 1)[0]!));
}

const views: Readonly<Record<string, (d: Draft) => Value>> = {
  reshape: (d) => {
    const x = movable(d, ranked(2));
    const shape = d.shape(x);
    const shapes = [[sizeOf(shape)], [sizeOf(shape.slice(0, -1)), shape.at(-1)!], [shape[0]!, -1], [...shape]];
    return d.call('reshape', x, d.of(shapes));
  },
  permute: (d) => {
    const x = movable(d, ranked(2));
    return d.call('permute', x, shuffledAxes(d, x));
  },
  transpose: (d) => {
    const x = movable(d, ranked(2));
    return d.chance(0.5) ? d.call('transpose', x) : d.call('transpose', x, ...shuffledAxes(d, x).slice(0, 2));
  },
  flip: (d) => {
    const x = movable(d, ranked(1));
    return d.call('flip', x, ...(d.chance(0.2) ? [] : axesOf(d, x)));
  },
  broadcastTo: (d) => {
    const x = movable(d, ({ shape }) => sizeOf(shape) <= 200);
    return d.call('broadcastTo', x, [d.of([2, 3]), ...d.shape(x).map((n) => (n === 1 ? 3 : n))]);
  },
  tile: (d) => {
    const x = movable(d, ({ shape }) => sizeOf(shape) <= 400 && shape.length > 0);
    const axis = axisOf(d, x);
    return d.call(
      'tile',
      x,
      d.shape(x).map((_, i) => (i === axis ? d.of([2, 3]) : 1)),
    );
  },
  pad: (d) => {
    const x = movable(d, ({ shape }) => shape.length > 0);
    const axis = axisOf(d, x);
    const widths = d.shape(x).map((_, i): Argument => (i !== axis ? 0 : d.of<Argument>([1, [0, 1], [2, 1]])));
    const options = d.of<{ [option: string]: Argument }>([{}, { value: 1 }, { mode: 'edge' }, { mode: 'reflect' }]);
    return d.call('pad', x, widths, ...optional(options));
  },
  slice: (d) => {
    const x = movable(d, ranked(1));
    const axis = axisOf(d, x);
    const n = d.shape(x)[axis]!;
    if (n < 2) throw new Unfit();
    const along = written(d, x, axis);
    if (d.chance(0.3)) return d.call('slice', x, along, n - 1, Math.ceil(n / 2), { step: -2 });
    if (d.chance(0.3)) return d.call('slice', x, along, 1, n >> 1, { step: 2 });
    const first = d.below(n - 1);
    return d.call('slice', x, along, first, 1 + d.below(n - first));
  },
  concat: (d) => {
    const x = movable(d, ranked(1));
    const axis = axisOf(d, x);
    const fits = (v: Real): boolean =>
      v.shape.length === d.shape(x).length && same(v.shape.with(axis, 0), d.shape(x).with(axis, 0));
    const y = d.real(x).integer ? d.pickInteger((v) => v.integer === d.real(x).integer && fits(v)) : d.pick(fits);
    return d.call('concat', turned(d, x, y), written(d, x, axis));
  },
  stack: (d) => {
    const x = movable(d, ({ shape }) => sizeOf(shape) <= 400 && shape.length <= 4);
    const fits = (v: Real): boolean => same(v.shape, d.shape(x));
    const y = d.real(x).integer ? x : d.pick(fits);
    return d.chance(0.4) ? d.call('stack', [x, y]) : d.call('stack', [x, y], d.below(d.shape(x).length + 1));
  },
  split: (d) => {
    const x = movable(d, (v) => v.shape.some((n) => n > 1));
    const axis = d.of(d.shape(x).flatMap((n, i) => (n > 1 ? [i] : [])));
    const n = d.shape(x)[axis]!;
    const parts = n % 2 === 0 && d.chance(0.5) ? 2 : [1, n - 1];
    const [a, b] = ['0', '1'].map((part) => d.part(part, 'split', x, parts, axis)) as [Value, Value];
    return d.real(x).integer ? b : d.call('concat', [b, a], axis);
  },
};

/** Sides, padding and the like of a general convolution or of a pool. */
const sideOf = (d: Draft, rank: number, values: readonly number[]): Argument =>
  d.chance(0.6) ? d.of(values) : Array.from({ length: rank }, () => d.of(values));

/** An image of one side, two or three. */
function anyImage(d: Draft): Value {
  const x = image(d);
  const shape = d.shape(x);
  return d.chance(0.2) ? d.call('reshape', x, [shape[0]!, sizeOf(shape.slice(1, -1)), shape.at(-1)!]) : x;
}

function generalConv(d: Draft, name: string): Value {
  const x = anyImage(d);
  const inputs = d.shape(x).at(-1)!;
  const rank = d.shape(x).length - 2;
  if (inputs > 16) throw new Unfit();
  const groups = d.of([1, 2, inputs].filter((g) => inputs % g === 0));
  const outputs = groups * d.of(groups > 2 ? [1, 2] : groups > 1 ? [1, 2, 4] : [3, 4, 8]);
  const kernel = Array.from({ length: rank }, () => d.of([1, 2, 3]));
  const transposed = name === 'convTranspose';
  const options = {
    ...(groups > 1 && { groups }),
    ...some(d, {
      stride: () => sideOf(d, rank, transposed ? [1, 2, 3] : [1, 2, 3]),
      dilation: () => sideOf(d, rank, [1, 2]),
      padding: () => d.of<Argument>(['same', 'valid', 1, Array.from({ length: rank }, () => [1, 0])]),
      ...(transposed && { outputPadding: () => 1 }),
    }),
  };
  const weight = weightFor(d, [outputs, ...kernel, inputs / groups]);
  return d.call(name, x, weight, d.parameter([outputs], 0.5), ...optional(options));
}

function pool(d: Draft, name: string): Value {
  if (d.chance(0.3)) return d.call(name, image(d));
  const x = anyImage(d);
  const rank = d.shape(x).length - 2;
  const options = some(d, {
    window: () => sideOf(d, rank, [1, 2, 3]),
    stride: () => sideOf(d, rank, [1, 2]),
    padding: () => d.of<Argument>([1, Array.from({ length: rank }, () => [1, 0])]),
    dilation: () => d.of([1, 2]),
    ceil: () => true,
    ...(name === 'averagePool' && { countPadding: () => true }),
  });
  return d.call(name, x, ...optional(options));
}

function resize(d: Draft): Value {
  const x = anyImage(d);
  const rank = d.shape(x).length - 2;
  const to = d.chance(0.4)
    ? { scale: sideOf(d, rank, [0.5, 1.5, 2]) }
    : d
        .shape(x)
        .slice(1, -1)
        .map((n) => Math.max(1, n + d.of([-2, -1, 0, 1, 3])));
  const options = some(d, { mode: () => d.of(['linear', 'cubic', 'nearest']), alignCorners: () => true });
  return d.call(
    'resize',
    x,
    to,
    ...optional('scale' in to ? (({ alignCorners: _, ...rest }) => rest)(options) : options),
  );
}

/** Crops of an image's items, some of them turned and beyond the edges; `addCrops` puts them back elsewhere. */
function crops(d: Draft, name: string): Value {
  const x = d.pick(isImage);
  const [items, ...rest] = d.shape(x) as [number, ...number[]];
  const [sides, channels] = [rest.slice(0, -1), rest.at(-1)!];
  const voxels = sizeOf(sides);
  const table = (count: number): Value => {
    const rows = Array.from({ length: count }, () => ({
      start: voxels * d.below(items),
      sides,
      first: sides.map((n) => d.below(n + 1) - 1),
      turn: d.below(sides.length === 2 ? 8 : 16),
    }));
    return d.leaf('table', [count, 8], 0, 0, [...cropTable(rows)]);
  };
  const size = sides.map((n) => Math.min(n, 3));
  const count = 1 + d.below(2);
  const y = d.call('crop', d.call('reshape', x, [-1, channels]), table(count), size);
  if (name === 'crop') return d.call('mul', y, d.parameter([channels], 1));
  const sums = d.leaf('running', [items * voxels, channels], -1, 1);
  return d.call('mul', d.call('addCrops', sums, y, table(count)), d.parameter([channels], 1));
}

function matmul(d: Draft): Value {
  const x = floats(d, ranked(2));
  const [m, inner] = d.shape(x).slice(-2) as [number, number];
  const n = d.of([4, 8, 3]);
  const batch = d.shape(x).slice(0, -2);
  const kinds: (() => Value)[] = [
    () => d.call('matmul', x, weightFor(d, [n, inner].reverse())),
    () => d.call('matmul', x, weightFor(d, [n, inner]), { transposeB: true }),
    () => d.call('matmul', x, weightFor(d, [m, n]), { transposeA: true }),
    () => d.call('matmul', weightFor(d, [n, m]), x),
    () => d.call('matmul', x, weightFor(d, [inner])),
    () => d.call('matmul', weightFor(d, [m]), x),
    () => d.call('matmul', x, d.parameter([...batch.map((k) => (d.chance(0.5) ? 1 : k)), inner, n], 0.6)),
    () =>
      d.call(
        'matmul',
        x,
        d.pick((v) => same(v.shape, d.shape(x))),
        { transposeB: true },
      ),
  ];
  return d.of(kinds)();
}

function attention(d: Draft): Value {
  const heads = (x: Value): Value => {
    const [items, ...rest] = d.shape(x) as [number, ...number[]];
    const channels = rest.at(-1)!;
    const h = channels % 2 === 0 && d.chance(0.7) ? 2 : 1;
    return d.call('reshape', x, [items, sizeOf(rest.slice(0, -1)), h, channels / h]);
  };
  const source = image(d);
  const q = heads(source);
  const [items, queries, h, width] = d.shape(q) as [number, number, number, number];
  if (queries > 40 || width > 16) throw new Unfit();
  const keys = d.of([queries, 5]);
  const other = (): Value =>
    keys === queries && d.chance(0.6)
      ? d.call(
          'reshape',
          floats(d, (v) => same(v.shape, d.shape(source))),
          d.shape(q),
        )
      : d.parameter([items, keys, h, width], 1);
  const mask = (): Value =>
    d.chance(0.5)
      ? d.parameter(
          d.of([
            [h, 1, keys],
            [queries, keys],
          ]),
          1,
        )
      : d.call('less', d.leaf('labels', [items, 1, 1, keys], 0, 4), 3);
  const options = some(d, { causal: () => true, scale: () => 0.5, mask });
  return d.call('attention', q, other(), other(), ...optional(options));
}

function gathering(d: Draft, name: string): Value {
  const indices = (n: number): Value => {
    const shape = d.of([[5], [2, 3], [1]]);
    const known = (x: Real): boolean => x.data.every((v) => v >= 0 && v < n) && x.data.length < 50;
    const drawn = d.chance(0.3) ? d.pickInteger(known) : d.leaf('labels', shape, 0, n);
    return d.real(drawn).integer === 'u8' && d.chance(0.4) ? d.call('cast', drawn, d.of(['u32', 'i32'])) : drawn;
  };
  if (name === 'embedding') {
    const n = d.of([3, 7]);
    return d.call('embedding', d.parameter([n, d.of([4, 8])], 1), indices(n));
  }
  if (name === 'oneHot') {
    const rows = d.call('oneHot', indices(d.of([3, 5])), 4);
    return d.call('matmul', rows, d.parameter([4, 3], 1));
  }
  const x = name === 'gather' && d.chance(0.2) ? d.pickInteger(ranked(1)) : floats(d, ranked(1));
  const axis = axisOf(d, x);
  const at = indices(d.shape(x)[axis]!);
  if (name === 'gather') return d.call('gather', x, at, written(d, x, axis));
  const shape = d.shape(x).toSpliced(axis, 1, ...d.shape(at));
  const fitting = d.chance(0.5) ? d.pick((v) => same(v.shape, shape)) : d.parameter(shape, 1);
  return d.call('scatterAdd', x, at, fitting, axis);
}

function labelled(d: Draft, name: string): Value {
  const x = floats(d, ({ shape }) => shape.length >= 2 && shape.at(-1)! >= 2 && shape.at(-1)! <= 8);
  const classes = d.shape(x).at(-1)!;
  // Some labels are no class.
  const labels = d.leaf('labels', d.shape(x).slice(0, -1), 0, d.of([classes, classes + 1]));
  const options = some(d, {
    ignoreIndex: () => 1,
    ...(name === 'diceLoss'
      ? { classes: () => 'foreground', epsilon: () => 0.5 }
      : { labelSmoothing: () => 0.25, weights: () => d.leaf('input', [classes], 0.5, 1.5) }),
  });
  return d.call(name, x, labels, ...optional(options));
}

function randomized(d: Draft, name: string): Value {
  if (name === 'gaussianNoise') return d.call('gaussianNoise', floats(d), { std: 0.1, clip: 0.2, random });
  if (name === 'dropout') {
    const x = floats(d, ranked(2));
    return d.chance(0.6) ? d.call('dropout', x, 0.5, random, { per: 'channel' }) : d.call('dropout', x, 0.5, random);
  }
  const x = d.pick(({ shape }) => shape.length > 0);
  const limits: { [option: string]: Argument } =
    name === 'randomUniform' ? { low: -1, high: 2 } : { mean: 0.5, std: 0.25 };
  const y = d.call(name, gpu, [...d.shape(x)], { random, ...(d.chance(0.5) && limits) });
  return d.call(d.of(['mul', 'add']), x, y);
}

/** State that the step reads, then writes: its next call reads that. */
function delayed(d: Draft): Value {
  const x = floats(d, ({ shape }) => shape.length > 0);
  const state = d.leaf('running', d.shape(x), -1, 1);
  const y = d.call(d.of(['add', 'sub']), ...turned(d, x, state));
  const next = d.of([
    () => x,
    () => y,
    () => d.call('mul', y, 0.5),
    () => floats(d, (v) => same(v.shape, d.shape(x))),
  ])();
  const assigned = d.call('assign', state, next);
  return d.chance(0.5) ? d.call('mul', d.parameter(d.shape(x), 1), assigned) : y;
}

export const rows: readonly Row[] = [
  {
    ...{ weight: 4, names: ['neg', 'abs', 'square', 'sin', 'cos', 'erf', 'tanh', 'sigmoid', 'silu', 'softplus'] },
    draw: (d, name) => d.call(name, floats(d)),
  },
  {
    ...{ weight: 1, names: ['floor', 'ceil', 'round', 'sign'] },
    draw: (d, name) => {
      const x = floats(d);
      return d.call('mul', d.call(name, d.chance(0.5) ? x : d.call('mul', x, 2)), x);
    },
  },
  {
    ...{ weight: 2, names: ['log', 'sqrt', 'rsqrt', 'reciprocal'] },
    draw: (d, name) => d.call(name, positive(d, floats(d))),
  },
  {
    ...{ weight: 2, names: ['clamp', 'exp'] },
    draw: (d, name) => {
      const y = d.call('clamp', floats(d), -0.75, 1.25);
      return name === 'exp' ? d.call('exp', y) : y;
    },
  },
  {
    ...{ weight: 1, names: ['gelu'] },
    draw: (d) => d.call('gelu', floats(d), ...(d.chance(0.5) ? [{ approximate: 'tanh' }] : [])),
  },
  {
    weight: 3,
    names: ['relu', 'leakyRelu'],
    draw: (d, name) => d.call(name, d.pick(isImage), ...(name === 'relu' ? [] : [0.2])),
  },
  {
    ...{ weight: 6, names: ['add', 'sub', 'mul', 'minimum', 'maximum'] },
    draw: (d, name) => {
      const x = floats(d);
      return d.call(name, ...turned(d, x, d.chance(0.3) ? d.of(numbers) : partner(d, x)));
    },
  },
  {
    ...{ weight: 2, names: ['div', 'pow'] },
    draw: (d, name) => {
      const x = d.pick();
      const y = d.chance(0.4) ? d.of(numbers) : partner(d, x);
      if (name === 'div') return d.call('div', y, positive(d, x));
      return d.call('pow', positive(d, x), typeof y === 'number' ? y : d.call('clamp', y, -1.5, 1.5));
    },
  },
  {
    ...{ weight: 3, names: ['equal', 'notEqual', 'less', 'lessEqual', 'greater', 'greaterEqual'] },
    draw: (d, name) => {
      const x = d.chance(0.3) ? d.pickInteger() : floats(d);
      const y = d.real(x).integer ? d.below(4) : d.chance(0.4) ? d.of(numbers) : partner(d, x);
      return used(d, d.call(name, ...turned(d, x, y)));
    },
  },
  {
    ...{ weight: 2, names: ['where'] },
    draw: (d) => {
      const x = floats(d);
      const mask = d.call(
        'greater',
        d.pick((v) => same(v.shape, d.shape(x))),
        0,
      );
      return d.call('where', mask, ...turned(d, x, d.chance(0.3) ? d.of(numbers) : partner(d, x)));
    },
  },
  {
    ...{ weight: 2, names: ['bitAnd', 'bitOr', 'bitXor', 'remainder', 'shiftLeft', 'shiftRight'] },
    draw: (d, name) => {
      const x = integers(d, name.startsWith('bit') ? wholeTypes : ['u32', 'i32']);
      const { integer, shape } = d.real(x);
      const like = (v: Real): boolean => v.integer === integer && same(v.shape, shape);
      const y = d.chance(0.5) || name.startsWith('shift') ? 1 + d.below(5) : d.pickInteger(like);
      const z = d.call(name, ...(name.startsWith('bit') ? turned(d, x, y) : [x, y]));
      return used(d, name === 'shiftLeft' ? d.call('remainder', z, 7) : z);
    },
  },
  {
    ...{ weight: 1, names: ['cast'] },
    draw: (d) => {
      const x = integers(d, ['u32', 'i32']);
      const { integer, shape } = d.real(x);
      const y = d.chance(0.5) ? 3 : d.pickInteger((v) => v.integer === integer && same(v.shape, shape));
      const z = d.call(d.of(['add', 'sub', 'mul', 'div', 'minimum', 'maximum']), x, y);
      const rank = shape.length;
      const w = rank && d.chance(0.4) ? d.call(d.of(['sum', 'max', 'min', 'prod']), z, [d.below(rank)]) : z;
      return used(d, d.call('cast', w, d.of(['u8', 'i32', 'u32'])));
    },
  },
  {
    ...{ weight: 4, names: ['sum', 'mean', 'max', 'min', 'prod', 'variance', 'std'] },
    draw: (d, name) => {
      const x = floats(d, ranked(1));
      const options = some(d, {
        keepDims: () => true,
        ...((name === 'variance' || name === 'std') && { correction: () => 0 }),
      });
      if (name === 'prod')
        return d.call('prod', d.call('clamp', x, -1.25, 1.25), d.below(d.shape(x).length), ...optional(options));
      return d.call(name, x, ...axesOf(d, x), ...optional(options));
    },
  },
  {
    ...{ weight: 2, names: ['cumsum'] },
    draw: (d) => {
      const x = floats(d, ranked(1));
      const options = some(d, { exclusive: () => true, reverse: () => true });
      return d.call('cumsum', x, written(d, x, axisOf(d, x)), ...optional(options));
    },
  },
  {
    ...{ weight: 2, names: ['topK'] },
    draw: (d) => {
      const x = floats(d, ranked(1));
      const axis = axisOf(d, x);
      const k = 1 + d.below(d.shape(x)[axis]!);
      const options = { axis, ...some(d, { largest: () => false }) };
      const indices = d.part('indices', 'topK', x, k, options);
      const values = d.part('values', 'topK', x, k, options);
      return d.chance(0.5) ? values : d.call('mul', values, d.call('cast', indices, 'f32'));
    },
  },
  {
    ...{ weight: 1, names: ['argmax', 'argmin'] },
    draw: (d, name) => {
      const x = floats(d, ranked(2));
      return used(d, d.call(name, x, ...(d.chance(0.5) ? [] : [axisOf(d, x)])));
    },
  },
  { weight: 6, names: Object.keys(views), draw: (d, name) => views[name]!(d) },
  { weight: 3, names: ['gather', 'embedding', 'scatterAdd', 'oneHot'], draw: gathering },
  { weight: 3, names: ['matmul'], draw: matmul },
  { weight: 2, names: ['attention'], draw: attention },
  {
    ...{ weight: 2, names: ['softmax', 'logSoftmax'] },
    draw: (d, name) =>
      d.call(
        name,
        floats(d, (x) => x.shape.length >= 1 && x.shape.at(-1)! > 1),
      ),
  },
  {
    ...{ weight: 6, names: ['conv', 'convTranspose'] },
    draw: (d, name) => {
      const y = generalConv(d, name);
      return d.chance(0.4) && isImage(d.real(y)) ? activation(d, y) : y;
    },
  },
  { weight: 5, names: ['maxPool', 'averagePool'], draw: pool },
  {
    weight: 3,
    names: ['upsample'],
    draw: (d) =>
      upsampled(
        d,
        d.pick((x) => isImage(x) && small(x)),
      ),
  },
  { weight: 3, names: ['resize'], draw: resize },
  { weight: 1, names: ['crop', 'addCrops'], draw: crops },
  { weight: 4, names: ['batchNorm', 'instanceNorm', 'normActivation'], draw: (d, name) => norm(d, image(d), name) },
  {
    ...{ weight: 3, names: ['layerNorm', 'groupNorm'] },
    draw: (d, name) => {
      const x = floats(d, ranked(2));
      const channels = d.shape(x).at(-1)!;
      const [gamma, beta] = [d.parameter([channels], 0.5, 1), d.parameter([channels], 0.5)];
      if (name === 'layerNorm') return d.call(name, x, gamma, beta);
      return d.call(name, x, d.of([1, 2, 4].filter((g) => channels % g === 0)), gamma, beta);
    },
  },
  { weight: 2, names: ['crossEntropy', 'diceLoss'], draw: labelled },
  {
    ...{ weight: 2, names: ['meanSquaredError', 'huberLoss', 'binaryCrossEntropy'] },
    draw: (d, name) => {
      const x = floats(d);
      const y = d.pick((v) => same(v.shape, d.shape(x)));
      const options = name === 'huberLoss' && d.chance(0.5) ? [{ delta: 0.5 }] : [];
      return d.call(name, x, name === 'binaryCrossEntropy' ? d.call('sigmoid', y) : y, ...options);
    },
  },
  { weight: 3, names: ['dropout', 'gaussianNoise', 'randomUniform', 'randomNormal'], draw: randomized },
  { weight: 2, names: ['assign'], draw: delayed },
  {
    ...{ weight: 1, names: ['detach'] },
    draw: (d) => {
      const x = floats(d);
      return d.call(d.of(['sub', 'mul']), d.call('detach', x), partner(d, x));
    },
  },
];

/** Ops that are no calls of a program: what steps its parameters, and what it draws from. */
export const around = ['createSgd', 'createAdamW', 'clipGradients', 'createLossScale', 'ema', 'createRandom'] as const;

/** Ops that no program has, and why. */
export const left: Readonly<Record<string, string>> = {
  cropTable: 'makes the numbers of a table on the CPU, from which crops are drawn here',
  fromImage: 'needs a picture of the browser; it has no gradient',
  cosineSchedule: 'computes a JavaScript number',
  polynomialSchedule: 'computes a JavaScript number',
};
