// Arrays of the references: row-major float64, no strides, no views. Plain loops over `data` are the point.

export interface NdArray {
  readonly shape: number[];
  readonly data: Float64Array;
}

/** An array of zeros, or of `data`. */
export function ndArray(shape: readonly number[], data?: ArrayLike<number>): NdArray {
  const size = shape.reduce((product, n) => product * n, 1);
  if (data && data.length !== size) throw new Error(`ndArray: [${shape}] has ${size} elements, got ${data.length}.`);
  return { shape: [...shape], data: data ? new Float64Array(data) : new Float64Array(size) };
}

/** f applied to every element. */
export const mapArray = (x: NdArray, f: (value: number, index: number) => number): NdArray => ({
  shape: [...x.shape],
  data: x.data.map(f),
});

/** The array whose element at each index (one number per axis) is `f(index)`. */
export function fromIndex(shape: readonly number[], f: (index: number[]) => number): NdArray {
  const y = ndArray(shape);
  const index = shape.map(() => 0);
  for (let i = 0; i < y.data.length; i++) {
    y.data[i] = f(index);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) index[axis] = 0;
  }
  return y;
}

/** The element at an index; axes are aligned at the last one and sizes of 1 repeat (numpy's broadcasting). */
export function at(x: NdArray, index: readonly number[]): number {
  let offset = 0;
  const extra = index.length - x.shape.length;
  x.shape.forEach((n, axis) => {
    offset = offset * n + (n === 1 ? 0 : index[axis + extra]!);
  });
  return x.data[offset]!;
}
