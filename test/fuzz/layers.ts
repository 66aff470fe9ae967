// Pieces that networks are made of: an activation, a convolution, a norm, another view of the same elements.
import { type Draft, isImage, Unfit, usual, type Value } from './draft.js';
import { type Argument, type Ref, random } from './program.js';
import type { Real } from './reference.js';
import { same, sizeOf } from './shapes.js';

export const numbers = [0.5, -1.5, 2, 0.25, -1];
export const slopes = [0.01, 0.2];
export const channelCounts = [4, 8, 4, 8, 3, 1];
export const channels = (d: Draft): number => d.of(d.options.narrow ? [4, 4, 4, 8] : channelCounts);

export const activation = (d: Draft, x: Value): Value =>
  d.chance(0.25) ? d.call('relu', x) : d.call('leakyRelu', x, d.of(slopes));

/** An activation of an image that the next op may load. */
export const deferred = (d: Draft): Value => {
  const x = d.pick(isImage);
  return d.chance(0.5) ? activation(d, x) : norm(d, x, 'normActivation');
};

/** A weight that keeps the size of numbers. */
export const weightFor = (d: Draft, shape: readonly number[]): Value =>
  d.parameter(shape, Math.sqrt(3 / sizeOf(shape.slice(1))));

interface Kind {
  readonly kernel?: number;
  readonly outputs?: number;
  readonly stride?: number;
  readonly statistics?: boolean;
}

export function convolution(d: Draft, x: Value, given: Kind = {}): Value {
  const shape = d.shape(usual(d, x));
  const { kernel = d.of([1, 3]), outputs = channels(d), stride = d.chance(0.15) ? 2 : 1 } = given;
  const fits = [outputs, ...shape.slice(1, -1).map(() => kernel), shape.at(-1)!];
  const known = d.chance(0.1) ? d.leaves.filter((leaf) => leaf.kind === 'parameter' && same(leaf.shape, fits)) : [];
  const weight = known.length ? { $: d.of(known).id } : weightFor(d, fits);
  const statistics = given.statistics ?? d.chance(0.2);
  const options = { ...(stride > 1 && { stride }), ...(statistics && { statistics }) };
  const bias = d.chance(0.6) ? d.parameter([outputs], 0.5) : undefined;
  const plain = !Object.keys(options).length;
  if (plain) return bias ? d.call('conv', x, weight, bias) : d.call('conv', x, weight);
  return d.call('conv', x, weight, bias ?? d.parameter([outputs], 0.5), options);
}

/** γ, β and running statistics, new or those of another norm. */
export function normParts(
  d: Draft,
  channels: number,
): { gamma: Value; beta: Value; running: { mean: Value; variance: Value } } {
  const earlier = d.calls.filter(
    ({ name, args }) =>
      (name === 'normActivation' || name === 'batchNorm') &&
      d.shape(args[0] as Ref).at(-1) === channels &&
      'running' in (args[3] as object),
  );
  if (earlier.length && d.chance(0.1)) {
    const { args } = d.of(earlier);
    const { running } = args[3] as { running: { mean: Ref; variance: Ref } };
    return { gamma: args[1] as Ref, beta: args[2] as Ref, running };
  }
  return {
    gamma: d.parameter([channels], 0.5, 1),
    beta: d.parameter([channels], 0.5),
    running: { mean: d.leaf('running', [channels], -0.5, 0.5), variance: d.leaf('running', [channels], 0.5, 1.5) },
  };
}

/** Some groups of so many items, and which of them running statistics follow. */
function grouped(d: Draft, items: number): { groups: number[]; track?: number[] } {
  const groups: number[] = [];
  for (let left = items; left > 0; left -= groups.at(-1)!) groups.push(1 + d.below(left));
  return { groups, ...(d.chance(0.4) && { track: groups.map((_, g) => g).filter(() => d.chance(0.5)) }) };
}

