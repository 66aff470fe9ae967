// Distances between the surfaces of two structures, as MedPy defines them. Both are cut to their common box first: distances
// between surfaces never leave it, so nothing is lost.
import { distanceTransform } from './distance-transform.js';

type Triple = readonly [number, number, number];

/** First and last voxel along z, y, x. */
export interface Box {
  readonly low: Triple;
  readonly high: Triple;
}

export interface SurfaceDistances {
  /** 95th percentile of the distances of both directions pooled (MedPy's hd95). */
  HD95: number;
  /** The larger of the 95th percentiles of the two directions. */
  HD95_symmetric: number;
  /** Mean distance from the prediction's surface to the reference's (MedPy's asd). */
  ASD: number;
  /** Mean of the distances of both directions pooled, as MedPy's source has assd (its releases to 0.4 took the mean of two means). */
  ASSD: number;
}

/**
 * Surface distances of class `k` of two label volumes [D, H, W], once for each of `spacings` along z, y, x. Both must have the
 * class, inside `box`.
 */
export function surfaceDistances(
  prediction: Uint8Array,
  reference: Uint8Array,
  shape: Triple,
  k: number,
  box: Box,
  spacings: readonly Triple[],
): SurfaceDistances[] {
  const cut = box.high.map((high, axis) => high - box.low[axis]! + 3) as unknown as Triple;
  const ofPrediction = border(maskIn(box, cut, prediction, shape, k), cut);
  const ofReference = border(maskIn(box, cut, reference, shape, k), cut);
  const field = new Float64Array(ofPrediction.length);
  const directed = (from: Uint8Array, to: Uint8Array, spacing: Triple): Float64Array =>
    distancesAt(from, distanceTransform(to, cut, spacing, field)).sort();
  return spacings.map((spacing) => {
    const there = directed(ofPrediction, ofReference, spacing);
    const back = directed(ofReference, ofPrediction, spacing);
    const pooled = new Float64Array(there.length + back.length);
    pooled.set(there);
    pooled.set(back, there.length);
    return {
      HD95: percentile(pooled.sort(), 0.95),
      HD95_symmetric: Math.max(percentile(there, 0.95), percentile(back, 0.95)),
      ASD: mean(there),
      ASSD: mean(pooled),
    };
  });
}

/** Where a volume is `k`, in a box of `cut` voxels: `box` and a voxel of background around it. */
function maskIn(box: Box, cut: Triple, labels: Uint8Array, [, height, width]: Triple, k: number): Uint8Array {
  const mask = new Uint8Array(cut[0] * cut[1] * cut[2]);
  const [zLow, yLow, xLow] = box.low;
  const length = cut[2] - 2;
  for (let z = 1; z < cut[0] - 1; z++) {
    for (let y = 1; y < cut[1] - 1; y++) {
      const from = ((z - 1 + zLow) * height + (y - 1 + yLow)) * width + xLow;
      const to = (z * cut[1] + y) * cut[2] + 1;
      for (let x = 0; x < length; x++) if (labels[from + x] === k) mask[to + x] = 1;
    }
  }
  return mask;
}

/**
 * Voxels of a mask that have a face neighbour outside of it: what an erosion by one voxel takes away. The mask must not touch
 * the box.
 */
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

/** Square roots of a field at the voxels of a mask. */
function distancesAt(mask: Uint8Array, squared: Float64Array): Float64Array {
  let count = 0;
  for (let i = 0; i < mask.length; i++) count += mask[i]!;
  const out = new Float64Array(count);
  for (let i = 0, at = 0; i < mask.length; i++) if (mask[i]) out[at++] = Math.sqrt(squared[i]!);
  return out;
}

function mean(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

/** A quantile of sorted values with linear interpolation, as numpy's percentile. */
export function percentile(sorted: ArrayLike<number>, quantile: number): number {
  const at = quantile * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (at - low) * (sorted[high]! - sorted[low]!);
}
