// The protocols' augmentation of a sample and its label, on its own grid. Of a whole slice (SSL4MIS): half of the time a quarter-turn
// rotation and a flip, else a rotation by −20 to 19 whole degrees. Of a patch (UA-MT): always a quarter turn, a flip and a place.
// What is drawn comes from counters, so it depends on (seed, iteration, index in batch) alone.
import { philox4x32, toUniform } from '../../engine/custom.js';

/** What is done to a slice; the same for image and label. */
export type Transform =
  | { readonly kind: 'identity' }
  /** `turns` quarter turns counter-clockwise, then a flip: axis 0 upside down, axis 1 left to right. */
  | { readonly kind: 'turnAndFlip'; readonly turns: 0 | 1 | 2 | 3; readonly flip: 0 | 1 }
  /** Counter-clockwise about the centre. */
  | { readonly kind: 'rotate'; readonly degrees: number };

const AUGMENT_STREAM = 0xa06; // keeps these numbers apart from others of the same seed

/** The transform of one item of one iteration's batch. */
export function drawTransform(seed: number, iteration: number, index: number): Transform {
  const [choice, turns, flip, angle] = philox4x32([index, iteration, 0, 0], [seed, AUGMENT_STREAM]);
  if (toUniform(choice) >= 0.5) return { kind: 'rotate', degrees: Math.floor(toUniform(angle) * 40) - 20 };
  return { kind: 'turnAndFlip', turns: (turns & 3) as 0 | 1 | 2 | 3, flip: (flip & 1) as 0 | 1 };
}

/** Where a patch is cut: quarter turns and a flip of all planes, and along each axis a number from 0 to below 1. */
export interface PatchDraw {
  readonly transform: Exclude<Transform, { kind: 'rotate' }>;
  /** Along z, y, x. */
  readonly place: readonly [number, number, number];
}

/** The patch of one item of one iteration's batch; without `augment` it is neither turned nor flipped, and lies at the same place. */
export function drawPatch(seed: number, iteration: number, index: number, augment = true): PatchDraw {
  const [, turns, flip] = philox4x32([index, iteration, 0, 0], [seed, AUGMENT_STREAM]);
  const [z, y, x] = philox4x32([index, iteration, 1, 0], [seed, AUGMENT_STREAM]).map(toUniform) as [
    number,
    number,
    number,
  ];
  const turned = { kind: 'turnAndFlip', turns: (turns & 3) as 0 | 1 | 2 | 3, flip: (flip & 1) as 0 | 1 } as const;
  return { transform: augment ? turned : { kind: 'identity' }, place: [z, y, x] };
}

type Shape = readonly [height: number, width: number];

/** [height, width] of a picture after a transform: an odd number of quarter turns swaps them. */
export const transformedShape = ([height, width]: Shape, transform: Transform): Shape =>
  transform.kind === 'turnAndFlip' && transform.turns % 2 ? [width, height] : [height, width];

/** Which rows and columns of the transformed picture are wanted, in order; −1 is outside of it. */
export interface Wanted {
  readonly rows: Int32Array;
  readonly columns: Int32Array;
}

/** A transformed copy of a picture [height, width], row-major; nearest neighbour, 0 where it looks outside. */
export const applyTransform = <A extends Float32Array | Uint8Array>(source: A, shape: Shape, transform: Transform): A =>
  gather(source, sourceIndices(shape, transform));

/** The source's values at some indices; 0 where the index is −1. */
export function gather<A extends Float32Array | Uint8Array>(source: A, indices: Int32Array): A {
  const result = new (source.constructor as new (length: number) => A)(indices.length);
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!;
    if (index >= 0) result[i] = source[index]!;
  }
  return result;
}

/**
 * For each pixel of the transformed picture, the index of the source pixel that it shows; −1 where it looks outside. With `wanted`
 * only those rows and columns of it: transforming and then resizing, both by nearest neighbour, in one pass. Image and label
 * share the indices.
 */
export function sourceIndices(
  shape: Shape,
  transform: Transform,
  wanted: Wanted = everything(transformedShape(shape, transform)),
): Int32Array {
  const indices = new Int32Array(wanted.rows.length * wanted.columns.length);
  if (transform.kind === 'rotate') rotate(indices, shape, transform.degrees, wanted);
  else turnAndFlip(indices, shape, transform, wanted);
  return indices;
}

const everything = ([height, width]: Shape): Wanted => ({
  rows: Int32Array.from({ length: height }, (_, y) => y),
  columns: Int32Array.from({ length: width }, (_, x) => x),
});

/** Where pixel [row, column] of a turned and flipped picture comes from: first + row·down + column·right. */
export interface PlaneWalk {
  readonly first: number;
  readonly down: number;
  readonly right: number;
}

/** The walk over a picture that shows it after quarter turns and a flip. */
export function planeWalk([height, width]: Shape, transform: Exclude<Transform, { kind: 'rotate' }>): PlaneWalk {
  const { turns, flip } = transform.kind === 'identity' ? { turns: 0, flip: undefined } : transform;
  const [lastRow, lastColumn] = [(height - 1) * width, width - 1];
  const [first, down, right] = [
    [0, width, 1],
    [lastColumn, -1, width],
    [lastRow + lastColumn, -width, -1],
    [lastRow, 1, -width],
  ][turns] as [number, number, number];
  const [turnedHeight, turnedWidth] = turns % 2 ? [width, height] : [height, width];
  if (flip === 0) return { first: first + (turnedHeight - 1) * down, down: -down, right };
  if (flip === 1) return { first: first + (turnedWidth - 1) * right, down, right: -right };
  return { first, down, right };
}

function turnAndFlip(
  indices: Int32Array,
  shape: Shape,
  transform: Exclude<Transform, { kind: 'rotate' }>,
  { rows, columns }: Wanted,
): void {
  const { first, down, right } = planeWalk(shape, transform);
  const across = columns.map((column) => column * right);
  let at = 0;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!;
    const start = first + row * down;
    for (let j = 0; j < columns.length; j++) {
      indices[at++] = row < 0 || columns[j]! < 0 ? -1 : start + across[j]!;
    }
  }
}

function rotate(indices: Int32Array, [height, width]: Shape, degrees: number, { rows, columns }: Wanted): void {
  const cosine = Math.cos((degrees * Math.PI) / 180);
  const sine = Math.sin((degrees * Math.PI) / 180);
  const [centreY, centreX] = [(height - 1) / 2, (width - 1) / 2];
  // The inverse rotation says where a pixel was; outside begins at the outermost pixel centres. Sums are scipy's, in its
  // order, since a last bit decides which of two pixels is nearest.
  const shiftY = centreY - (cosine * centreY + sine * centreX);
  const shiftX = centreX - (-sine * centreY + cosine * centreX);
  let at = 0;
  for (let i = 0; i < rows.length; i++) {
    const y = rows[i]!;
    const [rowY, rowX] = [shiftY + y * cosine, shiftX - y * sine];
    for (let j = 0; j < columns.length; j++) {
      const x = columns[j]!;
      const fromY = rowY + x * sine;
      const fromX = rowX + x * cosine;
      const isInside = y >= 0 && x >= 0 && fromY >= 0 && fromY <= height - 1 && fromX >= 0 && fromX <= width - 1;
      // Not negative here, so that | 0 rounds down; Math.floor is dearer.
      indices[at++] = isInside ? ((fromY + 0.5) | 0) * width + ((fromX + 0.5) | 0) : -1;
    }
  }
}
