// How a volume's axes lie, and volumes with their axes permuted and flipped: nothing is ever interpolated here, so every
// order can be undone exactly. A picture is [z, y, x] with x fastest; slices are cut along z.

/** For each of the axes x, y, z of a picture: which axis of the file it is, and whether it runs the other way. */
export interface AxisOrder {
  readonly axes: readonly [number, number, number];
  readonly flipped: readonly [boolean, boolean, boolean];
}

/** A way to lay out volumes: `keep` as the file has them, `canonical` as near to RAS as whole axes come. */
export type Orient = 'keep' | 'canonical';

/** A number for each of three axes. */
export type Triple = readonly [number, number, number];

const asStored: AxisOrder = { axes: [0, 1, 2], flipped: [false, false, false] };
const permutations: Triple[] = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];

/** Column `axis` of a 4×4 row-major affine as a unit vector; zeros where the column is 0. */
function direction(affine: readonly number[], axis: number): number[] {
  const column = [affine[axis]!, affine[axis + 4]!, affine[axis + 8]!];
  const length = Math.hypot(...column);
  return length > 0 ? column.map((v) => v / length) : column;
}

/** The order in which the axes of an affine come nearest to right, anterior, superior (the largest sum of cosines). */
export function canonicalOrder(affine: readonly number[]): AxisOrder {
  const directions = [0, 1, 2].map((axis) => direction(affine, axis));
  const cosine = (world: number, axis: number) => directions[axis]![world]!;
  const score = (axes: Triple) => axes.reduce((sum, axis, world) => sum + Math.abs(cosine(world, axis)), 0);
  const axes = permutations.reduce((best, next) => (score(next) > score(best) ? next : best));
  const flipped = axes.map((axis, world) => cosine(world, axis) < 0) as [boolean, boolean, boolean];
  return { axes, flipped };
}

/** Where the file's axes point, as letters: LPS, RAS … (the nearest directions of an oblique affine). */
export function orientationCode(affine: readonly number[]): string {
  const { axes, flipped } = canonicalOrder(affine);
  const letters = ['', '', ''];
  for (const [world, axis] of axes.entries()) letters[axis] = ['RL', 'AP', 'SI'][world]![flipped[world] ? 1 : 0]!;
  return letters.join('');
}

/**
 * The axis across the slices: the only one of size 1 (a single slice); else one whose voxels are at least half as long
 * again as both others'; else the third.
 */
export function throughPlane(shape: readonly number[], spacing: Triple): number {
  const single = [0, 1, 2].filter((axis) => shape[axis] === 1);
  if (single.length === 1) return single[0]!;
  const longest = [0, 1, 2].find((axis) =>
    [0, 1, 2].every((other) => other === axis || spacing[axis]! >= 1.5 * spacing[other]!),
  );
  return longest ?? 2;
}

/** The order of a volume's axes in pictures: as stored or canonical, then the axis across the slices last. */
export function pictureOrder(
  { shape, spacing, affine }: { shape: readonly number[]; spacing: Triple; affine: readonly number[] },
  orient: Orient,
): AxisOrder {
  const { axes, flipped } = orient === 'canonical' ? canonicalOrder(affine) : asStored;
  const across = throughPlane(
    axes.map((axis) => shape[axis]!),
    axes.map((axis) => spacing[axis]!) as [number, number, number],
  );
  const order = [0, 1, 2].filter((axis) => axis !== across).concat(across);
  return {
    axes: order.map((i) => axes[i]!) as [number, number, number],
    flipped: order.map((i) => flipped[i]!) as [boolean, boolean, boolean],
  };
}

/** A triple by the file's axes as one by the picture's. */
export const inPictureOrder = (triple: readonly number[], { axes }: AxisOrder): [number, number, number] =>
  axes.map((axis) => triple[axis]!) as [number, number, number];

const isAsStored = ({ axes, flipped }: AxisOrder) => axes.every((axis, i) => axis === i && !flipped[i]);

/** Calls `copy(picture, file)` with the indices of each voxel in the picture and in the file of `shape`. */
function everyVoxel(shape: readonly number[], order: AxisOrder, copy: (picture: number, file: number) => void): void {
  const strides = [1, shape[0]!, shape[0]! * shape[1]!];
  const [width, height, depth] = inPictureOrder(shape, order);
  const step = order.axes.map((axis, i) => (order.flipped[i] ? -strides[axis]! : strides[axis]!)) as number[];
  const first = order.axes.reduce(
    (sum, axis, i) => sum + (order.flipped[i] ? (shape[axis]! - 1) * strides[axis]! : 0),
    0,
  );
  let picture = 0;
  for (let z = 0; z < depth; z++) {
    for (let y = 0; y < height; y++) {
      let file = first + z * step[2]! + y * step[1]!;
      for (let x = 0; x < width; x++, file += step[0]!) copy(picture++, file);
    }
  }
}

/** A file's values (`shape`, x fastest) in the picture's order; the same array where nothing changes. */
export function toPicture<A extends Float32Array | Uint8Array>(data: A, shape: readonly number[], order: AxisOrder): A {
  if (isAsStored(order)) return data;
  const result = new (data.constructor as new (length: number) => A)(data.length);
  everyVoxel(shape, order, (picture, file) => {
    result[picture] = data[file]!;
  });
  return result;
}

/** A picture's values back in the order of the file, whose shape is `shape`. */
export function toFile<A extends Float32Array | Uint8Array>(picture: A, shape: readonly number[], order: AxisOrder): A {
  if (isAsStored(order)) return picture;
  const result = new (picture.constructor as new (length: number) => A)(picture.length);
  everyVoxel(shape, order, (from, file) => {
    result[file] = picture[from]!;
  });
  return result;
}
