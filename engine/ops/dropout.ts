// Inverted dropout without a stored mask: backward draws the same numbers again from seed, step and stream.
import type { Activation } from '../../shaders/conv/fusion.js';
import { channelDropoutShader, dropoutShader, droppedCoefficientsShader } from '../../shaders/dropout.js';
import { normActivationForward } from '../../shaders/norm-activation.js';
import { mostGroups } from '../../shaders/norm-parts.js';
import { groupAt } from '../../shaders/norm-sizes.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { addActivations } from './add-activations.js';
import { floatType } from './float-type.js';
import { deferredActivation, deferWrite, setActivation } from './fusion.js';
import { expectRandom, type Random } from './random.js';

/** Options of `dropout`. */
export interface DropoutOptions {
  /** 'element' (the default), or 'channel': whole channels of an item of x [N, …, C], as PyTorch's Dropout2d and Dropout3d. */
  per?: 'element' | 'channel';
}

/**
 * Sets elements, or whole channels, to 0 with probability `rate` in [0, 1) and divides the others by 1 − rate (Srivastava et al., JMLR
 * 2014; channels: Tompson et al., CVPR 2015). Takes one stream of `random` when it is recorded. Where whole channels of a deferred
 * activation (`normActivation`) are dropped, the result is deferred, too: consumers compute both on load.
 * @example
 * const random = createRandom(gpu, 1337);
 * console.log(dropout(tensor(gpu, 1, [8]), 0.5, random).shape); // [8]
 */
export function dropout(x: Tensor, rate: number, random: Random, options: DropoutOptions = {}): Tensor {
  checkOptions('dropout', options, ['per']);
  const { per = 'element' } = options;
  if (per !== 'element' && per !== 'channel') {
    throw new ShapeError(`dropout: got per ${showValue(per)}, expected 'element' or 'channel'.`);
  }
  if (per === 'channel' && x.shape.length < 2) {
    throw new ShapeError(`dropout: got ${show(x.shape)}, expected [N, …, C]: channels come last. Reshape it first.`);
  }
  if (!(rate >= 0 && rate < 1)) throw new ShapeError(`dropout: rate must be in [0, 1) — got ${rate}.`);
  const dtype = floatType('dropout', x);
  expectRandom('dropout', random);
  // Stream number and rate are data, so that all dropout layers run the same pipeline.
  const stream = tensor(x.gpu, [random.next()], [1], { dtype: 'u32', label: 'stream' });
  const sizes = { size: x.size, items: x.shape[0]!, channels: x.shape.at(-1)! };
  const numbers = [rate, 1 / (1 - rate)];
  const masked = (from: Tensor): Tensor => {
    const y = empty(x.gpu, x.shape, dtype, 'dropout');
    const args = { random: random.state, stream, x: from, y, numbers };
    if (per === 'element') run(dropoutShader(dtype, x.size), args, { threads: Math.ceil(x.size / 4) });
    else run(channelDropoutShader(dtype, sizes), args, { threads: x.size / (sizes.channels % 4 === 0 ? 4 : 1) });
    return y;
  };
  const of = per === 'channel' && sizes.items <= mostGroups ? deferredActivation(x) : undefined;
  if (!of) return record('dropout', masked(x), [x], (dy) => [masked(dy)]);

  const { z, coefficients, activation } = of;
  const dropped = empty(x.gpu, [sizes.items, 4, sizes.channels], 'f32', 'dropout.coefficients');
  run(
    droppedCoefficientsShader(sizes, groupAt('item', activation.groups ?? [sizes.items])),
    { random: random.state, stream, coefficients, dropped, numbers },
    { threads: sizes.items * sizes.channels },
  );
  const y = empty(x.gpu, x.shape, dtype, 'dropout');
  const groups = Array<number>(sizes.items).fill(1);
  const after: Activation = { slope: activation.slope, dropout: 0, ...(sizes.items > 1 && { groups }) };
  setActivation(y, { z, coefficients: dropped, activation: after, draws: {}, add: addActivations });
  const rows = { dtype, groups, rows: x.size / sizes.items / sizes.channels, channels: sizes.channels };
  const elements = { threads: x.size / (sizes.channels % 4 === 0 ? 4 : 1) };
  deferWrite(y, [z, dropped], (slot) =>
    run(normActivationForward(rows, after, slot), { z, coefficients: dropped, a: slot.source }, elements),
  );
  return record('dropout', y, [x], (dy) => [masked(dy)]);
}
