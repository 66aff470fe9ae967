// The launch behind ops that move elements by a map of indices. No gradients here.
import { type IndexMap, type MapAxis, mapShader, mapWidth } from '../../shaders/index-map.js';
import type { Shape } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';

/** Elements between neighbours along each axis. */
export const stridesOf = (shape: Shape): number[] => {
  const strides = shape.map(() => 1);
  for (let k = shape.length - 2; k >= 0; k--) strides[k] = strides[k + 1]! * shape[k + 1]!;
  return strides;
};

/** Launches the copy of x that `map` describes, as a tensor of `shape`; `fill` is what is outside. Records no gradient. */
export function mapped(name: string, x: Tensor, shape: Shape, map: IndexMap, fill?: number): Tensor {
  const y = empty(x.gpu, shape, x.dtype, name);
  const threads = Math.ceil(y.size / mapWidth(map, x.dtype));
  run(mapShader(map, x.dtype), { x, y, ...(fill !== undefined && { numbers: [fill] }) }, { threads });
  return y;
}

/** The axes of `shape` as they are, for a map to change. */
export const plainAxes = (shape: Shape): MapAxis[] =>
  stridesOf(shape).map((stride, k) => ({ size: shape[k]!, stride }));
