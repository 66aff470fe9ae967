// Prediction by overlapping windows as plain loops in float64: one window at a time, what it says added up, divided at the end.

/** What a network says of one patch: probabilities [voxels, classes]. */
export type Network = (patch: Float32Array) => Promise<ArrayLike<number>>;

const product = (xs: readonly number[]): number => xs.reduce((a, b) => a * b, 1);

/** Every index of an array of these sides, in order. */
export const indices = (sides: readonly number[]): number[][] =>
  sides.reduce<number[][]>((all, n) => all.flatMap((i) => Array.from({ length: n }, (_, k) => [...i, k])), [[]]);

/** First positions of windows along an axis, as test_util.py of UA-MT has them, in whose place the last one would pass the end. */
export function positions(n: number, p: number, s: number): number[] {
  if (n < p) return [-Math.floor((p - n) / 2)];
  const count = Math.ceil((n - p) / s) + 1;
  return Array.from({ length: count }, (_, i) => Math.min(s * i, n - p));
}

/** Mean probabilities [voxels, classes] of a sample, by all windows and, with `flips`, all mirror images of each. */
export async function windows(
  network: Network,
  sample: Float32Array,
  sides: readonly number[],
  patch: readonly number[],
  stride: readonly number[],
  { flips = false, weight = () => 1 }: { flips?: boolean; weight?: (place: readonly number[]) => number } = {},
): Promise<Float64Array> {
  const rank = patch.length;
  const corners = sides.reduce<number[][]>(
    (all, n, axis) => all.flatMap((c) => positions(n, patch[axis]!, stride[axis]!).map((p) => [...c, p])),
    [[]],
  );
  const places = indices(patch);
  const voxelAt = (index: readonly number[]): number =>
    index.every((i, axis) => i >= 0 && i < sides[axis]!) ? index.reduce((at, i, axis) => at * sides[axis]! + i, 0) : -1;
  const totals = new Float64Array(product(sides));
  let sums: Float64Array | undefined;
  for (const corner of corners) {
    for (const flip of flips ? indices(new Array(rank).fill(2)) : [new Array(rank).fill(0)]) {
      // Where in the sample each place of the patch, as the network sees it, lies.
      const seen = places.map((place) => place.map((i, axis) => (flip[axis] ? patch[axis]! - 1 - i : i)));
      const voxels = seen.map((place) => voxelAt(place.map((i, axis) => corner[axis]! + i)));
      const said = await network(Float32Array.from(voxels, (v) => (v < 0 ? 0 : sample[v]!)));
      const classes = said.length / places.length;
      sums ??= new Float64Array(totals.length * classes);
      for (const [i, v] of voxels.entries()) {
        if (v < 0) continue;
        const w = weight(seen[i]!);
        totals[v]! += w;
        for (let k = 0; k < classes; k++) sums[v * classes + k]! += w * said[i * classes + k]!;
      }
    }
  }
  const classes = sums!.length / totals.length;
  return sums!.map((sum, i) => sum / totals[Math.floor(i / classes)]!);
}
