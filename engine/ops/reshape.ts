// Reshape: another shape for the same elements.
import { record } from '../autograd.js';
import type { Shape } from '../shape.js';
import { type Tensor, view } from '../tensor.js';

/** The same elements in the same order under another shape of equal size; moves nothing. */
export const reshape = (x: Tensor, shape: Shape): Tensor =>
  record('reshape', view(x, shape), [x], (dy) => [view(dy, x.shape)]);
