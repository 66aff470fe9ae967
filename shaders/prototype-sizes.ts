// Sizes of the kernels of prototypes, and the vectors in which they read features.
import type { PixelSizes } from './cross-entropy.js';

export interface PrototypeSizes extends PixelSizes {
  /** D, features of a pixel. */
  readonly width: number;
}

export const vector = ({ dtype, width }: PrototypeSizes) =>
  width % 4 === 0
    ? { V: 'vec4f', S: `vec4<${dtype}>`, quads: width / 4, dot: (a: string, b: string) => `dot(${a}, ${b})` }
    : { V: 'f32', S: dtype, quads: width, dot: (a: string, b: string) => `(${a} * ${b})` };
