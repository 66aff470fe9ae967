// Ops on images as they are drawn, with options of every kind.
import { cropTable } from '../../engine/index.js';
import { type Draft, isImage, Unfit, type Value } from './draft.js';
import { image, optional, some } from './draw-operands.js';
import { weightFor } from './layers.js';
import type { Argument } from './program.js';
import { sizeOf } from './shapes.js';

/** Sides, padding and the like of a general convolution or of a pool. */
const sideOf = (d: Draft, rank: number, values: readonly number[]): Argument =>
  d.chance(0.6) ? d.of(values) : Array.from({ length: rank }, () => d.of(values));

/** An image of one side, two or three. */
function anyImage(d: Draft): Value {
  const x = image(d);
  const shape = d.shape(x);
  return d.chance(0.2) ? d.call('reshape', x, [shape[0]!, sizeOf(shape.slice(1, -1)), shape.at(-1)!]) : x;
}

export function generalConv(d: Draft, name: string): Value {
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
      stride: () => sideOf(d, rank, [1, 2, 3]),
      dilation: () => sideOf(d, rank, [1, 2]),
      padding: () => d.of<Argument>(['same', 'valid', 1, Array.from({ length: rank }, () => [1, 0])]),
      ...(transposed && { outputPadding: () => 1 }),
    }),
  };
  const weight = weightFor(d, [outputs, ...kernel, inputs / groups]);
  return d.call(name, x, weight, d.parameter([outputs], 0.5), ...optional(options));
}

export function pool(d: Draft, name: string): Value {
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

export function resize(d: Draft): Value {
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
export function crops(d: Draft, name: string): Value {
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
