// What all convolution kernels share: the geometry of a convolution and the snippets their generators are made of.
import type { Float } from './wgsl.js';

export type Triple = readonly [number, number, number];

/** Sizes of one convolution, as [depth, height, width]; padding is (kernel − 1)/2. */
export interface ConvGeometry {
  readonly batch: number;
  readonly input: Triple;
  readonly output: Triple;
  readonly inputs: number;
  readonly outputs: number;
  readonly kernel: Triple;
  readonly stride: 1 | 2;
}

/**
 * Order of the weights in memory. `outputs-first`: [O, tap, C], as parameters are stored. `outputs-last`: [tap, C, O], made by
 * `transposeWeightShader`; neighbouring threads then read neighbouring addresses. `gradient`: parameters read backwards,
 * [C, last tap − tap, O], which makes the kernel the input gradient of a stride-1 convolution.
 */
export type WeightOrder = 'outputs-first' | 'outputs-last' | 'gradient';

export const lines = (parts: readonly string[]): string => parts.join('\n');
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
export const product = (xs: readonly number[]): number => xs.reduce((a, b) => a * b, 1);

/** `vec4<f16>`, or `f16` for one element. */
export const vector = (dtype: Float, width: number): string => (width === 1 ? dtype : `vec${width}<${dtype}>`);
const elements = ['x', 'y', 'z', 'w'] as const;
export const element = (value: string, width: number, i: number): string =>
  width === 1 ? value : `${value}.${elements[i]}`;
