// Average pooling. Windows of two in 2-D and 3-D have a kernel of their own; windows of other sizes are those of window-pool.ts.
import { type AveragePoolSizes, averagePoolShader } from '../../shaders/average-pool.js';
import { record } from '../autograd.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';
import { ofRank, pooledSizes } from './image-sizes.js';
import { type AveragePoolOptions, windowPool } from './window-pool.js';

/**
 * Mean of windows: without options of two along each axis, x [N, H, W, C] → [N, ⌊H/2⌋, ⌊W/2⌋, C], or x [N, D, H, W, C] →
 * [N, ⌊D/2⌋, ⌊H/2⌋, ⌊W/2⌋, C]; an odd last plane, row or column is left out. With options of any window, also of x [N, L, C]. Over a
 * whole image use `mean(x, [1, 2])`.
 * @example
 * console.log(await averagePool(tensor(gpu, [1, 2, 3, 4], [1, 2, 2, 1])).read()); // [2.5]
 */
export function averagePool(x: Tensor, options?: AveragePoolOptions): Tensor {
  expectTensors('averagePool', x);
  const pooled = windowPool('average', x, options);
  if (pooled) return pooled;
  const { batch, size: input, channels, rank, window, output } = pooledSizes('averagePool', x);
  const sizes: AveragePoolSizes = { dtype: floatType('averagePool', x), batch, input, output, channels, window };
  const lanes = channels % 4 === 0 ? 4 : 1;
  const y = empty(x.gpu, [batch, ...ofRank(rank, output), channels], x.dtype, 'averagePool');
  run(averagePoolShader(sizes, 'forward'), { source: x, result: y }, { threads: y.size / lanes });
  return record('averagePool', y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'daveragePool');
    run(averagePoolShader(sizes, 'backward'), { source: dy, result: dx }, { threads: dx.size / lanes });
    return [dx];
  });
}
