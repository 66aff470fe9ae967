// The sum of two deferred activations, in one launch that reads what both are made of. The ops that defer an activation bring it along
// (`ActivationOf.addTo`), so that a program which only adds carries no norms.
import { addActivationsShader, addActivationsThreads } from '../../shaders/add-activations.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import type { ActivationOf } from './fusion.js';

/** a + b of one shape [N, …, C] and one dtype, f32 or f16; both deferred, with different z. */
export function addActivations(a: Tensor, b: Tensor, ofA: ActivationOf, ofB: ActivationOf): Tensor {
  const dtype = floatType('add', a, b);
  const y = empty(a.gpu, a.shape, dtype, 'add');
  const sizes = { size: a.size, items: a.shape[0]!, channels: a.shape.at(-1)! };
  run(
    addActivationsShader(dtype, sizes, ofA.activation, ofB.activation),
    { za: ofA.z, coefficients_a: ofA.coefficients, zb: ofB.z, coefficients_b: ofB.coefficients, y },
    { threads: addActivationsThreads(sizes) },
  );
  return y;
}
