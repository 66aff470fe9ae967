// Warnings that only show when the volumes of a data set are seen together: wgrad inspect gives them for all volumes, wgrad train for those
// that it learns from. Each is a sentence; nothing here is an error.
import { some } from '../files/data-error.js';
import type { VolumeFacts } from './inspect-volume.js';

/** A volume and its case's name. */
export interface NamedFacts extends Pick<VolumeFacts, 'spacing' | 'orientation' | 'flattened'> {
  readonly id: string;
}

/** The full range of intensities may be this many times the range between 0.5 and 99.5 % without a warning. */
const mostFlattened = 5;

const medianOf = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;
const short = (value: number): string => String(Number(value.toPrecision(4)));

/** Mixed orientations and voxel sizes, sizes that seem lost, and outliers that flatten min–max scaling. */
export function amongVolumes(
  volumes: readonly NamedFacts[],
  { hasSpacing = true, intensity = 'minmax' }: { hasSpacing?: boolean; intensity?: string } = {},
): string[] {
  const warnings: string[] = [];
  if (!volumes.length) return warnings;
  const medians = [0, 1, 2].map((axis) => medianOf(volumes.map(({ spacing }) => spacing[axis]!)));
  const odd = volumes.flatMap(({ id, spacing }) => {
    const axis = spacing.findIndex((mm, i) => Math.max(mm / medians[i]!, medians[i]! / mm) > 2);
    return axis < 0 ? [] : [{ id, axis, mm: spacing[axis]! }];
  });
  if (odd.length > 3) {
    warnings.push(
      `${odd.length} of ${volumes.length} volumes have voxels of half or twice the median size ${medians.map(short).join('×')} mm: ${some(odd.map(({ id }) => id))}`,
    );
  } else {
    for (const { id, axis, mm } of odd) {
      warnings.push(
        `${id}: voxels of ${short(mm)} mm along ${'xyz'[axis]}, half or twice the median ${short(medians[axis]!)} mm`,
      );
    }
  }
  if (hasSpacing && volumes.every(({ spacing }) => spacing.every((mm) => mm === 1))) {
    warnings.push('every voxel is 1×1×1 mm: has the spacing been lost? Distances in mm will then be in voxels');
  }
  const codes = new Set(volumes.flatMap(({ orientation }) => orientation ?? []));
  if (codes.size > 1) warnings.push(`orientations differ (${[...codes].join(', ')}): train with --orient canonical`);
  const flat = volumes.filter(({ flattened }) => flattened > mostFlattened);
  if (flat.length && intensity === 'minmax') {
    const worst = Math.max(...flat.map(({ flattened }) => flattened));
    warnings.push(
      `a few outliers flatten ${flat.length} of ${volumes.length} images: in the worst, 99 % of the voxels share at most ${Number((100 / worst).toPrecision(2))} % of the range (${some(flat.map(({ id }) => id))}). Train with --intensity percentile`,
    );
  }
  return warnings;
}
