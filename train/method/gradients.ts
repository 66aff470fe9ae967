// How much each term of the loss has to say: the norm of its gradient with respect to the student's parameters, and where it points.
import {
  add,
  backward,
  concat,
  div,
  mul,
  noGrad,
  reshape,
  sqrt,
  square,
  sum,
  type Tensor,
} from '../../engine/index.js';
import type { Config } from '../settings/settings.js';
import { partsOf } from './methods.js';

/** The terms of a loss, each as it enters the sum: with its weights. */
export interface LossTerms {
  readonly supervised: Tensor;
  /** λ · consistency. */
  readonly consistency?: Tensor | undefined;
  /** λ · β · separation. */
  readonly separation?: Tensor | undefined;
}

/** The terms of a method that are not supervised. */
function unsupervisedOf(config: Config): ('consistency' | 'separation')[] {
  const { consistency, separation } = partsOf(config);
  return [...(consistency ? (['consistency'] as const) : []), ...(separation ? (['separation'] as const) : [])];
}

/**
 * The names of `gradientShares`, in order.
 * @example
 * console.log(gradientNames(resolveConfig({ method: 'mt' }))); // [supervised, consistency, consistencyCosine]
 */
export const gradientNames = (config: Config): string[] => {
  const names = unsupervisedOf(config);
  return ['supervised', ...names, ...names.map((name) => `${name}Cosine`)];
};

/**
 * One number for each of `gradientNames`: the norm ‖g‖ of each term's gradient g with respect to the parameters, then for each that is
 * not supervised the cosine g·s / (‖g‖ ‖s‖) with the supervised gradient s, 0 where one of the two is 0. `scale`, one number, is what
 * losses are multiplied by to keep small gradients; norms are without it.
 */
export function gradientShares(
  config: Config,
  parameters: readonly Tensor[],
  terms: LossTerms,
  scale: Tensor | undefined,
): Tensor {
  const { gpu } = terms.supervised;
  const gradientOf = (term: Tensor): Tensor => {
    const gradients = backward(term, scale);
    return concat(
      parameters.map((p) => reshape(gradients.get(p) ?? mul(p, 0), [p.size])),
      0,
    );
  };
  return noGrad(gpu, () => {
    const of = (term: Tensor) => {
      const g = gradientOf(term);
      return { g, norm: sqrt(sum(square(g))) };
    };
    const supervised = of(terms.supervised);
    const others = unsupervisedOf(config).map((name) => of(terms[name]!));
    const norms = [supervised, ...others].map(({ norm }) => (scale ? div(norm, scale) : norm));
    const cosines = others.map(({ g, norm }) => div(sum(mul(g, supervised.g)), add(mul(norm, supervised.norm), 1e-30)));
    return concat(
      [...norms, ...cosines].map((x) => reshape(x, [1])),
      0,
    );
  });
}
