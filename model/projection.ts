// The projection head of class separation: two 1×1 convolutions, D → hidden → out. Raw decoder features are mostly
// non-negative, so their cosines start high; a linear output can spread over the whole sphere.
import { type Gpu, leakyRelu, type Tensor } from '../engine/index.js';
import type { ProjectionHead } from '../engine/method.js';
import { convLayer } from './layers.js';
import { type Module, moduleOf, Parameters } from './module.js';

export interface Projection extends Module {
  /** Projected features [N, …, outputs] of x [N, …, inputs]. */
  (x: Tensor): Tensor;
  /** Its weights, for `prototypeDistance` and `updatePrototypes`, which apply it on the way. */
  readonly head: ProjectionHead;
}

/**
 * A projection head with random weights, for images of `rank` axes (default 2).
 * @example
 * const head = projection(gpu, { inputs: 16, outputs: 8 });
 * console.log(head(tensor(gpu, new Float32Array(64), [1, 2, 2, 16])).shape); // [1, 2, 2, 8]
 */
export function projection(
  gpu: Gpu,
  options: { inputs: number; hidden?: number; outputs?: number; seed?: number; rank?: 2 | 3 },
): Projection {
  const { inputs, hidden = 32, outputs = 32, seed = 1337, rank = 2 } = options;
  const parameters = new Parameters(gpu, seed);
  const first = convLayer(parameters.in('projection').in('0'), inputs, hidden, 1, { rank });
  const second = convLayer(parameters.in('projection').in('2'), hidden, outputs, 1, { rank });
  const slope = 0.01;
  const module = moduleOf(parameters);
  const [weight1, bias1, weight2, bias2] = module.parameters as [Tensor, Tensor, Tensor, Tensor];
  const apply = (x: Tensor): Tensor => second(leakyRelu(first(x), slope));
  return Object.assign(apply, module, { head: { weight1, bias1, weight2, bias2, slope } });
}
