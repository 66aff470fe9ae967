// Class prototypes: their update from the teacher's features, and the loss that pulls low-confidence features to them
// (Gao & Yu 2023, class separation; formulas in shaders/prototypes.ts).

import {
  distanceWalk,
  prototypeDistanceBackward,
  prototypeDistanceForward,
  prototypeDistanceValue,
} from '../../shaders/prototype-distance.js';
import type { DistanceSizes, SeparationKind } from '../../shaders/prototype-scores.js';
import type { PrototypeSizes } from '../../shaders/prototype-sizes.js';
import {
  prototypeChunks,
  prototypeCosinesShader,
  prototypeSums,
  prototypeUpdate,
  prototypeWeights,
  pseudoClassesShader,
} from '../../shaders/prototypes.js';
import { checkOptions } from '../arguments.js';
import { noGrad, record } from '../autograd.js';
import type { Gpu } from '../device.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { pixelSizes } from './labeled-pixels.js';
import {
  headSizes,
  type ProjectionHead,
  project,
  projectedDistance,
  projectedSums,
  type SummedDistance,
} from './projection.js';

/** State of the prototypes: vectors [K, D] and how many updates each class had [K]. */
export interface Prototypes {
  readonly vectors: Tensor;
  readonly counts: Tensor;
}

/**
 * Prototypes of classes that were never seen.
 * @example
 * const { vectors, counts } = createPrototypes(gpu, 4, 16);
 * console.log(vectors.shape, counts.shape); // [4, 16] [4]
 */
export const createPrototypes = (gpu: Gpu, classes: number, width: number): Prototypes => ({
  vectors: tensor(gpu, 0, [classes, width], { label: 'prototypes.vectors' }),
  counts: tensor(gpu, 0, [classes], { label: 'prototypes.counts' }),
});

function prototypeSizes(
  op: string,
  z: Tensor,
  { vectors, counts }: Prototypes,
  projection: ProjectionHead | undefined,
): PrototypeSizes {
  const [classes = 0, width = 0] = vectors.shape;
  const features = z.shape.at(-1)!;
  if ((projection ? projection.weight2.shape[0] : features) !== width || counts.size !== classes || classes > 16) {
    throw new ShapeError(
      `${op}: got features ${show(z.shape)}, vectors ${show(vectors.shape)}, counts ${show(counts.shape)} — expected [..., D], [K, D], [K] with K ≤ 16.`,
    );
  }
  return { dtype: floatType(op, z), pixels: z.size / features, classes, width };
}

/**
 * The teacher's class of every pixel, u8 [...]; the true label on the first `labeledPixels`. Teacher logits [..., K].
 * @example
 * const labels = tensor(gpu, [0, 0], [2], { dtype: 'u8' }); // the first pixel is labelled, the teacher decides the second
 * console.log(await pseudoClasses(tensor(gpu, [[0, 9], [0, 9]]), labels, 1).read()); // [0, 1]
 */
export function pseudoClasses(teacherLogits: Tensor, labels: Tensor, labeledPixels: number): Tensor<'u8'> {
  const { dtype, pixels, classes } = pixelSizes('pseudoClasses', teacherLogits, { labels });
  const out = empty(labels.gpu, labels.shape, 'u8', 'pseudoClasses');
  const shader = pseudoClassesShader(dtype, pixels, classes, labeledPixels);
  run(shader, { teacher: teacherLogits, labels, classes: out }, { threads: Math.ceil(pixels / 4) });
  return out;
}

interface AnyUpdate {
  /** Teacher features [..., D], or what `projection` makes such features of. */
  features: Tensor;
  /** Computes the features on the way. Its weights are constants here. */
  projection?: ProjectionHead | undefined;
  labeledPixels: number;
  /** ρ, one number: weight of unlabelled pixels. */
  unlabeledWeight: Tensor;
  /** Upper bound of the moving average's momentum. */
  momentum: number;
}

