// The kernel that runs a convolution or its input gradient on this adapter, and that of a weight gradient. A cost model ranks the
// candidates for a shape, and the first is the default; where the tuner is loaded, it may have chosen another (tuned.ts).
// Separate workgroups sum each slice of a weight gradient's pixels. A kernel with one slice writes the gradient itself; several slices
// are added up by a second launch.
import type { ConvGeometry } from '../../../shaders/conv/geometry.js';
import type { Gpu } from '../../device.js';
import { directForward, directWeightGradient } from './direct.js';
import { type ConvTypes, candidatesOf, type Families, type Wanted } from './family.js';
import type { ConvKernel, WeightGradientKernel } from './kernels.js';
import { tiledForward, tiledWeightGradient } from './tiled.js';
import type { ConvWish } from './wish.js';

/** @internal The families that need no tuner. */
export const forwardFamilies: Families<ConvKernel> = { direct: directForward, tiled: tiledForward };
/** @internal */
export const weightGradientFamilies: Families<WeightGradientKernel> = {
  direct: directWeightGradient,
  tiled: tiledWeightGradient,
};

type Pick<Kernel> = (wanted: Wanted, wish: ConvWish) => Kernel;

/** What chooses among all families: tuned.ts, once the tuner is loaded. */
let tuned: { readonly forward: Pick<ConvKernel>; readonly weightGradient: Pick<WeightGradientKernel> } | undefined;

/**
 * @internal Lets the tuner's choices count. `engine/tune.ts` calls it, so that the bundle of a page without a tuner holds neither trials
 * nor the kernels for matrix units, which only the tuner may choose.
 */
export function setTuned(own: NonNullable<typeof tuned>): void {
  tuned = own;
}

const byDefault = <Kernel>(families: Families<Kernel>, wanted: Wanted): Kernel => {
  const choice = candidatesOf(families, wanted)[0]!;
  return families[choice.kernel]!.kernel(wanted, choice);
};

/** The kernel for a geometry and a wish, forward or, `backwards`, as the input gradient of stride 1. */
export function convKernel(
  gpu: Gpu,
  types: ConvTypes,
  g: ConvGeometry,
  backwards: boolean,
  wish: ConvWish,
): ConvKernel {
  const wanted = { gpu, types, g, backwards };
  return tuned ? tuned.forward(wanted, wish) : byDefault(forwardFamilies, wanted);
}

/** The kernel for the weight gradient of a geometry, and of the bias where the wish says so. */
export function weightGradientKernel(
  gpu: Gpu,
  types: ConvTypes,
  g: ConvGeometry,
  wish: ConvWish,
): WeightGradientKernel {
  const wanted = { gpu, types, g, backwards: false };
  return tuned ? tuned.weightGradient(wanted, wish) : byDefault(weightGradientFamilies, wanted);
}

/** Whether the first pass of a weight gradient writes the gradient itself. */
export const onePass = ({ slices }: WeightGradientKernel, { parameters }: ConvTypes): boolean =>
  slices === 1 && parameters === 'f32';
