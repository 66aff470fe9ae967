// The trainer as a library: re-exports only.
export { type Config, resolveConfig, UsageError } from './config.js';
export { evaluateCases, type Summary } from './evaluate.js';
export { createPredictor, type Predictor } from './predictor.js';
export { writeReport } from './report/page.js';
export { loadModel } from './trained-model.js';
export { createTrainer, metricNames, type StepResult, type Trainer } from './trainer.js';
export { type TrainingOptions, type TrainingResult, train } from './training.js';
