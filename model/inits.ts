// Initial values of weights. A fan is the number of inputs that an output adds up, or of outputs that an input goes to; weights are
// [outputs, …kernel, inputs], so a matrix is [outputs, inputs].

import { show } from '../engine/custom.js';
import { normalStream, type Shape, ShapeError } from '../engine/index.js';

/** Initial values of a tensor of this shape: a function that gives one after another, drawn from uniform numbers in [0, 1). */
export type Init = (shape: Shape, uniform: () => number) => () => number;

function fansOf(shape: Shape): { inputs: number; outputs: number } {
  if (shape.length < 2) {
    throw new ShapeError(
      `init: got ${show(shape)}, expected weights [outputs, …kernel, inputs]. Use zeros for a bias.`,
    );
  }
  const taps = shape.slice(1, -1).reduce((a, b) => a * b, 1);
  return { inputs: shape.at(-1)! * taps, outputs: shape[0]! * taps };
}

const normal =
  (std: (fans: { inputs: number; outputs: number }) => number): Init =>
  (shape, uniform) => {
    const [next, factor] = [normalStream(uniform), std(fansOf(shape))];
    return () => next() * factor;
  };

const uniform =
  (std: (fans: { inputs: number; outputs: number }) => number): Init =>
  (shape, next) => {
    const bound = Math.sqrt(3) * std(fansOf(shape));
    return () => (2 * next() - 1) * bound;
  };

const he = ({ inputs }: { inputs: number }): number => Math.sqrt(2 / inputs);
const xavier = ({ inputs, outputs }: { inputs: number; outputs: number }): number => Math.sqrt(2 / (inputs + outputs));

/**
 * Normal with variance 2/inputs, for layers before a ReLU (He et al., ICCV 2015).
 * @example
 * const weight = new Parameters(gpu, 1337).initial('weight', [64, 32], heNormal);
 * console.log(await std(weight).item()); // 0.2448
 */
export const heNormal: Init = /* @__PURE__ */ normal(he);
/**
 * Uniform with variance 2/inputs.
 * @example
 * const weight = new Parameters(gpu, 1337).initial('weight', [64, 32], heUniform);
 * console.log(await max(weight).item()); // 0.4328
 */
export const heUniform: Init = /* @__PURE__ */ uniform(he);
/**
 * Normal with variance 2/(inputs + outputs) (Glorot & Bengio, AISTATS 2010).
 * @example
 * const weight = new Parameters(gpu, 1337).initial('weight', [64, 32], xavierNormal);
 * console.log(await std(weight).item()); // 0.1413
 */
export const xavierNormal: Init = /* @__PURE__ */ normal(xavier);
/**
 * Uniform with variance 2/(inputs + outputs).
 * @example
 * const weight = new Parameters(gpu, 1337).initial('weight', [64, 32], xavierUniform);
 * console.log(await max(weight).item()); // 0.2499
 */
export const xavierUniform: Init = /* @__PURE__ */ uniform(xavier);
/**
 * Normal with mean 0 and standard deviation 1, as PyTorch's embeddings begin.
 * @example
 * const weight = new Parameters(gpu, 1337).initial('weight', [64, 32], standardNormal);
 * console.log(await std(weight).item()); // 0.9792
 */
export const standardNormal: Init = (_, uniform) => normalStream(uniform);
/**
 * All 0.
 * @example
 * const weight = new Parameters(gpu, 1337).initial('weight', [4, 2], zeros);
 * console.log(await max(weight).item()); // 0
 */
export const zeros: Init = () => () => 0;

/**
 * Normal with this standard deviation (0.02 if not given) before it is limited: values beyond two deviations are drawn again.
 * @example
 * const weight = new Parameters(gpu, 1337).initial('weight', [64, 32], truncatedNormal(0.02));
 * console.log(await std(weight).item(), await max(weight).item()); // 0.01726 0.03997
 */
export const truncatedNormal =
  (std = 0.02): Init =>
  (_, uniform) => {
    const next = normalStream(uniform);
    return () => {
      let value = next();
      while (Math.abs(value) > 2) value = next();
      return value * std;
    };
  };
