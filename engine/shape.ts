// Pure shape arithmetic. A shape lists sizes from the slowest to the fastest axis; images are [N, H, W, C] or
// [N, D, H, W, C], convolution weights [O, kH, kW, I]. Nothing here knows of a GPU.

/** Sizes of a tensor, from the slowest axis to the fastest; [] is one number. */
export type Shape = readonly number[];

/**
 * Wrong shapes, axes or element types: thrown by the op call that was given them.
 * @example
 * try { add(tensor(gpu, [1, 2]), tensor(gpu, [1, 2, 3])); } catch (error) { console.log(error instanceof ShapeError); } // true
 */
export class ShapeError extends Error {
  override name = 'ShapeError';
}

/**
 * Number of elements; 1 for the scalar shape [].
 * @example
 * console.log(sizeOf([2, 3, 4])); // 24
 */
export const sizeOf = (shape: Shape): number => shape.reduce((product, n) => product * n, 1);

/**
 * A shape as errors print it: `[2,3]`.
 * @example
 * console.log(show([2, 3])); // [2,3]
 */
export const show = (shape: Shape): string => `[${shape.join(',')}]`;

/**
 * Whether two shapes have the same sizes in the same order.
 * @example
 * console.log(sameShape([2, 3], [3, 2])); // false
 */
export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

/** Throws a ShapeError unless every size is a positive integer. */
export function checkShape(op: string, shape: Shape): void {
  if (!shape.every((n) => Number.isInteger(n) && n > 0)) {
    throw new ShapeError(`${op}: sizes must be positive integers — got ${show(shape)}.`);
  }
}

/**
 * The shape of a and b broadcast together, aligned at the last axis.
 * @example
 * console.log(broadcastShapes('myOp', [4, 1], [3])); // [4, 3]
 */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const p = a[a.length - rank + i] ?? 1;
    const q = b[b.length - rank + i] ?? 1;
    if (p !== q && p !== 1 && q !== 1) {
      throw new ShapeError(`${op}: shapes do not broadcast — got ${show(a)} and ${show(b)}. Sizes must match or be 1.`);
    }
    return p === 1 ? q : p;
  });
}

/**
 * Axes as sorted non-negative numbers; negative axes count from the end, undefined means all.
 * @example
 * console.log(normalizeAxes('myOp', 3, [-1, 0])); // [0, 2]
 */
export function normalizeAxes(op: string, rank: number, axes?: number | readonly number[]): number[] {
  if (axes !== undefined && typeof axes !== 'number' && !Array.isArray(axes)) {
    throw new ShapeError(`${op}: the axes are no number and no array. Write ${op}(x, axis).`);
  }
  const list =
    axes === undefined ? Array.from({ length: rank }, (_, i) => i) : typeof axes === 'number' ? [axes] : [...axes];
  const positive = list.map((axis) => (axis < 0 ? axis + rank : axis)).sort((p, q) => p - q);
  if (positive.some((axis, i) => !Number.isInteger(axis) || axis < 0 || axis >= rank || axis === positive[i - 1])) {
    throw new ShapeError(`${op}: axes must be distinct and in [${-rank}, ${rank - 1}] — got [${list}].`);
  }
  return positive;
}
