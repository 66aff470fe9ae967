// What a launch of a convolution's kernels needs to know, whatever family they are of.
import type { Activation, ConvFusion } from '../../../shaders/conv/fusion.js';
import type { Parts } from '../../../shaders/conv/geometry.js';
import type { Grid } from '../../stream.js';

/** What a launch of y = x ∗ weight has to do. */
export interface ConvRequest {
  readonly bias: boolean;
  readonly fusion: ConvFusion;
}

/** A launch without its tensors. */
export interface ConvLaunch {
  readonly source: string;
  readonly grid: Grid;
}

/** One way to compute a convolution (or a stride-1 input gradient). */
export interface ConvKernel {
  /** The parts of the partial sums, where a launch writes them. */
  readonly parts: Parts;
  /** Whether it is cheap to apply an activation on load. */
  readonly appliesOnLoad: boolean;
  /** Whether it is cheap to draw dropout on load; on a GPU a mask is read. */
  readonly drawsOnLoad: boolean;
  launch(request: ConvRequest): ConvLaunch;
}

/** One way to compute the weight gradient's first pass. */
export interface WeightGradientKernel {
  readonly slices: number;
  readonly drawsOnLoad: boolean;
  launch(request: { bias: boolean; onLoad: Activation | undefined }): { source: string; grid: Grid };
}
