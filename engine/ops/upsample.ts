import { upsampleBackward, upsampleForward } from '../../shaders/upsample.js';
import { record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { deferWrite, type SlotOf, waitingSlot } from './fusion.js';

/** Bilinear ×2 with aligned corners (PyTorch's `align_corners=True`): x [N, H, W, C] → [N, 2H, 2W, C]. */
export function upsample(x: Tensor): Tensor {
  const [batch = 0, height = 0, width = 0, channels = 0] = x.shape;
  if (x.shape.length !== 4) throw new ShapeError(`upsample: got ${show(x.shape)}, expected [N,H,W,C].`);
  const sizes = { dtype: floatType('upsample', x), batch, height, width, channels };
  const lanes = channels % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, [batch, 2 * height, 2 * width, channels], x.dtype, 'upsample');
  const write = (slot: SlotOf): void =>
    run(upsampleForward(sizes, slot), { x, y: slot.source }, { threads: y.size / lanes });
  if (x.gpu.flags.fuse) deferWrite(y, [x], write);
  else write({ source: y, row: channels, offset: 0 });

  return record('upsample', y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'dupsample');
    const slot = waitingSlot(dy);
    run(upsampleBackward(sizes, slot), { dy: slot?.source ?? dy, dx }, { threads: x.size / lanes });
    return [dx];
  });
}
