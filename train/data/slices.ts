// From a case's files to 2-D slices on the network's grid and back. Axes: NIfTI stores x fastest, so slice z of a volume
// is a row-major [H, W] picture with H = y and W = x; a volume that lies otherwise is reordered first (orientation.ts).
import { gather, sourceIndices, type Transform, transformedShape } from './augment.js';
import type { CaseVolume } from './case-volume.js';

/** One slice, on its own grid or on the network's. */
export interface Slice {
  /** Case id. */
  readonly id: string;
  readonly z: number;
  /** [height, width] in [0, 1]. */
  readonly image: Float32Array;
  /** [height, width]; undefined where there is no ground truth. */
  readonly label: Uint8Array | undefined;
}

/** A slice on its own grid. */
export interface NativeSlice extends Slice {
  readonly shape: readonly [height: number, width: number];
  /** Pixel size along y, x in mm. */
  readonly spacing: readonly [number, number];
}

/** The network's grid, as in the configuration. */
export interface Grid {
  /** Slices are size×size. */
  readonly size: number;
  /**
   * Pixel size along x, y in mm, at which a slice is cut or padded about its centre. [0, 0] or none (the protocol): the whole slice is
   * resized, whatever its pixels.
   */
  readonly spacing?: readonly number[];
}

/** All slices of a case on its own grid, from z = 0; they share the volume's memory. */
export function nativeSlices(volume: CaseVolume): NativeSlice[] {
  const { depth, height, width, image, label, spacing } = volume;
  const pixels = height * width;
  return Array.from({ length: depth }, (_, z) => ({
    id: volume.case.id,
    z,
    image: image.subarray(z * pixels, (z + 1) * pixels),
    label: label?.subarray(z * pixels, (z + 1) * pixels),
    shape: [height, width],
    spacing: [spacing[1], spacing[0]],
  }));
}

/** A slice on the network's grid, after a transform on its own, as SSL4MIS's RandomGenerator does; nearest neighbour. */
export function sliceOnGrid(
  { id, z, image, label, shape, spacing }: NativeSlice,
  grid: Grid,
  transform: Transform,
): Slice {
  const turned = transformedShape(shape, transform);
  const isTurned = transform.kind === 'turnAndFlip' && transform.turns % 2 === 1;
  const [mmY, mmX] = isTurned ? [spacing[1], spacing[0]] : spacing;
  const wanted = {
    rows: gridPositions(turned[0], mmY, grid, 1),
    columns: gridPositions(turned[1], mmX, grid, 0),
  };
  const indices = sourceIndices(shape, transform, wanted);
  return {
    id,
    z,
    image: gather(image, indices),
    label: label && gather(label, indices),
  };
}

/** All slices of a case on the network's grid, from z = 0. */
export const slicesOf = (volume: CaseVolume, grid: Grid): Slice[] =>
  nativeSlices(volume).map((slice) => sliceOnGrid(slice, grid, { kind: 'identity' }));

/** The slices of a case as one array [D, size, size], what a predictor takes. */
export function stackSlices(volume: CaseVolume, grid: Grid): Float32Array {
  const { size } = grid;
  const stack = new Float32Array(volume.depth * size * size);
  for (const slice of slicesOf(volume, grid)) stack.set(slice.image, slice.z * size * size);
  return stack;
}

/** Predicted labels, or numbers, [D, size, size] back on the case's own [D, H, W]; 0 (background) where the network's grid does not reach. */
export function restoreLabels<A extends Uint8Array | Float32Array>(
  labels: A,
  grid: Grid,
  volume: Pick<CaseVolume, 'depth' | 'height' | 'width' | 'spacing'>,
): A {
  const { size } = grid;
  const { depth, height, width, spacing } = volume;
  const wanted = {
    rows: nativePositions(height, spacing[1], grid, 1),
    columns: nativePositions(width, spacing[0], grid, 0),
  };
  const indices = sourceIndices([size, size], { kind: 'identity' }, wanted);
  const restored = new (labels.constructor as new (length: number) => A)(depth * height * width);
  for (let z = 0; z < depth; z++) {
    const slice = labels.subarray(z * size * size, (z + 1) * size * size) as A;
    restored.set(gather(slice, indices), z * height * width);
  }
  return restored;
}

/** For each position of the grid along an axis (0: x, 1: y), the pixel that is nearest; −1 where the slice does not reach. */
function gridPositions(from: number, mm: number, { size, spacing }: Grid, axis: 0 | 1): Int32Array {
  const wanted = spacing?.[axis];
  return wanted ? centred(from, size, wanted / mm) : resizePositions(from, size);
}

/** The way back: for each pixel of the slice, the position on the grid. */
function nativePositions(to: number, mm: number, { size, spacing }: Grid, axis: 0 | 1): Int32Array {
  const wanted = spacing?.[axis];
  return wanted ? centred(size, to, mm / wanted) : resizePositions(size, to);
}

/** Both centres on each other, `step` source pixels from one position to the next. */
const centred = (from: number, to: number, step: number): Int32Array =>
  Int32Array.from({ length: to }, (_, i) => {
    const at = Math.floor((i - (to - 1) / 2) * step + (from - 1) / 2 + 0.5);
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
