// What a model needs (`wgrad`): re-exports only. Beside it stand custom.ts, debug.ts, method.ts and tune.ts.
export { backward, Gradients, noGrad } from './autograd.js';
export { type BufferRange, bufferOf, fromBuffer } from './buffer.js';
export { capture, type PrepareOptions, type Step, type StepArgument, type StepInfo } from './capture.js';
export {
  type AdapterDescription,
  fromDevice,
  Gpu,
  GpuError,
  GpuLostError,
  type GpuOptions,
  type MatrixSize,
  openDevice,
  requestGpu,
} from './device.js';
export * from './ops/index.js';
export { type Pack, pack } from './pack.js';
export { normalStream, uniformStream } from './random.js';
export { type Shape, ShapeError } from './shape.js';
export {
  type Dtype,
  type ElementsOf,
  type NestedNumbers,
  scope,
  type TapeNode,
  Tensor,
  type TypedArray,
  tensor,
} from './tensor.js';
