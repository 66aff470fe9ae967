// How often each class is taken for each other, counted in voxels.

import { ignored } from '../data/labels.js';

/** A matrix of zeros: rows are the classes of the ground truth, columns those of the prediction. */
export const emptyConfusion = (classes: number): number[][] =>
  Array.from({ length: classes }, () => new Array<number>(classes).fill(0));

/** Adds a volume's voxels to a confusion matrix, except those that the reference ignores. Throws a RangeError for a label that is not a class. */
export function countConfusion(confusion: number[][], reference: Uint8Array, prediction: Uint8Array): void {
  const classes = confusion.length;
  const counts = new Float64Array(256 * 256);
  for (let i = 0; i < reference.length; i++) counts[256 * reference[i]! + prediction[i]!]!++;
  counts.forEach((count, i) => {
    const [truth, said] = [Math.floor(i / 256), i % 256];
    if (!count || (truth === ignored && classes <= ignored)) return;
    if (truth >= classes || said >= classes) {
      throw new RangeError(
        `confusion: labels must be below ${classes} — got ${Math.max(truth, said)}. Check the labels and --classes.`,
      );
    }
    confusion[truth]![said]! += count;
  });
}
