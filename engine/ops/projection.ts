// A projection head that class separation computes on the way: z = W2·l(W1·f + b1) + b2 with LeakyReLU l, two 1×1 convolutions. Its
// kernels (shaders/projection.ts) hold z of a few pixels at a time; without fusion, and of other widths, it is the convolutions.
import {
  gradientPlaces,
  type ProjectedSizes,
  projectedDistanceBackward,
  projectedDistanceForward,
  projectionGradientGroups,
  projectionGradientSums,
  projectionTable,
  projectionTableThreads,
} from '../../shaders/projected-distance.js';
import { projectedPrototypeSums, projectedSumsPlaces } from '../../shaders/projected-prototypes.js';
import { headPlaces, mostChannels, type ProjectionSizes, projectionGroups } from '../../shaders/projection.js';
import { checkOptions } from '../arguments.js';
import { gradientLike } from '../autograd.js';
import { ShapeError, sameShape, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, viewAt } from '../tensor.js';
import { conv } from './conv/general.js';
import { expectTensors, floatType } from './float-type.js';
import { deferredActivation } from './fusion.js';
import { leakyRelu } from './leaky-relu.js';
import { reshape } from './reshape.js';

/** Weights of a projection head, all f32: z = weight2 · leakyRelu(weight1 · f + bias1, slope) + bias2. */
export interface ProjectionHead {
  /** [hidden, …, inputs], with axes of 1 between as those of a 1×1 convolution. */
  readonly weight1: Tensor;
  /** [hidden]. */
  readonly bias1: Tensor;
  /** [D, …, hidden]. */
  readonly weight2: Tensor;
  /** [D]. */
  readonly bias2: Tensor;
  /** Of LeakyReLU, in [0, 1]. */
  readonly slope: number;
}

/** Widths of a head for features f [..., inputs]; throws a ShapeError unless its weights fit. */
export function headWidths(
  op: string,
  f: Tensor,
  head: ProjectionHead,
): { inputs: number; hidden: number; outputs: number } {
  checkOptions(op, head, ['weight1', 'bias1', 'weight2', 'bias2', 'slope']);
  const { weight1, bias1, weight2, bias2, slope } = head;
  expectTensors(op, f, weight1, bias1, weight2, bias2);
  const [inputs, hidden, outputs] = [f.shape.at(-1) ?? 0, weight1.shape[0] ?? 0, weight2.shape[0] ?? 0];
  const isMatrix = ({ shape, size }: Tensor, rows: number, columns: number): boolean =>
    shape.length > 1 && shape[0] === rows && shape.at(-1) === columns && size === rows * columns;
  const fits =
    [weight1, bias1, weight2, bias2].every(({ dtype }) => dtype === 'f32') &&
    isMatrix(weight1, hidden, inputs) &&
    isMatrix(weight2, outputs, hidden) &&
    sameShape(bias1.shape, [hidden]) &&
    sameShape(bias2.shape, [outputs]);
  if (!fits) {
    const got = Object.entries({ weight1, bias1, weight2, bias2 }).map(
      ([name, t]) => `${name} ${t.dtype} ${show(t.shape)}`,
    );
    throw new ShapeError(
      `${op}: got a projection of ${got.join(', ')} for features ${show(f.shape)} — expected f32 [hidden, …1, inputs], [hidden], [D, …1, hidden], [D].`,
    );
  }
  if (!(slope >= 0 && slope <= 1))
    throw new ShapeError(`${op}: the projection's slope must be in [0, 1] — got ${slope}.`);
  return { inputs, hidden, outputs };
}

/** Bytes of z from which drivers for CPUs compute the head on the way, too. It takes them longer than the convolutions do. */
const muchForCpu = 2 ** 26;

/** Sizes for the kernels that compute the head on the way; undefined where the convolutions are to do it. */
export function headSizes(op: string, f: Tensor, head: ProjectionHead): ProjectionSizes | undefined {
  const dtype = floatType(op, f);
  const { inputs, hidden, outputs } = headWidths(op, f, head);
  const { fuse } = f.gpu.flags;
  const fits = (n: number, most: number): boolean => n % 4 === 0 && n <= most;
  const most = mostChannels;
  const isFit = fits(inputs, most.inputs) && fits(hidden, most.hidden) && fits(outputs, most.outputs);
  const pixels = f.size / inputs;
  if (!fuse || !isFit || (f.gpu.adapter.software && 4 * pixels * outputs < muchForCpu)) return undefined;
  const sizes = { dtype, pixels, inputs, hidden, outputs, slope: head.slope };
  return { ...sizes, onLoad: undefined, items: f.shape[0]! };
}

