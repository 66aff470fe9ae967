// What a launch of a convolution's kernels needs to know, whatever family they are of.
import type { Activation, ConvFusion } from '../../../shaders/conv/fusion.js';
import type { Parts, WeightOrder } from '../../../shaders/conv/geometry.js';
import type { Grid } from '../../stream.js';

/** What is asked of a kernel of y = x ∗ weight. */
export interface ConvRequest {
  readonly bias: boolean;
  readonly fusion: ConvFusion;
}

/** A launch without its tensors. `weights` says in which order they must lie. */
export interface ConvLaunch {
  readonly source: string;
  readonly grid: Grid;
  readonly weights: WeightOrder;
}

/** One way to compute a convolution (or a stride-1 input gradient). */
export interface ConvKernel {
  /** Of the partial sums, if any are asked for. */
  readonly parts: Parts;
  /** Whether it is cheap to compute an activation as its input is loaded, and to draw dropout: then, or on the way out. */
  readonly loads: boolean;
  readonly draws: { readonly load: boolean; readonly gradient: boolean };
  launch(request: ConvRequest): ConvLaunch;
}

/** One way to compute the weight gradient's first pass. */
export interface WeightGradientKernel {
  readonly slices: number;
  readonly drawsOnLoad: boolean;
  launch(request: { bias: boolean; load: Activation | undefined }): { source: string; grid: Grid };
}
