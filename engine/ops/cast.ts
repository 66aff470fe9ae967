// Casts between f32 and f16; the gradient is cast back.
import { castShader } from '../../shaders/cast.js';
import type { Float } from '../../shaders/wgsl.js';
import { showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/** x stored as f32 or f16, rounded to the nearest; x itself if it has that type already. The gradient is cast back. */
export function cast(x: Tensor, dtype: Float): Tensor {
  const from = floatType('cast', x);
  if (dtype !== 'f32' && dtype !== 'f16')
    throw new ShapeError(`cast: to ${showValue(dtype)} — expected 'f32' or 'f16'.`);
  if (from === dtype) return x;
  const converted = (source: Tensor, to: Float): Tensor => {
    const y = empty(source.gpu, source.shape, to, 'cast');
    const width = source.size % 4 === 0 ? 4 : 1;
    run(castShader(to === 'f16' ? 'f32' : 'f16', to, width), { x: source, y }, { threads: source.size / width });
    return y;
  };
  return record('cast', converted(x, dtype), [x], (dy) => [converted(dy, from)]);
}
