import { maxPoolBackward, maxPoolForward, poolParts, poolWindows } from '../../shaders/max-pool.js';
import { checkNoMore } from '../arguments.js';
import { ActivatedGradient, record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';
import { activationToLoad, waitingSlot } from './fusion.js';

/** 2×2 maximum with stride 2: x [N, H, W, C] → [N, ⌊H/2⌋, ⌊W/2⌋, C]. */
export function maxPool(x: Tensor, ...others: never[]): Tensor {
  expectTensors('maxPool', x);
  checkNoMore('maxPool', others, 'x: its windows are 2×2');
  const [batch = 0, height = 0, width = 0, channels = 0] = x.shape;
  if (x.shape.length !== 4 || height < 2 || width < 2) {
    throw new ShapeError(`maxPool: got ${show(x.shape)}, expected [N,H,W,C] with H and W at least 2.`);
  }
  const sizes = { dtype: floatType('maxPool', x), batch, height, width, channels };
  const lanes = channels % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, [batch, Math.floor(height / 2), Math.floor(width / 2), channels], x.dtype, 'maxPool');
  const waiting = activationToLoad(x);
  run(
    maxPoolForward(sizes, { load: waiting?.activation }),
    { x: waiting?.z ?? x, y, ...(waiting && { coefficients: waiting.coefficients }) },
    { threads: y.size / lanes },
  );

  return record('maxPool', y, [x], (dy, _, flow) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'dmaxPool');
    if (!x.gpu.flags.fuse) {
      run(maxPoolBackward(sizes), { x, dy, dx }, { threads: poolWindows(sizes) });
      return [dx];
    }
    const load = activationToLoad(x);
    const base = flow.take(0);
    const slot = base && (waitingSlot(base) ?? { source: base, row: channels, offset: 0 });
    const parts = poolParts(sizes);
    const sums = load && flow.activated(0) ? empty(x.gpu, [parts, 2, channels], 'f32', 'maxPool.partials') : undefined;
    run(
      maxPoolBackward(sizes, { load: load?.activation, base: slot, sums: sums !== undefined }),
      {
        x: load?.z ?? x,
        dy,
        dx,
        ...(load && { coefficients: load.coefficients }),
        ...(slot && { base: slot.source }),
        ...(sums && { partials: sums }),
      },
      { threads: sums ? (parts * channels) / lanes : poolWindows(sizes) },
    );
    return [sums ? new ActivatedGradient(dx, { partials: sums, parts: { count: parts, pixelsOf: '0u' } }) : dx];
  });
}
