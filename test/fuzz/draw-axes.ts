// Ops that move elements, gather, or multiply matrices, as they are drawn.
import { type Draft, Unfit, type Value } from './draft.js';
import {
  axesOf,
  axisOf,
  floats,
  image,
  movable,
  optional,
  ranked,
  shuffledAxes,
  some,
  turned,
  written,
} from './draw-operands.js';
import { weightFor } from './layers.js';
import type { Argument } from './program.js';
import type { Real } from './reference.js';
import { same, sizeOf } from './shapes.js';

export const views: Readonly<Record<string, (d: Draft) => Value>> = {
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

export function matmul(d: Draft): Value {
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

export function attention(d: Draft): Value {
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

export function gathering(d: Draft, name: string): Value {
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
