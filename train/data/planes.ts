// Planes of a volume [depth, height, width] as pictures: axial as it is stored; coronal and sagittal with the last plane of the stack, which
// is the upper end where files are in the usual order, as the first row.
import { ignored } from './labels.js';
import type { Triple } from './orientation.js';

/** The planes that one looks at, across z, y and x. */
export const planeNames = ['axial', 'coronal', 'sagittal'] as const;
/** One of them. */
export type PlaneName = (typeof planeNames)[number];

/** A plane of a volume as a picture. */
export interface Plane {
  readonly height: number;
  readonly width: number;
  /** Size of its pixels: row to row and column to column, as the volume's spacing is given. */
  readonly spacing: readonly [number, number];
  /** For each pixel [height, width] the index of its voxel. */
  readonly voxels: Int32Array;
}

/** The axis that each plane lies across, and those of its rows and columns: 0 z, 1 y, 2 x. */
const axes = { axial: [0, 1, 2], coronal: [1, 0, 2], sagittal: [2, 0, 1] } as const;

/** The axis of a volume that a plane lies across: 0 z, 1 y, 2 x. */
export const axisAcross = (name: PlaneName): 0 | 1 | 2 => axes[name][0];

/** The plane through voxel `at` (z, y, x) of a volume of this shape; `spacing` is that of z, y, x. */
export function planeThrough(name: PlaneName, at: Triple, shape: Triple, spacing: Triple): Plane {
  const [across, rows, columns] = axes[name];
  const [height, width] = [shape[rows], shape[columns]];
  const steps = [shape[1] * shape[2], shape[2], 1] as const;
  const voxels = new Int32Array(height * width);
  for (let r = 0, i = 0; r < height; r++) {
    const row = rows === 0 ? height - 1 - r : r;
    for (let c = 0; c < width; c++) voxels[i++] = at[across] * steps[across] + row * steps[rows] + c * steps[columns];
  }
  return { height, width, spacing: [spacing[rows], spacing[columns]], voxels };
}

/** The voxel (z, y, x) nearest to the centroid of all that is labelled, the volume's middle where nothing is. */
export function middleOf(labels: Uint8Array | undefined, shape: Triple): Triple {
  const [, height, width] = shape;
  const sums: [number, number, number] = [0, 0, 0];
  let count = 0;
  labels?.forEach((k, i) => {
    if (k === 0 || k === ignored) return;
    count++;
    sums[0] += Math.floor(i / (height * width));
    sums[1] += Math.floor(i / width) % height;
    sums[2] += i % width;
  });
  return (count
    ? sums.map((sum) => Math.round(sum / count))
    : shape.map((n) => Math.floor(n / 2))) as unknown as Triple;
}