export function norm(
  d: Draft,
  x: Value,
  name = d.of(['normActivation', 'normActivation', 'batchNorm', 'instanceNorm']),
): Value {
  const { gamma, beta, running } = normParts(d, d.shape(usual(d, x)).at(-1)!);
  if (name === 'instanceNorm') return d.call('instanceNorm', x, gamma, beta);
  const training = d.chance(0.75);
  const mode = training ? 'train' : 'eval';
  const items = d.shape(x)[0]!;
  const grouping = items > 1 && d.chance(0.5) ? grouped(d, items) : {};
  const statistics = { ...(!training || d.chance(0.7) ? { running } : {}), ...grouping };
  if (name === 'batchNorm') return d.call('batchNorm', x, gamma, beta, { ...statistics, mode } as Argument);
  const dropout = d.chance(0.25) ? { dropout: { rate: 0.5, random } } : {};
  return d.call('normActivation', x, gamma, beta, {
    ...statistics,
    mode,
    slope: d.of([0.01, 0, 0.2]),
    ...dropout,
  } as Argument);
}

/** The same elements under another shape of the same rank, of which conv and pooling can make something. */
export function otherView(d: Draft, x: Value): Value {
  const shape = d.shape(x);
  const swapped = [...shape];
  const [i, j] = d.of([
    [1, 2],
    [1, shape.length - 1],
  ] as const);
  const how = d.below(5);
  if (how < 2) return d.call('reshape', x, [...shape]);
  if (how < 4) {
    [swapped[i], swapped[j]] = [swapped[j]!, swapped[i]!];
    return d.call('reshape', x, swapped);
  }
  const factor = swapped[i]! % 2 === 0 ? 2 : swapped[i]! % 3 === 0 ? 3 : 1;
  swapped[i]! /= factor;
  swapped[j]! *= factor;
  if (swapped.at(-1)! > 16) throw new Unfit();
  return d.call('reshape', x, swapped);
}

/** To the same spatial size as `like`, by whatever does that. */
export function sizedLike(d: Draft, x: Value, like: Value): Value {
  const [from, to] = [d.shape(x).slice(0, -1), d.shape(like).slice(0, -1)];
  if (same(from, to)) return x;
  const doubled = [from[0]!, ...from.slice(1).map((n) => 2 * n)];
  if (!same(doubled, to)) throw new Unfit();
  return enlarged(d, x);
}

export const upsampled = (d: Draft, x: Value): Value =>
  d.chance(0.7) ? d.call('upsample', x) : d.call('upsample', x, { mode: 'nearest' });

export function enlarged(d: Draft, x: Value): Value {
  const shape = d.shape(usual(d, x));
  if (d.chance(0.7)) return upsampled(d, x);
  const outputs = channels(d);
  const weight = d.parameter(
    [outputs, ...shape.slice(1, -1).map(() => 2), shape.at(-1)!],
    Math.sqrt(3 / shape.at(-1)!),
  );
  return d.chance(0.5)
    ? d.call('convTranspose', x, weight, d.parameter([outputs], 0.5))
    : d.call('convTranspose', x, weight);
}

export const small = ({ shape }: Real): boolean => shape.slice(1, -1).every((n) => n <= 6);

/** What may be next to x under the rules of broadcasting. */
export function partner(d: Draft, x: Value): Value {
  const shape = d.shape(x);
  const how = d.below(6);
  if (how < 3) {
    const found = d.pick((y) => same(y.shape, shape));
    return found;
  }
  if (how === 3) return d.pick((y) => y.shape.length <= 1 && (y.data.length === 1 || y.data.length === shape.at(-1)));
  if (how === 4 && shape.length) return d.parameter(shape.slice(-1), 1, 0.5);
  const one = shape.map((n) => (d.chance(0.5) ? 1 : n));
  return d.parameter(one, 1, 0.5);
}

export const between = [
  (d: Draft, x: Value) => d.call('add', x, partner(d, x)),
  (d: Draft, x: Value) => d.call('sub', x, partner(d, x)),
  (d: Draft, x: Value) => d.call('sub', partner(d, x), x),
  (d: Draft, x: Value) => otherView(d, x),
  (d: Draft, x: Value) => d.call('gaussianNoise', x, { std: 0.1, clip: 0.2, random }),
  (d: Draft, x: Value) => d.call('dropout', x, 0.5, random),
  (d: Draft, x: Value) => activation(d, x),
  (d: Draft, x: Value) => norm(d, x),
  (d: Draft, x: Value) => (isImage(d.real(x)) && small(d.real(x)) ? upsampled(d, x) : x),
  (d: Draft, x: Value) => d.call('mul', x, d.of(numbers)),
];
