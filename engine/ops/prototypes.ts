// Class prototypes: their update from the teacher's features, and the loss that draws low-confidence features to them
// (Gao & Yu 2023, class separation; formulas in shaders/prototypes.ts).
import { partialThreads } from '../../shaders/classes.js';
import {
  type PrototypeSizes,
  prototypeChunks,
  prototypeCosinesShader,
  prototypeDistanceBackward,
  prototypeDistanceForward,
  prototypeDistanceValue,
  prototypeSums,
  prototypeUnits,
  prototypeUpdate,
  prototypeWeights,
  pseudoClassesShader,
  type SeparationKind,
} from '../../shaders/prototypes.js';
import { noGrad, record } from '../autograd.js';
import type { Gpu } from '../device.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { floatType } from './float-type.js';
import { pixelSizes } from './labeled-pixels.js';
import { sum } from './reduce.js';

/** State of the prototypes: vectors [K, D] and how many updates each class had [K]. */
export interface Prototypes {
  readonly vectors: Tensor;
  readonly counts: Tensor;
}

/** Prototypes of classes that were never seen. */
export const createPrototypes = (gpu: Gpu, classes: number, width: number): Prototypes => ({
  vectors: tensor(gpu, 0, [classes, width], { label: 'prototypes.vectors' }),
  counts: tensor(gpu, 0, [classes], { label: 'prototypes.counts' }),
});

function prototypeSizes(op: string, z: Tensor, { vectors, counts }: Prototypes): PrototypeSizes {
  const [classes = 0, width = 0] = vectors.shape;
  if (z.shape.at(-1) !== width || counts.size !== classes || classes > 16) {
    throw new ShapeError(
      `${op}: got features ${show(z.shape)}, vectors ${show(vectors.shape)}, counts ${show(counts.shape)} — expected [..., D], [K, D], [K] with K ≤ 16.`,
    );
  }
  return { dtype: floatType(op, z), pixels: z.size / width, classes, width };
}

/** The teacher's class of every pixel, u8 [...]; the true label on the first `labeledPixels`. Teacher logits [..., K]. */
export function pseudoClasses(teacherLogits: Tensor, labels: Tensor, labeledPixels: number): Tensor {
  const { dtype, pixels, classes } = pixelSizes('pseudoClasses', teacherLogits, { labels });
  const out = empty(labels.gpu, labels.shape, 'u8', 'pseudoClasses');
  const shader = pseudoClassesShader(dtype, pixels, classes, labeledPixels);
  run(shader, { teacher: teacherLogits, labels, classes: out }, { threads: Math.ceil(pixels / 4) });
  return out;
}

export interface PrototypeUpdate {
  /** Teacher features [..., D]. */
  features: Tensor;
  /** Teacher logits [..., K]. */
  teacherLogits: Tensor;
  /** u8 [...]; only the first `labeledPixels` are looked at. */
  labels: Tensor;
  labeledPixels: number;
  /** τ, one number: unlabelled pixels of at least this confidence count. */
  threshold: Tensor;
  /** ρ, one number: weight of unlabelled pixels. */
  unlabeledWeight: Tensor;
  /** Upper bound of the moving average's momentum. */
  momentum: number;
}

