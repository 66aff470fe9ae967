// Casts between all types of elements; between floats the gradient is cast back.
import { castElements, castShader } from '../../shaders/cast.js';
import type { Float } from '../../shaders/wgsl.js';
import { record } from '../autograd.js';
import { checkDtype } from '../elements.js';
import { run } from '../stream.js';
import { type Dtype, empty, type Tensor } from '../tensor.js';
import { expectTensors } from './float-type.js';

const isFloat = (dtype: Dtype): dtype is Float => dtype === 'f32' || dtype === 'f16';

/**
 * x stored as another type, 'f32', 'f16', 'u32', 'i32' or 'u8'; x itself if it has that type already. To floats: rounded to the nearest.
 * To integers: towards zero, limited to what the type holds (300 and Infinity as u8 are 255, −1 as u32 is 0), NaN gives 0. Between
 * floats the gradient is cast back; a cast from or to integers is a constant to autograd. Throws a ShapeError for other types.
 * @example
 * console.log(await cast(tensor(gpu, [1.7, -1.7]), 'i32').read()); // [1, -1]
 */
export function cast<D extends Dtype>(x: Tensor, dtype: D): Tensor<D> {
  expectTensors('cast', x);
  checkDtype('cast', dtype);
  const from = x.dtype;
  if (from === dtype) return x;
  if (!isFloat(from) || !isFloat(dtype)) {
    const y = empty(x.gpu, x.shape, dtype, 'cast');
    run(castElements(from, dtype, x.size), { x, y }, { threads: Math.ceil(x.size / 4) });
    return y;
  }
  const converted = (source: Tensor, to: Float): Tensor => {
    const y = empty(source.gpu, source.shape, to, 'cast');
    const width = source.size % 4 === 0 ? 4 : 1;
    run(castShader(to === 'f16' ? 'f32' : 'f16', to, width), { x: source, y }, { threads: source.size / width });
    return y;
  };
  return record('cast', converted(x, dtype), [x], (dy) => [converted(dy, from)]);
}
