// Models: re-exports only.
export {
  heNormal,
  heUniform,
  type Init,
  standardNormal,
  truncatedNormal,
  xavierNormal,
  xavierUniform,
  zeros,
} from './inits.js';
export {
  type AttentionLayerOptions,
  attentionLayer,
  batchNormLayer,
  type ConvLayerOptions,
  type ConvTransposeLayerOptions,
  convLayer,
  convTransposeLayer,
  dropoutLayer,
  type EmbeddingLayerOptions,
  embeddingLayer,
  groupNormLayer,
  type LinearLayerOptions,
  layerNormLayer,
  linearLayer,
  type NormLayerOptions,
  normActivationLayer,
} from './layers.js';
export {
  copyState,
  countParameters,
  type ForwardOptions,
  isTransposed,
  layoutOf,
  type Module,
  moduleOf,
  Parameters,
  type Segmenter,
  type WeightLayout,
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
export { loadState, type StateOptions, saveState, torchNames } from './state.js';
export { type UNetOptions, unet } from './unet.js';
export { type VNetOptions, vnet } from './vnet.js';
