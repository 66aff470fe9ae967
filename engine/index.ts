// The engine's public surface: re-exports only.
export { nearest } from './arguments.js';
export { type Backward, backward, type GradientFlow, Gradients, gradientLike, noGrad, record } from './autograd.js';
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
export { environmentFlags, type Flags } from './flags.js';
export { memoryOf, trim } from './memory.js';
export * from './ops/index.js';
export { type Pack, pack } from './pack.js';
export { type LaunchTime, type ProfileRow, profileTable, summarize } from './profile.js';
export { normalStream, philox4x32, toUniform, uniformStream } from './random.js';
export { broadcastShapes, normalizeAxes, type Shape, ShapeError, sameShape, show, sizeOf } from './shape.js';
export { type Argument, type Bindable, flush, type Grid, run } from './stream.js';
export {
  type Dtype,
  type ElementsOf,
  empty,
  fromHalf,
  type NestedNumbers,
  scope,
  type TapeNode,
  Tensor,
  type TypedArray,
  tensor,
} from './tensor.js';
export { tune } from './tune.js';
export {
  askedFor,
  type CandidateResult,
  choose,
  type Job,
  type Measure,
  recall,
  type Trial,
  type TrialLaunch,
  type TrialTensor,
  type TuneOptions,
  type TuneResult,
} from './tuner.js';
export type { Tuning } from './tuning.js';
export { verifyDevice } from './verify.js';
