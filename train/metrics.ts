// Scores of a labelled volume against its reference, per class: overlap, and surface distances in mm and in voxels by exact
// Euclidean distance transforms. A structure that is missed or invented has no distance: it is counted, never scored 0.
import { distanceTransform } from './distance-transform.js';

export interface ClassScore {
  /** 2|A∩B|/(|A|+|B|); null when neither volume has the class. */
  Dice: number | null;
  Jaccard: number | null;
  /** 95th percentile of both directed surface distances pooled (MedPy's hd95), mm; null when missed, invented or absent. */
  HD95: number | null;
  HD95_voxels: number | null;
  /** The larger of the 95th percentiles of the two directions, mm. */
  HD95_symmetric: number | null;
  HD95_symmetric_voxels: number | null;
  /** Mean distance from the prediction's surface to the reference's (MedPy's one-directed asd), mm. */
  ASD: number | null;
  ASD_voxels: number | null;
  /** Mean of ASD and of the same from the reference's surface to the prediction's (MedPy's assd), mm. */
  ASSD: number | null;
  ASSD_voxels: number | null;
  /** Volume of the prediction and of the reference, ml. */
  volume_ml: number;
  reference_ml: number;
  TP: number;
  FP: number;
  FN: number;
  TN: number;
  n_pred: number;
  n_ref: number;
  /** The reference has it, the prediction does not. */
  missed: boolean;
  /** The prediction has it, the reference does not. */
  invented: boolean;
}

type Triple = readonly [number, number, number];

/**
 * Scores of classes 1 … classes − 1 of labels [D, H, W] (x fastest); `shape` is [D, H, W], `spacing` mm along z, y, x.
 * Without `distances`, which take most of the time, those are null.
 */
export function volumeScores(
  prediction: Uint8Array,
  reference: Uint8Array,
  {
    shape,
    spacing,
    classes,
    distances = true,
  }: { shape: Triple; spacing: Triple; classes: number; distances?: boolean },
): Record<string, ClassScore> {
  const size = shape[0] * shape[1] * shape[2];
  if (prediction.length !== size || reference.length !== size) {
    throw new RangeError(
      `metrics: prediction and reference must hold ${size} voxels [${shape}] — got ${prediction.length} and ${reference.length}.`,
    );
  }
  const scores: Record<string, ClassScore> = {};
  for (let k = 1; k < classes; k++) scores[k] = classScore(prediction, reference, shape, spacing, k, distances);
  return scores;
}

function classScore(
  prediction: Uint8Array,
  reference: Uint8Array,
  shape: Triple,
  spacing: Triple,
  k: number,
  withDistances: boolean,
): ClassScore {
  let [both, predicted, referenced] = [0, 0, 0];
  for (let i = 0; i < prediction.length; i++) {
    const p = prediction[i] === k;
    const r = reference[i] === k;
    if (p) predicted++;
    if (r) referenced++;
    if (p && r) both++;
  }
  const either = predicted + referenced - both;
  const voxel = spacing[0] * spacing[1] * spacing[2];
  const measured = withDistances && predicted > 0 && referenced > 0;
  const distances = measured ? surfaceDistances(prediction, reference, shape, spacing, k) : undefined;
  return {
    Dice: either ? (2 * both) / (predicted + referenced) : null,
    Jaccard: either ? both / either : null,
    HD95: distances?.mm.hd95 ?? null,
    HD95_voxels: distances?.voxels.hd95 ?? null,
    HD95_symmetric: distances?.mm.symmetric ?? null,
    HD95_symmetric_voxels: distances?.voxels.symmetric ?? null,
    ASD: distances?.mm.asd ?? null,
    ASD_voxels: distances?.voxels.asd ?? null,
    ASSD: distances?.mm.assd ?? null,
    ASSD_voxels: distances?.voxels.assd ?? null,
    volume_ml: (predicted * voxel) / 1000,
    reference_ml: (referenced * voxel) / 1000,
    TP: both,
    FP: predicted - both,
    FN: referenced - both,
    TN: prediction.length - either,
    n_pred: predicted,
    n_ref: referenced,
    missed: referenced > 0 && predicted === 0,
    invented: predicted > 0 && referenced === 0,
  };
}

