// The trainer as a library: re-exports only.
export { type Config, resolveConfig, UsageError } from './config.js';
export { type EvaluatedGrid, evaluateCases, evaluateFiles } from './evaluation/evaluate.js';
export type { ClassScore } from './evaluation/metrics.js';
export type { CaseSummary, EvaluationSettings, MeanScore, ScoreName, Scores, Summary } from './evaluation/summary.js';
export { createPredictor, type Predictor, type PredictorOptions } from './predictor.js';
export { protocolFile, protocolNames } from './protocol.js';
export { writeReport } from './report/page.js';
export { loadModel, type ModelSource } from './trained-model.js';
export { createTrainer, metricNames, type StepResult, type Trainer } from './trainer.js';
export { type TrainingOptions, type TrainingResult, train } from './training.js';
