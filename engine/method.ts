// The ops of the paper that the trainer runs (`wgrad/method` has both): re-exports only.
export type { Confidence, ConsistencyKind } from '../shaders/consistency.js';
export type { SeparationKind } from '../shaders/prototype-scores.js';
export {
  type AnyThreshold,
  type ClassThresholds,
  createClassThresholds,
  createQuantileThreshold,
  type QuantileThreshold,
  updateClassThresholds,
  updateQuantileThreshold,
} from './ops/adaptive-threshold.js';
export {
  type ConsistencyOptions,
  lowConfidenceMask,
  type MaskOptions,
  maskedConsistency,
} from './ops/masked-consistency.js';
export { meanEntropy } from './ops/mean-entropy.js';
export {
  type MeanTeacherOptions,
  type MeanTeacherTerms,
  meanTeacherLoss,
  type SelectionTerms,
  type SupervisedTerms,
  type TeacherOptions,
} from './ops/mean-teacher-loss.js';
export type { ProjectionHead } from './ops/projection.js';
export {
  type AddedTo,
  addPrototypeDistance,
  createPrototypes,
  type Prototypes,
  type PrototypeUpdate,
  prototypeCosines,
  prototypeDistance,
  pseudoClasses,
  type SeparationOptions,
  updatePrototypes,
  type WeightedPrototypeUpdate,
} from './ops/prototypes.js';
export { selectionStatistics } from './ops/selection-statistics.js';
export { mixItems, strongViews, type View, viewTable } from './ops/views.js';
