// Layer norm and group norm: statistics of each item's channels, or of groups of them. They need no batch, so training and evaluation
// are the same.
import {
  type LayerNormSizes,
  layerNormBackward,
  layerNormForward,
  layerNormParameters,
  layerNormTotals,
  parameterChunks,
  parameterThreads,
  setsGrid,
} from '../../shaders/layer-norm.js';
import { checkOptions, showValue } from '../arguments.js';
import { gradientLike, record } from '../autograd.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';

function checked(op: string, x: Tensor, gamma: Tensor, beta: Tensor, options: { epsilon?: number }): number {
  expectTensors(op, x, gamma, beta);
  checkOptions(op, options, ['epsilon']);
  const { epsilon = 1e-5 } = options;
  if (!(epsilon > 0)) throw new ShapeError(`${op}: epsilon is ${showValue(epsilon)} — expected a number above 0.`);
  const channels = x.shape.at(-1);
  for (const [name, t] of Object.entries({ gamma, beta })) {
    if (channels === undefined || t.size !== channels || t.dtype !== 'f32') {
      throw new ShapeError(
        `${op}: x ${show(x.shape)} and ${name} ${t.dtype} ${show(t.shape)} do not match — expected x [..., C] and ${name} f32 [C].`,
      );
    }
  }
  return epsilon;
}

function normalizeSets(
  op: string,
  [x, gamma, beta]: readonly [Tensor, Tensor, Tensor],
  sizes: LayerNormSizes,
  epsilon: number,
): Tensor {
  const { gpu } = x;
  const y = empty(gpu, x.shape, x.dtype, op);
  const statistics = empty(gpu, [sizes.items * sizes.groups, 2], 'f32', `${op}.statistics`);
  run(layerNormForward(sizes, epsilon), { x, gamma, beta, y, statistics }, setsGrid(sizes));

  return record(op, y, [x, gamma, beta], (dy, [needsX, ...needs]) => {
    const dx = needsX ? empty(gpu, x.shape, x.dtype, `d${op}`) : undefined;
    if (dx) run(layerNormBackward(sizes), { x, dy, gamma, statistics, dx }, setsGrid(sizes));
    if (!needs.some(Boolean)) return [dx];
    const chunks = parameterChunks(sizes);
    const partials = empty(gpu, [chunks, 2, sizes.channels], 'f32', `${op}.partials`);
    run(layerNormParameters(sizes), { x, dy, statistics, partials }, { threads: parameterThreads(sizes) });
    const [dgamma, dbeta] = [gradientLike(gamma), gradientLike(beta)];
    run(layerNormTotals(sizes.channels, chunks), { partials, dgamma, dbeta }, { threads: sizes.channels });
    return [dx, dgamma, dbeta];
  });
}

/**
 * Layer normalisation of x [..., C], f32 or f16, over the last axis (Ba, Kiros & Hinton 2016): γ (x − μ)/√(σ² + ε) + β with the mean
 * and the biased variance of each row. γ, β f32 [C]; ε 1e-5 if not given. Statistics are f32. Throws a ShapeError for other shapes and
 * types.
 * @example
 * const [gamma, beta] = [tensor(gpu, [1, 1]), tensor(gpu, [0, 0])];
 * console.log(await layerNorm(tensor(gpu, [[1, 3], [10, 30]]), gamma, beta).read()); // [-1, 1, -1, 1]
 */
export function layerNorm(x: Tensor, gamma: Tensor, beta: Tensor, options: { epsilon?: number } = {}): Tensor {
  const epsilon = checked('layerNorm', x, gamma, beta, options);
  const channels = gamma.size;
  const sizes = { dtype: floatType('layerNorm', x), items: x.size / channels, pixels: 1, channels, groups: 1 };
  return normalizeSets('layerNorm', [x, gamma, beta], sizes, epsilon);
}

/**
 * Group normalisation of x [N, ..., C], f32 or f16, in `groups` of C/groups neighbouring channels (Wu & He 2018): each item and group
 * has the mean and the biased variance of its pixels and channels. γ, β f32 [C]; ε 1e-5 if not given. Statistics are f32. Throws a
 * ShapeError for other shapes and types, and unless `groups` divides C.
 * @example
 * const [gamma, beta] = [tensor(gpu, 1, [4]), tensor(gpu, 0, [4])];
 * console.log(await groupNorm(tensor(gpu, [[1, 3, 10, 30]]), 2, gamma, beta).read()); // [-1, 1, -1, 1]
 */
export function groupNorm(
  x: Tensor,
  groups: number,
  gamma: Tensor,
  beta: Tensor,
  options: { epsilon?: number } = {},
): Tensor {
  const epsilon = checked('groupNorm', x, gamma, beta, options);
  const channels = gamma.size;
  if (x.shape.length < 2 || !Number.isInteger(groups) || groups < 1 || channels % groups) {
    throw new ShapeError(
      `groupNorm: got x ${show(x.shape)} in ${showValue(groups)} groups, expected [N, ..., C] and a number that divides C.`,
    );
  }
  const items = x.shape[0]!;
  const sizes = { dtype: floatType('groupNorm', x), items, pixels: x.size / channels / items, channels, groups };
  return normalizeSets('groupNorm', [x, gamma, beta], sizes, epsilon);
}
