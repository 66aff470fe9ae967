// What a step asks of a convolution's kernel besides the sum: a wish. It is known before the kernel is chosen, and is part of the
// tuner's key, so that candidates are measured and checked with the text that the step will run. Kernels grant all of a wish, except
// that some leave an activation of the input to a launch before them; that launch is then part of their trial.
import type { Activation, ConvFusion } from '../../../shaders/conv/fusion.js';
import type { ConvKernel } from './kernels.js';

/** What a launch is to compute. */
export interface ConvWish {
  /** With a bias; of a weight gradient: with that of the bias. */
  readonly bias: boolean;
  /** The input is a deferred activation, which the kernel may apply on load. */
  readonly onLoad?: Activation | undefined;
  /** As in ConvFusion. */
  readonly statistics?: boolean;
  readonly gradient?: Activation | undefined;
  readonly base?: boolean;
}

const activationText = ({ slope, dropout, groups }: Activation): string =>
  `${slope}${dropout ? ` d${dropout}` : ''}${groups ? ` g${groups.join('+')}` : ''}`;

/** A wish at the end of a key; nothing for a plain convolution with a bias. */
export const wishText = ({ bias, onLoad, statistics, gradient, base }: ConvWish, bare = false): string =>
  [
    ...(bias === bare ? [bias ? ' bias' : ' no bias'] : []),
    ...(onLoad ? [` of l${activationText(onLoad)}`] : []),
    ...(statistics ? [' statistics'] : []),
    ...(gradient ? [` into l${activationText(gradient)}`] : []),
    ...(base ? [' base'] : []),
  ].join('');

/** The activation that a kernel applies on load. */
export const loaded = (
  { onLoad }: ConvWish,
  { appliesOnLoad = true, drawsOnLoad }: { readonly appliesOnLoad?: boolean; readonly drawsOnLoad: boolean },
): Activation | undefined => (appliesOnLoad && (drawsOnLoad || !onLoad?.dropout) ? onLoad : undefined);

/** What a kernel does of a wish. */
export const granted = (wish: ConvWish, kernel: ConvKernel): ConvFusion => {
  const { statistics = false, gradient, base = false } = wish;
  return gradient ? { gradient, base } : { onLoad: loaded(wish, kernel), statistics };
};
