// From a case's volume to samples on the network's grid and back. A sample is a plane of the volume (2-D) or the whole of it (3-D): both
// are [depth, height, width], where a plane has depth 1, and nothing below asks which of the two it is. Training cuts its patches
// elsewhere (patches.ts); what is predicted or shown of one patch alone is the middle of the sample.
import { sizeOf } from '../../engine/custom.js';
import { gather, sourceIndices, type Transform, transformedShape } from './augment.js';
import type { CaseVolume } from './case-volume.js';
import { coarseImage, coarseLabels, coarseSide } from './downsample.js';
import type { Triple } from './orientation.js';

/** The network's grid, as in the configuration. */
export interface Grid {
  /** Sides of a sample: [height, width], or [depth, height, width]. */
  readonly patch: readonly number[];
  /**
   * Pixel size along x, y (, z) in mm, at which a sample is cut or padded about its centre. Zeros or none (the protocol): the whole sample
   * is resized, whatever its pixels.
   */
  readonly spacing?: readonly number[];
  /** 'patches': the patch is a part of the sample, at the sample's own pixels. Default 'whole': the sample is fitted to the patch. */
  readonly sample?: 'whole' | 'patches';
  /** Of patches: 2 halves every side of a sample first; default 1. */
  readonly downsample?: number;
}

/** One sample, on its own grid or on the network's. */
export interface Sample {
  /** Case id. */
  readonly id: string;
  /** Its first plane in the volume. */
  readonly z: number;
  /** [depth, height, width], as the setting `intensity` scales it. */
  readonly image: Float32Array;
  /** [depth, height, width]; undefined where there is no ground truth. */
  readonly label: Uint8Array | undefined;
}

/** A sample on its own grid. */
export interface NativeSample extends Sample {
  readonly shape: Triple;
  /** Voxel size along z, y, x in mm. */
  readonly spacing: Triple;
}

/** Voxels of a sample. */
export const voxelsOf = ({ patch }: Grid): number => sizeOf(patch);

/** What a log calls a sample: `patient001_frame01 z=4`; a volume by its case alone. */
export const nameOf = ({ id, z }: Pick<Sample, 'id' | 'z'>, { patch }: Grid): string =>
  patch.length === 2 ? `${id} z=${z}` : id;

/** The plane of a sample [depth, height, width] that a picture shows: the middle one. */
export function middlePlane<A extends Float32Array | Uint8Array>(values: A, grid: Grid): A {
  const [depth, height, width] = shapeOf(grid);
  const plane = Math.floor(depth / 2);
  return values.slice(plane * height * width, (plane + 1) * height * width) as A;
}

/** [height, width] of a sample's planes. */
export const planeSides = ({ patch }: Grid): [number, number] => [patch.at(-2)!, patch.at(-1)!];

/** [depth, height, width] of a patch. */
export const shapeOf = ({ patch }: Grid): Triple => [patch.at(-3) ?? 1, patch.at(-2)!, patch.at(-1)!];

/** How many of a sample's voxels along z, y, x one voxel of the grid is the mean of. */
const factorsOf = ({ patch, downsample = 1 }: Grid): Triple => [
  patch.length === 2 ? 1 : downsample,
  downsample,
  downsample,
];

/** Of a case's volume what its samples are made of. */
/** What a sample is made of: a volume's voxels, and what says where they are. */
export type Voxels = Pick<CaseVolume, 'depth' | 'height' | 'width' | 'image' | 'label' | 'spacing'>;

/** A volume at the voxels of the grid, which `downsample` makes larger. */
function downsampled(volume: Voxels, grid: Grid): Voxels {
  const factors = factorsOf(grid);
  if (factors.every((factor) => factor === 1)) return volume;
  const { image, label, spacing } = volume;
  const shape = [volume.depth, volume.height, volume.width] as const;
  const [depth, height, width] = shape.map((side, axis) => coarseSide(side, factors[axis]!)) as [
    number,
    number,
    number,
  ];
  return {
    ...{ depth, height, width },
    image: coarseImage(image, shape, factors),
    label: label && coarseLabels(label, shape, factors),
    spacing: [spacing[0] * factors[2], spacing[1] * factors[1], spacing[2] * factors[0]],
  };
}