/** z [..., D] of f [..., inputs], by convolutions. */
export function project(f: Tensor, { weight1, bias1, weight2, bias2, slope }: ProjectionHead): Tensor {
  const isImage = f.shape.length === 4 || f.shape.length === 5;
  const x = isImage ? f : reshape(f, [1, 1, f.size / f.shape.at(-1)!, f.shape.at(-1)!]);
  const kernel = (w: Tensor): Tensor => {
    const shape = [w.shape[0]!, ...x.shape.slice(1, -1).map(() => 1), w.shape.at(-1)!];
    return sameShape(w.shape, shape) ? w : reshape(w, shape);
  };
  const z = conv(leakyRelu(conv(x, kernel(weight1), bias1), slope), kernel(weight2), bias2);
  return isImage ? z : reshape(z, [...f.shape.slice(0, -1), z.shape.at(-1)!]);
}

/** How a launch gets f now, and what it binds: f itself, or what it is the deferred activation of. */
function loaded(head: ProjectionSizes, f: Tensor): { head: ProjectionSizes; bound: Record<string, Tensor> } {
  const deferred = deferredActivation(f);
  return {
    head: { ...head, onLoad: deferred?.activation },
    bound: deferred ? { f: deferred.z, coefficients: deferred.coefficients } : { f },
  };
}

/** The partial sums of a distance, and what its value and its gradient need. */
export interface SummedDistance {
  readonly partials: Tensor;
  readonly rows: number;
  /** [2, K], to be written: the factors of the gradient. */
  readonly factors: Tensor;
  /** What has a gradient. */
  readonly inputs: readonly Tensor[];
  /** Records the gradients of the inputs. */
  backward(dloss: Tensor): Tensor[];
}

/** Records the partial sums of the distance of projected features. */
export function projectedDistance(
  sizes: ProjectedSizes,
  f: Tensor,
  head: ProjectionHead,
  inputs: { vectors: Tensor; counts: Tensor; classes: Tensor; mask?: Tensor },
): SummedDistance {
  const { gpu } = f;
  const { weight1, bias1, weight2, bias2 } = head;
  const { vectors, counts, ...perPixel } = inputs;
  const places = headPlaces(sizes.head, sizes.classes);
  const rows = projectionGroups(sizes.head);
  const table = empty(gpu, [4 * places.end], 'f32', 'projection.table');
  const ofTable = { weight1, bias1, weight2, bias2, vectors, counts, table };
  const threads = projectionTableThreads(sizes.head, sizes.classes);
  run(projectionTable(sizes.head, sizes.classes), ofTable, { threads });
  const partials = empty(gpu, [rows, 2 * sizes.classes], 'f32', 'prototypeDistance.partials');
  const { bound, head: now } = loaded(sizes.head, f);
  const forward = projectedDistanceForward({ ...sizes, head: now });
  run(forward, { ...bound, table, ...perPixel, partials }, { workgroups: [rows] });
  return {
    ...{ partials, rows, inputs: [f, weight1, bias1, weight2, bias2] },
    factors: viewAt(table, [2, sizes.classes], 16 * places.factors),
    backward: (dloss) => {
      const { bound, head: now } = loaded(sizes.head, f);
      const df = empty(gpu, f.shape, f.dtype, 'dProjected');
      const sums = empty(gpu, [rows, gradientPlaces(sizes.head).end], 'f32', 'projection.partials');
      run(
        projectedDistanceBackward({ ...sizes, head: now }),
        { ...bound, table, ...perPixel, dloss, df, partials: sums },
        { workgroups: [rows] },
      );
      const [dWeight1, dBias1, dWeight2, dBias2] = [weight1, bias1, weight2, bias2].map(gradientLike) as [
        Tensor,
        Tensor,
        Tensor,
        Tensor,
      ];
      run(
        projectionGradientSums(sizes.head),
        { partials: sums, dWeight1, dBias1, dWeight2, dBias2 },
        { workgroups: [projectionGradientGroups(sizes.head)] },
      );
      return [df, dWeight1, dBias1, dWeight2, dBias2];
    },
  };
}

/** Records the sums of Σ w h and Σ w by class: tensors for `prototypeUpdate`, and the number of their chunks. */
export function projectedSums(
  sizes: ProjectionSizes,
  f: Tensor,
  { weight1, bias1 }: ProjectionHead,
  of: { weights: Tensor; classes: Tensor; unlabeledWeight: Tensor; labeledPixels: number; count: number },
): { partials: Tensor; partialWeights: Tensor; chunks: number } {
  const chunks = projectionGroups(sizes);
  const places = projectedSumsPlaces(sizes, of.count);
  const all = empty(f.gpu, [places.end], 'f32', 'prototypeSums');
  const { bound, head } = loaded(sizes, f);
  run(
    projectedPrototypeSums(head, of.count, of.labeledPixels),
    {
      ...{ ...bound, weight1, bias1, weights: of.weights, classes: of.classes },
      ...{ unlabeled_weight: of.unlabeledWeight, partials: all },
    },
    { workgroups: [chunks] },
  );
  return {
    chunks,
    partials: viewAt(all, [chunks, of.count * sizes.hidden], 0),
    partialWeights: viewAt(all, [chunks, of.count], 4 * places.weights),
  };
}
