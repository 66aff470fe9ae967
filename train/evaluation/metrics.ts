// Scores of a labelled volume against its reference, per class: overlap, and surface distances in mm and in voxels. A
// structure that is missed or invented has no distance: it is counted, never scored 0.
import { type Box, surfaceDistances } from './surface-distances.js';

/** Scores of one class in one volume: overlap, surface distances, volumes, counts of voxels. */
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
  /** Mean of the surface distances of both directions pooled (MedPy's assd), mm. */
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
  /** 1: the reference has it, the prediction does not. */
  missed: 0 | 1;
  /** 1: the prediction has it, the reference does not. */
  invented: 0 | 1;
}

type Triple = readonly [number, number, number];

/**
 * Scores of classes 1 … classes − 1 of labels [D, H, W] (x fastest); `shape` is [D, H, W], `spacing` mm along z, y, x.
 * Without `distances`, which take most of the time, those are null. `ignored` voxels, background in both, are no true negatives.
 */
export function volumeScores(
  prediction: Uint8Array,
  reference: Uint8Array,
  {
    shape,
    spacing,
    classes,
    distances = true,
    ignored = 0,
  }: { shape: Triple; spacing: Triple; classes: number; distances?: boolean; ignored?: number },
): Record<string, ClassScore> {
  const size = shape[0] * shape[1] * shape[2];
  if (prediction.length !== size || reference.length !== size) {
    throw new RangeError(
      `metrics: prediction and reference must hold ${size} voxels [${shape}] — got ${prediction.length} and ${reference.length}.`,
    );
  }
  const voxel = spacing[0] * spacing[1] * spacing[2];
  const counted = countClasses(prediction, reference, shape);
  const scores: Record<string, ClassScore> = {};
  for (let k = 1; k < classes; k++) {
    const { predicted, referenced, both, box } = counted(k);
    const either = predicted + referenced - both;
    const isMeasured = distances && predicted > 0 && referenced > 0;
    const [mm, voxels] = isMeasured
      ? surfaceDistances(prediction, reference, shape, k, box, [spacing, [1, 1, 1]])
      : [undefined, undefined];
    scores[k] = {
      Dice: either ? (2 * both) / (predicted + referenced) : null,
      Jaccard: either ? both / either : null,
      HD95: mm?.HD95 ?? null,
      HD95_voxels: voxels?.HD95 ?? null,
      HD95_symmetric: mm?.HD95_symmetric ?? null,
      HD95_symmetric_voxels: voxels?.HD95_symmetric ?? null,
      ASD: mm?.ASD ?? null,
      ASD_voxels: voxels?.ASD ?? null,
      ASSD: mm?.ASSD ?? null,
      ASSD_voxels: voxels?.ASSD ?? null,
      volume_ml: (predicted * voxel) / 1000,
      reference_ml: (referenced * voxel) / 1000,
      TP: both,
      FP: predicted - both,
      FN: referenced - both,
      TN: size - ignored - either,
      n_pred: predicted,
      n_ref: referenced,
      missed: referenced > 0 && predicted === 0 ? 1 : 0,
      invented: predicted > 0 && referenced === 0 ? 1 : 0,
    };
  }
  return scores;
}

interface Counted {
  predicted: number;
  referenced: number;
  both: number;
  /** Around the class in either volume. */
  box: Box;
}

/** One pass over both volumes: voxels and place of every class but the background. */
function countClasses(
  prediction: Uint8Array,
  reference: Uint8Array,
  [depth, height, width]: Triple,
): (k: number) => Counted {
  const predicted = new Int32Array(256);
  const referenced = new Int32Array(256);
  const both = new Int32Array(256);
  const low = new Int32Array(3 * 256).fill(0x7fffffff);
  const high = new Int32Array(3 * 256).fill(-1);
  const see = (k: number, z: number, y: number, x: number): void => {
    const at = 3 * k;
    if (z < low[at]!) low[at] = z;
    if (y < low[at + 1]!) low[at + 1] = y;
    if (x < low[at + 2]!) low[at + 2] = x;
    if (z > high[at]!) high[at] = z;
    if (y > high[at + 1]!) high[at + 1] = y;
    if (x > high[at + 2]!) high[at + 2] = x;
  };
  for (let z = 0, i = 0; z < depth; z++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const p = prediction[i]!;
        const r = reference[i]!;
        if ((p | r) === 0) continue;
        predicted[p]!++;
        referenced[r]!++;
        see(p, z, y, x);
        if (p === r) both[p]!++;
        else see(r, z, y, x);
      }
    }
  }
  const triple = (values: Int32Array, k: number) => [...values.subarray(3 * k, 3 * k + 3)] as unknown as Triple;
  return (k) => ({
    predicted: predicted[k]!,
    referenced: referenced[k]!,
    both: both[k]!,
    box: { low: triple(low, k), high: triple(high, k) },
  });
}
