// Max pooling. Windows of two in 2-D and 3-D apply a deferred activation on load, and their backward pass takes the activation's
// derivative; windows of other sizes are those of window-pool.ts.
import { maxPoolBackward, maxPoolForward, type PoolSizes, poolParts, poolWindows } from '../../shaders/max-pool.js';
import { ActivatedGradient, record } from '../autograd.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';
import { deferredActivation, deferredSlot } from './fusion.js';
import { ofRank, pooledSizes } from './image-sizes.js';
import { type PoolOptions, windowPool } from './window-pool.js';

/**
 * Maximum of windows: without options of two along each axis, x [N, H, W, C] → [N, ⌊H/2⌋, ⌊W/2⌋, C], or x [N, D, H, W, C] →
 * [N, ⌊D/2⌋, ⌊H/2⌋, ⌊W/2⌋, C]; an odd last plane, row or column is left out. With options of any window, also of x [N, L, C]. A NaN
 * is larger than any number; of equal values the first (row by row) gets the gradient. Over a whole image use `max`.
 * @example
 * console.log(await maxPool(tensor(gpu, [1, 2, 3, 4], [1, 2, 2, 1])).read()); // [4]
 */
export function maxPool(x: Tensor, options?: PoolOptions): Tensor {
  expectTensors('maxPool', x);
  const pooled = windowPool('max', x, options);
  if (pooled) return pooled;
  const { batch, size: input, channels, rank, window, output } = pooledSizes('maxPool', x);
  const sizes: PoolSizes = { dtype: floatType('maxPool', x), batch, input, output, channels, window };
  const lanes = channels % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, [batch, ...ofRank(rank, output), channels], x.dtype, 'maxPool');
  const deferred = deferredActivation(x);
  run(
    maxPoolForward(sizes, { onLoad: deferred?.activation }),
    { x: deferred?.z ?? x, y, ...(deferred && { coefficients: deferred.coefficients }) },
    { threads: y.size / lanes },
  );

  return record('maxPool', y, [x], (dy, _, flow) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'dmaxPool');
    if (!x.gpu.flags.fuse) {
      run(maxPoolBackward(sizes), { x, dy, dx }, { threads: poolWindows(sizes) });
      return [dx];
    }
    const deferred = deferredActivation(x);
    const base = flow.take(0);
    const slot = base && (deferredSlot(base) ?? { source: base, row: channels, offset: 0 });
    const parts = poolParts(sizes, deferred?.activation);
    const sums =
      deferred && flow.activated(0) ? empty(x.gpu, [parts.count, 2, channels], 'f32', 'maxPool.partials') : undefined;
    run(
      maxPoolBackward(sizes, { onLoad: deferred?.activation, base: slot, sums: sums !== undefined }),
      {
        x: deferred?.z ?? x,
        dy,
        dx,
        ...(deferred && { coefficients: deferred.coefficients }),
        ...(slot && { base: slot.source }),
        ...(sums && { partials: sums }),
      },
      { threads: sums ? (parts.count * channels) / lanes : poolWindows(sizes) },
    );
    return [sums ? new ActivatedGradient(dx, { partials: sums, parts }) : dx];
  });
}
