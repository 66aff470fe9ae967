// What an op of one's own needs (`wgrad/custom`): launches, their gradients, shapes, random numbers. Re-exports only.

export { perElement } from '../shaders/per-element.js';
export { flatIndex } from '../shaders/wgsl.js';
export { nearest } from './arguments.js';
export { type Backward, type GradientFlow, gradientLike, record } from './autograd.js';
export { bindable } from './bindable.js';
export { fromHalf } from './elements.js';
export { philox4x32, toUniform } from './random.js';
export { broadcastShapes, normalizeAxes, sameShape, show, sizeOf } from './shape.js';
export { type Argument, type Bindable, flush, type Grid, run } from './stream.js';
export { empty } from './tensor.js';
