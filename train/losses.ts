// Losses that are compositions: the supervised one. The method's own terms are engine ops with kernels of their own.
import { add, crossEntropy, diceLoss, mul, type Tensor } from '../engine/index.js';

/** ½ (cross-entropy + soft Dice) of logits [N, H, W, K] against labels u8 [N, H, W]; the parts are returned for the log. */
export function supervisedLoss(logits: Tensor, labels: Tensor): { loss: Tensor; ce: Tensor; dice: Tensor } {
  const ce = crossEntropy(logits, labels);
  const dice = diceLoss(logits, labels);
  return { loss: mul(add(ce, dice), 0.5), ce, dice };
}
