// Prediction of samples that are larger than the network's patch: overlapping windows, whose class probabilities are averaged.
import { sizeOf } from '../../engine/index.js';
import { bestOf, type Predictor } from './predictor.js';

/** First positions of windows of `side` along an axis of `length`, `stride` apart; the last one ends with the axis. */
export function windowPositions(length: number, side: number, stride: number): number[] {
  if (length <= side) return [0];
  return Array.from({ length: Math.ceil((length - side) / stride) + 1 }, (_, i) => Math.min(i * stride, length - side));
}

/** Everything that windows of a sample need: its sides (at least those of the patch), the patch's, and how far windows are apart. */
export interface Windows {
  readonly sides: readonly number[];
  readonly patch: readonly number[];
  readonly stride: readonly number[];
}

/** The windows' first positions, all axes together, the last axis fastest. */
export const windowsOf = ({ sides, patch, stride }: Windows): number[][] =>
  sides
    .map((side, axis) => windowPositions(side, patch[axis]!, stride[axis]!))
    .reduce<number[][]>((all, positions) => all.flatMap((before) => positions.map((at) => [...before, at])), [[]]);

/**
 * Labels, and the mean of the windows' probabilities [count, …sides, classes], of samples [count, …sides]. The predictor must give
 * probabilities. With one window a sample it is the predictor's own answer.
 */
export async function predictWindows(
  predictor: Predictor,
  samples: Float32Array,
  windows: Windows,
): Promise<{ labels: Uint8Array; probabilities: Float32Array }> {
  const { sides, patch } = windows;
  const [voxels, patchVoxels] = [sizeOf(sides), sizeOf(patch)];
  const places = windowsOf(windows);
  const rows = places.map((place) => rowsOf(place, windows));
  const width = patch.at(-1)!;
  const labels = new Uint8Array(samples.length);
  let all: Float32Array | undefined;
  for (let first = 0; first < samples.length; first += voxels) {
    const cut = new Float32Array(places.length * patchVoxels);
    for (const [w, starts] of rows.entries())
      for (const [r, start] of starts.entries())
        cut.set(samples.subarray(first + start, first + start + width), w * patchVoxels + r * width);
    const { probabilities } = await predictor(cut);
    if (!probabilities) throw new Error('windows: this predictor gives no probabilities. Make it with them.');
    const classes = probabilities.length / cut.length;
    all ??= new Float32Array(samples.length * classes);
    const mean = all.subarray(first * classes, (first + voxels) * classes);
    const counts = new Float32Array(voxels);
    for (const [w, starts] of rows.entries()) {
      for (const [r, start] of starts.entries()) {
        const from = (w * patchVoxels + r * width) * classes;
        for (let i = 0; i < width * classes; i++) mean[start * classes + i]! += probabilities[from + i]!;
        for (let x = 0; x < width; x++) counts[start + x]!++;
      }
    }
    for (let i = 0; i < mean.length; i++) mean[i]! /= counts[Math.floor(i / classes)]!;
    labels.set(bestOf(mean, classes, 1).labels, first);
  }
  return { labels, probabilities: all ?? new Float32Array(0) };
}

/** Where each row of a window begins in its sample, in the window's own order. */
function rowsOf(place: readonly number[], { sides, patch }: Windows): number[] {
  let starts = [0];
  for (let axis = 0; axis < sides.length - 1; axis++) {
    const along = sizeOf(sides.slice(axis + 1));
    starts = starts.flatMap((start) =>
      Array.from({ length: patch[axis]! }, (_, i) => start + (place[axis]! + i) * along),
    );
  }
  return starts.map((start) => start + place.at(-1)!);
}
