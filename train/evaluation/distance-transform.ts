// The exact Euclidean distance transform of a volume with anisotropic voxels.
type Triple = readonly [number, number, number];

/**
 * Squared distance of every voxel to the nearest voxel of `mask`, with `spacing` along [D, H, W]; infinite where the mask
 * is empty. Exact: distances along x by two sweeps, then lower envelopes of parabolas along y and z (Felzenszwalb &
 * Huttenlocher 2012). Written into `field` where one is given.
 */
export function distanceTransform(
  mask: Uint8Array,
  shape: Triple,
  spacing: Triple,
  field: Float64Array = new Float64Array(mask.length),
): Float64Array {
  const [depth, height, width] = shape;
  for (let start = 0; start < mask.length; start += width) {
    let steps = Number.POSITIVE_INFINITY;
    for (let i = start; i < start + width; i++) field[i] = steps = mask[i] ? 0 : steps + 1;
    steps = Number.POSITIVE_INFINITY;
    for (let i = start + width - 1; i >= start; i--) {
      steps = mask[i] ? 0 : steps + 1;
      field[i] = (Math.min(steps, field[i]!) * spacing[2]) ** 2;
    }
  }
  const envelope = lowerEnvelope(field, Math.max(depth, height));
  const plane = height * width;
  for (let z = 0; z < depth; z++) {
    for (let x = 0; x < width; x++) envelope(z * plane + x, height, width, spacing[1] ** 2);
  }
  for (let i = 0; i < plane; i++) envelope(i, depth, plane, spacing[0] ** 2);
  return field;
}

/**
 * A function that replaces a line f of the field (`first`, `length`, `stride`) by min over v of f[v] + scale·(i − v)².
 */
function lowerEnvelope(
  field: Float64Array,
  longest: number,
): (first: number, length: number, stride: number, scale: number) => void {
  const values = new Float64Array(longest);
  const vertices = new Int32Array(longest);
  const starts = new Float64Array(longest + 1);
  return (first, length, stride, scale) => {
    let count = 0;
    for (let i = 0, at = first; i < length; i++, at += stride) {
      const value = field[at]!;
      if (value === Number.POSITIVE_INFINITY) continue;
      // Where parabola i starts to lie below the last one: drop those that it hides.
      let start = Number.NEGATIVE_INFINITY;
      while (count > 0) {
        const v = vertices[count - 1]!;
        start = (value - values[count - 1]! + scale * (i * i - v * v)) / (2 * scale * (i - v));
        if (start > starts[count - 1]!) break;
        count--;
        start = Number.NEGATIVE_INFINITY;
      }
      vertices[count] = i;
      values[count] = value;
      starts[count++] = start;
    }
    if (!count) return;
    starts[count] = Number.POSITIVE_INFINITY;
    for (let i = 0, k = 0, at = first; i < length; i++, at += stride) {
      while (starts[k + 1]! < i) k++;
      const away = i - vertices[k]!;
      field[at] = values[k]! + scale * away * away;
    }
  };
}
