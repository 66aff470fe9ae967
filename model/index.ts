// Models: re-exports only.
export {
  copyState,
  countParameters,
  type ForwardOptions,
  isTransposed,
  type Mode,
  type Module,
  moduleOf,
  Parameters,
  type Segmenter,
} from './module.js';
export type { NetworkSizes, OnnxOptions, OnnxWeights } from './onnx/network.js';
export { unetOnnx, unetSizes } from './onnx/unet.js';
export { vnetOnnx, vnetSizes } from './onnx/vnet.js';
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
export { type VNetOptions, vnet } from './vnet.js';
