// What a browser can use of the data's side: volumes in memory, their axes, their slices on a network's grid, phantoms. Re-exports only;
// nothing here reads a file.
export { DataError } from '../files/data-error.js';
export { drawTransform, type Transform } from './augment.js';
export { minMaxScaled, type NanPolicy, percentileScaled, zScored } from './intensity.js';
export { decodeNifti, encodeNifti, type NiftiContent, type ReadOptions, type Unpacker, type Volume } from './nifti.js';
export type { RawHeader } from './nifti-geometry.js';
export {
  type AxisOrder,
  inPictureOrder,
  type Orient,
  orientationCode,
  pictureOrder,
  type Triple,
  toFile,
  toPicture,
} from './orientation.js';
export { createPhantom, type Phantom, type PhantomFrame } from './phantom.js';
export { axisAcross, middleOf, type Plane, type PlaneName, planeNames, planeThrough } from './planes.js';
export {
  type Grid,
  type NativeSample,
  nativeSamples,
  restoreLabels,
  type Sample,
  sampleOnGrid,
  sidesAt,
  type Voxels,
  voxelsOf,
} from './samples.js';
