// Gradients limited by their common norm (Pascanu, Mikolov & Bengio, ICML 2013). Packed parameters take one launch for the sums and one
// for the product.
import { scaleShader } from '../../shaders/optimizer.js';
import { clipFactor, squareSums } from '../../shaders/square-sums.js';
import { checkOptions, showValue } from '../arguments.js';
import { Gradients } from '../autograd.js';
import { placesIn } from '../pack.js';
import { ShapeError, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, viewAt } from '../tensor.js';
import { checkNumber, inLaunches, rowsOf } from './optimizer.js';
import { reduceMiddle } from './reduce.js';

/** Options of `clipGradients`. */
export interface ClipOptions {
  /** Factor that the optimizer gets, too (`createLossScale`): the norm is that of the gradients times it. */
  unscale?: Tensor | undefined;
}

/** Clipped gradients, and their norm before. */
export interface Clipped {
  readonly gradients: Gradients;
  /** f32 []. Not finite where a gradient is not; as the `guard` of the optimizer's step it then keeps the parameters. */
  readonly norm: Tensor;
}

/** Partial sums of a tensor: they begin at multiples of 256 bytes. */
const partsOf = (size: number): number => 64 * Math.ceil(Math.min(size / 16, 4096) / 64);

/**
 * The parameters' gradients times maxNorm/norm where their common L2 norm is larger than `maxNorm`, else unchanged; pass these to the
 * optimizer. Throws a ShapeError that names a parameter without a gradient, and unless maxNorm > 0.
 * @example
 * const w = tensor(gpu, [3, 4], [2], { requiresGrad: true });
 * const { gradients, norm } = clipGradients(backward(sum(mul(w, w))), [w], 1);
 * console.log(await norm.item(), await gradients.get(w).read()); // 10 [0.6, 0.8]
 */
export function clipGradients(
  gradients: Gradients,
  parameters: readonly Tensor[],
  maxNorm: number,
  options: ClipOptions = {},
): Clipped {
  checkOptions('clipGradients', options, ['unscale']);
  if (!(gradients instanceof Gradients)) {
    throw new ShapeError(`clipGradients: got ${showValue(gradients)} — expected what backward(loss) gives.`);
  }
  if (!Array.isArray(parameters) || !parameters.length) {
    throw new ShapeError(`clipGradients: got parameters ${showValue(parameters)} — expected an array of tensors.`);
  }
  if (!(maxNorm > 0)) {
    throw new ShapeError(`clipGradients: maxNorm is ${showValue(maxNorm)} — expected a number above 0.`);
  }
  const { unscale } = options;
  if (unscale) checkNumber('clipGradients', 'unscale', unscale);
  const { rows, packed } = rowsOf('clipGradients', parameters, [], gradients);
  const { gpu } = parameters[0]!;

  const parts = rows.map(([, g]) => partsOf(g!.size));
  const partials = empty(gpu, [parts.reduce((a, b) => a + b)], 'f32', 'clipGradients.partials');
  let at = 0;
  for (const [i, [, g]] of rows.entries()) {
    const count = parts[i]!;
    run(squareSums(count), { x: g!, partials: viewAt(partials, [count], 4 * at) }, { threads: count });
    at += count;
  }
  const sum = reduceMiddle('sum', partials, { outer: 1, count: sizeOf(partials.shape), inner: 1, to: 'f32' });
  const [norm, factor] = [empty(gpu, [], 'f32', 'norm'), empty(gpu, [], 'f32', 'clipGradients.factor')];
  const scalars: Record<string, Tensor> = unscale ? { unscale } : {};
  run(clipFactor(unscale !== undefined), { sum, numbers: [maxNorm], norm, factor, ...scalars }, { threads: 1 });

  const clipped = rows.map(([p, g]) => [empty(gpu, g!.shape, 'f32', `d${p!.label}`), g!]);
  inLaunches('clipGradients', clipped, ['p', 'g'], { factor }, scaleShader);
  const result = new Gradients();
  if (packed) {
    const flat = clipped[0]![0]!;
    placesIn(flat, parameters).forEach((place, i) => {
      result.add(parameters[i]!, place);
    });
    result.packed = new Map([[parameters[0]!.storage, { flat }]]);
  } else {
    parameters.forEach((p, i) => {
      result.add(p, clipped[i]![0]!);
    });
  }
  return { gradients: result, norm };
}
