// Models: re-exports only.
export type { Mode } from './layers.js';
export { copyState, countParameters, type Module, moduleOf, Parameters } from './module.js';
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
export { type ForwardOptions, type UNet, type UNetOptions, unet } from './unet.js';
