import { maxPoolBackward, maxPoolForward, poolWindows } from '../../shaders/max-pool.js';
import { record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/** 2×2 maximum with stride 2: x [N, H, W, C] → [N, ⌊H/2⌋, ⌊W/2⌋, C]. */
export function maxPool(x: Tensor): Tensor {
  const [batch = 0, height = 0, width = 0, channels = 0] = x.shape;
  if (x.shape.length !== 4 || height < 2 || width < 2) {
    throw new ShapeError(`maxPool: got ${show(x.shape)}, expected [N,H,W,C] with H and W at least 2.`);
  }
  const sizes = { dtype: floatType('maxPool', x), batch, height, width, channels };
  const lanes = channels % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, [batch, Math.floor(height / 2), Math.floor(width / 2), channels], x.dtype, 'maxPool');
  run(maxPoolForward(sizes), { x, y }, { threads: y.size / lanes });

  return record('maxPool', y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'dmaxPool');
    run(maxPoolBackward(sizes), { x, dy, dx }, { threads: poolWindows(sizes) });
    return [dx];
  });
}
