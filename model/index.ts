// Models: re-exports only.
export {
  copyState,
  countParameters,
  type ForwardOptions,
  type Mode,
  type Module,
  moduleOf,
  Parameters,
  type Segmenter,
} from './module.js';
export { type OnnxOptions, type OnnxWeights, type UNetSizes, unetOnnx, unetSizes } from './onnx/unet.js';
export { type Projection, projection } from './projection.js';
export {
  decodeSafetensors,
  encodeSafetensors,
  fromPyTorch,
  type NamedArray,
  SafetensorsError,
  toPyTorch,
} from './safetensors.js';
export { type UNetOptions, unet } from './unet.js';
