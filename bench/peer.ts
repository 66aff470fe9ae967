// What a peer is to the comparison: an engine with a device of its own that can do the same pieces of work as wgrad, layouts
// converted at its door, so that the comparison itself sees channels last and weights [O, kH, kW, I] only.
import type { Gpu } from '../engine/index.js';
import type { ConvContender, ConvData, ConvWork } from './conv-work.js';
import type { StepContender, StepWork } from './step-work.js';
import type { TransformerContender, TransformerWork } from './transformer-work.js';

export const peerNames = ['tfjs', 'jax-js'] as const;
export type PeerName = (typeof peerNames)[number];

export interface Engine {
  readonly gpu: Gpu;
  prepareConv(work: ConvWork, data: ConvData): Promise<ConvContender>;
  prepareStep(work: StepWork): Promise<StepContender>;
  prepareTransformer(work: TransformerWork): Promise<TransformerContender>;
}

/** Moves axes: result axis i is source axis order[i]. */
export function transposed(data: Float32Array, shape: readonly number[], order: readonly number[]): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const sizes = order.map((axis) => shape[axis]!);
  const result = new Float32Array(data.length);
  const index = sizes.map(() => 0);
  for (let i = 0; i < result.length; i++) {
    result[i] = data[index.reduce((sum, n, axis) => sum + n * strides[order[axis]!]!, 0)]!;
    for (let axis = sizes.length - 1; axis >= 0 && ++index[axis]! === sizes[axis]; axis--) index[axis] = 0;
  }
  return result;
}
