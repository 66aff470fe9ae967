// Padding by a value, by the edge's elements or by reflection, of any axes at once.
import { type PadRule, padGradient } from '../../shaders/index-map.js';
import type { Float } from '../../shaders/wgsl.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors } from './float-type.js';
import { mapped, plainAxes, stridesOf } from './mapped.js';

/** Options of `pad`. */
export interface PadOptions {
  /**
   * `'constant'` (default): `value`; `'edge'`: the nearest element; `'reflect'`: mirrored at the first and the last element, which are
   * not repeated, so that a width is less than the size.
   */
  readonly mode?: 'constant' | 'edge' | 'reflect';
  /** What is around x in mode `'constant'`; default 0. Whole and at most 2²⁴ in size for integers. */
  readonly value?: number;
}

/**
 * x with `widths[k]` = [before, after] elements more along axis k (a number: as many on both sides). Any type. Throws a ShapeError
 * unless there is a width for each axis, and for reflections longer than the axis.
 * @example
 * console.log(await pad(tensor(gpu, [1, 2]), [[1, 2]]).read()); // [0, 1, 2, 0, 0]
 */
export function pad(
  x: Tensor,
  widths: readonly (number | readonly [number, number])[],
  options: PadOptions = {},
): Tensor {
  expectTensors('pad', x);
  checkOptions('pad', options, ['mode', 'value']);
  const { mode = 'constant', value = 0 } = options;
  if (!['constant', 'edge', 'reflect'].includes(mode)) {
    throw new ShapeError(`pad: mode is ${showValue(mode)} — expected 'constant', 'edge' or 'reflect'.`);
  }
  const pairs = Array.isArray(widths) ? widths.map((w: unknown) => (typeof w === 'number' ? [w, w] : w)) : [];
  const isWidth = (w: unknown): boolean => Number.isInteger(w) && (w as number) >= 0;
  const fit = (pair: unknown): boolean => Array.isArray(pair) && pair.length === 2 && pair.every(isWidth);
  if (pairs.length !== x.shape.length || !pairs.every(fit)) {
    throw new ShapeError(
      `pad: the widths are ${showValue(widths)} — expected [before, after] for each axis of ${show(x.shape)}, not negative.`,
    );
  }
  const sides = pairs as [number, number][];
  const isInteger = x.dtype !== 'f32' && x.dtype !== 'f16';
  const lowest = x.dtype === 'i32' ? -(2 ** 24) : 0;
  const highest = x.dtype === 'u8' ? 255 : 2 ** 24;
  if (typeof value !== 'number' || (isInteger && !(Number.isInteger(value) && value >= lowest && value <= highest))) {
    throw new ShapeError(`pad: the value is ${showValue(value)} — expected a number that ${x.dtype} holds exactly.`);
  }
  sides.forEach((pair, k) => {
    if (mode === 'reflect' && Math.max(...pair) >= x.shape[k]!) {
      throw new ShapeError(
        `pad: axis ${k} of ${show(x.shape)} reflects at most ${x.shape[k]! - 1} — got ${show(pair)}.`,
      );
    }
  });

  const shape = x.shape.map((n, k) => n + sides[k]![0] + sides[k]![1]);
  const rules = sides.map(([before, after], k): PadRule | undefined =>
    before + after ? { kind: mode, before, from: x.shape[k]! } : undefined,
  );
  const axes = plainAxes(x.shape).map(({ stride }, k) => ({
    size: shape[k]!,
    stride,
    ...(rules[k] && { rule: rules[k] }),
  }));
  const isFilled = mode === 'constant' && rules.some(Boolean);
  const y = mapped('pad', x, shape, { axes, offset: 0 }, isFilled ? value : undefined);
  return record('pad', y, [x], (dy) => {
    if (mode === 'constant') {
      const strides = stridesOf(shape);
      const inner = {
        axes: x.shape.map((size, k) => ({ size, stride: strides[k]! })),
        offset: sides.reduce((sum, [before], k) => sum + before * strides[k]!, 0),
      };
      return [mapped('pad_backward', dy, x.shape, inner)];
    }
    let [dx, sizes] = [dy, shape];
    rules.forEach((rule, k) => {
      if (!rule) return;
      const folded = sizes.with(k, rule.from);
      const part = empty(x.gpu, folded, x.dtype, 'dPad');
      const [outer, inner] = [sizeOf(sizes.slice(0, k)), sizeOf(sizes.slice(k + 1))];
      const source = padGradient(x.dtype as Float, { rule, outer, inner, size: sizes[k]! });
      run(source, { dy: dx, dx: part }, { threads: part.size });
      [dx, sizes] = [part, folded];
    });
    return [dx];
  });
}