/** Moves the prototypes, in place, towards the mean features of reliable pixels of their class. No gradient. */
export function updatePrototypes(prototypes: Prototypes, update: PrototypeUpdate): void {
  const { features, teacherLogits, labels, labeledPixels, threshold, unlabeledWeight, momentum } = update;
  const { gpu } = features;
  const sizes = prototypeSizes('updatePrototypes', features, prototypes);
  const { pixels, classes, width } = sizes;
  if (pixelSizes('updatePrototypes', teacherLogits, { labels }).classes !== classes || labels.size !== pixels) {
    throw new ShapeError(
      `updatePrototypes: teacher logits ${show(teacherLogits.shape)} do not match features ${show(features.shape)}.`,
    );
  }
  const weights = empty(gpu, [pixels], 'f32', 'prototypeWeights');
  const own = empty(gpu, labels.shape, 'u8', 'prototypeClasses');
  run(
    prototypeWeights(sizes, labeledPixels),
    { teacher: teacherLogits, labels, threshold, unlabeled_weight: unlabeledWeight, weights, classes: own },
    { threads: Math.ceil(pixels / 4) },
  );
  const chunks = prototypeChunks(pixels);
  const partials = empty(gpu, [chunks, classes * width], 'f32', 'prototypeSums');
  const partialWeights = empty(gpu, [chunks, classes], 'f32', 'prototypeSums');
  run(
    prototypeSums(sizes),
    { features, weights, classes: own, partials, partial_weights: partialWeights },
    { threads: chunks * (width % 4 === 0 ? width / 4 : width) },
  );
  noGrad(() => {
    const { vectors, counts } = prototypes;
    const args = { sums: sum(partials, 0), weights: sum(partialWeights, 0), vectors, counts };
    run(prototypeUpdate(classes, width, momentum), args, { threads: 1 });
  });
}

function units({ vectors, counts }: Prototypes): Tensor {
  const [classes = 0, width = 0] = vectors.shape;
  const unit = empty(vectors.gpu, vectors.shape, 'f32', 'prototypeUnits');
  run(prototypeUnits(classes, width), { vectors, counts, units: unit }, { threads: 1 });
  return unit;
}

/** Cosines between prototypes [K, K]; 0 for classes never seen. */
export function prototypeCosines(prototypes: Prototypes): Tensor {
  const [classes = 0, width = 0] = prototypes.vectors.shape;
  const cosines = empty(prototypes.vectors.gpu, [classes, classes], 'f32', 'prototypeCosines');
  run(prototypeCosinesShader(classes, width), { units: units(prototypes), cosines }, { threads: classes * classes });
  return cosines;
}

export interface SeparationOptions {
  /** pull: 1 − cos to the own prototype; protoCE: cross-entropy over cosines/T; distance: over −‖z − μ‖². */
  kind: SeparationKind;
  temperature?: number;
}

/**
 * Class separation of features z [..., D]: the loss [] over pixels with `mask` 1 (u8 [...]) whose class (`classes`, u8 [...])
 * has a prototype. The gradient goes to z only; with nothing kept, loss and gradient are 0.
 */
export function prototypeDistance(
  z: Tensor,
  prototypes: Prototypes,
  classes: Tensor,
  mask: Tensor,
  { kind, temperature = 0.1 }: SeparationOptions,
): Tensor {
  const { gpu } = z;
  const sizes = prototypeSizes('prototypeDistance', z, prototypes);
  if (classes.dtype !== 'u8' || mask.dtype !== 'u8' || classes.size !== sizes.pixels || mask.size !== sizes.pixels) {
    throw new ShapeError(
      `prototypeDistance: got classes ${classes.dtype} ${show(classes.shape)}, mask ${mask.dtype} ${show(mask.shape)} — expected u8 ${show(z.shape.slice(0, -1))}.`,
    );
  }
  const threads = partialThreads(sizes.pixels);
  const { counts } = prototypes;
  const vectors = kind === 'distance' ? prototypes.vectors : units(prototypes);
  const partials = empty(gpu, [threads, 2 * sizes.classes], 'f32', 'prototypeDistance.partials');
  const inputs = { z, vectors, counts, classes, mask };
  run(prototypeDistanceForward(sizes, kind, temperature, threads), { ...inputs, partials }, { threads });
  const sums = noGrad(() => sum(partials, 0));
  const loss = empty(gpu, [], 'f32', 'prototypeDistance');
  run(prototypeDistanceValue(sizes.classes, kind), { sums, loss }, { threads: 1 });

  return record('prototypeDistance', loss, [z], (dloss) => {
    const dz = empty(gpu, z.shape, z.dtype, 'dz');
    run(prototypeDistanceBackward(sizes, kind, temperature), { ...inputs, sums, dloss, dz }, { threads: sizes.pixels });
    return [dz];
  });
}
