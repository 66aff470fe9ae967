// Dynamic loss scaling for gradients that are stored as f16 (Micikevicius et al., Mixed Precision Training, ICLR 2018): the loss
// is multiplied by a scale so that small gradients do not vanish; on overflow the step is skipped and the scale is halved.
import { checkFiniteShader } from '../../shaders/check-finite.js';
import { fillShader } from '../../shaders/fill.js';
import { lossScaleShader } from '../../shaders/loss-scale.js';
import type { Gradients } from '../autograd.js';
import type { Gpu } from '../device.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';

/** A loss scale that halves at an overflow and doubles after many good steps, kept on the GPU. */
export interface LossScale {
  /** One number: the seed of `backward(loss, scale)`. */
  readonly scale: Tensor;
  /** What must be saved to continue: the scale and how many good steps it has had. */
  readonly state: readonly Tensor[];
  /**
   * Records the check of the parameters' gradients and the update of the scale; returns the factor by which the optimizer
   * multiplies gradients, 0 where it must skip the step.
   */
  unscale(gradients: Gradients, parameters: readonly Tensor[]): Tensor;
}

/**
 * A scale that starts at `initial`, doubles after `interval` good steps, up to 2^24, and halves after an overflow, down to 1.
 * @example
 * const [w, scale] = [tensor(gpu, [1], [1], { requiresGrad: true }), createLossScale(gpu)];
 * const gradients = backward(mul(sum(square(w)), scale.scale));
 * createSgd([w], { learningRate: 0.1 }).step(gradients, undefined, { unscale: scale.unscale(gradients, [w]) });
 * console.log(await w.read()); // [0.8]
 */
export function createLossScale(gpu: Gpu, { initial = 65536, interval = 2000 } = {}): LossScale {
  if (!(initial >= 1 && Math.log2(initial) % 1 === 0) || !(interval >= 1)) {
    throw new ShapeError(
      `createLossScale: got initial ${initial}, interval ${interval} — expected a power of two and at least 1.`,
    );
  }
  const scale = tensor(gpu, initial, [], { label: 'lossScale' });
  const good = tensor(gpu, 0, [], { label: 'lossScale.good' });
  return {
    scale,
    state: [scale, good],
    unscale(gradients, parameters) {
      const found = empty(gpu, [1], 'u32', 'overflow');
      run(fillShader('u32', 0), { y: found }, { threads: 1 });
      const packed = new Set<Tensor['storage']>();
      for (const p of parameters) {
        const flat = gradients.packed.get(p.storage)?.flat;
        const g = gradients.get(p);
        const x = flat && g?.storage === flat.storage ? flat : g;
        if (!x || packed.has(x.storage)) continue;
        if (x === flat) packed.add(x.storage);
        run(checkFiniteShader('f32'), { x, found }, { workgroups: [Math.min(256, Math.ceil(x.size / 256))] });
      }
      const unscale = empty(gpu, [1], 'f32', 'unscale');
      run(lossScaleShader({ interval, least: 1, most: 2 ** 24 }), { found, scale, good, unscale }, { threads: 1 });
      return unscale;
    },
  };
}