/** Reliable pixels are found from the teacher's logits. */
export interface PrototypeUpdate extends AnyUpdate {
  /** Teacher logits [..., K]. */
  teacherLogits: Tensor;
  /** u8 [...]; only the first `labeledPixels` are looked at. */
  labels: Tensor;
  /** τ, one number or [K], one for each class: unlabelled pixels of at least this confidence count. */
  threshold: Tensor;
  /** Gives reliable pixels the weight 1 instead of the teacher's confidence. Default false. */
  hard?: boolean;
}

/** Reliable pixels are those of `meanTeacherLoss`. */
export interface WeightedPrototypeUpdate extends AnyUpdate {
  /** f32 [...]: weight of a pixel, before ρ; 0 where it is not reliable. */
  weights: Tensor;
  /** u8 [...]: the class of every pixel with a weight above 0. */
  classes: Tensor;
}

const updateOptions = [
  ...['features', 'projection', 'labeledPixels', 'unlabeledWeight', 'momentum'],
  ...['teacherLogits', 'labels', 'threshold', 'hard', 'weights', 'classes'],
];

/**
 * Moves the prototypes in place towards the mean features of the reliable pixels of their class. No gradient.
 * @example
 * const prototypes = createPrototypes(gpu, 2, 2);
 * const [weights, classes] = [tensor(gpu, [1, 1]), tensor(gpu, [0, 1], [2], { dtype: 'u8' })];
 * const [unlabeledWeight, features] = [tensor(gpu, 0), tensor(gpu, [[1, 0], [0, 1]])];
 * updatePrototypes(prototypes, { features, labeledPixels: 2, unlabeledWeight, momentum: 0, weights, classes });
 * console.log(await prototypes.vectors.read()); // [1, 0, 0, 1]
 */
export function updatePrototypes(prototypes: Prototypes, update: PrototypeUpdate | WeightedPrototypeUpdate): void {
  checkOptions('updatePrototypes', update, updateOptions);
  const { features, projection, labeledPixels, unlabeledWeight, momentum } = update;
  const { gpu } = features;
  const sizes = prototypeSizes('updatePrototypes', features, prototypes, projection);
  const { pixels, classes, width } = sizes;
  const head = projection && headSizes('updatePrototypes', features, projection);
  const { weights, classes: own } = 'weights' in update ? update : reliablePixels(sizes, update);
  if (weights.dtype !== 'f32' || weights.size !== pixels || own.dtype !== 'u8' || own.size !== pixels) {
    throw new ShapeError(
      `updatePrototypes: got weights ${weights.dtype} ${show(weights.shape)}, classes ${own.dtype} ${show(own.shape)} — expected f32 and u8 ${show(features.shape.slice(0, -1))}.`,
    );
  }
  const { vectors, counts } = prototypes;
  if (projection && head) {
    const of = { weights, classes: own, unlabeledWeight, labeledPixels, count: classes };
    const { partials, partialWeights, chunks } = projectedSums(head, features, projection, of);
    const { weight2, bias2 } = projection;
    run(
      prototypeUpdate(sizes, momentum, { chunks, hidden: head.hidden }),
      { partials, partial_weights: partialWeights, vectors, counts, weight2, bias2 },
      { workgroups: [classes] },
    );
    return;
  }
  const z = projection ? noGrad(gpu, () => project(features, projection)) : features;
  const chunks = prototypeChunks(pixels);
  const partials = empty(gpu, [chunks, classes * width], 'f32', 'prototypeSums');
  const partialWeights = empty(gpu, [chunks, classes], 'f32', 'prototypeSums');
  run(
    prototypeSums(sizes, labeledPixels),
    {
      features: z,
      weights,
      classes: own,
      unlabeled_weight: unlabeledWeight,
      partials,
      partial_weights: partialWeights,
    },
    { threads: chunks * (width % 4 === 0 ? width / 4 : width) },
  );
  run(
    prototypeUpdate(sizes, momentum),
    { partials, partial_weights: partialWeights, vectors, counts },
    { workgroups: [classes] },
  );
}

