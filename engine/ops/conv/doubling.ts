// Transposed convolution with kernel 2 and stride 2: every output pixel has exactly one tap.
import {
  type ConvTransposeSizes,
  convTransposeChunks,
  convTransposeForward,
  convTransposeInput,
  convTransposeInputThreads,
  convTransposeThreads,
  convTransposeWeight,
  convTransposeWeightThreads,
} from '../../../shaders/conv/doubling.js';
import { record } from '../../autograd.js';
import { ShapeError, sameShape, show } from '../../shape.js';
import { run } from '../../stream.js';
import { empty, type Tensor, view } from '../../tensor.js';
import { floatType } from '../float-type.js';
import { imageSizes, ofRank } from '../image-sizes.js';
import { sum } from '../reduce.js';

/**
 * Transposed convolution with kernel 2 and stride 2, which doubles the size: x [N, H, W, I], weight [O, 2, 2, I], bias [O] →
 * [N, 2H, 2W, O]; in 3-D x [N, D, H, W, I], weight [O, 2, 2, 2, I].
 */
export function convTranspose(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const { gpu } = x;
  const { batch, size, channels: inputs, rank } = imageSizes('convTranspose', x);
  const outputs = weight.shape[0] ?? 0;
  const expected = [outputs, ...Array<number>(rank).fill(2), inputs];
  if (!sameShape(weight.shape, expected) || (bias && !sameShape(bias.shape, [outputs]))) {
    throw new ShapeError(
      `convTranspose: x ${show(x.shape)}, weight ${show(weight.shape)} and bias ${bias ? show(bias.shape) : 'none'} do not match — expected weight [O,${'2,'.repeat(rank)}${inputs}] and bias [O].`,
    );
  }
  const [depth, height, width] = size;
  const dtype = floatType('convTranspose', x, weight, ...(bias ? [bias] : []));
  const planes = rank === 2 ? 1 : 2;
  const sizes: ConvTransposeSizes = { dtype, batch, depth, height, width, inputs, outputs, planes };

  const y = empty(gpu, [batch, ...ofRank(rank, size).map((n) => 2 * n), outputs], dtype, 'convTranspose');
  const given: Record<string, Tensor> = bias ? { bias } : {};
  run(convTransposeForward(sizes, Boolean(bias)), { x, weight, y, ...given }, { threads: convTransposeThreads(sizes) });

  return record('convTranspose', y, [x, weight, ...(bias ? [bias] : [])], (dy, [needsX, needsWeight, needsBias]) => {
    const dx = needsX ? empty(gpu, x.shape, dtype, 'dconvTranspose') : undefined;
    if (dx) run(convTransposeInput(sizes), { dy, weight, dx }, { threads: convTransposeInputThreads(sizes) });
    const chunks = convTransposeChunks(sizes);
    const partials = needsWeight ? empty(gpu, [chunks, weight.size], 'f32', 'dWeight.partials') : undefined;
    if (partials) {
      run(convTransposeWeight(sizes), { x, dy, partials }, { threads: convTransposeWeightThreads(sizes) });
    }
    return [
      dx,
      partials && view(sum(partials, 0), weight.shape),
      needsBias ? sum(view(dy, [dy.size / outputs, outputs]), 0) : undefined,
    ];
  });
}
