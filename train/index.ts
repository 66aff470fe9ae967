// The trainer as a library: re-exports only.

export { type EvaluatedGrid, evaluateCases, evaluateFiles } from './evaluation/evaluate.js';
export type { ClassScore } from './evaluation/metrics.js';
export { createPredictor, type Predictor, type PredictorOptions } from './evaluation/predictor.js';
export type { CaseSummary, EvaluationSettings, MeanScore, ScoreName, Scores, Summary } from './evaluation/summary.js';
export { UsageError } from './files/usage-error.js';
export { createTrainer, metricNames, type StepResult, type Trainer } from './method/trainer.js';
export { writeReport } from './report/page.js';
export { loadModel, type ModelSource } from './run/trained-model.js';
export { protocolNames, readProtocol, readSettings } from './settings/config-file.js';
export { type Config, resolveConfig } from './settings/settings.js';
export { type TrainingOptions, type TrainingResult, train } from './training/training.js';
