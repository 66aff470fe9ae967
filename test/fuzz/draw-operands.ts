// What ops are drawn on: values that fit, axes, options that are there or not.
import { type Draft, isImage, Unfit, type Value } from './draft.js';
import { deferred, numbers } from './layers.js';
import type { Argument } from './program.js';
import type { Integer, Real } from './reference.js';
import { same } from './shapes.js';

/** An activation that is not computed yet, or any value. */
export const floats = (d: Draft, fits: (x: Real) => boolean = () => true): Value => {
  const x = d.chance(0.3) ? deferred(d) : d.pick(fits);
  if (!fits(d.real(x))) throw new Unfit();
  return x;
};
export const image = (d: Draft): Value => floats(d, isImage);
export const positive = (d: Draft, x: Value): Value => d.call('add', d.call('square', x), 0.5);
export const ranked = (least: number) => (x: Real) => x.shape.length >= least;
export const axisOf = (d: Draft, x: Value): number => d.below(d.shape(x).length);
/** Either way to write an axis. */
export const written = (d: Draft, x: Value, axis: number): number => (d.chance(0.3) ? axis - d.shape(x).length : axis);
/** Options, each there or not. */
export const some = (d: Draft, options: Readonly<Record<string, () => Argument>>): { [option: string]: Argument } =>
  Object.fromEntries(Object.entries(options).flatMap(([key, value]) => (d.chance(0.5) ? [[key, value()]] : [])));
export const optional = (options: { [option: string]: Argument }): Argument[] =>
  Object.keys(options).length ? [options] : [];
/** The order of operands is of no matter. */
export const turned = (d: Draft, x: Argument, y: Argument): [Argument, Argument] => (d.chance(0.5) ? [x, y] : [y, x]);

export const wholeTypes = ['u8', 'u32', 'i32'] as const;
export function integers(d: Draft, types: readonly Integer[] = wholeTypes): Value {
  const known = (x: Real): boolean => types.includes(x.integer!);
  if (d.chance(0.4)) return d.pickInteger(known);
  const x = d.pick();
  return d.call('cast', d.chance(0.5) ? d.call('mul', x, 6) : x, d.of(types));
}

/** Something with a gradient that depends on integers. */
export function used(d: Draft, x: Value): Value {
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

export function axesOf(d: Draft, x: Value): Argument[] {
  const rank = d.shape(x).length;
  const axes = d.of([[rank - 1], [0], [0, rank - 1], Array.from({ length: rank }, (_, i) => i), [rank >> 1]]);
  const list = [...new Set(axes)].map((axis) => written(d, x, axis));
  return [list.length === 1 && d.chance(0.3) ? list[0]! : list];
}

/** A value of any type, for ops that only move elements. */
export const movable = (d: Draft, fits: (x: Real) => boolean): Value =>
  d.chance(0.2) ? d.pickInteger(fits) : floats(d, fits);

export function shuffledAxes(d: Draft, x: Value): number[] {
  const rest = d.shape(x).map((_, axis) => axis);
  return d.shape(x).map(() => written(d, x, rest.splice(d.below(rest.length), 1)[0]!));
}