/** The weight (before ρ) and the class of every pixel, from the teacher's logits. */
function reliablePixels(
  sizes: PrototypeSizes,
  { features, teacherLogits, labels, labeledPixels, threshold, hard = false }: PrototypeUpdate,
): { weights: Tensor; classes: Tensor } {
  const { gpu } = features;
  const of = pixelSizes('updatePrototypes', teacherLogits, { labels });
  if (of.classes !== sizes.classes || labels.size !== sizes.pixels) {
    throw new ShapeError(
      `updatePrototypes: teacher logits ${show(teacherLogits.shape)} do not match features ${show(features.shape)}.`,
    );
  }
  if (threshold.dtype !== 'f32' || (threshold.size !== 1 && threshold.size !== sizes.classes)) {
    throw new ShapeError(
      `updatePrototypes: got threshold ${threshold.dtype} ${show(threshold.shape)}, expected one f32 number, or ${sizes.classes} of them.`,
    );
  }
  const weights = empty(gpu, [sizes.pixels], 'f32', 'prototypeWeights');
  const classes = empty(gpu, labels.shape, 'u8', 'prototypeClasses');
  run(
    prototypeWeights({ ...of, hard, perClass: threshold.size > 1 }, labeledPixels),
    { teacher: teacherLogits, labels, threshold, weights, classes },
    { threads: Math.ceil(sizes.pixels / 4) },
  );
  return { weights, classes };
}

/**
 * Cosines between prototypes [K, K], K ≤ 16; 0 for classes never seen.
 * @example
 * console.log(prototypeCosines(createPrototypes(gpu, 4, 16)).shape); // [4, 4]
 */
export function prototypeCosines({ vectors, counts }: Prototypes): Tensor {
  const [classes = 0, width = 0] = vectors.shape;
  if (classes > 16 || counts.size !== classes) {
    throw new ShapeError(
      `prototypeCosines: got vectors ${show(vectors.shape)}, counts ${show(counts.shape)} — expected [K, D], [K] with K ≤ 16.`,
    );
  }
  const cosines = empty(vectors.gpu, [classes, classes], 'f32', 'prototypeCosines');
  run(prototypeCosinesShader(classes, width), { vectors, counts, cosines }, { threads: classes * classes });
  return cosines;
}

/** Options of class separation. */
export interface SeparationOptions {
  /** pull: 1 − cos to the own prototype; proto-ce: cross-entropy over cosines/T; distance: over −‖z − μ‖². */
  kind: SeparationKind;
  /** T of proto-ce, above 0. Default 0.1. */
  temperature?: number;
  /**
   * A head that makes the features: z in `prototypeDistance(z, …)` is then what it is applied to, and its weights have a gradient, too.
   * Widths that are multiples of four, at most 64 → 32 → 32, are computed on the way and stored nowhere.
   */
  projection?: ProjectionHead | undefined;
}

/** The loss to which a separation is added: total = loss + weight · factor · separation. */
export interface AddedTo {
  loss: Tensor;
  /** λ, one number. */
  weight: Tensor;
  /** β. */
  factor: number;
}

/**
 * Class separation of features z [..., D]: the loss [] over pixels with `mask` 1 (u8 [...]; undefined: all) whose class
 * (`classes`, u8 [...]) has a prototype. The gradient goes to z only. If no pixel counts, loss and gradient are 0.
 * @example
 * const prototypes = createPrototypes(gpu, 2, 2);
 * const z = tensor(gpu, [[1, 0], [0, 1]]);
 * const classes = tensor(gpu, [0, 1], [2], { dtype: 'u8' });
 * const [unlabeledWeight, weights] = [tensor(gpu, 0), tensor(gpu, [1, 1])];
 * updatePrototypes(prototypes, { features: z, labeledPixels: 2, unlabeledWeight, momentum: 0, weights, classes });
 * console.log((await prototypeDistance(z, prototypes, classes, undefined, { kind: 'pull' }).item()).toFixed(3)); // 0.000
 */
export function prototypeDistance(
  z: Tensor,
  prototypes: Prototypes,
  classes: Tensor,
  mask: Tensor | undefined,
  options: SeparationOptions,
): Tensor {
  return distance('prototypeDistance', z, prototypes, classes, mask, options).separation;
}