/** A class of a volume, cut to a box that holds both structures and a voxel of background around them. */
interface Cropped {
  shape: Triple;
  prediction: Uint8Array;
  reference: Uint8Array;
}

function crop(prediction: Uint8Array, reference: Uint8Array, [depth, height, width]: Triple, k: number): Cropped {
  const low = [depth, height, width];
  const high = [-1, -1, -1];
  for (let z = 0, i = 0; z < depth; z++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (prediction[i] !== k && reference[i] !== k) continue;
        if (z < low[0]!) low[0] = z;
        if (y < low[1]!) low[1] = y;
        if (x < low[2]!) low[2] = x;
        if (z > high[0]!) high[0] = z;
        if (y > high[1]!) high[1] = y;
        if (x > high[2]!) high[2] = x;
      }
    }
  }
  const shape = high.map((h, axis) => h - low[axis]! + 3) as unknown as Triple;
  const cut = (source: Uint8Array): Uint8Array => {
    const out = new Uint8Array(shape[0] * shape[1] * shape[2]);
    for (let z = low[0]!; z <= high[0]!; z++) {
      for (let y = low[1]!; y <= high[1]!; y++) {
        for (let x = low[2]!; x <= high[2]!; x++) {
          const to = ((z - low[0]! + 1) * shape[1] + (y - low[1]! + 1)) * shape[2] + (x - low[2]! + 1);
          out[to] = source[(z * height + y) * width + x] === k ? 1 : 0;
        }
      }
    }
    return out;
  };
  return { shape, prediction: cut(prediction), reference: cut(reference) };
}

interface Distances {
  hd95: number;
  symmetric: number;
  asd: number;
  assd: number;
}

function surfaceDistances(
  prediction: Uint8Array,
  reference: Uint8Array,
  shape: Triple,
  spacing: Triple,
  k: number,
): { mm: Distances; voxels: Distances } {
  const box = crop(prediction, reference, shape, k);
  const surfaces = [border(box.prediction, box.shape), border(box.reference, box.shape)] as const;
  const measure = (unit: Triple): Distances => {
    const [p, r] = surfaces;
    const fromPrediction = distancesAt(p, distanceTransform(r, box.shape, unit)).sort();
    const fromReference = distancesAt(r, distanceTransform(p, box.shape, unit)).sort();
    const pooled = new Float64Array(fromPrediction.length + fromReference.length);
    pooled.set(fromPrediction);
    pooled.set(fromReference, fromPrediction.length);
    const asd = mean(fromPrediction);
    return {
      hd95: percentile(pooled.sort(), 0.95),
      symmetric: Math.max(percentile(fromPrediction, 0.95), percentile(fromReference, 0.95)),
      asd,
      assd: (asd + mean(fromReference)) / 2,
    };
  };
  return { mm: measure(spacing), voxels: measure([1, 1, 1]) };
}

/** Square roots of a field at the voxels of a mask. */
function distancesAt(mask: Uint8Array, squared: Float64Array): Float64Array {
  const out = new Float64Array(mask.length);
  let count = 0;
  for (let i = 0; i < mask.length; i++) if (mask[i]) out[count++] = Math.sqrt(squared[i]!);
  return out.slice(0, count);
}

const mean = (values: ArrayLike<number>): number =>
  (Array.prototype.reduce.call(values, (sum, v) => (sum as number) + (v as number), 0) as number) / values.length;

/** A quantile of sorted values with linear interpolation, as numpy's percentile. */
export function percentile(sorted: ArrayLike<number>, quantile: number): number {
  const at = quantile * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (at - low) * (sorted[high]! - sorted[low]!);
}

/** Voxels of a mask that have a face neighbour outside of it. The mask must not touch the box. */
export function border(mask: Uint8Array, [, height, width]: Triple): Uint8Array {
  const row = width;
  const plane = height * width;
  const out = new Uint8Array(mask.length);
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    const isInner = mask[i - 1] && mask[i + 1] && mask[i - row] && mask[i + row] && mask[i - plane] && mask[i + plane];
    if (!isInner) out[i] = 1;
  }
  return out;
}
