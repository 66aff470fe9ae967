// Predictions that an earlier call left in a folder. Each header holds a digest of what the prediction was made from, so that --continue
// never takes one image's or one model's labels for another's.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { CaseVolume } from '../data/case-volume.js';
import { descriptionOf, type Volume } from '../data/nifti.js';
import { readNifti } from '../data/nifti-file.js';
import { DataError } from '../files/data-error.js';
import { readPrediction } from './prediction-files.js';

const maker = 'wgrad predict ';

/** The text in a prediction's header: a digest of everything it is made from. */
export const madeOf = (...parts: readonly unknown[]): string =>
  `${maker}${createHash('sha256').update(JSON.stringify(parts)).digest('hex')}`;

/** What is under an output's name. */
export type Kept =
  /** Nothing, or nothing that can be read. */
  | 'nothing'
  | 'unreadable'
  /** Labels, and probabilities where they are asked for, on the image's grid. */
  | 'whole'
  /** Written by wgrad, but it does not fit: another grid, or labels that are not classes. */
  | 'unfit'
  /** A prediction of another image, or by other weights or settings. */
  | 'other'
  /** No file of ours, and it does not fit. */
  | 'foreign';

/** The files of one prediction. */
export interface PredictionFiles {
  readonly labels: string;
  /** Undefined where no probabilities are asked for. */
  readonly probabilities?: string | undefined;
}

/** Judges the files of a prediction that would be `made`, for an image and a number of classes. */
export function keptPrediction(
  { labels, probabilities }: PredictionFiles,
  image: CaseVolume,
  classes: number,
  made: string,
): Kept {
  const ofLabels = judged(labels, made, () => {
    const numbers = Array.from({ length: classes }, (_, k) => k);
    readPrediction(labels, { ...image, label: undefined }, numbers);
    return true;
  });
  if (probabilities === undefined) return ofLabels;
  const shape = `${[...image.volume.shape, classes]}`;
  const ofBoth = [
    ofLabels,
    judged(probabilities, made, (volume) => `${volume.shape}` === shape && volume.dtype === 'float32'),
  ];
  // What must not be overwritten counts most, then what is not there.
  const order = ['other', 'foreign', 'unreadable', 'unfit', 'nothing', 'whole'] as const;
  return order.find((kept) => ofBoth.includes(kept))!;
}

function judged(file: string, made: string, fits: (volume: Volume) => boolean): Kept {
  if (!existsSync(file)) return 'nothing';
  const volume = orUndefined(() => readNifti(file));
  if (!volume) return 'unreadable';
  const by = descriptionOf(volume);
  if (by.startsWith(maker) && by !== made) return 'other';
  if (orUndefined(() => fits(volume))) return 'whole';
  return by.startsWith('wgrad') ? 'unfit' : 'foreign';
}

/** A result, or undefined where a file is not as it should be. */
function orUndefined<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof DataError) return undefined;
    throw error;
  }
}
