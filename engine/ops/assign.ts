// Assign: the values of one tensor become those of another.
import { assignShader } from '../../shaders/assign.js';
import { ShapeError, sameShape, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors } from './float-type.js';

function copy(from: Tensor, to: Tensor): void {
  const dtype = from.dtype === 'u8' ? 'u32' : from.dtype;
  const count = from.dtype === 'f16' ? from.size : from.bytes / 4;
  const width = count % 4 === 0 ? 4 : 1;
  run(assignShader(dtype, width), { x: from, y: to }, { threads: count / width });
}

/**
 * Copies the values of `y` into `x`, a tensor of the same shape and type: an input, a parameter, state. It is a write, in a captured
 * step as outside: a gradient that needs the values which x had before is refused by `backward`. No gradient flows through the copy,
 * and x stays a leaf. Throws a ShapeError for another shape or type.
 * @example
 * const x = tensor(gpu, [0, 0]);
 * assign(x, tensor(gpu, [1, 2]));
 * console.log(await x.read()); // [1, 2]
 */
export function assign(x: Tensor, y: Tensor): void {
  expectTensors('assign', x, y);
  if (x.dtype !== y.dtype || !sameShape(x.shape, y.shape)) {
    throw new ShapeError(
      `assign: '${x.label}' is ${x.dtype} ${show(x.shape)}, the values are ${y.dtype} ${show(y.shape)} — expected the same. Use cast or reshape.`,
    );
  }
  if (x.storage !== y.storage) {
    copy(y, x);
  } else if (x.offset !== y.offset) {
    // Both are in one pack, and no launch reads and writes one buffer.
    const between = empty(y.gpu, y.shape, y.dtype, 'assign');
    copy(y, between);
    copy(between, x);
  }
}