/** All samples of a case on its own grid (at the voxels of `downsample`), from z = 0; they share one memory. */
export function nativeSamples(volume: Voxels & { readonly case: { readonly id: string } }, grid: Grid): NativeSample[] {
  const { depth, height, width, image, label, spacing } = downsampled(volume, grid);
  const planes = grid.patch.length === 2 ? 1 : depth;
  const voxels = planes * height * width;
  return Array.from({ length: depth / planes }, (_, i) => ({
    id: volume.case.id,
    z: i * planes,
    image: image.subarray(i * voxels, (i + 1) * voxels),
    label: label?.subarray(i * voxels, (i + 1) * voxels),
    shape: [planes, height, width],
    spacing: [spacing[2], spacing[1], spacing[0]],
  }));
}

/** A sample on the network's grid, after a transform of its planes, as SSL4MIS's RandomGenerator does; nearest neighbour. */
export function sampleOnGrid(
  { id, z, image, label, shape, spacing }: NativeSample,
  grid: Grid,
  transform: Transform,
): Sample {
  const plane = [shape[1], shape[2]] as const;
  const turned = transformedShape(plane, transform);
  const isTurned = transform.kind === 'turnAndFlip' && transform.turns % 2 === 1;
  const [mmZ, mmY, mmX] = isTurned ? [spacing[0], spacing[2], spacing[1]] : spacing;
  const indices = sourceIndices(plane, transform, {
    rows: gridPositions(turned[0], mmY, grid, 1),
    columns: gridPositions(turned[1], mmX, grid, 0),
  });
  const planes = gridPositions(shape[0], mmZ, grid, 2);
  return {
    id,
    z,
    image: gatherPlanes(image, plane, planes, indices),
    label: label && gatherPlanes(label, plane, planes, indices),
  };
}

/** From each of `planes` of a stack of pictures [height, width] the pixels at `indices`; 0 where either is −1. */
function gatherPlanes<A extends Float32Array | Uint8Array>(
  stack: A,
  [height, width]: readonly [number, number],
  planes: Int32Array,
  indices: Int32Array,
): A {
  const pictureAt = (plane: number): A => stack.subarray(plane * height * width, (plane + 1) * height * width) as A;
  if (planes.length === 1 && planes[0]! >= 0) return gather(pictureAt(planes[0]!), indices);
  const result = new (stack.constructor as new (length: number) => A)(planes.length * indices.length);
  for (const [i, plane] of planes.entries())
    if (plane >= 0) result.set(gather(pictureAt(plane), indices), i * indices.length);
  return result;
}

/** All samples of a case on the network's grid, from z = 0. */
export const samplesOf = (volume: CaseVolume, grid: Grid): Sample[] =>
  nativeSamples(volume, grid).map((sample) => sampleOnGrid(sample, grid, { kind: 'identity' }));

/** The samples of a case as one array [count, …patch], what a predictor takes. */
export function stackSamples(volume: CaseVolume, grid: Grid): Float32Array {
  const samples = samplesOf(volume, grid);
  const stack = new Float32Array(samples.length * voxelsOf(grid));
  for (const [i, { image }] of samples.entries()) stack.set(image, i * voxelsOf(grid));
  return stack;
}

/** Predicted labels, or numbers, [count, …patch] back on the case's own [D, H, W]; 0 (background) where the network's grid does not reach. */
export function restoreLabels<A extends Uint8Array | Float32Array>(
  labels: A,
  grid: Grid,
  volume: Pick<CaseVolume, 'depth' | 'height' | 'width' | 'spacing'>,
): A {
  const [, rows, columns] = shapeOf(grid);
  const { depth, height, width, spacing } = volume;
  const indices = sourceIndices(
    [rows, columns],
    { kind: 'identity' },
    {
      rows: nativePositions(height, spacing[1], grid, 1),
      columns: nativePositions(width, spacing[0], grid, 0),
    },
  );
  const planes =
    grid.patch.length === 2
      ? Int32Array.from({ length: depth }, (_, z) => z)
      : nativePositions(depth, spacing[2], grid, 2);
  return gatherPlanes(labels, [rows, columns], planes, indices);
}

