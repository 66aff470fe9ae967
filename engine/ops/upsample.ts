// Upsampling in 2-D and 3-D. The output is deferred, so that a concatenation can have it written into its slot.
import type { Triple } from '../../shaders/image-sizes.js';
import { type UpsampleSizes, upsampleBackward, upsampleForward } from '../../shaders/upsample.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';
import { deferredSlot, deferWrite, type SlotOf } from './fusion.js';
import { alongAxes, imageSizes, ofRank } from './image-sizes.js';

/** Options of `upsample`. */
export interface UpsampleOptions {
  /** How many times longer each side becomes; a whole number of at least 2. Default 2. */
  factor?: number;
  /** 'linear' (the default): between neighbours, corners on corners (PyTorch's `align_corners=True`). 'nearest': copies. */
  mode?: 'linear' | 'nearest';
}

/**
 * Makes an image larger by a whole factor f: x [N, H, W, C] → [N, f·H, f·W, C], bilinear or nearest; or x [N, D, H, W, C] →
 * [N, f·D, f·H, f·W, C], trilinear or nearest. A `concat` has it written where it wants it, so use it in a decoder; `resize` takes any
 * size, other coordinates and x [N, L, C].
 * @example
 * console.log(upsample(tensor(gpu, 1, [1, 2, 2, 3])).shape); // [1, 4, 4, 3]
 */
export function upsample(x: Tensor, options: UpsampleOptions = {}): Tensor {
  expectTensors('upsample', x);
  checkOptions('upsample', options, ['factor', 'mode'], {
    scale: "It is called 'factor'.",
    size: "Give the 'factor': sizes are whole multiples.",
    alignCorners: "Corners are aligned in mode 'linear'.",
  });
  const { factor = 2, mode = 'linear' } = options;
  if (!Number.isInteger(factor) || factor < 2) {
    throw new ShapeError(`upsample: got factor ${showValue(factor)}, expected a whole number of at least 2.`);
  }
  if (mode !== 'linear' && mode !== 'nearest') {
    throw new ShapeError(`upsample: got mode ${showValue(mode)}, expected 'linear' or 'nearest'.`);
  }
  const { batch, size: input, channels, rank } = imageSizes('upsample', x);
  const output = alongAxes(rank, factor).map((times, axis) => times * input[axis]!) as unknown as Triple;
  const sizes: UpsampleSizes = { dtype: floatType('upsample', x), mode, batch, input, output, channels };
  const lanes = channels % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, [batch, ...ofRank(rank, output), channels], x.dtype, 'upsample');
  const write = (slot: SlotOf): void =>
    run(upsampleForward(sizes, slot), { x, y: slot.source }, { threads: y.size / lanes });
  if (x.gpu.flags.fuse) deferWrite(y, [x], write);
  else write({ source: y, row: channels, offset: 0 });

  return record('upsample', y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'dupsample');
    const slot = deferredSlot(dy);
    run(upsampleBackward(sizes, slot), { dy: slot?.source ?? dy, dx }, { threads: x.size / lanes });
    return [dx];
  });
}
