// A study is an open volume with all that belongs to it: what was painted, which slices count as labelled, and what the
// network made of it. Pictures are [z, y, x] as the trainer reads them; files keep their own order of axes.

import {
  type AxisOrder,
  createPhantom,
  inPictureOrder,
  minMaxScaled,
  type NativeSample,
  orientationCode,
  percentileScaled,
  pictureOrder,
  toFile,
  toPicture,
  type Volume,
  zScored,
} from 'wgrad/data';
import type { Weights } from './weights.js';

export interface Segmentation {
  /** Class of every voxel. */
  readonly labels: Uint8Array;
  /** Largest class probability of every voxel, 255 = certain. */
  readonly confidence: Uint8Array;
}

export interface Study {
  readonly name: string;
  readonly depth: number;
  readonly height: number;
  readonly width: number;
  /** Voxel size along x, y, z in mm. */
  readonly spacing: readonly [number, number, number];
  /** Scaled to [0, 1] over the volume. */
  readonly image: Float32Array;
  /** What 0 and 1 of `image` were in the file. */
  readonly range: readonly [number, number];
  /** Painted by the user, or opened. */
  readonly labels: Uint8Array;
  /** Which slices' labels are learned from. */
  readonly labelled: boolean[];
  /** Known for phantoms only. */
  readonly truth: Uint8Array | undefined;
  segmentation: Segmentation | undefined;
  /** Letters of the directions that x, y and z point to; empty where the header does not say. */
  readonly directions: string;
  /** What exported labels are written like; none for a phantom. */
  readonly volume: Volume | undefined;
  readonly order: AxisOrder;
}

/** The study of an image as read. Throws an Error for one that is not 3-D. */
export function studyOf(volume: Volume): Study {
  if (volume.shape.length !== 3) {
    throw new Error(
      `${volume.name} has ${volume.shape.length} axes [${volume.shape.join(', ')}], expected 3. Write each time point to a file of its own.`,
    );
  }
  const order = pictureOrder(volume, 'keep');
  const [width, height, depth] = inPictureOrder(volume.shape, order);
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of volume.data) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  const code = volume.isPlaced ? orientationCode(volume.affine) : '';
  return {
    ...{ name: volume.name, depth, height, width, volume, order },
    spacing: inPictureOrder(volume.spacing, order),
    image: toPicture(minMaxScaled(volume.data), volume.shape, order),
    range: [least, most],
    labels: new Uint8Array(volume.data.length),
    labelled: new Array(depth).fill(false),
    truth: undefined,
    segmentation: undefined,
    directions: code && order.axes.map((axis) => code[axis]!).join(''),
  };
}

/** Heart number `index` of the trainer's phantoms, with its truth. */
export function phantomStudy(index: number, size = 128): Study {
  const { shape, spacing, diastole } = createPhantom({ size, seed: 2024, index });
  const [width, height, depth] = shape;
  const values = Float32Array.from(diastole.image);
  return {
    ...{ name: `phantom ${index + 1}`, depth, height, width, spacing },
    image: minMaxScaled(values),
    range: [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))],
    labels: new Uint8Array(values.length),
    labelled: new Array(depth).fill(false),
    truth: diastole.label,
    segmentation: undefined,
    directions: '',
    volume: undefined,
    order: { axes: [0, 1, 2], flipped: [false, false, false] },
  };
}

/** The pixels of slice z of something that has one number a voxel. */
export const sliceAt = <A extends Uint8Array | Float32Array>({ height, width }: Study, voxels: A, z: number): A =>
  voxels.subarray(z * height * width, (z + 1) * height * width) as A;

/** The study's image as a network's are scaled: the voxels of its file, but for a phantom's, which are stored as they are shown. */
export function scaledImage(
  study: Study,
  { intensity, intensityPercentiles }: Pick<Weights, 'intensity' | 'intensityPercentiles'>,
): Float32Array {
  const { volume, order, image } = study;
  if (intensity === 'minmax') return image;
  const stored = volume ? toPicture(volume.data, volume.shape, order) : image;
  if (intensity === 'stored') return stored;
  return intensity === 'zscore' ? zScored(stored) : percentileScaled(stored, intensityPercentiles);
}

/** Slice z for the trainer, with its label where it counts as labelled. */
export const nativeSlice = (study: Study, z: number): NativeSample => ({
  id: study.name,
  z,
  image: sliceAt(study, study.image, z),
  label: study.labelled[z] ? sliceAt(study, study.labels, z) : undefined,
  shape: [1, study.height, study.width],
  spacing: [study.spacing[2], study.spacing[1], study.spacing[0]],
});

/** Takes over labels in the file's order of axes; slices that hold any class but background count as labelled. */
export function takeLabels(study: Study, values: Float32Array, classes: number, name: string): void {
  const wrong = values.find((value) => !Number.isInteger(value) || value < 0 || value >= classes);
  if (wrong !== undefined) {
    throw new Error(
      `${name} holds the label ${wrong}, expected whole numbers from 0 to ${classes - 1}. The model in use has ${classes} classes.`,
    );
  }
  const shape = study.volume?.shape ?? [study.width, study.height, study.depth];
  study.labels.set(toPicture(Uint8Array.from(values), shape, study.order));
  for (let z = 0; z < study.depth; z++) study.labelled[z] = sliceAt(study, study.labels, z).some((k) => k > 0);
}

/** Voxels in the order of the study's file. */
export const inFileOrder = (study: Study, voxels: Uint8Array): Uint8Array =>
  toFile(voxels, study.volume?.shape ?? [study.width, study.height, study.depth], study.order);

/** Volume of each class in ml. */
export function volumesOf({ spacing: [x, y, z] }: Study, voxels: Uint8Array, classes: number): number[] {
  const counts = new Array<number>(classes).fill(0);
  for (const k of voxels) if (k < classes) counts[k]!++;
  return counts.map((count) => (count * x * y * z) / 1000);
}

/** Mean Dice of the classes but background that occur in either, over the slices `wanted`; NaN where none occurs. */
export function diceOf(
  study: Study,
  ours: Uint8Array,
  truth: Uint8Array,
  classes: number,
  wanted: (z: number) => boolean = () => true,
): number {
  const [both, sum] = [new Array<number>(classes).fill(0), new Array<number>(classes).fill(0)];
  for (let z = 0; z < study.depth; z++) {
    if (!wanted(z)) continue;
    const [a, b] = [sliceAt(study, ours, z), sliceAt(study, truth, z)];
    for (let i = 0; i < a.length; i++) {
      sum[a[i]!]!++;
      sum[b[i]!]!++;
      if (a[i] === b[i]) both[a[i]!]! += 2;
    }
  }
  const scores = sum.flatMap((n, k) => (k > 0 && n > 0 ? [both[k]! / n] : []));
  return scores.reduce((a, b) => a + b, 0) / scores.length;
}