/** Sides of a whole sample of a case at the grid's voxels, none shorter than the patch; the patch's where samples are resized. */
export function sidesAt(
  { depth, height, width, spacing }: Pick<CaseVolume, 'depth' | 'height' | 'width' | 'spacing'>,
  grid: Grid,
): number[] {
  const { patch, spacing: wanted, sample } = grid;
  const sizes = [width, height, depth];
  const factors = factorsOf(grid);
  return patch.map((side, i) => {
    const axis = patch.length - 1 - i;
    if (sample === 'patches') return Math.max(side, coarseSide(sizes[axis]!, factors[2 - axis]!));
    return wanted?.[axis] ? Math.max(side, Math.ceil((sizes[axis]! * spacing[axis]!) / wanted[axis]!)) : side;
  });
}

/** Voxel size along z, y, x in mm of a case on the grid; 1 along a depth that it does not have. */
export function spacingOn({ depth, height, width, spacing }: CaseVolume, grid: Grid): Triple {
  const sizes = [width, height, depth];
  const [depthOn, ...sides] = shapeOf(grid);
  const along = [sides[1]!, sides[0]!, depthOn].map((side, axis) =>
    axis === 2 && grid.patch.length === 2
      ? 1
      : grid.sample === 'patches'
        ? spacing[axis]! * factorsOf(grid)[2 - axis]!
        : grid.spacing?.[axis] || (spacing[axis]! * sizes[axis]!) / side,
  );
  return [along[2]!, along[1]!, along[0]!];
}

/** For each position of the grid along an axis (0: x, 1: y, 2: z), the voxel that is nearest; −1 where the sample does not reach. */
function gridPositions(from: number, mm: number, grid: Grid, axis: 0 | 1 | 2): Int32Array {
  const size = shapeOf(grid)[2 - axis]!;
  if (grid.sample === 'patches') return centred(from, size, 1);
  const wanted = grid.spacing?.[axis];
  return wanted ? centred(from, size, wanted / mm) : resizePositions(from, size);
}

/** The way back: for each voxel of the sample, the position on the grid. */
function nativePositions(to: number, mm: number, grid: Grid, axis: 0 | 1 | 2): Int32Array {
  const size = shapeOf(grid)[2 - axis]!;
  if (grid.sample === 'patches') {
    const factor = factorsOf(grid)[2 - axis]!;
    const positions = centred(size, coarseSide(to, factor), 1, 'down');
    return Int32Array.from({ length: to }, (_, i) => positions[Math.floor(i / factor)]!);
  }
  const wanted = grid.spacing?.[axis];
  return wanted ? centred(size, to, mm / wanted, 'down') : resizePositions(size, to);
}

/**
 * Both centres on each other, `step` source pixels from one position to the next. Halves go up on the way to the grid and down on the way
 * back, so that a pixel comes back to where it was.
 */
const centred = (from: number, to: number, step: number, halves: 'up' | 'down' = 'up'): Int32Array =>
  Int32Array.from({ length: to }, (_, i) => {
    const exact = (i - (to - 1) / 2) * step + (from - 1) / 2;
    const at = halves === 'up' ? Math.floor(exact + 0.5) : Math.ceil(exact - 0.5);
    return at >= 0 && at < from ? at : -1;
  });

/**
 * As `scipy.ndimage.zoom(order=0)` resizes: corners map to corners, output index i takes input index
 * floor(i·(n_in − 1)/(n_out − 1) + ½), halves rounded up.
 */
export function resizePositions(from: number, to: number): Int32Array {
  const zoom = to > 1 ? (from - 1) / (to - 1) : 0;
  // The last coordinate may come out a rounding error beyond the edge.
  return Int32Array.from({ length: to }, (_, i) => Math.min(from - 1, Math.floor(i * zoom + 0.5)));
}

/** Nearest-neighbour resize of a picture [H, W] (resizePositions). */
export function resizeNearest<A extends Float32Array | Uint8Array>(
  source: A,
  [fromHeight, fromWidth]: readonly [number, number],
  [toHeight, toWidth]: readonly [number, number],
): A {
  const wanted = { rows: resizePositions(fromHeight, toHeight), columns: resizePositions(fromWidth, toWidth) };
  return gather(source, sourceIndices([fromHeight, fromWidth], { kind: 'identity' }, wanted));
}