/**
 * `prototypeDistance`, and its sum with another loss without a launch for the sum. The `separation` [] is for the log; the gradient
 * of the `total` [] goes to z and to the other loss.
 * @example
 * const onto = { loss: tensor(gpu, 2), weight: tensor(gpu, 1), factor: 1 };
 * const [z, classes] = [tensor(gpu, [[1, 0]]), tensor(gpu, [0], [1], { dtype: 'u8' })];
 * const { total } = addPrototypeDistance(onto, z, createPrototypes(gpu, 2, 2), classes, undefined, { kind: 'pull' });
 * console.log(await total.item()); // 2
 */
export function addPrototypeDistance(
  onto: AddedTo,
  z: Tensor,
  prototypes: Prototypes,
  classes: Tensor,
  mask: Tensor | undefined,
  options: SeparationOptions,
): { total: Tensor; separation: Tensor } {
  for (const [name, t] of Object.entries({ loss: onto.loss, weight: onto.weight })) {
    if (t.dtype !== 'f32' || t.size !== 1) {
      throw new ShapeError(`addPrototypeDistance: got ${name} ${t.dtype} ${show(t.shape)}, expected one f32 number.`);
    }
  }
  const { separation, total } = distance('addPrototypeDistance', z, prototypes, classes, mask, options, onto);
  return { separation, total: total! };
}

function distance(
  op: string,
  f: Tensor,
  prototypes: Prototypes,
  classes: Tensor,
  mask: Tensor | undefined,
  options: SeparationOptions,
  onto?: AddedTo,
): { separation: Tensor; total: Tensor | undefined } {
  checkOptions(op, options, ['kind', 'temperature', 'projection']);
  const { kind, temperature = 0.1, projection } = options;
  const { gpu } = f;
  const masked = mask !== undefined;
  const sizes: DistanceSizes = { ...prototypeSizes(op, f, prototypes, projection), kind, temperature, masked };
  for (const [name, t] of Object.entries({ classes, ...(mask && { mask }) })) {
    if (t.dtype !== 'u8' || t.size !== sizes.pixels) {
      throw new ShapeError(
        `${op}: got ${name} ${t.dtype} ${show(t.shape)} — expected u8 ${show(f.shape.slice(0, -1))}.`,
      );
    }
  }
  const { vectors, counts } = prototypes;
  const head = projection && headSizes(op, f, projection);
  const perPixel = { classes, ...(mask && { mask }) };
  const summed =
    projection && head
      ? projectedDistance({ head, kind, temperature, classes: sizes.classes, masked }, f, projection, {
          ...{ vectors, counts },
          ...perPixel,
        })
      : plainDistance(op, sizes, projection ? project(f, projection) : f, { vectors, counts, ...perPixel });
  const { partials, rows, factors, inputs } = summed;
  const separation = empty(gpu, [], 'f32', 'separation');
  const total = onto && empty(gpu, onto.loss.shape, 'f32', op);
  run(
    prototypeDistanceValue(sizes, onto, { rows }),
    {
      ...{ partials, vectors, loss: separation, factors },
      ...(onto && total && { base: onto.loss, weight: onto.weight, total_loss: total }),
    },
    { workgroups: [1] },
  );

  record(op, total ?? separation, onto ? [...inputs, onto.loss] : inputs, (dloss) => {
    const gradients = summed.backward(dloss);
    return onto ? [...gradients, dloss] : gradients;
  });
  return { separation, total };
}

function plainDistance(
  op: string,
  sizes: DistanceSizes,
  z: Tensor,
  others: { vectors: Tensor; counts: Tensor; classes: Tensor; mask?: Tensor },
): SummedDistance {
  const { gpu } = z;
  const { rows, threads } = distanceWalk(sizes);
  const partials = empty(gpu, [rows, 2 * sizes.classes], 'f32', `${op}.partials`);
  const inputs = { z, ...others };
  run(prototypeDistanceForward(sizes), { ...inputs, partials }, { threads });
  const factors = empty(gpu, [2, sizes.classes], 'f32', `${op}.factors`);
  return {
    ...{ partials, rows, factors, inputs: [z] },
    backward: (dloss) => {
      const dz = empty(gpu, z.shape, z.dtype, 'dz');
      run(prototypeDistanceBackward(sizes), { ...inputs, factors, dloss, dz }, { threads: sizes.pixels });
      return [dz];
    },
  };
}
