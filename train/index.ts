// The trainer as a library: re-exports only.
export { type Config, resolveConfig, UsageError } from './config.js';
export {
  type CaseSummary,
  type EvaluationSettings,
  evaluateCases,
  evaluateFiles,
  type MeanScore,
  type Scores,
  type Summary,
} from './evaluate.js';
export type { ClassScore } from './metrics.js';
export { createPredictor, type Predictor, type PredictorOptions } from './predictor.js';
export { protocolFile, protocolNames } from './protocol.js';
export { writeReport } from './report/page.js';
export { loadModel } from './trained-model.js';
export { createTrainer, metricNames, type StepResult, type Trainer } from './trainer.js';
export { type TrainingOptions, type TrainingResult, train } from './training.js';
